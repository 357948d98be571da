"""The self-test: one result of each dependency, one of the decision, one of the whole; nothing is called or recorded."""

import asyncio

import pytest

from shared.domain.errors import DependencyUnavailable
from shared.domain.policy import ServicePolicy
from shared.services.readiness import ReadinessService
from shared.services.self_test import SelfTest
from shared.stores.memory import SequentialIds
from tests.service.routing_world import World


class Store:
    """A dependency that answers, or does what it is told."""

    def __init__(self, name, does=None, *, required=False):
        self.name, self.required, self._does = name, required, does

    async def check(self):
        if isinstance(self._does, Exception):
            raise self._does
        if self._does is not None:
            await self._does


AWAY = DependencyUnavailable("does not answer")


async def results_with(world, *stores, either=frozenset()):
    """The results by name: whether it went well, and the message."""
    readiness = ReadinessService(stores, world.clock, either=either)
    await SelfTest(readiness, world.service, world.clock, SequentialIds(), world.telemetry).run()
    return results(world)


def results(world):
    found = {one.name: (one.success, one.message) for one in world.telemetry.availabilities}
    assert len(found) == len(world.telemetry.availabilities)
    return found


async def test_all_is_well():
    world = World()
    found = await results_with(world, Store("postgres"), Store("redis", required=True))
    assert found == {
        "self/postgres": (True, ""),
        "self/redis": (True, ""),
        "self/decision": (True, ""),
        "self/router": (True, "ready"),
    }
    required = {one.name: one.properties for one in world.telemetry.availabilities}
    assert required["self/redis"] == {"required": True}
    assert world.provider.calls == []
    world.writer.start()
    await world.writer.aclose()
    assert world.store.by_id == {}
    assert world.telemetry.spans == []


async def test_an_optional_store_that_is_away_fails_alone():
    found = await results_with(World(), Store("postgres"), Store("redis", AWAY))
    assert found["self/redis"] == (False, "away")
    assert found["self/postgres"] == (True, "")
    assert found["self/router"] == (True, "degraded")


async def test_without_both_stores_that_stand_in_for_each_other_the_router_is_not_available():
    stores = (Store("postgres", AWAY), Store("queue", AWAY), Store("redis"))
    found = await results_with(World(), *stores, either=frozenset({"postgres", "queue"}))
    assert found["self/router"] == (False, "not_ready")
    assert found["self/decision"] == (True, "")


async def test_a_store_that_hangs_is_away_and_its_row_says_how_long_it_was_waited_for(monkeypatch):
    monkeypatch.setattr("shared.services.readiness._LIMIT_S", 0.01)
    found = await results_with(World(), Store("postgres", asyncio.Event().wait(), required=True))
    assert found["self/postgres"] == (False, "away")
    assert found["self/router"] == (False, "not_ready")


async def test_a_request_that_would_find_no_model_fails_the_decision_and_the_whole():
    world = World(default_service=ServicePolicy(allow_models=frozenset({"none-of-these"})))
    found = await results_with(world, Store("postgres"))
    assert found["self/postgres"] == (True, "")
    assert found["self/decision"] == (False, "no_eligible_model")
    assert found["self/router"] == (False, "no_eligible_model")
    assert world.provider.calls == []


@pytest.mark.parametrize("is_probe", [True, False])
async def test_a_defect_is_raised_for_the_job_to_trace_once_everything_was_told(monkeypatch, is_probe):
    world = World()
    defect = KeyError("canary-4711")
    if not is_probe:

        def broken(order):
            raise defect

        monkeypatch.setattr(world.service, "decide", broken)
    with pytest.raises(KeyError):
        await results_with(world, Store("postgres", defect if is_probe else None))
    found = results(world)
    assert found["self/router"] == (False, "internal_error")
    assert found["self/decision"] == ((True, "") if is_probe else (False, "internal_error"))
    assert "canary" not in str(world.telemetry.availabilities)
