"""The use case: read the request, choose a model, call it, record what happened. The walk reads top to bottom."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from shared.analysis.features import analyse
from shared.domain.decisions import Candidate, Decision, Rejection, RejectionReason
from shared.domain.errors import (
    InternalError,
    ModelNotFound,
    NoEligibleModel,
    RouterError,
    UnsupportedFeature,
)
from shared.domain.features import RequestFeatures
from shared.domain.models import Deployment, ModelProfile, ProviderKind
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import ChatReply, StreamEvent
from shared.ports import Clock, ModelProvider, Telemetry
from shared.scoring.counterfactual import Change, turning_changes
from shared.scoring.eligibility import ProviderLimit
from shared.scoring.engine import Question
from shared.scoring.receipt import Deliberation, deliberate, digest_of, receipt_text, within_bounds
from shared.services.attempts import AttemptLog, Attempts, CallPlan, OpenStream
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.ledger_entry import Order, chosen, closing, opening
from shared.services.receipts import fast_canonical
from shared.services.recording import RecordWriter
from shared.services.shelf import Shelf

_CAPABILITY_FIELDS = {
    RejectionReason.MODALITY: "messages",
    RejectionReason.MEDIA_URI: "messages",
    RejectionReason.TOOLS: "tools",
    RejectionReason.JSON: "response_format",
    RejectionReason.SYSTEM: "messages",
    RejectionReason.STREAMING: "stream",
    RejectionReason.OUTPUT_LIMIT: "max_tokens",
    RejectionReason.CONTEXT_WINDOW: "messages",
    RejectionReason.PROVIDER_LIMIT: None,
}
"""What the caller can change about a request that a named model cannot serve."""


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

    def __init__(self, service: "RoutingService", walk: "_Walk", stream: OpenStream) -> None:
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


class _Walk:
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


class RoutingService:
    """Answers requests.

    Args:
        shelf: hands out snapshots.
        attempts: calls providers.
        providers: asked what their wire forms cannot carry.
        writer: the ledger's writer.
        clock: time.
        telemetry: metrics of decisions.
        rng: the random source of choices.
        keeper: is told of every configuration that decisions are made with.
    """

    def __init__(
        self,
        shelf: Shelf,
        attempts: Attempts,
        providers: Mapping[ProviderKind, ModelProvider],
        writer: RecordWriter,
        clock: Clock,
        telemetry: Telemetry,
        rng: random.Random,
        keeper: ConfigurationKeeper | None = None,
    ) -> None:
        self._shelf = shelf
        self._keeper = keeper
        self._attempts = attempts
        self._providers = providers
        self._writer = writer
        self._telemetry = telemetry
        self._rng = rng
        self.clock = clock

    def decide(self, order: Order) -> Decision:
        """Read the request and choose, without calling or recording anything.

        Raises:
            ModelNotFound: the named model is not in the registry.
            UnsupportedFeature: the named model cannot take the request.
            NoEligibleModel: no model may.
        """
        order = self._resolved(order)
        return self._decided(self._deliberate(order, _read(order)), order)

    async def preview(self, order: Order) -> Preview:
        """What `decide` would choose, explained as a receipt would explain it.

        Raises:
            RouterError: as `decide`.
        """
        order = self._resolved(order)
        made = self._deliberate(order, _read(order))
        decision = self._decided(made, order)
        changes = await asyncio.to_thread(turning_changes, made)
        return Preview(decision, digest_of(made, fast_canonical), changes)

    async def answer(self, order: Order) -> Answer:
        """Choose a model, call it and answer.

        Raises:
            RouterError: as `decide`, or the last attempt's `ProviderError`.
        """
        walk = self._admit(order)
        with self._closed_on_failure(walk):
            served = await self._attempts.complete(self._plan(walk), walk.log)
        record = self.close(walk, RequestStatus.SUCCESS, served=served.candidate, reply=served.reply)
        return Answer(served.reply, walk.decided, record)

    async def open_stream(self, order: Order) -> StreamedAnswer:
        """Choose a model and wait for its first content; until then other models take over unseen.

        Raises:
            RouterError: as `answer`.
        """
        walk = self._admit(order)
        with self._closed_on_failure(walk):
            stream = await self._attempts.open_stream(self._plan(walk), walk.log)
        return StreamedAnswer(self, walk, stream)

    def close(
        self,
        walk: _Walk,
        status: RequestStatus,
        *,
        served: Candidate | None = None,
        reply: ChatReply | None = None,
        error: RouterError | None = None,
    ) -> RequestRecord:
        """Write the final record and the metrics."""
        record = closing(
            walk.record,
            walk.log,
            now=self.clock.now(),
            overhead_ms=walk.overhead_ms(self.clock),
            status=status,
            served=served,
            reply=reply,
            error=error,
        )
        self._writer.finished(record)
        self._telemetry.count("requests", status=status.value, model=record.model_used or "none")
        self._telemetry.observe("request_overhead_ms", record.overhead_ms)
        self._telemetry.observe("request_duration_ms", record.duration_ms)
        return record

    def _resolved(self, order: Order) -> Order:
        """The order with its model's alias replaced by the registry's id."""
        name = order.constraints.model
        if name is None:
            return order
        profile = self._shelf.registry.resolve(name)
        if profile is None:
            raise ModelNotFound(f"there is no model {name!r}; GET /api/v1/models lists them", param="model")
        return replace(order, constraints=replace(order.constraints, model=profile.id))

    def _admit(self, order: Order) -> _Walk:
        """Read and choose; from here on the request has a record, whatever happens."""
        order = self._resolved(order)
        features = _read(order)
        walk = _Walk(order, opening(order, features, self.clock.now()))
        self._writer.opened(walk.record)
        with self._closed_on_failure(walk):
            made = self._deliberate(order, features)
            walk.record = replace(walk.record, receipt=self._receipt(made))
            walk.decision = self._decided(made, order)
        walk.record = chosen(walk.record, walk.decided)
        return walk

    @contextlib.contextmanager
    def _closed_on_failure(self, walk: _Walk) -> Iterator[None]:
        try:
            yield
        except RouterError as error:
            self.close(walk, RequestStatus.ERROR, error=error)
            raise
        except asyncio.CancelledError:
            self.close(walk, RequestStatus.CANCELLED)
            raise
        except BaseException:
            self.close(walk, RequestStatus.ERROR, error=InternalError("a defect of the router"))
            raise

    def _deliberate(self, order: Order, features: RequestFeatures) -> Deliberation:
        snapshot = self._shelf.take()
        if self._keeper is not None:
            self._keeper.note(snapshot.registry, snapshot.policy)
        service, seen = order.principal.service, within_bounds(features)
        question = Question(seen, order.constraints, service, order.stream, order.tags)
        return deliberate(question, snapshot, self._rng.random(), self._limits(order))

    def _decided(self, made: Deliberation, order: Order) -> Decision:
        if made.decision is None:
            raise self._explained(made.rejections, order)
        return made.decision

    def _receipt(self, made: Deliberation) -> str | None:
        """The receipt, or None when the request holds what no store takes: no answer fails for its receipt."""
        try:
            return receipt_text(made, fast_canonical)
        except (TypeError, ValueError):
            self._telemetry.count("receipts_lost")
            return None

    def _limits(self, order: Order) -> ProviderLimit:
        """Asks the adapters what they cannot carry of this request."""

        def limit(profile: ModelProfile, deployment: Deployment) -> str | None:
            try:
                self._providers[deployment.provider].check(order.request, profile, deployment)
            except UnsupportedFeature as error:
                return error.message
            return None

        return limit

    def _plan(self, walk: _Walk) -> CallPlan:
        order = walk.order
        return CallPlan(
            request=order.request,
            decision=walk.decided,
            request_id=order.request_id,
            deadline_s=order.started_s + order.timeout_s,
            max_attempts=self._shelf.policy.max_attempts,
            traceparent=order.traceparent,
        )

    def _explained(self, rejections: Sequence[Rejection], order: Order) -> RouterError:
        """The error that tells the caller what stood in the way, and of which field."""
        named = order.constraints.model
        relevant = [r for r in rejections if r.reason is not RejectionReason.NOT_REQUESTED]
        if named is not None and relevant and all(r.reason in _CAPABILITY_FIELDS for r in relevant):
            return self._incapable(relevant[0], order)
        counts = Counter(r.reason.value for r in relevant)
        reasons = ", ".join(f"{count} by {reason}" for reason, count in counts.most_common())
        return NoEligibleModel(
            f"no model may take this request: of {len(relevant)} deployments, {reasons or 'none is enabled'}",
            param="model" if named is not None else None,
        )

    def _incapable(self, rejection: Rejection, order: Order) -> RouterError:
        if rejection.reason is RejectionReason.PROVIDER_LIMIT:
            registry = self._shelf.registry
            deployment = next(d for d in registry.deployments if d.id == rejection.deployment_id)
            try:  # asked once more, because only the adapter knows the field
                self._providers[deployment.provider].check(
                    order.request, registry.models[rejection.model_id], deployment
                )
            except UnsupportedFeature as error:
                return error
        return UnsupportedFeature(
            f"model {rejection.model_id}: {rejection.detail}", param=_CAPABILITY_FIELDS[rejection.reason]
        )


def _read(order: Order) -> RequestFeatures:
    return analyse(order.request, label=order.constraints.label)
