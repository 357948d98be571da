"""What the health of 200 deployments costs a request: ``python -m tests.bench.health_cost``."""

import asyncio
import random
import timeit

from shared.domain.health import CallOutcome, HealthRules
from shared.services.deployment_health import DeploymentHealth
from shared.stores.memory import ManualClock
from shared.stores.memory_health import MemoryHealthStore
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry
from tests.unit.routing_builders import deployment

DEPLOYMENTS, ROUNDS, REPEATS = 200, 2000, 7


def print_cost(name: str, work: object) -> None:
    best_s = min(timeit.repeat(work, number=ROUNDS, repeat=REPEATS))
    print(f"{name:52} {1e6 * best_s / ROUNDS:7.2f} us")


async def main() -> None:
    """Print microseconds for each thing that a request does, with all deployments seen."""
    store = MemoryHealthStore(ManualClock())
    rules, telemetry = HealthRules(), RecordingTelemetry()
    health = DeploymentHealth(store, rules, SystemClock(), telemetry, random.Random(1), worker_id="w")
    where = [deployment(f"m{number}") for number in range(DEPLOYMENTS)]
    outcome = CallOutcome(succeeded=True, duration_ms=900.0, ttft_ms=300.0, tokens=500)
    for one in where:
        for _ in range(5):
            health.started(one.id)
            health.ended(one.id, outcome)
    await health.refresh()

    def call() -> None:
        health.started(where[7].id)
        health.ended(where[7].id, outcome)

    def walk() -> None:
        health.read()
        call()

    def ask() -> None:
        try:
            health.admit(where[7], tokens=100).send(None)
        except StopIteration:
            return

    print_cost("read, nothing changed", health.read)
    print_cost("admit, closed breaker, no quota", ask)
    print_cost("started and ended", call)
    print_cost("read after a call, started and ended", walk)
    exchanges = 50
    began_s = timeit.default_timer()
    for _ in range(exchanges):
        for one in where:
            health.ended(one.id, outcome)
        await health.refresh()
    print(
        f"an exchange with news of all {DEPLOYMENTS}, with a twin: {1e3 * (timeit.default_timer() - began_s) / exchanges:.2f} ms"
    )


if __name__ == "__main__":
    asyncio.run(main())
