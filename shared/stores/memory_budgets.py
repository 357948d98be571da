"""The twins of `BudgetStore` and `BudgetLedger`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.domain.budgets import (
    Account,
    Balance,
    BudgetEvent,
    Lease,
    LedgerCharge,
    LedgerSpend,
    Purse,
    Reserved,
    ReserveOutcome,
)
from shared.domain.errors import DependencyUnavailable
from shared.domain.pricing import to_micro_usd
from shared.ports import Clock
from shared.stores.memory import MemoryRecordStore

_OPENING_S = 5.0


@dataclass(slots=True)
class _Money:
    """What is counted for a tenant."""

    generation: str
    gathered_at_s: float
    settled: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    version: dict[str, int] = field(default_factory=dict)
    born_s: dict[str, float] = field(default_factory=dict)
    raised: set[tuple[str, str]] = field(default_factory=set)
    leases: dict[str, Lease] = field(default_factory=dict)
    opening_until_s: float = 0.0

    def move(self, accounts: Sequence[str], settled: int, reserved: int) -> None:
        for account in accounts:
            self.reserved[account] = self.reserved.get(account, 0) + reserved
            self.version[account] = self.version.get(account, 0) + 1
            if account in self.settled:
                self.settled[account] += settled

    def balance(self, account: str) -> Balance:
        return Balance(self.settled.get(account), self.reserved.get(account, 0), self.version.get(account, 0))


class MemoryBudgetStore:
    """`BudgetStore` of one process; `away` makes it fall silent, `lose_memory` is what a flush does.

    Args:
        clock: what time it is.
        gather_s: after a loss of memory, how long processes have to report what they hold.
    """

    def __init__(self, clock: Clock, *, gather_s: float = 2.0) -> None:
        self.away = False
        self._clock = clock
        self._gather_s = gather_s
        self._money: dict[str, _Money] = {}
        self._events: dict[str, list[BudgetEvent]] = {}
        self._generations = 0

    def lose_memory(self) -> None:
        """Forget everything."""
        self._money.clear()
        self._events.clear()

    async def reserve(
        self, tenant_id: str, request_id: str, amount_micro_usd: int, accounts: Sequence[Account], *, lease_s: float
    ) -> Reserved:
        """Hold an amount, in all for this request, on every account or on none.

        Raises:
            DependencyUnavailable: while `away`.
        """
        money, now_s = self._of(tenant_id), self._now_s()
        if now_s < money.gathered_at_s:
            wait_ms = math.ceil(1000 * (money.gathered_at_s - now_s))
            return Reserved(ReserveOutcome.GATHERING, money.generation, wait_ms)
        unknown = tuple(account.id for account in accounts if not self._is_known(money, account))
        if unknown:
            if now_s < money.opening_until_s:
                return Reserved(ReserveOutcome.OPENING, money.generation, 20)
            money.opening_until_s = now_s + _OPENING_S
            return Reserved(ReserveOutcome.UNKNOWN, money.generation, unknown=unknown)
        known = money.leases.get(request_id)
        held = 0 if known is None else known.amount_micro_usd
        outcome, short = _verdict(money, accounts, amount_micro_usd, held)
        ids = tuple(account.id for account in accounts)
        if outcome is ReserveOutcome.HELD and amount_micro_usd > held:
            money.move(ids, 0, amount_micro_usd - held)
            money.leases[request_id] = Lease(request_id, amount_micro_usd, ids, math.ceil(now_s + int(lease_s + 1)))
        alerts = [("hard", short)] if outcome is ReserveOutcome.SPENT and short is not None else []
        soft = tuple(account.id for account in accounts if _is_soft(money, account))
        alerts += [("soft", account) for account in soft]
        return Reserved(
            outcome,
            money.generation,
            balances=tuple(money.balance(account) for account in ids),
            short=short,
            soft=soft,
            alerts=tuple(alert for alert in alerts if self._raise_once(tenant_id, *alert)),
        )

    async def book(self, tenant_id: str, costs: Mapping[str, int]) -> tuple[str, frozenset[str]]:
        """Turn leases into settled costs; those that are not there are left alone.

        Raises:
            DependencyUnavailable: while `away`.
        """
        money = self._of(tenant_id)
        missing = frozenset(costs.keys() - money.leases.keys())
        for request_id in costs.keys() - missing:
            lease = money.leases.pop(request_id)
            money.move(lease.accounts, costs[request_id], -lease.amount_micro_usd)
        return money.generation, missing

    async def resize(self, tenant_id: str, amounts: Mapping[str, int]) -> str:
        """Set what leases hold; returns the generation.

        Raises:
            DependencyUnavailable: while `away`.
        """
        money = self._of(tenant_id)
        for request_id in amounts.keys() & money.leases.keys():
            lease, amount = money.leases[request_id], amounts[request_id]
            money.move(lease.accounts, 0, amount - lease.amount_micro_usd)
            money.leases[request_id] = Lease(request_id, amount, lease.accounts, lease.expires_at_s)
        return money.generation

    async def report(self, tenant_id: str, leases: Sequence[Lease]) -> str:
        """Put leases back that memory has lost; returns the generation.

        Raises:
            DependencyUnavailable: while `away`.
        """
        money = self._of(tenant_id)
        for lease in leases:
            if lease.request_id not in money.leases:
                money.move(lease.accounts, 0, lease.amount_micro_usd)
                money.leases[lease.request_id] = lease
        return money.generation

    async def read(self, tenant_id: str) -> Purse:
        """All of a tenant's money.

        Raises:
            DependencyUnavailable: while `away`.
        """
        money = self._of(tenant_id)
        accounts = money.settled.keys() | money.reserved.keys()
        return Purse(money.generation, {a: money.balance(a) for a in accounts}, dict(money.leases))

    async def release(self, tenant_id: str) -> None:
        """Let others open accounts.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._of(tenant_id).opening_until_s = 0.0

    async def mend(
        self, tenant_id: str, account: str, settled_micro_usd: int, *, generation: str, version: int
    ) -> bool:
        """Set an account's settled money, unless it was touched since it was read at `version`.

        Raises:
            DependencyUnavailable: while `away`.
        """
        money = self._of(tenant_id)
        if money.generation != generation or money.version.get(account, 0) != version:
            return False
        money.settled[account] = settled_micro_usd
        money.version[account] = version + 1
        return True

    async def forget(self, tenant_id: str, accounts: Sequence[str]) -> None:
        """Remove accounts on which nothing is reserved.

        Raises:
            DependencyUnavailable: while `away`.
        """
        money = self._of(tenant_id)
        for account in accounts:
            if not money.reserved.get(account):
                for counts in (money.settled, money.reserved, money.version):
                    counts.pop(account, None)
                money.raised -= {("soft", account), ("hard", account)}

    async def tenants(self) -> frozenset[str]:
        """Tenants that have ever reserved.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return frozenset(self._money)

    async def events(self, tenant_id: str, *, limit: int = 100) -> Sequence[BudgetEvent]:
        """The latest limits that were reached, newest first.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return self._events.get(tenant_id, [])[: -limit - 1 : -1]

    def _of(self, tenant_id: str) -> _Money:
        self._answer()
        if tenant_id not in self._money:
            self._generations += 1
            self._money[tenant_id] = _Money(str(self._generations), self._now_s() + self._gather_s)
        return self._money[tenant_id]

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("switched away")

    def _is_known(self, money: _Money, account: Account) -> bool:
        if account.id not in money.settled:
            born_s = money.born_s.setdefault(account.budget.name, self._now_s())
            if account.started_at.timestamp() < born_s:
                return False
            money.settled[account.id] = 0
        return True

    def _raise_once(self, tenant_id: str, kind: str, account: str) -> bool:
        money = self._money[tenant_id]
        if (kind, account) in money.raised:
            return False
        money.raised.add((kind, account))
        self._events.setdefault(tenant_id, []).append(BudgetEvent(int(self._now_s() * 1000), kind, account))
        return True

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _verdict(money: _Money, accounts: Sequence[Account], amount: int, held: int) -> tuple[ReserveOutcome, str | None]:
    outcome, short = ReserveOutcome.HELD, None
    for account in accounts:
        hard, balance = account.budget.hard_micro_usd, money.balance(account.id)
        if hard is None or amount <= held:
            continue
        if (balance.settled_micro_usd or 0) + amount > hard:
            return ReserveOutcome.SPENT, account.id
        if balance.used_micro_usd + amount - held > hard:
            outcome, short = ReserveOutcome.RESERVED, account.id
    return outcome, short


