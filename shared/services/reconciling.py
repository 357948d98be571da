"""Redis counts, the ledger is right: accounts are opened from it, leases that ran out are looked up in it."""

import contextlib
import logging
from collections.abc import Sequence
from datetime import timedelta

from shared.domain.budgets import Balance, LedgerSpend, Period, Purse, unbooked
from shared.domain.errors import DependencyUnavailable
from shared.ports import BudgetLedger, BudgetStore, Clock, Telemetry

_TRIES = 5
_LOST_AFTER_S = 3_600.0
"""A lease this long past its end whose record the ledger does not have belongs to a machine that is gone: its journal
would have been recovered, or its message consumed, long ago."""
_KEEP = timedelta(days=2)


class Reconciler:
    """Holds the counted money against the ledger.

    Args:
        store: the money.
        ledger: what was spent.
        clock: says which leases have run out and which periods are over.
        telemetry: is told of every difference.
        lost_after_s: seconds past its end after which a lease without a record is given up.
    """

    def __init__(
        self,
        store: BudgetStore,
        ledger: BudgetLedger,
        clock: Clock,
        telemetry: Telemetry,
        *,
        lost_after_s: float = _LOST_AFTER_S,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._telemetry = telemetry
        self._lost_after_s = lost_after_s

    async def open(self, tenant_id: str, accounts: Sequence[str]) -> None:
        """Read accounts from the ledger that the store does not know.

        Raises:
            DependencyUnavailable: store or ledger is away, or others changed the accounts all the time.
        """
        try:
            await self._open(tenant_id, accounts)
        finally:
            with contextlib.suppress(DependencyUnavailable):
                await self._store.release(tenant_id)

    async def _open(self, tenant_id: str, accounts: Sequence[str]) -> None:
        for _ in range(_TRIES):
            purse = await self._store.read(tenant_id)
            missing = [a for a in accounts if purse.balances.get(a, Balance(None)).settled_micro_usd is None]
            if not missing:
                return
            spend = await self._ledger.spend(tenant_id, missing, list(purse.leases))
            for account in missing:
                await self._set(tenant_id, purse, spend, account)
        raise DependencyUnavailable("budgets are being read from the ledger", retry_after_s=1.0)

    async def reconcile_all(self) -> int:
        """Reconcile every tenant; returns how many accounts differed.

        Raises:
            DependencyUnavailable: store or ledger is away.
        """
        return sum([await self.reconcile(tenant_id) for tenant_id in await self._store.tenants()])

    async def reconcile(self, tenant_id: str) -> int:
        """Book leases that the ledger has records of, give up lost ones, mend accounts; returns how many differed.

        Raises:
            DependencyUnavailable: store or ledger is away.
        """
        purse = await self._store.read(tenant_id)
        known = [account for account, balance in purse.balances.items() if balance.settled_micro_usd is not None]
        spend = await self._ledger.spend(tenant_id, known, list(purse.leases))
        drifted = [account for account in known if await self._set(tenant_id, purse, spend, account)]
        for account in drifted:
            self._telemetry.count("budget_drift")
            self._telemetry.log(logging.WARNING, "budget_drift_mended", tenant=tenant_id, account=account)
        costs = {r: charge.cost_micro_usd for r, charge in spend.charges.items() if r in purse.leases}
        given_up_before_s = self._clock.now().timestamp() - self._lost_after_s
        for lease in purse.leases.values():
            if lease.request_id not in costs and lease.expires_at_s < given_up_before_s:
                costs[lease.request_id] = 0
                self._telemetry.count("budget_leases_lost")
                self._telemetry.log(logging.ERROR, "budget_lease_lost", tenant=tenant_id, request_id=lease.request_id)
        if costs:
            await self._store.book(tenant_id, costs)
        if over := self._over(known):
            await self._store.forget(tenant_id, over)
        return len(drifted)

    async def _set(self, tenant_id: str, purse: Purse, spend: LedgerSpend, account: str) -> bool:
        """Set settled money to what the ledger says without what leases still hold; whether that changed anything."""
        truth = spend.settled_micro_usd.get(account, 0) - unbooked(spend, account, purse.leases)
        balance = purse.balances.get(account, Balance(None))
        if balance.settled_micro_usd == truth:
            return False
        return await self._store.mend(tenant_id, account, truth, generation=purse.generation, version=balance.version)

    def _over(self, accounts: Sequence[str]) -> list[str]:
        """Accounts of periods that ended some days ago."""
        before = self._clock.now() - _KEEP
        labels = {len(period.label(before)): period.label(before) for period in (Period.DAY, Period.MONTH)}
        return [a for a in accounts if (label := a.split("/")[1]) < labels.get(len(label), "")]
