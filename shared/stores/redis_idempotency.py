"""Idempotency keys in Redis: who works on a key, and what came out. Each step is one script, so it happens at once."""

from typing import Any

from redis.asyncio import Redis

from shared.ports import Claim, ClaimState, Clock, IdempotencyKey
from shared.stores.redis_scripts import RedisScripts
from shared.stores.sealing import Seal

_TIMEOUT_S = 0.25
"""Longer than a cache may take: without an answer the request is refused."""
_BACK_OFF_S = 0.5
_CLAIM = """
local held = redis.call('HMGET', KEYS[1], 'fingerprint', 'owner', 'result')
if not held[1] then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'owner', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'ours'}
end
if held[1] ~= ARGV[1] then return {'other_body'} end
if held[3] then return {'done', held[3]} end
if held[2] == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'ours'}
end
return {'running'}
"""
_EXTEND = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_FINISH = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'result', ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
_RELEASE = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] or redis.call('HEXISTS', KEYS[1], 'result') == 1 then return 0 end
return redis.call('DEL', KEYS[1])
"""


class RedisIdempotencyStore:
    """`IdempotencyStore` in Redis.

    Results are sealed with a key that is made of the caller's key and body, neither of which is stored: who reads
    Redis alone reads no answer.

    Args:
        redis: the client.
        clock: measures the back-off.
        timeout_s: most that a call waits; after one that waited in vain, none is made for half a second.
    """

    def __init__(self, redis: Redis, clock: Clock, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._scripts = RedisScripts(redis, clock, timeout_s=timeout_s, back_off_s=_BACK_OFF_S)

    async def claim(self, key: IdempotencyKey, owner: str, lease_s: float) -> Claim:
        """Take the key, or learn who has it.

        Raises:
            DependencyUnavailable: no answer in time; the key may have been taken, until the lease ends.
        """
        state, *result = await self._run(_CLAIM, key, key.fingerprint, owner, _milliseconds(lease_s))
        sealed = result[0] if result else b""
        return Claim(ClaimState(state.decode()), self._seal(key).open(sealed, key.name) if result else None)

    async def extend(self, key: IdempotencyKey, owner: str, lease_s: float) -> bool:
        """Hold the key for longer; False when it is another's by now.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return bool(await self._run(_EXTEND, key, owner, _milliseconds(lease_s)))

    async def finish(self, key: IdempotencyKey, owner: str, result: bytes, kept_s: float) -> bool:
        """Keep the result; False when the key is another's by now.

        Raises:
            DependencyUnavailable: no answer in time; it may have been kept.
        """
        sealed = self._seal(key).seal(result, key.name)
        return bool(await self._run(_FINISH, key, owner, sealed, _milliseconds(kept_s)))

    async def release(self, key: IdempotencyKey, owner: str) -> None:
        """Give the key back without a result.

        Raises:
            DependencyUnavailable: no answer in time; the lease ends by itself.
        """
        await self._run(_RELEASE, key, owner)

    async def _run(self, script: str, key: IdempotencyKey, *arguments: str | bytes | int) -> Any:
        return await self._scripts.run(script, [f"idempotency:{key.name}"], arguments)

    @staticmethod
    def _seal(key: IdempotencyKey) -> Seal:
        return Seal.derived(*key.secrets)


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))
