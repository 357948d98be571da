"""Budgets and accounts for tests."""

from datetime import UTC, datetime

from shared.domain.budgets import Account, Budget, Period, accounts_for
from shared.domain.scopes import Per, Scope, Subject

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TENANT = "tenant-1"


def budget(name: str = "b", hard: int | None = 100, soft: int | None = None, **changes) -> Budget:
    given = {"period": Period.DAY, "scope": Scope(Per.SERVICE), "hard_micro_usd": hard, "soft_micro_usd": soft}
    return Budget(name, **{**given, **changes})


def account(name: str = "b", hard: int | None = 100, soft: int | None = None, *, begins=None, **changes) -> Account:
    """An account; `begins` later than the store first hears of the budget makes one that needs no ledger."""
    made = budget(name, hard, soft, **changes)
    return Account(f"{name}/2026-11-23/shop", made, begins or LONG_AGO, None, "shop")


def accounts_of(*budgets: Budget, service="shop", tenant=TENANT, now=datetime(2026, 11, 23, 12, tzinfo=UTC)):
    return accounts_for(budgets, Subject(tenant, service), now)
