"""The till: a request's money is held before a model is called, and booked when the ledger has its record.

docs/limits.md says how the bound holds: settled + reserved <= budget.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from shared.domain.budgets import Account, Balance, Lease, Reserved, ReserveOutcome, accounts_for
from shared.domain.errors import BudgetExceeded, DependencyUnavailable, LimitReached, RateLimited
from shared.domain.identity import Principal
from shared.domain.policy import Policy
from shared.domain.pricing import PER_MILLION, to_micro_usd
from shared.ports import BudgetStore, Clock, Telemetry
from shared.services.bookkeeping import Bookkeeper
from shared.services.reconciling import Reconciler

_LEASE_GRACE_S = 30.0
"""A lease is due so long after its request's deadline: a living worker's record is in the ledger by then."""
_LONGEST_WAIT_S = 5.0
"""Most that a request waits while the store gathers what is held, or reads an account from the ledger."""
_FRESH_S = 2.0
_RESERVED_RETRY_S = 2.0
_AWAY_RETRY_S = 1.0
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class AccountStanding:
    """How an account stands; None where the store has not counted it yet."""

    account: Account
    balance: Balance | None


class Hold:
    """Money held for one request. `soft` are the accounts at or above their soft limit."""

    def __init__(self, till: "Till", tenant_id: str, lease: Lease, accounts: Sequence[Account]) -> None:
        self._till = till
        self._tenant_id = tenant_id
        self._accounts = accounts
        self._is_counted = True
        self.lease = lease
        self.soft: tuple[str, ...] = ()

    async def cover(self, total_usd: Decimal) -> bool:
        """Whether the request may cost so much in all: what it has cost, what is under way, and what is to come.

        Holds more where that is needed, so a further attempt that is no dearer than a failed one costs no round trip.
        """
        amount = to_micro_usd(total_usd)
        if amount <= self.lease.amount_micro_usd or not self._is_counted:
            return True
        try:
            await self._till.hold(self, amount)
        except (LimitReached, DependencyUnavailable):
            return False
        return True

    def uncounted(self) -> None:
        """The store is away and all budgets say that requests go on."""
        self._is_counted = False


class Till:
    """Holds money.

    Args:
        store: the money.
        books: remembers what this process holds, and books it.
        reconciler: opens accounts from the ledger.
        policy: the policy in force.
        clock: time.
        telemetry: events of limits that are reached.
    """

    def __init__(
        self,
        store: BudgetStore,
        books: Bookkeeper,
        reconciler: Reconciler,
        policy: Callable[[], Policy],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._books = books
        self._reconciler = reconciler
        self._policy = policy
        self._clock = clock
        self._telemetry = telemetry
        self._left: dict[tuple[str, str], tuple[float, int]] = {}

    def accounts(self, principal: Principal, tags: tuple[tuple[str, str], ...], now: datetime) -> tuple[Account, ...]:
        """The accounts that a request admitted now is charged to."""
        policy = self._policy()
        return accounts_for(policy.budgets, policy.subject_of(principal, tags), now) if policy.budgets else ()

    def cap_usd(self, tenant_id: str, accounts: Sequence[Account]) -> Decimal | None:
        """What is left at least on the accounts, as far as this process heard in the last seconds; None: not known.

        A hint for the choice, so that a cheap model serves where a dear one does not fit. `reserve` decides.
        """
        now_s = self._clock.monotonic()
        left = []
        for account in accounts:
            seen_at_s, micro_usd = self._left.get((tenant_id, account.id), (-_FRESH_S, 0))
            if account.budget.hard_micro_usd is not None and now_s - seen_at_s < _FRESH_S:
                left.append(micro_usd)
        return Decimal(min(left)) / PER_MILLION if left and min(left) > 0 else None

    async def reserve(
        self, tenant_id: str, request_id: str, accounts: Sequence[Account], worst_usd: Decimal, *, lease_s: float
    ) -> Hold:
        """Hold the worst-case price of the first attempt on all accounts, or on none.

        Args:
            tenant_id: whose accounts they are.
            request_id: reserving again for it holds nothing twice.
            accounts: as `accounts` gave them.
            worst_usd: most that the attempt can cost.
            lease_s: until the request's deadline.

        Raises:
            BudgetExceeded: settled money leaves too little; `param` names the budget.
            RateLimited: reserved money stands in the way; it may become free after `retry_after_s`.
            DependencyUnavailable: the money cannot be counted at the moment, and some budget is closed then.
        """
        ids = tuple(account.id for account in accounts)
        expires_at_s = int(self._clock.now().timestamp() + lease_s + _LEASE_GRACE_S)
        hold = Hold(self, tenant_id, Lease(request_id, 0, ids, expires_at_s), accounts)
        try:
            await self.hold(hold, to_micro_usd(worst_usd))
        except DependencyUnavailable:
            if not all(account.budget.open_when_away for account in accounts):
                raise
            self._telemetry.count("budgets_uncounted")
            hold.uncounted()
        return hold

    async def hold(self, hold: Hold, amount_micro_usd: int) -> None:
        """Make a hold this large; see `reserve`."""
        lease, accounts, tenant_id = hold.lease, hold._accounts, hold._tenant_id  # noqa: SLF001 - one thing in two classes
        answer = await self._settled_answer(tenant_id, lease, amount_micro_usd, accounts)
        self._remember(tenant_id, accounts, answer)
        if answer.outcome is not ReserveOutcome.HELD:
            raise self._refusal(answer, accounts)
        # Two attempts at once may ask at once, and the answers may come in either order.
        amount_micro_usd = max(amount_micro_usd, hold.lease.amount_micro_usd)
        hold.lease = Lease(lease.request_id, amount_micro_usd, lease.accounts, lease.expires_at_s)
        hold.soft = answer.soft
        self._books.holds(tenant_id, hold.lease)

    async def standing(self, principal: Principal) -> tuple[AccountStanding, ...]:
        """How the caller's accounts stand.

        Raises:
            DependencyUnavailable: nobody can tell.
        """
        accounts = self.accounts(principal, (), self._clock.now())
        if not accounts:
            return ()
        purse = await self._store.read(principal.tenant_id)
        return tuple(AccountStanding(account, purse.balances.get(account.id)) for account in accounts)

    async def _settled_answer(self, tenant_id: str, lease: Lease, amount: int, accounts: Sequence[Account]) -> Reserved:
        """Ask until it is yes or no; opens accounts on the way.

        Raises:
            DependencyUnavailable: store or ledger is away, or it took too long.
        """
        give_up_at_s = self._clock.monotonic() + _LONGEST_WAIT_S
        while True:
            lease_s = lease.expires_at_s - self._clock.now().timestamp()
            answer = await self._store.reserve(tenant_id, lease.request_id, amount, accounts, lease_s=lease_s)
            self._books.heard(tenant_id, answer.generation)
            if answer.outcome is ReserveOutcome.UNKNOWN:
                await self._reconciler.open(tenant_id, answer.unknown)
            elif answer.outcome in {ReserveOutcome.GATHERING, ReserveOutcome.OPENING}:
                left_s = give_up_at_s - self._clock.monotonic()
                if left_s < answer.wait_ms / 1000:
                    raise DependencyUnavailable("budgets are being counted anew", retry_after_s=_AWAY_RETRY_S)
                await asyncio.sleep(answer.wait_ms / 1000)
            else:
                return answer

    def _remember(self, tenant_id: str, accounts: Sequence[Account], answer: Reserved) -> None:
        if len(self._left) > _MOST_REMEMBERED:
            self._left.clear()
        now_s = self._clock.monotonic()
        for account, balance in zip(accounts, answer.balances, strict=True):
            if account.budget.hard_micro_usd is not None:
                left = account.budget.hard_micro_usd - balance.used_micro_usd
                self._left[tenant_id, account.id] = (now_s, left)
        for kind, account_id in answer.alerts:
            self._telemetry.count("budget_alerts", kind=kind)
            self._telemetry.log(logging.WARNING, f"budget_{kind}_limit", tenant=tenant_id, account=account_id)

    def _refusal(self, answer: Reserved, accounts: Sequence[Account]) -> LimitReached:
        short = next(account for account in accounts if account.id == answer.short)
        self._telemetry.count("budgets_refused", budget=short.budget.name, reason=answer.outcome.value)
        param, period = f"budgets.{short.budget.name}", short.budget.period.value
        if answer.outcome is ReserveOutcome.SPENT:
            return BudgetExceeded(f"the {period} budget {short.budget.name!r} does not hold this request", param=param)
        return RateLimited(
            f"the rest of the {period} budget {short.budget.name!r} is reserved for requests under way",
            code="budget_reserved",
            param=param,
            retry_after_s=_RESERVED_RETRY_S,
        )
