"""What this process holds of budgets: it books what the ledger has taken, and reports to a memory that has lost it."""

import asyncio
import contextlib
from collections.abc import Sequence

from shared.domain.budgets import Lease
from shared.domain.errors import DependencyUnavailable
from shared.domain.pricing import to_micro_usd
from shared.domain.records import RequestRecord
from shared.ports import BudgetStore, Telemetry
from shared.services.background import BackgroundWork

_RETRY_S = 0.5
_MOST_A_BATCH = 200
_MOST_WAITING = 50_000
"""Bookings kept while the store is away; what is dropped beyond that, the reconciler finds in the ledger."""


class Bookkeeper(BackgroundWork):
    """Books behind the response.

    A lease ends when the ledger has its record, not before: so settled money is always the ledger's, and whatever dies
    in between leaves a lease that the reconciler looks up in the ledger.

    Args:
        store: the money.
        telemetry: counts what could not be booked.
        beat_s: how often the store is asked whether its memory is still the same, while leases are open; must be well
            below the time that it gives for reports.
    """

    def __init__(self, store: BudgetStore, telemetry: Telemetry, *, beat_s: float = 0.5) -> None:
        super().__init__("bookkeeper")
        self._store = store
        self._telemetry = telemetry
        self._beat_s = beat_s
        self._open: dict[str, dict[str, Lease]] = {}
        self._generations: dict[str, str] = {}
        self._costs: dict[str, dict[str, int]] = {}
        self._amounts: dict[str, dict[str, int]] = {}
        self._unreported: set[str] = set()

    def holds(self, tenant_id: str, lease: Lease) -> None:
        """A lease was given, or grew."""
        self._open.setdefault(tenant_id, {})[lease.request_id] = lease

    def heard(self, tenant_id: str, generation: str) -> None:
        """An answer came from a memory; when it is another one than before, it is told what is held."""
        known = self._generations.get(tenant_id)
        self._generations[tenant_id] = generation
        if known not in {None, generation} and self._open.get(tenant_id):
            self._telemetry.count("budget_memory_lost")
            self._unreported.add(tenant_id)
            self._wake.set()

    def stored(self, records: Sequence[RequestRecord]) -> None:
        """The ledger holds these records, in whatever process they came about."""
        for record in records:
            if record.budget_accounts:
                self._amounts.get(record.tenant_id, {}).pop(record.id, None)
                self._costs.setdefault(record.tenant_id, {})[record.id] = to_micro_usd(record.cost_usd)
        self._wake_for(self._costs)

    def spilled(self, records: Sequence[RequestRecord]) -> None:
        """These records are final and safe, but not in the ledger yet: their leases need hold no more than the cost."""
        for record in records:
            if record.budget_accounts:
                self._amounts.setdefault(record.tenant_id, {})[record.id] = to_micro_usd(record.cost_usd)
        self._wake_for(self._amounts)

    def _wake_for(self, waiting: dict[str, dict[str, int]]) -> None:
        if waiting:
            self._wake.set()
        if sum(map(len, waiting.values())) > _MOST_WAITING:
            self._telemetry.count("budget_bookings_dropped")
            waiting.clear()

    async def _run(self) -> None:
        while not self._closing or self._costs or self._amounts:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.work()
            except DependencyUnavailable:
                if self._closing:
                    return
                await asyncio.sleep(_RETRY_S)

    async def work(self) -> None:
        """One round: listen, report, resize, book.

        Raises:
            DependencyUnavailable: the store is away; the rest waits for the next round.
        """
        for tenant_id in [tenant_id for tenant_id, leases in self._open.items() if leases]:
            generation, _ = await self._store.book(tenant_id, {})
            self.heard(tenant_id, generation)
        while self._unreported:
            tenant_id = next(iter(self._unreported))
            await self._store.report(tenant_id, list(self._open.get(tenant_id, {}).values()))
            self._unreported.discard(tenant_id)
        await self._drain(self._amounts, is_booking=False)
        await self._drain(self._costs, is_booking=True)

    async def _drain(self, waiting: dict[str, dict[str, int]], *, is_booking: bool) -> None:
        while waiting:
            tenant_id, values = next(iter(waiting.items()))
            batch = dict(list(values.items())[:_MOST_A_BATCH])
            if is_booking:
                generation, missing = await self._store.book(tenant_id, batch)
                if uncounted := sum(batch[request_id] > 0 for request_id in missing):
                    self._telemetry.count("budget_bookings_without_lease", uncounted)
            else:
                generation = await self._store.resize(tenant_id, batch)
            self.heard(tenant_id, generation)
            leases = self._open.get(tenant_id, {})
            for request_id in batch:
                values.pop(request_id, None)
                leases.pop(request_id, None)
            if not values:
                waiting.pop(tenant_id, None)
            if not leases:
                self._open.pop(tenant_id, None)
