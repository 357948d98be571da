"""Four processes and one Redis: one breaker, one probe, one quota; and what happens when Redis freezes or forgets."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.local.services import Redis
from shared.domain.errors import ProviderRateLimited, ProviderUnavailable
from shared.domain.health import AdmissionRequest, CallOutcome, HealthRules, WorkerReport
from shared.services.deployment_health import DeploymentHealth
from shared.stores.redis import connect_redis
from shared.stores.redis_health import RedisHealthStore
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry
from tests.unit.routing_builders import deployment

ROOT = Path(__file__).parents[2]
PROCESSES = 4


class Process:
    """A worker process; `tell` asks it and waits for its answer."""

    def __init__(self, name: str, url: str) -> None:
        command = [sys.executable, "-m", "tests.contract.health_worker", name, url]
        self.child = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def tell(self, command: str, **arguments: Any) -> Any:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps([command, arguments]) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()


@pytest.fixture
def processes(redis_url: str) -> Iterator[list[Process]]:
    import redis  # noqa: PLC0415 - the synchronous client, for this alone

    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    started = [Process(f"w{number}", redis_url) for number in range(PROCESSES)]
    yield started
    for process in started:
        process.end()


def all_at_once(processes: list[Process], command: str, **arguments: Any) -> list[Any]:
    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(lambda process: process.tell(command, **arguments), processes))


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("quota", "tokens", "limit"),
    [({"requests_per_minute": 50}, 0, 50), ({"tokens_per_minute": 1000}, 30, 33)],
)
def test_four_processes_are_admitted_exactly_to_the_limit(processes, quota, tokens, limit) -> None:
    answers = all_at_once(processes, "ask", deployment_id="d", times=60, tokens=tokens, **quota)
    admitted = [answer.count("") for answer in answers]
    assert sum(admitted) == limit
    refused = {reason for answer in answers for reason in answer} - {""}
    assert refused == {"tokens_quota" if tokens else "requests_quota"}


async def test_four_processes_share_one_breaker_and_one_probe(processes: list[Process]) -> None:
    # No process alone reaches the minimum volume of twenty.
    await asyncio.to_thread(all_at_once, processes, "fail", deployment_id="d", times=6)
    await until(lambda: all(look["cooling"] for look in all_at_once(processes, "look", deployment_id="d")))
    assert {r for answer in all_at_once(processes, "ask", deployment_id="d", times=5) for r in answer} == {
        "breaker_open"
    }

    await until(lambda: not any(look["cooling"] for look in all_at_once(processes, "look", deployment_id="d")))
    answers = await asyncio.to_thread(all_at_once, processes, "ask", deployment_id="d", times=25)
    assert [answer.count("") for answer in answers].count(1) == 1
    assert sum(answer.count("") for answer in answers) == 1
    assert {reason for answer in answers for reason in answer} == {"", "half_open_busy"}

    prober = next(p for p, answer in zip(processes, answers, strict=True) if "" in answer)
    others = [process for process in processes if process is not prober]
    prober.tell("start", deployment_id="d")
    # Killed in the middle of its probe: another one may try when the lease is over, and not before.
    prober.end()
    successor: list[Process] = []

    def somebody_else_probes() -> bool:
        asked = all_at_once(others, "ask", deployment_id="d", times=1)
        successor.extend(p for p, answer in zip(others, asked, strict=True) if answer == [""])
        return bool(successor)

    await until(somebody_else_probes)
    assert len(successor) == 1
    successor[0].tell("start", deployment_id="d")
    successor[0].tell("succeed", deployment_id="d")
    await until(lambda: {r for a in all_at_once(others, "ask", deployment_id="d", times=5) for r in a} == {""})


async def test_what_a_killed_process_had_under_way_is_not_counted_for_ever(processes: list[Process]) -> None:
    first, second = processes[:2]
    for process in (first, first, second):
        process.tell("start", deployment_id="d")
    await until(lambda: second.tell("look", deployment_id="d")["in_flight"] == 3)
    first.end()
    await until(lambda: second.tell("look", deployment_id="d")["in_flight"] == 1)


# --- Redis frozen, Redis emptied -------------------------------------------------------------------------------------

D = deployment("d")
QUOTED = replace(deployment("q"), requests_per_minute=8)
RULES = HealthRules(minimum_calls=4, open_s=60)


class Counted(RedisHealthStore):
    """Counts what requests ask."""

    asked = 0

    async def admit(self, request: AdmissionRequest) -> Any:
        self.asked += 1
        return await super().admit(request)


@pytest.fixture
async def health(redis_url: str) -> AsyncIterator[tuple[DeploymentHealth, Counted, Any]]:
    async with connect_redis(redis_url) as redis:
        await redis.flushdb()
        store = Counted(redis, timeout_s=1.0)
        one = DeploymentHealth(store, RULES, SystemClock(), RecordingTelemetry(), random.Random(1), worker_id="w1")
        one.start()
        yield one, store, redis
        await one.aclose()


async def test_a_frozen_redis_is_paid_for_once_and_found_again(redis_server: Redis, health) -> None:
    one, store, _ = health
    await until(lambda: one._epoch)
    redis_server.freeze()
    async with asyncio.timeout(20):
        answers = [await one.admit(QUOTED, tokens=0) for _ in range(20)]
    assert one.is_degraded
    assert [answer is None for answer in answers] == [True] * 8 + [False] * 12, "one known worker: the whole quota"
    assert store.asked <= 1
    for _ in range(4):
        one.started(D.id)
        one.ended(D.id, CallOutcome(succeeded=False, duration_ms=1, ttft_ms=None, error=ProviderUnavailable("down")))
    assert one.read()[D.id].cooling_down
    redis_server.thaw()
    await until(lambda: not one.is_degraded)
    shared = await store.exchange(WorkerReport("w2", "", 0, {}, (), RULES))
    assert shared.breakers[D.id].refusal(shared.now_ms) is not None, "what it learnt alone is known to all"


async def test_a_redis_that_forgot_everything_is_told_again(health) -> None:
    one, store, redis = health
    for _ in range(8):
        assert await one.admit(QUOTED, tokens=0) is None
    for _ in range(4):
        one.started(D.id)
        one.ended(D.id, CallOutcome(succeeded=False, duration_ms=1, ttft_ms=None, error=ProviderUnavailable("down")))
    one.started("e")
    one.ended(
        "e",
        CallOutcome(succeeded=False, duration_ms=1, ttft_ms=None, error=ProviderRateLimited("busy", retry_after_s=60)),
    )
    one.started(D.id)
    await until(lambda: len(one._watches) == 3 and one._watches[D.id]._shared_in_flight == 1)
    await redis.flushall()
    await redis.script_flush()

    async def is_restored() -> bool:
        shared = await store.exchange(WorkerReport("w2", "", 0, {}, (), RULES))
        refused = {d for d, breaker in shared.breakers.items() if breaker.refusal(shared.now_ms) is not None}
        return refused == {D.id, "e"} and shared.in_flight[D.id] == 1

    async with asyncio.timeout(60):
        while not await is_restored():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)
    fresh = DeploymentHealth(store, RULES, SystemClock(), RecordingTelemetry(), random.Random(2), worker_id="w3")
    assert await fresh.admit(QUOTED, tokens=0) is not None
