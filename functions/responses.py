"""POST /responses: OpenAI's Responses API over the router, without anything kept between requests."""

from collections.abc import Iterator
from typing import Any

from functions._edge import Call, Reply
from functions._orders import answer_headers, named_as, order_of, stream_served_body
from functions._sse import streamed
from functions._wire.parsing import parse
from functions._wire.replies import served_body
from functions._wire.responses_body import ResponsesBody
from functions._wire.responses_input import responses_request
from functions._wire.responses_reply import ResponsesWriter, ended, frame
from shared.domain.errors import RouterError
from shared.services.walk import StreamedAnswer

ENDPOINT = "responses"


async def responses(call: Call) -> Reply:
    """Answer a responses request, whole or streamed."""
    body = parse(call.body, ResponsesBody)
    read = responses_request(body)
    order = order_of(
        call,
        read.request,
        body.router,
        endpoint=ENDPOINT,
        model=body.model,
        stream=bool(body.stream),
        metadata=body.metadata,
    )
    created = int(call.container.clock.now().timestamp())
    if not body.stream:
        with named_as(read.param):
            whole = await call.container.routing.answer(order)
        about = frame(body, call.request_id, whole.record.model_used or body.model, created)
        return Reply(ended(about, whole.reply, served_body(whole.record)), headers=answer_headers(whole))
    with named_as(read.param):
        answer = await call.container.routing.open_stream(order)
    about = frame(body, call.request_id, answer.served.profile.id, created)
    return streamed(answer, _ResponsesEvents(about, answer, call.request_id), call)


class _ResponsesEvents:
    """``response.created`` to ``response.completed``; a stream that breaks ends with ``error``, ``response.failed``."""

    def __init__(self, about: dict[str, Any], answer: StreamedAnswer, request_id: str) -> None:
        self._writer = ResponsesWriter(about)
        self._answer = answer
        self._request_id = request_id
        self.opening, self.event = self._writer.opening, self._writer.event

    def closing(self, answer: StreamedAnswer) -> Iterator[bytes]:
        return self._writer.closing(answer.reply(), self._served())

    def failure(self, error: RouterError, kind: str) -> Iterator[bytes]:
        return self._writer.failure(error, kind, self._answer.reply(), self._served())

    def _served(self) -> dict[str, Any]:
        return stream_served_body(self._answer, self._request_id)
