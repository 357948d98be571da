"""`HealthStore` in Redis: one Lua script (`redis_health.lua`) whose keys all lie in one slot."""

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.domain.breaker import Breaker, SharedHealth
from shared.domain.errors import DependencyUnavailable
from shared.domain.health import (
    Admission,
    AdmissionRequest,
    BreakerEvent,
    BreakerState,
    DeploymentReport,
    Refusal,
    RefusalReason,
    Tally,
    WorkerReport,
)

SCRIPT = (Path(__file__).parent / "redis_health.lua").read_text(encoding="utf-8")
_ADMIT_TIMEOUT_S = 0.05
"""A request waits for this answer."""
_TIMEOUT_S = 0.25
"""Nobody waits for the others."""
_PREFIX = "router:{health}:"
"""The braces make it one hash slot: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/."""
_SHARED_KEYS = tuple(
    _PREFIX + name for name in ("meta", "workers", "loads", "in_flight", "changed", "breakers", "events")
)
_EVENTS_KEY = _SHARED_KEYS[-1]


class RedisHealthStore:
    """`HealthStore` for all workers that are given the same Redis.

    Args:
        redis: the client; its own limits may be longer than the deadlines here.
        admit_timeout_s: after which an admission counts as unanswered.
        timeout_s: the same for everything else.
        script: the machine; tests give it another clock.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        admit_timeout_s: float = _ADMIT_TIMEOUT_S,
        timeout_s: float = _TIMEOUT_S,
        script: str = SCRIPT,
    ) -> None:
        self._redis = redis
        self._admit_timeout_s = admit_timeout_s
        self._timeout_s = timeout_s
        self._script = redis.register_script(script)

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Ask for one call.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        quota = request.quota
        question: dict[str, Any] = {
            "deployment": request.deployment_id,
            "token": request.token,
            "tokens": request.tokens,
            "rules": request.rules,
        }
        if quota is not None:
            limits = {"requests": quota.requests_per_minute, "tokens_limit": quota.tokens_per_minute}
            # JSON's null would be a value of its own in Lua.
            question |= {name: limit for name, limit in limits.items() if limit is not None}
        keys = [*_SHARED_KEYS] if quota is None else [*_SHARED_KEYS, _quota_key(request.deployment_id)]
        reason, wait_ms, now_ms, is_probe, *events = await self._run("admit", keys, question, self._admit_timeout_s)
        if reason:
            return Admission(now_ms, Refusal(RefusalReason(reason.decode()), wait_ms / 1000))
        event = next((_event(row) for row in events[0]), None) if events else None
        return Admission(now_ms, is_probe=bool(is_probe), event=event)

    async def exchange(self, report: WorkerReport) -> SharedHealth:
        """Report and hear.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        charged = [one.deployment_id for one in report.reports if one.charges]
        places = {deployment_id: place for place, deployment_id in enumerate(charged, start=1)}
        question = {
            "worker": report.worker_id,
            "epoch": report.epoch,
            "new_epoch": secrets.token_hex(8),
            "since": report.since,
            "loads": report.in_flight,
            "reports": [_report(one, places) for one in report.reports],
            "rules": report.rules,
            "leaves": report.leaves,
        }
        keys = [*_SHARED_KEYS, *(_quota_key(deployment_id) for deployment_id in charged)]
        now_ms, epoch, version, workers, changed, events = await self._run("exchange", keys, question, self._timeout_s)
        return SharedHealth(
            now_ms=now_ms,
            epoch=epoch.decode(),
            version=version,
            workers=workers,
            breakers={deployment_id.decode(): _breaker(record) for deployment_id, record, _ in changed if record},
            in_flight={deployment_id.decode(): in_flight for deployment_id, _, in_flight in changed},
            events=tuple(_event(row) for row in events),
        )

    async def recent_events(self, limit: int = 100) -> Sequence[BreakerEvent]:
        """The last changes of state, the newest first.

        Raises:
            DependencyUnavailable: Redis is away.
        """
        names = (b"at", b"deployment", b"state", b"reason", b"calls", b"failures", b"slow", b"lasts_ms")
        try:
            async with asyncio.timeout(self._timeout_s):
                rows: Any = await self._redis.xrevrange(_EVENTS_KEY, count=limit)
        except (RedisError, OSError, TimeoutError) as error:
            raise _away(error) from None
        return tuple(_event([fields[name] for name in names]) for _, fields in rows)

    async def _run(self, command: str, keys: Sequence[str], question: Mapping[str, Any], timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._script(keys=keys, args=[command, orjson.dumps(question)])
        except (RedisError, OSError, TimeoutError) as error:
            raise _away(error) from None


def _away(error: Exception) -> DependencyUnavailable:
    return DependencyUnavailable(f"the health store does not answer ({type(error).__name__})")


def _quota_key(deployment_id: str) -> str:
    return f"{_PREFIX}quota:{deployment_id}"


def _report(one: DeploymentReport, places: Mapping[str, int]) -> dict[str, Any]:
    tally = one.tally
    values: dict[str, Any] = {
        "d": one.deployment_id,
        "tally": [tally.calls, tally.failures, tally.slow, tally.first_contents, tally.ttft_sum_ms],
        "cool": one.cooldown_ms,
        "draw": one.draw,
    }
    if one.probe is not None:
        values["probe"] = one.probe
    if one.reopen is not None:
        values["reopen"] = one.reopen
    if one.charges:
        values["quota"] = places[one.deployment_id]
        values["charges"] = [(charge.age_s, charge.requests, charge.tokens) for charge in one.charges]
    return values


def _breaker(record: bytes) -> Breaker:
    values = orjson.loads(record)
    # Lua's empty table comes as an object.
    pieces: Iterable[list[int]] = values["w"] or ()
    return Breaker(
        state=BreakerState(values["s"]),
        until_ms=values["u"],
        openings=values["o"],
        closed_at_ms=values["x"],
        probe=values["p"],
        probe_until_ms=values["l"],
        cooldown_ms=values["c"],
        buckets={piece[0]: Tally(*piece[1:]) for piece in pieces},
    )


def _event(row: Sequence[Any]) -> BreakerEvent:
    at_ms, deployment_id, state, reason, *counts = row
    return BreakerEvent(
        datetime.fromtimestamp(int(at_ms) / 1000, UTC),
        deployment_id.decode(),
        BreakerState(state.decode()),
        reason.decode(),
        *(int(count) for count in counts),
    )
