"""What only PostgreSQL has: the lock, notes that no writer waits for, plans, erasures, and rows that were there before."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from shared.analytics.sketches import compact
from shared.domain.analytics import AnalyticsQuery, Dimension, Granularity, SpendQuery, Subject
from shared.domain.privacy import DataSubject, SubjectKind
from shared.domain.retention import RetentionClass
from shared.stores.memory import ManualClock
from shared.stores.postgres.analytics import spend_statement_of, statement_of
from shared.stores.postgres.feedback import PostgresFeedbackOfPersons
from shared.stores.postgres.migrate import migrate, read_migrations
from shared.stores.postgres.personal import PostgresLedgerOfPersons
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.retention import PostgresRetention
from shared.stores.postgres.rollup_tables import TABLES
from shared.stores.postgres.rollups import _LOCK, PostgresRollups
from tests.rollup_world import RollupWorld, feedback
from tests.security_builders import erasure_of
from tests.stores_builders import record

DAY = datetime(2026, 11, 5, tzinfo=UTC)
NOW = DAY + timedelta(days=1)
DAYS = (DAY, NOW)
T = "tenant-a"


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=8)
    yield pool
    await pool.aclose()


@pytest.fixture
async def world(pool: PostgresPool) -> RollupWorld:
    world = RollupWorld(pool, NOW)
    await world.clear()
    return world


def made(minutes: int, **fields: Any) -> list[Any]:
    return [record(start_time=DAY + timedelta(minutes=n), end_time=DAY, **fields) for n in range(minutes)]


async def test_while_one_rolls_up_the_others_find_nothing(world: RollupWorld, postgres_dsn: str) -> None:
    await world.arrive(made(3))
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        await other.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        assert await world.roll_up() == 0
        await world.rollups.purge_minutes(NOW)
    assert await world.roll_up() == 3
    await world.agree(AnalyticsQuery(T, DAYS))


async def test_records_that_come_while_rollups_are_made_are_never_lost(world: RollupWorld) -> None:
    batches = [made(5) for _ in range(40)]

    async def write(part: list[Any]) -> None:
        for batch in part:
            await world.ledger.insert(batch)
            await world.twin_ledger.insert(batch)

    async def roll_up() -> None:
        rollups = PostgresRollups(world.pool)
        for _ in range(15):
            await rollups.fold(NOW, tiers=())
            await rollups.merge(Granularity.HOUR)
            await rollups.merge(Granularity.DAY)

    await asyncio.gather(write(batches[::2]), write(batches[1::2]), roll_up(), roll_up())
    await world.roll_up()
    (row,) = await world.analytics.rows(AnalyticsQuery(T, DAYS))
    assert row.count == 200


async def test_a_step_that_fails_leaves_everything_as_it_was(
    world: RollupWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.arrive(made(2))
    await world.roll_up()
    await world.arrive(made(2))
    before = [await world.rows_of(name) for name in ("analytics", "model_performance", "rollup_pending")]

    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    await world.rollups.fold(NOW, tiers=())
    noted = await world.rows_of("rollup_pending")
    monkeypatch.setattr("shared.stores.postgres.rollups.compact_all", broken)
    with pytest.raises(ZeroDivisionError):
        await world.rollups.merge(Granularity.HOUR)
    assert await world.rows_of("rollup_pending") == noted
    assert [row for row in await world.rows_of("analytics") if row[0] != "minute"] == [
        row for row in before[0] if row[0] != "minute"
    ]
    monkeypatch.undo()
    await world.roll_up()
    await world.agree(AnalyticsQuery(T, DAYS))


async def test_freshness_is_that_of_the_oldest_note(world: RollupWorld) -> None:
    before = await world.analytics.freshness()
    assert before.pending == 0
    await world.arrive(made(2))
    noted = await world.analytics.freshness()
    assert noted.pending == 2
    assert noted.as_of >= before.as_of
    await world.rollups.fold(NOW, tiers=())
    assert await world.analytics.freshness() == type(noted)(noted.as_of, 1)
    await world.roll_up()
    assert (await world.analytics.freshness()).as_of > noted.as_of


async def test_hours_are_compact_and_minutes_need_not_be(world: RollupWorld) -> None:
    await world.arrive(made(20, ttft_ms=5.0))
    await world.roll_up()
    async with world.pool.connection(timeout_s=20) as connection:
        found = await (await connection.execute(b"SELECT granularity, tag_value, latency FROM analytics")).fetchall()
    assert found
    for granularity, name, latency in found:
        assert granularity == "minute" or compact(latency) == latency, name


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


async def _plan(
    world: RollupWorld, statement: bytes, values: Any, *, prefers_index: bool = False
) -> list[dict[str, Any]]:
    async with world.pool.connection(timeout_s=20) as connection, connection.transaction(force_rollback=True):
        if prefers_index:
            await connection.execute(b"SET LOCAL enable_seqscan = off")
        row = await (await connection.execute(b"EXPLAIN (FORMAT json) " + statement, values)).fetchone()
    assert row is not None
    return _nodes(row[0][0]["Plan"])


@pytest.mark.parametrize("subject", Subject)
@pytest.mark.parametrize("groups", [(), (Dimension.MODEL, Dimension.DEPLOYMENT)])
@pytest.mark.parametrize(
    ("edges", "granularities"),
    [
        (DAYS, {"day"}),
        ((DAY, DAY + timedelta(hours=1)), {"hour"}),
        ((DAY + timedelta(hours=5), DAY + timedelta(days=3, hours=1)), {"day", "hour"}),
    ],
)
async def test_no_question_reads_the_ledger(
    world: RollupWorld, subject: Subject, groups: Any, edges: Any, granularities: set[str]
) -> None:
    query = AnalyticsQuery(T, edges, group_by=groups, subject=subject)
    for statement, values in (statement_of(query), spend_statement_of(SpendQuery(T, edges))):
        nodes = await _plan(world, statement, values, prefers_index=True)
        read = {node["Relation Name"] for node in nodes if "Relation Name" in node}
        asked = [{f"{table}_{one}" for one in granularities} for table in ("analytics", "model_performance")]
        # Of months the days are read, and the hours of the days that are cut: each part from its own rollups only.
        assert read in [*asked, {"analytics_slices"}]
        assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]


async def test_rolling_up_reads_the_ledger_by_its_ranges_of_time(world: RollupWorld) -> None:
    values = {
        "since": DAY, "until": DAY + timedelta(hours=1), "minutes": [DAY], "tiers": [1], "tag_keys": ["team"],
        "grace": timedelta(), "most": 5, "source": "minute",
    }  # fmt: skip
    for table in TABLES:
        for statement in (table.fold, table.merge):
            nodes = await _plan(world, statement, values, prefers_index=True)
            scans = [node for node in nodes if "Relation Name" in node and node["Node Type"] != "ModifyTable"]
            assert scans
            assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
            # Of the months one is read.
            months = {
                node["Relation Name"] for node in scans if node["Relation Name"].startswith(("requests", "attempts"))
            }
            assert months <= {"requests_2026_11", "attempts_2026_11"}


async def test_an_erasure_takes_the_name_out_of_rollups_too(world: RollupWorld) -> None:
    await world.arrive(made(3, service_name="alice"))
    await world.roll_up()
    order = erasure_of(DataSubject(T, SubjectKind.SERVICE, "alice"), at=NOW)
    assert order.subject is not None
    ledger = PostgresLedgerOfPersons(world.pool, ManualClock(NOW))
    cursor: str | None = ""
    while cursor is not None:
        cursor = (await ledger.erase(order, order.subject, cursor)).cursor
    await world.roll_up()
    rows = await world.analytics.rows(AnalyticsQuery(T, DAYS, group_by=(Dimension.SERVICE,)))
    assert [(row.group, row.count) for row in rows] == [((order.pseudonym,), 3)]
    assert not [
        row for table in ("analytics", "feedback") for row in await world.rows_of(table) if "alice" in map(str, row)
    ]


@pytest.mark.parametrize(
    ("kind", "value", "tag"),
    [(SubjectKind.PRINCIPAL, "p", ""), (SubjectKind.SERVICE, "checkout", ""), (SubjectKind.TAG, "payments", "team")],
)
async def test_feedback_of_a_person_is_exported_and_erased(
    world: RollupWorld, kind: SubjectKind, value: str, tag: str
) -> None:
    (theirs,) = made(1)
    others = record(service_name="other", start_time=DAY, end_time=DAY, tags=())
    await world.arrive([theirs, others])
    await world.rate(feedback(theirs, comment="I am Alice", tags=("slow",), score=0.25))
    await world.rate(feedback(others, principal_id="q", comment="stays"))
    store = PostgresFeedbackOfPersons(world.pool)
    order = erasure_of(DataSubject(T, kind, value, tag), at=NOW)
    assert order.subject is not None
    page = await store.export(order.subject, "", 10)
    assert [row["feedback"]["comment"] for row in page.rows] == ["I am Alice"]  # type: ignore[index]  # JSON
    ledger = PostgresLedgerOfPersons(world.pool, ManualClock(NOW))
    await ledger.erase(order, order.subject, "")
    for _ in range(2):  # a step that is taken again finds the same
        assert (await store.erase(order, order.subject, "")).counts == {"feedback": 1}
    comments = {row[7]: row[4] for row in await world.rows_of("feedback")}
    assert comments == {"": 0.25, "stays": 1.0}
    assert (await store.export(order.subject, "", 10)).rows == []


async def test_rollups_and_feedback_leave_with_their_records(world: RollupWorld) -> None:
    old = record(start_time=DAY - timedelta(days=40), end_time=DAY)
    await world.arrive([old, *made(1)])
    await world.rate(feedback(old))
    await world.roll_up()
    retention = PostgresRetention(world.pool)
    cutoff = datetime(2026, 11, 1, tzinfo=UTC)
    gone = {due.what: due.rows for due in await retention.drop(RetentionClass.RECORDS, cutoff)}
    assert gone["feedback"] == 1
    assert all(gone[f"analytics_{granularity}"] == 3 for granularity in ("minute", "hour", "day"))
    await world.roll_up()
    rows = await world.analytics.rows(AnalyticsQuery(T, (DAY - timedelta(days=60), *DAYS)))
    assert [(row.start, row.count) for row in rows] == [(DAY, 1)]


_OLD_FIELDS = (
    "id", "start_time", "end_time", "tenant_id", "service_name", "principal_id", "endpoint", "request_type",
    "content_type", "attachment_size", "complexity_level", "security_level", "status", "stream", "requested_model",
)  # fmt: skip
_OLD_RECORD = b"""
    INSERT INTO requests (id, start_time, end_time, tenant_id, service_name, principal_id, endpoint, request_type,
                          content_type, attachment_size, complexity_level, security_level, status, stream,
                          requested_model)
    VALUES (%(id)s, %(start_time)s, %(end_time)s, %(tenant_id)s, %(service_name)s, %(principal_id)s, %(endpoint)s,
            %(request_type)s, %(content_type)s, %(attachment_size)s, %(complexity_level)s, %(security_level)s,
            %(status)s, %(stream)s, %(requested_model)s)
"""


async def test_what_was_in_the_ledger_before_is_rolled_up(empty_postgres_dsn: str) -> None:
    every = read_migrations()
    first = next(n for n, migration in enumerate(every) if migration.name.endswith("_rollups.sql"))
    migrate(empty_postgres_dsn, migrations=every[:first])
    pool = PostgresPool(empty_postgres_dsn)
    try:
        async with pool.connection(timeout_s=20) as connection:
            for one in made(4):  # in the words of that time: the store's are those of the newest schema
                await connection.execute(_OLD_RECORD, {name: getattr(one, name) for name in _OLD_FIELDS})
        migrate(empty_postgres_dsn, migrations=every)
        world = RollupWorld(pool, NOW)
        await world.roll_up()
        (row,) = await world.analytics.rows(AnalyticsQuery(T, DAYS))
        assert row.count == 4
    finally:
        await pool.aclose()
