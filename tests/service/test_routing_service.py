import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from shared.domain.chat import ChatRequest, Message, ReasoningEffort, Role, TextPart
from shared.domain.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    ModelNotFound,
    NoEligibleModel,
    ProviderBadResponse,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RetryScope,
    UnsupportedFeature,
)
from shared.domain.policy import CallerLimits, Preset, RoutingConstraints
from shared.domain.records import RequestStatus
from shared.domain.replies import Finished, FinishReason, TextDelta
from shared.domain.rules import Actions, Condition, Rule
from shared.domain.security import SecurityLevel
from tests.service.routing_doubles import ANSWER, HANG, USAGE, ScriptedProvider, rid
from tests.service.routing_world import A_EU, A_US, B_EU, World


def unavailable():
    return ProviderUnavailable("away", vendor_status="503")


async def test_an_answer_its_decision_and_its_record():
    world = World()
    answer = await world.service.answer(world.order(tags=(("team", "x"),)))
    assert answer.reply.text() == "Hello"
    assert answer.decision.chosen.deployment == A_EU
    # 10 tokens in at 1 USD and 4 out at 4 USD per million
    assert answer.cost_usd == Decimal("0.000026")
    record = await world.record()
    assert record.status is RequestStatus.SUCCESS
    assert (record.model_used, record.deployment_used, record.provider) == ("a", A_EU.id, "gemini")
    assert (record.tenant_id, record.service_name, record.tags) == ("tenant-1", "shop", (("team", "x"),))
    assert record.usage == USAGE
    assert record.cost_usd == answer.cost_usd
    assert [a.outcome for a in record.attempts] == ["success"]
    # Two deployments of the model are equal.
    assert record.propensity == 0.5


async def test_failures_go_to_the_next_deployment_and_then_to_the_next_model():
    provider = ScriptedProvider({A_EU.id: [[unavailable()]], A_US.id: [[ProviderRateLimited("full")]]})
    world = World(provider)
    answer = await world.service.answer(world.order())
    assert [c.deployment.id for c in provider.calls] == [A_EU.id, A_US.id, B_EU.id]
    assert answer.record.model_used == "b"
    record = await world.record()
    assert [a.outcome for a in record.attempts] == ["provider_unavailable", "provider_rate_limited", "success"]
    assert record.attempts[0].vendor_status == "503"


async def test_other_model_errors_skip_the_models_other_deployments():
    provider = ScriptedProvider({A_EU.id: [[ProviderRejected("no")]]})
    world = World(provider)
    await world.service.answer(world.order())
    assert [c.deployment.id for c in provider.calls] == [A_EU.id, B_EU.id]


async def test_errors_that_are_nobodys_to_retry_end_at_once():
    provider = ScriptedProvider({A_EU.id: [[ProviderRejected("no", scope=RetryScope.NEVER)]]})
    world = World(provider)
    with pytest.raises(ProviderRejected):
        await world.service.answer(world.order())
    record = await world.record()
    assert (record.status, record.error_code) == (RequestStatus.ERROR, "provider_rejected")
    assert len(record.attempts) == 1


async def test_attempts_are_bounded_by_the_policy():
    provider = ScriptedProvider({d.id: [[unavailable()]] for d in (A_EU, A_US, B_EU)})
    world = World(provider, max_attempts=2)
    with pytest.raises(ProviderUnavailable):
        await world.service.answer(world.order())
    assert len(provider.calls) == 2


async def test_the_only_deployment_is_tried_again_when_that_can_help():
    provider = ScriptedProvider({B_EU.id: [[unavailable()]]})
    world = World(provider)
    answer = await world.service.answer(world.order(constraints=RoutingConstraints(model="b")))
    assert answer.reply.text() == "Hello"
    assert [c.deployment.id for c in provider.calls] == [B_EU.id, B_EU.id]


async def test_a_pinned_model_never_becomes_another_unless_allowed():
    provider = ScriptedProvider({A_EU.id: [[unavailable()]] * 3, A_US.id: [[ProviderTimeout("late")]] * 2})
    world = World(provider)
    with pytest.raises(ProviderUnavailable):
        await world.service.answer(world.order(constraints=RoutingConstraints(model="a-latest")))
    # Both deployments, then the first one once more.
    assert [c.deployment.id for c in provider.calls] == [A_EU.id, A_US.id, A_EU.id]
    allowed = RoutingConstraints(model="a-latest", allow_fallback=True)
    answer = await world.service.answer(world.order(constraints=allowed, request_id=rid(2)))
    assert answer.record.model_used == "b"


