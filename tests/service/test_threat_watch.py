"""The watch over threats: attacks become findings once, are told, and stand until somebody deals with them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.errors import Conflict, DependencyUnavailable, NotFound
from shared.domain.security_events import (
    DEFAULT_THREAT_RULES,
    FindingQuery,
    FindingState,
    Measurement,
    SecurityEventKind,
    Severity,
    ThreatSignal,
)
from shared.services.threats import ThreatWatch
from shared.stores.memory import ManualClock
from shared.stores.memory_security import MemorySecurityEvents, MemoryThreats
from shared.telemetry.recording import RecordingTelemetry
from tests.security_builders import NOON, event, rule, sighting
from tests.unit.routing_builders import policy

KIND = SecurityEventKind
NETWORK = "203.0.113.0/24"


class World:
    def __init__(self, rules=DEFAULT_THREAT_RULES):
        self.clock, self.telemetry = ManualClock(NOON), RecordingTelemetry()
        self.events = MemorySecurityEvents()
        self.store = MemoryThreats(self.events)
        self.rules = rules
        self.watch = ThreatWatch(
            self.store, self.events, lambda: policy(threats=self.rules), self.clock, self.telemetry
        )

    async def saw(self, *events, sightings=()):
        await self.events.insert(events, sightings)

    async def findings(self):
        found = await self.store.findings(FindingQuery("tenant-1"))
        return {finding.rule: finding for finding in found}


def stuffing():
    return [event(-n, kind=KIND.LOGIN_FAILED, actor="anonymous", target=f"account-{n}") for n in range(1, 8)]


def probing():
    return [event(-n, resource=f"POST config/{n}") for n in range(1, 6)]


def sharing():
    at = NOON - timedelta(hours=1)
    return [sighting(network=f"198.51.{n}.0/24", last_at=at) for n in range(12)]


async def test_credential_stuffing_is_found_for_its_network():
    world = World()
    await world.saw(*stuffing())
    assert await world.watch.look() == 1
    found = (await world.findings())["credential-stuffing"]
    assert (found.subject, found.value, found.severity) == (NETWORK, 7, Severity.HIGH)


async def test_privilege_probing_key_sharing_and_token_theft_are_found_for_their_principal():
    world = World()
    await world.saw(*probing(), event(-1, kind=KIND.REFRESH_TOKEN_REUSED), sightings=sharing())
    await world.watch.look()
    found = await world.findings()
    assert set(found) == {"privilege-probing", "key-sharing", "refresh-token-reuse"}
    assert {one.subject for one in found.values()} == {"p-1"}


async def test_volume_far_above_ones_own_is_found_and_usual_volume_is_not():
    world = World()
    million = Measurement("tenant-1", "p-1", 1_000_000, NOON, 50_000.0)
    world.store.usage = {
        ThreatSignal.OUTPUT_TOKENS: [million, replace(million, subject="p-2", baseline=900_000.0)],
        ThreatSignal.REQUESTS: [replace(million, subject="p-3", baseline=None)],
    }
    await world.watch.look()
    found = await world.findings()
    assert {name: one.subject for name, one in found.items()} == {"exfiltration-tokens": "p-1"}
    assert found["exfiltration-tokens"].baseline == 50_000.0


async def test_an_ordinary_day_finds_nothing():
    world = World()
    usual = [event(-n, kind=KIND.LOGIN_FAILED, target="account-1") for n in range(1, 5)]
    denied = [event(-n * 60) for n in range(30)]
    await world.saw(*usual, *denied, sightings=sharing()[:4])
    assert await world.watch.look() == 0
    assert world.telemetry.logs == []


async def test_looking_again_tells_nothing_new_and_changes_nothing():
    world = World()
    await world.saw(*stuffing())
    first = await world.watch.look()
    before = dict(world.store.by_id)
    assert [first, await world.watch.look(), await world.watch.look()] == [1, 0, 0]
    assert world.store.by_id == before
    assert len(world.telemetry.events()["threat_found"]) == 1


async def test_a_finding_is_told_by_telemetry_without_naming_anybody():
    world = World()
    await world.saw(*probing())
    await world.watch.look()
    (line,) = world.telemetry.events()["threat_found"]
    assert (line["rule"], line["severity"], line["value"], line["threshold"]) == ("privilege-probing", "high", 5, 4)
    assert "p-1" not in str(world.telemetry.logs)
    assert world.telemetry.counted("threat_findings", rule="privilege-probing", severity="high") == 1


async def test_a_watch_that_dies_between_finding_and_telling_is_made_up_for():
    world = World()
    await world.saw(*probing())

    async def dies():
        raise KeyboardInterrupt

    untold, world.store.untold = world.store.untold, dies
    with pytest.raises(KeyboardInterrupt):
        await world.watch.look()
    world.store.untold = untold
    world.clock.advance(7_200)  # the window is over by now
    assert await world.watch.look() == 1


async def test_rules_are_the_policys_and_may_be_switched_off():
    world = World((rule(ThreatSignal.DENIED_RESOURCES, 5), rule(ThreatSignal.INJECTIONS, 1, enabled=False)))
    await world.saw(*probing(), event(-1, kind=KIND.INJECTION))
    await world.watch.look()
    assert set(await world.findings()) == {"denied-resources"}
    assert world.store.added_up == 0
    world.rules = ()
    assert await world.watch.look() == 0


async def test_a_finding_is_acknowledged_resolved_and_not_moved_back():
    world = World()
    await world.saw(*probing())
    await world.watch.look()
    (found,) = (await world.findings()).values()

    async def move(state, by="admin-1"):
        return await world.watch.move(found.id, state, tenant_id="tenant-1", by=by, note="seen")

    before, after = await move(FindingState.ACKNOWLEDGED)
    assert (before.state, after.state, after.changed_by, after.note) == ("open", "acknowledged", "admin-1", "seen")
    with pytest.raises(Conflict, match="acknowledged already"):
        await move(FindingState.ACKNOWLEDGED)
    await world.watch.look()
    assert (await world.findings())["privilege-probing"].state is FindingState.ACKNOWLEDGED
    await move(FindingState.RESOLVED)
    with pytest.raises(Conflict, match="resolved already"):
        await move(FindingState.ACKNOWLEDGED)


async def test_another_tenants_finding_cannot_be_moved():
    world = World()
    await world.saw(*probing())
    await world.watch.look()
    (found,) = (await world.findings()).values()
    with pytest.raises(NotFound):
        await world.watch.move(found.id, FindingState.RESOLVED, tenant_id="tenant-2", by="x", note="")


async def test_who_is_slower_is_told_so():
    world = World()
    await world.saw(*probing())
    await world.watch.look()
    (found,) = (await world.findings()).values()

    async def lost(*_, **__):
        return False

    world.store.move = lost
    with pytest.raises(Conflict, match="meanwhile"):
        await world.watch.move(found.id, FindingState.RESOLVED, tenant_id="tenant-1", by="x", note="")


async def test_without_the_store_the_timer_fails_loudly():
    world = World()
    world.store.away = True
    with pytest.raises(DependencyUnavailable):
        await world.watch.look()
