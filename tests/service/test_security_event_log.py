"""Security events on their way: counted as one when alike, bounded, never in the way, and honest about what is lost."""

import asyncio

import pytest

from shared.domain.errors import InternalError
from shared.domain.identity import Principal, RouterRole
from shared.domain.security_events import SecurityEventKind
from shared.services import security_events
from shared.services.security_events import SecurityEventLog
from shared.stores.memory import ManualClock
from shared.stores.memory_security import MemorySecurityEvents
from shared.telemetry.recording import RecordingTelemetry
from tests.security_builders import event

CALLER = Principal("p-1", "tenant-1", "shop", frozenset({RouterRole.SERVICE, RouterRole.ANALYST}))


class World:
    def __init__(self, linger_s=0.0):
        self.store, self.clock, self.telemetry = MemorySecurityEvents(), ManualClock(), RecordingTelemetry()
        self.log = SecurityEventLog(self.store, self.clock, self.telemetry, linger_s=linger_s)

    @property
    def rows(self):
        return list(self.store.by_id.values())

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the store of the test has nothing to wait on
                await asyncio.sleep(0.005)


async def test_events_that_are_alike_within_a_moment_are_one_row_with_their_number():
    world = World(linger_s=5.0)
    for n in range(10_000):
        world.log.note(event(n, resource=f"GET r{n % 2}"))
    await world.log.aclose()
    assert sorted((row.resource, row.count) for row in world.rows) == [("GET r0", 5_000), ("GET r1", 5_000)]
    assert world.telemetry.counted("security_events", kind="permission_denied") == 10_000


@pytest.mark.parametrize("field", ["tenant_id", "actor", "service", "resource", "network", "code", "target"])
async def test_events_that_differ_in_what_matters_are_rows_of_their_own(field):
    world = World(linger_s=5.0)
    world.log.note(event())
    world.log.note(event(**{field: "another"}))
    world.log.note(event(kind=SecurityEventKind.INJECTION))
    await world.log.aclose()
    assert [row.count for row in world.rows] == [1, 1, 1]


async def test_events_are_written_behind_the_response_without_being_asked():
    world = World()
    world.log.note(event())
    await world.until(lambda: world.rows)
    world.log.note(event(1))
    await world.until(lambda: len(world.rows) == 2)
    await world.log.aclose()


async def test_a_flood_of_different_events_is_bounded_and_the_rest_counted(monkeypatch):
    monkeypatch.setattr(security_events, "_MOST_WAITING", 10)
    world = World(linger_s=5.0)
    for n in range(25):
        world.log.note(event(n, actor=f"p-{n}"))
    await world.log.aclose()
    assert len(world.rows) == 10
    assert world.telemetry.counted("security_events_dropped", kind="permission_denied") == 15


async def test_while_the_database_is_away_events_wait_and_nothing_is_doubled(monkeypatch):
    monkeypatch.setattr(security_events, "_RETRY_S", 0.005)
    world = World()
    insert, calls = world.store.insert, []

    async def lost_answer(events, sightings):
        calls.append(events)
        if len(calls) == 1:
            world.store.away = True  # written, but nobody hears of it
            world.store.by_id |= {one.id: one for one in events}
        await insert(events, sightings)

    world.store.insert = lost_answer
    world.log.note(event())
    await world.until(lambda: len(calls) > 2)
    world.log.note(event())
    world.store.away = False
    await world.log.aclose()
    assert [row.count for row in world.rows] == [1, 1]


async def test_what_the_database_will_not_take_at_the_end_is_counted_as_lost():
    world = World(linger_s=5.0)
    world.store.away = True
    for n in range(3):
        world.log.note(event(n, actor=f"p-{n}"))
    await world.log.aclose()
    assert world.telemetry.counted("security_events_dropped") == 3
    assert world.telemetry.events()["security_events_lost"] == [{"reason": "closing", "count": 3}]


async def test_what_the_database_refuses_for_good_does_not_hold_up_what_follows():
    world = World()
    insert = world.store.insert

    async def choosy(events, sightings):
        if any(one.actor == "bad" for one in events):
            raise InternalError("the database refused a value")
        await insert(events, sightings)

    world.store.insert = choosy
    world.log.note(event(actor="bad"))
    await world.until(lambda: world.telemetry.counted("security_events_dropped"))
    world.log.note(event())
    await world.log.aclose()
    assert [row.actor for row in world.rows] == ["p-1"]


async def test_a_principal_is_seen_once_for_each_network_with_its_number_of_calls():
    world = World()
    first = world.clock.now()
    for _ in range(5):
        world.clock.advance(1)
        world.log.saw(CALLER, "203.0.113.0/24")
    world.log.saw(CALLER, "198.51.100.0/24")
    await world.log.aclose()
    seen = {one.network: one for one in world.store.seen}
    assert (len(world.store.seen), seen["203.0.113.0/24"].requests) == (2, 5)
    assert seen["203.0.113.0/24"].roles == ("Router.Analyst", "Router.Service")
    assert first < seen["203.0.113.0/24"].first_at < seen["203.0.113.0/24"].last_at


async def test_sightings_of_too_many_are_bounded(monkeypatch):
    monkeypatch.setattr(security_events, "_MOST_WAITING", 3)
    world = World()
    for n in range(9):
        world.log.saw(CALLER, f"n-{n}")
    await world.log.aclose()
    assert (len(world.store.seen), world.telemetry.counted("sightings_dropped")) == (3, 6)


async def test_closing_without_having_begun_is_quiet():
    world = World()
    await world.log.aclose()
    assert world.telemetry.logs == []
