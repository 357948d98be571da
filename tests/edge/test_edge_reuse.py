"""Reused answers and idempotency keys as callers see them."""

import asyncio
from dataclasses import replace

import pytest

from functions._failures import status_of
from functions.http import ROUTES
from shared import container as containers
from shared.domain.caching import CachePolicy
from shared.domain.errors import ContextWindowExceeded, IdempotencyKeyReused, ProviderUnavailable
from shared.domain.policy import ServicePolicy
from shared.services.idempotency import IdempotencyService
from shared.services.reuse import AnswerReuse, SentenceEncoder
from shared.stores.memory_reuse import MemoryAnswerCache, MemoryIdempotencyStore
from tests.edge.edge_harness import CHAT, PROVED, Edge
from tests.principals import principal_header
from tests.service.routing_doubles import ANSWER, HANG, ScriptedProvider
from tests.unit.routing_builders import policy

ROUTE = {"prompt": "hello"}
MODEL = "a@europe-west4"


class ReusingEdge(Edge):
    def __init__(self, provider=None, *, opted_in=False, refuses=True):
        super().__init__(provider)
        self.keys = MemoryIdempotencyStore(self.clock)
        service = IdempotencyService(self.keys, self.clock, self.telemetry, refuses_without_store=refuses)
        self.container = replace(self.container, idempotency=service)
        if opted_in:
            routing = self.container.routing
            rules = ServicePolicy(cache=CachePolicy(ttl_s=60))
            routing._shelf._policy = replace(policy(), default_service=rules)
            cache = MemoryAnswerCache(self.clock)
            routing._reuse = self.reuse = AnswerReuse(
                cache, self.clock, self.telemetry, SentenceEncoder("none", lambda text: None)
            )
        containers.override(self.container)

    async def keyed(self, body=CHAT, key="key-1", path="chat/completions", caller=PROVED, **more):
        return await self.post(path, body, {**caller, "idempotency-key": key}, **more)

    def outcomes(self):
        return [dimensions["outcome"] for name, _, dimensions in self.telemetry.counts if name == "idempotency_keys"]


@pytest.fixture
def edge_of():
    yield ReusingEdge
    containers.override(None)


# --- reused answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), [("chat/completions", CHAT), ("route", ROUTE)])
async def test_headers_and_body_say_how_the_look_up_ended(edge_of, path, body):
    edge = edge_of(opted_in=True)
    miss = await edge.post(path, body)
    await edge.reuse.settled()
    edge.clock.advance(7)
    hit = await edge.post(path, body)
    assert (miss.headers["x-router-cache"], hit.headers["x-router-cache"]) == ("miss", "hit")
    assert "age" not in miss.headers
    assert hit.headers["age"] == "7"
    assert hit.headers["x-router-cost-usd"] == "0"
    assert hit.headers["x-router-attempts"] == "0"
    assert hit.headers["x-router-saved-usd"] == miss.headers["x-router-cost-usd"] != "0"
    served = hit.json if path == "route" else hit.json["router"]
    assert (served["cache"], served["cost_usd"]) == ("hit", 0.0)
    assert served["saved_usd"] == float(miss.headers["x-router-cost-usd"])
    assert hit.json["usage"] == miss.json["usage"]
    assert len(edge.provider.calls) == 1


