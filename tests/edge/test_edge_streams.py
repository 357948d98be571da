"""Streams end well in every way that they can end: told, recorded, traced, and with the model let go."""

import asyncio

import pytest

from functions._edge import Reply
from functions._streams import EventStream
from functions.http import ROUTES
from shared.domain.errors import ProviderTimeout, ProviderUnavailable, RetryScope
from shared.domain.records import RequestStatus
from shared.domain.replies import Finished, FinishReason, TextDelta, UsageUpdate
from tests.edge.edge_harness import CHAT, PROVED, Caller
from tests.service.routing_doubles import HANG, USAGE, ScriptedProvider

ROUTE = next(route for route in ROUTES if route.name == "route")
HEADERS = {**PROVED, "content-type": "application/json"}
PATHS = {"chat/completions": {**CHAT, "stream": True}, "route": {"model": "a", "prompt": "hello", "stream": True}}
CUT = [TextDelta("Hel"), UsageUpdate(USAGE), ProviderUnavailable("the model's stream was cut", vendor_status="14")]
SERVERS = ["2.3", "2.4"]


def play(script):
    return ScriptedProvider({"a@europe-west4": [script]})


# --- a caller who leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec_version", SERVERS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("messages", [0, 1, 2, 3])
async def test_a_caller_who_leaves_at_any_time_leaves_a_record_and_a_free_model(
    build_edge, path, messages, spec_version
):
    edge = build_edge(play([TextDelta("Hel"), TextDelta("lo"), HANG]))
    async with asyncio.timeout(30):
        await edge.post(path, PATHS[path], leaves_after=messages, spec_version=spec_version)
    (record,) = await edge.records()
    assert (record.status, record.model_used) == (RequestStatus.CANCELLED, "a")
    assert edge.provider.closed == 1
    (span,) = edge.telemetry.requests
    assert (span.error_code, span.fault) == ("cancelled", None)


@pytest.mark.parametrize("spec_version", SERVERS)
async def test_on_close_runs_when_the_first_event_was_never_asked_for(edge, spec_version):
    asked, closed = [], []

    async def events():
        asked.append(True)
        yield b"data: 1\n\n"

    async def close():
        closed.append(True)

    async def handler(call):
        return Reply(events=events(), on_close=close)

    caller = Caller([b"{}"], leaves_after=0, spec_version=spec_version)
    answer = await edge.knock(ROUTE, caller, headers=HEADERS, handler=handler)
    assert closed == [True]
    assert answer.messages == []
    if spec_version == "2.4":
        assert asked == []


async def test_on_close_runs_to_its_end_though_the_task_is_cancelled(edge):
    waiting, closing, may_close, closed = (asyncio.Event() for _ in range(4))

    async def events():
        yield b"data: 1\n\n"
        waiting.set()
        await asyncio.Event().wait()

    async def close():
        closing.set()
        await may_close.wait()
        closed.set()

    async def handler(call):
        return Reply(events=events(), on_close=close)

    task = asyncio.create_task(edge.knock(ROUTE, Caller([b"{}"]), headers=HEADERS, handler=handler))
    async with asyncio.timeout(30):
        await waiting.wait()
        task.cancel()
        await closing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_close.set()
        await closed.wait()


async def test_on_close_runs_once_after_a_whole_answer_and_changes_nothing(build_edge):
    edge = build_edge()
    answer = await edge.post("chat/completions", {**CHAT, "stream": True})
    assert answer.events[-1] == (None, "[DONE]")
    (record,) = await edge.records()
    assert record.status is RequestStatus.SUCCESS
    assert [attempt.outcome for attempt in record.attempts] == ["success"]
    assert edge.provider.closed == 1


# --- streams that break ----------------------------------------------------------------------------------------------


async def test_a_chat_stream_that_breaks_ends_in_an_error_event_without_done(build_edge):
    edge = build_edge(play(CUT))
    answer = await edge.post("chat/completions", PATHS["chat/completions"])
    assert answer.status == 200
    assert answer.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert [event for _, event in answer.events if event == "[DONE]"] == []
    assert answer.events[-1] == (
        None,
        {
            "error": {
                "message": "the model's stream was cut",
                "type": "api_error",
                "code": "provider_unavailable",
                "param": None,
                "request_id": answer.headers["x-request-id"],
            }
        },
    )
    assert all(payload["choices"][0]["finish_reason"] is None for _, payload in answer.events[:-1])
    (record,) = await edge.records()
    assert (record.status, record.error_code) == (RequestStatus.ERROR, "provider_unavailable")
    (span,) = edge.telemetry.requests
    assert (span.error_code, span.success) == ("provider_unavailable", False)


