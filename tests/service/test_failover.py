"""Retries, failover, limits on time and money, and what health hears: real services, a provider that plays a script."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from shared.domain.errors import (
    BudgetExceeded,
    ContentBlocked,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from shared.domain.health import Refusal, RefusalReason
from shared.domain.policy import Balancing, RoutingConstraints, ServicePolicy
from shared.domain.records import RequestStatus
from shared.domain.replies import Finished, FinishReason, TextDelta, UsageUpdate
from shared.domain.resilience import RetryPolicy
from shared.domain.rules import Actions, Rule
from shared.services.attempt_log import AttemptLog
from shared.services.call_plan import plan_for
from tests.service.routing_doubles import HANG, USAGE, ScriptedProvider
from tests.service.routing_world import A_EU, A_US, B_EU, World
from tests.unit.routing_builders import model, policy, registry

QUICK = RetryPolicy(backoff_first_s=0.001, backoff_most_s=0.005)
BLOCKED = (UsageUpdate(USAGE), Finished(FinishReason.CONTENT_FILTER, "SAFETY", "hate"))
FAST = registry(
    (model("a", quality=0.9, ttft_ms=1.0, tokens_per_s=1e6), A_EU),
    (model("b", quality=0.5, ttft_ms=1.0, tokens_per_s=1e6), B_EU),
)


def away():
    return ProviderUnavailable("away", vendor_status="503")


def world(scripts=None, **rules):
    rules = {"retries": QUICK, "balancing": Balancing(enabled=False), **rules}
    return World(ScriptedProvider(scripts or {}), **rules)


async def answer(of, *, stream=False, **changes):
    """The text, from a whole answer or from a stream that was read to its end."""
    order = of.order(stream=stream, **changes)
    if not stream:
        return (await of.service.answer(order)).reply.text()
    opened = await of.service.open_stream(order)
    return "".join([event.text async for event in opened.events() if isinstance(event, TextDelta)])


def called(of):
    return [call.deployment.id for call in of.provider.calls]


@pytest.fixture
def passing(monkeypatch):
    """Pauses pass at once, on the clock of the world that is given."""

    def of(world):
        async def sleep(delay_s):
            world.clock.advance(delay_s)

        monkeypatch.setattr("shared.services.attempts.asyncio.sleep", sleep)
        return world

    return of


class Doorkeeper:
    """Refuses some deployments; everything else is the real health's."""

    def __init__(self, of, **refusals):
        self._admit = of.service._cascade._attempts._health.admit
        self.refusals = refusals
        self.asked = []
        of.service._cascade._attempts._health.admit = self.admit

    async def admit(self, deployment, *, tokens):
        self.asked.append((deployment.id, tokens))
        return self.refusals.get(deployment.id) or await self._admit(deployment, tokens=tokens)


@pytest.mark.parametrize("stream", [False, True])
async def test_four_failures_in_a_row_are_unseen(stream):
    of = world({d.id: [[away()]] for d in (A_EU, A_US, B_EU)} | {A_EU.id: [[away()], [away()]]}, max_attempts=5)
    assert await answer(of, stream=stream) == "Hello"
    assert called(of) == [A_EU.id, A_US.id, B_EU.id, A_EU.id, A_US.id]
    record = await of.record()
    assert [a.number for a in record.attempts] == [1, 2, 3, 4, 5]
    assert [a.outcome for a in record.attempts] == ["provider_unavailable"] * 4 + ["success"]
    assert record.usage == USAGE


async def test_a_retry_after_is_waited_for_on_the_only_deployment(passing):
    of = passing(world({B_EU.id: [[ProviderRateLimited("full", retry_after_s=2.5)]]}, retries=RetryPolicy()))
    reply = await of.service.answer(of.order(constraints=RoutingConstraints(model="b")))
    assert reply.reply.text() == "Hello"
    assert called(of) == [B_EU.id, B_EU.id]
    first, second = reply.record.attempts
    assert 2.5 < (second.started_at - first.started_at).total_seconds() < 2.8
    # A pause is waiting for the vendor, not the router's own time.
    assert reply.record.overhead_ms == pytest.approx(0.0, abs=1e-3)


