"""The use case: read the request, choose a model, call it, record what happened. The walk reads top to bottom."""

import asyncio
import contextlib
import functools
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal

from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import (
    InternalError,
    LimitReached,
    ModelNotFound,
    RouterError,
)
from shared.domain.features import RequestFeatures
from shared.domain.models import ProviderKind
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import ChatReply
from shared.domain.resilience import CascadePolicy
from shared.ports import Clock, ModelProvider, Telemetry
from shared.scoring.counterfactual import turning_changes
from shared.scoring.engine import Question
from shared.scoring.receipt import Deliberation, deliberate, digest_of, receipt_text, within_bounds
from shared.services.attempts import Attempts, Served
from shared.services.call_plan import CallPlan, cascade_for, plan_for
from shared.services.cascade import Cascade
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.content_keeping import ContentKeeper
from shared.services.guarding import Guard, Reading
from shared.services.ledger_entry import Order, chosen, closing, if_abandoned, opening, reused
from shared.services.quality_watch import QualityWatch
from shared.services.receipts import fast_canonical
from shared.services.recording import RecordWriter
from shared.services.refusals import WireForms, refusal, suspension
from shared.services.reuse import AnswerReuse, ReplayedStream
from shared.services.shelf import Shelf
from shared.services.till import Hold, Till
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
        reuse: finds and keeps answers; None: no answer is ever reused.
        till: holds the money of budgets; None: there are no budgets.
        quality: looks at answers; None: nobody does.
        content: keeps prompts and answers of services that opted in; None: nobody does.
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
        reuse: AnswerReuse | None = None,
        till: Till | None = None,
        quality: QualityWatch | None = None,
        content: ContentKeeper | None = None,
    ) -> None:
        self._shelf = shelf
        self._quality = quality
        self._content = content
        self._keeper = keeper
        self._reuse = reuse
        self._till = till
        self._cascade = Cascade(attempts)
        self.guard = Guard(lambda: shelf.policy, telemetry)
        self._providers = providers
        self._wire_forms = WireForms(providers)
        self._writer = writer
        self._telemetry = telemetry
        self._rng = rng
        self.clock = clock

    def decide(self, order: Order) -> Decision:
        """Read the request and choose, without calling or recording anything.

        Raises:
            ModelNotFound: the named model is not in the registry.
            ContentRefused: the policy lets no model see the content.
            UnsupportedFeature: the named model cannot take the request.
            NoEligibleModel: no model may.
        """
        order = self.resolved(order)
        reading = self.guard.read(order.request, order.principal.service, order.constraints.label)
        order = self.guard.with_reading(order, reading)
        return self._decided(self._deliberate(order, _let_through(reading)), order)

    async def preview(self, order: Order) -> Preview:
        """What `decide` would choose, explained as a receipt would explain it.

        Raises:
            RouterError: as `decide`.
        """
        order, reading = await self._read(order)
        features = _let_through(reading)
        with await self._passed(order, features, tokens=0):
            made = self._deliberate(order, features)
        decision = self._decided(made, order)
        changes = await asyncio.to_thread(turning_changes, made)
        return Preview(decision, digest_of(made, fast_canonical), changes)

    async def answer(self, order: Order) -> Answer:
        """Choose a model, call it and answer.

        Raises:
            RouterError: as `decide`, or the last attempt's `ProviderError`.
        """
        walk = await self._admit(order)
        with self._closed_on_failure(walk):
            kept = await self._look_up(walk)
            served = kept or await self._cascade.complete(*await self._plan(walk), walk.log)
            told = walk.guard.told(served.reply, served.candidate.profile.id)
        record = self.close(walk, RequestStatus.SUCCESS, served=served.candidate, reply=served.reply)
        return Answer(told, walk.decided, record, walk.lookup, walk.log.cascade)

    async def open_stream(self, order: Order) -> StreamedAnswer:
        """Choose a model and wait for its first content; until then other models take over unseen.

        Raises:
            RouterError: as `answer`.
        """
        walk = await self._admit(order)
        with self._closed_on_failure(walk):
            kept = await self._look_up(walk)
            if kept is not None:
                return StreamedAnswer(self, walk, ReplayedStream(kept.candidate, kept.reply))
            stream = await self._cascade.open_stream(*await self._plan(walk), walk.log)
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
        """Write the final record and the metrics.

        Args:
            walk: what ends.
            status: how.
            served: who answered.
            reply: the answer as the model gave it, before the guard.
            error: what the caller was told instead.
        """
        record = closing(
            walk.record,
            walk.log,
            now=self.clock.now(),
            overhead_ms=walk.overhead_ms(self.clock),
            status=status,
            served=served,
            reply=reply,
            error=error,
            receipt=self._receipt_of(walk),
            tags=() if reply is None else self.guard.closing_tags(walk.order, walk.guard, reply),
        )
        walk.is_closed = True
        if self._quality is not None:
            record = self._quality.signed(record, walk.order, reply)
        self._writer.finished(record)
        if self._quality is not None:
            self._quality.ended(walk.order, walk.features, record, reply, is_clean=walk.guard.is_clean)
        if self._content is not None:
            self._content.keep(walk.order.request, reply if walk.guard.is_clean else None, record)
        if walk.order.ticket is not None:
            walk.order.ticket.close(walk.log.tokens)
        if self._reuse is not None and reply is not None and walk.guard.is_clean:
            # A cascade's first model was chosen too, by the cascade.
            by_fallback = walk.log.cascade is None and record.model_used != walk.decided.chosen.profile.id
            self._reuse.keep(walk.lookup, reply, record, by_fallback=by_fallback)
        self._telemetry.count("requests", status=status.value, model=record.model_used or "none")
        self._telemetry.observe("request_overhead_ms", record.overhead_ms)
        self._telemetry.observe("request_duration_ms", record.duration_ms)
        self._telemetry.observe(
            "request_cost_usd",
            float(record.cost_usd),
            model=record.model_used or "none",
            service=record.service_name,
        )
        return record

    async def _look_up(self, walk: Walk) -> Served | None:
        """An answer that was given before, in place of a call."""
        if self._reuse is None:
            return None
        rules = self._shelf.policy.for_service(walk.order.principal.service).cache
        found = walk.lookup = await self._reuse.find(walk.order, walk.decided, rules)
        walk.record = reused(walk.record, found.outcome, found.answer)
        return None if found.answer is None or found.served is None else Served(found.served, found.answer.reply)

    async def _read(self, order: Order) -> tuple[Order, Reading]:
        """The order with its model resolved and its content guarded.

        Raises:
            ModelNotFound: the named model is not in the registry.
        """
        return await self.guard.admit(self.resolved(order))

    def resolved(self, order: Order) -> Order:
        """The order with its model's alias replaced by the registry's id.

        Raises:
            ModelNotFound: the named model is not in the registry.
        """
        name = order.constraints.model
        if name is None:
            return order
        profile = self._shelf.registry.resolve(name)
        if profile is None:
            raise ModelNotFound(f"there is no model {name!r}; GET /api/v1/models lists them", param="model")
        return replace(order, constraints=replace(order.constraints, model=profile.id))

    async def _admit(self, order: Order) -> Walk:
        """Pass the limits, read and choose; from then on the request has a record, whatever happens."""
        given = order
        order, reading = await self._read(order)
        features = reading.features
        with await self._passed(order, features) as passed:
            guard = self.guard.answer_guard(given, reading)
            now = self.clock.now()
            accounts = () if self._till is None else self._till.accounts(order.principal, order.tags, now)
            record = opening(order, features, now, tuple(account.id for account in accounts))
            walk = Walk(order, features, record, guard, accounts)
            self._writer.ensure_room()
            passed.pop_all()  # `close` gives back what the limits hold
        with self._closed_on_failure(walk):
            _let_through(reading)
            cap = None if self._till is None else self._till.cap_usd(order.principal.tenant_id, walk.accounts)
            error = self._choose(walk, capped_usd=cap)
            if error is not None and cap is not None:
                # What is left may have grown since it was heard of: only the till refuses for want of money.
                error = self._choose(walk)
            if error is not None:
                raise error
        self._note_choice(walk)
        return walk

    async def _passed(
        self, order: Order, features: RequestFeatures, *, tokens: int | None = None
    ) -> contextlib.ExitStack:
        """Pass the rate limits; what they hold is given back at the end of the block, unless that is taken over.

        Raises:
            RouterError: as `Ticket.admit`.
        """
        passed = contextlib.ExitStack()
        if order.ticket is not None:
            answer_tokens = features.max_output_tokens or features.expected_output_tokens
            await order.ticket.admit(
                lease_s=order.started_s + order.timeout_s - self.clock.monotonic(),
                tokens=features.prompt_tokens + answer_tokens if tokens is None else tokens,
                tags=order.tags,
                priority=order.priority,
            )
            passed.callback(order.ticket.close, 0)
        return passed

    def _choose(self, walk: Walk, *, capped_usd: Decimal | None = None) -> RouterError | None:
        """Deliberate, by what may be spent; returns what stands in the way when nothing is eligible."""
        order = walk.order
        if capped_usd is not None:
            asked = order.constraints.max_cost_usd
            cap = capped_usd if asked is None else min(asked, capped_usd)
            order = replace(order, constraints=replace(order.constraints, max_cost_usd=cap))
        made = self._deliberate(order, walk.features)
        walk.made, walk.receipt, walk.decision = made, None, made.decision
        return None if made.decision is not None else self._refusal(made, order)

    def _note_choice(self, walk: Walk) -> None:
        """Note the request and who is to serve it; the receipt follows while somebody else is waited for."""
        walk.record = chosen(walk.record, walk.decided)
        self._writer.opened(if_abandoned(walk.record, walk.decided))
        asyncio.get_running_loop().call_soon(self._note_receipt, walk)

    def _note_receipt(self, walk: Walk) -> None:
        if not walk.is_closed and walk.receipt is None:
            self._writer.opened(if_abandoned(walk.record, walk.decided, self._receipt_of(walk)))

    async def _hold(self, walk: Walk, till: Till) -> Hold:
        """Hold the choice's worst case; where it does not fit, that of what does.

        Raises:
            RouterError: as `Till.reserve`.
        """
        order, worst_usd = walk.order, walk.decided.chosen.worst_case_cost_usd
        tenant_id = order.principal.tenant_id
        lease_s = order.started_s + order.timeout_s - self.clock.monotonic()
        reserve = functools.partial(till.reserve, tenant_id, order.request_id, walk.accounts, lease_s=lease_s)
        try:
            return await reserve(worst_usd)
        except LimitReached:
            cap = till.cap_usd(tenant_id, walk.accounts)
            if cap is None or cap >= worst_usd or self._choose(walk, capped_usd=cap):
                raise
        self._note_choice(walk)
        return await reserve(walk.decided.chosen.worst_case_cost_usd)

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
        forecast = self._shelf.forecast(order.request, seen, order.constraints, snapshot)
        question = Question(seen, order.constraints, service, order.stream, order.tags, forecast)
        return deliberate(question, snapshot, self._rng.random(), self._wire_forms.limits_of(order.request))

    def _decided(self, made: Deliberation, order: Order) -> Decision:
        if made.decision is None:
            raise self._refusal(made, order)
        return made.decision

    def _refusal(self, made: Deliberation, order: Order) -> RouterError:
        known = suspension(made, self._wire_forms.limits_of(order.request))
        return known or refusal(made.rejections, order, self._shelf.registry, self._providers)

    def _receipt_of(self, walk: Walk) -> str | None:
        """The receipt, or None when the request holds what no store takes: no answer fails for its receipt."""
        if walk.receipt is None and walk.made is not None:
            try:
                walk.receipt = receipt_text(walk.made, fast_canonical)
            except (TypeError, ValueError):
                walk.made = None
                self._telemetry.count("receipts_lost")
        return walk.receipt

    async def _plan(self, walk: Walk) -> tuple[CallPlan, CascadePolicy | None]:
        """What to call, paid for.

        Raises:
            RouterError: as `Till.reserve`.
        """
        hold = None
        if self._till is not None and walk.accounts:
            hold = await self._hold(walk, self._till)
            if walk.order.ticket is not None:
                walk.order.ticket.soft_budgets = hold.soft
        order, policy = walk.order, self._shelf.policy
        return replace(plan_for(order, walk.decided, policy), hold=hold), cascade_for(order, walk.decided, policy)


def _let_through(reading: Reading) -> RequestFeatures:
    """What was read of a request that may go on.

    Raises:
        ContentRefused: it may not.
    """
    if reading.refusal is not None:
        raise reading.refusal
    return reading.features
