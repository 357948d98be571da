"""One request on its way, and what its caller gets in the end."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import InternalError, RouterError
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import ChatReply, StreamEvent
from shared.ports import Clock
from shared.scoring.counterfactual import Change
from shared.services.attempts import AttemptLog, OpenStream
from shared.services.ledger_entry import Order


class Walk:
    """State of one request on its way."""

    def __init__(self, order: Order, record: RequestRecord) -> None:
        self.order = order
        self.record = record
        self.log = AttemptLog()
        self.decision: Decision | None = None

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

    def __init__(self, service: Closer, walk: Walk, stream: OpenStream) -> None:
        self._service = service
        self._walk = walk
        self._stream = stream
        self._ended = False
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
    def attempts(self) -> int:
        """Calls made, the one under way included."""
        return len(self._walk.log.records) + (0 if self._ended else 1)

    def reply(self) -> ChatReply:
        """What has come so far."""
        return self._stream.reply()

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
                yield event
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

    async def abandon(self) -> None:
        """The caller went away before reading."""
        await self._stream.abandon()
        self._end(RequestStatus.CANCELLED, None)

    def _end(self, status: RequestStatus, error: RouterError | None) -> None:
        if not self._ended:
            self._ended = True
            self._service.close(self._walk, status, served=self.served, reply=self.reply(), error=error)
