"""Kept answers and idempotency keys: one suite on the twins and on the real Redis, and what only Redis can show."""

import asyncio
from uuid import uuid4

import pytest

from infra.local.services import Redis
from shared.domain.errors import DependencyUnavailable
from shared.ports import ClaimState
from shared.services.idempotency import idempotency_key
from shared.stores.memory_reuse import MemoryAnswerCache, MemoryIdempotencyStore
from shared.stores.redis import connect_redis
from shared.stores.redis_answers import RedisAnswerCache
from shared.stores.redis_idempotency import RedisIdempotencyStore
from shared.stores.sealing import Seal
from shared.stores.system import SystemClock

PATIENT_S = 10.0
"""A busy test machine must not look like an absent Redis."""
LEASE_S = 30.0


@pytest.fixture(params=["memory", "redis"])
async def cache(request):
    if request.param == "memory":
        yield MemoryAnswerCache(SystemClock())
        return
    async with connect_redis(request.getfixturevalue("redis_url"), timeout_s=PATIENT_S) as redis:
        yield RedisAnswerCache(redis, SystemClock(), timeout_s=PATIENT_S)


@pytest.fixture(params=["memory", "redis"])
async def keys(request):
    if request.param == "memory":
        yield MemoryIdempotencyStore(SystemClock())
        return
    async with connect_redis(request.getfixturevalue("redis_url"), timeout_s=PATIENT_S) as redis:
        yield RedisIdempotencyStore(redis, SystemClock(), timeout_s=PATIENT_S)


def key(name=None, body=b"{}"):
    return idempotency_key("tenant", "shop", "chat", key=name or str(uuid4()), body=body)


async def until(condition):
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def test_what_was_kept_is_found_alone_and_with_its_neighbour(cache):
    exact, near = str(uuid4()), str(uuid4())
    assert await cache.find(exact, near) == (None, None)
    await cache.keep(exact, b"\x00answer", ttl_s=60, neighbour=(near, b"{}"))
    assert await cache.find(exact, None) == (b"\x00answer", None)
    assert await cache.find(exact, near) == (b"\x00answer", b"{}")
    assert await cache.find("other", near) == (None, b"{}")
    await cache.keep(exact, b"newer", ttl_s=60)
    assert await cache.find(exact, near) == (b"newer", b"{}")


async def test_a_kept_answer_ends(cache):
    name = str(uuid4())
    await cache.keep(name, b"x", ttl_s=1)

    async def gone():
        return await cache.find(name, None) == (None, None)

    await until(gone)


async def test_a_key_is_one_owners_until_it_is_given_back(keys):
    work = key()
    assert (await keys.claim(work, "a", LEASE_S)).state is ClaimState.OURS
    assert (await keys.claim(work, "a", LEASE_S)).state is ClaimState.OURS
    assert (await keys.claim(work, "b", LEASE_S)).state is ClaimState.RUNNING
    await keys.release(work, "b")
    assert (await keys.claim(work, "b", LEASE_S)).state is ClaimState.RUNNING
    await keys.release(work, "a")
    assert (await keys.claim(work, "b", LEASE_S)).state is ClaimState.OURS


async def test_a_result_is_everybodys_and_stays(keys):
    work = key()
    await keys.claim(work, "a", LEASE_S)
    assert await keys.finish(work, "a", b"\x00result", 60)
    claim = await keys.claim(work, "b", LEASE_S)
    assert (claim.state, claim.result) == (ClaimState.DONE, b"\x00result")
    await keys.release(work, "a")
    assert (await keys.claim(work, "a", LEASE_S)).state is ClaimState.DONE


async def test_another_body_is_told_so_before_and_after_the_result(keys):
    name = str(uuid4())
    await keys.claim(key(name), "a", LEASE_S)
    assert (await keys.claim(key(name, b"[]"), "b", LEASE_S)).state is ClaimState.OTHER_BODY
    await keys.finish(key(name), "a", b"result", 60)
    assert (await keys.claim(key(name, b"[]"), "b", LEASE_S)).state is ClaimState.OTHER_BODY


