"""In-memory twins of security events, findings and erasures; `away` makes every call fail."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from shared.domain.errors import DependencyUnavailable
from shared.domain.privacy import ErasedStep, ErasureOrder, ErasureState
from shared.domain.retention import RetentionClass, RetentionDue
from shared.domain.security_events import (
    EVENT_KINDS,
    EventQuery,
    FindingQuery,
    FindingState,
    Measurement,
    SecurityEvent,
    Sighting,
    ThreatFinding,
    ThreatRule,
    ThreatSignal,
)


class _Away:
    away = False

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("switched away")


class MemorySecurityEvents(_Away):
    """`SecurityEventStore` in lists."""

    def __init__(self) -> None:
        self.by_id: dict[str, SecurityEvent] = {}
        self.seen: list[Sighting] = []

    async def insert(self, events: Sequence[SecurityEvent], sightings: Sequence[Sighting]) -> None:
        """Keep both."""
        self._answer()
        self.by_id |= {event.id: event for event in events if event.id not in self.by_id}
        self.seen += sightings

    async def events(self, query: EventQuery) -> Sequence[SecurityEvent]:
        """The newest events that a query takes."""
        found = sorted(self._taken(query), key=lambda event: (event.at, event.id), reverse=True)
        before = query.before
        return [event for event in found if before is None or (event.at, event.id) < before][: query.limit]

    async def counts(self, query: EventQuery) -> Mapping[str, int]:
        """How many events of each kind a query takes."""
        counts = Counter[str]()
        for event in self._taken(query):
            counts[event.kind.value] += event.count
        return dict(counts)

    async def sightings(self, tenant_id: str, *, since: datetime, limit: int) -> Sequence[Sighting]:
        """Principals of a tenant, newest first."""
        self._answer()
        groups = defaultdict[tuple[str, str], list[Sighting]](list)
        for one in self.seen:
            if one.tenant_id == tenant_id and one.last_at >= since:
                groups[one.principal_id, one.service].append(one)
        found = [
            replace(
                max(group, key=lambda one: one.last_at),
                network=str(len({one.network for one in group})),
                first_at=min(one.first_at for one in group),
                requests=sum(one.requests for one in group),
            )
            for group in groups.values()
        ]
        return sorted(found, key=lambda one: one.last_at, reverse=True)[:limit]

    def _taken(self, query: EventQuery) -> list[SecurityEvent]:
        self._answer()
        return [
            event
            for event in self.by_id.values()
            if event.tenant_id == query.tenant_id
            and query.since <= event.at < query.until
            and query.kind in (None, event.kind)
            and query.actor in (None, event.actor)
        ]


_SUBJECTS: Mapping[ThreatSignal, Callable[[SecurityEvent], tuple[str, str | None]]] = {
    ThreatSignal.FAILED_LOGINS: lambda e: (e.network, None),
    ThreatSignal.GUESSED_ACCOUNTS: lambda e: (e.network, e.target),
    ThreatSignal.UNAUTHENTICATED: lambda e: (e.network, None),
    ThreatSignal.DENIED_RESOURCES: lambda e: (e.actor, e.resource),
    ThreatSignal.CLEARANCE_BLOCKS: lambda e: (e.actor, None),
    ThreatSignal.INJECTIONS: lambda e: (e.actor, None),
    ThreatSignal.REUSED_TOKENS: lambda e: (e.actor, None),
}
"""Of an event: for whom it counts, and what is counted once; None: the event itself."""


class MemoryThreats(_Away):
    """`ThreatStore` over a `MemorySecurityEvents`; usage is given by `usage`.

    Args:
        events: what rules measure.
    """

    def __init__(self, events: MemorySecurityEvents) -> None:
        self._events = events
        self.usage: dict[ThreatSignal, list[Measurement]] = {}
        self.by_id: dict[str, ThreatFinding] = {}
        self.told_ids: set[str] = set()
        self.added_up = 0

    async def add_up(self, now: datetime) -> None:
        """Only counted."""
        del now
        self._answer()
        self.added_up += 1

    async def measure(self, rule: ThreatRule, *, since: datetime, until: datetime) -> Sequence[Measurement]:
        """Who reaches a rule's threshold."""
        self._answer()
        if rule.signal.is_usage:
            return [seen for seen in self.usage.get(rule.signal, ()) if seen.value >= rule.threshold]
        groups = defaultdict[tuple[str, str], list[tuple[str | None, int, datetime]]](list)
        if rule.signal is ThreatSignal.NETWORKS:
            for one in self._events.seen:
                if since <= one.last_at < until:
                    groups[one.tenant_id, one.principal_id].append((one.network, 1, one.last_at))
        for event in self._events.by_id.values():
            if event.kind in EVENT_KINDS.get(rule.signal, ()) and since <= event.at < until:
                subject, once = _SUBJECTS[rule.signal](event)
                groups[event.tenant_id, subject].append((once, event.count, event.at))
        return [
            Measurement(tenant, subject, value, max(at for _, _, at in found))
            for (tenant, subject), found in groups.items()
            if (value := _value(found)) >= rule.threshold
        ]

    async def report(self, rule: ThreatRule, found: Sequence[Measurement]) -> None:
        """Open findings, or let those that last grow."""
        self._answer()
        for seen in found:
            key = (seen.tenant_id, rule.name, seen.subject)
            known = [f for f in self.by_id.values() if (f.tenant_id, f.rule, f.subject) == key]
            lasting = next((f for f in known if f.state is not FindingState.RESOLVED), None)
            if lasting is not None:
                self.by_id[lasting.id] = replace(
                    lasting,
                    last_at=max(lasting.last_at, seen.last_at),
                    value=max(lasting.value, seen.value),
                    baseline=lasting.baseline if seen.baseline is None else seen.baseline,
                )
            elif all(f.changed_at is not None and f.changed_at < seen.last_at for f in known):
                made = ThreatFinding(
                    id=str(uuid.uuid4()),
                    tenant_id=seen.tenant_id,
                    rule=rule.name,
                    signal=rule.signal,
                    severity=rule.severity,
                    subject=seen.subject,
                    state=FindingState.OPEN,
                    first_at=seen.last_at,
                    last_at=seen.last_at,
                    value=seen.value,
                    threshold=rule.threshold,
                    baseline=seen.baseline,
                )
                self.by_id[made.id] = made

    async def untold(self) -> Sequence[ThreatFinding]:
        """Findings that nobody was told of yet."""
        self._answer()
        return [finding for key, finding in self.by_id.items() if key not in self.told_ids][:100]

    async def told(self, finding_ids: Sequence[str], now: datetime) -> None:
        """Somebody was."""
        del now
        self._answer()
        self.told_ids.update(finding_ids)

    async def findings(self, query: FindingQuery) -> Sequence[ThreatFinding]:
        """The findings that a query takes."""
        self._answer()
        found = [
            f
            for f in self.by_id.values()
            if f.tenant_id == query.tenant_id
            and (not query.states or f.state in query.states)
            and query.severity in (None, f.severity)
            and (query.before is None or (f.last_at, f.id) < query.before)
        ]
        return sorted(found, key=lambda f: (f.last_at, f.id), reverse=True)[: query.limit]

    async def finding_counts(self, tenant_id: str) -> Mapping[tuple[str, str], int]:
        """How many findings a tenant has, by state and severity."""
        self._answer()
        found = [f for f in self.by_id.values() if f.tenant_id == tenant_id]
        return dict(Counter((f.state.value, f.severity.value) for f in found))

    async def finding(self, finding_id: str, *, tenant_id: str) -> ThreatFinding | None:
        """One finding of a tenant, or None."""
        self._answer()
        found = self.by_id.get(finding_id)
        return found if found is not None and found.tenant_id == tenant_id else None

    async def move(self, before: ThreatFinding, state: FindingState, *, by: str, at: datetime, note: str) -> bool:
        """Give a finding another state, unless its state was changed meanwhile."""
        self._answer()
        found = self.by_id.get(before.id)
        if found is None or found.state is not before.state:
            return False
        self.by_id[before.id] = replace(found, state=state, changed_by=by, changed_at=at, note=note)
        return True


