"""Budgets: the rules, and the accounts that a request is charged to. Money is integer micro-USD. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.domain.scopes import Scope, Subject, key_part

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Period(StrEnum):
    """For how long a budget lasts: a calendar day or month, both UTC, or for ever."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"

    def start_of(self, now: datetime) -> datetime:
        """When the period that holds an instant began."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return {Period.DAY: midnight, Period.MONTH: midnight.replace(day=1), Period.TOTAL: _BEGINNING}[self]

    def end_of(self, now: datetime) -> datetime | None:
        """When the next one begins; None for a total."""
        start = self.start_of(now)
        if self is Period.TOTAL:
            return None
        return start + timedelta(days=1) if self is Period.DAY else (start + timedelta(days=32)).replace(day=1)

    def label(self, now: datetime) -> str:
        """``2026-11-23``, ``2026-11`` or ``total``: sorts by time."""
        return {Period.DAY: f"{self.start_of(now):%Y-%m-%d}", Period.MONTH: f"{self.start_of(now):%Y-%m}"}.get(
            self, "total"
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """One rule of the policy.

    Attributes:
        hard_micro_usd: what settled and reserved money never exceed; None: there is only a soft limit.
        soft_micro_usd: settled money from which on answers and an event say so.
        open_when_away: whether requests go on uncounted while Redis is away; otherwise they are refused.
    """

    name: str
    period: Period
    scope: Scope = field(default_factory=Scope)
    hard_micro_usd: int | None = None
    soft_micro_usd: int | None = None
    open_when_away: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """A budget of somebody in a period.

    Attributes:
        id: ``budget/period/value``, at most 200 characters of ASCII without spaces or commas; unique in its tenant.
    """

    id: str
    budget: Budget
    started_at: datetime
    ends_at: datetime | None
    value: str


@dataclass(frozen=True, slots=True)
class Lease:
    """Money held for a request under way.

    Attributes:
        amount_micro_usd: most that the attempts so far and the one under way can cost.
        expires_at_s: Unix time at which its worker must be done.
    """

    request_id: str
    amount_micro_usd: int
    accounts: tuple[str, ...]
    expires_at_s: int


@dataclass(frozen=True, slots=True)
class Balance:
    """Money of an account. `settled` None: not known, the memory that counted it was lost or never began."""

    settled_micro_usd: int | None
    reserved_micro_usd: int = 0
    version: int = 0
    """Changes with every reservation and booking."""

    @property
    def used_micro_usd(self) -> int:
        """Settled and reserved."""
        return (self.settled_micro_usd or 0) + self.reserved_micro_usd


@dataclass(frozen=True, slots=True)
class Purse:
    """All that is counted for a tenant, at one instant."""

    generation: str
    balances: Mapping[str, Balance] = field(default_factory=dict)
    leases: Mapping[str, Lease] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerCharge:
    """What the ledger holds of a request."""

    cost_micro_usd: int
    accounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LedgerSpend:
    """What the ledger holds of accounts and requests, at one instant. What is not there is zero, or not recorded."""

    settled_micro_usd: Mapping[str, int]
    charges: Mapping[str, LedgerCharge]


class ReserveOutcome(StrEnum):
    """What became of a reservation."""

    HELD = "held"
    SPENT = "spent"
    """The settled money alone leaves too little: only a new period or a higher budget helps."""
    RESERVED = "reserved"
    """Money that is reserved stands in the way; it may become free."""
    GATHERING = "gathering"
    """Memory was lost: processes report what they hold. Ask again."""
    OPENING = "opening"
    """Somebody reads an account from the ledger. Ask again."""
    UNKNOWN = "unknown"
    """Accounts must be read from the ledger, by whoever got this answer."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The answer to a reservation.

    Attributes:
        generation: of the memory that answered; another one means that memory was lost in between.
        wait_ms: before asking again, for `GATHERING` and `OPENING`.
        balances: of the accounts, as they are now, in their order.
        unknown: accounts to read from the ledger.
        short: the account that refuses.
        soft: accounts at or above their soft limit.
        alerts: kind (``soft``, ``hard``) and account of each limit that was reached for the first time in its period.
    """

    outcome: ReserveOutcome
    generation: str
    wait_ms: int = 0
    balances: tuple[Balance, ...] = ()
    unknown: tuple[str, ...] = ()
    short: str | None = None
    soft: tuple[str, ...] = ()
    alerts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetEvent:
    """A limit that was reached, once per account, limit and period."""

    at_ms: int
    kind: str
    account: str


def accounts_for(budgets: Sequence[Budget], subject: Subject, now: datetime) -> tuple[Account, ...]:
    """The accounts that a request admitted now is charged to."""
    found = []
    for budget in budgets:
        value = budget.scope.value_of(subject)
        if value is not None:
            period = budget.period
            name = f"{budget.name}/{period.label(now)}/{key_part(value)}"
            found.append(Account(name, budget, period.start_of(now), period.end_of(now), value))
    return tuple(found)


def unbooked(spend: LedgerSpend, account: str, leased: Mapping[str, Lease]) -> int:
    """What of an account's ledger is still held by leases too, and so must not count as settled yet."""
    return sum(
        charge.cost_micro_usd
        for request_id, charge in spend.charges.items()
        if request_id in leased and account in charge.accounts
    )
