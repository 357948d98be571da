"""Ports: what services need of the outside world. Adapters live in providers, stores, security and telemetry.

Every port that keeps state has a working twin in `shared.stores.memory`, and one contract suite runs on both.
Every method that leaves the process takes or has a deadline, and says here what it raises.
"""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from shared.domain.analytics import Aggregate, AnalyticsQuery, Freshness, Granularity, Spend
from shared.domain.audit import AuditEvent, AuditHead, AuditQuery, AuditRow
from shared.domain.breaker import SharedHealth
from shared.domain.budgets import Account, BudgetEvent, Lease, LedgerSpend, Purse, Reserved
from shared.domain.chat import ChatRequest
from shared.domain.documents import (
    Calibration,
    Candidates,
    Chunk,
    CollectionFacts,
    Document,
    DocumentSource,
    DocumentStatus,
    IngestionTask,
    ParsedDocument,
    SearchScope,
    Vectors,
)
from shared.domain.feedback import Feedback, FeedbackState
from shared.domain.health import Admission, AdmissionRequest, BreakerEvent, WorkerReport
from shared.domain.identity import Principal
from shared.domain.limits import Ended, Meter, Verdict
from shared.domain.models import Deployment, ModelProfile
from shared.domain.privacy import DataSubject, ErasedStep, ErasureOrder
from shared.domain.receipts import ChainHead, ChainSection, ReceiptRow
from shared.domain.records import RequestRecord
from shared.domain.replies import StreamEvent
from shared.domain.retention import RetentionClass, RetentionDue
from shared.domain.security import SecurityLevel
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
from shared.domain.sessions import SessionFamily, SigningKey


class Clock(Protocol):
    """Time, so that nothing else asks for it."""

    def now(self) -> datetime:
        """The current instant, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for durations and deadlines."""
        ...


class Ids(Protocol):
    """New identifiers."""

    def request_id(self) -> str:
        """A UUIDv7 in its canonical form: unique, and sortable by time of creation."""
        ...


RandomSource = random.Random
"""Seedable; passed into pure code."""


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One attempt at one deployment.

    Attributes:
        max_output_tokens: what the policy and the model allow, already resolved; always sent to the vendor.
        deadline_s: instant on `Clock.monotonic`'s scale after which no answer is of use.
        idle_timeout_s: longest silence between two pieces of a stream, and before the first one.
        headers: vendor-neutral headers to pass along (traceparent).
    """

    request: ChatRequest
    profile: ModelProfile
    deployment: Deployment
    request_id: str
    max_output_tokens: int
    deadline_s: float
    idle_timeout_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)


class ModelProvider(Protocol):
    """A family of models behind one wire form.

    Both calls yield the same events through the same mapping: `stream` as they come, `complete` all at once.
    The events of a whole answer hold exactly one `Finished` and at least one `UsageUpdate`.
    """

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Refuse, before any call, what this wire form or model cannot carry. Pure and cheap.

        Raises:
            UnsupportedFeature: naming the field.
        """
        ...

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """One plain call.

        Raises:
            ProviderError: of the class that fits; never a vendor's own exception.
            asyncio.CancelledError: the caller went away; the vendor call is cancelled with it.
        """
        ...

    def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """One streamed call. Closing the iterator cancels the vendor call.

        Raises:
            ProviderError: before or between events; a stream that ends without `Finished` was cut, and the adapter
                raises `ProviderUnavailable` for it itself.
        """
        ...

    async def warm(self) -> None:
        """Open channels and fetch credentials ahead of the first call."""
        ...

    async def aclose(self) -> None:
        """Close channels and sessions."""
        ...


