"""The till with its books and the ledger, in memory: what is held, booked, mended, and refused."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from shared.domain.budgets import Budget, Period
from shared.domain.errors import BudgetExceeded, DependencyUnavailable, RateLimited
from shared.domain.identity import Principal, RouterRole
from shared.domain.policy import ServicePolicy
from shared.domain.records import RequestRecord
from shared.domain.scopes import Per, Scope
from shared.services.bookkeeping import Bookkeeper
from shared.services.reconciling import Reconciler
from shared.services.recording import RecordWriter
from shared.services.till import Hold, Till
from shared.stores.memory import ManualClock, MemoryJournal, MemoryMachine, MemoryRecordStore, MemorySpill
from shared.stores.memory_budgets import MemoryBudgetLedger, MemoryBudgetStore
from shared.telemetry import RecordingTelemetry
from tests.budget_builders import TENANT, budget
from tests.service.routing_doubles import rid
from tests.stores_builders import record
from tests.unit.routing_builders import policy

SHOP = Principal("p-1", TENANT, "shop", frozenset({RouterRole.SERVICE}))
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MICRO = Decimal("0.000001")


class Worker:
    """One process; several may share the money, the ledger and the machine."""

    def __init__(self, house: "House") -> None:
        self.house = house
        self.telemetry = RecordingTelemetry()
        self.books = Bookkeeper(house.money, self.telemetry, beat_s=0.01)
        self.reconciler = Reconciler(house.money, house.ledger, house.clock, self.telemetry, lost_after_s=600)
        self.till = Till(house.money, self.books, self.reconciler, lambda: house.policy, house.clock, self.telemetry)
        self.journal = MemoryJournal(house.machine)
        self.writer = RecordWriter(house.records, house.spill, self.journal, self.telemetry, self.books)

    async def reserve(self, number: int, micro_usd: int, who: Principal = SHOP, tags=()) -> Hold:
        accounts = self.till.accounts(who, tags, self.house.clock.now())
        return await self.till.reserve(who.tenant_id, rid(number), accounts, micro_usd * MICRO, lease_s=30)

    def finished(self, number: int, micro_usd: int, who: Principal = SHOP) -> RequestRecord:
        accounts = tuple(account.id for account in self.till.accounts(who, (), self.house.clock.now()))
        return record(
            id=rid(number), tenant_id=who.tenant_id, cost_usd=micro_usd * MICRO, budget_accounts=accounts, attempts=()
        )

    async def store(self, *records: RequestRecord) -> None:
        """What the writer and the bookkeeper do in the background."""
        await self.writer._write(list(records))
        await self.books.work()


class House:
    def __init__(self, *budgets: Budget, **rules) -> None:
        self.clock = ManualClock(NOON)
        self.money = MemoryBudgetStore(self.clock, gather_s=0)
        self.records, self.spill = MemoryRecordStore(), MemorySpill()
        self.ledger = MemoryBudgetLedger(self.records)
        self.machine = MemoryMachine(self.clock)
        self.policy = policy(budgets=budgets, **rules)

    async def balances(self) -> dict[str, tuple[int | None, int]]:
        purse = await self.money.read(TENANT)
        return {a: (b.settled_micro_usd, b.reserved_micro_usd) for a, b in purse.balances.items()}


DAY = "b/2026-11-23/shop"


async def test_a_request_is_held_at_its_worst_and_settled_at_its_cost() -> None:
    house = House(budget(hard=100))
    worker = Worker(house)
    await worker.reserve(1, 70)
    assert await house.balances() == {DAY: (0, 70)}
    await worker.store(worker.finished(1, 12))
    assert await house.balances() == {DAY: (12, 0)}


async def test_nothing_is_asked_where_no_budget_holds_the_caller() -> None:
    house = House(budget(scope=Scope(Per.SERVICE, services=frozenset({"other"}))))
    assert Worker(house).till.accounts(SHOP, (), NOON) == ()


async def test_the_hierarchy_counts_in_full_or_not_at_all() -> None:
    house = House(
        budget("service", 1000),
        budget("team", 60, scope=Scope(Per.TEAM)),
        budget("project", 1000, scope=Scope(Per.TAG, tag="project")),
        budget("all", 1000, scope=Scope(Per.TENANT), period=Period.TOTAL),
        services={"shop": ServicePolicy(team="commerce")},
    )
    worker = Worker(house)
    with pytest.raises(BudgetExceeded) as refusal:
        await worker.reserve(1, 61, tags=(("project", "x"), ("team", "a lie")))
    assert refusal.value.param == "budgets.team"
    assert {used for _, used in (await house.balances()).values()} == {0}
    await worker.reserve(1, 60, tags=(("project", "x"),))
    assert await house.balances() == {
        "service/2026-11-23/shop": (0, 60),
        "team/2026-11-23/commerce": (0, 60),
        "project/2026-11-23/x": (0, 60),
        f"all/total/{TENANT}": (0, 60),
    }


async def test_money_under_way_is_worth_another_try_and_spent_money_is_not() -> None:
    worker = Worker(House(budget(hard=100)))
    await worker.reserve(1, 80)
    with pytest.raises(RateLimited) as busy:
        await worker.reserve(2, 30)
    assert (busy.value.code, busy.value.param) == ("budget_reserved", "budgets.b")
    assert busy.value.retry_after_s is not None
    await worker.store(worker.finished(1, 80))
    with pytest.raises(BudgetExceeded) as spent:
        await worker.reserve(2, 30)
    assert (spent.value.code, spent.value.param) == ("budget_exceeded", "budgets.b")
    await worker.reserve(2, 20)


async def test_what_is_left_is_known_after_each_answer_and_forgotten_soon() -> None:
    house = House(budget("wide", 1000), budget("narrow", 100), budget("soft", None, 5))
    worker = Worker(house)
    accounts = worker.till.accounts(SHOP, (), NOON)
    assert worker.till.cap_usd(TENANT, accounts) is None
    await worker.reserve(1, 30)
    assert worker.till.cap_usd(TENANT, accounts) == 70 * MICRO
    house.clock.advance(2)
    assert worker.till.cap_usd(TENANT, accounts) is None


async def test_a_further_attempt_holds_more_only_where_it_must() -> None:
    house = House(budget(hard=100))
    worker = Worker(house)
    hold = await worker.reserve(1, 40)
    assert await hold.cover(40 * MICRO)
    assert await hold.cover(90 * MICRO)
    assert await house.balances() == {DAY: (0, 90)}
    assert not await hold.cover(101 * MICRO)
    assert await house.balances() == {DAY: (0, 90)}
    await worker.store(worker.finished(1, 90))
    assert await house.balances() == {DAY: (90, 0)}


async def test_a_new_day_and_a_new_month_begin_at_zero() -> None:
    house = House(budget("day", 10), budget("month", 15, period=Period.MONTH), budget("ever", 100, period=Period.TOTAL))
    worker = Worker(house)
    await worker.reserve(1, 10)
    await worker.store(worker.finished(1, 10))
    house.clock.advance(12 * 3600)
    with pytest.raises(BudgetExceeded) as refusal:
        await worker.reserve(2, 10)
    assert refusal.value.param == "budgets.month"
    house.records.away = True  # what begins while the budget is known is not looked up
    house.clock.advance(8 * 24 * 3600)
    await worker.reserve(3, 10)
    assert (await house.balances())["ever/total/shop"] == (10, 10)


async def test_soft_limits_warn_once_and_are_said_always() -> None:
    house = House(budget(hard=None, soft=10))
    worker = Worker(house)
    await worker.reserve(1, 50)
    await worker.store(worker.finished(1, 10))
    holds = [await worker.reserve(number, 1) for number in (2, 3)]
    assert [hold.soft for hold in holds] == [(DAY,), (DAY,)]
    assert [log.event for log in worker.telemetry.logs] == ["budget_soft_limit"]


async def test_an_absent_store_stops_money_unless_the_policy_says_otherwise() -> None:
    closed, opened = House(budget(hard=100)), House(budget(hard=100, open_when_away=True))
    for house in (closed, opened):
        house.money.away = True
    with pytest.raises(DependencyUnavailable):
        await Worker(closed).reserve(1, 10)
    hold = await Worker(opened).reserve(1, 10)
    assert await hold.cover(1_000 * MICRO)
    mixed = House(budget("open", 100, open_when_away=True), budget("closed", 100))
    mixed.money.away = True
    with pytest.raises(DependencyUnavailable):
        await Worker(mixed).reserve(1, 10)


async def test_uncounted_requests_count_once_the_store_is_back() -> None:
    house = House(budget(hard=100, open_when_away=True))
    worker = Worker(house)
    await worker.reserve(1, 10)
    await worker.store(worker.finished(1, 10))
    house.money.away = True
    await worker.reserve(2, 30)
    await worker.writer._write([worker.finished(2, 30)])
    with pytest.raises(DependencyUnavailable):
        await worker.books.work()
    house.money.away = False
    await worker.books.work()
    assert await worker.reconciler.reconcile_all() == 1
    assert await house.balances() == {DAY: (40, 0)}


async def test_a_lost_memory_is_rebuilt_from_the_ledger_and_from_who_holds_what() -> None:
    house = House(budget(hard=100))
    first, second = Worker(house), Worker(house)
    await first.reserve(1, 20)
    await first.store(first.finished(1, 20))
    await first.reserve(2, 50)
    house.money.lose_memory()
    await first.books.work()
    with pytest.raises(RateLimited):
        await second.reserve(3, 31)
    await second.reserve(3, 30)
    assert await house.balances() == {DAY: (20, 80)}
    await first.store(first.finished(2, 50))
    await second.store(second.finished(3, 0))
    assert await house.balances() == {DAY: (70, 0)}


async def test_a_request_waits_while_another_reads_the_ledger() -> None:
    house = House(budget(hard=100))
    workers = [Worker(house) for _ in range(4)]
    await asyncio.gather(*(worker.reserve(number, 25) for number, worker in enumerate(workers, start=1)))
    assert await house.balances() == {DAY: (0, 100)}


async def test_no_account_opens_without_the_ledger() -> None:
    house = House(budget(hard=100))
    house.records.away = True
    with pytest.raises(DependencyUnavailable):
        await Worker(house).reserve(1, 10)


async def test_a_spilled_record_frees_what_it_did_not_cost_and_counts_when_it_is_stored() -> None:
    house = House(budget(hard=100))
    worker, consumer = Worker(house), Worker(house)
    await worker.reserve(1, 90)
    house.records.away = True
    await worker.store(worker.finished(1, 15))
    assert await house.balances() == {DAY: (0, 15)}
    house.records.away = False
    await consumer.writer.insert(house.spill.take())
    await consumer.books.work()
    assert await house.balances() == {DAY: (15, 0)}


async def test_a_dead_workers_lease_ends_with_whoever_recovers_its_journal() -> None:
    house = House(budget(hard=100))
    dead, heir = Worker(house), Worker(house)
    await dead.reserve(1, 30)
    await dead.reserve(2, 30)
    dead.journal.opened(dead.finished(1, 0))
    dead.journal.finished(dead.finished(2, 7))
    dead.journal.die()
    await heir.writer.recover()
    await heir.books.work()
    assert await house.balances() == {DAY: (7, 0)}


async def test_a_worker_that_died_between_ledger_and_booking_is_found_by_the_ledger() -> None:
    house = House(budget(hard=100))
    dead, other = Worker(house), Worker(house)
    await dead.reserve(1, 30)
    await house.records.insert([dead.finished(1, 9)])
    assert await other.reconciler.reconcile_all() == 0
    assert await house.balances() == {DAY: (9, 0)}


async def test_a_machine_that_is_gone_frees_its_leases_late_and_loudly() -> None:
    house = House(budget(hard=100))
    dead, other = Worker(house), Worker(house)
    await dead.reserve(1, 30)
    house.clock.advance(30 + 30 + 590)
    await other.reconciler.reconcile_all()
    assert await house.balances() == {DAY: (0, 30)}
    house.clock.advance(20)
    await other.reconciler.reconcile_all()
    assert await house.balances() == {DAY: (0, 0)}
    assert [log.event for log in other.telemetry.logs] == ["budget_lease_lost"]


async def test_nothing_is_given_up_while_the_ledger_cannot_be_asked() -> None:
    house = House(budget(hard=100))
    worker = Worker(house)
    await worker.reserve(1, 30)
    house.clock.advance(10_000)
    house.records.away = True
    with pytest.raises(DependencyUnavailable):
        await worker.reconciler.reconcile_all()
    assert await house.balances() == {DAY: (0, 30)}


async def test_drift_is_mended_both_ways_and_said() -> None:
    house = House(budget(hard=100))
    worker = Worker(house)
    await worker.reserve(1, 30)
    await worker.store(worker.finished(1, 30))
    for wrong in (5, 77):
        purse = await house.money.read(TENANT)
        version = purse.balances[DAY].version
        await house.money.mend(TENANT, DAY, wrong, generation=purse.generation, version=version)
        assert await worker.reconciler.reconcile_all() == 1
        assert await house.balances() == {DAY: (30, 0)}
    assert [log.event for log in worker.telemetry.logs] == ["budget_drift_mended"] * 2
    assert await worker.reconciler.reconcile_all() == 0


async def test_old_periods_are_forgotten() -> None:
    house = House(budget(hard=100), budget("month", 100, period=Period.MONTH), budget("ever", 9, period=Period.TOTAL))
    worker = Worker(house)
    await worker.reserve(1, 5)
    await worker.store(worker.finished(1, 5))
    house.clock.advance(4 * 24 * 3600)
    await worker.reconciler.reconcile_all()
    assert set(await house.balances()) == {"month/2026-11/shop", "ever/total/shop"}


async def test_the_bookkeeper_works_by_itself_and_ends_with_its_work_done() -> None:
    house = House(budget(hard=100))
    worker = Worker(house)
    worker.books.start()
    await worker.reserve(1, 30)
    house.money.away = True
    worker.books.stored([worker.finished(1, 4)])
    await asyncio.sleep(0)
    house.money.away = False
    async with asyncio.timeout(10):
        while (await house.balances())[DAY] != (4, 0):  # noqa: ASYNC110 - it works by itself and tells nobody
            await asyncio.sleep(0.01)
    await worker.reserve(2, 30)
    worker.books.stored([worker.finished(2, 6)])
    await worker.books.aclose()
    assert await house.balances() == {DAY: (10, 0)}


async def test_a_caller_sees_its_own_accounts() -> None:
    house = House(budget(hard=100, soft=50), budget("other", 1, scope=Scope(services=frozenset({"other"}))))
    worker = Worker(house)
    await worker.reserve(1, 30)
    (standing,) = await worker.till.standing(SHOP)
    assert standing.account.id == DAY
    assert standing.balance is not None
    assert (standing.balance.settled_micro_usd, standing.balance.reserved_micro_usd) == (0, 30)
