"""`LimitStore` on the twin and on Redis: the same answers, and exact across processes."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client

from infra.local.services import Redis
from shared.domain.errors import DependencyUnavailable
from shared.domain.limits import Ended, Meter, MeterKind, RateLimit
from shared.ports import LimitStore
from shared.stores.memory import ManualClock
from shared.stores.memory_limits import MemoryLimitStore
from shared.stores.redis import connect_redis
from shared.stores.redis_limits import RedisLimitStore
from shared.stores.system import SystemClock

MINUTE_US = 60_000_000
ROOT = Path(__file__).parents[2]


def meter(key: str, kind: MeterKind, limit: int, capacity: int, amount: int = 1, share: float = 1.0) -> Meter:
    return Meter(RateLimit("rule"), kind, f"rate:{{t}}:{key}", limit, capacity, amount, share)


def requests(key: str, burst: int, limit: int = 60) -> Meter:
    return meter(key, MeterKind.REQUESTS, limit, burst * MINUTE_US // limit)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect_redis(redis_url) as redis:
        await redis.flushdb()
        yield redis


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> LimitStore:
    if request.param == "memory":
        return MemoryLimitStore(ManualClock())
    return RedisLimitStore(request.getfixturevalue("client"), SystemClock(), timeout_s=5)


async def test_a_burst_passes_then_the_rate(store: LimitStore) -> None:
    ask = requests("burst", 3, limit=1)  # one a minute: nothing comes back while this test runs
    left = []
    for _ in range(3):
        verdict = await store.admit([ask], request_id="r", lease_s=1)
        assert verdict.refused is None
        left.append(ask.remaining(verdict.used[0]))
    assert left == [2, 1, 0]
    refusal = await store.admit([ask], request_id="r", lease_s=1)
    assert refusal.refused == 0
    assert 50_000_000 < refusal.retry_after_us <= MINUTE_US
    assert ask.remaining(refusal.used[0]) == 0


async def test_all_must_pass_and_none_is_charged_when_one_refuses(store: LimitStore) -> None:
    wide, narrow = requests("wide", 10, limit=1), meter("slots", MeterKind.CONCURRENT, 1, 1)
    assert (await store.admit([wide, narrow], request_id="1", lease_s=60)).refused is None
    for _ in range(3):
        refusal = await store.admit([wide, narrow], request_id="2", lease_s=60)
        assert (refusal.refused, refusal.retry_after_us) == (1, 1_000_000)
        assert wide.remaining(refusal.used[0]) == 9
    await store.settle([Ended("1", slots=(narrow.key,))])
    assert (await store.admit([wide, narrow], request_id="2", lease_s=60)).refused is None


async def test_the_longest_wait_is_the_one_that_is_named(store: LimitStore) -> None:
    quick, slow = requests("quick", 1, limit=600), requests("slow", 1, limit=1)
    await store.admit([slow], request_id="1", lease_s=1)
    await store.admit([quick], request_id="1", lease_s=1)
    refusal = await store.admit([quick, slow], request_id="2", lease_s=1)
    assert refusal.refused == 1


async def test_looking_charges_nothing(store: LimitStore) -> None:
    meters = [requests("looked", 1, limit=1), meter("looked-slots", MeterKind.CONCURRENT, 1, 1)]
    for _ in range(3):
        verdict = await store.admit(meters, request_id="", lease_s=1, charge=False)
        assert (verdict.refused, verdict.used) == (None, (0, 0))


async def test_tokens_are_corrected_both_ways(store: LimitStore) -> None:
    ask = meter("tokens", MeterKind.TOKENS, 60, 100_000_000, amount=50)
    first = await store.admit([ask], request_id="1", lease_s=1)
    assert 49_000_000 < first.used[0] <= 50_000_000
    await store.settle([Ended("1", corrections=((ask.key, ask.cost_of(10) - ask.cost),))])
    cheaper = await store.admit([ask], request_id="2", lease_s=1, charge=False)
    assert 9_000_000 < cheaper.used[0] <= 10_000_000
    await store.settle([Ended("1", corrections=((ask.key, ask.cost_of(300)),))])
    assert (await store.admit([ask], request_id="2", lease_s=1)).refused == 0
    await store.settle([Ended("1", corrections=((ask.key, -ask.cost_of(10_000)),))])
    assert (await store.admit([ask], request_id="2", lease_s=1, charge=False)).used == (0,)


async def test_a_low_share_is_refused_first(store: LimitStore) -> None:
    normal = meter("share", MeterKind.CONCURRENT, 10, 10)
    low = meter("share", MeterKind.CONCURRENT, 10, 10, share=0.5)
    for number in range(5):
        assert (await store.admit([low], request_id=f"low-{number}", lease_s=60)).refused is None
    assert (await store.admit([low], request_id="low", lease_s=60)).refused == 0
    assert (await store.admit([normal], request_id="normal", lease_s=60)).refused is None


async def test_a_batch_may_hold_several_tenants(store: LimitStore) -> None:
    mine = meter("batch", MeterKind.CONCURRENT, 1, 1)
    other = Meter(mine.rule, mine.kind, "rate:{u}:batch", 1, 1, 1)
    await store.admit([mine], request_id="1", lease_s=60)
    await store.admit([other], request_id="2", lease_s=60)
    await store.settle([Ended("1", slots=(mine.key,)), Ended("2", slots=(other.key,))])
    assert (await store.admit([mine], request_id="3", lease_s=60)).refused is None
    assert (await store.admit([other], request_id="3", lease_s=60)).refused is None


async def test_a_dead_workers_slot_is_free_when_its_lease_is_over(client: Client) -> None:
    store, slot = RedisLimitStore(client, SystemClock(), timeout_s=5), meter("lease", MeterKind.CONCURRENT, 1, 1)
    assert (await store.admit([slot], request_id="dead", lease_s=0.05)).refused is None
    async with asyncio.timeout(10):
        while (await store.admit([slot], request_id="next", lease_s=60)).refused is not None:  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.01)
    assert (await store.admit([slot], request_id="third", lease_s=60)).refused == 0


async def test_nothing_stays_in_redis_for_ever(client: Client) -> None:
    store = RedisLimitStore(client, SystemClock(), timeout_s=5)
    await store.admit([requests("ttl", 2), meter("ttl-c", MeterKind.CONCURRENT, 2, 2)], request_id="1", lease_s=30)
    for key in await client.keys("rate:*"):
        assert 0 < await client.pttl(key) <= 31_000


async def test_a_frozen_redis_costs_one_bounded_wait(redis_server: Redis, client: Client) -> None:
    clock = ManualClock()
    store = RedisLimitStore(client, clock, timeout_s=0.2)
    ask = requests("frozen", 100)
    await store.admit([ask], request_id="1", lease_s=1)
    redis_server.freeze()
    for _ in range(50):  # one waits, the others are told at once: 50 waits would not fit into the test's own limit
        with pytest.raises(DependencyUnavailable):
            await store.admit([ask], request_id="1", lease_s=1)
    redis_server.thaw()
    clock.advance(5)
    assert (await store.admit([ask], request_id="1", lease_s=1)).refused is None


_WORKER = """
import asyncio, json, sys
from shared.stores.redis import connect_redis
from shared.stores.redis_limits import RedisLimitStore
from shared.stores.system import SystemClock
from shared.domain.limits import RateLimit, meters_for, EndpointClass
from shared.domain.scopes import Subject
async def main(url, seconds):
    rule = RateLimit("shared", requests_per_minute=1200, request_burst=50, concurrent=1000)
    meters = meters_for([rule], Subject("t", "shop"), EndpointClass.GENERATE)
    admitted = []
    async with connect_redis(url) as redis:
        store = RedisLimitStore(redis, SystemClock(), timeout_s=5)
        print("ready", flush=True)
        sys.stdin.readline()
        time = await redis.time()
        start = now = time[0] + time[1] / 1e6
        while now - start < seconds:
            verdicts = await asyncio.gather(*(
                store.admit(meters, request_id=f"{id(admitted)}-{i}", lease_s=60) for i in range(8)))
            time = await redis.time()
            now = time[0] + time[1] / 1e6
            admitted += [now for verdict in verdicts if verdict.refused is None]
    print(json.dumps([start, now, len(admitted)]))
asyncio.run(main(sys.argv[1], 2.0))
"""


def test_four_processes_share_one_limit(redis_url: str, clean: Callable[[], None]) -> None:
    clean()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, redis_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        outputs = []
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        outputs = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    window_s = max(end for _, end, _ in outputs) - min(start for start, _, _ in outputs)
    admitted = sum(count for _, _, count in outputs)
    assert admitted <= 50 + 1200 / 60 * window_s
    assert admitted >= 50, "the burst was there to be had"


@pytest.fixture
def clean(redis_url: str) -> Callable[[], None]:
    import redis  # noqa: PLC0415 - the blocking client, for a test without a loop

    def flush() -> None:
        with redis.Redis.from_url(redis_url) as plain:
            plain.flushdb()

    return flush
