"""Failed sign-ins, counted in Redis for all workers; while Redis is away each worker counts its own."""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Sequence

from redis.asyncio import Redis

from shared.domain.errors import DependencyUnavailable
from shared.ports import Clock
from shared.stores.redis_scripts import RedisScripts

_FREE_FAILURES = {"client": 50, "address": 20}
"""Failures without consequence, by the kind of key. The most particular key, application and address together, has
fewest; an application alone has most, or anybody could lock it out."""
_FREE_FAILURES_OF_BOTH = 5
_FIRST_LOCK_S = 1.0
_LONGEST_LOCK_S = 900.0
_FORGET_S = 3600
_PREFIX = "login:"
_MOST_LOCAL = 10_000
_BACK_OFF_S = 0.5

# Each failure counts and, beyond the free ones, locks for twice as long as the one before.
_FAILED = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
for i, key in ipairs(KEYS) do
  local count = redis.call('HINCRBY', key, 'failures', 1)
  local over = count - tonumber(ARGV[2 + i])
  if over > 0 then
    local lock = math.min(tonumber(ARGV[2]), tonumber(ARGV[1]) * 2 ^ math.min(over - 1, 30))
    redis.call('HSET', key, 'until', string.format('%.0f', ms + lock * 1000))
  end
  redis.call('EXPIRE', key, 3600)
end
"""
_LOCKED = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local longest = 0
for _, key in ipairs(KEYS) do
  longest = math.max(longest, tonumber(redis.call('HGET', key, 'until') or '0') - ms)
end
return longest
"""


class RedisLoginGuard:
    """`LoginGuard` in Redis.

    Args:
        redis: from `connect_redis`.
        clock: measures the pause after a failure.
        timeout_s: most that a sign-in waits for it.
    """

    def __init__(self, redis: Redis, clock: Clock, *, timeout_s: float = 0.25) -> None:
        self._redis = redis
        self._scripts = RedisScripts(redis, clock, timeout_s=timeout_s, back_off_s=_BACK_OFF_S)
        self._local = MemoryLoginGuard()

    async def locked_s(self, keys: Sequence[str]) -> float:
        """Seconds until a sign-in may be tried again."""
        here = await self._local.locked_s(keys)
        try:
            there_ms = await self._scripts.run(_LOCKED, _named(keys), ())
        except DependencyUnavailable:
            return here
        return max(here, float(there_ms) / 1000.0)

    async def failed(self, keys: Sequence[str]) -> None:
        """Note a failure."""
        try:
            free = [free_failures(key) for key in keys]
            await self._scripts.run(_FAILED, _named(keys), (str(_FIRST_LOCK_S), str(_LONGEST_LOCK_S), *free))
        except DependencyUnavailable:
            await self._local.failed(keys)

    async def succeeded(self, keys: Sequence[str]) -> None:
        """Forget the failures of the first key."""
        await self._local.succeeded(keys)
        with contextlib.suppress(DependencyUnavailable):
            await self._scripts.call(self._redis.delete(*_named(keys[:1])))


class MemoryLoginGuard:
    """`LoginGuard` of one process."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[int, float, float]] = OrderedDict()

    async def locked_s(self, keys: Sequence[str]) -> float:
        """Seconds until a sign-in may be tried again."""
        now = time.monotonic()
        return max((self._seen.get(key, (0, 0.0, 0.0))[1] - now for key in keys), default=0.0)

    async def failed(self, keys: Sequence[str]) -> None:
        """Note a failure."""
        now = time.monotonic()
        for key in keys:
            count, until, last = self._seen.pop(key, (0, 0.0, now))
            count = 1 if now - last > _FORGET_S else count + 1
            over = count - free_failures(key)
            if over > 0:
                until = now + min(_LONGEST_LOCK_S, _FIRST_LOCK_S * 2.0 ** min(over - 1, 30))
            self._seen[key] = (count, until, now)
        while len(self._seen) > _MOST_LOCAL:
            self._seen.popitem(last=False)

    async def succeeded(self, keys: Sequence[str]) -> None:
        """Forget the failures of the first key."""
        for key in keys[:1]:
            self._seen.pop(key, None)


def free_failures(key: str) -> int:
    """How many failures of a key have no consequence."""
    kind, *rest = key.split(":")
    return _FREE_FAILURES_OF_BOTH if kind == "client" and len(rest) > 1 else _FREE_FAILURES[kind]


def _named(keys: Sequence[str]) -> list[str]:
    return [f"{_PREFIX}{key}" for key in keys]