class MemoryErasures(_Away):
    """`ErasureStore` in dictionaries."""

    def __init__(self) -> None:
        self.by_id: dict[str, ErasureOrder] = {}
        self.found: dict[tuple[str, int, str], tuple[Mapping[str, int], str]] = {}
        self._leases: dict[str, datetime] = {}
        self._standing: dict[str, datetime] = {}

    async def order(self, order: ErasureOrder) -> ErasureOrder:
        """Keep an order, or find the one under way."""
        self._answer()
        for known in self.by_id.values():
            if (known.tenant_id, known.digest) == (order.tenant_id, order.digest) and known.subject is not None:
                return known
        self.by_id[order.id] = order
        return order

    async def get(self, erasure_id: str, *, tenant_id: str) -> ErasureOrder | None:
        """An erasure of a tenant, or None."""
        self._answer()
        found = self.by_id.get(erasure_id)
        return found if found is not None and found.tenant_id == tenant_id else None

    async def latest(self, tenant_id: str, *, limit: int) -> Sequence[ErasureOrder]:
        """The latest erasures of a tenant."""
        self._answer()
        found = [order for order in self.by_id.values() if order.tenant_id == tenant_id]
        return sorted(found, key=lambda order: order.requested_at, reverse=True)[:limit]

    async def standing(self, now: datetime) -> Sequence[ErasureOrder]:
        """Erasures whose late records are to be erased on arrival."""
        self._answer()
        return [
            order
            for order in self.by_id.values()
            if order.digest is not None and (order.id not in self._standing or self._standing[order.id] > now)
        ]

    async def claim(self, now: datetime, *, asked_before: datetime, lease_s: float) -> ErasureOrder | None:
        """The oldest erasure that is not completed and that nobody works on."""
        self._answer()
        for key, order in sorted(self.by_id.items(), key=lambda item: item[1].requested_at):
            if order.digest is not None and key in self._standing and self._standing[key] <= now:
                self.by_id[key] = replace(order, digest=None)
            is_due = order.state is not ErasureState.COMPLETED and order.requested_at <= asked_before
            if is_due and self._leases.get(key, now) <= now:
                self._leases[key] = now + timedelta(seconds=lease_s)
                if order.state is ErasureState.REQUESTED:
                    self.by_id[key] = replace(order, state=ErasureState.RUNNING)
                return self.by_id[key]
        return None

    async def save(self, order: ErasureOrder, step: ErasedStep, *, lease_until: datetime) -> ErasureOrder:
        """Keep what a step found, and the place of the next one."""
        self._answer()
        self.found[order.id, order.store, order.cursor] = (dict(step.counts), step.digest)
        place = (order.store + 1, "") if step.cursor is None else (order.store, step.cursor)
        self._leases[order.id] = lease_until
        self.by_id[order.id] = replace(order, store=place[0], cursor=place[1])
        return self.by_id[order.id]

    async def steps(self, erasure_id: str) -> Sequence[tuple[int, Mapping[str, int], str]]:
        """Store, counts and digest of all steps."""
        self._answer()
        return [(place[1], *found) for place, found in sorted(self.found.items()) if place[0] == erasure_id]

    async def certify(self, order: ErasureOrder, certificate: str) -> ErasureOrder:
        """Keep the certificate; the one that is there stays."""
        self._answer()
        kept = self.by_id[order.id].certificate or certificate
        self.by_id[order.id] = replace(self.by_id[order.id], state=ErasureState.CERTIFIED, certificate=kept)
        return self.by_id[order.id]

    async def complete(self, order: ErasureOrder, now: datetime, *, standing_until: datetime) -> None:
        """Forget whom it was about."""
        self._answer()
        self._standing[order.id] = standing_until
        self.by_id[order.id] = replace(
            self.by_id[order.id], state=ErasureState.COMPLETED, subject=None, completed_at=now
        )


class MemoryRetention(_Away):
    """`RetentionStore` over instants by what they are of, `kept`."""

    def __init__(self) -> None:
        self.kept: dict[tuple[RetentionClass, str], list[datetime]] = {}

    async def due(self, kind: RetentionClass, before: datetime) -> Sequence[RetentionDue]:
        """What of a class is older than an instant."""
        self._answer()
        counts = {w: sum(at < before for at in ats) for (k, w), ats in self.kept.items() if k is kind}
        return [RetentionDue(kind, what, rows) for what, rows in counts.items() if rows]

    async def drop(self, kind: RetentionClass, before: datetime) -> Sequence[RetentionDue]:
        """Take it away."""
        gone = await self.due(kind, before)
        for key, ats in self.kept.items():
            self.kept[key] = [at for at in ats if key[0] is not kind or at >= before]
        return gone


def _value(found: Sequence[tuple[str | None, int, datetime]]) -> int:
    once = {what for what, _, _ in found}
    return sum(count for _, count, _ in found) if once == {None} else len(once - {None, ""})