async def test_no_time_left_means_no_call():
    world = World()
    late = world.order(timeout_s=5.0)
    world.clock.advance(6.0)
    with pytest.raises(DeadlineExceeded):
        await world.service.answer(late)
    assert world.provider.calls == []
    assert (await world.record()).error_code == "deadline_exceeded"


async def test_a_call_that_outlives_the_deadline_is_cut_off():
    provider = ScriptedProvider({A_EU.id: [[HANG]]})
    world = World(provider, max_attempts=1)
    with pytest.raises(ProviderTimeout):
        await world.service.answer(world.order(timeout_s=0.01))
    assert provider.closed == 1
    assert (await world.record()).attempts[0].outcome == "provider_timeout"


async def test_a_defect_leaves_a_record_too():
    provider = ScriptedProvider({A_EU.id: [[RuntimeError("bug")]]})
    world = World(provider)
    with pytest.raises(RuntimeError):
        await world.service.answer(world.order())
    record = await world.record()
    assert (record.status, record.error_code) == (RequestStatus.ERROR, InternalError.code)


async def test_a_cancelled_request_is_recorded_as_such():
    provider = ScriptedProvider({A_EU.id: [[HANG]]})
    world = World(provider)
    task = asyncio.create_task(world.service.answer(world.order()))
    await provider.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = await world.record()
    assert record.status is RequestStatus.CANCELLED
    assert [a.outcome for a in record.attempts] == ["cancelled"]


@pytest.mark.parametrize(
    ("constraints", "error", "param"),
    [
        (RoutingConstraints(model="nope"), ModelNotFound, "model"),
        (RoutingConstraints(label=SecurityLevel.RESTRICTED), NoEligibleModel, None),
        (RoutingConstraints(model="a", label=SecurityLevel.RESTRICTED), NoEligibleModel, "model"),
        (RoutingConstraints(residency=frozenset({"asia"})), NoEligibleModel, None),
    ],
)
async def test_refusals_name_what_stood_in_the_way(constraints, error, param):
    world = World()
    with pytest.raises(error) as caught:
        await world.service.answer(world.order(constraints=constraints))
    assert caught.value.param == param
    assert world.provider.calls == []
    with pytest.raises(error):
        world.service.decide(world.order(constraints=constraints))


async def test_what_a_named_model_cannot_carry_is_told_with_its_field():
    world = World(ScriptedProvider(refuses="top_k"))
    with pytest.raises(UnsupportedFeature) as caught:
        await world.service.answer(world.order(constraints=RoutingConstraints(model="a")))
    assert caught.value.param == "top_k"
    request = ChatRequest((Message(Role.USER, (TextPart("x"),)),), max_output_tokens=9_000)
    with pytest.raises(UnsupportedFeature) as caught:
        await World().service.answer(world.order(request=request, constraints=RoutingConstraints(model="a")))
    assert caught.value.param == "max_tokens"


async def test_a_dry_run_calls_and_records_nothing():
    world = World()
    decision = world.service.decide(world.order(constraints=RoutingConstraints(preset=Preset.COST)))
    assert decision.chosen.propensity == 0.5
    assert world.provider.calls == []
    assert world.journal.recover() == []


def effortful(**changes):
    rule = Rule(name="think", priority=1, when=Condition(), actions=Actions(effort=ReasoningEffort.HIGH, **changes))
    return World(rules=(rule,))


async def test_a_rules_effort_reaches_the_call_unless_the_caller_set_one():
    world = effortful()
    answer = await world.service.answer(world.order())
    assert answer.decision.rules == ("think",)
    assert world.provider.calls[-1].request.reasoning_effort is ReasoningEffort.HIGH
    asked = replace(world.order().request, reasoning_effort=ReasoningEffort.LOW)
    await world.service.answer(world.order(request=asked, request_id=rid(2)))
    assert world.provider.calls[-1].request.reasoning_effort is ReasoningEffort.LOW


async def test_a_model_that_takes_no_effort_is_called_without():
    world = effortful()
    original = world.provider.check

    def check(request, profile, where):
        original(request, profile, where)
        if request.reasoning_effort is not None:
            raise UnsupportedFeature("does not think", param="reasoning_effort")

    world.provider.check = check
    await world.service.answer(world.order())
    assert world.provider.calls[-1].request.reasoning_effort is None


