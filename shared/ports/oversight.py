"""The audit trail, security events, persons' rights and retention."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.domain.audit import AuditEvent, AuditHead, AuditQuery, AuditRow
from shared.domain.privacy import DataSubject, ErasedStep, ErasureOrder
from shared.domain.retention import RetentionClass, RetentionDue
from shared.domain.security_events import (
    EventQuery,
    FindingQuery,
    FindingState,
    Measurement,
    SecurityEvent,
    Sighting,
    ThreatFinding,
    ThreatRule,
)


class AuditStore(Protocol):
    """Where the audit trail's chains are. Rows are added, retold by erasures and, after their retention, forgotten."""

    async def append(self, rows: Sequence[AuditRow], *, after: AuditHead) -> None:
        """Write the rows that follow a head, and the new head, all or nothing.

        Raises:
            DependencyUnavailable: nothing was written, as far as can be known; calling again is safe.
            InternalError: somebody else wrote to the chain.
        """
        ...

    async def events(self, query: AuditQuery) -> Sequence[AuditEvent]:
        """The newest events that a query takes, at most its limit; unreadable rows are left out.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    def chains(
        self, since: datetime, until: datetime
    ) -> AsyncIterator[tuple[str, Sequence[AuditRow], AuditHead | None]]:
        """Every chain of the days (UTC) from one instant to another, whole, as it is found.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def rows_of(self, tenant_id: str, day: datetime) -> Sequence[AuditRow]:
        """All readable rows of a tenant of the day (UTC) of an instant, by chain and sequence.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def first_day(self, tenant_id: str) -> datetime | None:
        """The start of the oldest day of which there are rows of a tenant, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def retell(self, rows: Sequence[AuditRow]) -> None:
        """Replace the bodies of rows by tombstones; hashes stay as they are.

        Raises:
            DependencyUnavailable: some may not have been replaced; doing it again is safe.
        """
        ...

    async def count_before(self, instant: datetime) -> int:
        """How many rows `forget_before` would delete.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def forget_before(self, instant: datetime) -> int:
        """Delete the chains of the days before an instant's; returns how many rows that were.

        Raises:
            DependencyUnavailable: the store is away; what was deleted stays so.
        """
        ...


class SecurityEvents(Protocol):
    """Takes security events. Never blocks, never raises."""

    def note(self, event: SecurityEvent) -> None:
        """Write an event behind the response."""
        ...


class SecurityEventStore(Protocol):
    """Security events and sightings of principals."""

    async def insert(self, events: Sequence[SecurityEvent], sightings: Sequence[Sighting]) -> None:
        """Write both in one transaction. Events whose ids are there are left alone; sightings are added up.

        Raises:
            DependencyUnavailable: nothing was written, as far as can be known. Writing again may count sightings twice.
        """
        ...

    async def events(self, query: EventQuery) -> Sequence[SecurityEvent]:
        """The newest events that a query takes, at most its limit.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def counts(self, query: EventQuery) -> Mapping[str, int]:
        """How many events of each kind a query takes, whatever its limit.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def sightings(self, tenant_id: str, *, since: datetime, limit: int) -> Sequence[Sighting]:
        """Principals of a tenant with what they were last seen with, all networks and days together, newest first.

        `Sighting.network` is how many networks there were.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class ThreatStore(Protocol):
    """What rules measure, and what became of it."""

    async def add_up(self, now: datetime) -> None:
        """Add up the usage of the last hours from the ledger; again gives the same.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def measure(self, rule: ThreatRule, *, since: datetime, until: datetime) -> Sequence[Measurement]:
        """Who reaches a rule's threshold in a window, of all tenants.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def report(self, rule: ThreatRule, found: Sequence[Measurement]) -> None:
        """Open a finding for each, or let the one that lasts grow; none without evidence newer than its resolution.

        Raises:
            DependencyUnavailable: the store is away; reporting again is safe.
        """
        ...

    async def untold(self) -> Sequence[ThreatFinding]:
        """Findings that nobody was told of yet, the oldest first, at most 100.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def told(self, finding_ids: Sequence[str], now: datetime) -> None:
        """Somebody was.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def findings(self, query: FindingQuery) -> Sequence[ThreatFinding]:
        """The findings that a query takes, those with the newest evidence first, at most its limit.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def finding_counts(self, tenant_id: str) -> Mapping[tuple[str, str], int]:
        """How many findings a tenant has, by state and severity.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def finding(self, finding_id: str, *, tenant_id: str) -> ThreatFinding | None:
        """One finding of a tenant, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def move(self, before: ThreatFinding, state: FindingState, *, by: str, at: datetime, note: str) -> bool:
        """Give a finding another state, unless its state was changed meanwhile; returns whether it was given.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExportPage:
    """Rows of a person, each a JSON object, and where the next page begins; None: there is none."""

    rows: Sequence[Mapping[str, object]]
    cursor: str | None = None


class PersonalStore(Protocol):
    """A store that holds something of persons. Cursors are its own; the first is the empty text."""

    @property
    def name(self) -> str:
        """As exports and certificates call it."""
        ...

    @property
    def kept(self) -> str:
        """What stays after an erasure, and why; part of every certificate."""
        ...

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """About `limit` rows of a person.

        Raises:
            DependencyUnavailable: the store is away.
            InvalidRequest: the cursor is none of this store's.
        """
        ...

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """Take the next step. The same step again, after a kill at any point, ends in the same and says the same.

        Raises:
            DependencyUnavailable: the store is away; the step is to be taken again.
        """
        ...


class ErasureStore(Protocol):
    """Erasures, how far they are, and their certificates."""

    async def order(self, order: ErasureOrder) -> ErasureOrder:
        """Keep an order with its subject; the one under way for the same subject, where there is one.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; ordering again is safe.
        """
        ...

    async def get(self, erasure_id: str, *, tenant_id: str) -> ErasureOrder | None:
        """An erasure of a tenant, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def latest(self, tenant_id: str, *, limit: int) -> Sequence[ErasureOrder]:
        """The latest erasures of a tenant.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def standing(self, now: datetime) -> Sequence[ErasureOrder]:
        """Erasures of all tenants whose late records are to be erased on arrival.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def claim(self, now: datetime, *, asked_before: datetime, lease_s: float) -> ErasureOrder | None:
        """The oldest erasure that is not completed and that nobody works on, for `lease_s` seconds.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def save(self, order: ErasureOrder, step: ErasedStep, *, lease_until: datetime) -> ErasureOrder:
        """Keep what the step at the order's place found, and the place of the next one, which is returned.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; taking the step again is safe.
        """
        ...

    async def steps(self, erasure_id: str) -> Sequence[tuple[int, Mapping[str, int], str]]:
        """Store, counts and digest of all steps, in their order.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def certify(self, order: ErasureOrder, certificate: str) -> ErasureOrder:
        """Keep the certificate; the one that is there stays.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known.
        """
        ...

    async def complete(self, order: ErasureOrder, now: datetime, *, standing_until: datetime) -> None:
        """Forget whom it was about; of late records it is recognised by its digest for a while.

        Raises:
            DependencyUnavailable: the store is away; doing it again is safe.
        """
        ...


class RetentionStore(Protocol):
    """What leaves when it is older than its class is kept."""

    async def due(self, kind: RetentionClass, before: datetime) -> Sequence[RetentionDue]:
        """What of a class is older than an instant. Changes nothing.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def drop(self, kind: RetentionClass, before: datetime) -> Sequence[RetentionDue]:
        """Take it away; returns what that was. A part may be left for the next time.

        Raises:
            DependencyUnavailable: the store is away; what was dropped stays so.
        """
        ...
