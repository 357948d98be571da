"""`BudgetStore` on the twin and on Redis: the same answers, atomic, and honest about lost memory."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from infra.local.services import Redis
from shared.domain.budgets import Account, Balance, Lease, Reserved, ReserveOutcome
from shared.domain.errors import DependencyUnavailable
from shared.ports import BudgetStore
from shared.stores.memory import ManualClock
from shared.stores.memory_budgets import MemoryBudgetStore
from shared.stores.redis import connect_redis
from shared.stores.redis_budgets import RedisBudgetStore
from shared.stores.system import SystemClock
from tests.budget_builders import account

TENANTS = (f"tenant-{number}" for number in itertools.count())
HELD, SPENT, RESERVED = ReserveOutcome.HELD, ReserveOutcome.SPENT, ReserveOutcome.RESERVED


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect_redis(redis_url) as redis:
        yield redis


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> BudgetStore:
    if request.param == "memory":
        return MemoryBudgetStore(ManualClock(datetime(2026, 11, 23, tzinfo=UTC)), gather_s=0)
    return RedisBudgetStore(request.getfixturevalue("client"), SystemClock(), gather_s=0, timeout_s=5)


class Money:
    """One tenant's money in a store."""

    def __init__(self, store: BudgetStore) -> None:
        self.store = store
        self.tenant = next(TENANTS)

    async def open(self, *accounts: Account, settled: int = 0) -> None:
        """Makes accounts known, as the reconciler does."""
        for one in accounts:
            purse = await self.store.read(self.tenant)
            version = purse.balances.get(one.id, Balance(None)).version
            assert await self.store.mend(self.tenant, one.id, settled, generation=purse.generation, version=version)
        await self.store.release(self.tenant)

    async def reserve(self, request_id: str, amount: int, *accounts: Account, lease_s: float = 60) -> Reserved:
        return await self.store.reserve(self.tenant, request_id, amount, accounts, lease_s=lease_s)

    async def balance(self, one: Account) -> tuple[int | None, int]:
        balance = (await self.store.read(self.tenant)).balances[one.id]
        return balance.settled_micro_usd, balance.reserved_micro_usd


@pytest.fixture
def money(store: BudgetStore) -> Money:
    return Money(store)


async def test_money_is_held_then_booked(money: Money) -> None:
    shop = account(hard=100)
    await money.open(shop)
    answer = await money.reserve("r1", 60, shop)
    assert answer.outcome is HELD
    assert [b.used_micro_usd for b in answer.balances] == [60]
    generation, missing = await money.store.book(money.tenant, {"r1": 25})
    assert (generation, missing) == (answer.generation, frozenset())
    assert await money.balance(shop) == (25, 0)


async def test_a_booking_counts_once_however_often_it_comes(money: Money) -> None:
    shop = account()
    await money.open(shop)
    await money.reserve("r1", 60, shop)
    for missing in (frozenset(), {"r1"}, {"r1"}):
        assert (await money.store.book(money.tenant, {"r1": 25}))[1] == missing
    assert await money.balance(shop) == (25, 0)


async def test_all_accounts_hold_it_or_none(money: Money) -> None:
    wide, narrow = account("wide", 1000), account("narrow", 50)
    await money.open(wide, narrow)
    refusal = await money.reserve("r1", 60, wide, narrow)
    assert (refusal.outcome, refusal.short) == (SPENT, narrow.id)
    assert await money.balance(wide) == (0, 0)
    assert (await money.reserve("r1", 50, wide, narrow)).outcome is HELD
    await money.store.book(money.tenant, {"r1": 50})
    assert await money.balance(wide) == await money.balance(narrow) == (50, 0)


async def test_spent_money_and_reserved_money_are_told_apart(money: Money) -> None:
    shop = account(hard=100)
    await money.open(shop)
    await money.reserve("r1", 60, shop)
    refusal = await money.reserve("r2", 60, shop)
    assert (refusal.outcome, refusal.short, refusal.balances[0].reserved_micro_usd) == (RESERVED, shop.id, 60)
    await money.store.book(money.tenant, {"r1": 60})
    assert (await money.reserve("r2", 60, shop)).outcome is SPENT
    assert (await money.reserve("r2", 40, shop)).outcome is HELD


async def test_spent_anywhere_outweighs_reserved_elsewhere(money: Money) -> None:
    busy, spent = account("busy", 100), account("spent", 10)
    await money.open(busy, spent)
    await money.reserve("r1", 100, busy)
    assert (await money.reserve("r2", 50, busy, spent)).short == spent.id
    assert (await money.reserve("r2", 50, spent, busy)).outcome is SPENT


async def test_reserving_again_raises_the_same_hold(money: Money) -> None:
    shop = account(hard=100)
    await money.open(shop)
    for amount, held in ((60, 60), (60, 60), (40, 60), (90, 90)):
        assert (await money.reserve("r1", amount, shop)).outcome is HELD
        assert await money.balance(shop) == (0, held)
    assert (await money.reserve("r1", 101, shop)).outcome is SPENT
    assert await money.balance(shop) == (0, 90)
    await money.store.book(money.tenant, {"r1": 70})
    assert await money.balance(shop) == (70, 0)


