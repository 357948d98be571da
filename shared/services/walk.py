"""One request on its way, and what its caller gets in the end."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from shared.domain.budgets import Account
from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import InternalError, RouterError
from shared.domain.features import RequestFeatures
from shared.domain.records import AttemptRecord, RequestRecord, RequestStatus
from shared.domain.replies import ChatReply, ReplyBuilder, StreamEvent
from shared.ports import Clock
from shared.scoring.counterfactual import Change
from shared.scoring.receipt import Deliberation
from shared.services.attempt_log import AttemptLog, CascadeOutcome
from shared.services.attempts import OpenStream
from shared.services.guarding import AnswerGuard
from shared.services.ledger_entry import Order
from shared.services.reuse import NOT_LOOKED_UP, Lookup, ReplayedStream


class Walk:
    """State of one request on its way."""

    def __init__(
        self,
        order: Order,
        features: RequestFeatures,
        record: RequestRecord,
        guard: AnswerGuard,
        accounts: tuple[Account, ...] = (),
    ) -> None:
        self.order = order
        self.guard = guard
        self.features = features
        self.record = record
        self.accounts = accounts
        """Of the budgets that it is charged to."""
        self.is_closed = False
        self.log = AttemptLog()
        self.made: Deliberation | None = None
        self.receipt: str | None = None
        """Of what was `made`, once it is written."""
        self.decision: Decision | None = None
        self.lookup: Lookup = NOT_LOOKED_UP

    @property
    def decided(self) -> Decision:
        """The decision, once made."""
        if self.decision is None:
            raise InternalError("no decision was made yet")
        return self.decision

    def overhead_ms(self, clock: Clock) -> float:
        """Time since the door opened that was not spent waiting for providers."""
        return max(0.0, 1000.0 * (clock.monotonic() - self.order.started_s) - self.log.waited_ms)


class Closer(Protocol):
    """Whoever ends walks: the routing service."""

    clock: Clock

    def close(
        self,
        walk: Walk,
        status: RequestStatus,
        *,
        served: Candidate | None = None,
        reply: ChatReply | None = None,
        error: RouterError | None = None,
    ) -> RequestRecord:
        """Write the final record."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer with what led to it."""

    reply: ChatReply
    decision: Decision
    record: RequestRecord
    lookup: Lookup = NOT_LOOKED_UP
    cascade: CascadeOutcome | None = None

    @property
    def fallbacks(self) -> int:
        """Deployments that were called beside the first one."""
        return max(0, len({attempt.deployment_id for attempt in self.record.attempts}) - 1)

    @property
    def cost_usd(self) -> Decimal:
        """Exact cost of all attempts."""
        return self.record.cost_usd


@dataclass(frozen=True, slots=True)
class Preview:
    """A decision that nothing follows from: its digest, and what would have turned it, the nearest first."""

    decision: Decision
    digest: str
    changes: tuple[Change, ...]


class StreamedAnswer:
    """An answer under way: its first content has come. Iterate `events`, or call `abandon`."""

    def __init__(self, service: Closer, walk: Walk, stream: OpenStream | ReplayedStream) -> None:
        self._service = service
        self._walk = walk
        self._stream = stream
        self._ended = False
        self._filter = walk.guard.filter
        self._told = None if self._filter is None else ReplyBuilder(stream.candidate.profile.id)
        self.overhead_ms = walk.overhead_ms(service.clock)
        """The router's own time until the first content."""

    @property
    def decision(self) -> Decision:
        """Why this model."""
        return self._walk.decided

    @property
    def served(self) -> Candidate:
        """Who answers."""
        return self._stream.candidate

    @property
    def lookup(self) -> Lookup:
        """How the look-up in the answer cache ended."""
        return self._walk.lookup

    @property
    def attempts(self) -> int:
        """Calls made, the one under way included."""
        return self._walk.log.started

    @property
    def fallbacks(self) -> int:
        """Deployments that were called beside the first one."""
        return self._walk.log.fallbacks

    @property
    def cascade(self) -> CascadeOutcome | None:
        """What came of trying a cheap model first."""
        return self._walk.log.cascade

    @property
    def ended_attempts(self) -> tuple[AttemptRecord, ...]:
        """The calls that have ended; all of them once `events` is exhausted."""
        return tuple(self._walk.log.records)

    def reply(self) -> ChatReply:
        """What the caller was told so far."""
        return self._stream.reply() if self._told is None else self._told.build()

    @property
    def cost_usd(self) -> Decimal:
        """Exact cost of the ended attempts; complete once `events` is exhausted."""
        return sum((a.cost_usd for a in self._walk.log.records), Decimal(0))

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The events; however the iteration ends, the record is written.

        Raises:
            ProviderError: the stream broke after content was sent.
        """
        error: RouterError | None = None
        status = RequestStatus.CANCELLED
        events = self._stream.events()
        try:
            async for event in events:
                for told in self._guarded(event):
                    yield told
            status = RequestStatus.SUCCESS
        except RouterError as failure:
            error, status = failure, RequestStatus.ERROR
            raise
        except Exception:
            error, status = InternalError("a defect of the router"), RequestStatus.ERROR
            raise
        finally:
            await events.aclose()
            self._end(status, error)

    def _guarded(self, event: StreamEvent) -> Sequence[StreamEvent]:
        """What the caller gets for an event."""
        if self._filter is None or self._told is None:
            return (event,)
        told = tuple(self._filter.take(event))
        self._told.extend(told)
        return told

    async def abandon(self) -> None:
        """The caller went away before reading."""
        await self._stream.abandon()
        self._end(RequestStatus.CANCELLED, None)

    def _end(self, status: RequestStatus, error: RouterError | None) -> None:
        if not self._ended:
            self._ended = True
            self._service.close(self._walk, status, served=self.served, reply=self._stream.reply(), error=error)
