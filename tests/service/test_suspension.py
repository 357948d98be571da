"""A request that only suspended deployments may take is told when to come back; any other is told what to mend."""

from dataclasses import replace

import pytest

from shared.domain.errors import NoEligibleModel, ProviderRateLimited, ProviderUnavailable
from shared.domain.health import CallOutcome
from shared.domain.policy import RoutingConstraints
from shared.domain.records import RequestStatus
from tests.service.routing_world import A_EU, A_US, B_EU, World
from tests.unit.routing_builders import ABLE, model, registry

WAITS_S = {A_EU.id: 40.0, A_US.id: 25.0, B_EU.id: 90.0}


def cool(world: World, *deployment_ids: str) -> None:
    health = world.service._shelf._board
    for where in deployment_ids:
        health.started(where)
        busy = ProviderRateLimited("busy", retry_after_s=WAITS_S[where])
        health.ended(where, CallOutcome(succeeded=False, duration_ms=10, ttft_ms=None, error=busy))


async def test_while_one_deployment_is_left_the_others_rest() -> None:
    world = World()
    cool(world, A_EU.id, A_US.id)
    answer = await world.service.answer(world.order())
    assert answer.record.attempts[0].deployment_id == B_EU.id


@pytest.mark.parametrize("ask", ["decide", "answer", "open_stream", "preview"])
async def test_when_all_rest_the_caller_hears_of_the_soonest_return(ask: str) -> None:
    world = World()
    cool(world, *WAITS_S)

    async def asked() -> None:
        outcome = getattr(world.service, ask)(world.order())
        if ask != "decide":
            await outcome

    with pytest.raises(ProviderUnavailable) as told:
        await asked()
    assert told.value.retry_after_s == 25.0
    if ask in {"answer", "open_stream"}:
        record = await world.record()
        assert (record.status, record.error_code) == (RequestStatus.ERROR, "provider_unavailable")


async def test_only_those_that_may_take_the_request_count() -> None:
    world = World()
    cool(world, *WAITS_S)
    in_the_union = RoutingConstraints(residency=frozenset({"eu"}))
    with pytest.raises(ProviderUnavailable) as told:
        await world.service.answer(world.order(constraints=in_the_union))
    assert told.value.retry_after_s == 40.0


async def test_who_could_not_be_served_anyhow_is_not_told_to_come_back() -> None:
    world = World()
    cool(world, *WAITS_S)
    with pytest.raises(NoEligibleModel) as told:
        await world.service.answer(world.order(constraints=RoutingConstraints(max_cost_usd=0)))
    assert told.value.retry_after_s is None


async def test_a_mixture_of_suspended_and_unable_deployments_is_judged_by_the_able_ones() -> None:
    cannot_stream = replace(ABLE, streaming=False)
    world = World(shelf=registry((model("a"), A_US), (model("b", capabilities=cannot_stream), B_EU)))
    cool(world, A_US.id, B_EU.id)
    with pytest.raises(ProviderUnavailable) as told:
        await world.service.open_stream(world.order(stream=True))
    assert told.value.retry_after_s == 25.0