async def test_a_retry_after_beyond_the_deadline_is_told_at_once():
    of = world({B_EU.id: [[ProviderRateLimited("full", retry_after_s=45.0)]]})
    with pytest.raises(ProviderRateLimited) as caught:
        await answer(of, constraints=RoutingConstraints(model="b"))
    assert caught.value.retry_after_s == 45.0
    assert called(of) == [B_EU.id]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hanging_deployment_leaves_time_for_the_next(stream):
    rules = replace(QUICK, attempt_share=0.001, first_token_timeout_s=0.02)
    of = World(ScriptedProvider({A_EU.id: [[HANG]]}), FAST, retries=rules)
    assert await answer(of, stream=stream) == "Hello"
    assert of.provider.closed == 2
    record = await of.record()
    assert [a.outcome for a in record.attempts] == ["provider_timeout", "success"]
    # The vendor may have read the prompt all the same: what it may bill is estimated, and said to be.
    assert record.attempts[0].usage.estimated
    assert record.attempts[0].cost_usd > 0
    assert record.cost_usd == sum(a.cost_usd for a in record.attempts)


async def test_each_call_is_given_its_own_limits():
    of = world(retries=replace(QUICK, attempt_share=0.5, idle_timeout_s=7.0))
    await answer(of)
    await answer(of, stream=True, request_id="019a0000-0000-7000-8000-000000000002")
    whole, streamed = of.provider.calls
    assert whole.deadline_s == of.clock.monotonic() + 15.0
    assert streamed.deadline_s == of.clock.monotonic() + 30.0
    assert whole.idle_timeout_s == streamed.idle_timeout_s == 7.0


# --- who may be called -----------------------------------------------------------------------------------------------


async def test_a_refused_deployment_is_passed_over_without_an_attempt():
    of = world(max_attempts=1)
    keeper = Doorkeeper(of, **{A_EU.id: Refusal(RefusalReason.BREAKER_OPEN, 3.0)})
    assert await answer(of) == "Hello"
    assert called(of) == [A_US.id]
    assert [deployment_id for deployment_id, _ in keeper.asked] == [A_EU.id, A_US.id]
    assert all(tokens > 0 for _, tokens in keeper.asked)
    assert len((await of.record()).attempts) == 1


@pytest.mark.parametrize(
    ("reason", "kind"), [("requests_quota", ProviderRateLimited), ("cooldown", ProviderUnavailable)]
)
async def test_when_everybody_refuses_the_soonest_return_is_told(reason, kind):
    of = world()
    waits = {A_EU.id: 9.0, A_US.id: 4.0, B_EU.id: 30.0}
    Doorkeeper(of, **{d: Refusal(RefusalReason(reason), wait_s) for d, wait_s in waits.items()})
    with pytest.raises(kind) as caught:
        await answer(of)
    assert caught.value.retry_after_s == pytest.approx(4.0)
    assert called(of) == []
    record = await of.record()
    assert (record.status, record.attempts) == (RequestStatus.ERROR, ())


async def test_health_hears_of_failures_but_not_of_the_callers_faults():
    heard = []
    of = world({A_EU.id: [[away()]], A_US.id: [[ProviderRejected("no")]]})
    health = of.service._cascade._attempts._health
    health.ended = lambda deployment_id, outcome: heard.append((deployment_id, outcome))
    await answer(of)
    assert [(d, o.succeeded) for d, o in heard] == [(A_EU.id, False), (A_US.id, None), (B_EU.id, True)]
    assert heard[0][1].error.vendor_status == "503"
    assert heard[2][1].tokens == USAGE.total_tokens
    assert heard[2][1].reserved_tokens > 0


# --- money -----------------------------------------------------------------------------------------------------------


async def test_all_attempts_together_stay_within_the_caps_worst_case():
    probe = world()
    candidates = probe.service.decide(probe.order()).candidates
    dearest = max(c.worst_case_cost_usd for c in candidates)
    hanging = replace(QUICK, first_token_timeout_s=0.01)
    cap = RoutingConstraints(max_cost_usd=dearest)
    # The first call may have cost something, so no second one of the same price fits beside it.
    of = world({d.id: [[HANG]] * 5 for d in (A_EU, A_US, B_EU)}, retries=hanging)
    with pytest.raises(ProviderTimeout):
        await answer(of, stream=True, constraints=cap)
    assert len(called(of)) == 1
    # A refusal costs nothing: there the next one fits.
    of = world({A_EU.id: [[away()]]})
    assert await answer(of, constraints=cap) == "Hello"


