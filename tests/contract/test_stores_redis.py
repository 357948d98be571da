"""The connection to Redis: bounded when the server is silent, and itself again afterwards."""

import asyncio

import pytest
from redis.exceptions import RedisError

from infra.local.services import Redis
from shared.domain.errors import DependencyUnavailable
from shared.stores.redis import RedisProbe, connect_redis


async def test_a_script_runs_and_answers(redis_url: str) -> None:
    async with connect_redis(redis_url) as redis:
        assert await redis.eval("return {redis.call('INCRBY', KEYS[1], ARGV[1]), 'ok'}", 1, "stores:count", 3) == [
            3,
            b"ok",
        ]
        await RedisProbe(redis).check()


async def test_more_callers_than_connections_wait_their_turn(redis_url: str) -> None:
    async with connect_redis(redis_url, max_connections=2, timeout_s=5) as redis:
        answers = await asyncio.gather(*(redis.incr("stores:turns") for _ in range(50)))
    assert sorted(answers) == list(range(1, 51))


async def test_a_frozen_server_costs_no_more_than_the_limits(redis_server: Redis, redis_url: str) -> None:
    async with connect_redis(redis_url) as redis:
        await redis.ping()
        redis_server.freeze()
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*(redis.incr("stores:frozen") for _ in range(8)), return_exceptions=True)
            assert all(isinstance(outcome, RedisError) for outcome in outcomes)
            with pytest.raises(DependencyUnavailable):
                await RedisProbe(redis).check()
        redis_server.thaw()

        async with asyncio.timeout(20):
            while True:
                try:
                    await RedisProbe(redis).check()
                except DependencyUnavailable:
                    await asyncio.sleep(0.05)
                else:
                    break


async def test_a_server_that_is_not_there_is_unavailable_and_its_password_stays_secret() -> None:
    async with connect_redis("redis://:hunter2@127.0.0.1:1/0") as redis:
        with pytest.raises(DependencyUnavailable) as absence:
            await RedisProbe(redis).check()
    assert "hunter2" not in repr(absence.value)
    assert absence.value.__cause__ is None


def test_an_address_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError):
        connect_redis("http://127.0.0.1")