async def test_a_hit_is_streamed_like_any_answer(edge_of):
    edge = edge_of(opted_in=True)
    await edge.post("chat/completions", CHAT)
    await edge.reuse.settled()
    hit = await edge.post("chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    assert hit.headers["x-router-cache"] == "hit"
    assert hit.events[-1] == (None, "[DONE]")
    payloads = [payload for _, payload in hit.events[:-1]]
    text = "".join(choice["delta"].get("content") or "" for payload in payloads for choice in payload["choices"])
    assert text == "Hello"
    assert payloads[-1]["usage"]["completion_tokens"] == 4
    assert payloads[-1]["router"]["cost_usd"] == 0.0


@pytest.mark.parametrize(
    ("body", "header", "outcome"),
    [
        ({"router": {"cache": "off"}}, None, "off"),
        ({"router": {"cache": "refresh"}}, None, "bypass"),
        ({"router": {"cache": "use"}}, None, "hit"),
        ({}, "off", "off"),
        ({"router": {"cache": "use"}}, "off", "hit"),
        ({"temperature": 0.5}, None, "bypass"),
        ({"temperature": 0}, None, "miss"),
    ],
)
async def test_what_a_request_asks_of_the_cache(edge_of, body, header, outcome):
    edge = edge_of(opted_in=True)
    await edge.post("chat/completions", CHAT)
    await edge.reuse.settled()
    headers = PROVED if header is None else {**PROVED, "x-router-cache": header}
    answer = await edge.post("chat/completions", {**CHAT, **body}, headers)
    assert answer.headers["x-router-cache"] == outcome


async def test_a_word_that_the_cache_does_not_know_is_named(edge_of):
    edge = edge_of()
    by_header = await edge.post("chat/completions", CHAT, {**PROVED, "x-router-cache": "maybe"})
    by_field = await edge.post("chat/completions", {**CHAT, "router": {"cache": "maybe"}})
    assert (by_header.status, by_header.error["param"]) == (400, "x-router-cache")
    assert (by_field.status, by_field.error["param"]) == (400, "router.cache")


async def test_without_opting_in_the_header_says_off(edge_of):
    edge = edge_of()
    assert (await edge.post("chat/completions", CHAT)).headers["x-router-cache"] == "off"


# --- idempotency keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), [("chat/completions", CHAT), ("route", ROUTE)])
async def test_a_repetition_is_given_the_same_answer_and_says_so(edge_of, path, body):
    edge = edge_of()
    first, second = await edge.keyed(body, path=path), await edge.keyed(body, path=path)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert (second.status, second.json) == (first.status, first.json)
    assert second.headers["x-router-cost-usd"] == first.headers["x-router-cost-usd"]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(edge.provider.calls) == len(await edge.records()) == 1


async def test_concurrent_duplicates_share_one_call(edge_of):
    edge = edge_of()
    answers = await asyncio.gather(*(edge.keyed() for _ in range(6)))
    assert len(edge.provider.calls) == 1
    assert len({answer.json["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("path", "body"), [("chat/completions", CHAT), ("route", ROUTE), ("responses", {"model": "a", "input": "hello"})]
)
async def test_a_whole_stream_is_replayed_as_it_was(edge_of, path, body):
    edge = edge_of()
    body = {**body, "stream": True}
    first, second = await edge.keyed(body, path=path), await edge.keyed(body, path=path)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.events == first.events
    assert len(edge.provider.calls) == 1


async def test_a_cut_stream_is_tried_anew(edge_of):
    cut = (ANSWER[0], ProviderUnavailable("cut"))
    edge = edge_of(ScriptedProvider({MODEL: [cut]}))
    body = {**CHAT, "stream": True}
    first, second = await edge.keyed(body), await edge.keyed(body)
    assert "error" in first.events[-1][1]
    assert "idempotency-replayed" not in second.headers
    assert second.events[-1] == (None, "[DONE]")


@pytest.mark.parametrize("leaves_after", [0, 2])
async def test_a_stream_whose_caller_left_is_tried_anew(edge_of, leaves_after):
    edge = edge_of(ScriptedProvider({MODEL: [(ANSWER[0], HANG)]}))
    body = {**CHAT, "stream": True}
    await edge.keyed(body, leaves_after=leaves_after)
    second = await edge.keyed(body)
    assert "idempotency-replayed" not in second.headers
    assert second.events[-1] == (None, "[DONE]")


async def test_another_body_under_the_key_is_422(edge_of):
    edge = edge_of()
    await edge.keyed()
    answer = await edge.keyed({**CHAT, "messages": [{"role": "user", "content": "bye"}]})
    assert (answer.status, answer.error["code"]) == (422, "idempotency_key_reused")
    assert answer.error["param"] == "idempotency-key"
    assert status_of(IdempotencyKeyReused("x"))[0] == 422


async def test_still_running_at_the_deadline_is_409_with_retry_after(edge_of):
    edge = edge_of(ScriptedProvider({MODEL: [(HANG,)]}))
    body = {**CHAT, "router": {"timeout_s": 0.1}}
    first = asyncio.create_task(edge.keyed(body))
    await edge.provider.called.wait()
    second = await edge.keyed(body)
    assert (second.status, second.error["code"]) == (409, "idempotency_in_progress")
    assert second.headers["retry-after"] == "1"
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    # The first one went away without a result: the key is free again.
    assert (await edge.keyed(body)).status == 200


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "käse", "a\tb"])
async def test_a_key_that_is_none_is_named(edge_of, key):
    edge = edge_of()
    answer = await edge.keyed(key=key)
    assert (answer.status, answer.error["param"]) == (400, "idempotency-key")
    assert edge.provider.calls == []


async def test_the_longest_key_is_taken(edge_of):
    assert (await edge_of().keyed(key="~" * 255)).status == 200


async def test_services_tenants_and_endpoints_have_keys_of_their_own(edge_of):
    edge = edge_of()
    await edge.keyed()
    other_service = await edge.keyed(caller=principal_header("app-2"))
    other_endpoint = await edge.keyed(ROUTE, path="route")
    assert (other_service.status, other_endpoint.status) == (200, 200)
    assert len(edge.provider.calls) == 3


async def test_what_failed_is_tried_anew_but_a_providers_refusal_stands(edge_of):
    failures = [[ProviderUnavailable("away")]] * 9
    edge = edge_of(ScriptedProvider({MODEL: failures}))
    assert (await edge.keyed()).status == 503
    edge.provider.scripts.clear()
    assert (await edge.keyed()).status == 200

    refusing = edge_of(ScriptedProvider({MODEL: [[ContextWindowExceeded("too long")]] * 3}))
    first, second = await refusing.keyed(), await refusing.keyed()
    assert (first.status, second.status) == (400, 400)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.error == first.error
    assert len(refusing.provider.calls) == 1


async def test_a_body_that_is_wrong_may_be_mended_under_the_same_key(edge_of):
    edge = edge_of()
    assert (await edge.keyed({"model": "a"})).status == 400
    assert (await edge.keyed()).status == 200


async def test_without_the_store_a_key_is_refused_or_runs_unprotected(edge_of):
    refusing = edge_of()
    refusing.keys.away = True
    answer = await refusing.keyed()
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert refusing.provider.calls == []
    assert (await refusing.post("chat/completions", CHAT)).status == 200
    running = edge_of(refuses=False)
    running.keys.away = True
    answer = await running.keyed()
    assert (answer.status, answer.headers["x-router-idempotency"]) == (200, "unavailable")


async def test_an_answer_that_could_not_be_kept_says_so(edge_of):
    edge = edge_of()

    class Leaving(ScriptedProvider):
        async def complete(self, call):
            edge.keys.away = True
            return await super().complete(call)

    edge.provider.complete = Leaving().complete
    answer = await edge.keyed()
    assert (answer.status, answer.headers["x-router-idempotency"]) == (200, "not_kept")


async def test_a_result_that_is_too_long_is_delivered_but_not_kept(edge_of, monkeypatch):
    monkeypatch.setattr("functions._idempotency.MAX_RESULT_BYTES", 100)
    edge = edge_of()
    body = {**CHAT, "stream": True}
    first = await edge.keyed(body)
    assert first.events[-1] == (None, "[DONE]")
    assert "done" not in edge.outcomes()


def test_every_endpoint_that_calls_a_model_takes_keys():
    guarded = {route.name for route in ROUTES if route.handler.__qualname__.startswith("once.")}
    assert guarded >= {"route", "chat_completions", "responses", "embeddings"}
