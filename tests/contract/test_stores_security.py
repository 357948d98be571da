"""Security events, sightings, threats and findings: what the ports promise, held by PostgreSQL and by the twins."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from infra.local.services import Postgres
from shared.domain.errors import DependencyUnavailable
from shared.domain.security_events import (
    EventQuery,
    FindingQuery,
    FindingState,
    Measurement,
    SecurityEvent,
    SecurityEventKind,
    Severity,
    Sighting,
    ThreatSignal,
)
from shared.ports import SecurityEventStore, ThreatStore
from shared.stores.memory_security import MemorySecurityEvents, MemoryThreats
from shared.stores.postgres.encryption import connection_encryption
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.security_events import PostgresSecurityEvents
from shared.stores.postgres.threats import PostgresThreats
from tests.security_builders import NOON, event, rule, sighting
from tests.stores_builders import IDS, record

KIND = SecurityEventKind


@dataclass(frozen=True)
class Watch:
    """Both stores, and a tenant that nobody else uses."""

    events: SecurityEventStore
    threats: ThreatStore
    tenant: str

    def event(self, seconds: float = 0.0, **changes: Any) -> SecurityEvent:
        return event(seconds, tenant_id=self.tenant, **changes)

    def sighting(self, **changes: Any) -> Sighting:
        return sighting(tenant_id=self.tenant, **changes)

    def query(self, **changes: Any) -> EventQuery:
        return replace(EventQuery(self.tenant, NOON - timedelta(days=1), NOON + timedelta(days=1)), **changes)

    async def note(self, *events: SecurityEvent) -> None:
        await self.events.insert(events, ())

    async def measured(self, signal: ThreatSignal, **changes: Any) -> dict[str, int]:
        wanted = rule(signal, **changes)
        found = await self.threats.measure(wanted, since=NOON - timedelta(seconds=600), until=NOON)
        return {seen.subject: seen.value for seen in found if seen.tenant_id == self.tenant}


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn)
    yield pool
    await pool.aclose()


@pytest.fixture(params=["memory", "postgres"])
def watch(request: pytest.FixtureRequest) -> Watch:
    tenant = IDS.request_id()
    if request.param == "memory":
        events = MemorySecurityEvents()
        return Watch(events, MemoryThreats(events), tenant)
    pool = request.getfixturevalue("pool")
    return Watch(PostgresSecurityEvents(pool), PostgresThreats(pool), tenant)


@pytest.fixture
def database(pool: PostgresPool) -> Watch:
    return Watch(PostgresSecurityEvents(pool), PostgresThreats(pool), IDS.request_id())


# --- events and sightings


async def test_events_are_found_as_they_were_written_newest_first_and_in_pages(watch: Watch) -> None:
    written = [watch.event(n, count=n + 1, target="t" * 16) for n in range(5)]
    await watch.note(*written)
    await watch.note(event(3))  # another tenant's
    assert list(await watch.events.events(watch.query())) == written[::-1]
    assert list(await watch.events.events(watch.query(limit=2))) == written[:2:-1]
    last = written[3]
    assert list(await watch.events.events(watch.query(before=(last.at, last.id)))) == written[2::-1]


async def test_the_same_events_again_are_written_once(watch: Watch) -> None:
    one = watch.event()
    await watch.note(one)
    await watch.note(one, watch.event(1))
    assert len(await watch.events.events(watch.query())) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": KIND.LOGIN_FAILED}, 1),
        ({"actor": "p-2"}, 1),
        ({"since": NOON + timedelta(seconds=2)}, 1),
        ({"until": NOON + timedelta(seconds=1)}, 1),
        ({"actor": "p'; DROP TABLE security_events; --"}, 0),
    ],
)
async def test_each_filter_restricts_events_and_their_counts(watch: Watch, changes: Any, expected: int) -> None:
    await watch.note(watch.event(), watch.event(1, kind=KIND.LOGIN_FAILED), watch.event(2, actor="p-2"))
    assert len(await watch.events.events(watch.query(**changes))) == expected
    assert sum((await watch.events.counts(watch.query(**changes))).values()) == expected


async def test_counts_say_how_many_events_stand_behind_the_rows(watch: Watch) -> None:
    await watch.note(watch.event(count=40), watch.event(1, count=2), watch.event(2, kind=KIND.INJECTION))
    assert await watch.events.counts(watch.query(limit=1)) == {"permission_denied": 42, "injection": 1}


async def test_hostile_names_are_written_and_hold_nothing_up(database: Watch) -> None:
    await database.note(database.event(actor="a\0b\ud800"), database.event(1, resource="x" * 5_000))
    found = await database.events.events(database.query())
    assert [(one.actor, len(one.resource)) for one in found][1][0] == "a\ufffdb\ufffd"
    assert len(found[0].resource) == 256


async def test_a_principal_is_shown_with_its_last_roles_and_all_its_networks(watch: Watch) -> None:
    later = NOON + timedelta(days=1)
    seen = [
        watch.sighting(requests=3),
        watch.sighting(network="198.51.100.0/24", roles=("Router.Admin",), first_at=later, last_at=later),
        watch.sighting(principal_id="p-2", last_at=NOON + timedelta(hours=1)),
    ]
    await watch.events.insert((), seen)
    first, second = await watch.events.sightings(watch.tenant, since=NOON, limit=10)
    assert (first.principal_id, first.network, first.roles, first.requests) == ("p-1", "2", ("Router.Admin",), 4)
    assert (first.first_at, first.last_at, second.principal_id) == (NOON, later, "p-2")
    assert [one.principal_id for one in await watch.events.sightings(watch.tenant, since=NOON, limit=1)] == ["p-1"]


# --- what rules measure


@pytest.mark.parametrize(
    ("signal", "events", "expected"),
    [
        (ThreatSignal.FAILED_LOGINS, [{"kind": KIND.LOGIN_FAILED, "count": 2}, {"kind": KIND.LOGIN_LOCKED}], 3),
        (ThreatSignal.UNAUTHENTICATED, [{"kind": KIND.UNAUTHENTICATED, "count": 3}], 3),
    ],
)
async def test_what_a_network_does_is_added_up(watch: Watch, signal: Any, events: Any, expected: int) -> None:
    await watch.note(*[watch.event(-5, **changes) for changes in events])
    await watch.note(
        watch.event(-5, kind=KIND.INJECTION, count=99), watch.event(-5, network="o", kind=events[0]["kind"])
    )
    assert await watch.measured(signal) == {"203.0.113.0/24": expected}


async def test_stuffing_counts_different_accounts_and_nothing_twice(watch: Watch) -> None:
    tries = [watch.event(-n, kind=KIND.LOGIN_FAILED, target=f"account-{n % 4}") for n in range(1, 9)]
    await watch.note(*tries, watch.event(-1, kind=KIND.LOGIN_FAILED, target="", count=50))
    assert await watch.measured(ThreatSignal.GUESSED_ACCOUNTS) == {"203.0.113.0/24": 4}


async def test_probing_counts_different_endpoints_of_a_principal(watch: Watch) -> None:
    denied = [watch.event(-n, resource=f"GET r{n % 3}", network=f"n{n}") for n in range(1, 10)]
    await watch.note(*denied, watch.event(-1, actor="p-2", count=500))
    assert await watch.measured(ThreatSignal.DENIED_RESOURCES) == {"p-1": 3}


async def test_what_lies_outside_the_window_does_not_count(watch: Watch) -> None:
    await watch.note(watch.event(-601, count=9, kind=KIND.INJECTION), watch.event(0, count=9, kind=KIND.INJECTION))
    assert await watch.measured(ThreatSignal.INJECTIONS) == {}
    await watch.note(watch.event(-600, count=3, kind=KIND.INJECTION))
    assert await watch.measured(ThreatSignal.INJECTIONS) == {"p-1": 3}


async def test_a_key_used_from_many_networks_is_measured(watch: Watch) -> None:
    at = NOON - timedelta(seconds=1)
    seen = [watch.sighting(network=f"n{n}", last_at=at) for n in range(4)]
    await watch.events.insert((), [*seen, watch.sighting(principal_id="p-2", requests=999, last_at=at)])
    assert await watch.measured(ThreatSignal.NETWORKS) == {"p-1": 4}


# --- usage and its baseline, from the ledger


async def used(pool: PostgresPool, tenant: str, hours: dict[int, int], principal: str = "p-1") -> None:
    """Requests with so many output tokens, so many hours before noon."""
    rows = []
    for hour, tokens in hours.items():
        at = NOON - timedelta(hours=hour, minutes=1)
        made = record(tenant_id=tenant, principal_id=principal, start_time=at, end_time=at, attachment_size=tokens)
        rows.append(replace(made, usage=replace(made.usage, output_tokens=tokens, thinking_tokens=0)))
    await PostgresRecordStore(pool).insert(rows)


async def in_hours(pool: PostgresPool, since: int, until: int, watch: Watch, add: Callable[[int], int]) -> None:
    """Baseline hours, added up as they go by, as the timer does, in a database that has seen no later ones."""
    async with pool.connection(timeout_s=5) as connection:
        await connection.execute("DELETE FROM usage_hours")
    await used(pool, watch.tenant, {hour: add(hour) for hour in range(since, until, -1)})
    for hour in range(since, until, -12):
        await watch.threats.add_up(NOON - timedelta(hours=hour - 12))


async def test_volume_is_held_against_the_principals_own_past(pool: PostgresPool, database: Watch) -> None:
    await in_hours(pool, 40, 1, database, lambda _: 100)
    await used(pool, database.tenant, {0: 5_000})
    await database.threats.add_up(NOON)
    usage = rule(ThreatSignal.OUTPUT_TOKENS, 1_000, 3_600)
    (seen,) = await mine(database, usage)
    assert (seen.subject, seen.value) == ("p-1", 5_000)
    assert seen.baseline == pytest.approx(100.0)
    assert seen.last_at == NOON - timedelta(minutes=1)


async def test_whoever_has_no_past_has_no_baseline(pool: PostgresPool, database: Watch) -> None:
    await used(pool, database.tenant, {0: 5_000, 3: 10, 4: 10})
    await database.threats.add_up(NOON)
    (seen,) = await mine(database, rule(ThreatSignal.ATTACHMENT_BYTES, 1_000, 3_600))
    assert (seen.value, seen.baseline) == (5_000, None)


async def test_adding_up_again_gives_the_same_and_takes_in_what_came_late(pool: PostgresPool, database: Watch) -> None:
    requests = rule(ThreatSignal.REQUESTS, 1, 3_600)
    await used(pool, database.tenant, {0: 1})
    for _ in range(3):
        await database.threats.add_up(NOON)
    assert [seen.value for seen in await mine(database, requests)] == [1]
    await used(pool, database.tenant, {0: 1})
    await asyncio.gather(*(database.threats.add_up(NOON) for _ in range(4)))
    assert [seen.value for seen in await mine(database, requests)] == [2]


async def mine(database: Watch, usage: Any) -> list[Measurement]:
    since = NOON.replace(minute=0)
    found = await database.threats.measure(usage, since=since, until=NOON + timedelta(minutes=1))
    return [seen for seen in found if seen.tenant_id == database.tenant]


async def test_usage_reads_the_ledgers_window_and_not_the_rest(pool: PostgresPool) -> None:
    """Every partition but those of the window is left alone."""
    async with pool.connection(timeout_s=5) as connection:
        plan = await connection.execute(
            "EXPLAIN SELECT count(*) FROM requests WHERE start_time >= '2026-11-23' AND start_time < '2026-11-24'"
        )
        text = "\n".join(line for (line,) in await plan.fetchall())
    assert "requests_2026_10" not in text
    assert "requests_2026_12" not in text


# --- findings


def seen_at(seconds: float = 0.0, tenant: str = "tenant-1", value: int = 7, subject: str = "p-1") -> Measurement:
    return Measurement(tenant, subject, value, NOON + timedelta(seconds=seconds))


PROBING = rule(ThreatSignal.DENIED_RESOURCES, severity=Severity.HIGH)


async def test_a_finding_is_one_row_that_grows_while_it_lasts(watch: Watch) -> None:
    for seconds, value in ((0, 7), (60, 9), (120, 8), (120, 8)):
        await watch.threats.report(PROBING, [seen_at(seconds, watch.tenant, value)])
    (finding,) = await watch.threats.findings(FindingQuery(watch.tenant))
    assert (finding.state, finding.value, finding.threshold) == (FindingState.OPEN, 9, 3)
    assert (finding.first_at, finding.last_at) == (NOON, NOON + timedelta(seconds=120))
    assert (finding.rule, finding.severity, finding.subject) == ("denied-resources", Severity.HIGH, "p-1")
    assert await watch.threats.finding(finding.id, tenant_id=watch.tenant) == finding
    assert await watch.threats.finding(finding.id, tenant_id="another") is None
    assert await watch.threats.finding("nonsense", tenant_id=watch.tenant) is None


async def test_a_resolved_finding_returns_only_with_new_evidence(watch: Watch) -> None:
    await watch.threats.report(PROBING, [seen_at(0, watch.tenant)])
    (finding,) = await watch.threats.findings(FindingQuery(watch.tenant))
    at = NOON + timedelta(seconds=30)
    assert await watch.threats.move(finding, FindingState.RESOLVED, by="admin", at=at, note="known")
    assert not await watch.threats.move(finding, FindingState.ACKNOWLEDGED, by="b", at=at, note="")
    await watch.threats.report(PROBING, [seen_at(0, watch.tenant)])
    (resolved,) = await watch.threats.findings(FindingQuery(watch.tenant))
    assert (resolved.state, resolved.changed_by, resolved.changed_at, resolved.note) == (
        "resolved",
        "admin",
        at,
        "known",
    )
    await watch.threats.report(PROBING, [seen_at(60, watch.tenant)])
    assert await watch.threats.finding_counts(watch.tenant) == {("resolved", "high"): 1, ("open", "high"): 1}


async def test_findings_are_told_once_marked_so(watch: Watch) -> None:
    await watch.threats.report(PROBING, [seen_at(0, watch.tenant), seen_at(1, watch.tenant, subject="p-2")])
    untold = [f for f in await watch.threats.untold() if f.tenant_id == watch.tenant]
    assert {f.subject for f in untold} == {"p-1", "p-2"}
    await watch.threats.told([f.id for f in untold], NOON)
    await watch.threats.report(PROBING, [seen_at(9, watch.tenant)])
    assert [f for f in await watch.threats.untold() if f.tenant_id == watch.tenant] == []


async def test_findings_come_in_pages_and_by_state_and_severity(watch: Watch) -> None:
    low = replace(PROBING, name="low", severity=Severity.LOW)
    for n in range(3):
        await watch.threats.report(PROBING, [seen_at(n, watch.tenant, subject=f"p-{n}")])
    await watch.threats.report(low, [seen_at(9, watch.tenant)])
    first = await watch.threats.findings(FindingQuery(watch.tenant, limit=2))
    last = first[-1]
    rest = await watch.threats.findings(FindingQuery(watch.tenant, before=(last.last_at, last.id)))
    assert [f.subject for f in [*first, *rest]] == ["p-1", "p-2", "p-1", "p-0"]
    assert len(await watch.threats.findings(FindingQuery(watch.tenant, severity=Severity.LOW))) == 1
    assert len(await watch.threats.findings(FindingQuery(watch.tenant, (FindingState.RESOLVED,)))) == 0


async def test_many_reporters_at_once_make_one_finding_each(database: Watch) -> None:
    found = [seen_at(0, database.tenant, subject=f"p-{n}") for n in range(20)]
    await asyncio.gather(*(database.threats.report(PROBING, found[::step]) for step in (1, -1, 1, -1)))
    assert len(await database.threats.findings(FindingQuery(database.tenant))) == 20


# --- the database itself


async def test_an_absent_database_is_said_to_be_absent(postgres_server: Postgres, pool: PostgresPool) -> None:
    events, threats = PostgresSecurityEvents(pool, deadline_s=0.3), PostgresThreats(pool, deadline_s=0.3)
    postgres_server.freeze()
    for call in (
        events.insert([event()], ()),
        events.counts(EventQuery("t", NOON, NOON)),
        threats.add_up(NOON),
        threats.untold(),
        threats.report(PROBING, [seen_at()]),
    ):
        with pytest.raises(DependencyUnavailable):
            await call


async def test_the_server_says_whether_a_connection_is_encrypted(pool: PostgresPool) -> None:
    assert await connection_encryption(pool) is None


async def test_events_of_any_time_find_a_partition(database: Watch) -> None:
    far = datetime.fromisoformat("2051-01-01T00:00:00+00:00")
    await database.note(database.event(), replace(database.event(), at=far))
    assert len(await database.events.events(database.query(until=far + timedelta(days=1)))) == 2
