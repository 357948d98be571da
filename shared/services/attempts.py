"""Calling the chosen deployment and, when it fails, the next one that may take the request.

One deadline covers all attempts. Every attempt leaves an `AttemptRecord`, also a failed or cancelled one. A stream
fails over as long as no content reached the caller; after that its failure is the caller's to see.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from shared.domain.chat import ChatRequest
from shared.domain.decisions import Candidate
from shared.domain.errors import ProviderError, ProviderTimeout, ProviderUnavailable, UnsupportedFeature
from shared.domain.models import ProviderKind
from shared.domain.replies import ChatReply, Finished, FinishReason, StreamEvent
from shared.domain.resilience import HedgePolicy
from shared.ports import Clock, ModelProvider, ProviderCall, Telemetry
from shared.services.attempt_log import CANCELLED, CONTENT_FILTER, SUCCESS, Attempt, AttemptLog
from shared.services.call_plan import CallPlan
from shared.services.deployment_health import DeploymentHealth
from shared.services.hedging import Runner, race
from shared.services.itinerary import Itinerary, ShareBudget

_GRACE_S = 0.25
"""Adapters keep the deadline themselves; this much later they are cut off."""
_BLOCKS = (FinishReason.CONTENT_FILTER, FinishReason.REFUSAL)


@dataclass(frozen=True, slots=True)
class Served:
    """A whole answer and who gave it; `attempt` is the number of the call that brought it, 0 where none was made."""

    candidate: Candidate
    reply: ChatReply
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class _Whole:
    """A whole answer, of which it is not decided yet whether it is sent."""

    attempt: Attempt
    reply: ChatReply

    @property
    def is_blocked(self) -> bool:
        """Whether the vendor answered with nothing, for what the request holds."""
        return _is_blocked(self.reply)

    def keep(self) -> None:
        """The answer is the caller's."""
        self.attempt.end(SUCCESS)

    async def discard(self, outcome: str) -> None:
        """The answer is not needed."""
        self.attempt.end(outcome)


