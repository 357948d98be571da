"""Budgets in Redis: one hash for each tenant holds all of its money, so that it is lost as a whole or not at all.

Fields of the hash, with ``A`` an account and ``B`` a budget's name:

- ``g``, ``run``, ``until``: the generation, the Redis process that it belongs to, and until when holders report
- ``b|B``: when the budget was first seen; accounts of periods that began before then are read from the ledger
- ``s|A``, ``r|A``, ``v|A``: settled and reserved micro-USD, and a number that changes with both
- ``e|A|soft``, ``e|A|hard``: that the event was raised
- ``l|R``: the lease of request R: ``expiry amount account,account``
- ``o``: until when somebody reads accounts from the ledger

A hash of another Redis process (restart, failover) may be older than what was settled: it is thrown away.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from shared.domain.budgets import Account, Balance, BudgetEvent, Lease, Purse, Reserved, ReserveOutcome
from shared.domain.scopes import key_part
from shared.ports import Clock
from shared.stores.redis_scripts import Argument, RedisScripts

_BACK_OFF_S = 0.5
_TENANTS = "budget:tenants"
_MOST_EVENTS = 1_000
_OPENING_MS = 5_000
"""How long others wait for whoever reads accounts from the ledger before one of them does it."""

_PRELUDE = """
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- Adding zero makes a negative zero plain: HINCRBY does not take it.
local function text(number) return string.format('%.0f', number + 0) end
local function money(field) return tonumber(redis.call('HGET', key, field) or 0) end
local function generation(gather_ms)
    local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
    local known = redis.call('HMGET', key, 'g', 'run', 'until')
    if known[1] and known[2] == run then
        return known[1], math.max(0, math.ceil((known[3] - now) / 1000))
    end
    redis.call('DEL', key)
    local id = string.sub(run, 1, 8) .. '-' .. text(now)
    redis.call('HSET', key, 'g', id, 'run', run, 'until', text(now + gather_ms * 1000))
    return id, tonumber(gather_ms)
end
local function move(accounts, settled, reserved)
    for account in string.gmatch(accounts, '[^,]+') do
        redis.call('HINCRBY', key, 'r|' .. account, text(reserved))
        redis.call('HINCRBY', key, 'v|' .. account, 1)
        if settled ~= 0 and redis.call('HEXISTS', key, 's|' .. account) == 1 then
            redis.call('HINCRBY', key, 's|' .. account, text(settled))
        end
    end
end
local id, wait = generation(ARGV[1])
"""

_RESERVE = (
    _PRELUDE
    + """
