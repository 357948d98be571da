"""POST /route: analyse, decide, call and answer, with the decision beside the output; `dry_run` decides only."""

from collections.abc import Iterator

from functions._edge import Call, Reply
from functions._orders import answer_headers, fields_of, order_from, plain
from functions._sse import streamed
from functions._wire.chat import RouteBody
from functions._wire.parsing import parse
from functions._wire.receipts import preview_body
from functions._wire.replies import (
    decision_body,
    delta_payload,
    error_body,
    finish_reason,
    itinerary_body,
    route_body,
    sse_event,
    usage_body,
)
from shared.domain.errors import RouterError
from shared.domain.replies import StreamEvent
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
        return streamed(answer, _RouteEvents(answer, call.request_id), call)
    whole = await service.answer(order)
    return Reply(route_body(whole.reply, whole.record, whole.decision), headers=answer_headers(whole))


class _RouteEvents:
    """Events: ``decision``, then ``delta``s, then ``done``; or ``error`` when the stream breaks."""

    def __init__(self, answer: StreamedAnswer, request_id: str) -> None:
        self._request_id = request_id
        self._model_id = answer.served.profile.id
        self._decision = answer.decision

    def opening(self) -> Iterator[bytes]:
        yield sse_event("decision", {"request_id": self._request_id, "decision": decision_body(self._decision)})

    def event(self, event: StreamEvent) -> bytes:
        payload = delta_payload(event, self._model_id)
        return b"" if payload is None else sse_event("delta", payload)

    def closing(self, answer: StreamedAnswer) -> Iterator[bytes]:
        reply = answer.reply()
        done = {
            "request_id": self._request_id,
            "model": self._model_id,
            "deployment": answer.served.deployment.id,
            "finish_reason": finish_reason(reply.finish_reason),
            "native_finish_reason": reply.native_finish_reason,
            "usage": usage_body(reply.usage),
            "cost_usd": plain(answer.cost_usd),
            "itinerary": itinerary_body(answer.ended_attempts),
        }
        yield sse_event("done", done)

    def failure(self, error: RouterError, kind: str) -> Iterator[bytes]:
        yield sse_event("error", error_body(error, kind, self._request_id))
