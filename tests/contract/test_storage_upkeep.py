"""What tables take up, by the statistics of a real database; and indexes that are mostly waste, built anew while in use."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest

from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.storage import _LOCK, PostgresStorage
from tests.stores_builders import batch

ROWS = 60_000


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn)
    yield pool
    await pool.aclose()


@pytest.fixture(scope="module")
def wasteful(postgres_dsn: str) -> str:
    """A table of which nine rows in ten were deleted, from all of its pages."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE wasteful (id bigint PRIMARY KEY, text text) WITH (autovacuum_enabled = false)")
        connection.execute("INSERT INTO wasteful SELECT n, repeat('x', 50) FROM generate_series(1, %s) AS n", (ROWS,))
        connection.execute("DELETE FROM wasteful WHERE id % 10 <> 0")
        connection.execute("VACUUM (ANALYZE) wasteful")
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("ANALYZE wasteful")  # the first connection's own counts come when it ends
    return postgres_dsn


def size(dsn: str, name: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT pg_relation_size(%s::regclass)", (name,)).fetchone()
    assert row is not None
    return int(row[0])


def invalid(dsn: str) -> int:
    """Indexes that an interrupted rebuild left behind."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
    assert row is not None
    return int(row[0])


async def rebuilt(storage: PostgresStorage) -> str:
    """What is built anew, once the server has noticed that another session which held the lock is gone."""
    async with asyncio.timeout(30):
        while (name := await storage.rebuild_index()) is None:  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.05)
    return name


async def test_tables_are_told_with_their_partitions_sizes_and_waste(pool: PostgresPool, wasteful: str) -> None:
    await PostgresRecordStore(pool).insert(batch(20, start_time=datetime.now(UTC)))  # noqa: TID251 - a month that is there
    with psycopg.connect(wasteful, autocommit=True) as connection:
        connection.execute("ANALYZE requests")
    tables = {table.name: table for table in await PostgresStorage(pool).tables()}
    assert {"requests", "attempts", "receipts", "budget_spend", "analytics", "feedback"} <= tables.keys()
    assert not [name for name in tables if name.startswith("requests_")]
    requests = tables["requests"]
    assert requests.partitions >= 4  # three months and the default one
    assert requests.oldest == f"requests_{datetime.now(UTC):%Y_%m}"  # noqa: TID251 - likewise
    assert requests.newest is not None
    assert requests.oldest < requests.newest
    assert requests.total_bytes >= requests.table_bytes + requests.index_bytes > 0
    assert requests.analyzed_at is not None
    assert tables["budget_spend"].partitions == 0
    assert tables["budget_spend"].oldest is None
    waste = tables["wasteful"]
    assert waste.rows == ROWS // 10
    assert waste.bloat_bytes is not None
    assert 0.8 < waste.bloat_bytes / waste.table_bytes < 1
    assert waste.vacuumed_at is not None
    assert list(tables) == [name for name, _ in sorted(tables.items(), key=lambda one: (-one[1].total_bytes, one[0]))]


async def test_a_fresh_table_is_not_thought_to_be_waste(pool: PostgresPool, wasteful: str) -> None:
    with psycopg.connect(wasteful, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE fresh AS SELECT n AS id, repeat('x', 50) AS text FROM generate_series(1, 30000) AS n"
        )
        connection.execute("CREATE INDEX fresh_id ON fresh (id)")
        connection.execute("ANALYZE fresh")
    (fresh,) = [table for table in await PostgresStorage(pool).tables() if table.name == "fresh"]
    assert fresh.bloat_bytes is not None
    assert fresh.bloat_bytes < 0.1 * fresh.table_bytes


async def test_an_index_that_is_mostly_waste_is_built_anew_and_then_left_alone(
    pool: PostgresPool, wasteful: str
) -> None:
    storage = PostgresStorage(pool, least_bytes=2**20)
    before = size(wasteful, "wasteful_pkey")
    assert await PostgresStorage(pool, least_bytes=2**30).rebuild_index() is None
    with psycopg.connect(wasteful, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        assert await storage.rebuild_index() is None
    assert await rebuilt(storage) == "wasteful_pkey"
    assert size(wasteful, "wasteful_pkey") < before / 4
    assert await storage.rebuild_index() is None


async def test_a_rebuild_gives_up_when_an_old_transaction_is_in_the_way_and_the_next_one_cleans_up(
    pool: PostgresPool, wasteful: str
) -> None:
    with psycopg.connect(wasteful, autocommit=True) as connection:
        connection.execute("INSERT INTO wasteful SELECT n, '' FROM generate_series(100001, 160000) AS n")
        connection.execute("DELETE FROM wasteful WHERE id % 10 <> 0")
        connection.execute("VACUUM (ANALYZE) wasteful")
    storage = PostgresStorage(pool, least_bytes=2**20, rebuild_s=1.0)
    with psycopg.connect(wasteful) as old:
        old.execute("SELECT count(*) FROM wasteful WHERE id = 10")  # a snapshot that the new index must wait for
        assert await storage.rebuild_index() is None
    assert invalid(wasteful) == 1
    async with asyncio.timeout(30):
        while invalid(wasteful):
            await PostgresStorage(pool, least_bytes=2**20).rebuild_index()
            await asyncio.sleep(0.05)
    assert size(wasteful, "wasteful_pkey") < 2**20
