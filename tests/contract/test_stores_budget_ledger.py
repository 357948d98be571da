"""`BudgetLedger` on the twin and on PostgreSQL: sums by account that are exactly the records'."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest

from shared.domain.budgets import LedgerCharge
from shared.domain.pricing import to_micro_usd
from shared.domain.records import RequestRecord
from shared.ports import BudgetLedger, RecordStore
from shared.stores.memory import MemoryRecordStore
from shared.stores.memory_budgets import MemoryBudgetLedger
from shared.stores.postgres.budgets import PostgresBudgetLedger
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.records import PostgresRecordStore
from tests.stores_builders import IDS, record


class Books:
    """A ledger and what it holds of a tenant that nobody else uses."""

    def __init__(self, records: RecordStore, ledger: BudgetLedger) -> None:
        self.records, self.ledger, self.tenant = records, ledger, IDS.request_id()

    def charged(self, cost: str, *accounts: str, **fields: object) -> RequestRecord:
        return record(tenant_id=self.tenant, cost_usd=Decimal(cost), budget_accounts=accounts, **fields)

    async def settled(self, *accounts: str) -> dict[str, int]:
        return dict((await self.ledger.spend(self.tenant, accounts, ())).settled_micro_usd)


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn)
    yield pool
    await pool.aclose()


@pytest.fixture(params=["memory", "postgres"])
def books(request: pytest.FixtureRequest) -> Books:
    if request.param == "memory":
        records = MemoryRecordStore()
        return Books(records, MemoryBudgetLedger(records))
    pool = request.getfixturevalue("pool")
    return Books(PostgresRecordStore(pool), PostgresBudgetLedger(pool))


async def test_each_request_counts_for_all_its_accounts_rounded_up(books: Books) -> None:
    rows = [
        books.charged("0.0000001", "a/total/x", "b/total/y"),
        books.charged("0.25", "a/total/x"),
        books.charged("0", "a/total/x"),
        books.charged("7"),
    ]
    await books.records.insert(rows)
    assert await books.settled("a/total/x", "b/total/y", "c/total/z") == {"a/total/x": 250_001, "b/total/y": 1}
    assert sum(to_micro_usd(row.cost_usd) for row in rows if "a/total/x" in row.budget_accounts) == 250_001


async def test_accounts_are_found_by_how_they_begin(books: Books) -> None:
    await books.records.insert(
        [books.charged("1", "a/2026-11/x", "a/2026-10/x"), books.charged("2", "a/2026-11/y", "a_/2026-11/y")]
    )
    assert dict(await books.ledger.settled(books.tenant, ("a/2026-11/", "b/2026-11/"))) == {
        "a/2026-11/x": 1_000_000,
        "a/2026-11/y": 2_000_000,
    }
    assert dict(await books.ledger.settled("another", ("a/",))) == {}


async def test_a_record_counts_once_however_often_it_is_inserted(books: Books) -> None:
    row = books.charged("0.5", "a/total/x")
    for _ in range(3):
        await books.records.insert([row, row])
    await books.records.insert([replace(row, cost_usd=Decimal(9)), books.charged("0.1", "a/total/x")])
    assert await books.settled("a/total/x") == {"a/total/x": 600_000}


async def test_tenants_are_apart(books: Books) -> None:
    row = books.charged("0.5", "a/total/x")
    await books.records.insert([row])
    spend = await books.ledger.spend("tenant-b", ["a/total/x"], [row.id])
    assert (dict(spend.settled_micro_usd), dict(spend.charges)) == ({}, {})


async def test_it_knows_what_single_requests_cost_and_which_are_not_there(books: Books) -> None:
    row, missing = books.charged("0.0000015", "a/total/x", "b/total/y"), books.charged("1")
    await books.records.insert([row])
    spend = await books.ledger.spend(books.tenant, [], [row.id, missing.id])
    assert dict(spend.charges) == {row.id: LedgerCharge(2, ("a/total/x", "b/total/y"))}


async def test_the_record_keeps_its_accounts(books: Books) -> None:
    row = books.charged("0.5", "a/total/x", "b/total/~0f")
    await books.records.insert([row])
    found = await books.records.get(row.id, tenant_id=books.tenant)
    assert found is not None
    assert found.budget_accounts == row.budget_accounts


async def test_writers_that_charge_the_same_accounts_do_not_lock_each_other_out(books: Books) -> None:
    names = [f"a/total/{number}" for number in range(20)]
    batches = [[books.charged("0.001", *(names if odd else reversed(names)))] * 1 for odd in (0, 1) * 20]
    await asyncio.gather(*(books.records.insert(batch) for batch in batches))
    assert await books.settled(*names) == dict.fromkeys(names, 40_000)


async def test_rows_that_move_into_a_new_months_partition_are_not_counted_again(
    pool: PostgresPool, postgres_dsn: str
) -> None:
    books = Books(PostgresRecordStore(pool), PostgresBudgetLedger(pool))
    far = datetime(2031, 5, 6, tzinfo=UTC)
    await books.records.insert([books.charged("0.5", "a/total/x", start_time=far, end_time=far)])
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("SELECT ensure_request_partitions(%s, 1)", [far])
        moved = connection.execute("SELECT count(*) FROM requests_2031_05").fetchone()
    assert moved is not None
    assert moved[0] >= 1
    assert await books.settled("a/total/x") == {"a/total/x": 500_000}
