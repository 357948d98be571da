"""One worker process of `test_health_processes`: obeys commands on stdin, one JSON line each, and answers so on stdout."""

import asyncio
import json
import random
import sys
from typing import Any

from shared.domain.errors import ProviderUnavailable
from shared.domain.health import CallOutcome, HealthRules
from shared.services.deployment_health import DeploymentHealth
from shared.stores.redis import connect_redis
from shared.stores.redis_health import RedisHealthStore
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry
from tests.unit.routing_builders import deployment

RULES = HealthRules(minimum_calls=20, open_s=1, max_open_s=30)


class Worker:
    def __init__(self, health: DeploymentHealth) -> None:
        self.health = health

    async def ask(self, deployment_id: str, times: int, tokens: int = 0, **quota: int) -> list[str]:
        """Asks many times at once; "" is a yes."""
        where = deployment("x", id=deployment_id, **quota)
        answers = await asyncio.gather(*(self.health.admit(where, tokens=tokens) for _ in range(times)))
        return ["" if answer is None else answer.reason.value for answer in answers]

    async def fail(self, deployment_id: str, times: int) -> None:
        for _ in range(times):
            self.health.started(deployment_id)
            self.health.ended(
                deployment_id,
                CallOutcome(succeeded=False, duration_ms=1, ttft_ms=None, error=ProviderUnavailable("down")),
            )

    async def start(self, deployment_id: str) -> None:
        self.health.started(deployment_id)

    async def succeed(self, deployment_id: str) -> None:
        self.health.ended(deployment_id, CallOutcome(succeeded=True, duration_ms=0, ttft_ms=None))

    async def look(self, deployment_id: str) -> dict[str, Any]:
        signals = self.health.read().get(deployment_id)
        cooling = signals is not None and signals.cooling_down
        return {
            "cooling": cooling,
            "in_flight": 0 if signals is None else signals.in_flight,
            "degraded": self.health.is_degraded,
        }


async def main() -> None:
    name, url = sys.argv[1:]
    async with connect_redis(url, timeout_s=10) as redis:
        store = RedisHealthStore(redis, admit_timeout_s=10, timeout_s=10)
        telemetry = RecordingTelemetry()
        health = DeploymentHealth(store, RULES, SystemClock(), telemetry, random.Random(name), worker_id=name)
        health.start()
        worker = Worker(health)
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, arguments = json.loads(line)
            print(json.dumps(await getattr(worker, command)(**arguments)), flush=True)  # noqa: T201 - the answer
        await health.aclose()


if __name__ == "__main__":
    asyncio.run(main())