async def test_what_the_policy_does_not_leave_to_callers_is_refused_by_field():
    world = World(limits=CallerLimits(pin=False))
    with pytest.raises(InvalidRequest) as caught:
        await world.service.answer(world.order(constraints=RoutingConstraints(model="a")))
    assert (caught.value.code, caught.value.param) == ("policy_limit", "model")


# --- streams ---------------------------------------------------------------------------------------------------------


async def drain(answer):
    return [event async for event in answer.events()]


async def test_a_stream_passes_every_event_and_is_recorded_at_its_end():
    world = World()
    answer = await world.service.open_stream(world.order(stream=True))
    assert answer.attempts == 1
    assert await drain(answer) == list(ANSWER)
    assert answer.attempts == 1
    assert answer.cost_usd == Decimal("0.000026")
    record = await world.record()
    assert (record.status, record.stream, record.usage) == (RequestStatus.SUCCESS, True, USAGE)
    assert record.finish_reason == "stop"


async def test_before_the_first_content_another_deployment_takes_over_unseen():
    provider = ScriptedProvider({A_EU.id: [[TextDelta(""), unavailable()]]})
    world = World(provider)
    answer = await world.service.open_stream(world.order(stream=True))
    assert answer.served.deployment == A_US
    assert await drain(answer) == list(ANSWER)
    assert [a.outcome for a in (await world.record()).attempts] == ["provider_unavailable", "success"]


async def test_a_stream_that_ends_before_it_began_is_a_failure():
    provider = ScriptedProvider({d.id: [[]] * 2 for d in (A_EU, A_US, B_EU)})
    world = World(provider)
    with pytest.raises(ProviderUnavailable):
        await world.service.open_stream(world.order(stream=True))
    assert (await world.record()).status is RequestStatus.ERROR


async def test_after_the_first_content_a_failure_is_the_callers_to_see_and_is_billed():
    long_text = "x" * 400
    provider = ScriptedProvider({A_EU.id: [[TextDelta(long_text), ProviderBadResponse("broken")]]})
    world = World(provider)
    answer = await world.service.open_stream(world.order(stream=True))
    with pytest.raises(ProviderBadResponse):
        await drain(answer)
    record = await world.record()
    assert (record.status, record.error_code) == (RequestStatus.ERROR, "provider_bad_response")
    assert record.usage.estimated
    assert record.usage.output_tokens == 100
    assert record.usage.input_tokens > 0
    assert record.cost_usd > 0
    assert provider.closed == 1


@pytest.mark.parametrize("read", [0, 1, 2])
async def test_a_caller_who_leaves_ends_the_call_and_pays_for_what_came(read):
    provider = ScriptedProvider({A_EU.id: [[TextDelta("some words"), TextDelta(" more"), HANG]]})
    world = World(provider)
    answer = await world.service.open_stream(world.order(stream=True))
    events = answer.events()
    for _ in range(read):
        await anext(events)
    await events.aclose()
    await answer.abandon()
    assert provider.closed == 1
    record = await world.record()
    assert record.status is RequestStatus.CANCELLED
    assert record.usage.output_tokens > 0
    assert record.attempts[0].outcome == "cancelled"


async def test_a_defect_in_a_stream_is_an_error_in_the_ledger():
    world = World(ScriptedProvider({A_EU.id: [[TextDelta("Hel"), RuntimeError("bug")]]}))
    answer = await world.service.open_stream(world.order(stream=True))
    with pytest.raises(RuntimeError):
        await drain(answer)
    record = await world.record()
    assert (record.status, record.error_code) == (RequestStatus.ERROR, InternalError.code)


async def test_an_answer_without_content_still_finishes():
    provider = ScriptedProvider({A_EU.id: [[Finished(FinishReason.CONTENT_FILTER, "SAFETY", "hate")]]})
    world = World(provider)
    answer = await world.service.open_stream(world.order(stream=True))
    assert await drain(answer) == [Finished(FinishReason.CONTENT_FILTER, "SAFETY", "hate")]
    assert (await world.record()).finish_reason == "content_filter"


async def test_failing_deployments_lose_their_lead():
    provider = ScriptedProvider({A_EU.id: [[unavailable()] for _ in range(8)]})
    world = World(provider)
    for number in range(8):
        await world.service.answer(world.order(request_id=rid(number)))
    assert provider.calls[-1].deployment.id == A_US.id
    assert world.service.decide(world.order()).chosen.deployment == A_US