async def test_a_hold_shrinks_to_the_cost_before_it_is_booked(money: Money) -> None:
    shop = account(hard=100)
    await money.open(shop)
    await money.reserve("r1", 90, shop)
    await money.store.resize(money.tenant, {"r1": 5, "unknown": 7})
    assert await money.balance(shop) == (0, 5)
    assert (await money.reserve("r2", 95, shop)).outcome is HELD
    await money.store.book(money.tenant, {"r1": 5, "r2": 0})
    assert await money.balance(shop) == (5, 0)


async def test_a_soft_limit_is_said_always_and_raised_once(money: Money) -> None:
    shop = account(hard=None, soft=10)
    await money.open(shop)
    first = await money.reserve("r1", 50, shop)
    assert (first.soft, first.alerts) == ((), ())
    await money.store.book(money.tenant, {"r1": 10})
    second, third = await money.reserve("r2", 1, shop), await money.reserve("r3", 1, shop)
    assert second.soft == third.soft == (shop.id,)
    assert (second.alerts, third.alerts) == ((("soft", shop.id),), ())
    events = await money.store.events(money.tenant)
    assert [(event.kind, event.account) for event in events] == [("soft", shop.id)]


async def test_a_hard_limit_is_raised_once(money: Money) -> None:
    shop = account(hard=10)
    await money.open(shop)
    refusals = [await money.reserve(f"r{number}", 11, shop) for number in range(3)]
    assert [refusal.alerts for refusal in refusals] == [(("hard", shop.id),), (), ()]
    assert [event.kind for event in await money.store.events(money.tenant)] == ["hard"]


async def test_an_account_of_a_running_period_is_read_from_the_ledger_by_one(money: Money) -> None:
    shop = account()
    first, second = await money.reserve("r1", 1, shop), await money.reserve("r2", 1, shop)
    assert (first.outcome, first.unknown) == (ReserveOutcome.UNKNOWN, (shop.id,))
    assert (second.outcome, second.wait_ms > 0) == (ReserveOutcome.OPENING, True)
    await money.open(shop, settled=99)
    assert (await money.reserve("r1", 1, shop)).outcome is HELD
    assert (await money.reserve("r2", 1, shop)).outcome is RESERVED


async def test_a_claim_that_came_to_nothing_is_free_again(money: Money) -> None:
    assert (await money.reserve("r1", 1, account())).outcome is ReserveOutcome.UNKNOWN
    await money.store.release(money.tenant)
    assert (await money.reserve("r2", 1, account())).outcome is ReserveOutcome.UNKNOWN


async def test_a_period_that_begins_while_the_budget_is_known_needs_no_ledger(money: Money) -> None:
    today, tomorrow = account(), account(begins=datetime(2100, 1, 1, tzinfo=UTC))
    tomorrow = Account("b/2100-01-01/shop", today.budget, tomorrow.started_at, None, "shop")
    assert (await money.reserve("r1", 1, today)).outcome is ReserveOutcome.UNKNOWN
    assert (await money.reserve("r1", 1, tomorrow)).outcome is HELD


async def test_mending_gives_way_to_whoever_was_faster(money: Money) -> None:
    shop = account()
    await money.open(shop)
    purse = await money.store.read(money.tenant)
    version = purse.balances[shop.id].version
    await money.reserve("r1", 10, shop)
    assert not await money.store.mend(money.tenant, shop.id, 7, generation=purse.generation, version=version)
    assert not await money.store.mend(money.tenant, shop.id, 7, generation="another", version=version + 1)
    assert await money.store.mend(money.tenant, shop.id, 7, generation=purse.generation, version=version + 1)
    assert await money.balance(shop) == (7, 10)


async def test_reported_leases_are_held_once_whatever_the_budget_says(money: Money) -> None:
    shop = account(hard=10)
    await money.open(shop)
    lease = Lease("r1", 60, (shop.id,), 2_000_000_000)
    for _ in range(2):
        await money.store.report(money.tenant, [lease])
    assert await money.balance(shop) == (0, 60)
    assert (await money.store.read(money.tenant)).leases == {"r1": lease}
    await money.store.book(money.tenant, {"r1": 20})
    assert await money.balance(shop) == (20, 0)


async def test_booking_on_an_account_that_is_not_open_leaves_it_to_the_ledger(money: Money) -> None:
    shop = account()
    await money.store.report(money.tenant, [Lease("r1", 60, (shop.id,), 2_000_000_000)])
    purse = await money.store.read(money.tenant)
    await money.store.book(money.tenant, {"r1": 20})
    assert await money.balance(shop) == (None, 0)
    version = purse.balances[shop.id].version
    assert not await money.store.mend(money.tenant, shop.id, 0, generation=purse.generation, version=version), "too old"


