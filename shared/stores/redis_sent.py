"""Messages that were sent, in Redis: keyed fingerprints under keyed names, for some minutes.

A hash for each principal and stretch of time, with the parts of a fingerprint (`shared.analysis.fingerprint.bands`) as
fields: two that are near share one. It leaves with its stretch, and holds no more than `MOST_FIELDS`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from shared.analysis.fingerprint import bands, is_near
from shared.domain.quality_signals import Sent
from shared.ports import Clock
from shared.stores.redis_scripts import Argument, RedisScripts

MOST_FIELDS = 40_000
"""Of one principal in one stretch: some 4 MB. Beyond that further messages are only looked for."""
_BACK_OFF_S = 1.0
_SEEN = """
local found = {}
local count = redis.call('HLEN', KEYS[1])
for i = 4, #ARGV do
    found[#found + 1] = redis.call('HGET', KEYS[1], ARGV[i]) or redis.call('HGET', KEYS[2], ARGV[i])
    if count < tonumber(ARGV[2]) or redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[3])
    end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return found
"""
"""KEYS: this stretch and the one before. ARGV: seconds to keep, most fields, the message, its bands."""


class RedisSentMessages:
    """`SentMessages` for all processes.

    Args:
        redis: the client.
        clock: of stretches, and of pauses while Redis is away.
        window_s: a message is remembered for at least so long, and at most twice.
        timeout_s: most that one look-up takes; all are behind the responses.
    """

    def __init__(self, redis: Redis, clock: Clock, *, window_s: float, timeout_s: float = 0.5) -> None:
        self._scripts = RedisScripts(redis, clock, timeout_s=timeout_s, back_off_s=_BACK_OFF_S)
        self._clock = clock
        self._window_s = window_s

    async def seen(self, sent: Sequence[Sent]) -> Sequence[Sent | None]:
        """The last message before each that was nearly the same and of the same principal.

        Raises:
            DependencyUnavailable: Redis does not answer; some may be remembered.
        """
        return [await self._seen(one) for one in sent]

    async def _seen(self, sent: Sent) -> Sent | None:
        stretch = int(self._clock.now().timestamp() // self._window_s)
        keys = [f"retry:{{{sent.whose}}}:{number}" for number in (stretch, stretch - 1)]
        arguments: list[Argument] = [int(2 * self._window_s) + 1, MOST_FIELDS, _packed(sent), *bands(sent.fingerprint)]
        found: Any = await self._scripts.run(_SEEN, keys, arguments)
        known = [_unpacked(text, sent) for text in found if text]
        near = [
            one for one in known if is_near(one.fingerprint, sent.fingerprint) and one.request_id != sent.request_id
        ]
        return max(near, key=lambda one: one.end_time, default=None)


def _packed(sent: Sent) -> str:
    return f"{sent.fingerprint:016x} {sent.request_id} {_us(sent.start_time)} {_us(sent.end_time)}"


def _unpacked(text: bytes, like: Sent) -> Sent:
    fingerprint, request_id, start_us, end_us = text.decode().split()
    return Sent(like.whose, int(fingerprint, 16), like.tenant_id, request_id, _at(start_us), _at(end_us))


def _us(instant: datetime) -> int:
    whole, part = int(instant.replace(microsecond=0).timestamp()), instant.microsecond
    return whole * 1_000_000 + part


def _at(microseconds: str) -> datetime:
    whole, part = divmod(int(microseconds), 1_000_000)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=part)
