"""Between two distant events: heartbeats, callers who leave, callers who read slowly. On all streamed surfaces."""

import asyncio
import json

import pytest

from functions import _sse
from functions._sse import MAX_WAITING_EVENTS
from shared.domain.errors import ProviderTimeout
from shared.domain.records import RequestStatus
from shared.domain.replies import Finished, FinishReason, TextDelta, UsageUpdate
from tests.edge.edge_harness import CHAT, PROVED, Caller
from tests.service.routing_doubles import USAGE, ScriptedProvider

PING = b": ping\n\n"
SURFACES = {
    "chat/completions": {**CHAT, "stream": True},
    "route": {"model": "a", "prompt": "hello", "stream": True},
    "responses": {"model": "a", "input": "hello", "stream": True},
}
END = [UsageUpdate(USAGE), Finished(FinishReason.STOP, "stop")]
BEATS_S = {"often": "0.005", "seldom": "60"}
DEADLINE_S = 30


class Paused(ScriptedProvider):
    """Says one word, waits until it may go on, says the rest."""

    def __init__(self, rest=()):
        super().__init__()
        self.may_go_on, self.let_go = asyncio.Event(), asyncio.Event()
        self.rest = rest
        self.said = 0

    async def stream(self, call):
        try:
            yield TextDelta("Hel")
            await self.may_go_on.wait()
            for step in self.rest:
                if isinstance(step, Exception):
                    raise step
                self.said += 1
                yield step
        finally:
            self.closed += 1
            self.let_go.set()


class Attentive(Caller):
    """Does something after each message; until that is done, no further one is taken."""

    async def do(self):
        pass

    async def send(self, message):
        await super().send(message)
        await self.do()

    @property
    def pings(self):
        return sum(message.get("body") == PING for message in self.answer.messages)

    def leave(self):
        asyncio.get_running_loop().call_soon(self._left.set)


async def ask(edge, path, do=None, **more):
    caller = Attentive([json.dumps(SURFACES[path]).encode()], **more)
    if do is not None:
        caller.do = lambda: do(caller)
    async with asyncio.timeout(DEADLINE_S):
        await edge.send("POST", path, caller, headers={**PROVED, "content-type": "application/json"})
    return caller


def shape(answer):
    """The names and kinds of events, which do not depend on when they came."""
    return [(name, payload if isinstance(payload, str) else sorted(payload)) for name, payload in answer.events]


@pytest.mark.parametrize("path", SURFACES)
async def test_silence_is_filled_with_comments_and_the_events_stay_the_same(build_edge, path):
    provider = Paused([TextDelta("lo"), *END])
    edge = build_edge(provider, environ={"ROUTER_HEARTBEAT_S": BEATS_S["often"]})

    async def go_on_after_two(caller):
        if caller.pings == 2:
            provider.may_go_on.set()

    slow = await ask(edge, path, go_on_after_two)
    (record,) = await edge.records()
    assert record.status is RequestStatus.SUCCESS
    calm = await ask(build_edge(), path)
    assert slow.pings >= 2
    assert calm.pings == 0
    assert shape(slow.answer) == shape(calm.answer)


@pytest.mark.parametrize("path", SURFACES)
async def test_a_stall_after_heartbeats_ends_in_an_error_event_and_is_paid_for(build_edge, path):
    provider = Paused([ProviderTimeout("the model fell silent")])
    edge = build_edge(provider, environ={"ROUTER_HEARTBEAT_S": BEATS_S["often"]})

    async def go_on(caller):
        if caller.pings:
            provider.may_go_on.set()

    caller = await ask(edge, path, go_on)
    assert b"provider_timeout" in caller.answer.body
    assert b"[DONE]" not in caller.answer.body
    (record,) = await edge.records()
    assert (record.status, record.error_code) == (RequestStatus.ERROR, "provider_timeout")
    assert record.usage.completion_tokens > 0
    assert record.cost_usd > 0


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@pytest.mark.parametrize("beats", BEATS_S)
@pytest.mark.parametrize("path", SURFACES)
async def test_a_caller_who_leaves_between_distant_events_ends_the_call_at_once(build_edge, path, beats, spec_version):
    # The model never goes on: only the leaving can end this, and with beats of a minute no failing send tells of it.
    provider = Paused()
    edge = build_edge(provider, environ={"ROUTER_HEARTBEAT_S": BEATS_S[beats]})

    async def leave(caller):
        if b"Hel" in caller.answer.body and (beats == "seldom" or caller.pings):
            caller.leave()

    await ask(edge, path, leave, spec_version=spec_version)
    assert provider.closed == 1
    (record,) = await edge.records()
    assert record.status is RequestStatus.CANCELLED
    assert record.usage.completion_tokens > 0
    assert record.usage.prompt_tokens > 0
    assert record.cost_usd > 0
    assert [attempt.outcome for attempt in record.attempts] == ["cancelled"]


@pytest.mark.parametrize("path", SURFACES)
async def test_a_caller_who_reads_slowly_holds_the_model_back_and_misses_nothing(build_edge, path):
    words = [f"<{number}>" for number in range(5 * MAX_WAITING_EVENTS)]
    provider = Paused([*map(TextDelta, words), *END])
    provider.may_go_on.set()
    edge = build_edge(provider)
    ahead = []

    async def read_slowly(caller):
        for _ in range(50):  # turns in which the model could run ahead, if nothing held it
            await asyncio.sleep(0)
        ahead.append(provider.said - sum(word.encode() in caller.answer.body for word in words))

    caller = await ask(edge, path, read_slowly)
    assert max(ahead) <= MAX_WAITING_EVENTS + 1
    body = caller.answer.body
    assert [word for word in words if word.encode() not in body] == []
    (record,) = await edge.records()
    assert record.status is RequestStatus.SUCCESS


async def test_a_caller_who_stops_reading_does_not_hold_the_model_for_ever(build_edge, monkeypatch):
    monkeypatch.setattr(_sse, "_PATIENCE_S", 0.005)
    provider = Paused([TextDelta("word ")] * (2 * MAX_WAITING_EVENTS))
    provider.may_go_on.set()
    edge = build_edge(provider)

    async def stop_until_the_model_is_free(caller):
        if b"Hel" in caller.answer.body:
            await provider.let_go.wait()

    caller = await ask(edge, "chat/completions", stop_until_the_model_is_free)
    assert caller.answer.events[-1][1]["error"]["code"] == "answer_not_read"
    (record,) = await edge.records()
    assert record.status is RequestStatus.CANCELLED
    assert record.usage.completion_tokens > 0
