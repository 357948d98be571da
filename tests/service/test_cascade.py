"""A cheap model first, the best one when its answer does not pass: order, checks, costs, streams, replay."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    Message,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
)
from shared.domain.errors import ProviderUnavailable
from shared.domain.policy import Balancing, Preset, RoutingConstraints
from shared.domain.records import RequestStatus
from shared.domain.replies import Finished, FinishReason, TextDelta, ToolCallDelta, Usage, UsageUpdate
from shared.domain.resilience import CascadePolicy, RetryPolicy
from shared.domain.security import SecurityLevel
from shared.services.call_plan import cascade_for
from shared.services.cascade import ladder_of
from tests.service.routing_doubles import HANG, USAGE, ScriptedProvider
from tests.service.routing_world import World
from tests.unit.routing_builders import deployment, model, policy, registry

CHEAP, CHEAP_US = deployment("cheap"), deployment("cheap", "us-central1")
MIDDLE, BEST, BEST_US = deployment("middle"), deployment("best"), deployment("best", "us-central1")
JUDGE = deployment("judge")
SHELF = registry(
    (model("cheap", price="0.1", quality=0.7), CHEAP),
    (model("cheap", price="0.1", quality=0.7), CHEAP_US),
    (model("middle", price="1", quality=0.8), MIDDLE),
    (model("best", price="5", quality=0.95), BEST),
    (model("best", price="5", quality=0.95), BEST_US),
    (model("judge", price="0.2", quality=0.65), JUDGE),
)
RULES = CascadePolicy(services=frozenset({"shop"}), least_quality=0.7)
QUICK = RetryPolicy(backoff_first_s=0.001, backoff_most_s=0.001)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
JSON = ResponseFormat(FormatKind.JSON_SCHEMA, "answer", SCHEMA)


def saying(text, *, reason=FinishReason.STOP):
    return (TextDelta(text), UsageUpdate(USAGE), Finished(reason, reason.value))


def calling(arguments, name="search"):
    call = ToolCallDelta(0, "call_1", name, arguments)
    return (call, UsageUpdate(USAGE), Finished(FinishReason.TOOL_CALLS, "tool_calls"))


def world(scripts=None, *, shelf=SHELF, **rules):
    rules = {"cascade": RULES, "retries": QUICK, "balancing": Balancing(enabled=False), **rules}
    return World(ScriptedProvider(scripts or {}), shelf, **rules)


def called(of):
    return [call.deployment.id for call in of.provider.calls]


def asking(**changes):
    return ChatRequest((Message(Role.USER, (TextPart("How many moons has Mars?"),)),), **changes)


async def served(of, *, stream=False, **changes):
    """The text and what came of the cascade."""
    order = of.order(stream=stream, **changes)
    async with asyncio.timeout(10.0):
        if not stream:
            answer = await of.service.answer(order)
            return answer.reply.text(), answer.cascade
        opened = await of.service.open_stream(order)
        return "".join([e.text async for e in opened.events() if isinstance(e, TextDelta)]), opened.cascade


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cheap_answer_that_passes_is_served_and_its_saving_stated(stream):
    of = world()
    text, cascade = await served(of, stream=stream)
    assert (text, called(of)) == ("Hello", [CHEAP.id])
    assert (cascade.result, cascade.reason) == ("accepted", None)
    # 10 tokens in and 4 out: at 5 and 20 USD per million against 0.1 and 0.4.
    assert cascade.saved_usd == Decimal("0.00013") - Decimal("0.0000026")
    record = await of.record()
    assert (record.status, record.model_used) == (RequestStatus.SUCCESS, "cheap")
    assert dict(record.tags)["router.cascade"] == "accepted"
    assert Decimal(dict(record.tags)["router.cascade_saved_usd"]) == cascade.saved_usd
    assert (record.usage, record.cost_usd) == (USAGE, Decimal("0.0000026"))
    assert record.propensity is None


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_does_not_pass_is_never_sent_and_its_cost_is_stated(stream):
    of = world({CHEAP.id: [saying("I'm sorry, but I can't help with that.")]})
    text, cascade = await served(of, stream=stream)
    assert (text, called(of)) == ("Hello", [CHEAP.id, BEST.id])
    assert (cascade.result, cascade.reason, cascade.saved_usd) == ("escalated", "refusal", Decimal("-0.0000026"))
    record = await of.record()
    assert [(a.deployment_id, a.outcome) for a in record.attempts] == [
        (CHEAP.id, "cascade_rejected"),
        (BEST.id, "success"),
    ]
    assert record.model_used == "best"
    assert record.cost_usd == Decimal("0.0001326")
    assert dict(record.tags)["router.cascade_reason"] == "refusal"


@pytest.mark.parametrize(
    ("script", "changes", "reason"),
    [
        (saying("  "), {}, "empty"),
        (saying("so far", reason=FinishReason.CONTENT_FILTER), {}, "refusal"),
        (saying("no", reason=FinishReason.REFUSAL), {}, "refusal"),
        (saying('{"n": "two"}'), {"response_format": JSON}, "schema"),
        (saying("two moons"), {"response_format": JSON}, "schema"),
        (saying('{"n": 2}'), {"response_format": JSON}, None),
        (saying("[2]"), {"response_format": ResponseFormat(FormatKind.JSON_OBJECT)}, "schema"),
        (saying("{}"), {"response_format": ResponseFormat(FormatKind.JSON_OBJECT)}, None),
        (calling('{"n": 2}'), {"tools": (Tool("search", parameters=SCHEMA),)}, None),
        (calling('{"m": 2}'), {"tools": (Tool("search", parameters=SCHEMA),)}, "tool_arguments"),
        (calling('{"n"'), {"tools": (Tool("search", parameters=SCHEMA),)}, "tool_arguments"),
        (calling('{"n": 2}', "delete"), {"tools": (Tool("search", parameters=SCHEMA),)}, "tool_arguments"),
        (saying("cut", reason=FinishReason.LENGTH), {"max_output_tokens": 5}, None),
        ([ProviderUnavailable("away")] * 1, {}, None),
    ],
)
async def test_what_is_checked(script, changes, reason):
    of = world({CHEAP.id: [script]})
    _, cascade = await served(of, request=asking(**changes))
    assert (cascade.result, cascade.reason) == ("accepted" if reason is None else "escalated", reason)


async def test_being_cut_short_counts_where_the_best_model_could_say_more():
    shelf = registry(
        (model("cheap", price="0.1", quality=0.7, max_output_tokens=100), CHEAP),
        (model("best", price="5", quality=0.95), BEST),
    )
    of = world({CHEAP.id: [saying("cut", reason=FinishReason.LENGTH)]}, shelf=shelf)
    _, cascade = await served(of)
    assert (cascade.result, cascade.reason) == ("escalated", "truncated")


async def test_a_cheap_model_that_is_away_is_not_waited_for():
    of = world({CHEAP.id: [[ProviderUnavailable("away")]] * 5, CHEAP_US.id: [[ProviderUnavailable("away")]] * 5})
    text, cascade = await served(of)
    assert (text, cascade.reason) == ("Hello", "unavailable")
    assert called(of) == [CHEAP.id, CHEAP_US.id, BEST.id]


async def test_a_hanging_cheap_model_takes_its_share_of_the_time_only():
    of = world({CHEAP.id: [[HANG]], CHEAP_US.id: [[HANG]]}, cascade=replace(RULES, time_share=0.001))
    text, cascade = await served(of, timeout_s=10.0)
    assert (text, cascade.reason) == ("Hello", "unavailable")
    assert called(of)[-1] == BEST.id


async def test_the_best_model_fails_over_like_any_other():
    of = world({CHEAP.id: [saying("")], BEST.id: [[ProviderUnavailable("away")]]})
    text, _ = await served(of)
    assert text == "Hello"
    assert called(of) == [CHEAP.id, BEST.id, BEST_US.id]


# --- samples and judge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "reason"), [("It has 2 moons.", None), ("It has 3 moons.", "disagreement"), (None, "disagreement")]
)
async def test_answers_are_held_against_each_other(second, reason):
    other = [ProviderUnavailable("away")] if second is None else saying(second)
    of = world({CHEAP.id: [saying("It has 2 moons."), other, [ProviderUnavailable("away")]], CHEAP_US.id: [
        [ProviderUnavailable("away")]] * 3}, cascade=replace(RULES, samples=2))  # fmt: skip
    _, cascade = await served(of)
    assert cascade.reason == reason
    record = await of.record()
    outcomes = [a.outcome for a in record.attempts]
    if reason is None:
        assert outcomes == ["success", "cascade_sample"]
        assert cascade.saved_usd == Decimal("0.00013") - 2 * Decimal("0.0000026")
    else:
        assert outcomes[-1] == "success"
        assert "cascade_rejected" in outcomes
    assert record.cost_usd == sum(a.cost_usd for a in record.attempts)


async def test_sure_sampling_is_not_repeated():
    of = world(cascade=replace(RULES, samples=3))
    await served(of, request=asking(sampling=Sampling(temperature=0.0)))
    assert called(of) == [CHEAP.id]


@pytest.mark.parametrize(
    ("word", "reason"), [("PASS", None), (" pass.", None), ("FAIL", "judge"), ("well", "judge"), (None, "judge_unavailable")]
)  # fmt: skip
async def test_a_judge_has_the_last_word(word, reason):
    verdict = [ProviderUnavailable("away")] if word is None else saying(word)
    of = world({JUDGE.id: [verdict]}, cascade=replace(RULES, judge="judge"))
    text, cascade = await served(of)
    assert (text, cascade.reason) == ("Hello", reason)
    asked = of.provider.calls[1]
    assert asked.deployment.id == JUDGE.id
    assert [m.role for m in asked.request.messages] == [Role.USER, Role.ASSISTANT, Role.USER]
    assert asked.request.messages[1].text() == "Hello"
    record = await of.record()
    assert record.attempts[1].outcome == ("provider_unavailable" if word is None else "cascade_judge")
    assert record.model_used == ("cheap" if reason is None else "best")


async def test_a_judge_that_may_not_see_the_request_is_not_asked():
    shelf = registry(
        (model("cheap", price="0.1", quality=0.7), CHEAP),
        (model("best", price="5", quality=0.95), BEST),
        (model("judge", price="0.2", quality=0.65), replace(JUDGE, clearance=SecurityLevel.INTERNAL)),
    )
    of = world(shelf=shelf, cascade=replace(RULES, judge="judge"))
    _, cascade = await served(of, constraints=RoutingConstraints(label=SecurityLevel.CONFIDENTIAL))
    assert cascade.result == "accepted"
    assert called(of) == [CHEAP.id]


# --- when and with whom ----------------------------------------------------------------------------------------------


def decision(of, **changes):
    return of.service.decide(of.order(**changes))


def test_the_ladder_follows_from_the_decision_alone():
    of = world()
    first = ladder_of(decision(of), RULES)
    assert (first.cheap.deployment.id, first.best.deployment.id) == (CHEAP.id, BEST.id)
    assert ladder_of(decision(of), RULES) == first
    expected = {c.profile.id: c.factors.quality for c in decision(of).candidates}
    middling = replace(RULES, least_quality=expected["middle"])
    assert ladder_of(decision(of), middling).cheap.deployment.id == MIDDLE.id
    assert ladder_of(decision(of), replace(RULES, least_quality=expected["best"])) is None
    assert ladder_of(decision(of), replace(middling, most_cost_share=0.1)) is None
    # Five answers of the middle model cost as much as one of the best.
    assert ladder_of(decision(of), replace(middling, samples=5)) is None


async def test_clearance_binds_on_every_step():
    shelf = registry(
        (model("cheap", price="0.1", quality=0.7), replace(CHEAP, clearance=SecurityLevel.INTERNAL)),
        (model("middle", price="1", quality=0.8), MIDDLE),
        (model("best", price="5", quality=0.95), BEST),
        (model("best", price="5", quality=0.95), replace(BEST_US, clearance=SecurityLevel.PUBLIC)),
    )
    away = [[ProviderUnavailable("away")]] * 9
    of = world({MIDDLE.id: [saying(""), *away], BEST.id: away}, shelf=shelf)
    with pytest.raises(ProviderUnavailable):
        await served(of, constraints=RoutingConstraints(label=SecurityLevel.CONFIDENTIAL))
    assert set(called(of)) == {MIDDLE.id, BEST.id}


@pytest.mark.parametrize(
    ("rules", "changes", "applies"),
    [
        (CascadePolicy(), {}, False),
        (CascadePolicy(), {"cascade": True}, True),
        (CascadePolicy(callers=False), {"cascade": True}, False),
        (RULES, {}, True),
        (RULES, {"cascade": False}, False),
        (replace(RULES, callers=False), {"cascade": False}, True),
        (CascadePolicy(presets=frozenset({Preset.COST})), {}, False),
        (
            CascadePolicy(presets=frozenset({Preset.COST})),
            {"constraints": RoutingConstraints(preset=Preset.COST)},
            True,
        ),
        (RULES, {"constraints": RoutingConstraints(model="best", allow_fallback=True)}, False),
    ],
)
def test_who_gets_a_cascade(rules, changes, applies):
    of = world()
    order = of.order(**changes)
    assert (cascade_for(order, of.service.decide(order), policy(cascade=rules)) is not None) is applies


async def test_without_a_cascade_nothing_is_said_of_one():
    of = world(cascade=CascadePolicy())
    _, cascade = await served(of)
    assert cascade is None
    record = await of.record()
    assert record.tags == ()
    assert record.propensity is not None


async def test_what_is_free_of_usage_still_has_a_saving():
    free = (TextDelta("Hello"), UsageUpdate(Usage()), Finished(FinishReason.STOP, "stop"))
    of = world({CHEAP.id: [free]})
    _, cascade = await served(of)
    assert cascade.saved_usd == 0
