"""What all workers share about deployments, limits and money."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from shared.domain.breaker import SharedHealth
from shared.domain.budgets import Account, BudgetEvent, Lease, LedgerSpend, Purse, Reserved
from shared.domain.health import Admission, AdmissionRequest, BreakerEvent, WorkerReport
from shared.domain.limits import Ended, Meter, Verdict


class HealthStore(Protocol):
    """Health of deployments that all workers share: breakers, cooldowns, quotas, attempts in flight.

    Its clock counts, not the workers'. Each call is one round trip with a short deadline of its own.
    """

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Whether a deployment may be called once; of all workers, one gets the probe of a half-open breaker.

        Raises:
            DependencyUnavailable: no answer in time; the permission may have been given all the same.
        """
        ...

    async def exchange(self, report: WorkerReport) -> SharedHealth:
        """Tell what one worker saw and hear what changed, all at one instant.

        A worker that names another epoch than the answer's was not listened to: the store has lost its memory since,
        and is to be told everything that this worker still knows.

        Raises:
            DependencyUnavailable: no answer in time; the report may have been taken all the same.
        """
        ...

    async def recent_events(self, limit: int = 100) -> Sequence[BreakerEvent]:
        """The last changes of state, the newest first; at least the last thousand are kept, for seven days.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class LimitStore(Protocol):
    """Rate limits that all processes share. Its clock counts, not theirs."""

    async def admit(self, meters: Sequence[Meter], *, request_id: str, lease_s: float, charge: bool = True) -> Verdict:
        """Charge all meters, or none when one refuses.

        Args:
            meters: all of one tenant.
            request_id: whose slots they are.
            lease_s: after which its slots are free in any case.
            charge: False only looks.

        Raises:
            DependencyUnavailable: no answer within a few hundredths of a second; it may have been charged.
        """
        ...

    async def settle(self, ended: Sequence[Ended]) -> None:
        """Free slots and correct token meters.

        Raises:
            DependencyUnavailable: no answer in time. Do not repeat it: corrections may have been made.
        """
        ...


class BudgetStore(Protocol):
    """Money that is settled and reserved, by tenant and account, for all processes at once. Integer micro-USD.

    Every answer names the generation of the memory. A new one means that memory was lost: nothing is reserved until
    processes have had time to `report` what they hold, and settled money is read from the ledger.
    """

    async def reserve(
        self, tenant_id: str, request_id: str, amount_micro_usd: int, accounts: Sequence[Account], *, lease_s: float
    ) -> Reserved:
        """Hold an amount on every account or on none. Again for the same request: the amount it holds in all.

        Raises:
            DependencyUnavailable: no answer in time; the amount may be held.
        """
        ...

    async def book(self, tenant_id: str, costs: Mapping[str, int]) -> tuple[str, frozenset[str]]:
        """Turn the leases of requests that the ledger holds into settled costs; each once, however often it is called.

        Returns the generation, and the requests that held no lease.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def resize(self, tenant_id: str, amounts: Mapping[str, int]) -> str:
        """Set what leases hold, once the real cost is known; returns the generation.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def report(self, tenant_id: str, leases: Sequence[Lease]) -> str:
        """Put back leases that memory has lost, whatever the budget says; returns the generation.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def read(self, tenant_id: str) -> Purse:
        """All of a tenant's money, at one instant.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def release(self, tenant_id: str) -> None:
        """Let others open accounts: whoever was told to (`ReserveOutcome.UNKNOWN`) has done it, or cannot.

        Raises:
            DependencyUnavailable: no answer in time; then the claim ends by itself.
        """
        ...

    async def mend(
        self, tenant_id: str, account: str, settled_micro_usd: int, *, generation: str, version: int
    ) -> bool:
        """Set an account's settled money, unless memory was lost or the account touched since it was read.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def forget(self, tenant_id: str, accounts: Sequence[str]) -> None:
        """Remove accounts on which nothing is reserved.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def tenants(self) -> frozenset[str]:
        """Tenants for which money is counted.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def events(self, tenant_id: str, *, limit: int = 100) -> Sequence[BudgetEvent]:
        """The latest limits that were reached, newest first.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...


class BudgetLedger(Protocol):
    """What the ledger holds of budgets."""

    async def spend(self, tenant_id: str, accounts: Sequence[str], request_ids: Sequence[str]) -> LedgerSpend:
        """What accounts were charged with, and what requests cost, as of one instant.

        Raises:
            DependencyUnavailable: the ledger is away.
        """
        ...

    async def settled(self, tenant_id: str, prefixes: Sequence[str]) -> Mapping[str, int]:
        """What accounts whose ids begin with one of some texts were charged with, in micro-USD.

        Raises:
            DependencyUnavailable: the ledger is away.
        """
        ...
