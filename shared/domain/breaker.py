"""A circuit breaker with its window and its cooldown: the machine that every worker and the health store run alike.

Pure: time and the random draw are given. `shared/stores/redis_health.lua` is the same machine in Redis; a test holds
the two against each other step by step. All figures are integers, so that both come to the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.domain.health import (
    CLOCK_SLACK_MS,
    PROBE_LEASE_MS,
    BreakerEvent,
    BreakerState,
    HealthRules,
    ProbeVerdict,
    Refusal,
    RefusalReason,
    Tally,
)

WINDOW_BUCKETS = 10
"""The window slides by a tenth of its length."""
_JITTER = 0.2
"""An opening is shortened by up to this share, so that deployments that failed together do not return together."""
_MOST_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, and the window that led to it."""

    state: BreakerState
    reason: str
    window: Tally
    lasts_ms: int = 0


@dataclass(slots=True)
class Breaker:
    """State of one deployment.

    Attributes:
        until_ms: end of OPEN.
        openings: how often it opened in a row.
        closed_at_ms: when it last closed after having been open.
        probe: token of the probe under way, while HALF_OPEN.
        probe_until_ms: end of the probe's lease.
        cooldown_ms: instant until which the vendor asked to be left alone; independent of the state.
        buckets: calls by the begin of their piece of the window.
    """

    state: BreakerState = BreakerState.CLOSED
    until_ms: int = 0
    openings: int = 0
    closed_at_ms: int = 0
    probe: str = ""
    probe_until_ms: int = 0
    cooldown_ms: int = 0
    buckets: dict[int, Tally] = field(default_factory=dict)

    def refusal(self, now_ms: int) -> Refusal | None:
        """Why a call must not go through; None for a closed breaker and for one that waits for its probe."""
        for reason, until_ms in self._ends():
            if until_ms > now_ms:
                return Refusal(reason, (until_ms - now_ms) / 1000)
        return None

    def _ends(self) -> Iterable[tuple[RefusalReason, int]]:
        yield RefusalReason.COOLDOWN, self.cooldown_ms
        if self.state is BreakerState.OPEN:
            yield RefusalReason.BREAKER_OPEN, self.until_ms
        elif self.state is BreakerState.HALF_OPEN:
            yield RefusalReason.HALF_OPEN_BUSY, self.probe_until_ms

    def tidy(self, now_ms: int, rules: HealthRules) -> bool:
        """Forget what left the window, and dates that lie further ahead than any rule sets them.

        Returns whether calls left the window.

        Such dates come from a clock that stepped back (a failover of the store); believed, they would shut a deployment
        for as long as the step.
        """
        oldest_ms = now_ms - 1000 * rules.window_s
        before = len(self.buckets)
        self.buckets = {
            start: tally for start, tally in self.buckets.items() if oldest_ms < start <= now_ms + CLOCK_SLACK_MS
        }
        if self.until_ms - now_ms > 1000 * rules.max_open_s:
            self.until_ms = now_ms
        if self.probe_until_ms - now_ms > PROBE_LEASE_MS:
            self.probe_until_ms = now_ms
        if self.cooldown_ms - now_ms > 1000 * rules.max_cooldown_s:
            self.cooldown_ms = now_ms
        return len(self.buckets) != before

    def window(self) -> Tally:
        """All calls of the window as it was last tidied."""
        whole = Tally()
        for tally in self.buckets.values():
            whole.add(tally)
        return whole

    def cool(self, until_ms: int) -> None:
        """Leave the deployment alone until then, or for longer where that is known already."""
        self.cooldown_ms = max(self.cooldown_ms, until_ms)

    def start_probe(self, token: str, now_ms: int) -> Transition | None:
        """Let one call through a breaker that is not closed and refuses nothing."""
        was = self.state
        self.state, self.probe, self.probe_until_ms = BreakerState.HALF_OPEN, token, now_ms + PROBE_LEASE_MS
        return None if was is BreakerState.HALF_OPEN else Transition(self.state, "probe_started", self.window())

    def end_probe(
        self, token: str, verdict: ProbeVerdict, now_ms: int, rules: HealthRules, draw: float
    ) -> Transition | None:
        """Hear of a probe; one whose lease another took over is not listened to."""
        if self.state is not BreakerState.HALF_OPEN or self.probe != token:
            return None
        match verdict:
            case ProbeVerdict.ALIVE:
                self.probe_until_ms = now_ms + PROBE_LEASE_MS
                return None
            case ProbeVerdict.SUCCEEDED:
                self.state, self.until_ms, self.closed_at_ms = BreakerState.CLOSED, 0, now_ms
                self.probe, self.probe_until_ms, self.buckets = "", 0, {}
                return Transition(self.state, "probe_succeeded", Tally())
            case ProbeVerdict.FAILED:
                return self._open("probe_failed", now_ms, rules, draw)
            case ProbeVerdict.UNDECIDED:
                self.state, self.until_ms, self.probe, self.probe_until_ms = BreakerState.OPEN, now_ms, "", 0
                return Transition(self.state, "probe_undecided", self.window())

    def record(self, tally: Tally, now_ms: int, rules: HealthRules, draw: float) -> Transition | None:
        """Count calls; a closed breaker opens when the window says so.

        While it is not closed, calls that began earlier are not counted: they would only repeat what opened it.
        """
        self.tidy(now_ms, rules)
        if self.state is not BreakerState.CLOSED or tally.calls == 0:
            return None
        length_ms = 1000 * rules.window_s // WINDOW_BUCKETS
        self.buckets.setdefault(now_ms - now_ms % length_ms, Tally()).add(tally)
        window = self.window()
        if window.calls < rules.minimum_calls:
            return None
        if window.failures / window.calls >= rules.failure_rate:
            return self._open("failure_rate", now_ms, rules, draw)
        if window.slow / window.calls >= rules.slow_rate:
            return self._open("slow_rate", now_ms, rules, draw)
        return None

    def reopen(self, lasts_ms: int, openings: int, now_ms: int, rules: HealthRules) -> Transition | None:
        """Take over an opening that a worker remembers and this machine does not."""
        if self.state is not BreakerState.CLOSED:
            return None
        lasts_ms = min(lasts_ms, 1000 * rules.max_open_s)
        self.state, self.until_ms, self.openings = BreakerState.OPEN, now_ms + lasts_ms, openings
        return Transition(self.state, "restored", self.window(), lasts_ms)

    def _open(self, reason: str, now_ms: int, rules: HealthRules, draw: float) -> Transition:
        if self.closed_at_ms > 0 and now_ms - self.closed_at_ms > 1000 * rules.max_open_s:
            self.openings = 0
        self.openings = min(self.openings + 1, _MOST_DOUBLINGS)
        grown_ms = min(1000 * rules.open_s * 2 ** (self.openings - 1), 1000 * rules.max_open_s)
        lasts_ms = int(grown_ms * (1 - _JITTER * draw))
        self.state, self.until_ms = BreakerState.OPEN, now_ms + lasts_ms
        self.probe, self.probe_until_ms = "", 0
        return Transition(self.state, reason, self.window(), lasts_ms)


@dataclass(frozen=True, slots=True)
class SharedHealth:
    """What the health store answers a worker's report.

    Attributes:
        now_ms: the store's clock.
        epoch: names the store's memory; a new one means that it was lost.
        version: to be named as `since` in the next report.
        workers: how many workers reported lately.
        breakers: those that changed since then, the worker's own report counted in. The caller's to change.
        in_flight: attempts under way of all workers, of deployments that changed.
        events: changes of state that this report led to.
    """

    now_ms: int
    epoch: str
    version: int
    workers: int
    breakers: Mapping[str, Breaker]
    in_flight: Mapping[str, int]
    events: Sequence[BreakerEvent] = ()
