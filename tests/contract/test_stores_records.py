"""The ledger: what `RecordStore` promises, held by PostgreSQL and by its twin; then what only PostgreSQL has."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

import orjson
import psycopg
import pytest
from azure.core.credentials import AccessToken

from infra.local.services import Postgres
from shared.domain.errors import DependencyUnavailable, InternalError
from shared.domain.records import AttemptRecord, RequestRecord, RequestStatus
from shared.domain.replies import Usage
from shared.ports import RecordStore
from shared.stores.memory import ManualClock, MemoryRecordStore
from shared.stores.postgres import pool as pool_module
from shared.stores.postgres.maintenance import PostgresMaintenance
from shared.stores.postgres.pool import Connection, PostgresPool, entra_password
from shared.stores.postgres.probe import PostgresProbe
from shared.stores.postgres.records import _INSERT, PostgresRecordStore, _columns
from tests.stores_builders import START, attempt, bare_record, batch, record


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> RecordStore:
    if request.param == "memory":
        return MemoryRecordStore()
    return PostgresRecordStore(request.getfixturevalue("pool"))


@pytest.mark.parametrize("made", [record, bare_record])
async def test_a_record_comes_back_exactly_as_it_went_in(store: RecordStore, made: Any) -> None:
    written = made()

    assert await store.insert([written]) == 1

    assert await store.get(written.id, tenant_id=written.tenant_id) == written


async def test_a_record_is_there_for_its_own_tenant_only(store: RecordStore) -> None:
    written = record(tenant_id="tenant-a")
    await store.insert([written])

    assert await store.get(written.id, tenant_id="tenant-b") is None


@pytest.mark.parametrize(
    "request_id", ["", "nonsense", "0", "' OR 1=1 --", "\0", "019a0000-0000-7000-8000-00000000000"]
)
async def test_an_id_that_nobody_has_is_none(store: RecordStore, request_id: str) -> None:
    assert await store.get(request_id, tenant_id="tenant-a") is None


async def test_an_empty_batch_is_nothing(store: RecordStore) -> None:
    assert await store.insert([]) == 0


async def test_a_batch_is_written_as_a_whole_and_once(store: RecordStore) -> None:
    first, second = batch(60), batch(40)

    assert await store.insert(first) == 60
    assert await store.insert(first + second) == 40
    assert await store.insert(second) == 0

    for written in first + second:
        assert await store.get(written.id, tenant_id=written.tenant_id) == written


async def test_what_is_there_already_is_left_alone_with_its_attempts(store: RecordStore) -> None:
    written = record(attempts=(attempt(1),))
    await store.insert([written])

    late = replace(written, status=RequestStatus.ABANDONED, cost_usd=Decimal(9), attempts=(attempt(1), attempt(2)))
    assert await store.insert([late]) == 0

    assert await store.get(written.id, tenant_id=written.tenant_id) == written


async def test_of_the_same_id_twice_in_a_batch_the_first_counts(store: RecordStore) -> None:
    first = record(attempts=(attempt(1),))
    again = replace(first, status=RequestStatus.ABANDONED, attempts=(attempt(1), attempt(2)))

    assert await store.insert([first, again]) == 1

    assert await store.get(first.id, tenant_id=first.tenant_id) == first


async def test_money_is_exact(store: RecordStore) -> None:
    cost = Decimal("1234567.000000000000000000123")
    written = record(cost_usd=cost, attempts=(attempt(1, cost_usd=cost),))
    await store.insert([written])

    read = await store.get(written.id, tenant_id=written.tenant_id)

    assert read is not None
    assert (read.cost_usd, read.attempts[0].cost_usd) == (cost, cost)


@pytest.mark.parametrize(
    "text", ["gem\0ini", "half \ud83d pair", "模型" * 500, "\x01\x1f\u2028", '"; DROP TABLE requests; --']
)
async def test_hostile_text_does_not_hold_up_the_records_around_it(store: RecordStore, text: str) -> None:
    hostile = record(
        requested_model=text,
        service_name=text,
        tenant_id="tenant-a",
        error_message=text,
        tags=((text, text),),
        attempts=(attempt(1, vendor_status=text),),
    )
    good = record()

    assert await store.insert([hostile, good]) == 2

    read = await store.get(hostile.id, tenant_id="tenant-a")
    assert read is not None
    assert read.requested_model == text.replace("\0", "\ufffd").replace("\ud83d", "\ufffd")[:256]
    assert read.cost_usd == hostile.cost_usd


async def test_absurd_numbers_do_not_hold_up_the_records_around_them(store: RecordStore) -> None:
    usage = Usage(input_tokens=10**30, output_tokens=-5)
    absurd = record(
        usage=usage, quality_score=float("nan"), overhead_ms=float("inf"), attempts=(attempt(1, usage=usage),)
    )

    assert await store.insert([absurd, record()]) == 2

    read = await store.get(absurd.id, tenant_id=absurd.tenant_id)
    assert read is not None
    assert read.usage == read.attempts[0].usage == Usage(input_tokens=2**63 - 1)
    assert (read.quality_score, read.overhead_ms) == (None, 0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "request-1"},
        {"id": "019A0000-0000-7000-8000-000000000000"},
        {"start_time": datetime(2026, 1, 1)},
        {"cost_usd": Decimal("NaN")},
        {"cost_usd": Decimal(-1)},
    ],
)
async def test_a_record_made_wrong_is_refused_with_all_of_its_batch(store: RecordStore, fields: dict[str, Any]) -> None:
    good = record()

    with pytest.raises(ValueError, match=r"id|record"):
        await store.insert([good, record(**fields)])

    assert await store.get(good.id, tenant_id=good.tenant_id) is None


async def test_writers_with_the_same_records_in_any_order_write_each_once(store: RecordStore) -> None:
    records = batch(50)
    orders = [records, records[::-1], records[25:] + records[:25], records[::2] + records[1::2]]

    written = await asyncio.gather(*(store.insert(order) for order in orders))

    assert sum(written) == 50


async def test_a_twin_that_is_switched_away_writes_nothing() -> None:
    twin, written = MemoryRecordStore(), record()
    twin.away = True
    for call in (twin.insert([written]), twin.get(written.id, tenant_id="tenant-a"), twin.prepare_partitions()):
        with pytest.raises(DependencyUnavailable):
            await call

    twin.away = False
    assert await twin.insert([written]) == 1


# Only PostgreSQL


async def test_a_writer_that_waits_for_another_holds_nothing_that_one_needs(
    pool: PostgresPool, postgres_dsn: str
) -> None:
    first, second = batch(2)
    other = await psycopg.AsyncConnection.connect(postgres_dsn)
    async with other, asyncio.timeout(30):
        await other.execute(_INSERT, (orjson.dumps([first], default=str).decode(), "writer"))
        waiting = asyncio.create_task(PostgresRecordStore(pool, deadline_s=20).insert([second, first]))
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while True:
            if await _query(pool, blocked) == [(1,)]:
                break
            await asyncio.sleep(0.01)
        await other.execute(_INSERT, (orjson.dumps([second], default=str).decode(), "writer"))
        await other.commit()

        assert await waiting == 0


async def _query(pool: PostgresPool, query: Any, *parameters: object) -> list[tuple[Any, ...]]:
    async with pool.connection(timeout_s=5) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def test_derived_columns_follow_from_the_record(pool: PostgresPool) -> None:
    written = record(cost_usd=Decimal("0.0000005"))
    await PostgresRecordStore(pool).insert([written])

    rows = await _query(
        pool,
        "SELECT duration_ms, token_count, cost, cost_exact, tags->>'team', created_at >= end_time FROM requests WHERE id = %s",
        written.id,
    )

    assert rows == [(1500.0, written.usage.total_tokens, Decimal("0.000001"), written.cost_usd, "payments", True)]


async def test_records_far_from_now_find_a_place_and_move_to_their_month_when_it_comes(pool: PostgresPool) -> None:
    store = PostgresRecordStore(pool)
    # Months of their own, in different time zones from the server's point of view: the last and first instants in UTC.
    edge = datetime(2031, 4, 1, tzinfo=UTC)
    records = [
        record(start_time=edge + timedelta(microseconds=offset), end_time=edge + timedelta(days=1))
        for offset in (-1, 0)
    ]
    await store.insert(records)
    where = "SELECT tableoid::regclass::text FROM requests WHERE start_time BETWEEN %s AND %s ORDER BY start_time"
    span = (edge - timedelta(days=1), edge + timedelta(days=1))
    assert await _query(pool, where, *span) == [("requests_default",), ("requests_default",)]

    await PostgresMaintenance(pool, ManualClock(edge - timedelta(days=10))).prepare_partitions()

    assert await _query(pool, where, *span) == [("requests_2031_03",), ("requests_2031_04",)]
    attempts = (
        "SELECT DISTINCT tableoid::regclass::text FROM attempts WHERE request_start_time BETWEEN %s AND %s ORDER BY 1"
    )
    assert await _query(pool, attempts, *span) == [("attempts_2031_03",), ("attempts_2031_04",)]
    for written in records:
        assert await store.get(written.id, tenant_id=written.tenant_id) == written
    assert await store.insert(records) == 0


async def test_preparing_partitions_at_once_and_again_makes_each_once(pool: PostgresPool) -> None:
    upkeep = PostgresMaintenance(pool, ManualClock(datetime(2033, 11, 30, 23, 59, tzinfo=UTC)))

    await asyncio.gather(*(upkeep.prepare_partitions() for _ in range(4)))

    made = await _query(
        pool, "SELECT relname FROM pg_class WHERE relname ~ 'requests_203[34]_..$' AND relkind = 'r' ORDER BY 1"
    )
    assert made == [("requests_2033_11",), ("requests_2033_12",), ("requests_2034_01",)]
    bounds = await _query(
        pool, "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'requests_2033_12'"
    )
    assert bounds == [("FOR VALUES FROM ('2033-12-01 00:00:00+00') TO ('2034-01-01 00:00:00+00')",)]


async def test_a_sessions_time_zone_does_not_move_the_months(pool: PostgresPool, postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, options="-c timezone=America/Los_Angeles") as connection:
        connection.execute("SELECT ensure_request_partitions('2035-12-31 23:30:00-08', 1)")

    bounds = await _query(
        pool, "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname ~ '^requests_203[56]_..$'"
    )
    assert bounds == [("FOR VALUES FROM ('2036-01-01 00:00:00+00') TO ('2036-02-01 00:00:00+00')",)]


async def test_a_month_is_read_by_one_partition(pool: PostgresPool) -> None:
    plan = await _query(
        pool,
        "EXPLAIN SELECT sum(cost_exact) FROM requests WHERE tenant_id = 'a' AND start_time >= %s AND start_time < %s",
        START,
        START + timedelta(days=2),
    )

    scanned = {word for (line,) in plan for word in line.split() if word.startswith("requests_2") or "default" in word}
    assert len({name.split("_tenant")[0].split("_start_time")[0] for name in scanned}) <= 1


async def test_a_value_that_the_database_refuses_is_our_defect_and_not_its_absence(pool: PostgresPool) -> None:
    with pytest.raises(InternalError) as refusal:
        await _query(pool, "SELECT %s::integer", "secret-value")

    assert "secret-value" not in "".join([str(refusal.value), *refusal.value.__notes__])
    assert refusal.value.__notes__ == ["InvalidTextRepresentation 22P02"]


async def test_a_schema_that_is_missing_makes_the_ledger_unavailable(empty_postgres_dsn: str) -> None:
    pool = PostgresPool(empty_postgres_dsn)
    try:
        with pytest.raises(DependencyUnavailable):
            await PostgresRecordStore(pool).insert([record()])
    finally:
        await pool.aclose()


async def test_a_server_that_is_not_there_is_unavailable_and_the_address_stays_secret() -> None:
    pool = PostgresPool("postgresql://someone:hunter2@127.0.0.1:1/ledger")
    try:
        with pytest.raises(DependencyUnavailable) as absence:
            await PostgresRecordStore(pool, deadline_s=0.5).get(record().id, tenant_id="tenant-a")
    finally:
        await pool.aclose()
    shown = repr(absence.value) + "".join(absence.value.__notes__)
    assert not any(secret in shown for secret in ("hunter2", "someone", "127.0.0.1"))
    assert absence.value.__cause__ is None


async def test_a_closed_pool_is_unavailable(postgres_dsn: str) -> None:
    pool = PostgresPool(postgres_dsn)
    await PostgresProbe(pool).check()
    await pool.aclose()

    with pytest.raises(DependencyUnavailable):
        await PostgresProbe(pool).check()


async def test_a_connection_string_that_cannot_be_read_is_not_quoted() -> None:
    with pytest.raises(ValueError, match="cannot be read") as refusal:
        PostgresPool("postgresql://user:hunter2@[::1")
    assert "hunter2" not in str(refusal.value)


async def test_each_new_connection_asks_for_its_password(postgres_dsn: str) -> None:
    asked = 0

    async def password() -> str:
        nonlocal asked
        asked += 1
        return "token"

    pool = PostgresPool(postgres_dsn, password_source=password, max_size=1)
    try:
        await PostgresProbe(pool).check()
        await PostgresProbe(pool).check()
        assert asked == 1
        async with pool.connection(timeout_s=5) as connection:
            await connection.close()
        await PostgresProbe(pool, timeout_s=5).check()
        assert asked == 2
    finally:
        await pool.aclose()


async def test_a_managed_identitys_token_is_the_password() -> None:
    scopes: list[str] = []

    class Credential:
        async def get_token(self, *asked: str, **options: Any) -> AccessToken:
            scopes.extend(asked)
            return AccessToken("token", 0)

        async def close(self) -> None:
            pass

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *details: object) -> None:
            pass

    assert await entra_password(Credential())() == "token"
    assert scopes == ["https://ossrdbms-aad.database.windows.net/.default"]


async def test_the_server_gives_up_on_a_statement_by_itself(postgres_dsn: str) -> None:
    pool = PostgresPool(postgres_dsn, statement_timeout_s=0.05)
    try:
        with pytest.raises(DependencyUnavailable) as absence:
            await _query(pool, "SELECT pg_sleep(60)")
        assert absence.value.__notes__ == ["QueryCanceled 57014"]
    finally:
        await pool.aclose()


async def test_a_statement_that_outlives_its_deadline_loses_its_connection_and_no_other(postgres_dsn: str) -> None:
    pool = PostgresPool(postgres_dsn, max_size=1)
    try:
        with pytest.raises(DependencyUnavailable):
            async with pool.connection(timeout_s=0.2) as connection:
                await connection.execute("SELECT pg_sleep(60)")
        await PostgresProbe(pool, timeout_s=5).check()
    finally:
        await pool.aclose()


async def test_a_frozen_server_costs_no_more_than_the_deadline_and_a_thawed_one_serves_again(
    postgres_server: Postgres, postgres_dsn: str
) -> None:
    pool = PostgresPool(postgres_dsn, max_size=2)
    store, written = PostgresRecordStore(pool, deadline_s=0.5), record()
    try:
        await store.insert([record()])
        postgres_server.freeze()
        # Far above the deadlines, far below what a hang takes: the pool hands out no dead connection twice, either.
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*(store.insert([written]) for _ in range(6)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DependencyUnavailable] * 6
        with pytest.raises(DependencyUnavailable):
            await PostgresProbe(pool, timeout_s=0.3).check()
        postgres_server.thaw()

        await _until_it_answers(pool)
        # It may have been written after its answer was given up on: exactly once all the same.
        assert await store.insert([written]) in {0, 1}
        assert await store.get(written.id, tenant_id=written.tenant_id) == written
    finally:
        await pool.aclose()


async def test_a_cancelled_caller_of_a_frozen_server_is_let_go(
    postgres_server: Postgres, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, cut = PostgresPool(postgres_dsn, max_size=1), []
    sever = pool_module._sever

    def watched(connection: Connection) -> None:
        cut.append(connection)
        sever(connection)

    monkeypatch.setattr(pool_module, "_sever", watched)
    try:
        await PostgresProbe(pool).check()
        postgres_server.freeze()
        waiting = asyncio.create_task(PostgresRecordStore(pool, deadline_s=60).insert([record()]))
        while True:
            # With the connection taken, the statement is sent by the next turns of the loop.
            await asyncio.sleep(0.05)
            if not pool._pool.get_stats()["pool_available"]:
                break
        waiting.cancel()
        await asyncio.wait({waiting}, timeout=20)
        assert waiting.cancelled()
        # Not the server's answer and not the deadline let it go.
        assert len(cut) == 1
        postgres_server.thaw()
        await _until_it_answers(pool)
    finally:
        await pool.aclose()


async def test_a_restarted_server_is_used_again_without_a_failed_request(
    postgres_server: Postgres, postgres_dsn: str
) -> None:
    pool = PostgresPool(postgres_dsn, max_size=4)
    try:
        # All four connections exist, and all four die with the server.
        await asyncio.gather(*(_query(pool, "SELECT pg_sleep(0.1)") for _ in range(4)))
        await asyncio.to_thread(postgres_server.stop)
        await asyncio.to_thread(postgres_server.start)

        # Trying one dead connection after the other, with the pool's pauses of 1, 2 and 4 s, would take longer.
        await PostgresProbe(pool, timeout_s=5).check()
    finally:
        await pool.aclose()


async def test_a_killed_server_leaves_whole_batches_or_nothing(postgres_server: Postgres, postgres_dsn: str) -> None:
    pool = PostgresPool(postgres_dsn)
    store = PostgresRecordStore(pool, deadline_s=2)
    batches = [batch(40) for _ in range(12)]
    try:
        writing = [asyncio.create_task(store.insert(records)) for records in batches]
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(postgres_server.kill)
        outcomes = await asyncio.gather(*writing, return_exceptions=True)
        await asyncio.to_thread(postgres_server.start)
        await _until_it_answers(pool)

        assert all(isinstance(outcome, DependencyUnavailable) or outcome == 40 for outcome in outcomes)
        for records, outcome in zip(batches, outcomes, strict=True):
            new = await store.insert(records)
            # What was acknowledged is there; what was not is there as a whole or not at all.
            assert new == 0 if outcome == 40 else new in {0, 40}
        rows = await _query(
            pool,
            "SELECT count(*), count(DISTINCT id) FROM requests WHERE id = ANY(%s)",
            [item.id for records in batches for item in records],
        )
        assert rows == [(480, 480)]
    finally:
        await pool.aclose()


async def _until_it_answers(pool: PostgresPool) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await PostgresProbe(pool, timeout_s=5).check()
            except DependencyUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


def test_the_ledger_has_a_column_for_every_field(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        for table, cls in (("requests", RequestRecord), ("attempts", AttemptRecord)):
            rows = connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
            ).fetchall()
            assert set(_columns(cls)) <= {name for (name,) in rows}