class RecordStore(Protocol):
    """The ledger."""

    async def insert(self, records: Sequence[RequestRecord]) -> int:
        """Write records with their attempts in one transaction; ids that are there already are left alone.

        Returns how many were new.

        Raises:
            DependencyUnavailable: nothing was written.
        """
        ...

    async def get(self, request_id: str, *, tenant_id: str) -> RequestRecord | None:
        """One record of a tenant, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class ReceiptStore(Protocol):
    """Decision receipts in their chains. They are written by `RecordStore.insert`, with their records."""

    async def receipt(self, request_id: str, *, tenant_id: str) -> ReceiptRow | None:
        """The receipt of a tenant's request, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def section(self, chain: str, *, first: int, last: int) -> ChainSection:
        """The rows of a chain from one sequence to another, of all tenants, and its head, as of one instant.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def heads(self, *, since: datetime) -> Sequence[ChainHead]:
        """The heads of all chains of the month (UTC) of `since` and later ones.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class ConfigurationArchive(Protocol):
    """Every registry and policy that was in force, by version: without them no old receipt could be repeated."""

    async def keep(self, kind: str, version: str, document: str) -> None:
        """Store a ``registry`` or ``policy`` under the SHA-256 of its document; one that is there is left alone.

        Raises:
            DependencyUnavailable: it was not stored, as far as can be known; storing it again is safe.
            InternalError: the version is not the document's.
        """
        ...

    async def document(self, kind: str, version: str) -> str | None:
        """The document of that version, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class LedgerMaintenance(Protocol):
    """Upkeep of the ledger's tables."""

    async def prepare_partitions(self) -> None:
        """Create the partitions of this month and the coming ones; those that exist are left alone.

        Raises:
            DependencyUnavailable: the ledger is away.
        """
        ...


class RecordSpill(Protocol):
    """Where records wait while the ledger is away: a queue whose consumer inserts them."""

    async def put(self, records: Sequence[RequestRecord]) -> None:
        """Enqueue records; at least once.

        Raises:
            DependencyUnavailable: nothing, or only a prefix, was enqueued; putting again is safe.
        """
        ...


class RecordJournal(Protocol):
    """A local, append-only note of open and finished requests that outlives the process (not the machine).

    Appends are synchronous and take microseconds: they reach the kernel, not the disk.
    """

    def opened(self, record: RequestRecord) -> None:
        """Note an admitted request, as it would be recorded if the process died now."""
        ...

    def finished(self, record: RequestRecord) -> None:
        """Note the final record."""
        ...

    def stored(self, request_ids: Sequence[str]) -> None:
        """Forget requests that the ledger or the spill now holds."""
        ...

    def recover(self) -> Sequence[RequestRecord]:
        """Records left by dead processes: finished ones as they were, open ones as ABANDONED.

        Claims each dead process's journal exclusively: of N callers exactly one gets it. The claim is released only by
        `discard`, so a caller that dies in between loses nothing.
        """
        ...

    def discard(self) -> None:
        """Delete the journals that this process recovered, once their records are stored."""
        ...


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


class Probe(Protocol):
    """Asks a dependency whether it answers."""

    @property
    def name(self) -> str:
        """The dependency, as readiness shows it."""
        ...

    @property
    def required(self) -> bool:
        """Whether the router must not take requests without it."""
        ...

    async def check(self) -> None:
        """Return quickly, or raise.

        Raises:
            DependencyUnavailable: it does not answer.
        """
        ...


class AnswerCache(Protocol):
    """Answers that may be served again. Bytes in, bytes out; whoever calls decides what equal requests are."""

    async def find(self, key: str, neighbour_key: str | None) -> tuple[bytes | None, bytes | None]:
        """What lies under both keys; None where nothing does, or nothing that can be opened.

        Raises:
            DependencyUnavailable: no answer within a few hundredths of a second.
        """
        ...

    async def keep(self, key: str, answer: bytes, *, ttl_s: int, neighbour: tuple[str, bytes] | None = None) -> None:
        """Keep an answer for `ttl_s` seconds, and under `neighbour`'s key what leads to it.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known.
        """
        ...

    async def forget(self, prefix: str) -> int:
        """Delete all answers whose keys begin so; returns how many keys that were.

        Raises:
            DependencyUnavailable: some may be left; doing it again is safe.
        """
        ...


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key, in a form that tells nothing of it.

    Attributes:
        name: digest of tenant, service, endpoint and key.
        fingerprint: digest of the body.
        secrets: what seals the result; never stored.
    """

    name: str
    fingerprint: str
    secrets: tuple[bytes, ...] = field(default=(), repr=False)


class ClaimState(StrEnum):
    """What stands under an idempotency key."""

    OURS = "ours"
    """Nothing did: whoever asked holds the lease now and is to do the work."""
    RUNNING = "running"
    DONE = "done"
    OTHER_BODY = "other_body"


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim; `result` is there when the work is done and what is kept can be opened."""

    state: ClaimState
    result: bytes | None = None