if wait > 0 then return {'gathering', id, wait} end
local request, amount, expires = 'l|' .. ARGV[2], tonumber(ARGV[3]), math.ceil(now / 1000000 + ARGV[4])
local count = (#ARGV - 5) / 5
local accounts = {}
for i = 1, count do
    local at = 5 * i
    accounts[i] = {id = ARGV[at + 1], hard = tonumber(ARGV[at + 3]), soft = tonumber(ARGV[at + 4])}
end
local unknown = {}
for i, account in ipairs(accounts) do
    if redis.call('HEXISTS', key, 's|' .. account.id) == 0 then
        local born = 'b|' .. ARGV[5 * i + 2]
        redis.call('HSETNX', key, born, text(now))
        if tonumber(ARGV[5 * i + 5]) < tonumber(redis.call('HGET', key, born)) then
            unknown[#unknown + 1] = account.id
        else
            redis.call('HSET', key, 's|' .. account.id, 0)
        end
    end
end
if #unknown > 0 then
    local claimed = tonumber(redis.call('HGET', key, 'o') or 0)
    if claimed > now then return {'opening', id, 20} end
    redis.call('HSET', key, 'o', text(now + ARGV[5] * 1000))
    return {'unknown', id, 0, unknown}
end
local held = tonumber(string.match(redis.call('HGET', key, request) or '0 0', '^%d+ (%d+)'))
local outcome, short, names = 'held', '', {}
for i, account in ipairs(accounts) do
    account.settled, account.reserved = money('s|' .. account.id), money('r|' .. account.id)
    names[i] = account.id
    if account.hard >= 0 and amount > held and outcome ~= 'spent' then
        if account.settled + amount > account.hard then
            outcome, short = 'spent', account.id
        elseif account.settled + account.reserved + amount - held > account.hard then
            outcome, short = 'reserved', account.id
        end
    end
end
if outcome == 'held' then
    if amount > held then
        local joined = table.concat(names, ',')
        move(joined, 0, amount - held)
        redis.call('HSET', key, request, text(expires) .. ' ' .. text(amount) .. ' ' .. joined)
        for _, account in ipairs(accounts) do account.reserved = account.reserved + amount - held end
    end
end
local alerts = {}
local function alert(account, kind)
    if redis.call('HSETNX', key, 'e|' .. account .. '|' .. kind, text(now)) == 1 then
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', 1000, '*', 'kind', kind, 'account', account)
        alerts[#alerts + 1] = kind .. ' ' .. account
    end
end
if outcome == 'spent' then alert(short, 'hard') end
local soft, balances = {}, {}
for i, account in ipairs(accounts) do
    balances[i] = {account.settled, account.reserved, money('v|' .. account.id)}
    if account.soft >= 0 and account.settled >= account.soft then
        soft[#soft + 1] = account.id
        alert(account.id, 'soft')
    end
end
return {outcome, id, 0, {}, short, soft, alerts, balances}
"""
)
"""ARGV: gathering ms, request, amount, lease in s, opening ms; for each account its id, budget, hard and soft limit
(-1: none), and when its period began, in us."""

_BOOK = (
    _PRELUDE
    + """
local missing = {}
for i = 2, #ARGV, 2 do
    local field = 'l|' .. ARGV[i]
    local lease = redis.call('HGET', key, field)
    if lease then
        local amount, accounts = string.match(lease, '^%d+ (%d+) (.*)$')
        move(accounts, tonumber(ARGV[i + 1]), -tonumber(amount))
        redis.call('HDEL', key, field)
    else
        missing[#missing + 1] = ARGV[i]
    end
end
return {id, missing}
"""
)
"""ARGV: gathering ms; for each request its id and cost."""

_RESIZE = (
    _PRELUDE
    + """
for i = 2, #ARGV, 2 do
    local field = 'l|' .. ARGV[i]
    local expires, amount, accounts = string.match(redis.call('HGET', key, field) or '', '^(%d+) (%d+) (.*)$')
    if expires then
        move(accounts, 0, ARGV[i + 1] - amount)
        redis.call('HSET', key, field, expires .. ' ' .. ARGV[i + 1] .. ' ' .. accounts)
    end
end
return id
"""
)

_REPORT = (
    _PRELUDE
    + """
for i = 2, #ARGV, 4 do
    if redis.call('HEXISTS', key, 'l|' .. ARGV[i]) == 0 then
        move(ARGV[i + 3], 0, tonumber(ARGV[i + 1]))
        redis.call('HSET', key, 'l|' .. ARGV[i], ARGV[i + 2] .. ' ' .. ARGV[i + 1] .. ' ' .. ARGV[i + 3])
    end
end
return id
"""
)
"""ARGV: gathering ms; for each lease its request, amount, expiry and accounts."""

_READ = _PRELUDE + "return {id, redis.call('HGETALL', key)}"

_RELEASE = _PRELUDE + "redis.call('HDEL', key, 'o') return id"

_MEND = (
    _PRELUDE
    + """
if id ~= ARGV[2] or money('v|' .. ARGV[3]) ~= tonumber(ARGV[5]) then return 0 end
redis.call('HSET', key, 's|' .. ARGV[3], ARGV[4])
redis.call('HINCRBY', key, 'v|' .. ARGV[3], 1)
return 1
"""
)
"""ARGV: gathering ms, generation, account, settled, version."""

_FORGET = (
    _PRELUDE
    + """
for i = 2, #ARGV do
    if money('r|' .. ARGV[i]) == 0 then
        for _, field in ipairs({'s|' .. ARGV[i], 'r|' .. ARGV[i], 'v|' .. ARGV[i],
                                'e|' .. ARGV[i] .. '|soft', 'e|' .. ARGV[i] .. '|hard'}) do
            redis.call('HDEL', key, field)
        end
    end
end
return id
"""
)


class RedisBudgetStore:
    """`BudgetStore` for all processes.

    Args:
        redis: the client.
        clock: for pauses while Redis is away.
        gather_s: after a loss of memory, how long processes have to report what they hold.
        timeout_s: most that a call waits.
    """

    def __init__(self, redis: Redis, clock: Clock, *, gather_s: float = 3.0, timeout_s: float = 0.25) -> None:
        self._redis = redis
        self._scripts = RedisScripts(redis, clock, timeout_s=timeout_s, back_off_s=_BACK_OFF_S)
        self._gather_ms = int(gather_s * 1000)
        self._listed: dict[str, str] = {}

    async def reserve(
        self, tenant_id: str, request_id: str, amount_micro_usd: int, accounts: Sequence[Account], *, lease_s: float
    ) -> Reserved:
        """Hold an amount, in all for this request, on every account or on none.

        Raises:
            DependencyUnavailable: Redis does not answer; the amount may be held nevertheless.
        """
        arguments: list[Argument] = [request_id, amount_micro_usd, int(lease_s + 1), _OPENING_MS]
        for account in accounts:
            budget, started_us = account.budget, int(account.started_at.timestamp()) * 1_000_000
            arguments += [account.id, budget.name, _or_none(budget.hard_micro_usd), _or_none(budget.soft_micro_usd)]
            arguments.append(started_us)
        outcome, generation, wait_ms, *rest = await self._run(_RESERVE, tenant_id, arguments)
        await self._list(tenant_id, generation.decode())
        reserved = Reserved(ReserveOutcome(outcome.decode()), generation.decode(), wait_ms)
        if len(rest) <= 1:
            return Reserved(reserved.outcome, reserved.generation, wait_ms, unknown=_texts(rest[0]) if rest else ())
        _, short, soft, alerts, balances = rest
        return Reserved(
            reserved.outcome,
            reserved.generation,
            balances=tuple(Balance(*balance) for balance in balances),
            short=short.decode() or None,
            soft=_texts(soft),
            alerts=tuple((kind, account) for kind, _, account in (text.partition(" ") for text in _texts(alerts))),
        )

    async def book(self, tenant_id: str, costs: Mapping[str, int]) -> tuple[str, frozenset[str]]:
        """Turn leases into settled costs; those that are not there are left alone.

        Returns the generation, and the requests that held no lease.

        Raises:
            DependencyUnavailable: Redis does not answer; doing it again is safe.
        """
        generation, missing = await self._run(_BOOK, tenant_id, _pairs(costs))
        return generation.decode(), frozenset(_texts(missing))

    async def resize(self, tenant_id: str, amounts: Mapping[str, int]) -> str:
        """Set what leases hold; returns the generation.

        Raises:
            DependencyUnavailable: Redis does not answer; doing it again is safe.
        """
        return str((await self._run(_RESIZE, tenant_id, _pairs(amounts))).decode())

    async def report(self, tenant_id: str, leases: Sequence[Lease]) -> str:
        """Put leases back that memory has lost, whatever the budget says; returns the generation.

        Raises:
            DependencyUnavailable: Redis does not answer; doing it again is safe.
        """
        arguments: list[Argument] = []
        for lease in leases:
            arguments += [lease.request_id, lease.amount_micro_usd, lease.expires_at_s, ",".join(lease.accounts)]
        generation = str((await self._run(_REPORT, tenant_id, arguments)).decode())
        await self._list(tenant_id, generation)
        return generation

    async def read(self, tenant_id: str) -> Purse:
        """All of a tenant's money, at one instant.

        Raises:
            DependencyUnavailable: Redis does not answer.
        """
        generation, flat = await self._run(_READ, tenant_id, [])
        texts = _texts(flat)
        fields = dict(zip(texts[::2], texts[1::2], strict=True))
        named = {name.partition("|")[2] for name in fields if name[:2] in {"s|", "r|"}}
        return Purse(
            generation.decode(),
            {
                account: Balance(
                    int(fields[f"s|{account}"]) if f"s|{account}" in fields else None,
                    int(fields.get(f"r|{account}", 0)),
                    int(fields.get(f"v|{account}", 0)),
                )
                for account in named
            },
            {name[2:]: _lease(name[2:], value) for name, value in fields.items() if name.startswith("l|")},
        )

    async def release(self, tenant_id: str) -> None:
        """Let others open accounts: whoever was told to has done it, or cannot.

        Raises:
            DependencyUnavailable: Redis does not answer; then the claim ends by itself.
        """
        await self._run(_RELEASE, tenant_id, [])

    async def mend(
        self, tenant_id: str, account: str, settled_micro_usd: int, *, generation: str, version: int
    ) -> bool:
        """Set an account's settled money, unless it was touched since it was read at `version`.

        Raises:
            DependencyUnavailable: Redis does not answer; doing it again is safe.
        """
        return bool(await self._run(_MEND, tenant_id, [generation, account, settled_micro_usd, version]))

    async def forget(self, tenant_id: str, accounts: Sequence[str]) -> None:
        """Remove accounts on which nothing is reserved.

        Raises:
            DependencyUnavailable: Redis does not answer; doing it again is safe.
        """
        await self._run(_FORGET, tenant_id, list(accounts))

    async def tenants(self) -> frozenset[str]:
        """Tenants that have ever reserved, since memory was last lost.

        Raises:
            DependencyUnavailable: Redis does not answer.
        """
        return frozenset(_texts(list(await self._scripts.call(self._redis.smembers(_TENANTS)))))

    async def events(self, tenant_id: str, *, limit: int = 100) -> Sequence[BudgetEvent]:
        """The latest limits that were reached, newest first; at most about a thousand are kept.

        Raises:
            DependencyUnavailable: Redis does not answer.
        """
        stream, count = _keys(tenant_id)[1], min(limit, _MOST_EVENTS)
        found = await self._scripts.call(self._redis.xrevrange(stream, count=count))
        return [
            BudgetEvent(int(entry.partition(b"-")[0]), values[b"kind"].decode(), values[b"account"].decode())
            for entry, values in found
        ]

    async def _run(self, script: str, tenant_id: str, arguments: Sequence[Argument]) -> Any:
        keys, given = _keys(tenant_id), [self._gather_ms, *arguments]
        return await self._scripts.run(script, keys, given)

    async def _list(self, tenant_id: str, generation: str) -> None:
        """Note a tenant where `tenants` finds it, once for each generation."""
        if self._listed.get(tenant_id) != generation:
            await self._scripts.call(self._redis.sadd(_TENANTS, tenant_id))
            self._listed[tenant_id] = generation


def _keys(tenant_id: str) -> list[str]:
    key = f"budget:{{{key_part(tenant_id)}}}"
    return [key, f"{key}:events"]


def _or_none(limit: int | None) -> int:
    return -1 if limit is None else limit


def _pairs(values: Mapping[str, int]) -> list[Argument]:
    return [word for pair in values.items() for word in pair]


def _texts(values: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(value.decode() for value in values)


def _lease(request_id: str, text: str) -> Lease:
    expires, amount, accounts = text.split(" ", 2)
    return Lease(request_id, int(amount), tuple(accounts.split(",")), int(expires))
