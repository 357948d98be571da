"""A worker process that spends: ``python -m tests.contract.budget_worker REDIS POSTGRES JOURNAL HARD SEED``.

It admits, reserves, sometimes asks for more, and records, on the real stores, until its input ends or it is killed.
"""

import asyncio
import random
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from shared.domain.budgets import Budget, Period
from shared.domain.errors import DependencyUnavailable, LimitReached
from shared.domain.identity import Principal, RouterRole
from shared.domain.policy import Policy
from shared.domain.scopes import Per, Scope
from shared.services.bookkeeping import Bookkeeper
from shared.services.reconciling import Reconciler
from shared.services.recording import RecordWriter
from shared.services.till import Till
from shared.stores.journal import FileJournal
from shared.stores.memory import MemorySpill
from shared.stores.postgres.budgets import PostgresBudgetLedger
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.redis import connect_redis
from shared.stores.redis_budgets import RedisBudgetStore
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry
from tests.stores_builders import bare_record
from tests.unit.routing_builders import policy

TENANT = "tenant-of-workers"
CALLER = Principal("p", TENANT, "shop", frozenset({RouterRole.SERVICE}))
GATHER_S = 1.5
BEAT_S = 0.1


def rules(hard_micro_usd: int) -> Policy:
    """A tight budget of the service below a wider one of the tenant."""
    service = Budget("service", Period.TOTAL, Scope(Per.SERVICE), hard_micro_usd, hard_micro_usd // 2)
    return policy(budgets=(service, Budget("tenant", Period.TOTAL, Scope(Per.TENANT), 2 * hard_micro_usd)))


class Desk:
    """One process's services on the real stores."""

    def __init__(self, redis_url: str, dsn: str, journal: Path, hard_micro_usd: int) -> None:
        clock, telemetry, self.policy = SystemClock(), RecordingTelemetry(), rules(hard_micro_usd)
        self.clock = clock
        self.redis = connect_redis(redis_url)
        self.pool = PostgresPool(dsn)
        self.money = RedisBudgetStore(self.redis, clock, gather_s=GATHER_S, timeout_s=5)
        self.books = Bookkeeper(self.money, telemetry, beat_s=BEAT_S)
        # All leases that nobody owns any more are given up: only ever asked when every worker is dead.
        ledger = PostgresBudgetLedger(self.pool)
        self.reconciler = Reconciler(self.money, ledger, clock, telemetry, lost_after_s=-3600.0)
        self.till = Till(self.money, self.books, self.reconciler, lambda: self.policy, clock, telemetry)
        self.journal = FileJournal(journal)
        records = PostgresRecordStore(self.pool, deadline_s=20)
        self.writer = RecordWriter(records, MemorySpill(), self.journal, telemetry, self.books)

    async def request(self, rng: random.Random) -> None:
        now = datetime.now(UTC)  # noqa: TID251 - a process of its own, with the time of the machine
        accounts = self.till.accounts(CALLER, (), now)
        record = bare_record(
            tenant_id=TENANT,
            service_name="shop",
            start_time=now,
            end_time=now,
            budget_accounts=tuple(account.id for account in accounts),
        )
        self.writer.opened(record)
        cost = Decimal(0)
        worst = Decimal(rng.randint(1, 400)).scaleb(-6)
        try:
            hold = await self.till.reserve(TENANT, record.id, accounts, worst, lease_s=20)
            await asyncio.sleep(rng.uniform(0, 0.02))
            if rng.random() < 0.3 and await hold.cover(worst * 2):
                worst *= 2
            cost = worst * Decimal(rng.randint(0, 100)) / 100
            await asyncio.sleep(rng.uniform(0, 0.02))
        except (LimitReached, DependencyUnavailable):
            await asyncio.sleep(0.01)
        self.writer.finished(type(record)(**{**{f: getattr(record, f) for f in record.__slots__}, "cost_usd": cost}))

    async def aclose(self) -> None:
        await self.writer.aclose()
        await self.books.aclose()
        await self.pool.aclose()
        await self.redis.aclose()
        self.journal.close()


async def main(redis_url: str, dsn: str, journal: str, hard: str, seed: str) -> None:
    """Make requests, a few at a time."""
    desk, rng = Desk(redis_url, dsn, Path(journal), int(hard)), random.Random(int(seed))
    desk.books.start()
    desk.writer.start()
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))

    async def caller() -> None:
        while not told.done():
            await desk.request(rng)

    await asyncio.gather(*(caller() for _ in range(4)))
    await desk.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