class IdempotencyStore(Protocol):
    """Who works on an idempotency key, and what came out, for all processes at once.

    A lease that is not extended ends by itself: the work of a dead process can be taken over.
    """

    async def claim(self, key: IdempotencyKey, owner: str, lease_s: float) -> Claim:
        """Take the key for `lease_s` seconds, or learn who has it. Claiming again extends the lease.

        Raises:
            DependencyUnavailable: no answer in time; the key may have been taken.
        """
        ...

    async def extend(self, key: IdempotencyKey, owner: str, lease_s: float) -> bool:
        """Hold the key for longer; False when it is not the owner's any more.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def finish(self, key: IdempotencyKey, owner: str, result: bytes, kept_s: float) -> bool:
        """Keep the result for `kept_s` seconds; False when the key is not the owner's any more.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known.
        """
        ...

    async def release(self, key: IdempotencyKey, owner: str) -> None:
        """Give the key back without a result; does nothing when it is not the owner's or has one.

        Raises:
            DependencyUnavailable: no answer in time; the lease ends by itself.
        """
        ...


class Authenticator(Protocol):
    """Proves who calls from the request's headers."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The proven principal; header names are lower case.

        Raises:
            Unauthenticated: no proof, or one that does not hold.
            DependencyUnavailable: keys to check it could not be had.
        """
        ...


class CredentialCheck(Protocol):
    """Asks the identity provider whether credentials hold."""

    async def with_secret(self, client_id: str, client_secret: str) -> Principal:
        """The application that has this id and secret.

        Raises:
            Unauthenticated: they do not belong together, or the application has no access here.
            DependencyUnavailable: the identity provider does not answer.
        """
        ...

    async def with_token(self, token: str) -> Principal:
        """The principal of an access token.

        Raises:
            Unauthenticated: it does not hold.
            DependencyUnavailable: the issuer's keys cannot be had.
        """
        ...


class SigningKeys(Protocol):
    """The key pairs of session tokens."""

    async def all(self) -> Sequence[SigningKey]:
        """All keys that sign now, will soon, or signed tokens that may still be good; at least one.

        Raises:
            DependencyUnavailable: they cannot be had.
        """
        ...

    async def rotate(self) -> bool:
        """Make a new key if the newest has served its time; one caller at a time. Returns whether keys changed.

        Raises:
            DependencyUnavailable: where they are kept is away.
        """
        ...


class SessionSigner(Protocol):
    """Makes session tokens."""

    async def sign(self, principal: Principal, session_id: str, *, ends: datetime) -> tuple[str, datetime]:
        """A token and when it expires, no later than `ends`.

        Raises:
            DependencyUnavailable: no key can be had.
        """
        ...


class SessionFamilies(Protocol):
    """Where sessions are kept; of their refresh tokens only hashes."""

    async def create(self, family: SessionFamily) -> None:
        """Keep a new session.

        Raises:
            DependencyUnavailable: it was not stored, as far as can be known.
        """
        ...

    async def get(self, session_id: str) -> tuple[SessionFamily, str] | None:
        """A session with its version tag, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def replace(self, family: SessionFamily, etag: str) -> None:
        """Store a session over the version that the tag names.

        Raises:
            Conflict: somebody stored another version meanwhile.
            DependencyUnavailable: it was not stored, as far as can be known.
        """
        ...

    async def sweep(self, now: datetime) -> int:
        """Delete sessions that ended before `now`; returns how many.

        Raises:
            DependencyUnavailable: the store is away; what was deleted stays so.
        """
        ...

    async def all_of(self, tenant_id: str) -> Sequence[tuple[SessionFamily, str]]:
        """Every session of a tenant, with its version tag.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class LoginGuard(Protocol):
    """Counts failed sign-ins by key, for all workers. Away, it counts for this worker alone: it never raises."""

    async def locked_s(self, keys: Sequence[str]) -> float:
        """Seconds until a sign-in may be tried again; 0 when it may now."""
        ...

    async def failed(self, keys: Sequence[str]) -> None:
        """Note a failure; from some number of them on, each locks for longer."""
        ...

    async def succeeded(self, keys: Sequence[str]) -> None:
        """Forget the failures of the first key, the most particular one."""
        ...


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


class RollupStore(Protocol):
    """Computes rollups, a bucket at a time; of all processes that try at once one does, the others find nothing."""

    async def fold(self, now: datetime, *, tiers: Sequence[int]) -> bool:
        """Compute some of the oldest minutes that are out of date from the ledger; False: there are none.

        Args:
            now: minutes long before it are not kept, and computed with all of their hour.
            tiers: prompt lengths, in tokens, above which some model's prices differ.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        ...

    async def merge(self, granularity: Granularity) -> bool:
        """Compute the oldest hour or day that is out of date from what it consists of; False: there is none.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        ...

    async def purge_minutes(self, now: datetime) -> None:
        """Let go of minutes that are not kept any more.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        ...

    async def join_feedback(self, now: datetime) -> None:
        """Count feedback whose record has arrived by now, and forget what waited in vain.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...


class AnalyticsStore(Protocol):
    """Answers from rollups; it never reads the ledger."""

    async def rows(self, query: AnalyticsQuery) -> Sequence[Aggregate]:
        """The rows that a query takes, by start and group, and one more than its limit where there are more.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def spend(
        self, tenant_id: str, edges: Sequence[datetime], *, services: Sequence[str] | None = None
    ) -> Sequence[Spend]:
        """What was spent, by bucket, service and model, with the tokens that say why. `services` None: all.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def freshness(self) -> Freshness:
        """Up to when the rollups are complete.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...


