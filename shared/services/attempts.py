"""Calling the chosen deployment and, when it fails, the next one that may take the request.

One deadline covers all attempts. Every attempt leaves an `AttemptRecord`, also a failed or cancelled one. A stream
fails over as long as no content reached the caller; after that its failure is the caller's to see.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared.domain.chat import ChatRequest
from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import (
    DeadlineExceeded,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RetryScope,
    UnsupportedFeature,
)
from shared.domain.models import ProviderKind
from shared.domain.pricing import cost_of
from shared.domain.records import AttemptRecord
from shared.domain.replies import ChatReply, Finished, ReplyBuilder, StreamEvent, Usage
from shared.ports import Clock, ModelProvider, ProviderCall, Telemetry
from shared.services.signals import SignalBoard

_GRACE_S = 0.25
"""Adapters keep the deadline themselves; this much later they are cut off."""
_PAUSE_S = 0.2
"""Longest pause before the same deployment is tried a second time; doubles with each further try."""

OUTCOME_SUCCESS = "success"
OUTCOME_CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What is to be called for a request, in which order, until when."""

    request: ChatRequest
    decision: Decision
    request_id: str
    deadline_s: float
    max_attempts: int
    traceparent: str | None = None


@dataclass(slots=True)
class AttemptLog:
    """The attempts of one request so far, and the time spent waiting for providers."""

    records: list[AttemptRecord] = field(default_factory=list)
    waited_ms: float = 0.0


class Itinerary:
    """The order of attempts: the chosen deployment, then the fallbacks that the last failure leaves sensible."""

    def __init__(self, decision: Decision, max_attempts: int) -> None:
        self._ahead: Iterator[Candidate] = itertools.chain((decision.chosen,), decision.fallbacks)
        self._left = max_attempts
        self._last: Candidate | None = None
        self._failed_models: set[str] = set()
        self.failure: ProviderError | None = None
        self.repeats = 0
        """How often in a row the next deployment was tried already."""

    def next(self) -> Candidate | None:
        """The next deployment to call, or None when another attempt cannot help."""
        error = self.failure
        if self._left <= 0 or (error is not None and error.scope is RetryScope.NEVER):
            return None
        if error is not None and error.scope is RetryScope.OTHER_MODEL and self._last is not None:
            self._failed_models.add(self._last.profile.id)
        ahead = next((c for c in self._ahead if c.profile.id not in self._failed_models), None)
        if ahead is not None:
            self._last, self.repeats = ahead, 0
        elif error is not None and error.scope is RetryScope.SAME:
            self.repeats += 1
        else:
            return None
        self._left -= 1
        return self._last

    def final_error(self) -> ProviderError | DeadlineExceeded:
        """Why no further attempt is made."""
        return self.failure or DeadlineExceeded("the request's deadline passed before a model could be called")


class _Attempt:
    """One call under way; `end` writes its record once."""

    def __init__(self, caller: "Attempts", candidate: Candidate, log: AttemptLog, started_at: datetime) -> None:
        self._caller = caller
        self._log = log
        self._started_at = started_at
        self._started_s = caller.clock.monotonic()
        self._ended = False
        self.candidate = candidate
        self.ttft_ms: float | None = None
        self.builder = ReplyBuilder(candidate.profile.id)
        self.billed: Usage | None = None
        caller.board.started(candidate.deployment.id)

    def saw(self, event: StreamEvent) -> None:
        """Take an event of the answer; the first one with content stops the clock of time to first token."""
        self.builder.add(event)
        if self.ttft_ms is None and self.builder.has_content:
            self.ttft_ms = self.elapsed_ms()

    def elapsed_ms(self) -> float:
        """Milliseconds since the call began."""
        return 1000.0 * (self._caller.clock.monotonic() - self._started_s)

    def end(self, outcome: str, *, vendor_status: str | None = None) -> None:
        """Write the record, with what was used priced at the day the attempt began."""
        if self._ended:
            return
        self._ended = True
        candidate, duration_ms = self.candidate, self.elapsed_ms()
        usage = self.billed or self.builder.usage
        cost = cost_of(candidate.profile, usage, day=self._started_at.date(), region=candidate.deployment.region)
        self._log.waited_ms += duration_ms
        self._log.records.append(
            AttemptRecord(
                number=len(self._log.records) + 1,
                deployment_id=candidate.deployment.id,
                model_id=candidate.profile.id,
                provider=candidate.deployment.provider.value,
                region=candidate.deployment.region,
                started_at=self._started_at,
                duration_ms=duration_ms,
                outcome=outcome,
                vendor_status=vendor_status,
                ttft_ms=self.ttft_ms,
                usage=usage,
                cost_usd=cost.total_usd,
            )
        )
        succeeded = None if outcome == OUTCOME_CANCELLED else outcome == OUTCOME_SUCCESS
        self._caller.board.ended(candidate.deployment.id, succeeded=succeeded, ttft_ms=self.ttft_ms)


