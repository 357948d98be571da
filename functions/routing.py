"""POST /route: analyse, decide, call and answer, with the decision beside the output; `dry_run` decides only."""

from collections.abc import AsyncIterator

from functions._edge import Call, Reply, broken_stream
from functions._failures import status_of
from functions._orders import answer_headers, fields_of, order_from, plain, stream_headers
from functions._wire.chat import RouteBody
from functions._wire.parsing import parse
from functions._wire.receipts import preview_body
from functions._wire.replies import (
    decision_body,
    delta_payload,
    error_body,
    finish_reason,
    route_body,
    sse_event,
    usage_body,
)
from shared.services.ledger_entry import Order
from shared.services.walk import StreamedAnswer

ENDPOINT = "route"


async def route(call: Call) -> Reply:
    """Answer a /route request."""
    body = parse(call.body, RouteBody)
    order = order_from(call, body, body, endpoint=ENDPOINT, prompt=body.prompt, system=body.system)
    with fields_of(body):
        return await _reply(call, order, body)


async def _reply(call: Call, order: Order, body: RouteBody) -> Reply:
    service = call.container.routing
    if body.dry_run:
        preview = await service.preview(order)
        return Reply({"request_id": call.request_id, "dry_run": True, **preview_body(preview)})
    if body.stream:
        answer = await service.open_stream(order)
        events = _events(answer, call)
        return Reply(events=events, on_close=answer.abandon, headers=stream_headers(answer))
    whole = await service.answer(order)
    return Reply(route_body(whole.reply, whole.record, whole.decision), headers=answer_headers(whole))


async def _events(answer: StreamedAnswer, call: Call) -> AsyncIterator[bytes]:
    """Events: ``decision``, then ``delta``s, then ``done``; or ``error`` when the stream breaks."""
    model_id = answer.served.profile.id
    events = answer.events()
    try:
        yield sse_event("decision", {"request_id": call.request_id, "decision": decision_body(answer.decision)})
        async for event in events:
            payload = delta_payload(event, model_id)
            if payload is not None:
                yield sse_event("delta", payload)
    except Exception as error:  # noqa: BLE001 - the answer has begun: only an event can still say that it failed
        told = broken_stream(error, call)
        yield sse_event("error", error_body(told, status_of(told)[1], call.request_id))
        return
    finally:
        await events.aclose()
    reply = answer.reply()
    done = {
        "request_id": call.request_id,
        "model": model_id,
        "deployment": answer.served.deployment.id,
        "finish_reason": finish_reason(reply.finish_reason),
        "native_finish_reason": reply.native_finish_reason,
        "usage": usage_body(reply.usage),
        "cost_usd": plain(answer.cost_usd),
    }
    yield sse_event("done", done)
