"""Which deployments may be called, agreed on by all workers; asked on every request, so it waits for next to nothing.

The view that `read` hands out is local: this worker's own calls at once, the other workers' within the refresh time. A
background task tells the health store what happened here and hears what happened elsewhere. Only a deployment with a
quota, or one whose breaker waits for its probe, costs a round trip, with a deadline of 50 ms. While the store is away
every worker goes by what it sees itself and by its share of the quotas, and only the background task looks for it.
"""

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from shared.domain.breaker import SharedHealth, Transition
from shared.domain.errors import DependencyUnavailable
from shared.domain.health import (
    AdmissionRequest,
    BreakerEvent,
    BreakerState,
    CallOutcome,
    DeploymentReport,
    HealthRules,
    Quota,
    Refusal,
    RefusalReason,
    WorkerReport,
)
from shared.domain.models import Deployment
from shared.ports import Clock, HealthStore, Telemetry
from shared.scoring.snapshot import Signals
from shared.services.deployment_watch import DeploymentWatch, Moment

__all__ = ["CallOutcome", "DeploymentHealth", "Refusal", "RefusalReason", "soonest_return_s"]

_REFRESH_S = 0.25
_REFRESH_JITTER = 0.2
_LEAST_PAUSE_S = 0.02
"""Between two exchanges, however urgent."""
_FIRST_BACK_OFF_S = 0.25
_LONGEST_BACK_OFF_S = 4.0
_MS_PER_S = 1000


def soonest_return_s(signals: Mapping[str, Signals], among: Iterable[str] | None = None) -> float | None:
    """Seconds until the first suspended deployment may be called again.

    Args:
        signals: as a snapshot holds them.
        among: the deployments that count; all when it is not given.

    Returns:
        None when none of them is suspended.
    """
    counted = signals if among is None else [deployment_id for deployment_id in among if deployment_id in signals]
    waits = [signals[deployment_id].returns_in_s for deployment_id in counted if signals[deployment_id].cooling_down]
    return min(waits, default=None)


