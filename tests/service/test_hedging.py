"""A second deployment is asked when the first is late: who wins, who pays, and how often it may happen."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from shared.domain.errors import ProviderTimeout, ProviderUnavailable
from shared.domain.policy import Balancing, Preset, RoutingConstraints
from shared.domain.records import RequestStatus
from shared.domain.replies import TextDelta
from shared.domain.resilience import HedgePolicy, RetryPolicy
from shared.domain.security import SecurityLevel
from shared.services.call_plan import plan_for
from shared.services.hedging import Runner, race
from tests.service.routing_doubles import ANSWER, HANG, USAGE, ScriptedProvider, rid
from tests.service.routing_world import A_EU, A_US, B_EU, World
from tests.unit.routing_builders import policy

EAGER = HedgePolicy(services=frozenset({"shop"}), prior_factor=0.001, least_delay_ms=1.0)
PATIENCE_S = 5.0


def away():
    return ProviderUnavailable("away", vendor_status="503")


def world(scripts, **rules):
    rules = {
        "hedging": EAGER,
        "balancing": Balancing(enabled=False),
        "retries": RetryPolicy(backoff_first_s=0.001, backoff_most_s=0.001),
        **rules,
    }
    return World(ScriptedProvider(scripts), **rules)


def called(of):
    return [call.deployment.id for call in of.provider.calls]


async def text_of(of, *, stream, **changes):
    order = of.order(stream=stream, **changes)
    async with asyncio.timeout(PATIENCE_S):
        if not stream:
            return (await of.service.answer(order)).reply.text()
        opened = await of.service.open_stream(order)
        return "".join([event.text async for event in opened.events() if isinstance(event, TextDelta)])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_late_deployment_is_overtaken_cancelled_and_paid(stream):
    of = world({A_EU.id: [[HANG]]})
    assert await text_of(of, stream=stream) == "Hello"
    assert called(of) == [A_EU.id, A_US.id]
    assert of.provider.closed == 2
    record = await of.record()
    assert record.status is RequestStatus.SUCCESS
    assert [(a.number, a.deployment_id, a.outcome) for a in record.attempts] == [
        (1, A_EU.id, "hedge_lost"),
        (2, A_US.id, "success"),
    ]
    # What the vendor may bill for the loser is estimated; the caller's usage is that of the answer.
    assert record.attempts[0].usage.estimated
    assert record.cost_usd == sum(a.cost_usd for a in record.attempts) > record.attempts[1].cost_usd > 0
    assert (record.usage, record.deployment_used) == (USAGE, A_US.id)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_quick_deployment_is_left_alone(stream):
    of = world({}, hedging=replace(EAGER, least_delay_ms=60_000.0))
    assert await text_of(of, stream=stream) == "Hello"
    assert called(of) == [A_EU.id]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_delay_goes_the_usual_way(stream):
    of = world({A_EU.id: [[away()]]}, hedging=replace(EAGER, least_delay_ms=60_000.0))
    assert await text_of(of, stream=stream) == "Hello"
    assert [a.outcome for a in (await of.record()).attempts] == ["provider_unavailable", "success"]


@pytest.mark.parametrize("stream", [False, True])
async def test_when_both_fail_the_next_one_is_asked(stream):
    class Late(ScriptedProvider):
        """The first call fails only once the second has begun."""

        async def stream(self, call):
            async for event in super().stream(call):
                yield event
            if call.deployment.id == A_EU.id:
                await asyncio.wait_for(second.wait(), PATIENCE_S)
                raise away()
            if call.deployment.id == A_US.id:
                second.set()
                raise away()

    second = asyncio.Event()
    provider = Late({A_EU.id: [[]], A_US.id: [[]]})
    of = World(
        provider,
        hedging=EAGER,
        balancing=Balancing(enabled=False),
        retries=RetryPolicy(backoff_first_s=0.001, backoff_most_s=0.001),
    )
    assert await text_of(of, stream=stream) == "Hello"
    record = await of.record()
    assert sorted(a.outcome for a in record.attempts[:2]) == ["provider_unavailable"] * 2
    assert record.attempts[2].deployment_id == B_EU.id


async def test_hedges_are_a_share_of_the_requests():
    requests, share, reserve = 60, 0.1, 2

    class Slow(ScriptedProvider):
        """The first deployment always answers, but later than a hedge would start."""

        async def complete(self, call):
            self.calls.append(call)
            if call.deployment.id == A_EU.id:
                await asyncio.sleep(0.005)
            return ANSWER

    slow = Slow({})
    of = World(slow, hedging=replace(EAGER, share=share, reserve=reserve), balancing=Balancing(enabled=False))
    for number in range(requests):
        await text_of(of, stream=False, request_id=rid(number))
    hedges = sum(d != A_EU.id for d in called(of))
    assert reserve <= hedges <= reserve + share * requests
    assert len(slow.calls) == requests + hedges


async def test_a_caller_who_leaves_ends_both_calls():
    of = world({A_EU.id: [[HANG]], A_US.id: [[HANG]]})
    task = asyncio.create_task(of.service.answer(of.order()))
    async with asyncio.timeout(PATIENCE_S):
        while len(of.provider.calls) < 2:  # noqa: ASYNC110 - a provider has no event for its second call
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert of.provider.closed == 2
    record = await of.record()
    assert record.status is RequestStatus.CANCELLED
    assert [a.outcome for a in record.attempts] == ["cancelled", "cancelled"]


async def test_the_money_of_both_must_fit():
    of = world({A_EU.id: [[HANG]]}, retries=RetryPolicy(attempt_share=0.5))
    worst = max(c.worst_case_cost_usd for c in of.service.decide(of.order()).candidates)
    order = of.order(constraints=RoutingConstraints(max_cost_usd=worst), timeout_s=0.05)
    with pytest.raises(ProviderTimeout):
        await of.service.answer(order)
    assert called(of) == [A_EU.id]


async def test_clearance_binds_on_hedges():
    of = world({A_EU.id: [[HANG]]})
    order = of.order(constraints=RoutingConstraints(residency=frozenset({"eu"}), label=SecurityLevel.CONFIDENTIAL))
    async with asyncio.timeout(PATIENCE_S):
        await of.service.answer(order)
    # The deployment in America is next in line, and not for this content.
    assert called(of) == [A_EU.id, B_EU.id]


def test_who_is_hedged_is_the_policys_word():
    of = world({})
    fast = of.order(constraints=RoutingConstraints(preset=Preset.LATENCY))
    plain = of.order()
    for hedging, expected in (
        (HedgePolicy(), (False, False)),
        (HedgePolicy(presets=frozenset({Preset.LATENCY})), (True, False)),
        (HedgePolicy(services=frozenset({"shop"})), (True, True)),
        (HedgePolicy(services=frozenset({"other"})), (False, False)),
    ):
        rules = policy(hedging=hedging)
        plans = [plan_for(order, of.service.decide(order), rules) for order in (fast, plain)]
        assert tuple(plan.hedging is not None for plan in plans) == expected


class Answered:
    """An answer of a call that nobody makes."""

    def __init__(self):
        self.outcome = None

    async def discard(self, outcome):
        self.outcome = outcome


async def test_of_two_answers_at_once_the_first_deployments_is_taken_and_the_other_is_ended():
    release = asyncio.Event()
    answers = Answered(), Answered()

    async def call(answer):
        await release.wait()
        return answer

    async def second():
        asyncio.get_running_loop().call_soon(release.set)
        return Runner.start(SimpleNamespace(if_cancelled="cancelled"), call(answers[1]))

    first = Runner.start(SimpleNamespace(if_cancelled="cancelled"), call(answers[0]))
    assert await race(first, 0.001, second) is answers[0]
    assert [answer.outcome for answer in answers] == [None, "hedge_lost"]


async def test_a_defect_in_one_call_ends_the_other():
    ended = []

    async def hanging():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def defective():
        raise RuntimeError("bug")

    async def second():
        return Runner.start(SimpleNamespace(if_cancelled="cancelled"), defective())

    with pytest.raises(RuntimeError):
        await race(Runner.start(SimpleNamespace(if_cancelled="cancelled"), hanging()), 0.001, second)
    assert ended == [True]
