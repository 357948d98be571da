"""POST /rag/query: an answer from documents, with citations; or only what was found."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from functions._edge import Call, Reply
from functions._orders import answer_headers, named_as, order_from, plain
from functions._sse import streamed
from functions._wire.parsing import parse
from functions._wire.rag_query import (
    RagQueryBody,
    abstained_body,
    answer_body,
    evidence_body,
    found_body,
    output_body,
    retrieval_body,
    said,
)
from functions._wire.replies import delta_payload, error_body, sse_event, usage_body
from shared.domain.caching import CacheMode
from shared.domain.errors import RouterError
from shared.domain.replies import StreamEvent
from shared.rag.citing import Evidence
from shared.services.grounded import GroundedService, Grounding, Question
from shared.services.walk import StreamedAnswer

ENDPOINT = "rag/query"


async def query(call: Call) -> Reply:
    """Answer a question from documents."""
    body = parse(call.body, RagQueryBody)
    body.refuse_unfit()
    order = order_from(call, body, body, endpoint=ENDPOINT, prompt=body.question, system=body.system)
    # What documents say changes: answers from them are kept only where the caller asks for that.
    order = replace(order, cache=order.cache or CacheMode.OFF)
    most = call.container.shelf.policy.for_service(call.caller.service).max_level
    question = body.to_question(order, call.caller, most)
    with named_as(body.param):
        return await _reply(call, call.container.grounded, question, body)


async def _reply(call: Call, service: GroundedService, question: Question, body: RagQueryBody) -> Reply:
    if body.retrieve_only:
        found = await service.retrieve(question)
        return Reply(found_body(found, call.request_id), headers=_search_headers(found))
    if body.stream:
        grounding, stream = await service.open_stream(question)
        if stream is None:
            return Reply(events=_abstained(grounding, call.request_id), headers=_search_headers(grounding))
        return streamed(stream, _Events(service, grounding, stream, call.request_id), call)
    grounding, answer = await service.answer(question)
    if answer is None:
        return Reply(abstained_body(grounding, call.request_id), headers=_search_headers(grounding))
    # Reading many sentences takes milliseconds, which other requests need.
    evidence = await asyncio.to_thread(service.evidence, grounding, answer.reply.text())
    return Reply(answer_body(grounding, answer, evidence), headers=answer_headers(answer))


def _search_headers(grounding: Grounding) -> dict[str, str]:
    """The router's facts where no model answered."""
    return {"x-router-cost-usd": plain(grounding.search_cost_usd)}


class _Events:
    """Events: ``retrieval``, then ``delta``s, ``citations`` and ``done``; or ``error`` when the stream breaks."""

    def __init__(self, service: GroundedService, grounding: Grounding, stream: StreamedAnswer, request_id: str) -> None:
        self._service = service
        self._grounding = grounding
        self._request_id = request_id
        self._model_id = stream.served.profile.id

    def opening(self) -> Iterator[bytes]:
        yield _retrieval_event(self._grounding, self._request_id)

    def event(self, event: StreamEvent) -> bytes:
        payload = delta_payload(event, self._model_id)
        return b"" if payload is None else sse_event("delta", payload)

    def closing(self, answer: StreamedAnswer) -> Iterator[bytes]:
        reply = answer.reply()
        evidence = self._service.evidence(self._grounding, reply.text())
        yield sse_event("citations", evidence_body(self._grounding, evidence))
        output = output_body(reply)
        done = {
            "request_id": self._request_id,
            "model": self._model_id,
            "deployment": answer.served.deployment.id,
            "finish_reason": output["finish_reason"],
            "native_finish_reason": output["native_finish_reason"],
            "usage": usage_body(reply.usage),
            "cost_usd": plain(answer.cost_usd),
        }
        yield sse_event("done", done)

    def failure(self, error: RouterError, kind: str) -> Iterator[bytes]:
        yield sse_event("error", error_body(error, kind, self._request_id))


async def _abstained(grounding: Grounding, request_id: str) -> AsyncIterator[bytes]:
    """The same events where no model was asked."""
    yield _retrieval_event(grounding, request_id)
    yield sse_event("delta", {"text": said(grounding)})
    yield sse_event("citations", evidence_body(grounding, Evidence()))
    yield sse_event("done", {"request_id": request_id, "model": None, "finish_reason": "stop", "cost_usd": "0"})


def _retrieval_event(grounding: Grounding, request_id: str) -> bytes:
    body = {"request_id": request_id, "abstained": grounding.abstained, **retrieval_body(grounding)}
    return sse_event("retrieval", body)