async def test_a_route_stream_that_breaks_ends_in_an_error_event_without_done(build_edge):
    answer = await build_edge(play(CUT)).post("route", PATHS["route"])
    names = [name for name, _ in answer.events]
    assert names == ["decision", "delta", "error"]
    assert answer.events[-1][1]["error"]["code"] == "provider_unavailable"


@pytest.mark.parametrize("path", PATHS)
async def test_a_defect_in_a_stream_is_told_without_internals(build_edge, path):
    edge = build_edge(play([TextDelta("Hel"), KeyError("canary-4711")]))
    answer = await edge.post(path, PATHS[path])
    error = answer.events[-1][1]["error"]
    assert (error["code"], error["type"]) == ("internal_error", "server_error")
    assert error["request_id"] == answer.headers["x-request-id"]
    assert b"canary" not in answer.body
    assert b"[DONE]" not in answer.body
    (span,) = edge.telemetry.requests
    assert (span.error_code, span.fault.type_name) == ("internal_error", "KeyError")
    assert [line["error"] for line in edge.telemetry.events()["defect"]] == ["KeyError"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_model_that_fails_before_its_first_word_is_a_plain_error(build_edge, path):
    answer = await build_edge(play([ProviderTimeout("the model did not answer", scope=RetryScope.NEVER)])).post(
        path, PATHS[path]
    )
    assert (answer.status, answer.error["code"]) == (504, "provider_timeout")
    assert answer.headers["content-type"] == "application/json"


# --- what a whole stream says ----------------------------------------------------------------------------------------


async def test_a_route_stream_tells_its_decision_first_and_its_cost_last(build_edge):
    edge = build_edge()
    answer = await edge.post("route", PATHS["route"])
    (first, decision), *deltas, (last, done) = answer.events
    assert (first, last) == ("decision", "done")
    assert decision["decision"]["chosen"]["model"] == "a"
    assert [(name, payload["text"]) for name, payload in deltas] == [("delta", "Hel"), ("delta", "lo")]
    assert done == {
        "request_id": answer.headers["x-request-id"],
        "model": "a",
        "deployment": "a@europe-west4",
        "finish_reason": "stop",
        "native_finish_reason": "stop",
        "usage": done["usage"],
        "cost_usd": "0.000026",
        "itinerary": done["itinerary"],
    }
    assert [(a["number"], a["deployment"], a["outcome"]) for a in done["itinerary"]] == [
        (1, "a@europe-west4", "success")
    ]
    (record,) = await edge.records()
    assert f"{record.cost_usd:f}".rstrip("0") == done["cost_usd"]


async def test_each_event_leaves_by_itself(build_edge):
    answer = await build_edge().post("chat/completions", PATHS["chat/completions"])
    bodies = [message["body"] for message in answer.messages[1:-1]]
    assert all(body.count(b"\n\n") == 1 and body.endswith(b"\n\n") for body in bodies)
    assert all(message["more_body"] for message in answer.messages[1:-1])


async def test_the_span_lasts_as_long_as_the_stream_and_holds_the_models_call(build_edge):
    open_while_streaming = []

    class Watched(ScriptedProvider):
        async def stream(self, call):
            async for event in super().stream(call):
                open_while_streaming.append(edge.telemetry.requests == [])
                yield event

    edge = build_edge(Watched())
    await edge.post("chat/completions", PATHS["chat/completions"])
    assert open_while_streaming == [True] * 4
    (span,) = edge.telemetry.requests
    assert (span.result_code, span.success) == ("200", True)
    assert [d.parent_id for d in edge.telemetry.dependencies] == [span.span_id]


async def test_an_empty_answer_is_a_whole_stream(build_edge):
    answer = await build_edge(play([UsageUpdate(USAGE), Finished(FinishReason.STOP)])).post(
        "chat/completions", PATHS["chat/completions"]
    )
    assert [event for _, event in answer.events][-1] == "[DONE]"


async def test_an_event_stream_works_without_span_and_on_close():
    async def events():
        yield b"data: 1\n\n"

    caller = Caller()
    await EventStream(events())({"type": "http", "asgi": {"spec_version": "2.3"}}, caller.receive, caller.send)
    assert caller.answer.body == b"data: 1\n\n"
