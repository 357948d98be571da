"""The money invariant over generated histories: workers that reserve, fail over, spill, die, and a memory that is lost."""

import asyncio
import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.budgets import Period
from shared.domain.errors import DependencyUnavailable, LimitReached
from shared.domain.scopes import Per, Scope
from shared.services.till import Hold
from tests.budget_builders import TENANT, budget
from tests.service.test_till_service import MICRO, SHOP, House, Worker

HARD = {"day": 500, "month": 900, "ever": 1_400}
WORKERS = 3

amounts = st.integers(0, 300)
workers = st.integers(0, WORKERS - 1)
steps = st.one_of(
    st.tuples(st.just("reserve"), workers, amounts),
    st.tuples(st.just("cover"), st.integers(0, 99), amounts),
    st.tuples(st.just("finish"), st.integers(0, 99), st.integers(0, 100)),
    st.tuples(st.just("work"), workers),
    st.tuples(st.just("kill"), workers),
    st.tuples(st.just("ledger"), st.booleans()),
    st.tuples(st.just("money"), st.booleans()),
    st.tuples(st.just("recover")),
    st.tuples(st.just("reconcile")),
    st.tuples(st.just("lose")),
    st.tuples(st.just("wait"), st.integers(0, 40_000)),
)


class History:
    """Several workers of one house; each step may fail as dependencies do, and never breaks a budget."""

    def __init__(self) -> None:
        scope = Scope(Per.TENANT)
        self.house = House(
            budget("day", HARD["day"]),
            budget("month", HARD["month"], period=Period.MONTH, scope=scope),
            budget("ever", HARD["ever"], period=Period.TOTAL, scope=scope),
        )
        self.workers = [Worker(self.house) for _ in range(WORKERS)]
        self.open: list[tuple[Worker, int, Hold, int]] = []
        self.number = 0

    async def take(self, step: tuple[Any, ...]) -> None:
        with contextlib.suppress(LimitReached, DependencyUnavailable):
            await getattr(self, step[0])(*step[1:])
        money = self.house.money
        was_away, money.away = money.away, False
        purse = await money.read(TENANT)
        money.away = was_away
        for account, balance in purse.balances.items():
            assert balance.reserved_micro_usd >= 0
            assert balance.used_micro_usd <= HARD[account.split("/")[0]]
            held = [lease.amount_micro_usd for lease in purse.leases.values() if account in lease.accounts]
            assert balance.reserved_micro_usd == sum(held)

    async def reserve(self, worker: int, amount: int) -> None:
        self.number += 1
        one = self.workers[worker]
        one.journal.opened(one.finished(self.number, 0))
        hold = await one.reserve(self.number, amount)
        self.open.append((one, self.number, hold, amount))

    async def cover(self, position: int, more: int) -> None:
        if self.open:
            one, number, hold, amount = self.open.pop(position % len(self.open))
            total = amount + more if await hold.cover((amount + more) * MICRO) else amount
            self.open.append((one, number, hold, total))

    async def finish(self, position: int, percent: int) -> None:
        if self.open:
            one, number, hold, amount = self.open.pop(position % len(self.open))
            accounts = hold.lease.accounts
            made = one.finished(number, amount * percent // 100)
            record = type(made)(**{f: getattr(made, f) for f in made.__slots__} | {"budget_accounts": accounts})
            one.journal.finished(record)
            await one.writer._write([record])
            one.journal.stored([record.id])

    async def work(self, worker: int) -> None:
        await self.workers[worker].books.work()

    async def kill(self, worker: int) -> None:
        dead, self.workers[worker] = self.workers[worker], Worker(self.house)
        dead.journal.die()
        self.open = [entry for entry in self.open if entry[0] is not dead]

    async def ledger(self, away: bool) -> None:
        self.house.records.away = away

    async def money(self, away: bool) -> None:
        self.house.money.away = away

    async def recover(self) -> None:
        await self.workers[0].writer.recover()
        if not self.house.records.away:
            await self.workers[0].writer.insert(self.house.spill.take())

    async def reconcile(self) -> None:
        await self.workers[0].reconciler.reconcile_all()

    async def lose(self) -> None:
        """What nobody holds at the loss (records of dead workers, and in the queue) comes later: docs/limits.md."""
        self.house.records.away = self.house.money.away = False
        await self.recover()
        self.house.money.lose_memory()
        for worker in self.workers:
            await worker.books.work()

    async def wait(self, seconds: int) -> None:
        """Leases run out; without the ledger's word that frees nothing."""
        self.house.clock.advance(seconds)

    async def end(self) -> None:
        """Everybody dies, all is recovered, all leases are given up: what is counted is what the ledger holds."""
        self.house.records.away = self.house.money.away = False
        for worker in range(WORKERS):
            await self.kill(worker)
        await self.recover()
        await self.workers[0].books.work()
        await self.reconcile()
        self.house.clock.advance(4_000)
        await self.reconcile()
        truth: dict[str, int] = {}
        for record in self.house.records.by_id.values():
            for account in record.budget_accounts:
                truth[account] = truth.get(account, 0) + int(record.cost_usd / MICRO)
        purse = await self.house.money.read(TENANT)
        for account, balance in purse.balances.items():
            assert balance.reserved_micro_usd == 0
            if balance.settled_micro_usd is not None:
                assert balance.settled_micro_usd == truth.get(account, 0)


async def _live(history: list[tuple[Any, ...]]) -> None:
    lived = History()
    for step in history:
        await lived.take(step)
    await lived.end()


@settings(deadline=None, max_examples=300)
@given(st.lists(steps, max_size=60))
def test_settled_and_reserved_never_exceed_the_budget_and_end_as_the_ledger(history: list[tuple[Any, ...]]) -> None:
    asyncio.run(_live(history))


def test_the_caller_of_these_histories_has_all_three_budgets() -> None:
    lived = History()
    accounts = lived.workers[0].till.accounts(SHOP, (), lived.house.clock.now())
    assert [account.budget.name for account in accounts] == list(HARD)