class FeedbackStore(Protocol):
    """What callers say of answers."""

    async def put(self, feedback: Feedback) -> FeedbackState:
        """Keep feedback in place of what the same principal said of the same request.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; putting again is safe.
            NotFound: the request is another service's.
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


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """Some documents, the last changed first; `cursor` leads to the next ones, None when these were the last."""

    documents: Sequence[Document]
    cursor: str | None = None


class DocumentStore(Protocol):
    """Documents, their versions and chunks; every call is bound to one tenant, in the database by row-level security.

    A version is worked on by whoever holds its lease: `claim` takes it, `advance` extends it, `publish`, an `advance`
    to an end and `delete` give it back. The store's own clock counts, not the workers'. What restricts (a label that
    rises, a narrower access list) binds searches from `register` on; everything else of a version from `publish` on.
    """

    async def register(self, source: DocumentSource, *, document_id: str) -> tuple[Document, bool]:
        """Enter a document as queued, or a new version of the one with that source.

        One whose bytes, title, label, access list and metadata are unchanged is left alone when it is ready or under
        way; its blob is not taken over then. `document_id`, a UUID, is for a source that is new.

        Returns the document, and whether its version is to be worked on.

        Raises:
            DependencyUnavailable: it was not entered, as far as can be known; doing it again is safe.
        """
        ...

    async def claim(
        self, tenant_id: str, document_id: str, version: int, *, worker: str, lease_s: float
    ) -> Document | None:
        """Take a version to work on, for `lease_s` seconds; counts an attempt.

        None when it has ended (ready, failed, deleted), newer ones came, or another worker holds its lease.

        Raises:
            DependencyUnavailable: no answer in time; it may have been taken, and the same worker may claim it again.
        """
        ...

    async def advance(
        self,
        document: Document,
        *,
        worker: str,
        status: DocumentStatus,
        reason: str = "",
        pages: int | None = None,
        warnings: Sequence[str] = (),
        lease_s: float = 60.0,
    ) -> bool:
        """Note progress and hold the lease for longer, or note the end (failed, needs_ocr, or queued to try again).

        False when the lease was lost: whoever works on it is to stop.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def known_vectors(self, tenant_id: str, model: str, shas: Sequence[str]) -> Mapping[str, bytes]:
        """Vectors of the tenant's chunks by `Chunk.sha`, single precision: what is unchanged is not embedded again.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def publish(
        self, document: Document, chunks: Sequence[Chunk], vectors: Vectors, *, model: str, worker: str
    ) -> bool:
        """Make a version the one that is searched, in one transaction that takes the one before away.

        The document's title, label, pages and warnings are stored as they are given here. There is one vector, by
        `model`, for each chunk; a document without chunks is ready and never found.

        Returns False when the lease was lost, a newer version came or the document was deleted; nothing was changed.

        Raises:
            DependencyUnavailable: nothing was published, as far as can be known; doing it again is safe.
            InvalidRequest: the vectors do not fit the chunks or the model's vectors that are there.
        """
        ...

    async def get(self, tenant_id: str, document_id: str) -> Document | None:
        """A document, also a deleted one while its tombstone is kept.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def list(
        self,
        tenant_id: str,
        *,
        collection: str | None = None,
        status: DocumentStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> DocumentPage:
        """Documents, the last changed first; deleted ones only when they are asked for.

        Raises:
            DependencyUnavailable: the store is away.
            InvalidRequest: the cursor is none of this store's.
        """
        ...

    async def requeue(self, tenant_id: str, document_id: str) -> Document | None:
        """Queue a version again that failed, needs OCR or lost its worker; None when there is none to queue.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def delete(self, tenant_id: str, document_id: str) -> Document | None:
        """Take a document with all its chunks and vectors away; a tombstone without content stays.

        Returns the document as it was, or None when there was none or it was deleted before.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def erase(
        self, tenant_id: str, *, collection: str | None = None, service: str | None = None
    ) -> Sequence[str]:
        """Take away all documents of a tenant, a collection or whoever sent them, tombstones included.

        Returns the names of blobs that may still be there.

        Raises:
            DependencyUnavailable: some may be left; doing it again is safe.
        """
        ...

    async def collections(self, tenant_id: str) -> Sequence[CollectionFacts]:
        """What the tenant's collections hold, by name.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def stuck(self, *, older_than_s: float, limit: int = 100) -> Sequence[Document]:
        """Versions of all tenants that nobody works on though they have not ended, unchanged for so many seconds.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class PassageIndex(Protocol):
    """Finds passages by meaning and by words, at one instant: both legs see the same version of every document."""

    async def search(
        self, scope: SearchScope, *, vector: bytes | None, terms: Mapping[str, float], model: str, candidates: int
    ) -> Candidates:
        """The best `candidates` of each leg, with their scores of each leg that they were found by.

        `Passage.score` is 0: fusion is `shared.rag.fusion`'s. Filters never starve a leg: it gives `candidates`
        passages of the scope when the scope has them. The vector is the query's, in single precision, by `model`; None
        leaves the leg out. `terms` are the query's with their weights (`shared.rag.terms`); none leave the leg out.

        Raises:
            DependencyUnavailable: no answer in time.
            InvalidRequest: the vector does not have the length of the model's vectors.
        """
        ...

    async def active_model(self) -> str | None:
        """The embedding model whose vectors are complete and searched; None before the first document.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def calibrate(self, tenant_id: str, collection: str, calibration: Calibration) -> None:
        """Keep what was measured; nothing when there is no such collection.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; doing it again is safe.
        """
        ...

    async def uncalibrated(self, model: str, *, limit: int) -> Sequence[tuple[str, str]]:
        """Tenant and name of collections whose calibration is missing, by another model, or of other times.

        Of other times is one that was made when the collection held less than half, or more than twice, as much.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class Reranker(Protocol):
    """Reads a question and passages together, which tells more than comparing their vectors, and costs more."""

    async def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        """How well each text answers the question, in [0, 1], in the texts' order.

        Raises:
            ProviderError: of the class that fits.
        """
        ...


@dataclass(frozen=True, slots=True)
class VectorTable:
    """Where the vectors of an embedding model are.

    Attributes:
        status: ``building``, ``active`` (searched) or ``retired``.
    """

    model: str
    dimensions: int
    status: str


@dataclass(frozen=True, slots=True)
class UnembeddedChunk:
    """A chunk that a model has no vector of. `service` sent its document."""

    id: int
    text: str
    label: SecurityLevel
    service: str


class VectorTables(Protocol):
    """The vectors of embedding models, one table each, so that one can be built while another is searched."""

    async def all(self) -> Sequence[VectorTable]:
        """All tables, the oldest first.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def ensure(self, model: str, dimensions: int) -> None:
        """Make a model's table if there is none; the first is the active one.

        Raises:
            DependencyUnavailable: the store is away.
            InvalidRequest: there is one for vectors of another length.
        """
        ...

    async def tenants(self) -> Sequence[str]:
        """All tenants that ever had a document.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def missing(self, tenant_id: str, model: str, *, after: int, limit: int) -> Sequence[UnembeddedChunk]:
        """Chunks of a tenant without a vector, by id, from the one after `after`.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def add(self, tenant_id: str, model: str, vectors: Mapping[int, bytes]) -> int:
        """Enter vectors by chunk; of chunks that are gone, or have one, nothing is entered. Returns how many were.

        Raises:
            DependencyUnavailable: nothing was entered, as far as can be known; doing it again is safe.
            InvalidRequest: the vectors are not as long as the model's.
        """
        ...

    async def activate(self, model: str) -> None:
        """Have a model's vectors searched from now on; the one before is retired.

        Raises:
            DependencyUnavailable: the store is away.
            NotFound: there is no such table.
        """
        ...

    async def drop(self, model: str) -> None:
        """Remove a table with all its vectors.

        Raises:
            Conflict: it is searched.
            DependencyUnavailable: the store is away.
            NotFound: there is no such table.
        """
        ...


class BlobStore(Protocol):
    """Bytes under names, in one container of our own."""

    async def put(self, name: str, content: bytes) -> None:
        """Keep bytes under a name; what is there is replaced.

        Raises:
            DependencyUnavailable: they were not kept, as far as can be known; putting again is safe.
        """
        ...

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        """The bytes under a name.

        Raises:
            NotFound: there are none.
            RequestTooLarge: there are more than `max_bytes`; they were not read.
            DependencyUnavailable: the store is away.
        """
        ...

    async def delete(self, name: str) -> None:
        """Forget a name; one that is not there is left alone.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class IngestionQueue(Protocol):
    """Documents that wait to be ingested. A task may be given out twice, late, or for a document that is gone."""

    async def put(self, tasks: Sequence[IngestionTask], *, delay_s: int = 0) -> None:
        """Enqueue tasks, to be given out no sooner than `delay_s` seconds from now; at least once.

        Raises:
            DependencyUnavailable: nothing, or only a part, was enqueued; putting again is safe.
        """
        ...


class DocumentParser(Protocol):
    """Makes text of a document's bytes, whatever they are."""

    async def parse(self, content: bytes, *, media_type: str, name: str) -> ParsedDocument:
        """The document's blocks. What the bytes are decides, not what they are called.

        Args:
            content: of anybody's making.
            media_type: as declared; a hint.
            name: of the file; its ending is a hint.

        Raises:
            NeedsOcr: it holds pictures of text only.
            DocumentUnreadable: it cannot be taken; the reason says what a person can do.
            DependencyUnavailable: parsing could not be tried; trying again may help.
        """
        ...


class Span(Protocol):
    """A piece of work being traced. Ends with its context manager; what is set after that is ignored."""

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        ...

    @property
    def traceparent(self) -> str:
        """The W3C header to send on, naming this span as the parent."""
        ...

    def set(self, **attributes: str | float | bool | None) -> None:
        """Attach facts; never content.

        One name has a meaning of its own: `status`, the HTTP number or gRPC name, becomes the result code, and a number
        from 400 on means failure.
        """
        ...

    def fail(self, code: str, error: BaseException | None = None) -> None:
        """Mark as failed with an error code; of `error` only the class (for a defect: its place in the code) is kept.

        An exception that leaves the span's context manager does the same by itself.
        """
        ...

    def activate(self) -> AbstractContextManager[None]:
        """Make this the current span in another task, such as the one that produces a streamed body."""
        ...


class Telemetry(Protocol):
    """Traces, metrics and structured logs. No method blocks, raises, or takes content."""

    def request(self, name: str, *, request_id: str, traceparent: str | None) -> AbstractContextManager[Span]:
        """A server span, joined to the caller's trace when `traceparent` is valid.

        `name` is the method and the route's template, such as `POST /api/v1/route`, or a job's name.
        """
        ...

    def dependency(self, name: str, *, kind: str, target: str) -> AbstractContextManager[Span]:
        """A client span below the current span; the root of a new trace where there is none.

        Args:
            name: the operation: a verb and a constant, never a query or a body.
            kind: the system, as the application map shows it: `Redis`, `PostgreSQL`, `GRPC`, `HTTP`.
            target: host or deployment.
        """
        ...

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Add to a counter."""
        ...

    def observe(self, name: str, value: float, **dimensions: str) -> None:
        """Record a measurement; the unit is in the name."""
        ...

    def log(self, level: int, event: str, **fields: str | float | bool | None) -> None:
        """A structured log line (`logging` levels); `event` is a constant, fields hold ids and codes only."""
        ...

    async def aclose(self) -> None:
        """Flush what is buffered, within a few seconds."""
        ...