async def test_forgotten_accounts_are_gone_unless_something_is_reserved(money: Money) -> None:
    old, busy = account("old"), account("busy")
    await money.open(old, busy)
    await money.reserve("r1", 1, busy)
    await money.store.forget(money.tenant, [old.id, busy.id])
    assert set((await money.store.read(money.tenant)).balances) == {busy.id}


async def test_tenants_are_apart(money: Money) -> None:
    shop, other = account(hard=10), Money(money.store)
    await money.open(shop)
    await other.open(shop)
    await money.reserve("r1", 10, shop)
    assert (await other.reserve("r1", 10, shop)).outcome is HELD
    assert {money.tenant, other.tenant} <= await money.store.tenants()
    await money.store.book(money.tenant, {"r1": 10})
    assert await other.balance(shop) == (0, 10)


async def test_an_empty_booking_tells_the_generation(money: Money) -> None:
    generation, missing = await money.store.book(money.tenant, {})
    assert (missing, (await money.store.read(money.tenant)).generation) == (frozenset(), generation)


async def test_a_lost_memory_is_another_generation_and_gathers_first() -> None:
    clock = ManualClock()
    store = MemoryBudgetStore(clock, gather_s=2)
    await _loses_and_gathers(Money(store), lambda: _at_once(store.lose_memory), lambda: _at_once(clock.advance, 2.0))


async def test_a_flushed_redis_is_another_generation_and_gathers_first(client: Client) -> None:
    store = RedisBudgetStore(client, SystemClock(), gather_s=0.3, timeout_s=5)
    await _loses_and_gathers(Money(store), client.flushall, lambda: asyncio.sleep(0.3))


async def _at_once(work: Any, *arguments: Any) -> None:
    work(*arguments)


async def _loses_and_gathers(money: Money, lose: Any, wait: Any) -> None:
    shop = account(hard=100)
    assert (await money.reserve("r1", 1, shop)).outcome is ReserveOutcome.GATHERING
    await wait()
    await money.open(shop)
    held = await money.reserve("r1", 60, shop)
    assert held.outcome is HELD
    await lose()
    refused = await money.reserve("r2", 1, shop)
    assert refused.outcome is ReserveOutcome.GATHERING
    assert refused.generation != held.generation
    assert 0 < refused.wait_ms <= 2000
    assert await money.store.report(money.tenant, [Lease("r1", 60, (shop.id,), 2_000_000_000)]) == refused.generation
    await wait()
    assert (await money.reserve("r2", 50, shop)).outcome is ReserveOutcome.UNKNOWN
    await money.open(shop)
    assert (await money.reserve("r2", 50, shop)).outcome is RESERVED
    assert (await money.reserve("r2", 40, shop)).outcome is HELD


async def test_what_another_redis_process_left_on_disk_is_not_trusted(redis_server: Redis, client: Client) -> None:
    money = Money(RedisBudgetStore(client, SystemClock(), gather_s=0, timeout_s=5))
    shop = account()
    await money.open(shop)
    held = await money.reserve("r1", 60, shop)
    redis_server.stop()
    redis_server.start()
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await money.reserve("r2", 60, shop)
            except DependencyUnavailable:
                await asyncio.sleep(0.1)
            else:
                break
    assert (answer.outcome, answer.generation == held.generation) == (ReserveOutcome.UNKNOWN, False)


async def test_many_at_once_never_hold_more_than_there_is(store: BudgetStore) -> None:
    money, shop, team = Money(store), account("shop", 1000), account("team", 700)
    await money.open(shop, team)

    async def spend(number: int) -> bool:
        amount = 7 + number % 13
        if (await money.reserve(f"r{number}", amount, shop, team)).outcome is not HELD:
            return False
        if number % 3:
            await store.book(money.tenant, {f"r{number}": amount // 2})
        return True

    outcomes = await asyncio.gather(*(spend(number) for number in range(200)))
    purse = await store.read(money.tenant)
    assert purse.balances[team.id].used_micro_usd <= 700
    assert purse.balances[shop.id] == Balance(
        purse.balances[team.id].settled_micro_usd,
        purse.balances[team.id].reserved_micro_usd,
        purse.balances[shop.id].version,
    )
    assert sum(outcomes) > 50


async def test_a_frozen_redis_is_unavailable_and_soon_again_there(redis_server: Redis, client: Client) -> None:
    clock = ManualClock()
    money = Money(RedisBudgetStore(client, clock, gather_s=0, timeout_s=0.25))
    shop = account()
    await money.open(shop)
    redis_server.freeze()
    for number in range(50):
        with pytest.raises(DependencyUnavailable):
            await money.reserve(f"r{number}", 1, shop)
    redis_server.thaw()
    clock.advance(5)
    assert (await money.reserve("after", 1, shop)).outcome is HELD
