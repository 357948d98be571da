"""What leaves by age: told before, gone after, whole months with whole chains, and everything younger stays."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from shared.domain.audit import AuditEvent, AuditOutcome
from shared.domain.receipts import check_section
from shared.domain.retention import RetentionClass, RetentionRules
from shared.services.audit import AuditTrail
from shared.services.retention import Retention
from shared.stores.audit import TableAuditStore
from shared.stores.memory import ManualClock
from shared.stores.postgres.maintenance import PostgresMaintenance
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.receipts import PostgresReceiptStore
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.retention import PostgresRetention
from shared.stores.postgres.security_events import PostgresSecurityEvents
from shared.stores.tables import open_table
from shared.telemetry.recording import RecordingTelemetry
from tests.security_builders import NOON, event, sighting
from tests.stores_builders import IDS, record
from tests.unit.routing_builders import policy

MONTH = timedelta(days=31)
RECEIPT = '{"digest":"00","v":1}'
RULES = RetentionRules(records_months=2, audit_months=3, events_months=2)


class World:
    """A ledger of four months, and what else grows old."""

    def __init__(self, pool: PostgresPool, trails: TableAuditStore) -> None:
        self.pool, self.trails, self.telemetry = pool, trails, RecordingTelemetry()
        self.clock, self.rules = ManualClock(NOON), RULES
        self.retention = Retention(
            PostgresRetention(pool), trails, lambda: policy(retention=self.rules), self.clock, self.telemetry
        )
        self.records: dict[int, Any] = {}

    async def lived(self) -> None:
        store = PostgresRecordStore(self.pool, writer="w")
        for months in range(4):
            at = NOON - months * MONTH
            await PostgresMaintenance(self.pool, ManualClock(at)).prepare_partitions()
            self.records[months] = record(
                start_time=at, end_time=at, receipt=RECEIPT, budget_accounts=(f"b/{at:%Y-%m}/x", "b/total/x")
            )
            await store.insert([self.records[months]])
            seen = sighting(first_at=at, last_at=at)
            await PostgresSecurityEvents(self.pool).insert([event((at - NOON).total_seconds())], [seen])
            await self.audited(at)

    async def audited(self, at: datetime) -> None:
        trail = AuditTrail(self.trails, ManualClock(at), self.telemetry, writer=IDS.request_id())
        await trail.record(
            AuditEvent(IDS.request_id(), at, "t", "p", "s", "config.write", "policy", AuditOutcome.SUCCEEDED, "r")
        )
        await trail.aclose()

    async def count(self, table: str) -> int:
        async with self.pool.connection(timeout_s=5) as connection:
            row = await (await connection.execute(f"SELECT count(*) FROM {table}".encode())).fetchone()  # noqa: S608 - above
        assert row is not None
        return int(row[0])


@pytest.fixture
async def world(empty_postgres_dsn: str, azurite: Any) -> AsyncIterator[World]:
    from infra.local.application import migrate  # noqa: PLC0415 - only these tests start from nothing

    migrate(empty_postgres_dsn)
    pool = PostgresPool(empty_postgres_dsn)
    trails = TableAuditStore(open_table(f"t{uuid4().hex}", connection_string=azurite.connection_string))
    made = World(pool, trails)
    await made.lived()
    yield made
    await trails.aclose()
    await pool.aclose()


async def test_what_is_due_is_told_and_nothing_is_touched(world: World) -> None:
    tables = ("requests", "attempts", "receipts", "security_events", "principal_sightings")
    before = [await world.count(table) for table in tables]
    due = {(d.kind.value, d.what): d.rows for d in await world.retention.due()}
    assert due == {
        ("records", "requests_2026_08"): None,
        ("records", "attempts_2026_08"): None,
        ("records", "receipts_2026_08"): None,
        ("records", "receipt_chains"): 1,
        ("records", "budget_spend"): 1,
        ("events", "security_events_2026_08"): None,
        ("events", "principal_sightings"): 1,
    }
    assert [await world.count(table) for table in tables] == before


async def test_months_leave_whole_and_the_younger_ones_stay(world: World) -> None:
    due = list(await world.retention.due())
    assert list(await world.retention.enforce()) == due
    assert list(await world.retention.due()) == list(await world.retention.enforce()) == []
    store = PostgresRecordStore(world.pool)
    held = [months for months, one in world.records.items() if await store.get(one.id, tenant_id="tenant-a")]
    assert held == [0, 1, 2]
    assert [await world.count(table) for table in ("attempts", "receipts", "receipt_chains")] == [6, 3, 3]
    assert [await world.count(table) for table in ("security_events", "principal_sightings")] == [3, 3]
    dropped = world.telemetry.events()["retention_dropped"]
    assert {line["what"] for line in dropped} == {d.what for d in due}


async def test_chains_that_are_left_are_intact(world: World) -> None:
    await world.retention.enforce()
    store = PostgresReceiptStore(world.pool)
    for months in range(3):
        row = await store.receipt(world.records[months].id, tenant_id="tenant-a")
        assert row is not None
        section = await store.section(row.chain, first=1, last=9)
        assert check_section(row, section, first=1, last=9).intact


async def test_the_audit_trail_has_its_own_time(world: World) -> None:
    world.clock.advance(10 * 86_400)
    due = [d for d in await world.retention.due() if d.kind is RetentionClass.AUDIT]
    assert [(d.what, d.rows) for d in due] == [("audit", 2)]  # a row and the head of its chain
    await world.retention.enforce()
    left = [chain async for chain, _, _ in world.trails.chains(NOON - 6 * MONTH, NOON)]
    assert sorted(chain[:7] for chain in left) == ["2026-09", "2026-10", "2026-11"]


async def test_rows_that_no_month_was_made_for_leave_too(world: World) -> None:
    old = NOON - timedelta(days=400)
    await PostgresRecordStore(world.pool).insert([record(start_time=old, end_time=old, receipt=RECEIPT)])
    gone = {d.what: d.rows for d in await world.retention.enforce()}
    assert (gone["requests_default"], gone["attempts_default"], gone["receipts_default"]) == (1, 2, 1)


async def test_a_policy_may_keep_everything(world: World) -> None:
    world.rules = RetentionRules(records_months=1, events_months=1, enforced=False)
    assert await world.retention.enforce() == ()
    assert len(await world.retention.due()) > 5
    assert await world.count("requests") == 4


async def test_a_month_in_use_leaves_the_next_time(world: World, empty_postgres_dsn: str) -> None:
    with psycopg.connect(empty_postgres_dsn) as reader:
        reader.execute("SELECT count(*) FROM requests")
        with pytest.raises(Exception, match="database does not answer"):
            await world.retention.enforce()
        assert await world.count("requests_2026_08") == 1
    assert {d.what for d in await world.retention.enforce()} >= {"requests_2026_08", "receipt_chains"}
