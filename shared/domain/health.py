"""Health of deployments in words: what calls came to, who may be called when, and what workers tell each other.

Instants are milliseconds on one scale that all workers share (the health store's clock, close to Unix time).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from shared.domain.errors import ProviderError, ProviderTimeout, RetryScope

QUOTA_WINDOW_S = 60
"""Quotas are per minute."""
PROBE_LEASE_MS = 5_000
"""A probe without a sign of life for this long is given up; its worker was killed."""
CLOCK_SLACK_MS = 1_000
"""What lies further ahead than this was noted before the clock stepped back."""


class BreakerState(StrEnum):
    """The states of a circuit breaker (M. Nygard, Release It!, 2nd edition, section 5.2)."""

    CLOSED = "closed"
    """Calls go through and are counted."""
    OPEN = "open"
    """No call goes through until a date."""
    HALF_OPEN = "half_open"
    """One call goes through, of all workers together; what it comes to decides."""


class RefusalReason(StrEnum):
    """Why a deployment may not be called now."""

    BREAKER_OPEN = "breaker_open"
    HALF_OPEN_BUSY = "half_open_busy"
    COOLDOWN = "cooldown"
    REQUESTS_QUOTA = "requests_quota"
    TOKENS_QUOTA = "tokens_quota"


class ProbeVerdict(StrEnum):
    """What the single call to a half-open deployment came to."""

    ALIVE = "alive"
    """It is under way: its lease is renewed."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNDECIDED = "undecided"
    """The caller left, or was at fault: another one may try."""


@dataclass(frozen=True, slots=True)
class HealthRules:
    """When a deployment is left alone, the same for all of them; a section of the policy.

    Attributes:
        window_s: length of the sliding window over which calls are judged, in whole seconds.
        minimum_calls: fewer calls than this in the window prove nothing.
        failure_rate: share of failed calls in (0, 1] from which on the breaker opens.
        slow_rate: share of slow calls in (0, 1] from which on it opens.
        slow_ttft_ms: a streamed call whose first content takes this long is slow.
        slow_call_ms: a call without a known first content is slow from this duration on.
        fair_timeout_ms: a call that was given less time than this and did not answer has proven nothing, lest one
            impatient caller shut a deployment for all.
        open_s: how long a breaker stays open the first time; doubles with each opening that follows soon.
        max_open_s: the longest it stays open; one that was closed for longer than this begins anew at `open_s`.
        max_cooldown_s: the longest that a vendor's Retry-After is believed.
        assumed_workers: number of workers among which quotas are shared out while the health store is away and never
            said how many there are.
    """

    window_s: int = 30
    minimum_calls: int = 20
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    slow_ttft_ms: int = 20_000
    slow_call_ms: int = 120_000
    fair_timeout_ms: int = 3_000
    open_s: int = 10
    max_open_s: int = 300
    max_cooldown_s: int = 3_600
    assumed_workers: int = 4


@dataclass(frozen=True, slots=True)
class Quota:
    """What one deployment takes in any 60 seconds, of all workers together; None does not restrict."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def share_of(self, workers: int) -> "Quota":
        """One worker's part, at least one request and one token."""

        def part(limit: int | None) -> int | None:
            return None if limit is None else max(1, limit // max(1, workers))

        return Quota(part(self.requests_per_minute), part(self.tokens_per_minute))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A deployment may not be called for now.

    Attributes:
        retry_after_s: after which it may be, as far as is known.
    """

    reason: RefusalReason
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What one attempt came to.

    Attributes:
        succeeded: None when it says nothing of the deployment: the caller left, or the request was at fault.
        duration_ms: from the call's begin to its end.
        ttft_ms: time to first content, None when there was none or it was not streamed.
        tokens: used in truth, prompt and answer.
        error: what it failed with.
        reserved_tokens: what `admit` was told; 0 leaves the reservation as it was.
    """

    succeeded: bool | None
    duration_ms: float
    ttft_ms: float | None
    tokens: int = 0
    error: ProviderError | None = None
    reserved_tokens: int = 0

    def blames_deployment(self, rules: HealthRules) -> bool:
        """Whether it failed by the deployment's doing."""
        if self.succeeded is not False:
            return False
        error = self.error
        if error is not None and error.scope in {RetryScope.OTHER_MODEL, RetryScope.NEVER}:
            return False
        return not (isinstance(error, ProviderTimeout) and self.duration_ms < rules.fair_timeout_ms)

    def is_slow(self, rules: HealthRules) -> bool:
        """Whether the deployment took too long, however it ended."""
        if self.ttft_ms is not None:
            return self.ttft_ms >= rules.slow_ttft_ms
        return self.duration_ms >= rules.slow_call_ms


@dataclass(slots=True)
class Tally:
    """Calls counted: how many, how many of them failed or were slow, and their times to first content in whole ms."""

    calls: int = 0
    failures: int = 0
    slow: int = 0
    first_contents: int = 0
    ttft_sum_ms: int = 0

    def add(self, other: Self) -> None:
        """Count the calls of another tally too."""
        self.calls += other.calls
        self.failures += other.failures
        self.slow += other.slow
        self.first_contents += other.first_contents
        self.ttft_sum_ms += other.ttft_sum_ms


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A breaker changed its state. No content, no caller.

    Attributes:
        at: when, by the health store's clock; UTC.
        reason: ``failure_rate``, ``slow_rate``, ``probe_started``, ``probe_succeeded``, ``probe_failed``,
            ``probe_undecided`` or ``restored`` (a worker told a store that had forgotten it).
        calls, failures, slow: in the window, at that time.
        lasts_ms: how long it stays open, 0 in other states.
    """

    at: datetime
    deployment_id: str
    state: BreakerState
    reason: str
    calls: int = 0
    failures: int = 0
    slow: int = 0
    lasts_ms: int = 0


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """May this deployment be called?

    Attributes:
        quota: the deployment's, or None.
        tokens: to reserve of its tokens quota.
        token: unguessable name of the probe that this call becomes if the breaker is half-open.
    """

    deployment_id: str
    quota: Quota | None
    tokens: int
    token: str
    rules: HealthRules


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer: a refusal, or the permission to call once.

    Attributes:
        now_ms: the store's clock.
        is_probe: whether this call decides the breaker's fate.
        event: the change of state that the permission meant.
    """

    now_ms: int
    refusal: Refusal | None = None
    is_probe: bool = False
    event: BreakerEvent | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """A correction to a quota's window: so many requests and tokens (negative: given back) in a past second."""

    age_s: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """What one worker saw of one deployment since its last report.

    Attributes:
        cooldown_ms: for how much longer it must not be called; 0 for no wish.
        probe: token and verdict of the probe that this worker runs.
        reopen: milliseconds for which its breaker is still open here and the number of its openings, told to a store
            that may have forgotten it.
        charges: corrections to its quota's window.
        draw: random number in [0, 1) for the jitter of an opening.
    """

    deployment_id: str
    tally: Tally = field(default_factory=Tally)
    cooldown_ms: int = 0
    probe: tuple[str, ProbeVerdict] | None = None
    reopen: tuple[int, int] | None = None
    charges: tuple[Charge, ...] = ()
    draw: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """All that one worker tells the store at once.

    Attributes:
        epoch: the store's memory as this worker knows it; the store's own answer differs after it lost its memory.
        since: the last version that this worker has.
        in_flight: its attempts under way, by deployment; those that are missing have none.
        leaves: whether this is its last word.
    """

    worker_id: str
    epoch: str
    since: int
    in_flight: Mapping[str, int]
    reports: Sequence[DeploymentReport]
    rules: HealthRules
    leaves: bool = False