@dataclass(slots=True)
class Served:
    """A whole answer and who gave it."""

    candidate: Candidate
    reply: ChatReply


class OpenStream:
    """A stream whose first content has come: no other model will take over from here."""

    def __init__(self, attempt: _Attempt, head: list[StreamEvent], rest: AsyncIterator[StreamEvent]) -> None:
        self._attempt = attempt
        self._head = head
        self._rest = rest

    @property
    def candidate(self) -> Candidate:
        """Who answers."""
        return self._attempt.candidate

    @property
    def ttft_ms(self) -> float | None:
        """Time from the attempt's begin to its first content."""
        return self._attempt.ttft_ms

    def reply(self) -> ChatReply:
        """What has come so far, as a reply."""
        return self._attempt.builder.build()

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The events from the first on.

        Raises:
            ProviderError: the stream was cut, stalled or cannot be read.
        """
        outcome, vendor_status = OUTCOME_CANCELLED, None
        try:
            for event in self._head:
                yield event
            async for event in self._rest:
                self._attempt.saw(event)
                yield event
            outcome = OUTCOME_SUCCESS
        except ProviderError as error:
            outcome, vendor_status = error.code, error.vendor_status
            raise
        finally:
            await self._end(outcome, vendor_status)

    async def abandon(self) -> None:
        """End a stream that nobody began to read."""
        await self._end(OUTCOME_CANCELLED, None)

    async def _end(self, outcome: str, vendor_status: str | None) -> None:
        builder = self._attempt.builder
        if not builder.finished:
            self._attempt.billed = _billed_so_far(builder, self._attempt.candidate)
        self._attempt.end(outcome, vendor_status=vendor_status)
        await _close(self._rest)


class Attempts:
    """Calls providers.

    Args:
        providers: one adapter per kind.
        board: hears how each attempt went.
        clock: deadlines and durations.
        telemetry: one dependency span per attempt.
        rng: jitter of pauses.
    """

    def __init__(
        self,
        providers: Mapping[ProviderKind, ModelProvider],
        board: SignalBoard,
        clock: Clock,
        telemetry: Telemetry,
        rng: random.Random,
    ) -> None:
        self._providers = providers
        self._telemetry = telemetry
        self._rng = rng
        self.board = board
        self.clock = clock

    async def complete(self, plan: CallPlan, log: AttemptLog) -> Served:
        """A whole answer from the first deployment that gives one.

        Raises:
            ProviderError: the last attempt's, when no further one can help.
            DeadlineExceeded: no time was left for a first attempt.
        """
        itinerary = Itinerary(plan.decision, plan.max_attempts)
        while (candidate := await self._next(itinerary, plan)) is not None:
            with self._attempt(candidate, log, itinerary) as attempt:
                provider = self._providers[candidate.deployment.provider]
                call = self._call(plan, candidate)
                async with asyncio.timeout(plan.deadline_s - self.clock.monotonic() + _GRACE_S):
                    events = await provider.complete(call)
                for event in events:
                    attempt.builder.add(event)
                attempt.end(OUTCOME_SUCCESS)
                return Served(candidate, attempt.builder.build())
        raise itinerary.final_error()

    async def open_stream(self, plan: CallPlan, log: AttemptLog) -> OpenStream:
        """A stream from the first deployment that begins to answer.

        Raises:
            ProviderError: the last attempt's, when no further one can help.
            DeadlineExceeded: no time was left for a first attempt.
        """
        itinerary = Itinerary(plan.decision, plan.max_attempts)
        while (candidate := await self._next(itinerary, plan)) is not None:
            with self._attempt(candidate, log, itinerary) as attempt:
                provider = self._providers[candidate.deployment.provider]
                stream = provider.stream(self._call(plan, candidate))
                try:
                    head = await self._head(attempt, stream)
                except BaseException:
                    await _close(stream)
                    raise
                return OpenStream(attempt, head, stream)
        raise itinerary.final_error()

    async def _head(self, attempt: _Attempt, stream: AsyncIterator[StreamEvent]) -> list[StreamEvent]:
        head: list[StreamEvent] = []
        async for event in stream:
            head.append(event)
            attempt.saw(event)
            if attempt.builder.has_content or isinstance(event, Finished):
                return head
        raise ProviderUnavailable("the model's stream ended before it began")

    async def _next(self, itinerary: Itinerary, plan: CallPlan) -> Candidate | None:
        candidate = itinerary.next()
        if candidate is not None and itinerary.repeats:
            # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
            await asyncio.sleep(self._rng.uniform(0.0, _PAUSE_S * 2 ** (itinerary.repeats - 1)))
        return candidate if self.clock.monotonic() < plan.deadline_s else None

    @contextlib.contextmanager
    def _attempt(self, candidate: Candidate, log: AttemptLog, itinerary: Itinerary) -> Iterator[_Attempt]:
        """Trace one attempt; a provider's failure is noted in the itinerary and swallowed: the next may try."""
        attempt = _Attempt(self, candidate, log, self.clock.now())
        deployment = candidate.deployment
        with self._telemetry.dependency(
            candidate.profile.id, kind=f"Vertex AI {deployment.provider.value}", target=deployment.id
        ) as span:
            try:
                yield attempt
            except ProviderError as error:
                span.fail(error.code)
                attempt.end(error.code, vendor_status=error.vendor_status)
                itinerary.failure = error
            except TimeoutError:
                late = ProviderTimeout("the model did not answer before the deadline")
                span.fail(late.code)
                attempt.end(late.code)
                itinerary.failure = late
            except BaseException:
                attempt.end(OUTCOME_CANCELLED)
                raise

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

    def _call(self, plan: CallPlan, candidate: Candidate) -> ProviderCall:
        request = self._with_effort(plan, candidate)
        headers = {} if plan.traceparent is None else {"traceparent": plan.traceparent}
        return ProviderCall(
            request=request,
            profile=candidate.profile,
            deployment=candidate.deployment,
            request_id=plan.request_id,
            max_output_tokens=candidate.max_output_tokens,
            deadline_s=plan.deadline_s,
            headers=headers,
        )


def _billed_so_far(builder: ReplyBuilder, candidate: Candidate) -> Usage:
    """Usage of an answer that was cut: what the vendor said, the rest estimated from the characters that came."""
    usage = builder.usage
    text = "".join(getattr(part, "text", "") or getattr(part, "arguments_json", "") for part in builder.build().parts)
    output = max(1, round(len(text) / candidate.profile.chars_per_token)) if builder.has_content else 0
    if usage.completion_tokens < output:
        usage = replace(usage, output_tokens=output - usage.thinking_tokens, estimated=True)
    if usage.prompt_tokens == 0:
        usage = replace(usage, input_tokens=candidate.prompt_tokens, estimated=True)
    return usage


async def _close(stream: AsyncIterator[StreamEvent]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
