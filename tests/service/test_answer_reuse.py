"""Answers served again: when, when not, and what the record says. Real services, the twin of the cache."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.caching import BypassReason, CacheMode, CacheOutcome, CachePolicy, CacheScope
from shared.domain.chat import (
    ChatRequest,
    MediaPart,
    Message,
    Modality,
    Role,
    Sampling,
    TextPart,
    Tool,
)
from shared.domain.errors import ProviderUnavailable
from shared.domain.features import Category
from shared.domain.policy import RoutingConstraints, ServicePolicy
from shared.domain.records import RequestStatus
from shared.domain.replies import Finished, FinishReason, TextDelta, ToolCallDelta, Usage, UsageUpdate
from shared.domain.security import SecurityLevel
from shared.services.reuse import AnswerReuse, SentenceEncoder
from shared.stores.memory_reuse import MemoryAnswerCache
from tests.service.routing_doubles import ANSWER, PRINCIPAL, USAGE, ScriptedProvider, rid
from tests.service.routing_world import A_EU, A_US, B_EU, SHELF, World
from tests.unit.routing_builders import ABLE, model, registry

RULES = CachePolicy(ttl_s=60)
ONE_EACH = registry(
    (model("a", quality=0.9, capabilities=replace(ABLE, media_uris=True)), A_EU), (model("b", quality=0.5), B_EU)
)
"""One deployment a model, so that it is known who answers."""
QUESTION = "What is the capital of France?"


def _encode(text):
    """Letters counted: near for texts that share them, which is all that these tests need."""
    counted = np.zeros(128, np.float32)
    for letter in text.lower():
        counted[ord(letter) % 128] += 1
    return counted


class Reusing(World):
    def __init__(self, provider=None, rules=RULES, *, others=None, shelf=ONE_EACH, **policy):
        services = {"shop": ServicePolicy(cache=rules), **(others or {})}
        super().__init__(provider, shelf, **{"services": services, **policy})
        self.cache = MemoryAnswerCache(self.clock)
        self.reuse = AnswerReuse(self.cache, self.clock, self.telemetry, SentenceEncoder("letters", _encode))
        self.service._reuse = self.reuse
        self._asked = 0

    async def ask(self, text=QUESTION, **changes):
        self._asked += 1
        answer = await self.service.answer(self.order(text, request_id=rid(self._asked), **changes))
        await self.reuse.settled()
        return answer

    async def stream(self, text=QUESTION, **changes):
        self._asked += 1
        answer = await self.service.open_stream(self.order(text, request_id=rid(self._asked), stream=True, **changes))
        events = [event async for event in answer.events()]
        await self.reuse.settled()
        return answer, events

    async def records(self):
        self.writer.start()
        await self.writer.aclose()
        return [self.store.by_id[key] for key in sorted(self.store.by_id)]

    async def outcomes(self, *asked):
        """How the look-ups of requests ended, one after the other."""
        return [(await self.ask(**changes)).lookup.outcome for changes in asked]


def tools_request():
    return ChatRequest((Message(Role.USER, (TextPart("book it"),)),), tools=(Tool("book"),))


async def test_a_repetition_is_a_hit_that_costs_nothing_and_says_what_it_saved():
    world = Reusing()
    first, second = await world.ask(), await world.ask()
    assert (first.lookup.outcome, second.lookup.outcome) == (CacheOutcome.MISS, CacheOutcome.HIT)
    assert second.reply == first.reply
    assert len(world.provider.calls) == 1
    miss, hit = await world.records()
    assert (miss.cache, miss.saved_usd) == ("miss", 0)
    assert (hit.cache, hit.cost_usd, hit.saved_usd) == ("hit", 0, miss.cost_usd)
    assert miss.cost_usd > 0
    assert (hit.usage, hit.attempts, hit.status) == (USAGE, (), RequestStatus.SUCCESS)
    assert (hit.model_used, hit.deployment_used) == (miss.model_used, miss.deployment_used)


async def test_a_service_that_did_not_opt_in_leaves_nothing_behind():
    world = Reusing(rules=None)
    assert await world.outcomes({}, {"cache": CacheMode.USE}) == [CacheOutcome.OFF] * 2
    assert world.cache.entries == {}
    assert len(world.provider.calls) == 2


async def test_an_answer_has_an_age_and_an_end():
    world = Reusing()
    await world.ask()
    world.clock.advance(59)
    assert (await world.ask()).lookup.age_s == 59
    world.clock.advance(1)
    assert (await world.ask()).lookup.outcome is CacheOutcome.MISS


async def test_refresh_does_not_look_but_keeps_and_off_does_neither():
    script = (TextDelta("new"), UsageUpdate(USAGE), Finished(FinishReason.STOP, "stop"))
    world = Reusing(ScriptedProvider({A_EU.id: [ANSWER, script]}))
    await world.ask()
    refreshed = await world.ask(cache=CacheMode.REFRESH)
    assert (refreshed.lookup.outcome, refreshed.lookup.reason) == (CacheOutcome.BYPASS, BypassReason.REFRESH)
    assert (await world.ask()).reply.text() == "new"
    kept = dict(world.cache.entries)
    assert (await world.ask(cache=CacheMode.OFF)).lookup.outcome is CacheOutcome.OFF
    assert world.cache.entries == kept


def _with(**changes):
    base = {"messages": (Message(Role.USER, (TextPart(QUESTION),)),)}
    return {"request": ChatRequest(**{**base, **changes})}


DIFFERENT = [
    {"principal": replace(PRINCIPAL, tenant_id="tenant-2")},
    {"constraints": RoutingConstraints(model="a")},
    _with(system="Answer in verse."),
    _with(sampling=Sampling(seed=1)),
    _with(max_output_tokens=5),
    _with(messages=(Message(Role.USER, (TextPart(QUESTION + " "),)),)),
    _with(messages=(Message(Role.USER, (TextPart("Hi"),)), Message(Role.USER, (TextPart(QUESTION),)))),
    _with(messages=(Message(Role.USER, (TextPart(QUESTION), MediaPart(Modality.IMAGE, "image/png", b"1"))),)),
    _with(messages=(Message(Role.USER, (TextPart(QUESTION), MediaPart(Modality.IMAGE, "image/png", b"2"))),)),
]


async def test_whatever_could_change_the_answer_makes_another_request():
    world = Reusing()
    assert await world.outcomes({}, *DIFFERENT) == [CacheOutcome.MISS] * (1 + len(DIFFERENT))
    assert await world.outcomes({}, *DIFFERENT) == [CacheOutcome.HIT] * (1 + len(DIFFERENT))


async def test_services_share_answers_only_where_both_say_so():
    shared = CachePolicy(ttl_s=60, scope=CacheScope.TENANT)
    others = {"till": ServicePolicy(cache=shared), "desk": ServicePolicy(cache=RULES)}
    world = Reusing(rules=shared, others=others)
    till, desk = replace(PRINCIPAL, service="till"), replace(PRINCIPAL, service="desk")
    elsewhere = replace(till, tenant_id="tenant-2")
    found = await world.outcomes({}, {"principal": till}, {"principal": desk}, {"principal": elsewhere})
    assert found == [CacheOutcome.MISS, CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.MISS]


async def test_sampled_requests_and_tools_are_left_alone_unless_asked():
    sampled = _with(sampling=Sampling(temperature=0.7))
    tools = {"request": tools_request()}
    world = Reusing()
    for changes, reason in ((sampled, BypassReason.TEMPERATURE), (tools, BypassReason.TOOLS)):
        await world.ask(**changes)
        lookup = (await world.ask(**changes)).lookup
        assert (lookup.outcome, lookup.reason) == (CacheOutcome.BYPASS, reason)
        assert world.cache.entries == {}
    for changes in (sampled, tools):
        asked = {**changes, "cache": CacheMode.USE}
        assert await world.outcomes(asked, asked) == [CacheOutcome.MISS, CacheOutcome.HIT]
    by_rule = Reusing(rules=replace(RULES, sampled=True, tools=True))
    assert await by_rule.outcomes(sampled, sampled, tools, tools) == [CacheOutcome.MISS, CacheOutcome.HIT] * 2


async def test_a_tool_call_comes_back_as_it_was():
    script = (
        ToolCallDelta(0, "call-1", "book", '{"seat":'),
        ToolCallDelta(0, arguments_fragment="1}"),
        UsageUpdate(USAGE),
        Finished(FinishReason.TOOL_CALLS, "tool_calls"),
    )
    world = Reusing(ScriptedProvider({A_EU.id: [script]}), rules=replace(RULES, tools=True))
    first = await world.ask(request=tools_request())
    second = await world.ask(request=tools_request())
    assert (second.lookup.outcome, second.reply) == (CacheOutcome.HIT, first.reply)


async def test_content_above_the_rules_level_is_neither_looked_up_nor_kept():
    world = Reusing(rules=replace(RULES, max_level=SecurityLevel.CONFIDENTIAL))
    allowed = {"constraints": RoutingConstraints(label=SecurityLevel.CONFIDENTIAL)}
    assert await world.outcomes(allowed, allowed) == [CacheOutcome.MISS, CacheOutcome.HIT]
    low = Reusing()
    lookup = (await low.ask(**allowed)).lookup
    assert (lookup.outcome, lookup.reason, low.cache.entries) == (CacheOutcome.BYPASS, BypassReason.LEVEL, {})


async def test_what_stands_at_an_address_is_not_kept():
    world = Reusing()
    image = MediaPart(Modality.IMAGE, "image/png", uri="gs://bucket/now.png")
    changes = _with(messages=(Message(Role.USER, (TextPart("What is this?"), image)),))
    assert (await world.ask(**changes)).lookup.reason is BypassReason.MEDIA_URI


@pytest.mark.parametrize(
    "constraint",
    [
        {"deny_models": frozenset({"a"})},
        {"allow_models": frozenset({"b"})},
        {"residency": frozenset({"us"})},
    ],
)
async def test_what_binds_the_choice_binds_a_hit(constraint):
    world = Reusing(shelf=SHELF)
    first = await world.ask(constraints=RoutingConstraints(residency=frozenset({"eu"})))
    assert first.record.deployment_used == A_EU.id
    second = await world.ask(constraints=RoutingConstraints(**constraint))
    assert second.lookup.outcome is CacheOutcome.MISS
    assert second.record.deployment_used != A_EU.id


async def test_an_eligible_deployment_that_was_not_chosen_may_have_given_the_answer():
    world = Reusing(shelf=SHELF)
    await world.ask(constraints=RoutingConstraints(residency=frozenset({"us"})))
    second = await world.ask()
    assert second.lookup.outcome is CacheOutcome.HIT
    assert second.record.deployment_used == A_US.id


async def test_the_answer_of_a_fallback_model_is_not_kept():
    away = [ProviderUnavailable("away")]
    world = Reusing(ScriptedProvider({A_EU.id: [away] * 9}), max_attempts=9)
    answer = await world.ask()
    assert answer.record.model_used == "b"
    assert world.cache.entries == {}


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER, FinishReason.REFUSAL])
async def test_an_answer_that_is_not_whole_is_not_kept(reason):
    script = (TextDelta("par"), UsageUpdate(USAGE), Finished(reason, "x"))
    world = Reusing(ScriptedProvider({A_EU.id: [script, script]}))
    await world.ask()
    await world.stream()
    assert world.cache.entries == {}


async def test_a_long_answer_is_not_kept():
    script = (TextDelta("".join(str(n) for n in range(9000))), UsageUpdate(USAGE), Finished(FinishReason.STOP, "stop"))
    world = Reusing(ScriptedProvider({A_EU.id: [script]}), rules=replace(RULES, max_answer_bytes=1024))
    await world.ask()
    assert world.cache.entries == {}


async def test_streams_fill_the_cache_and_are_replayed_in_pieces():
    text = "Paris is the capital of France. " * 10
    script = (TextDelta(text), UsageUpdate(USAGE), Finished(FinishReason.STOP, "stop"))
    world = Reusing(ScriptedProvider({A_EU.id: [script]}))
    await world.stream()
    answer, events = await world.stream()
    assert (answer.lookup.outcome, answer.attempts, answer.cost_usd) == (CacheOutcome.HIT, 0, Decimal(0))
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(pieces) > 3
    assert "".join(pieces) == text
    assert (await world.ask()).lookup.outcome is CacheOutcome.HIT
    miss, hit, _ = await world.records()
    assert (hit.cache, hit.usage, hit.cost_usd, hit.saved_usd) == ("hit", USAGE, 0, miss.cost_usd)


async def test_a_cut_or_left_stream_leaves_nothing_behind():
    cut = (TextDelta("par"), ProviderUnavailable("cut"))
    world = Reusing(ScriptedProvider({A_EU.id: [cut, ANSWER]}))
    with pytest.raises(ProviderUnavailable):
        await world.stream()
    left = await world.service.open_stream(world.order(request_id=rid(8), stream=True))
    events = left.events()
    await anext(events)
    await events.aclose()
    await world.reuse.settled()
    assert world.cache.entries == {}


async def test_a_caller_who_leaves_a_replay_has_one_record_at_no_cost():
    world = Reusing()
    await world.ask()
    answer = await world.service.open_stream(world.order(request_id=rid(2), stream=True))
    await answer.abandon()
    record = (await world.records())[1]
    assert (record.status, record.cost_usd, record.cache) == (RequestStatus.CANCELLED, 0, "hit")


async def test_an_absent_cache_costs_no_answer():
    world = Reusing()
    world.cache.away = True
    lookup = (await world.ask()).lookup
    assert (lookup.outcome, lookup.reason) == (CacheOutcome.BYPASS, BypassReason.UNAVAILABLE)
    world.cache.away = False
    await world.ask()
    assert (await world.ask()).lookup.outcome is CacheOutcome.HIT


async def test_a_cache_that_leaves_between_look_up_and_answer_costs_no_answer():
    world = Reusing()
    order = world.order(request_id=rid(1))
    stream = await world.service.open_stream(order)
    world.cache.away = True
    assert [event async for event in stream.events()]
    await world.reuse.settled()
    assert ("cache_answers_dropped", 1, {"reason": "unavailable"}) in world.telemetry.counts


async def test_what_cannot_be_read_any_more_is_a_miss():
    world = Reusing()
    await world.ask()
    for key, (_, end) in world.cache.entries.items():
        world.cache.entries[key] = (b"\x01nonsense", end)
    assert await world.outcomes({}, {}) == [CacheOutcome.MISS, CacheOutcome.HIT]


# --- near in meaning -------------------------------------------------------------------------------------------------

# One threshold for all, so that the reading of a text does not matter here.
SEMANTIC = replace(RULES, semantic=True, thresholds=dict.fromkeys(Category, 0.8))


async def test_a_paraphrase_of_the_same_tenant_hits():
    world = Reusing(rules=SEMANTIC)
    await world.ask("How do I reset my password?")
    answer = await world.ask("Hello, how can I reset my password please?")
    assert answer.lookup.outcome is CacheOutcome.SEMANTIC_HIT
    assert answer.lookup.similarity > 0.8
    assert answer.record.cache == "semantic_hit"
    assert len(world.provider.calls) == 1


async def test_another_system_text_or_earlier_turn_is_another_conversation():
    world = Reusing(rules=SEMANTIC)
    await world.ask("How do I reset my password?")
    turn = Message(Role.USER, (TextPart("How can I reset my password?"),))
    earlier = Message(Role.USER, (TextPart("I use the app."),))
    found = await world.outcomes(_with(messages=(turn,), system="Be brief."), _with(messages=(earlier, turn)))
    assert found == [CacheOutcome.MISS] * 2


async def test_a_semantic_hit_obeys_the_sieve_too():
    world = Reusing(rules=SEMANTIC)
    await world.ask("How do I reset my password?")
    denied = RoutingConstraints(deny_models=frozenset({"a"}))
    answer = await world.ask("How can I reset my password?", constraints=denied)
    assert answer.lookup.outcome is CacheOutcome.MISS


async def test_too_far_in_meaning_is_a_miss():
    world = Reusing(rules=SEMANTIC)
    await world.ask("How do I reset my password?")
    vectors = SentenceEncoder("letters", lambda text: -_encode(text))
    world.reuse._encoder = vectors
    assert (await world.ask("How can I reset my password?")).lookup.outcome is CacheOutcome.MISS


async def test_vectors_of_another_encoder_are_not_compared():
    world = Reusing(rules=SEMANTIC)
    await world.ask("How do I reset my password?")
    world.reuse._encoder = SentenceEncoder("other", _encode)
    assert (await world.ask("How can I reset my password?")).lookup.outcome is CacheOutcome.MISS


async def test_the_neighbour_of_an_answer_that_is_gone_is_a_miss():
    world = Reusing(rules=SEMANTIC)
    answer = await world.ask("How do I reset my password?")
    del world.cache.entries[answer.lookup.keys.exact]
    assert (await world.ask("How can I reset my password?")).lookup.outcome is CacheOutcome.MISS


PARAPHRASES = ("How do I reset my password?", "how can i reset my password", "How could I reset my password?")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["tenant-1", "tenant-2", "tenant-1\0", ""]),
            st.sampled_from(["shop", "till"]),
            st.sampled_from(PARAPHRASES),
        ),
        min_size=2,
        max_size=8,
    )
)
async def test_no_hit_ever_crosses_a_tenant_or_a_scope(asked):
    world = Reusing(rules=SEMANTIC, others={"till": ServicePolicy(cache=SEMANTIC)})
    seen = set()
    for tenant, service, text in asked:
        principal = replace(PRINCIPAL, tenant_id=tenant, service=service)
        outcome = (await world.ask(text, principal=principal)).lookup.outcome
        assert outcome.is_hit == ((tenant, service) in seen)
        seen.add((tenant, service))


async def test_what_was_used_is_told_but_not_billed():
    big = Usage(input_tokens=7, output_tokens=9)
    script = (TextDelta("x"), UsageUpdate(big), Finished(FinishReason.STOP, "stop"))
    world = Reusing(ScriptedProvider({A_EU.id: [script]}))
    await world.ask()
    hit = await world.ask()
    assert (hit.reply.usage, hit.record.usage, hit.cost_usd) == (big, big, 0)
