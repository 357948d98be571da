"""One call to one deployment while it is under way, and what is noted of every call of a request."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from shared.domain.decisions import Candidate
from shared.domain.errors import (
    ContextWindowExceeded,
    ProviderError,
    ProviderRejected,
    ProviderTimeout,
)
from shared.domain.pricing import cost_of
from shared.domain.records import AttemptRecord
from shared.domain.replies import ReplyBuilder, StreamEvent, Usage
from shared.ports import Clock
from shared.services.deployment_health import CallOutcome, DeploymentHealth

SUCCESS = "success"
CANCELLED = "cancelled"
HEDGE_LOST = "hedge_lost"
"""Another deployment, called while this one was late, answered first."""
CONTENT_FILTER = "content_filter"
"""The vendor answered, but with nothing for what the request holds; another model was asked."""

_OUR_LIMITS = frozenset({None, "deadline", "idle"})
"""Vendor statuses of timeouts that the router called itself: the vendor may have gone on, and may bill for it."""


@dataclass(frozen=True, slots=True)
class CascadeOutcome:
    """What came of trying a cheap model first.

    Attributes:
        result: ``accepted``, or ``escalated`` to the best model.
        reason: why the first answer was not sent.
        saved_usd: what the best model would have cost for the tokens of the answer, less what all calls cost; below
            zero: what the first answer and its checks cost on top.
    """

    result: str
    reason: str | None
    saved_usd: Decimal

    def tags(self) -> tuple[tuple[str, str], ...]:
        """As the record keeps it."""
        reason = () if self.reason is None else (("router.cascade_reason", self.reason),)
        return (("router.cascade", self.result), *reason, ("router.cascade_saved_usd", f"{self.saved_usd:f}"))


@dataclass(slots=True)
class AttemptLog:
    """The attempts of one request so far.

    Attributes:
        records: of ended attempts, in the order in which they began.
        started: attempts that began.
        served: number of the attempt whose answer the caller gets.
        waited_ms: time spent waiting for providers and between attempts; attempts at the same time count once.
        committed_usd: what all attempts cost at most: the ended ones what they cost, those under way and those about to
            begin (`CallPlan.affords`) their worst case.
        cascade: what came of the cascade, where there was one.
    """

    records: list[AttemptRecord] = field(default_factory=list)
    started: int = 0
    served: int | None = None
    waited_ms: float = 0.0
    committed_usd: Decimal = Decimal(0)
    cascade: CascadeOutcome | None = None
    _called: set[str] = field(default_factory=set)

    @property
    def cost_usd(self) -> Decimal:
        """Exact cost of the ended attempts."""
        return sum((record.cost_usd for record in self.records), Decimal(0))

    @property
    def tokens(self) -> int:
        """Tokens of the ended attempts."""
        return sum(record.usage.total_tokens for record in self.records)

    @property
    def fallbacks(self) -> int:
        """Deployments that were called beside the first one."""
        return max(0, len(self._called) - 1)

    @property
    def answering(self) -> AttemptRecord | None:
        """The record of the attempt that serves the caller; of the last one while there is none."""
        found = next((r for r in self.records if r.number == self.served), None)
        return found or (self.records[-1] if self.records else None)

    def begin(self, candidate: Candidate) -> int:
        """Count an attempt that begins; returns its number."""
        self.started += 1
        self._called.add(candidate.deployment.id)
        return self.started

    def relabel(self, number: int, outcome: str) -> None:
        """Say of an ended attempt what it was for, once that is known."""
        self.records = [replace(r, outcome=outcome) if r.number == number else r for r in self.records]

    def add(self, record: AttemptRecord) -> None:
        """Note an ended attempt; those that overlapped end in another order than they began."""
        self.records.append(record)
        self.records.sort(key=lambda r: r.number)


class Attempt:
    """One call under way; `end` writes its record once.

    Args:
        candidate: who is called.
        log: of the request.
        health: hears how it goes.
        clock: of durations.
        expected_tokens: prompt and answer; what `admit` was told, and the bound of the estimate for a call that is cut
            off before it said anything.
    """

    def __init__(
        self,
        candidate: Candidate,
        log: AttemptLog,
        health: DeploymentHealth,
        clock: Clock,
        expected_tokens: int,
    ) -> None:
        self.candidate = candidate
        self.builder = ReplyBuilder(candidate.profile.id)
        self.ttft_ms: float | None = None
        self.is_stream = False
        self.if_cancelled = CANCELLED
        """The outcome when the call is cancelled."""
        self._log = log
        self._health = health
        self._clock = clock
        self._started_at: datetime = clock.now()
        self._started_s = clock.monotonic()
        self._expected_tokens = expected_tokens
        self._ended = False
        self.number = log.begin(candidate)
        health.started(candidate.deployment.id)

    def saw(self, event: StreamEvent) -> None:
        """Take an event of the answer; the first one with content stops the clock of time to first token."""
        self.builder.add(event)
        if self.ttft_ms is None and self.builder.has_content:
            self.ttft_ms = self.elapsed_ms()

    def elapsed_ms(self) -> float:
        """Milliseconds since the call began."""
        return 1000.0 * (self._clock.monotonic() - self._started_s)

    def end(self, outcome: str, error: ProviderError | None = None) -> None:
        """Write the record, with what was used priced at the day the attempt began.

        Args:
            outcome: a word of this module, or the error's code.
            error: what the call failed with.
        """
        if self._ended:
            return
        self._ended = True
        candidate, duration_ms = self.candidate, self.elapsed_ms()
        usage = self._usage(outcome, error)
        cost = cost_of(candidate.profile, usage, day=self._started_at.date(), region=candidate.deployment.region)
        self._log.committed_usd += cost.total_usd - candidate.worst_case_cost_usd
        self._log.add(
            AttemptRecord(
                number=self.number,
                deployment_id=candidate.deployment.id,
                model_id=candidate.profile.id,
                provider=candidate.deployment.provider.value,
                region=candidate.deployment.region,
                started_at=self._started_at,
                duration_ms=duration_ms,
                outcome=outcome,
                vendor_status=None if error is None else error.vendor_status,
                ttft_ms=self.ttft_ms,
                usage=usage,
                cost_usd=cost.total_usd,
            )
        )
        self._health.ended(
            candidate.deployment.id,
            CallOutcome(
                succeeded=_succeeded(outcome, error),
                duration_ms=duration_ms,
                ttft_ms=self.ttft_ms,
                tokens=usage.total_tokens,
                error=error,
                reserved_tokens=self._expected_tokens,
            ),
        )

    def _usage(self, outcome: str, error: ProviderError | None) -> Usage:
        builder = self.builder
        was_cut_off = outcome in (CANCELLED, HEDGE_LOST) or (
            isinstance(error, ProviderTimeout) and error.vendor_status in _OUR_LIMITS
        )
        if builder.finished or not (was_cut_off or builder.has_content):
            return builder.usage
        return _estimated(builder, self.candidate, self._tokens_unseen() if was_cut_off else 0)

    def _tokens_unseen(self) -> int:
        """Output tokens that a plain call has probably generated before it was cut off."""
        if self.is_stream:
            return 0
        profile = self.candidate.profile
        tokens = (self.elapsed_ms() - profile.ttft_ms) / 1000.0 * profile.tokens_per_s
        return max(0, min(int(tokens), self._expected_tokens - self.candidate.prompt_tokens))


def _succeeded(outcome: str, error: ProviderError | None) -> bool | None:
    """What the attempt says of the deployment; None when it was not the deployment's doing."""
    if isinstance(error, ProviderRejected | ContextWindowExceeded) or outcome in (CANCELLED, HEDGE_LOST):
        return None
    return error is None


def _estimated(builder: ReplyBuilder, candidate: Candidate, unseen_tokens: int) -> Usage:
    """Usage of an answer that was cut: what the vendor said, the rest estimated from the characters that came."""
    usage = builder.usage
    text = "".join(getattr(part, "text", "") or getattr(part, "arguments_json", "") for part in builder.build().parts)
    seen = max(1, round(len(text) / candidate.profile.chars_per_token)) if builder.has_content else 0
    output = max(seen, unseen_tokens)
    if usage.completion_tokens < output:
        usage = replace(usage, output_tokens=output - usage.thinking_tokens, estimated=True)
    if usage.prompt_tokens == 0:
        usage = replace(usage, input_tokens=candidate.prompt_tokens, estimated=True)
    return usage