class OpenStream:
    """A stream whose first content has come: no other model will take over from here."""

    def __init__(
        self, attempt: Attempt, head: list[StreamEvent], rest: AsyncIterator[StreamEvent], log: AttemptLog
    ) -> None:
        self.attempt = attempt
        self._head = head
        self._rest = rest
        self._log = log
        self._head_ms = attempt.elapsed_ms()
        self._outcome: str | None = None

    @property
    def candidate(self) -> Candidate:
        """Who answers."""
        return self.attempt.candidate

    @property
    def is_blocked(self) -> bool:
        """Whether the vendor ended the answer before it began, for what the request holds."""
        return self.attempt.builder.finished and _is_blocked(self.reply())

    def reply(self) -> ChatReply:
        """What has come so far, as a reply."""
        return self.attempt.builder.build()

    def keep(self) -> None:
        """The stream is the caller's; its attempt ends with `events` or `abandon`."""

    async def discard(self, outcome: str) -> None:
        """The stream is not needed."""
        await self._end(outcome, None)

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The events from the first on.

        Raises:
            ProviderError: the stream was cut, stalled or cannot be read.
        """
        outcome, failure = CANCELLED, None
        try:
            for event in self._head:
                yield event
            async for event in self._rest:
                self.attempt.saw(event)
                yield event
            outcome = SUCCESS
        except ProviderError as error:
            outcome, failure = error.code, error
            raise
        finally:
            await self._end(outcome, failure)

    async def abandon(self) -> None:
        """End a stream that nobody began to read."""
        await self._end(CANCELLED, None)

    async def _end(self, outcome: str, failure: ProviderError | None) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._log.waited_ms += self.attempt.elapsed_ms() - self._head_ms
            self.attempt.end(outcome, failure)
        await _close(self._rest)


A = TypeVar("A", _Whole, OpenStream)
_Call = Callable[[CallPlan, Attempt, AttemptLog, float], Awaitable[A]]
"""Calls one deployment: plan, attempt, log, and the instant until which it may take."""


class Attempts:
    """Calls providers.

    Args:
        providers: one adapter per kind.
        health: says who may be called, and hears how each attempt went.
        clock: deadlines and durations.
        telemetry: one dependency span per attempt.
        rng: jitter of pauses.
    """

    def __init__(
        self,
        providers: Mapping[ProviderKind, ModelProvider],
        health: DeploymentHealth,
        clock: Clock,
        telemetry: Telemetry,
        rng: random.Random,
    ) -> None:
        self._providers = providers
        self._health = health
        self._telemetry = telemetry
        self._rng = rng
        self._retries = ShareBudget()
        self._hedges = ShareBudget()
        self.clock = clock

    async def complete(self, plan: CallPlan, log: AttemptLog) -> Served:
        """A whole answer from the first deployment that gives one.

        Raises:
            ProviderError: the last attempt's, when no further one can help, or that no deployment takes calls now;
                with `retry_after_s` where it is known.
            DeadlineExceeded: no time was left for a first attempt.
            BudgetExceeded: no deployment fits the plan's budget.
        """
        whole = await self._first(plan, log, self._whole)
        return Served(whole.attempt.candidate, whole.reply, whole.attempt.number)

    async def open_stream(self, plan: CallPlan, log: AttemptLog) -> OpenStream:
        """A stream from the first deployment that begins to answer.

        Raises:
            RouterError: as `complete`.
        """
        return await self._first(plan, log, self._begun)

    async def _first(self, plan: CallPlan, log: AttemptLog, call: _Call[A]) -> A:
        rules = plan.retries
        if not log.started:
            self._retries.pay_in(rules.share, rules.reserve)
        itinerary = Itinerary(plan.decision, plan.max_attempts, rules, self._retries, self._rng, plan.deadline_s)
        hedging = plan.hedging
        set_aside: A | None = None
        while (candidate := await self._next(itinerary, plan, log)) is not None:
            began_s = self.clock.monotonic()
            attempt = self._attempt(candidate, plan, log)
            if hedging is None:
                answer = await self._tried(attempt, plan, log, itinerary, call)
            else:
                answer = await self._hedged(attempt, hedging, plan, log, itinerary, call)
                hedging = None  # one hedge a request: what fails over is late already
            log.waited_ms += 1000.0 * (self.clock.monotonic() - began_s)
            if answer is None:
                continue
            if not (answer.is_blocked and itinerary.blocked(answer.attempt.candidate)):
                return _kept(answer, log)
            await answer.discard(CONTENT_FILTER)
            set_aside = answer
        if set_aside is not None:
            return _kept(set_aside, log)
        raise itinerary.final_error(self.clock.monotonic())

    async def _next(self, itinerary: Itinerary, plan: CallPlan, log: AttemptLog) -> Candidate | None:
        """The next deployment that takes calls, after the pause before it."""
        while (step := itinerary.next(self.clock.monotonic())) is not None:
            candidate = step.candidate
            if not await plan.affords(candidate, log):
                itinerary.passed_over(candidate, unaffordable=True)
                continue
            if step.wait_s > 0.0:
                await asyncio.sleep(step.wait_s)
                log.waited_ms += 1000.0 * step.wait_s
            if await self._admitted(candidate, itinerary, plan):
                return candidate
            plan.waive(candidate, log)
        return None

    async def _admitted(self, candidate: Candidate, itinerary: Itinerary, plan: CallPlan) -> bool:
        tokens = _tokens_of(candidate, plan)
        refusal = await self._health.admit(candidate.deployment, tokens=tokens)
        if refusal is not None:
            itinerary.refused(candidate, refusal, self.clock.monotonic())
            self._telemetry.count("attempts_refused", reason=refusal.reason, deployment=candidate.deployment.id)
            return False
        itinerary.started(candidate)
        return True

    def _attempt(self, candidate: Candidate, plan: CallPlan, log: AttemptLog) -> Attempt:
        return Attempt(candidate, log, self._health, self.clock, _tokens_of(candidate, plan))

    async def _tried(
        self, attempt: Attempt, plan: CallPlan, log: AttemptLog, itinerary: Itinerary, call: _Call[A]
    ) -> A | None:
        """The answer of one deployment; its failure is noted in the itinerary, and None: the next may try."""
        candidate = attempt.candidate
        deployment = candidate.deployment
        with self._telemetry.dependency(
            candidate.profile.id, kind=f"Vertex AI {deployment.provider.value}", target=deployment.id
        ) as span:
            try:
                # Upstream's spans belong below this attempt, not beside it.
                traced = plan if plan.traceparent is None else replace(plan, traceparent=span.traceparent)
                return await call(traced, attempt, log, itinerary.limit_s(candidate, self.clock.monotonic()))
            except ProviderError as error:
                failure = error
            except TimeoutError:
                failure = ProviderTimeout("the model did not answer in the time that was left for it")
            except BaseException:
                attempt.end(attempt.if_cancelled)
                raise
            span.fail(failure.code)
            attempt.end(failure.code, failure)
            itinerary.failed(candidate, failure, self.clock.monotonic())
            return None

    async def _hedged(
        self,
        attempt: Attempt,
        hedging: HedgePolicy,
        plan: CallPlan,
        log: AttemptLog,
        itinerary: Itinerary,
        call: _Call[A],
    ) -> A | None:
        """As `_tried`, with a second deployment asked when this one is late."""
        self._hedges.pay_in(hedging.share, hedging.reserve)
        attempt.is_stream = call == self._begun

        def runner(of: Attempt) -> Runner[A]:
            return Runner.start(of, self._tried(of, plan, log, itinerary, call))

        async def second() -> Runner[A] | None:
            candidate = itinerary.untried()
            if candidate is None or not self._hedges.take():
                return None
            if not await plan.affords(candidate, log):
                self._hedges.give_back()
                return None
            if not await self._admitted(candidate, itinerary, plan):
                plan.waive(candidate, log)
                self._hedges.give_back()
                return None
            self._telemetry.count("hedges", deployment=candidate.deployment.id)
            return runner(self._attempt(candidate, plan, log))

        return await race(runner(attempt), self._late_s(attempt, hedging), second)

    def _late_s(self, attempt: Attempt, hedging: HedgePolicy) -> float:
        """After how many seconds an attempt is later than it nearly always is."""
        candidate = attempt.candidate
        tail_ms = self._health.tail_ms(candidate.deployment.id, to_first_content=attempt.is_stream)
        if tail_ms is None:
            expected_ms = candidate.profile.ttft_ms if attempt.is_stream else candidate.expected_latency_ms
            tail_ms = hedging.prior_factor * expected_ms
        return max(tail_ms, hedging.least_delay_ms) / 1000.0

    async def _whole(self, plan: CallPlan, attempt: Attempt, _log: AttemptLog, limit_s: float) -> _Whole:
        call = self._call(plan, attempt.candidate, limit_s)
        async with asyncio.timeout(limit_s - self.clock.monotonic() + _GRACE_S):
            events = await self._providers[attempt.candidate.deployment.provider].complete(call)
        attempt.builder.extend(events)
        return _Whole(attempt, attempt.builder.build())

    async def _begun(self, plan: CallPlan, attempt: Attempt, log: AttemptLog, limit_s: float) -> OpenStream:
        attempt.is_stream = True
        # The limit is on the wait for content: a stream that runs may take what is left of the request's time.
        call = self._call(plan, attempt.candidate, plan.deadline_s)
        stream = self._providers[attempt.candidate.deployment.provider].stream(call)
        try:
            wait_s = min(limit_s - self.clock.monotonic(), plan.retries.first_token_timeout_s)
            async with asyncio.timeout(wait_s):
                head = await _head(attempt, stream)
        except BaseException:
            await _close(stream)
            raise
        return OpenStream(attempt, head, stream, log)

    def _with_effort(self, plan: CallPlan, candidate: Candidate) -> ChatRequest:
        """The request with the effort that a rule sets, where the caller set none and the model takes one."""
        effort = plan.decision.effort
        if effort is None or plan.request.reasoning_effort is not None:
            return plan.request
        request = replace(plan.request, reasoning_effort=effort)
        try:
            self._providers[candidate.deployment.provider].check(request, candidate.profile, candidate.deployment)
        except UnsupportedFeature:
            return plan.request
        return request

    def _call(self, plan: CallPlan, candidate: Candidate, deadline_s: float) -> ProviderCall:
        return ProviderCall(
            request=self._with_effort(plan, candidate),
            profile=candidate.profile,
            deployment=candidate.deployment,
            request_id=plan.request_id,
            max_output_tokens=candidate.max_output_tokens,
            deadline_s=deadline_s,
            idle_timeout_s=plan.retries.idle_timeout_s,
            headers={} if plan.traceparent is None else {"traceparent": plan.traceparent},
        )


def _tokens_of(candidate: Candidate, plan: CallPlan) -> int:
    """What a call is expected to use of the deployment's quota."""
    return candidate.prompt_tokens + min(plan.decision.features.expected_output_tokens, candidate.max_output_tokens)


def _kept(answer: A, log: AttemptLog) -> A:
    log.served = answer.attempt.number
    answer.keep()
    return answer


async def _head(attempt: Attempt, stream: AsyncIterator[StreamEvent]) -> list[StreamEvent]:
    """The events up to the first with content."""
    head: list[StreamEvent] = []
    async for event in stream:
        head.append(event)
        attempt.saw(event)
        if attempt.builder.has_content or isinstance(event, Finished):
            return head
    raise ProviderUnavailable("the model's stream ended before it began")


def _is_blocked(reply: ChatReply) -> bool:
    return reply.finish_reason in _BLOCKS and not reply.text() and not reply.tool_calls()


async def _close(stream: AsyncIterator[StreamEvent]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
