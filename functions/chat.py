"""POST /chat/completions, GET /models: OpenAI's API over the router."""

from collections.abc import Iterator

from functions._edge import Call, Reply
from functions._orders import answer_headers, fields_of, order_from, stream_served_body
from functions._sse import streamed
from functions._wire.chat import ChatBody
from functions._wire.models import model_body, models_body
from functions._wire.parsing import parse
from functions._wire.replies import DONE, ChunkWriter, completion_body, error_body, sse_data
from shared.domain.errors import ModelNotFound, RouterError
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
            whole = await call.container.routing.answer(order)
        return Reply(completion_body(whole.reply, whole.record, created), headers=answer_headers(whole))
    with fields_of(body):
        answer = await call.container.routing.open_stream(order)
    return streamed(answer, _ChatEvents(body, answer, call.request_id, created), call)


class _ChatEvents:
    """Content, finish reason, usage, [DONE]; a stream that breaks ends with an error event and without [DONE]."""

    def __init__(self, body: ChatBody, answer: StreamedAnswer, request_id: str, created: int) -> None:
        self._include_usage = body.stream_options is not None and body.stream_options.include_usage
        self._request_id = request_id
        self._writer = ChunkWriter(request_id, answer.served.profile.id, created, include_usage=self._include_usage)
        self.event = self._writer.event

    def opening(self) -> Iterator[bytes]:
        yield self._writer.first()

    def closing(self, answer: StreamedAnswer) -> Iterator[bytes]:
        reply = answer.reply()
        yield self._writer.finish(reply.finish_reason)
        if self._include_usage:
            served = stream_served_body(answer, self._request_id)
            yield self._writer.usage(reply.usage, served)
        yield DONE

    def failure(self, error: RouterError, kind: str) -> Iterator[bytes]:
        yield sse_data(error_body(error, kind, self._request_id))


async def list_models(call: Call) -> Reply:
    """List the models and the `auto` words."""
    registry = call.container.shelf.registry
    return Reply(models_body(registry, call.container.clock.now().date(), AUTO_WORDS))


async def get_model(call: Call) -> Reply:
    """Show one model, by id or alias."""
    name = call.path_params["model"]
    registry = call.container.shelf.registry
    profile = registry.resolve(name)
    if profile is None and registry.embeddings is not None and name not in AUTO_WORDS:
        registry = registry.embeddings
        profile = registry.resolve(name)
    if profile is None:
        raise ModelNotFound(f"there is no model {name!r}; GET /api/v1/models lists them", param="model")
    day = call.container.clock.now().date()
    return Reply(model_body(profile, registry.deployments_of(profile.id), day))