class DeploymentHealth:
    """Breakers, cooldowns, quotas and load of every deployment; one per process.

    Args:
        store: what workers share.
        rules: when a deployment is left alone; may be replaced at any time.
        clock: durations.
        telemetry: hears of changes of state and of a store that is away.
        rng: jitter.
        worker_id: unique among all workers.
    """

    def __init__(
        self,
        store: HealthStore,
        rules: HealthRules,
        clock: Clock,
        telemetry: Telemetry,
        rng: random.Random,
        *,
        worker_id: str,
    ) -> None:
        self.rules = rules
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._rng = rng
        self._worker_id = worker_id
        self._tokens = itertools.count(1)
        self._watches: dict[str, DeploymentWatch] = {}
        self._merged: Mapping[str, Signals] = {}
        self._stale: set[str] = set()
        self._next_end_ms: float = float("inf")
        # Until the store is heard of, its clock is taken to be this machine's.
        self._clock_offset_ms = round(_MS_PER_S * (clock.now().timestamp() - clock.monotonic()))
        self._epoch, self._version, self._workers = "", 0, 0
        self._is_forgotten = False
        self._away_since_s: float | None = None
        self._failures = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    # --- the request path

    @property
    def is_degraded(self) -> bool:
        """Whether the store is away, and this worker goes by what it sees itself."""
        return self._away_since_s is not None

    def read(self) -> Mapping[str, Signals]:
        """The signals of every deployment that was called lately or is suspended; never changed afterwards. No I/O."""
        now_ms = self._now().ms
        if now_ms >= self._next_end_ms:
            self._stale.update(d for d, signals in self._merged.items() if signals.cooling_down)
        if self._stale:
            merged = dict(self._merged)
            for deployment_id in self._stale:
                merged[deployment_id] = self._watches[deployment_id].signals(now_ms)
            self._stale.clear()
            self._merged = merged
            ends = (1000.0 * s.returns_in_s for s in merged.values() if s.cooling_down)
            # Ends are rounded to a tenth of a second; looking again a little early costs nothing.
            self._next_end_ms = now_ms + max(1.0, min(ends, default=float("inf")) - 50.0)
        return self._merged

    def breakers(self) -> Mapping[str, BreakerState]:
        """The state of every breaker that is not known to have been closed all the time. No I/O."""
        return {deployment_id: watch.breaker.state for deployment_id, watch in self._watches.items()}

    async def admit(self, deployment: Deployment, *, tokens: int) -> Refusal | None:
        """Whether one attempt may be made now; to be asked right before it, and followed by `started`.

        Args:
            deployment: whom to call.
            tokens: to reserve of its quota: prompt and expected answer.

        Returns:
            None for yes; otherwise why not, and when it is worth asking again.
        """
        watch = self._watch(deployment.id)
        refusal = watch.refusal(self._now().ms)
        if refusal is not None:
            return refusal
        quota = _quota_of(deployment)
        if quota is None and watch.breaker.state is BreakerState.CLOSED:
            return None
        token = f"{self._worker_id}:{next(self._tokens)}"
        if self.is_degraded:
            return self._admit_alone(watch, token, quota, tokens)
        try:
            admission = await self._store.admit(AdmissionRequest(deployment.id, quota, tokens, token, self.rules))
        except DependencyUnavailable:
            self._lost()
            return self._admit_alone(watch, token, quota, tokens)
        now = self._now()
        self._stale.add(deployment.id)
        if admission.refusal is not None:
            watch.refused(admission.refusal, now.ms)
            return admission.refusal
        watch.admitted(token, now, is_probe=admission.is_probe, tokens=None if quota is None else tokens)
        if admission.event is not None:
            self._tell(admission.event)
        return None

    def started(self, deployment_id: str) -> None:
        """An attempt begins."""
        self._watch(deployment_id).started()
        self._stale.add(deployment_id)

    def ended(self, deployment_id: str, outcome: CallOutcome) -> None:
        """An attempt ended. This worker obeys at once, the others hear of it in the background."""
        watch, now = self._watch(deployment_id), self._now()
        self._note(deployment_id, watch.ended(outcome, now, self.rules, self._rng.random()), now.ms)
        self._stale.add(deployment_id)
        if watch.is_urgent:
            self._wake.set()

    def tail_ms(self, deployment_id: str, *, to_first_content: bool) -> float | None:
        """95th percentile of recent successful calls of this worker in ms: to first content, or to the end.

        Returns:
            None before twenty such calls were seen.
        """
        watch = self._watches.get(deployment_id)
        return None if watch is None else watch.tail_ms(to_first_content=to_first_content)

    async def recent_events(self, limit: int = 100) -> Sequence[BreakerEvent]:
        """The last changes of state of all breakers, the newest first.

        Raises:
            DependencyUnavailable: the store is away.
        """
        return await self._store.recent_events(limit)

    # --- the background

    def start(self) -> None:
        """Begin to exchange reports."""
        self._task = asyncio.create_task(self._run(), name="deployment-health")

    async def aclose(self) -> None:
        """Stop, and say good-bye."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if not self.is_degraded:
            with contextlib.suppress(DependencyUnavailable):
                await self._store.exchange(self._report((), leaves=True))

    async def refresh(self) -> bool:
        """Exchange reports once; returns whether the store answered."""
        now, was_apart, is_forgotten = self._now(), self.is_degraded, self._is_forgotten
        reports = []
        for watch in self._watches.values():
            report = watch.take_report(now, self._rng.random(), was_apart=was_apart, is_forgotten=is_forgotten)
            if report is not None:
                reports.append(report)
        try:
            shared = await self._store.exchange(self._report(reports))
        except DependencyUnavailable:
            self._untold(reports, is_certain=False)
            self._lost()
            return False
        self._found()
        self._clock_offset_ms = shared.now_ms - round(_MS_PER_S * self._clock.monotonic())
        self._workers = shared.workers
        self._is_forgotten = self._epoch not in {"", shared.epoch}
        self._epoch, self._version = shared.epoch, 0 if self._is_forgotten else shared.version
        if self._is_forgotten:
            # It is reminded of everything before it is believed.
            self._telemetry.log(logging.WARNING, "health_store_forgot")
            for watch in self._watches.values():
                watch.hear_in_flight(0)
            self._untold(reports, is_certain=True)
            self._wake.set()
        else:
            self._hear(shared)
        return True

    def _untold(self, reports: Sequence[DeploymentReport], *, is_certain: bool) -> None:
        now_ms = self._now().ms
        for report in reports:
            self._watches[report.deployment_id].untold(report, now_ms, is_certain=is_certain)

    def _report(self, reports: Sequence[DeploymentReport], *, leaves: bool = False) -> WorkerReport:
        in_flight = {w.deployment_id: w.in_flight for w in self._watches.values() if w.in_flight}
        return WorkerReport(
            self._worker_id, self._epoch, self._version, {} if leaves else in_flight, reports, self.rules, leaves=leaves
        )

    async def _run(self) -> None:
        # A store's client may swallow the cancellation while it connects: `_is_closing` ends the loop then.
        while not self._is_closing:
            try:
                is_there = await self.refresh()
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever it is
                self._telemetry.log(logging.ERROR, "health_exchange_failed", error=type(error).__name__)
                is_there = False
            if not is_there:
                self._failures += 1
                wait_s = min(_FIRST_BACK_OFF_S * 2 ** min(self._failures - 1, 8), _LONGEST_BACK_OFF_S)
                await asyncio.sleep(self._jittered(wait_s))
                continue
            self._failures = 0
            await asyncio.sleep(_LEAST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._jittered(_REFRESH_S)):
                    await self._wake.wait()
            self._wake.clear()

    def _hear(self, shared: SharedHealth) -> None:
        for event in shared.events:
            self._tell(event)
        for deployment_id, breaker in shared.breakers.items():
            watch = self._watch(deployment_id)
            watch.hear(breaker, shared.now_ms, self.rules, self._rng.random())
        for deployment_id, in_flight in shared.in_flight.items():
            self._watch(deployment_id).hear_in_flight(in_flight)
        aged = (d for d, watch in self._watches.items() if watch.breaker.tidy(shared.now_ms, self.rules))
        self._stale.update(aged, shared.breakers, shared.in_flight)
        self.read()  # so that no request does the work

    def _admit_alone(self, watch: DeploymentWatch, token: str, quota: Quota | None, tokens: int) -> Refusal | None:
        """Without the store: this worker's share of the quota, and a probe of its own."""
        now = self._now()
        share = None if quota is None else quota.share_of(self._workers or self.rules.assumed_workers)
        verdict = watch.refusal(now.ms) or watch.admit_alone(token, share, tokens, now)
        self._stale.add(watch.deployment_id)
        if isinstance(verdict, Refusal):
            return verdict
        self._note(watch.deployment_id, verdict, now.ms)
        return None

    def _lost(self) -> None:
        if self._away_since_s is None:
            self._away_since_s = self._clock.monotonic()
            self._telemetry.count("health_store_away")
            self._telemetry.log(logging.WARNING, "health_store_away")

    def _found(self) -> None:
        if self._away_since_s is not None:
            away_s = self._clock.monotonic() - self._away_since_s
            self._telemetry.log(logging.WARNING, "health_store_back", away_s=round(away_s, 3))
            self._away_since_s = None

    def _note(self, deployment_id: str, change: Transition | None, now_ms: int) -> None:
        """Tell of a change that no store will tell of: with one there, the exchange comes to the same."""
        if change is not None and self.is_degraded:
            at, window = datetime.fromtimestamp(now_ms / _MS_PER_S, UTC), change.window
            counts = (window.calls, window.failures, window.slow, change.lasts_ms)
            self._tell(BreakerEvent(at, deployment_id, change.state, change.reason, *counts))

    def _tell(self, event: BreakerEvent) -> None:
        self._telemetry.count("breaker_changes", deployment=event.deployment_id, state=event.state.value)
        self._telemetry.log(
            logging.WARNING,
            "breaker_changed",
            deployment=event.deployment_id,
            state=event.state.value,
            reason=event.reason,
            calls=event.calls,
            failures=event.failures,
            slow=event.slow,
            lasts_ms=event.lasts_ms,
            degraded=self.is_degraded,
        )

    def _watch(self, deployment_id: str) -> DeploymentWatch:
        watch = self._watches.get(deployment_id)
        if watch is None:
            watch = self._watches[deployment_id] = DeploymentWatch(deployment_id)
        return watch

    def _now(self) -> Moment:
        local_ms = _MS_PER_S * self._clock.monotonic()
        return Moment(round(local_ms) + self._clock_offset_ms, local_ms)

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 + _REFRESH_JITTER * (2 * self._rng.random() - 1))


def _quota_of(deployment: Deployment) -> Quota | None:
    if deployment.requests_per_minute is None and deployment.tokens_per_minute is None:
        return None
    return Quota(deployment.requests_per_minute, deployment.tokens_per_minute)
