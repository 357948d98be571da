"""Receipts in their chains, held by PostgreSQL and by its twin; then what can happen to a table only in a database."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from infra.local.services import Postgres
from shared.domain.errors import DependencyUnavailable, InternalError
from shared.domain.receipts import GENESIS, ChainCheck, ReceiptRow, check_section, row_faults
from shared.domain.record_bounds import OMITTED_RECEIPT
from shared.domain.records import RequestRecord
from shared.ports import ConfigurationArchive, ReceiptStore, RecordStore
from shared.stores.memory import ManualClock, MemoryRecordStore
from shared.stores.memory_receipts import MemoryConfigurationArchive, MemoryReceiptStore
from shared.stores.postgres.maintenance import PostgresMaintenance
from shared.stores.postgres.pool import Connection, PostgresPool
from shared.stores.postgres.receipts import PostgresConfigurationArchive, PostgresReceiptStore
from shared.stores.postgres.records import PostgresRecordStore
from tests.stores_builders import IDS, START, batch, record

RECEIPT = '{"chosen":"gemini@eu","digest":"00","draw":0.25,"note":"é \\u0000 \\\\ \\" 漢","v":1}'


@dataclass(frozen=True)
class Ledger:
    """A writer with chains of its own, and who reads them."""

    records: RecordStore
    receipts: ReceiptStore
    chain: str

    async def rows(self, last: int = 1000) -> tuple[ReceiptRow, ...]:
        return (await self.receipts.section(self.chain, first=1, last=last)).rows

    async def check(self, request_id: str, reach: int = 1000) -> ChainCheck:
        row = await self.receipts.receipt(request_id, tenant_id="tenant-a")
        assert row is not None
        first, last = max(1, row.sequence - reach), row.sequence + reach
        section = await self.receipts.section(row.chain, first=first, last=last)
        return check_section(row, section, first=first, last=last)


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


def postgres_ledger(pool: PostgresPool, **options: Any) -> Ledger:
    writer = IDS.request_id()
    return Ledger(
        PostgresRecordStore(pool, writer=writer, **options), PostgresReceiptStore(pool), f"{writer}/{START:%Y-%m}"
    )


@pytest.fixture(params=["memory", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    if request.param == "memory":
        store = MemoryRecordStore()
        return Ledger(store, store.receipts, f"memory/{START:%Y-%m}")
    return postgres_ledger(request.getfixturevalue("pool"))


@pytest.fixture
def database(pool: PostgresPool) -> Ledger:
    return postgres_ledger(pool)


def decided(count: int, **fields: Any) -> list[RequestRecord]:
    return batch(count, receipt=RECEIPT, **fields)


async def test_a_receipt_is_chained_with_its_record_and_not_part_of_it(ledger: Ledger) -> None:
    written = record(receipt=RECEIPT)
    assert await ledger.records.insert([written]) == 1

    assert await ledger.records.get(written.id, tenant_id="tenant-a") == replace(written, receipt=None)
    row = await ledger.receipts.receipt(written.id, tenant_id="tenant-a")
    assert row is not None
    assert (row.chain, row.sequence, row.previous_hash) == (ledger.chain, 1, GENESIS)
    assert (row.request_id, row.tenant_id, row.start_time) == (written.id, "tenant-a", START)
    assert f'"decision":{RECEIPT},' in row.body
    assert row_faults(row) == []


async def test_both_write_the_same_chain(ledger: Ledger) -> None:
    records = decided(5)
    await ledger.records.insert(records[:2])
    await ledger.records.insert(records[2:])

    twin = MemoryReceiptStore(ledger.chain.partition("/")[0])
    twin.append(records)
    assert await ledger.rows() == tuple(twin.rows[ledger.chain])
    assert (await ledger.receipts.section(ledger.chain, first=1, last=1)).head == twin.heads_by_chain[ledger.chain]


async def test_a_receipt_is_there_for_its_own_tenant_only(ledger: Ledger) -> None:
    written = record(receipt=RECEIPT)
    await ledger.records.insert([written])
    assert await ledger.receipts.receipt(written.id, tenant_id="tenant-b") is None


@pytest.mark.parametrize("request_id", ["", "nonsense", "' OR 1=1 --", "\0", "019a0000-0000-7000-8000-000000000000"])
async def test_an_id_that_nobody_has_is_none(ledger: Ledger, request_id: str) -> None:
    assert await ledger.receipts.receipt(request_id, tenant_id="tenant-a") is None


async def test_records_without_a_receipt_take_no_place(ledger: Ledger) -> None:
    mixed = [made for pair in zip(decided(3), batch(3), strict=True) for made in pair]
    assert await ledger.records.insert(mixed) == 6
    assert [row.sequence for row in await ledger.rows()] == [1, 2, 3]


async def test_duplicates_take_no_place(ledger: Ledger) -> None:
    first, second = decided(4), decided(3)
    await ledger.records.insert(first)
    await ledger.records.insert([*first, *second, *second])
    await ledger.records.insert([*second, *first])

    rows = await ledger.rows()
    assert [row.sequence for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert {row.request_id for row in rows} == {made.id for made in first + second}
    assert (await ledger.check(first[0].id)).intact


async def test_of_the_same_id_twice_the_first_receipt_counts(ledger: Ledger) -> None:
    first = record(receipt=RECEIPT)
    await ledger.records.insert([first, replace(first, receipt='{"v":1}')])
    await ledger.records.insert([replace(first, receipt='{"v":1}')])
    assert [RECEIPT in row.body for row in await ledger.rows()] == [True]


async def test_each_month_has_its_chain(ledger: Ledger) -> None:
    next_month = START.replace(month=12)
    records = [*decided(2), *decided(2, start_time=next_month, end_time=next_month), *decided(1)]
    await ledger.records.insert(records)

    assert [row.sequence for row in await ledger.rows()] == [1, 2, 3]
    other = await ledger.receipts.section(ledger.chain.replace("-11", "-12"), first=1, last=9)
    assert [row.sequence for row in other.rows] == [1, 2]
    for made in records:
        assert (await ledger.check(made.id)).intact


async def test_what_is_no_receipt_leaves_a_mark_and_holds_nothing_up(ledger: Ledger) -> None:
    records = [record(receipt=text) for text in ("nonsense", "x" * 50_000, "\0", RECEIPT)]
    assert await ledger.records.insert(records) == 4
    bodies = {row.request_id: row.body for row in await ledger.rows()}
    assert [OMITTED_RECEIPT in bodies[made.id] for made in records] == [True, True, True, False]
    assert (await ledger.check(records[0].id)).intact


async def test_hostile_names_stay_inside_their_body(ledger: Ledger) -> None:
    hostile = record(receipt=RECEIPT, deployment_used='"}\n\\ \u2028 漢', tenant_id="tenant-a")
    await ledger.records.insert([hostile, *decided(1)])
    assert (await ledger.check(hostile.id)).intact


async def test_a_section_ends_where_it_is_told(ledger: Ledger) -> None:
    await ledger.records.insert(decided(6))
    section = await ledger.receipts.section(ledger.chain, first=3, last=4)
    assert [row.sequence for row in section.rows] == [3, 4]
    assert section.head is not None
    assert section.head.sequence == 6
    nobody = await ledger.receipts.section("nobody", first=1, last=9)
    assert (nobody.rows, nobody.head) == ((), None)


async def test_heads_are_those_of_a_month_and_later(ledger: Ledger) -> None:
    later = START.replace(month=12)
    await ledger.records.insert([*decided(2), *decided(1, start_time=later, end_time=later)])
    chains = (ledger.chain, ledger.chain.replace("-11", "-12"))
    for since, expected in ((START, [2, 1]), (later, [1]), (START.replace(year=2027), [])):
        heads = {head.chain: head.sequence for head in await ledger.receipts.heads(since=since)}
        assert [heads[chain] for chain in chains if chain in heads] == expected


@pytest.fixture(params=["memory", "postgres"])
def archive(request: pytest.FixtureRequest) -> ConfigurationArchive:
    if request.param == "memory":
        return MemoryConfigurationArchive()
    return PostgresConfigurationArchive(request.getfixturevalue("pool"))


async def test_a_configuration_is_kept_once_under_its_hash(archive: ConfigurationArchive) -> None:
    document = '{"model":["é 漢"]}'
    version = hashlib.sha256(document.encode()).hexdigest()
    await asyncio.gather(*(archive.keep("registry", version, document) for _ in range(3)))

    assert await archive.document("registry", version) == document
    assert await archive.document("policy", version) is None
    assert await archive.document("registry", "nobody") is None


async def test_a_configuration_under_a_wrong_hash_is_refused(archive: ConfigurationArchive) -> None:
    with pytest.raises(InternalError):
        await archive.keep("policy", "0" * 64, "{}")
    assert await archive.document("policy", "0" * 64) is None


async def test_twins_that_are_switched_away_do_nothing() -> None:
    receipts, kept = MemoryReceiptStore(), MemoryConfigurationArchive()
    receipts.away = kept.away = True
    for call in (
        receipts.receipt("x", tenant_id="t"),
        receipts.section("x", first=1, last=2),
        receipts.heads(since=START),
        kept.keep("policy", "v", "{}"),
        kept.document("policy", "v"),
    ):
        with pytest.raises(DependencyUnavailable):
            await call


# Only PostgreSQL


async def _run(pool: PostgresPool, statement: Any, *parameters: object) -> list[tuple[Any, ...]]:
    async with pool.connection(timeout_s=5) as connection:
        cursor = await connection.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []


async def test_writers_of_one_process_at_once_make_one_chain(database: Ledger) -> None:
    batches = [decided(20) for _ in range(6)]
    orders = [*batches, [*batches[0], *batches[1]], [*reversed(batches[2])], [*batches[4], *batches[3]]]

    written = await asyncio.gather(*(database.records.insert(records) for records in orders))

    assert sum(written) == 120
    assert [row.sequence for row in await database.rows()] == list(range(1, 121))
    assert (await database.check(batches[3][7].id)).intact


async def test_two_processes_have_two_chains_and_a_shared_record_is_in_one_of_them(pool: PostgresPool) -> None:
    one, other = postgres_ledger(pool), postgres_ledger(pool)
    records = decided(30)
    await asyncio.gather(one.records.insert(records), other.records.insert(records[::-1] + decided(5)))
    places = [row.request_id for ledger in (one, other) for row in await ledger.rows()]
    assert len(places) == len(set(places)) == 35
    for ledger in (one, other):
        assert [row.sequence for row in await ledger.rows()] == list(range(1, len(await ledger.rows()) + 1))


class LossyPool(PostgresPool):
    """A pool whose statements are carried out and whose answers get lost."""

    @contextlib.asynccontextmanager
    async def connection(self, *, timeout_s: float) -> AsyncIterator[Connection]:
        async with super().connection(timeout_s=timeout_s) as connection:
            yield connection
        raise DependencyUnavailable("the answer was lost")


async def test_a_commit_whose_answer_was_lost_does_not_fork_the_chain(pool: PostgresPool, postgres_dsn: str) -> None:
    ledger = postgres_ledger(pool)
    lossy = LossyPool(postgres_dsn)
    first, second = decided(3), decided(2)
    try:
        with pytest.raises(DependencyUnavailable):
            await PostgresRecordStore(lossy, writer=ledger.chain.partition("/")[0]).insert(first)
    finally:
        await lossy.aclose()

    assert await ledger.records.insert([*first, *second]) == 2

    assert [row.sequence for row in await ledger.rows()] == [1, 2, 3, 4, 5]
    assert (await ledger.check(second[1].id)).intact


async def test_a_failed_batch_leaves_no_gap(database: Ledger, pool: PostgresPool) -> None:
    await database.records.insert(decided(2))
    await _run(
        pool,
        "CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.sequence = 4 THEN RAISE 'no'; END IF; RETURN NEW; END$$",
    )
    await _run(
        pool,
        "CREATE TRIGGER refuse BEFORE INSERT ON receipts FOR EACH ROW EXECUTE FUNCTION refuse_one()",
    )
    failed = decided(3)
    try:
        with pytest.raises(DependencyUnavailable):
            await database.records.insert(failed)
    finally:
        await _run(pool, "DROP TRIGGER refuse ON receipts")
        await _run(pool, "DROP FUNCTION refuse_one()")

    # The record and its receipt live and die together.
    assert await database.records.get(failed[0].id, tenant_id="tenant-a") is None
    assert await database.records.insert(failed) == 3
    assert [row.sequence for row in await database.rows()] == [1, 2, 3, 4, 5]


async def test_a_killed_server_leaves_a_whole_chain(postgres_server: Postgres, postgres_dsn: str) -> None:
    pool = PostgresPool(postgres_dsn)
    ledger = postgres_ledger(pool, deadline_s=2)
    batches = [decided(20) for _ in range(10)]
    try:
        writing = [asyncio.create_task(ledger.records.insert(records)) for records in batches]
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(postgres_server.kill)
        await asyncio.gather(*writing, return_exceptions=True)
        await asyncio.to_thread(postgres_server.start)
        async with asyncio.timeout(60):
            while True:
                try:
                    for records in batches:
                        await ledger.records.insert(records)
                except DependencyUnavailable:
                    await asyncio.sleep(0.05)
                else:
                    break
        assert [row.sequence for row in await ledger.rows()] == list(range(1, 201))
        assert (await ledger.check(batches[5][0].id)).intact
    finally:
        await pool.aclose()


async def test_late_months_move_from_the_default_partition_unharmed(database: Ledger, pool: PostgresPool) -> None:
    month = datetime(2041, 5, 9, tzinfo=UTC)
    records = decided(3, start_time=month, end_time=month)
    await database.records.insert(records)
    place = "SELECT DISTINCT tableoid::regclass::text FROM receipts WHERE request_id = ANY(%s::uuid[])"
    ids = [made.id for made in records]
    assert await _run(pool, place, ids) == [("receipts_default",)]

    await PostgresMaintenance(pool, ManualClock(month - timedelta(days=20))).prepare_partitions()

    assert await _run(pool, place, ids) == [("receipts_2041_05",)]
    assert (await database.check(ids[1])).intact


@pytest.mark.parametrize("end", ["first", "middle", "last"])
async def test_a_deleted_row_shows(database: Ledger, pool: PostgresPool, end: str) -> None:
    records = decided(9)
    await database.records.insert(records)
    rows = await database.rows()
    gone = {"first": 1, "middle": 5, "last": 9}[end]
    await _run(pool, "DELETE FROM receipts WHERE request_id = %s", rows[gone - 1].request_id)

    check = await database.check(rows[2].request_id)

    assert (check.intact, check.broken_at) == (False, gone)


@pytest.mark.parametrize(
    "change",
    [
        "body = replace(body, 'success', 'succesS')",
        "body = replace(body, '\"draw\":0.25', '\"draw\":0.26')",
        "body = body || ' '",
        "body = replace(body, '0.000912375001', '0.000912375002')",
        "body = ''",
        "hash = sha256(hash)",
        "hash = ''",
        "previous_hash = sha256(previous_hash)",
        "tenant_id = 'tenant-b'",
        "request_id = gen_random_uuid()",
        "start_time = start_time + interval '1 microsecond'",
        "start_time = start_time + interval '1 month'",
        "chain = 'other'",
        "sequence = 77",
        "sequence = 3",
    ],
)
async def test_any_altered_column_shows(database: Ledger, pool: PostgresPool, change: str) -> None:
    await database.records.insert(decided(9))
    rows = await database.rows()
    await _run(pool, f"UPDATE receipts SET {change} WHERE request_id = %s".encode(), rows[3].request_id)  # noqa: S608 - from the list above

    check = await database.check(rows[5].request_id)

    assert not check.intact
    assert check.broken_at in {3, 4, 5}


async def test_every_single_byte_of_a_body_counts(database: Ledger, pool: PostgresPool) -> None:
    await database.records.insert(decided(3))
    row = (await database.rows())[1]
    broken = 0
    async with pool.connection(timeout_s=30) as connection:
        for place in range(1, len(row.body) + 1, 7):
            letter = "~" if row.body[place - 1] != "~" else "-"
            async with connection.transaction(force_rollback=True):
                cursor = await connection.execute(
                    "UPDATE receipts SET body = overlay(body PLACING %s FROM %s) WHERE request_id = %s RETURNING body",
                    (letter, place, row.request_id),
                )
                altered = await cursor.fetchone()
                assert altered is not None
                broken += bool(row_faults(replace(row, body=altered[0])))
    assert broken == len(range(1, len(row.body) + 1, 7))


async def test_a_cut_end_whose_head_was_turned_back_needs_the_head_from_elsewhere(
    database: Ledger, pool: PostgresPool
) -> None:
    """What a chain cannot show to somebody who has only the database to ask (docs/decisions/0004)."""
    await database.records.insert(decided(5))
    rows = await database.rows()
    await _run(pool, "DELETE FROM receipts WHERE request_id = %s", rows[4].request_id)
    assert not (await database.check(rows[2].request_id)).intact
    await _run(pool, "UPDATE receipt_chains SET sequence = 4, hash = %s WHERE chain = %s", rows[3].hash, database.chain)
    assert (await database.check(rows[2].request_id)).intact


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    pool = PostgresPool("postgresql://someone@127.0.0.1:1/ledger")
    try:
        for call in (
            PostgresReceiptStore(pool, deadline_s=0.3).receipt(IDS.request_id(), tenant_id="t"),
            PostgresReceiptStore(pool, deadline_s=0.3).section("c", first=1, last=2),
            PostgresReceiptStore(pool, deadline_s=0.3).heads(since=START),
            PostgresConfigurationArchive(pool, deadline_s=0.3).keep("policy", "v", "{}"),
            PostgresConfigurationArchive(pool, deadline_s=0.3).document("policy", "v"),
        ):
            with pytest.raises(DependencyUnavailable):
                await call
    finally:
        await pool.aclose()


def test_the_head_of_a_chain_is_locked_by_one_writer_at_a_time(postgres_dsn: str) -> None:
    append = "SELECT append_receipts(ARRAY['c'], ARRAY[%s::uuid], ARRAY[%s], ARRAY['t'], ARRAY['{\"x\":1}'])"
    with psycopg.connect(postgres_dsn) as one, psycopg.connect(postgres_dsn, autocommit=True) as other:
        one.execute(append, (IDS.request_id(), START))
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(append, (IDS.request_id(), START))
        one.rollback()
        other.execute(append, (IDS.request_id(), START))
        assert other.execute("SELECT sequence FROM receipt_chains WHERE chain = 'c'").fetchone() == (1,)
