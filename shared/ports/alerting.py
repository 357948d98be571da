"""Alert rules, their incidents, and the step in which both change."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from shared.domain.alerts import (
    AlertRule,
    Incident,
    IncidentQuery,
    RuleProgress,
    Silence,
    StepState,
)
from shared.domain.notifications import Notification


class AlertStep(Protocol):
    """One evaluation of a tenant's rules: what it writes is there as a whole or not at all."""

    state: StepState

    async def write(
        self,
        *,
        progress: Sequence[RuleProgress],
        incidents: Sequence[Incident],
        dropped: Sequence[str],
        notifications: Sequence[Notification],
    ) -> None:
        """Write what came of the step.

        Args:
            progress: of the rules that were looked at.
            incidents: new and changed ones.
            dropped: ids of pending ones that came to nothing.
            notifications: to be delivered; those that are there stay.
        """
        ...


class AlertStore(Protocol):
    """Where rules, incidents and silences are."""

    async def tenants(self, since: datetime) -> Sequence[str]:
        """Tenants that have rules or open incidents, or had requests since then.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    def step(self, tenant_id: str, now: datetime) -> AbstractAsyncContextManager[AlertStep | None]:
        """A step of a tenant that nobody else makes at the same time; None: somebody does.

        Raises:
            DependencyUnavailable: nothing was written.
        """
        ...

    async def rules(self, tenant_id: str) -> Sequence[AlertRule]:
        """A tenant's rules, by name.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def put_rule(self, rule: AlertRule, *, most: int) -> bool:
        """Keep a rule whose version is one above the kept one's, or 1 when there is none; False: it is not.

        Raises:
            Conflict: another rule of the tenant has the name, or the tenant has `most` rules already.
            DependencyUnavailable: not kept, as far as can be known.
        """
        ...

    async def delete_rule(self, tenant_id: str, rule_id: str, version: int) -> bool:
        """Delete a rule of that version; False: it has another. Its incidents end with the next step.

        Raises:
            DependencyUnavailable: not done, as far as can be known.
        """
        ...

    async def progress(self, tenant_id: str) -> Sequence[RuleProgress]:
        """How far a tenant's rules were evaluated.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def standing(self, tenant_id: str) -> Sequence[tuple[str, int, int, datetime | None]]:
        """By rule: how many incidents are pending, how many fire, and when one last began to.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def incidents(self, query: IncidentQuery) -> Sequence[Incident]:
        """The newest incidents that a query takes.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def acknowledge(
        self, incident_id: str, *, tenant_id: str, by: str, note: str, at: datetime
    ) -> Incident | None:
        """Note that somebody looks after an open incident; None: the tenant has no such one.

        Raises:
            Conflict: it is acknowledged or resolved already.
            DependencyUnavailable: not noted, as far as can be known.
        """
        ...

    async def silences(self, tenant_id: str, *, after: datetime) -> Sequence[Silence]:
        """Silences that end after an instant, the last to end first.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def put_silence(self, silence: Silence, *, most: int, now: datetime) -> None:
        """Keep a new silence.

        Raises:
            Conflict: the tenant has `most` silences that have not ended.
            DependencyUnavailable: not kept, as far as can be known.
        """
        ...

    async def delete_silence(self, tenant_id: str, silence_id: str) -> bool:
        """Forget a silence; False: there is none.

        Raises:
            DependencyUnavailable: not done, as far as can be known.
        """
        ...

    async def notify(self, notifications: Sequence[Notification]) -> None:
        """Have notifications delivered that belong to no step; those that are there stay.

        Raises:
            DependencyUnavailable: not kept, as far as can be known; calling again is safe.
        """
        ...
