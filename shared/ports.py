"""Ports: what services need of the outside world. Adapters live in providers, stores, security and telemetry.

Every port that keeps state has a working twin in `shared.stores.memory`, and one contract suite runs on both.
Every method that leaves the process takes or has a deadline, and says here what it raises.
"""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.domain.chat import ChatRequest
from shared.domain.identity import Principal
from shared.domain.models import Deployment, ModelProfile
from shared.domain.receipts import ChainHead, ChainSection, ReceiptRow
from shared.domain.records import RequestRecord
from shared.domain.replies import StreamEvent


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


class Authenticator(Protocol):
    """Proves who calls from the request's headers."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The proven principal; header names are lower case.

        Raises:
            Unauthenticated: no proof, or one that does not hold.
            DependencyUnavailable: keys to check it could not be had.
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
