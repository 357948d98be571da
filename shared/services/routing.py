"""The use case: read the request, choose a model, call it, record what happened. The walk reads top to bottom."""

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

from shared.analysis.features import analyse
from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import (
    InternalError,
    ModelNotFound,
    RouterError,
)
from shared.domain.features import RequestFeatures
from shared.domain.models import ProviderKind
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import ChatReply
from shared.ports import Clock, ModelProvider, Telemetry
from shared.scoring.counterfactual import turning_changes
from shared.scoring.engine import Question
from shared.scoring.receipt import Deliberation, deliberate, digest_of, receipt_text, within_bounds
from shared.services.attempts import Attempts, CallPlan
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.ledger_entry import Order, chosen, closing, opening
from shared.services.receipts import fast_canonical
from shared.services.recording import RecordWriter
from shared.services.refusals import provider_limits, refusal
from shared.services.shelf import Shelf
from shared.services.walk import Answer, Preview, StreamedAnswer, Walk


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
        walk: Walk,
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

    def _admit(self, order: Order) -> Walk:
        """Read and choose; from here on the request has a record, whatever happens."""
        order = self._resolved(order)
        features = _read(order)
        walk = Walk(order, opening(order, features, self.clock.now()))
        self._writer.opened(walk.record)
        with self._closed_on_failure(walk):
            made = self._deliberate(order, features)
            walk.record = replace(walk.record, receipt=self._receipt(made))
            walk.decision = self._decided(made, order)
        walk.record = chosen(walk.record, walk.decided)
        self._writer.chosen(walk.record)
        return walk

    @contextlib.contextmanager
    def _closed_on_failure(self, walk: Walk) -> Iterator[None]:
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
        return deliberate(question, snapshot, self._rng.random(), provider_limits(order, self._providers))

    def _decided(self, made: Deliberation, order: Order) -> Decision:
        if made.decision is None:
            raise refusal(made.rejections, order, self._shelf.registry, self._providers)
        return made.decision

    def _receipt(self, made: Deliberation) -> str | None:
        """The receipt, or None when the request holds what no store takes: no answer fails for its receipt."""
        try:
            return receipt_text(made, fast_canonical)
        except (TypeError, ValueError):
            self._telemetry.count("receipts_lost")
            return None

    def _plan(self, walk: Walk) -> CallPlan:
        order = walk.order
        return CallPlan(
            request=order.request,
            decision=walk.decided,
            request_id=order.request_id,
            deadline_s=order.started_s + order.timeout_s,
            max_attempts=self._shelf.policy.max_attempts,
            traceparent=order.traceparent,
        )


def _read(order: Order) -> RequestFeatures:
    return analyse(order.request, label=order.constraints.label)