async def test_a_lease_that_is_not_extended_ends_and_its_owner_is_out(keys):
    work = key()
    await keys.claim(work, "dead", 0.05)

    async def taken():
        return (await keys.claim(work, "heir", LEASE_S)).state is ClaimState.OURS

    await until(taken)
    assert not await keys.extend(work, "dead", LEASE_S)
    assert not await keys.finish(work, "dead", b"late", 60)
    assert await keys.extend(work, "heir", LEASE_S)
    assert await keys.finish(work, "heir", b"result", 60)


async def test_an_extended_lease_outlives_its_first_length(keys):
    work = key()
    await keys.claim(work, "a", 5)
    assert await keys.extend(work, "a", LEASE_S)
    assert (await keys.claim(work, "b", LEASE_S)).state is ClaimState.RUNNING


async def test_keys_of_two_scopes_are_two_keys(keys):
    # Parts that would run into one another if they were merely joined.
    for scope in (("t", "shop", "chat"), ("t", "shopc", "hat"), ("ts", "hop", "chat"), ("", "tshop", "chat")):
        claim = await keys.claim(idempotency_key(*scope, key="same", body=b"{}"), "a", LEASE_S)
        assert claim.state is ClaimState.OURS


async def test_of_many_claims_at_once_one_wins(keys):
    work = key()
    states = [claim.state for claim in await asyncio.gather(*(keys.claim(work, str(n), LEASE_S) for n in range(40)))]
    assert states.count(ClaimState.OURS) == 1
    assert states.count(ClaimState.RUNNING) == 39


# --- only Redis ------------------------------------------------------------------------------------------------------


async def test_answers_at_rest_are_sealed_and_bound_to_their_key(redis_url):
    secret = b"the answer nobody else may read"
    async with connect_redis(redis_url, timeout_s=PATIENT_S) as redis:
        cache = RedisAnswerCache(redis, SystemClock(), Seal(b"k" * 32), timeout_s=PATIENT_S)
        await cache.keep("sealed", secret, ttl_s=60, neighbour=("near", secret))
        assert await cache.find("sealed", "near") == (secret, secret)
        raw = await redis.get("sealed")
        assert secret not in raw
        assert 0 < await redis.ttl("sealed") <= 60
        await redis.set("moved", raw)
        assert await cache.find("moved", None) == (None, None)
        rotated = RedisAnswerCache(redis, SystemClock(), Seal(b"K" * 32), timeout_s=PATIENT_S)
        assert await rotated.find("sealed", "near") == (None, None)


async def test_an_idempotent_result_at_rest_is_read_by_nobody_without_key_and_body(redis_url):
    async with connect_redis(redis_url, timeout_s=PATIENT_S) as redis:
        store = RedisIdempotencyStore(redis, SystemClock(), timeout_s=PATIENT_S)
        work = key("order-4711", b'{"messages": "private question"}')
        await store.claim(work, "a", LEASE_S)
        await store.finish(work, "a", b"private answer", 60)
        stored = await redis.hgetall(f"idempotency:{work.name}")
        everything = b"".join(stored) + b"".join(stored.values()) + work.name.encode()
        assert b"private" not in everything
        assert b"4711" not in everything
        assert 0 < await redis.pttl(f"idempotency:{work.name}") <= 60_000


async def test_a_frozen_redis_is_waited_for_once_and_then_left_alone(redis_server: Redis, redis_url: str):
    clock = _CountingClock()
    async with connect_redis(redis_url, timeout_s=0.05) as redis:
        cache = RedisAnswerCache(redis, clock)
        redis_server.freeze()
        async with asyncio.timeout(20):
            for _ in range(50):
                with pytest.raises(DependencyUnavailable):
                    await cache.find("x", None)
        # Fifty look-ups, one of which went to Redis: the clock stands still, so the back-off never ends.
        assert clock.failures_noted == 1
        redis_server.thaw()
        clock.advance(60)

        async def answers():
            try:
                return await cache.find("x", None) == (None, None)
            except DependencyUnavailable:
                clock.advance(60)
                return False

        await until(answers)


class _CountingClock:
    """Stands still. After a failure the stores ask it once more than before each call."""

    def __init__(self):
        self._now_s = 0.0
        self.asked = 0

    def monotonic(self):
        self.asked += 1
        return self._now_s

    def advance(self, seconds):
        self._now_s += seconds

    @property
    def failures_noted(self):
        return self.asked - 50