def _is_soft(money: _Money, account: Account) -> bool:
    soft = account.budget.soft_micro_usd
    return soft is not None and money.settled.get(account.id, 0) >= soft


class MemoryBudgetLedger:
    """`BudgetLedger` over the records of a `MemoryRecordStore`; away when that is.

    Args:
        records: the ledger.
    """

    def __init__(self, records: MemoryRecordStore) -> None:
        self._records = records

    async def spend(self, tenant_id: str, accounts: Sequence[str], request_ids: Sequence[str]) -> LedgerSpend:
        """What the records say.

        Raises:
            DependencyUnavailable: while the record store is away.
        """
        if self._records.away:
            raise DependencyUnavailable("switched away")
        settled: dict[str, int] = {}
        charges = {}
        for record in self._records.by_id.values():
            if record.tenant_id != tenant_id:
                continue
            cost = to_micro_usd(record.cost_usd)
            for account in set(record.budget_accounts) & set(accounts):
                settled[account] = settled.get(account, 0) + cost
            if record.id in request_ids:
                charges[record.id] = LedgerCharge(cost, record.budget_accounts)
        return LedgerSpend(settled, charges)

    async def settled(self, tenant_id: str, prefixes: Sequence[str]) -> Mapping[str, int]:
        """What accounts whose ids begin with one of some texts were charged with.

        Raises:
            DependencyUnavailable: while the record store is away.
        """
        charged = {account for record in self._records.by_id.values() for account in record.budget_accounts}
        accounts = sorted(account for account in charged if account.startswith(tuple(prefixes)))
        return (await self.spend(tenant_id, accounts, ())).settled_micro_usd
