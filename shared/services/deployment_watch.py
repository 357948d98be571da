"""One deployment as one worker sees it: what all workers are known to have seen, and its own calls on top of that."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.domain.breaker import Breaker, Transition
from shared.domain.health import (
    PROBE_LEASE_MS,
    BreakerState,
    CallOutcome,
    Charge,
    DeploymentReport,
    HealthRules,
    ProbeVerdict,
    Quota,
    Refusal,
    RefusalReason,
    Tally,
)
from shared.domain.quota_window import QuotaWindow
from shared.scoring.snapshot import Signals

_DOUBT_CALLS = 10
"""A deployment's success rate starts as that of so many successes, so that one failure is not everything."""
_RECENT_CALLS = 128
_FEWEST_FOR_TAIL = 20
_TAIL = 0.95
_ADMISSION_LAG_MS = 2_000
"""What is given back is dated this much before the call began, so that it never outlives its reservation."""
_LONGEST_PROBE_MS = 300_000
"""No request lasts longer; a probe that does was lost, and its lease is renewed no more."""
_ROUNDING_MS = 1.0
_MS_PER_S = 1000


class Moment(NamedTuple):
    """The present on two scales.

    Attributes:
        ms: the health store's clock, as near as this worker knows it; it may jump.
        local_ms: this worker's own, for the durations of its calls; it never goes back.
    """

    ms: int
    local_ms: float


@dataclass(slots=True)
class _Probe:
    token: str
    granted_at: "Moment"
    has_started: bool = False


