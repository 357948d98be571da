"""Kept answers in Redis: one round trip to look up, values sealed when there is a key, everything with an end."""

import asyncio
from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.domain.errors import DependencyUnavailable
from shared.ports import Clock
from shared.stores.redis_scripts import RedisScripts
from shared.stores.sealing import Seal

TIMEOUT_S = 0.05
"""Most that a request waits for the cache; a hit saves seconds, a wait for a dead cache saves nothing."""
_BACK_OFF_S = 0.5
_FORGET_S = 30.0
_SCAN = 500


class RedisAnswerCache:
    """`AnswerCache` in Redis.

    Args:
        redis: the client.
        clock: measures the back-off.
        seal: for values at rest; None leaves them as they are.
        timeout_s: most that a call waits; after one that waited in vain, none is made for half a second.
    """

    def __init__(self, redis: Redis, clock: Clock, seal: Seal | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self._redis = redis
        self._bounded = RedisScripts(redis, clock, timeout_s=timeout_s, back_off_s=_BACK_OFF_S)
        self._seal = seal

    async def find(self, key: str, neighbour_key: str | None) -> tuple[bytes | None, bytes | None]:
        """What lies under both keys, in one command.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        keys = [key] if neighbour_key is None else [key, neighbour_key]

        found = await self._bounded.call(self._read(keys))
        opened = [self._opened(value, name) for value, name in zip(found, keys, strict=True)]
        return opened[0], opened[1] if neighbour_key is not None else None

    async def keep(self, key: str, answer: bytes, *, ttl_s: int, neighbour: tuple[str, bytes] | None = None) -> None:
        """Keep an answer, and what leads to it from near, together or not at all.

        Raises:
            DependencyUnavailable: no answer in time; it may have been kept.
        """
        values = [(key, answer)] if neighbour is None else [(key, answer), neighbour]
        sealed = [(name, self._sealed(value, name)) for name, value in values]

        await self._bounded.call(self._write(sealed, ttl_s))

    async def forget(self, prefix: str) -> int:
        """Delete all answers whose keys begin so, a few hundred at a time; for jobs, not for requests.

        Raises:
            DependencyUnavailable: no answer in time; some may be left.
        """
        count = 0
        try:
            async with asyncio.timeout(_FORGET_S):
                keys: list[bytes] = []
                async for key in self._redis.scan_iter(match=f"{prefix}*", count=_SCAN):
                    keys.append(key)
                    if len(keys) == _SCAN:
                        count += int(await self._redis.unlink(*keys))
                        keys = []
                if keys:
                    count += int(await self._redis.unlink(*keys))
        except (RedisError, OSError, TimeoutError):
            raise DependencyUnavailable("redis does not answer") from None
        return count

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        return cast("list[bytes | None]", await self._redis.mget(keys))

    async def _write(self, values: Sequence[tuple[str, bytes]], ttl_s: int) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            for name, value in values:
                pipeline.set(name, value, ex=ttl_s)
            await pipeline.execute()

    def _sealed(self, value: bytes, name: str) -> bytes:
        return value if self._seal is None else self._seal.seal(value, name)

    def _opened(self, value: bytes | None, name: str) -> bytes | None:
        return value if value is None or self._seal is None else self._seal.open(value, name)
