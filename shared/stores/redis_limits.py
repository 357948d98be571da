"""Rate limits in Redis: all meters of a request in one script, by Redis's own clock."""

from collections.abc import Sequence

from redis.asyncio import Redis

from shared.domain.limits import Ended, Meter, MeterKind, Verdict
from shared.ports import Clock
from shared.stores.redis_scripts import RedisScripts

_BACK_OFF_S = 1.0

_ADMIT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local used, refused, longest = {}, -1, 0
for i, key in ipairs(KEYS) do
    local kind, cost, allowed = ARGV[1 + 3 * i], tonumber(ARGV[2 + 3 * i]), tonumber(ARGV[3 + 3 * i])
    if kind == 'slots' then
        redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
        used[i] = redis.call('ZCARD', key)
    else
        used[i] = math.max(0, tonumber(redis.call('GET', key) or 0) - now)
    end
    local over = used[i] + cost - allowed
    if over > 0 and kind == 'slots' then over = 1000000 end
    if over > longest then refused, longest = i - 1, over end
end
if refused < 0 and ARGV[3] == '1' then
    for i, key in ipairs(KEYS) do
        used[i] = used[i] + tonumber(ARGV[2 + 3 * i])
        if ARGV[1 + 3 * i] == 'slots' then
            redis.call('ZADD', key, string.format('%.0f', now + ARGV[2]), ARGV[1])
            redis.call('PEXPIRE', key, math.ceil(ARGV[2] / 1000) + 1000)
        elseif used[i] > 0 then
            redis.call('SET', key, string.format('%.0f', now + used[i]), 'PX', math.ceil(used[i] / 1000) + 1000)
        end
    end
end
return {refused, longest, unpack(used)}
"""
"""KEYS: meters. ARGV: request id, lease in us, whether to charge; for each meter its kind, cost and what is allowed."""

_SETTLE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for i, key in ipairs(KEYS) do
    if ARGV[2 * i - 1] == 'slots' then
        redis.call('ZREM', key, ARGV[2 * i])
    else
        local arrival = math.max(now, tonumber(redis.call('GET', key) or 0)) + ARGV[2 * i]
        if arrival <= now then
            redis.call('DEL', key)
        else
            redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1000)
        end
    end
end
"""
"""KEYS: meters. ARGV: for each its kind, and the request id or the difference in us."""


class RedisLimitStore:
    """`LimitStore` for all processes.

    Args:
        redis: the client.
        clock: for pauses while Redis is away.
        timeout_s: most that a request waits.
    """

    def __init__(self, redis: Redis, clock: Clock, *, timeout_s: float = 0.1) -> None:
        self._scripts = RedisScripts(redis, clock, timeout_s=timeout_s, back_off_s=_BACK_OFF_S)

    async def admit(self, meters: Sequence[Meter], *, request_id: str, lease_s: float, charge: bool = True) -> Verdict:
        """Charge all meters or none, in one round trip.

        Raises:
            DependencyUnavailable: Redis does not answer; the meters may have been charged nevertheless.
        """
        arguments: list[str | int] = [request_id, int(lease_s * 1e6), int(charge)]
        for meter in meters:
            arguments += [_kind(meter), meter.cost, meter.allowed]
        keys = [meter.key for meter in meters]
        refused, retry_us, *used = await self._scripts.run(_ADMIT, keys, arguments)
        return Verdict(None if refused < 0 else refused, retry_us, tuple(used))

    async def settle(self, ended: Sequence[Ended]) -> None:
        """Free slots and correct token meters; each at most once.

        Raises:
            DependencyUnavailable: Redis does not answer.
        """
        by_tenant: dict[str, tuple[list[str], list[str | int]]] = {}
        for end in ended:
            changes: list[tuple[str, str, str | int]] = [(key, "slots", end.request_id) for key in end.slots]
            changes += [(key, "rate", delta_us) for key, delta_us in end.corrections]
            for key, kind, value in changes:
                # One script touches one slot of a cluster, and a tenant's keys share one.
                keys, arguments = by_tenant.setdefault(key.partition("}")[0], ([], []))
                keys.append(key)
                arguments += [kind, value]
        for keys, arguments in by_tenant.values():
            await self._scripts.run(_SETTLE, keys, arguments)


def _kind(meter: Meter) -> str:
    return "slots" if meter.kind is MeterKind.CONCURRENT else "rate"
