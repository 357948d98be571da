"""Twin of the alert store: everything in dictionaries, for tests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared.domain.alerts import (
    AlertRule,
    Incident,
    IncidentQuery,
    IncidentState,
    RuleProgress,
    Silence,
    StepState,
)
from shared.domain.errors import Conflict, DependencyUnavailable
from shared.domain.notifications import Notification


@dataclass
class _Step:
    store: "MemoryAlerts"
    tenant_id: str
    state: StepState

    async def write(
        self,
        *,
        progress: Sequence[RuleProgress],
        incidents: Sequence[Incident],
        dropped: Sequence[str],
        notifications: Sequence[Notification],
    ) -> None:
        """Write what came of the step."""
        self.store.check()
        for gone in dropped:
            self.store.kept_incidents.pop(gone, None)
        for one in incidents:
            known = self.store.kept_incidents.get(
                one.id, replace(one, acknowledged_at=None, acknowledged_by="", note="")
            )
            self.store.kept_incidents[one.id] = replace(
                one,
                acknowledged_at=known.acknowledged_at,
                acknowledged_by=known.acknowledged_by,
                note=known.note,
            )
        self.store.kept_progress |= {(self.tenant_id, one.rule_id): one for one in progress}
        await self.store.notify(notifications)


@dataclass
class MemoryAlerts:
    """`AlertStore` in memory.

    Attributes:
        active: tenants that had requests.
        notifications: in the order in which they were written, each once.
        away: every call fails.
    """

    active: set[str] = field(default_factory=set)
    kept_rules: dict[tuple[str, str], AlertRule] = field(default_factory=dict)
    deleted: set[tuple[str, str]] = field(default_factory=set)
    kept_incidents: dict[str, Incident] = field(default_factory=dict)
    kept_progress: dict[tuple[str, str], RuleProgress] = field(default_factory=dict)
    kept_silences: dict[str, Silence] = field(default_factory=dict)
    notifications: dict[str, Notification] = field(default_factory=dict)
    away: bool = False
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    def check(self) -> None:
        """Fail when the store is away.

        Raises:
            DependencyUnavailable: it is.
        """
        if self.away:
            raise DependencyUnavailable("the database does not answer")

    async def tenants(self, since: datetime) -> Sequence[str]:
        """Tenants that have rules or open incidents, or had requests."""
        del since
        self.check()
        made = {tenant for tenant, _ in self.kept_rules.keys() - self.deleted}
        return sorted(made | self.active | {one.tenant_id for one in self._open()})

    @asynccontextmanager
    async def step(self, tenant_id: str, now: datetime) -> AsyncIterator[_Step | None]:
        """A step of a tenant that nobody else makes at the same time; None: somebody does."""
        self.check()
        lock = self._locks.setdefault(tenant_id, asyncio.Lock())
        if lock.locked():
            yield None
            return
        async with lock:
            state = StepState(
                rules=tuple(await self.rules(tenant_id)),
                incidents=tuple(one for one in self._open() if one.tenant_id == tenant_id),
                silences=tuple(await self.silences(tenant_id, after=now)),
                progress={one.rule_id: one for one in await self.progress(tenant_id)},
            )
            yield _Step(self, tenant_id, state)

    async def rules(self, tenant_id: str) -> Sequence[AlertRule]:
        """A tenant's rules, by name."""
        self.check()
        found = [rule for key, rule in self.kept_rules.items() if key[0] == tenant_id and key not in self.deleted]
        return sorted(found, key=lambda rule: (rule.name, rule.id))

    async def put_rule(self, rule: AlertRule, *, most: int) -> bool:
        """Keep a rule whose version is one above the kept one's, or 1 when there is none; False: it is not."""
        others = await self.rules(rule.tenant_id)
        known = self.kept_rules.get((rule.tenant_id, rule.id))
        if rule.version == 1 and len(others) >= most:
            raise Conflict(f"there are {most} rules already")
        if (rule.tenant_id, rule.id) in self.deleted or (0 if known is None else known.version) != rule.version - 1:
            return False
        if any(other.name == rule.name and other.id != rule.id for other in others):
            raise Conflict("name: another rule has it", param="name")
        self.kept_rules[rule.tenant_id, rule.id] = rule
        return True

    async def delete_rule(self, tenant_id: str, rule_id: str, version: int) -> bool:
        """Delete a rule of that version; False: it has another."""
        self.check()
        key = (tenant_id, rule_id)
        if key in self.deleted or key not in self.kept_rules or self.kept_rules[key].version != version:
            return False
        self.deleted.add(key)
        return True

    async def progress(self, tenant_id: str) -> Sequence[RuleProgress]:
        """How far a tenant's rules were evaluated."""
        self.check()
        return [one for (tenant, _), one in self.kept_progress.items() if tenant == tenant_id]

    async def standing(self, tenant_id: str) -> Sequence[tuple[str, int, int, datetime | None]]:
        """By rule: how many incidents are pending, how many fire, and when one last began to."""
        self.check()
        found = []
        mine = [one for one in self.kept_incidents.values() if one.tenant_id == tenant_id]
        for rule_id in sorted({one.rule_id for one in mine}):
            of_rule = [one for one in mine if one.rule_id == rule_id]
            pending, firing = (
                sum(one.state is state for one in of_rule) for state in (IncidentState.PENDING, IncidentState.FIRING)
            )
            fired = [one.fired_at for one in of_rule if one.fired_at is not None]
            found.append((rule_id, pending, firing, max(fired, default=None)))
        return found

    async def incidents(self, query: IncidentQuery) -> Sequence[Incident]:
        """The newest incidents that a query takes."""
        self.check()
        found = [
            one
            for one in self.kept_incidents.values()
            if one.tenant_id == query.tenant_id
            and query.rule_id in (None, one.rule_id)
            and (query.states is None or one.state in query.states)
            and (query.before is None or (one.started_at, one.id) < query.before)
        ]
        return sorted(found, key=lambda one: (one.started_at, one.id), reverse=True)[: query.limit]

    async def acknowledge(
        self, incident_id: str, *, tenant_id: str, by: str, note: str, at: datetime
    ) -> Incident | None:
        """Note that somebody looks after an open incident; None: the tenant has no such one."""
        self.check()
        known = self.kept_incidents.get(incident_id)
        if known is None or known.tenant_id != tenant_id:
            return None
        self.kept_incidents[incident_id] = known.acknowledge(by=by, note=note, at=at)
        return self.kept_incidents[incident_id]

    async def silences(self, tenant_id: str, *, after: datetime) -> Sequence[Silence]:
        """Silences that end after an instant, the last to end first."""
        self.check()
        found = [one for one in self.kept_silences.values() if one.tenant_id == tenant_id and one.ends_at > after]
        return sorted(sorted(found, key=lambda one: one.id), key=lambda one: one.ends_at, reverse=True)

    async def put_silence(self, silence: Silence, *, most: int, now: datetime) -> None:
        """Keep a new silence."""
        if len(await self.silences(silence.tenant_id, after=now)) >= most:
            raise Conflict(f"there are {most} silences already")
        self.kept_silences[silence.id] = silence

    async def delete_silence(self, tenant_id: str, silence_id: str) -> bool:
        """Forget a silence; False: there is none."""
        self.check()
        known = self.kept_silences.get(silence_id)
        if known is None or known.tenant_id != tenant_id:
            return False
        del self.kept_silences[silence_id]
        return True

    async def notify(self, notifications: Sequence[Notification]) -> None:
        """Have notifications delivered; those that are there stay."""
        self.check()
        for one in notifications:
            self.notifications.setdefault(one.id, one)

    def _open(self) -> list[Incident]:
        found = [one for one in self.kept_incidents.values() if one.state is not IncidentState.RESOLVED]
        return sorted(found, key=lambda one: (one.started_at, one.id))