async def test_the_least_cap_of_caller_service_and_rules_binds_and_nothing_is_called_beyond_it():
    capped = Rule("cheap", actions=Actions(cap_cost_usd=Decimal("0.04")))
    service = ServicePolicy(max_cost_usd=Decimal("0.05"))
    of = world(default_service=service, rules=(capped,))
    order = of.order(constraints=RoutingConstraints(max_cost_usd=Decimal("0.06")))
    decision = of.service.decide(order)
    rules = policy(default_service=service, rules=(capped,))
    assert plan_for(order, decision, rules).budget_usd == Decimal("0.04")
    assert plan_for(order, replace(decision, rules=()), rules).budget_usd == Decimal("0.05")
    assert plan_for(order, replace(decision, rules=()), policy()).budget_usd == Decimal("0.06")
    poor = replace(plan_for(order, decision, rules), budget_usd=Decimal("0.0000001"))
    with pytest.raises(BudgetExceeded):
        await of.service._cascade.complete(poor, None, AttemptLog())
    assert called(of) == []


# --- content policy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_empty_filtered_answer_is_the_answer_unless_the_policy_lets_another_model_try(stream):
    of = world({A_EU.id: [BLOCKED]})
    assert await answer(of, stream=stream) == ""
    record = await of.record()
    assert (record.finish_reason, [a.outcome for a in record.attempts]) == ("content_filter", ["success"])

    of = world({A_EU.id: [BLOCKED]}, retries=replace(QUICK, content_filter_fallback=True))
    assert await answer(of, stream=stream) == "Hello"
    assert called(of) == [A_EU.id, B_EU.id]
    record = await of.record()
    assert [a.outcome for a in record.attempts] == ["content_filter", "success"]
    assert record.attempts[0].usage == USAGE
    assert record.finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_when_no_other_model_answers_the_filtered_answer_stands(stream):
    of = world({A_EU.id: [BLOCKED], B_EU.id: [[away()]] * 5}, retries=replace(QUICK, content_filter_fallback=True))
    assert await answer(of, stream=stream) == ""
    record = await of.record()
    assert record.status is RequestStatus.SUCCESS
    assert (record.finish_reason, record.model_used) == ("content_filter", "a")
    assert record.usage == USAGE
    assert record.cost_usd == sum(a.cost_usd for a in record.attempts)


async def test_a_partly_filtered_answer_is_the_callers():
    partly = (TextDelta("so far"), UsageUpdate(USAGE), Finished(FinishReason.CONTENT_FILTER, "SAFETY"))
    of = world({A_EU.id: [partly]}, retries=replace(QUICK, content_filter_fallback=True))
    assert await answer(of) == "so far"
    assert called(of) == [A_EU.id]


@pytest.mark.parametrize(("allowed", "calls"), [(False, [A_EU.id]), (True, [A_EU.id, B_EU.id])])
async def test_a_blocked_request_goes_to_another_model_only_where_allowed(allowed, calls):
    rules = replace(QUICK, content_filter_fallback=allowed)
    of = world({A_EU.id: [[ContentBlocked("blocked")]]}, retries=rules)
    if allowed:
        assert await answer(of) == "Hello"
    else:
        with pytest.raises(ContentBlocked):
            await answer(of)
    assert called(of) == calls


# --- who leaves ------------------------------------------------------------------------------------------------------


async def test_a_caller_who_leaves_a_plain_call_pays_for_what_was_probably_read():
    of = world({A_EU.id: [[HANG]]})
    task = asyncio.create_task(of.service.answer(of.order()))
    async with asyncio.timeout(5.0):
        await of.provider.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = await of.record()
    assert record.status is RequestStatus.CANCELLED
    assert record.usage.estimated
    assert record.usage.input_tokens > 0
    assert record.cost_usd == record.attempts[0].cost_usd > 0