@dataclass(slots=True)
class DeploymentWatch:
    """Instants are milliseconds of the health store's clock where they are no `Moment`.

    Attributes:
        breaker: the shared one as last heard of, with this worker's calls since then counted in.
        in_flight: this worker's attempts under way.
        pending: its calls that the store has not heard of.
        quota: what this worker was admitted to, also while the store is there: so that it can be told again.
    """

    deployment_id: str
    breaker: Breaker = field(default_factory=Breaker)
    in_flight: int = 0
    pending: Tally = field(default_factory=Tally)
    quota: QuotaWindow = field(default_factory=QuotaWindow)
    _reported_in_flight: int = 0
    _shared_in_flight: int = 0
    _probe: _Probe | None = None
    _verdict: tuple[str, ProbeVerdict] | None = None
    _charges: QuotaWindow = field(default_factory=QuotaWindow)
    _has_news_of_cooldown: bool = False
    _requests_refused_until_ms: int = 0
    _recent_ttft_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_CALLS))
    _recent_duration_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_CALLS))

    # --- what the request path asks

    def refusal(self, now_ms: int) -> Refusal | None:
        """Why no call may go through, as far as is known here."""
        known = self.breaker.refusal(now_ms)
        wait_ms = self._requests_refused_until_ms - now_ms
        if known is None and wait_ms > 0:
            return Refusal(RefusalReason.REQUESTS_QUOTA, wait_ms / _MS_PER_S)
        return known

    def signals(self, now_ms: int) -> Signals:
        """What scoring reads; rounded, because receipts keep it."""
        window, refusal = self.breaker.window(), self.breaker.refusal(now_ms)
        successes = window.calls - window.failures
        return Signals(
            success_rate=round((successes + _DOUBT_CALLS) / (window.calls + _DOUBT_CALLS), 3),
            in_flight=self.in_flight + max(0, self._shared_in_flight - self._reported_in_flight),
            ttft_ms=float(round(window.ttft_sum_ms / window.first_contents)) if window.first_contents else None,
            cooling_down=refusal is not None,
            returns_in_s=0.0 if refusal is None else round(refusal.retry_after_s, 1),
        )

    def tail_ms(self, *, to_first_content: bool) -> float | None:
        """95th percentile of this worker's recent successes, None before there are enough of them."""
        recent = self._recent_ttft_ms if to_first_content else self._recent_duration_ms
        return sorted(recent)[int(_TAIL * len(recent))] if len(recent) >= _FEWEST_FOR_TAIL else None

    # --- admission

    def refused(self, refusal: Refusal, now_ms: int) -> None:
        """Believe the store, so that the next request need not ask it."""
        until_ms = now_ms + round(_MS_PER_S * refusal.retry_after_s)
        match refusal.reason:
            case RefusalReason.COOLDOWN:
                self.breaker.cool(until_ms)
            case RefusalReason.BREAKER_OPEN:
                self.breaker.state, self.breaker.until_ms = BreakerState.OPEN, until_ms
            case RefusalReason.HALF_OPEN_BUSY:
                self.breaker.state, self.breaker.probe = BreakerState.HALF_OPEN, ""
                self.breaker.probe_until_ms = until_ms
            case RefusalReason.REQUESTS_QUOTA:
                # Requests are never given back; tokens are, and another request may ask for fewer.
                self._requests_refused_until_ms = until_ms
            case RefusalReason.TOKENS_QUOTA:
                pass

    def admitted(self, token: str, now: Moment, *, is_probe: bool, tokens: int | None) -> Transition | None:
        """Note a permission; `tokens` None where there is no quota."""
        if tokens is not None:
            self.quota.tidy(now.ms)
            self.quota.charge(now.ms // _MS_PER_S, 1, tokens)
        if not is_probe:
            return None
        self._probe = _Probe(token, now)
        return self.breaker.start_probe(token, now.ms)

    def admit_alone(self, token: str, quota: Quota | None, tokens: int, now: Moment) -> Refusal | Transition | None:
        """Decide without the store: a refusal, a change of state, or simply yes."""
        refusal = None if quota is None else self.quota.refusal(quota, tokens, now.ms)
        if refusal is not None:
            return refusal
        if quota is not None:
            self._charges.charge(now.ms // _MS_PER_S, 1, tokens)
        is_probe = self.breaker.state is not BreakerState.CLOSED
        return self.admitted(token, now, is_probe=is_probe, tokens=None if quota is None else tokens)

    # --- calls

    def started(self) -> None:
        """A call begins."""
        self.in_flight += 1
        if self._probe is not None:
            self._probe.has_started = True

    def ended(self, outcome: CallOutcome, now: Moment, rules: HealthRules, draw: float) -> Transition | None:
        """A call ended; returns the change of state that it means for this worker alone."""
        self.in_flight = max(0, self.in_flight - 1)
        self._settle(outcome, now.ms)
        blamed, slow = outcome.blames_deployment(rules), outcome.is_slow(rules)
        counts = blamed or outcome.succeeded is True
        if outcome.succeeded is True:
            self._recent_duration_ms.append(outcome.duration_ms)
            if outcome.ttft_ms is not None:
                self._recent_ttft_ms.append(outcome.ttft_ms)
        error = outcome.error
        if blamed and error is not None and error.retry_after_s is not None and error.retry_after_s > 0:
            wait_s = min(error.retry_after_s, rules.max_cooldown_s)
            self.breaker.cool(now.ms + round(_MS_PER_S * wait_s))
            self._has_news_of_cooldown = True
        probe = self._probe
        # While a breaker is half-open nothing but the probe may begin: what began before it is not the probe.
        if probe is not None and now.local_ms - outcome.duration_ms >= probe.granted_at.local_ms - _ROUNDING_MS:
            return self._end_probe(probe, now.ms, rules, draw, failed=counts and (blamed or slow), counts=counts)
        if not counts:
            return None
        tally = Tally(1, int(blamed), int(slow))
        if outcome.ttft_ms is not None:
            tally.first_contents, tally.ttft_sum_ms = 1, round(outcome.ttft_ms)
        self.pending.add(tally)
        return self.breaker.record(tally, now.ms, rules, draw)

    def _end_probe(
        self, probe: _Probe, now_ms: int, rules: HealthRules, draw: float, *, failed: bool, counts: bool
    ) -> Transition | None:
        verdict = ProbeVerdict.UNDECIDED
        if counts:
            verdict = ProbeVerdict.FAILED if failed else ProbeVerdict.SUCCEEDED
        self._probe, self._verdict = None, (probe.token, verdict)
        return self.breaker.end_probe(probe.token, verdict, now_ms, rules, draw)

    def _settle(self, outcome: CallOutcome, now_ms: int) -> None:
        difference = outcome.tokens - outcome.reserved_tokens
        if outcome.reserved_tokens <= 0 or difference == 0 or not self.quota.seconds:
            return
        dated_ms = now_ms if difference > 0 else now_ms - round(outcome.duration_ms) - _ADMISSION_LAG_MS
        for window in (self.quota, self._charges):
            window.tidy(now_ms)
            window.charge(dated_ms // _MS_PER_S, 0, difference)

    # --- reports

    @property
    def is_urgent(self) -> bool:
        """Whether the others should hear at once."""
        return self._has_news_of_cooldown or self._verdict is not None

    def take_report(self, now: Moment, draw: float, *, was_apart: bool, is_forgotten: bool) -> DeploymentReport | None:
        """What the store has not heard; None when there is nothing.

        Args:
            now: the present.
            draw: for the jitter of an opening.
            was_apart: whether the store was away: it is told what was learnt without it.
            is_forgotten: whether the store lost its memory: it is told all that is known here.
        """
        self._reported_in_flight = self.in_flight
        breaker, reopen = self.breaker, None
        source = self.quota if is_forgotten else self._charges
        source.tidy(now.ms)
        now_s = now.ms // _MS_PER_S
        charges = tuple(Charge(max(0, now_s - second), *used) for second, used in source.seconds.items())
        reminds = was_apart or is_forgotten
        if reminds and breaker.state is BreakerState.OPEN and breaker.until_ms > now.ms:
            reopen = (breaker.until_ms - now.ms, breaker.openings)
        cooldown_ms = max(0, breaker.cooldown_ms - now.ms) if reminds or self._has_news_of_cooldown else 0
        probe = self._verdict or self._sign_of_life(now)
        told = DeploymentReport(
            self.deployment_id, self.pending, cooldown_ms, probe, reopen, charges, draw=round(draw, 6)
        )
        self.pending, self._charges = Tally(), QuotaWindow()
        self._verdict, self._has_news_of_cooldown = None, False
        return told if told.tally.calls or cooldown_ms or probe or reopen or charges else None

    def untold(self, report: DeploymentReport, now_ms: int, *, is_certain: bool) -> None:
        """A report was not taken, or (when that is not certain) may not have been.

        What may be told twice is told again: cooldowns, and admissions, where twice is the safe side. Calls, verdicts
        and tokens given back only when it is certain that they were not taken.
        """
        self._has_news_of_cooldown |= report.cooldown_ms > 0
        for charge in report.charges:
            if is_certain or charge.tokens >= 0:
                self._charges.charge(now_ms // _MS_PER_S - charge.age_s, charge.requests, charge.tokens)
        if is_certain:
            self.pending.add(report.tally)
            if report.probe is not None and report.probe[1] is not ProbeVerdict.ALIVE:
                self._verdict = report.probe

    def hear(self, shared: Breaker, now_ms: int, rules: HealthRules, draw: float) -> None:
        """Take over the shared state; calls that it does not hold yet are counted on top."""
        shared.cool(self.breaker.cooldown_ms)
        self.breaker = shared
        if self._verdict is not None:
            shared.end_probe(*self._verdict, now_ms, rules, draw)
        shared.record(self.pending, now_ms, rules, draw)

    def hear_in_flight(self, everywhere: int) -> None:
        """Attempts under way of all workers, this one's last report counted in."""
        self._shared_in_flight = everywhere

    def _sign_of_life(self, now: Moment) -> tuple[str, ProbeVerdict] | None:
        probe = self._probe
        if probe is None:
            return None
        limit_ms = _LONGEST_PROBE_MS if probe.has_started else PROBE_LEASE_MS
        if now.local_ms - probe.granted_at.local_ms >= limit_ms:
            self._probe = None
            return None
        return (probe.token, ProbeVerdict.ALIVE) if probe.has_started else None
