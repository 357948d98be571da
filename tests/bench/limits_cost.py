"""What rate limits and budgets add to a request: `python -m tests.bench.limits_cost [REDIS_URL]`.

Starts a Redis of its own when no URL is given. Prints microseconds; nothing is asserted.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

from infra.local.environment import Ports
from infra.local.services import Redis
from shared.domain.budgets import Budget, Period
from shared.domain.identity import Principal, RouterRole
from shared.domain.limits import EndpointClass, RateLimit
from shared.domain.policy import Policy
from shared.domain.scopes import Per, Scope
from shared.services.bookkeeping import Bookkeeper
from shared.services.limits import Limits
from shared.services.reconciling import Reconciler
from shared.services.till import Till
from shared.stores.memory import MemoryRecordStore
from shared.stores.memory_budgets import MemoryBudgetLedger
from shared.stores.redis import connect_redis
from shared.stores.redis_budgets import RedisBudgetStore
from shared.stores.redis_limits import RedisLimitStore
from shared.stores.system import SystemClock, UuidIds
from shared.telemetry import RecordingTelemetry

_ROUNDS = 3_000
CALLER = Principal("p", "tenant", "shop", frozenset({RouterRole.SERVICE}))
TAGS = (("team", "commerce"),)
LIMITS = tuple(
    RateLimit(per.value, Scope(per), requests_per_minute=10**8, tokens_per_minute=10**9, concurrent=90_000)
    for per in (Per.SERVICE, Per.TEAM, Per.TENANT)
)
BUDGETS = tuple(
    Budget(f"{per.value}-{period.value}", period, Scope(per), 10**12, 10**11)
    for per in (Per.SERVICE, Per.TEAM)
    for period in (Period.DAY, Period.MONTH)
)


async def main(url: str) -> None:
    """Measure each part alone."""
    clock, ids, telemetry = SystemClock(), UuidIds(), RecordingTelemetry()
    nothing, rules = Policy("v", {}), Policy("v", {}, rate_limits=LIMITS, budgets=BUDGETS)
    async with connect_redis(url) as redis:
        money = RedisBudgetStore(redis, clock, gather_s=0)
        books = Bookkeeper(money, telemetry)
        reconciler = Reconciler(money, MemoryBudgetLedger(MemoryRecordStore()), clock, telemetry)

        def parts(policy: Policy) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
            limits = Limits(RedisLimitStore(redis, clock), lambda: policy, clock, telemetry)
            till = Till(money, books, reconciler, lambda: policy, clock, telemetry)

            async def admit() -> None:
                ticket = limits.ticket(CALLER, EndpointClass.GENERATE, ids.request_id())
                ticket.knock()
                await ticket.admit(lease_s=1, tokens=500, tags=TAGS)

            async def reserve() -> None:
                accounts = till.accounts(CALLER, TAGS, clock.now())
                if accounts:
                    await till.reserve("tenant", ids.request_id(), accounts, Decimal("0.01"), lease_s=1)

            return admit, reserve

        async def ping() -> None:
            await redis.ping()

        for name, work in (
            ("one Redis round trip (PING)", ping),
            ("limits, no rule", parts(nothing)[0]),
            ("limits, 3 rules, 9 meters", parts(rules)[0]),
            ("budgets, none", parts(nothing)[1]),
            ("budgets, 4 accounts", parts(rules)[1]),
        ):
            await report(name, work)
        stats = await redis.info("commandstats")
        usec = {name: value["usec_per_call"] for name, value in stats.items() if name == "cmdstat_evalsha"}
        print(f"in Redis, a script: {usec} us")


async def report(name: str, work: Callable[[], Awaitable[None]]) -> None:
    for _ in range(200):
        await work()
    taken_us = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        await work()
        taken_us.append(1e6 * (time.perf_counter() - began))
    cuts = statistics.quantiles(taken_us, n=100)
    print(f"{name:32} p50 {cuts[49]:7.1f} us   p99 {cuts[98]:7.1f} us")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as directory:
            server = Redis(Path(directory), Path(directory), Ports.free().redis)
            server.start()
            try:
                asyncio.run(main(server.url))
            finally:
                server.stop()
