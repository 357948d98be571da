"""POST /chat/completions, GET /models: OpenAI's API over the router."""

from collections.abc import AsyncIterator

from functions._edge import Call, Reply, broken_stream
from functions._failures import status_of
from functions._orders import answer_headers, fields_of, order_from, stream_headers
from functions._wire.chat import ChatBody
from functions._wire.models import model_body, models_body
from functions._wire.parsing import parse
from functions._wire.replies import DONE, ChunkWriter, completion_body, error_body, sse_data
from shared.domain.errors import ModelNotFound
from shared.domain.policy import Preset
from shared.services.walk import StreamedAnswer

ENDPOINT = "chat/completions"
AUTO_WORDS = ("auto", *(f"auto:{preset.value}" for preset in Preset))


async def chat_completions(call: Call) -> Reply:
    """Answer a chat completion, whole or streamed."""
    body = parse(call.body, ChatBody)
    order = order_from(call, body, body.router, endpoint=ENDPOINT)
    created = int(call.container.clock.now().timestamp())
    if not body.stream:
        with fields_of(body):
            answer = await call.container.routing.answer(order)
        return Reply(completion_body(answer.reply, answer.record, created), headers=answer_headers(answer))
    with fields_of(body):
        streamed = await call.container.routing.open_stream(order)
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    writer = ChunkWriter(call.request_id, streamed.served.profile.id, created, include_usage=include_usage)
    events = _chunks(streamed, writer, call, include_usage=include_usage)
    return Reply(events=events, on_close=streamed.abandon, headers=stream_headers(streamed))


async def _chunks(
    answer: StreamedAnswer, writer: ChunkWriter, call: Call, *, include_usage: bool
) -> AsyncIterator[bytes]:
    """Content, finish reason, usage, [DONE]; a stream that breaks ends with an error event and without [DONE]."""
    events = answer.events()
    try:
        yield writer.first()
        async for event in events:
            chunk = writer.event(event)
            if chunk:
                yield chunk
    except Exception as error:  # noqa: BLE001 - the answer has begun: only an event can still say that it failed
        told = broken_stream(error, call)
        yield sse_data(error_body(told, status_of(told)[1], call.request_id))
        return
    finally:
        await events.aclose()
    reply = answer.reply()
    yield writer.finish(reply.finish_reason)
    if include_usage:
        served = {
            "request_id": call.request_id,
            "deployment": answer.served.deployment.id,
            "cost_usd": float(answer.cost_usd),
            "attempts": answer.attempts,
        }
        yield writer.usage(reply.usage, served)
    yield DONE


async def list_models(call: Call) -> Reply:
    """List the models and the `auto` words."""
    registry = call.container.shelf.registry
    return Reply(models_body(registry, call.container.clock.now().date(), AUTO_WORDS))


async def get_model(call: Call) -> Reply:
    """Show one model, by id or alias."""
    name = call.path_params["model"]
    registry = call.container.shelf.registry
    profile = registry.resolve(name)
    if profile is None:
        raise ModelNotFound(f"there is no model {name!r}; GET /api/v1/models lists them", param="model")
    day = call.container.clock.now().date()
    return Reply(model_body(profile, registry.deployments_of(profile.id), day))
