"""`HealthStore` in memory: what workers of one process, or of one test, share. Its contract is Redis's."""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime

from shared.domain.breaker import Breaker, SharedHealth, Transition
from shared.domain.errors import DependencyUnavailable
from shared.domain.health import (
    QUOTA_WINDOW_S,
    Admission,
    AdmissionRequest,
    BreakerEvent,
    BreakerState,
    DeploymentReport,
    HealthRules,
    WorkerReport,
)
from shared.domain.quota_window import QuotaWindow
from shared.ports import Clock

WORKER_LOST_MS = 5_000
"""A worker without a report for this long is gone, and its attempts in flight with it."""


class MemoryHealthStore:
    """The machine of `shared.domain.breaker` for all who hold this object.

    Args:
        clock: the store's own.

    Attributes:
        away: while set, nothing is answered.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.away = False
        self.forget()

    def forget(self) -> None:
        """Lose everything, as Redis may."""
        self._epoch = secrets.token_hex(8)
        self._version = 0
        self._breakers: dict[str, Breaker] = {}
        self._quotas: dict[str, QuotaWindow] = {}
        self._changed: dict[str, int] = {}
        self._loads: dict[str, Mapping[str, int]] = {}
        self._last_seen_ms: dict[str, int] = {}
        self._events: list[BreakerEvent] = []

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Ask for one call.

        Raises:
            DependencyUnavailable: while `away`.
        """
        now_ms = self._answer()
        # A copy: asking alone changes nothing.
        breaker = deepcopy(self._breakers.get(request.deployment_id, Breaker()))
        breaker.tidy(now_ms, request.rules)
        refusal = breaker.refusal(now_ms)
        if refusal is None and request.quota is not None:
            quota = self._quotas.setdefault(request.deployment_id, QuotaWindow())
            refusal = quota.refusal(request.quota, request.tokens, now_ms)
            if refusal is None:
                quota.charge(now_ms // 1000, 1, request.tokens)
        if refusal is not None or breaker.state is BreakerState.CLOSED:
            return Admission(now_ms, refusal)
        self._breakers[request.deployment_id] = breaker
        started = breaker.start_probe(request.token, now_ms)
        self._publish({request.deployment_id})
        return Admission(now_ms, is_probe=True, event=self._noted(request.deployment_id, started, now_ms))

    async def exchange(self, report: WorkerReport) -> SharedHealth:
        """Report and hear.

        Raises:
            DependencyUnavailable: while `away`.
        """
        now_ms = self._answer()
        self._last_seen_ms[report.worker_id] = now_ms
        lost = {w for w, seen in self._last_seen_ms.items() if abs(now_ms - seen) >= WORKER_LOST_MS}
        touched = self._set_loads({worker: {} for worker in lost} | {report.worker_id: report.in_flight})
        for worker in lost | ({report.worker_id} if report.leaves else set()):
            del self._last_seen_ms[worker]
        before = len(self._events)
        # Who knows another memory will tell everything again: what it tells now would count twice.
        reports = report.reports if report.epoch in {"", self._epoch} else ()
        for one in reports:
            self._take(one, now_ms, report.rules)
        self._publish(touched | {one.deployment_id for one in reports})
        since = report.since if report.epoch == self._epoch else 0
        changed = [deployment_id for deployment_id, version in self._changed.items() if version > since]
        in_flight = self._in_flight()
        return SharedHealth(
            now_ms=now_ms,
            epoch=self._epoch,
            version=self._version,
            workers=len(self._last_seen_ms),
            breakers={d: deepcopy(self._breakers[d]) for d in changed if d in self._breakers},
            in_flight={deployment_id: in_flight[deployment_id] for deployment_id in changed},
            events=tuple(self._events[before:]),
        )

    async def recent_events(self, limit: int = 100) -> Sequence[BreakerEvent]:
        """The last changes of state, the newest first.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return tuple(reversed(self._events))[:limit]

    def _take(self, one: DeploymentReport, now_ms: int, rules: HealthRules) -> None:
        breaker = self._breakers.setdefault(one.deployment_id, Breaker())
        breaker.tidy(now_ms, rules)
        if one.cooldown_ms > 0:
            breaker.cool(now_ms + one.cooldown_ms)
        if one.reopen is not None:
            self._noted(one.deployment_id, breaker.reopen(*one.reopen, now_ms, rules), now_ms)
        if one.probe is not None:
            self._noted(one.deployment_id, breaker.end_probe(*one.probe, now_ms, rules, one.draw), now_ms)
        self._noted(one.deployment_id, breaker.record(one.tally, now_ms, rules, one.draw), now_ms)
        for charge in one.charges:
            if charge.age_s <= QUOTA_WINDOW_S:
                quota = self._quotas.setdefault(one.deployment_id, QuotaWindow())
                quota.charge(now_ms // 1000 - charge.age_s, charge.requests, charge.tokens)

    def _set_loads(self, loads: Mapping[str, Mapping[str, int]]) -> set[str]:
        before = self._in_flight()
        self._loads |= loads
        after = self._in_flight()
        return {deployment_id for deployment_id in before | after if before[deployment_id] != after[deployment_id]}

    def _in_flight(self) -> Counter[str]:
        whole: Counter[str] = Counter()
        for loads in self._loads.values():
            whole.update(loads)
        return whole

    def _publish(self, touched: set[str]) -> None:
        if touched:
            self._version += 1
            self._changed |= dict.fromkeys(touched, self._version)

    def _noted(self, deployment_id: str, change: Transition | None, now_ms: int) -> BreakerEvent | None:
        if change is None:
            return None
        at, window = datetime.fromtimestamp(now_ms / 1000, UTC), change.window
        event = BreakerEvent(
            at,
            deployment_id,
            change.state,
            change.reason,
            window.calls,
            window.failures,
            window.slow,
            change.lasts_ms,
        )
        self._events.append(event)
        return event

    def _answer(self) -> int:
        if self.away:
            raise DependencyUnavailable("switched away")
        return round(self._clock.now().timestamp() * 1000)
