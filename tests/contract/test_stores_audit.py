"""The audit trail's chains: what `AuditStore` promises, held by Azure Tables and by its twin; and that tampering shows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.domain.audit import (
    AuditEvent,
    AuditOutcome,
    AuditQuery,
    chain_name,
    empty_head,
    first_fault,
    head_after,
    network_of,
    placed,
    user_agent_digest,
)
from shared.domain.errors import DependencyUnavailable, InternalError
from shared.services.audit import AuditTrail
from shared.stores.audit import MemoryAuditStore, TableAuditStore
from shared.stores.memory import ManualClock
from shared.stores.tables import open_table
from shared.telemetry.recording import RecordingTelemetry

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def event(n=0, **changes):
    known = AuditEvent(
        id=f"019a0000-0000-7000-8000-{n:012d}",
        at=NOON + timedelta(seconds=n),
        tenant_id="tenant-1",
        actor="p-1",
        service="shop",
        action="config.write",
        resource="config",
        outcome=AuditOutcome.SUCCEEDED,
        request_id="r-1",
    )
    return replace(known, **changes)


def query(**changes):
    known = AuditQuery("tenant-1", NOON - timedelta(days=2), NOON + timedelta(days=2))
    return replace(known, **changes)


def rows_after(head, *events):
    rows = []
    for one in events:
        rows.append(placed(one, head))
        head = head_after(rows[-1])
    return rows


@pytest.fixture(params=["table", "memory"])
async def store(request):
    if request.param == "memory":
        yield MemoryAuditStore()
        return
    azurite = request.getfixturevalue("azurite")
    table = TableAuditStore(open_table(f"audit{uuid4().hex}", connection_string=azurite.connection_string))
    yield table
    await table.aclose()


async def walk(store, since=NOON - timedelta(days=2), until=NOON + timedelta(days=2)):
    return {chain: (list(rows), head) async for chain, rows, head in store.chains(since, until)}


async def test_what_is_appended_is_there_in_order_with_its_head(store):
    start = empty_head(chain_name("w", NOON))
    first = rows_after(start, event(1), event(2))
    await store.append(first, after=start)
    second = rows_after(head_after(first[-1]), event(3, outcome=AuditOutcome.DENIED, code="forbidden"))
    await store.append(second, after=head_after(first[-1]))
    rows, head = (await walk(store))[start.chain]
    assert rows == [*first, *second]
    assert head == head_after(second[-1])
    assert first_fault(start.chain, rows, head) is None


async def test_the_same_rows_again_are_written_once(store):
    start = empty_head(chain_name("w", NOON))
    rows = rows_after(start, event(1), event(2))
    await store.append(rows, after=start)
    await store.append(rows, after=start)
    assert len((await walk(store))[start.chain][0]) == 2


async def test_a_chain_that_somebody_else_wrote_is_not_continued(store):
    start = empty_head(chain_name("w", NOON))
    await store.append(rows_after(start, event(1)), after=start)
    with pytest.raises(InternalError):
        await store.append(rows_after(start, event(2)), after=start)


async def test_events_are_found_newest_first_over_writers_and_days(store):
    for writer, events in {"a": (event(1), event(4)), "b": (event(2), event(3))}.items():
        start = empty_head(chain_name(writer, NOON))
        await store.append(rows_after(start, *events), after=start)
    yesterday = event(0, at=NOON - timedelta(days=1))
    start = empty_head(chain_name("a", yesterday.at))
    await store.append(rows_after(start, yesterday, event(9, tenant_id="tenant-2", at=yesterday.at)), after=start)
    found = await store.events(query())
    assert [one.id[-1] for one in found] == ["4", "3", "2", "1", "0"]
    assert [one.id[-1] for one in await store.events(query(limit=2))] == ["4", "3"]
    last = found[1]
    assert [one.id[-1] for one in await store.events(query(before=(last.at, last.id)))] == ["2", "1", "0"]


@pytest.mark.parametrize(
    "wanted",
    [{"actor": "p-2"}, {"action": "login"}, {"outcome": AuditOutcome.DENIED}, {"since": NOON + timedelta(seconds=5)}],
)
async def test_each_filter_restricts(store, wanted):
    start = empty_head(chain_name("a", NOON))
    other = event(6, actor="p-2", action="login", outcome=AuditOutcome.DENIED)
    await store.append(rows_after(start, event(1), other, event(2)), after=start)
    assert [one.id for one in await store.events(query(**wanted))] == [other.id]


async def test_days_past_their_retention_are_forgotten_whole(store):
    for days in (3, 0):
        start = empty_head(chain_name("a", NOON - timedelta(days=days)))
        await store.append(rows_after(start, event(1), event(2)), after=start)
    assert await store.forget_before(NOON) == 3
    assert list(await walk(store, since=NOON - timedelta(days=5))) == [chain_name("a", NOON)]


async def test_an_empty_trail_is_no_fault(store):
    assert await store.events(query()) == []
    assert await walk(store) == {}
    assert await store.forget_before(NOON) == 0


# --- tampering -------------------------------------------------------------------------------------------------------

START = empty_head(chain_name("w", NOON))
ROWS = rows_after(START, event(1), event(2), event(3))
HEAD = head_after(ROWS[-1])
FORGED = placed(event(2, actor="p-9"), head_after(ROWS[0]))


@pytest.mark.parametrize(
    ("rows", "head", "sequence"),
    [
        ([ROWS[0], replace(ROWS[1], body=ROWS[1].body.replace("p-1", "p-9")), ROWS[2]], HEAD, 2),
        ([ROWS[0], FORGED, ROWS[2]], HEAD, 3),
        ([ROWS[0], ROWS[2]], HEAD, 2),
        (ROWS[1:], HEAD, 1),
        (ROWS[:2], HEAD, 3),
        (ROWS, None, 4),
        (ROWS, head_after(FORGED), 3),
        ([*ROWS[:2], rows_after(head_after(ROWS[1]), event(7))[0]], HEAD, 3),
        ([], HEAD, 1),
        ([*rows_after(replace(START, chain="other"), event(1))], head_after(ROWS[0]), 1),
        ([replace(ROWS[0], sequence=2), *ROWS[1:]], HEAD, 1),
    ],
)
def test_every_alteration_names_the_first_row_that_does_not_hold(rows, head, sequence):
    fault = first_fault(START.chain, rows, head)
    assert fault is not None
    assert fault.sequence == sequence


def test_an_untouched_chain_holds():
    assert first_fault(START.chain, ROWS, HEAD) is None
    assert first_fault(START.chain, [], START) is None


def test_the_trail_holds_networks_and_digests_instead_of_people():
    assert network_of("203.0.113.77") == "203.0.113.0/24"
    assert network_of("2001:db8:1:2::7") == "2001:db8:1::/48"
    assert network_of("nonsense") == "unknown"
    assert user_agent_digest("") == ""
    assert len(user_agent_digest("curl/8")) == 16


# --- the writer ------------------------------------------------------------------------------------------------------


class World:
    def __init__(self, store):
        self.clock, self.telemetry, self.store = ManualClock(NOON), RecordingTelemetry(), store
        self.trail = AuditTrail(store, self.clock, self.telemetry, writer=uuid4().hex)


@pytest.fixture
async def world(store):
    world = World(store)
    yield world
    await world.trail.aclose()


async def test_what_is_recorded_is_written_when_the_call_returns(world):
    await world.trail.record(event(1))
    page = await world.trail.page(query(limit=1))
    assert [one.id for one in page.events] == [event(1).id]
    assert page.has_more is False
    verified = await world.trail.verify(query())
    assert (verified.intact, verified.rows) == (True, 1)


async def test_the_chain_goes_on_over_many_writes_and_starts_anew_each_day(world):
    for n in range(200):
        world.trail.note(event(n))
        world.clock.advance(1)
    await world.trail.record(event(200))
    world.clock.advance(86_400)
    await world.trail.record(event(201))
    verified = await world.trail.verify(query())
    assert (verified.intact, verified.chains, verified.rows) == (True, 2, 202)


async def test_a_flood_of_refusals_is_counted_instead_of_written(world):
    for n in range(1000):
        world.trail.note(event(n, outcome=AuditOutcome.DENIED, code="unauthenticated"))
    world.clock.advance(61)
    world.trail.note(event(1000, outcome=AuditOutcome.DENIED, code="unauthenticated"))
    await world.trail.record(event(1001))
    found = (await world.trail.page(query(limit=500))).events
    assert len(found) == 122
    assert sum(one.suppressed for one in found) == 880


async def test_while_the_store_is_away_nothing_is_done_unaudited(monkeypatch):
    monkeypatch.setattr("shared.services.audit._DEADLINE_S", 0.05)
    monkeypatch.setattr("shared.services.audit._RETRY_S", 0.01)
    world = World(MemoryAuditStore())
    world.store.away = True
    world.trail.note(event(1))
    with pytest.raises(DependencyUnavailable):
        await world.trail.record(event(2))
    world.store.away = False
    await world.trail.record(event(3))
    assert [one.id[-1] for one in (await world.trail.page(query())).events] == ["3", "2", "1"]
    await world.trail.aclose()


async def test_a_broken_chain_is_reported(world):
    if not isinstance(world.store, MemoryAuditStore):
        pytest.skip("rows are altered in the twin")
    await world.trail.record(event(1))
    (rows,) = world.store.rows.values()
    rows[0] = replace(rows[0], body=rows[0].body.replace("p-1", "p-9"))
    verified = await world.trail.verify(query())
    assert verified.intact is False
    assert verified.faults[0].sequence == 1
    assert any(line.event == "audit_chain_broken" for line in world.telemetry.logs)
