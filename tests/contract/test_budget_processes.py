"""The money invariant with real processes on real stores: kills at any instant, and a Redis that loses its memory."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from infra.local.services import Redis
from shared.domain.errors import DependencyUnavailable
from tests.contract.budget_worker import TENANT, Desk

ROOT = Path(__file__).parents[2]
HARD = 300_000
ACCOUNTS = {"service/total/shop": HARD, f"tenant/total/{TENANT}": 2 * HARD}


class Crew:
    """Worker processes, each started anew when it ends, and an eye on the money."""

    def __init__(self, redis_url: str, dsn: str, journal: Path) -> None:
        self.arguments = (redis_url, dsn, str(journal), str(HARD))
        self.desk = Desk(redis_url, dsn, journal, HARD)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.seen: list[int] = []
        self._seed = 0
        self._known: list[subprocess.Popen[bytes]] = []

    def hire(self) -> None:
        self._seed += 1
        command = [sys.executable, "-m", "tests.contract.budget_worker", *self.arguments, str(self._seed)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.workers.append(subprocess.Popen(command, cwd=ROOT, **pipes))

    async def ready(self) -> None:
        """All are at work, and money is spent."""
        for worker in self.workers:
            if worker not in self._known:
                assert worker.stdout is not None
                assert await asyncio.to_thread(worker.stdout.readline) == b"ready\n"
                self._known.append(worker)
        async with asyncio.timeout(60):
            while not any(self.seen):
                await asyncio.sleep(0.02)
                await self.look()

    async def look(self) -> None:
        """Observes all accounts at one instant."""
        for account, balance in (await self.desk.money.read(TENANT)).balances.items():
            assert balance.reserved_micro_usd >= 0
            assert balance.used_micro_usd <= ACCOUNTS[account]
            self.seen.append(balance.used_micro_usd)

    def kill(self, number: int) -> None:
        worker = self.workers.pop(number)
        worker.kill()
        worker.communicate()

    async def let_go(self) -> list[int]:
        """Ends all workers as a host does; returns their exit statuses."""
        workers, self.workers = self.workers, []
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            await asyncio.to_thread(worker.wait, 60)
            assert worker.stdout is not None
            worker.stdout.close()
        return [worker.returncode for worker in workers]

    def fire(self) -> None:
        while self.workers:
            self.kill(0)

    async def tidy(self) -> None:
        """What timers do once every worker is dead: recover the journals, then reconcile."""
        await self.desk.writer.recover()
        await self.desk.books.work()
        await self.desk.reconciler.reconcile_all()


@pytest.fixture
async def crew(redis_url: str, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Crew]:
    crew = Crew(redis_url, postgres_dsn, tmp_path / "journal")
    await crew.desk.redis.flushdb()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE requests, budget_spend")
    yield crew
    crew.fire()
    await crew.desk.aclose()


async def rebuilt(crew: Crew, before: str) -> bool:
    """Whether another memory knows all accounts; observes the money meanwhile."""
    try:
        await crew.look()
        purse = await crew.desk.money.read(TENANT)
    except DependencyUnavailable:
        return False
    known = {account for account, balance in purse.balances.items() if balance.settled_micro_usd is not None}
    return purse.generation != before and known == set(ACCOUNTS)


async def ledger_says(crew: Crew, dsn: str) -> dict[str, int]:
    """The sums over the rows themselves, and that the kept sums are the same."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT account, sum(ceil(cost_exact * 1000000))::bigint "
            "FROM requests CROSS JOIN LATERAL jsonb_array_elements_text(budget_accounts) AS account GROUP BY account"
        ).fetchall()
        kept = connection.execute("SELECT account, micro_usd::bigint FROM budget_spend").fetchall()
    assert dict(rows) == dict(kept)
    return dict(rows)


@pytest.mark.timeout(240)
async def test_kills_at_any_instant_never_break_the_budget_and_leave_the_ledgers_truth(
    crew: Crew, postgres_dsn: str
) -> None:
    rng = random.Random(7)
    for _ in range(3):
        crew.hire()
    await crew.ready()
    for _ in range(4):
        for _ in range(rng.randint(1, 25)):
            await crew.look()
            await asyncio.sleep(0.005)
        crew.kill(rng.randrange(len(crew.workers)))
        crew.hire()
        await crew.ready()
        await crew.desk.writer.recover()
        await crew.desk.books.work()
    async with asyncio.timeout(60):
        while max(crew.seen) < HARD * 0.9:  # until then the budget was never in danger
            await asyncio.sleep(0.01)
            await crew.look()
    crew.fire()
    await crew.look()
    await crew.tidy()
    purse = await crew.desk.money.read(TENANT)
    assert purse.leases == {}
    truth = await ledger_says(crew, postgres_dsn)
    assert {a: (b.settled_micro_usd, b.reserved_micro_usd) for a, b in purse.balances.items()} == {
        account: (micro_usd, 0) for account, micro_usd in truth.items()
    }
    assert HARD // 2 < truth["service/total/shop"] <= HARD


@pytest.mark.timeout(240)
async def test_a_redis_that_forgets_is_rebuilt_without_breaking_the_budget(
    crew: Crew, redis_server: Redis, postgres_dsn: str
) -> None:
    for _ in range(3):
        crew.hire()
    await crew.ready()
    for loss in ("flush", "restart", "flush"):
        before = (await crew.desk.money.read(TENANT)).generation
        for _ in range(20):
            await crew.look()
            await asyncio.sleep(0.01)
        if loss == "flush":
            await crew.desk.redis.flushall()
        else:
            await asyncio.to_thread(redis_server.stop)
            await asyncio.to_thread(redis_server.start)
        async with asyncio.timeout(60):
            while not await rebuilt(crew, before):  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(0.02)
    assert await crew.let_go() == [0, 0, 0]
    await crew.tidy()
    truth = await ledger_says(crew, postgres_dsn)
    assert 0 < truth["service/total/shop"] <= HARD
    balances = (await crew.desk.money.read(TENANT)).balances
    assert {account: balance.used_micro_usd for account, balance in balances.items()} == truth
