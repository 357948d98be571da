"""The breaker and the quota's minute, as pure machines: what may never happen, whatever comes in whatever order."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.domain.breaker import WINDOW_BUCKETS, Breaker, Transition
from shared.domain.errors import (
    ContextWindowExceeded,
    ProviderAuthError,
    ProviderNotFound,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RetryScope,
)
from shared.domain.health import (
    PROBE_LEASE_MS,
    BreakerState,
    CallOutcome,
    HealthRules,
    ProbeVerdict,
    Quota,
    RefusalReason,
    Tally,
)
from shared.domain.quota_window import QuotaWindow

RULES = HealthRules(window_s=10, minimum_calls=5, failure_rate=0.5, slow_rate=0.8, open_s=4, max_open_s=30)
NEXT = {
    BreakerState.CLOSED: {BreakerState.OPEN},
    BreakerState.OPEN: {BreakerState.HALF_OPEN},
    BreakerState.HALF_OPEN: {BreakerState.CLOSED, BreakerState.OPEN},
}


class BreakerLife(RuleBasedStateMachine):
    """Any calls, probes and pauses; a plain list of what was counted is the model."""

    @initialize()
    def begin(self) -> None:
        self.breaker, self.now_ms = Breaker(), 1_000_000
        self.counted: deque[tuple[int, bool]] = deque()
        self.probes = 0
        self.granted_ms = 0

    @rule(wait_ms=st.sampled_from([1, 250, 1_000, 4_000, 5_000, 31_000]))
    def wait(self, wait_ms: int) -> None:
        self.now_ms += wait_ms

    @rule(calls=st.integers(1, 6), failing=st.integers(0, 6), draw=st.floats(0, 0.999))
    def report(self, calls: int, failing: int, draw: float) -> None:
        was, failures = self.breaker.state, min(calls, failing)
        change = self.breaker.record(Tally(calls, failures), self.now_ms, RULES, draw)
        if was is BreakerState.CLOSED:
            self.counted += [(self.now_ms, number < failures) for number in range(calls)]
        else:
            assert change is None
        self._follow(was, change)
        if change is not None:
            recent = [failed for at, failed in self.counted if at > self.now_ms - 1000 * RULES.window_s]
            assert len(recent) >= RULES.minimum_calls
            assert sum(recent) >= 2, "a single failure never opens it"

    @precondition(lambda self: self.breaker.state is not BreakerState.CLOSED)
    @rule()
    def ask(self) -> None:
        was, refusal = self.breaker.state, self.breaker.refusal(self.now_ms)
        if refusal is not None:
            assert refusal.retry_after_s > 0
            return
        if was is BreakerState.HALF_OPEN:
            assert self.now_ms - self.granted_ms >= PROBE_LEASE_MS, "one probe at a time"
        self.probes += 1
        self.granted_ms = self.now_ms
        self._follow(was, self.breaker.start_probe(f"p{self.probes}", self.now_ms))
        assert self.breaker.refusal(self.now_ms) is not None

    @rule(age=st.integers(0, 2), verdict=st.sampled_from(ProbeVerdict), draw=st.floats(0, 0.999))
    def conclude(self, age: int, verdict: ProbeVerdict, draw: float) -> None:
        was, is_mine = self.breaker.state, age == 0
        change = self.breaker.end_probe(f"p{self.probes - age}", verdict, self.now_ms, RULES, draw)
        if was is not BreakerState.HALF_OPEN or not is_mine:
            assert change is None
            assert self.breaker.state is was
        elif verdict is ProbeVerdict.ALIVE:
            self.granted_ms = self.now_ms
        self._follow(was, change)
        if change is not None and change.state is BreakerState.CLOSED:
            self.counted.clear()

    def _follow(self, was: BreakerState, change: Transition | None) -> None:
        assert self.breaker.state is was or self.breaker.state in NEXT[was]
        assert (change is not None) == (self.breaker.state is not was)
        if change is not None:
            assert change.state is self.breaker.state
            assert 0 <= change.lasts_ms <= 1000 * RULES.max_open_s

    @invariant()
    def opens_again_in_bounded_time(self) -> None:
        refusal = self.breaker.refusal(self.now_ms)
        assert refusal is None or refusal.retry_after_s <= RULES.max_open_s
        assert len(self.breaker.buckets) <= WINDOW_BUCKETS + 1


TestBreakerLife = BreakerLife.TestCase
TestBreakerLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_window_below_both_rates_stays_closed_for_ever() -> None:
    breaker = Breaker()
    for second in range(1000):
        assert breaker.record(Tally(10, 4, 7), 1000 * second, RULES, 0.0) is None
    assert breaker.refusal(1_000_000) is None


@pytest.mark.parametrize("state", [BreakerState.OPEN, BreakerState.HALF_OPEN])
def test_an_opening_is_taken_over_only_by_who_knows_of_none(state: BreakerState) -> None:
    breaker = Breaker(state=state, until_ms=5)
    assert breaker.reopen(1000, 2, 0, RULES) is None
    assert breaker.until_ms == 5
    fresh = Breaker()
    assert fresh.reopen(10**9, 2, 0, RULES) == Transition(
        BreakerState.OPEN, "restored", Tally(), 1000 * RULES.max_open_s
    )


# --- whose fault -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "duration_ms", "blamed"),
    [
        (ProviderUnavailable("x"), 10.0, True),
        (ProviderAuthError("x"), 10.0, True),
        (ProviderNotFound("x"), 10.0, True),
        (ProviderRateLimited("x"), 10.0, True),
        (None, 10.0, True),
        (ProviderRejected("x"), 10.0, False),
        (ContextWindowExceeded("x"), 10.0, False),
        (ProviderUnavailable("blocked by a content policy", scope=RetryScope.OTHER_MODEL), 10.0, False),
        (ProviderUnavailable("x", scope=RetryScope.NEVER), 10.0, False),
        (ProviderTimeout("x"), 2_999.0, False),
        (ProviderTimeout("x"), 3_000.0, True),
    ],
)
def test_only_the_deployments_own_failures_are_its_fault(error, duration_ms, blamed) -> None:
    assert CallOutcome(succeeded=False, duration_ms=duration_ms, ttft_ms=None, error=error).blames_deployment(
        HealthRules()
    ) is (blamed)


@pytest.mark.parametrize("succeeded", [True, None])
def test_what_did_not_fail_is_nobodys_fault(succeeded) -> None:
    outcome = CallOutcome(succeeded=succeeded, duration_ms=1, ttft_ms=None, error=ProviderUnavailable("x"))
    assert not outcome.blames_deployment(HealthRules())


@pytest.mark.parametrize(
    ("duration_ms", "ttft_ms", "slow"),
    [(90_000, 500.0, False), (21_000, 20_000.0, True), (119_999, None, False), (120_000, None, True)],
)
def test_a_stream_is_slow_by_its_first_content_and_a_plain_call_by_its_end(duration_ms, ttft_ms, slow) -> None:
    assert CallOutcome(succeeded=True, duration_ms=duration_ms, ttft_ms=ttft_ms).is_slow(HealthRules()) is slow


# --- quotas ----------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    requests=st.none() | st.integers(1, 8),
    tokens=st.none() | st.integers(1, 100),
    asked=st.lists(st.tuples(st.sampled_from([0, 1, 300, 999, 1_000, 7_000, 30_000]), st.integers(0, 60)), max_size=60),
)
def test_no_sixty_seconds_hold_more_than_the_limit_and_the_wait_suffices(requests, tokens, asked) -> None:
    window, quota, now_ms = QuotaWindow(), Quota(requests, tokens), 5_000_123
    admitted: list[tuple[int, int]] = []
    for wait_ms, wanted in asked:
        now_ms += wait_ms
        refusal = window.refusal(quota, wanted, now_ms)
        if refusal is not None:
            assert 0 < refusal.retry_after_s <= 61
            if refusal.reason is RefusalReason.REQUESTS_QUOTA or wanted <= (tokens or 0):
                later_ms = now_ms + round(1000 * refusal.retry_after_s)
                after = QuotaWindow(dict(window.seconds)).refusal(quota, wanted, later_ms)
                assert after is None or after.reason is not refusal.reason
            continue
        window.charge(now_ms // 1000, 1, wanted)
        admitted.append((now_ms, wanted))
        recent = [used for at, used in admitted if at > now_ms - 60_000]
        assert requests is None or len(recent) <= requests
        assert tokens is None or sum(recent) <= tokens
    assert len(window.seconds) <= 61


def test_a_window_that_is_not_full_refuses_nothing() -> None:
    window = QuotaWindow()
    for _ in range(10):
        assert window.refusal(Quota(10, 100), 10, 0) is None
        window.charge(0, 1, 10)
    assert window.refusal(Quota(10, 100), 0, 0) is not None


@pytest.mark.parametrize(("limit", "workers", "share"), [(100, 4, 25), (3, 4, 1), (100, 0, 100), (7, 2, 3)])
def test_a_share_is_at_least_one(limit, workers, share) -> None:
    assert Quota(limit, limit).share_of(workers) == Quota(share, share)
    assert Quota().share_of(workers) == Quota()
