"""What the administrators' pages cost: `python -m tests.bench.administration_cost --dsn DSN --now INSTANT [--tenant T]`.

Asks every page of a database that holds rolled-up requests up to an instant, such as one that `tests.bench.rollup_cost
--dsn` or `make demo-data` left behind. Prints wall and CPU milliseconds of this process; nothing is asserted.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from shared.config import REGISTRY_DIRECTORY
from shared.domain.health import HealthRules
from shared.services.analytics import Analytics
from shared.services.budget_outlook import BudgetOutlook
from shared.services.business import Business, Question
from shared.services.deployment_health import DeploymentHealth
from shared.services.overview import Overview
from shared.services.slos import Slos
from shared.stores.memory import ManualClock
from shared.stores.memory_budgets import MemoryBudgetStore
from shared.stores.memory_health import MemoryHealthStore
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.budgets import PostgresBudgetLedger
from shared.stores.postgres.pool import PostgresPool
from shared.stores.registry_files import load_registry
from shared.telemetry.recording import RecordingTelemetry
from tests.unit.routing_builders import policy

_ROUNDS = 7


async def ask(what: str, page: Callable[[], Awaitable[object]]) -> None:
    """A page, several times, with its median."""
    took_ms, cpu_ms = [], []
    for _ in range(_ROUNDS):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        await page()
        took_ms.append(1000 * (time.perf_counter() - began_s))
        cpu_ms.append(1000 * (time.process_time() - began_cpu_s))
    print(f"{what:<40}{statistics.median(took_ms):>9.1f} ms, least {min(took_ms):.1f}; CPU here {min(cpu_ms):.1f} ms")


async def measure(dsn: str, now: datetime, tenant: str) -> None:
    """All pages."""
    clock = ManualClock(now)
    pool = PostgresPool(dsn, max_size=3)
    store, registry = PostgresAnalytics(pool), load_registry(REGISTRY_DIRECTORY)
    analytics, rules = Analytics(store, lambda: registry, {}), policy()
    outlook = BudgetOutlook(store, PostgresBudgetLedger(pool), MemoryBudgetStore(clock), lambda: rules, ("team",))
    health = DeploymentHealth(
        MemoryHealthStore(clock), HealthRules(), clock, RecordingTelemetry(), random.Random(1), worker_id="bench"
    )
    slos = Slos(store, clock)
    overview = Overview(store, analytics, slos, outlook, health, lambda: registry, clock, {})
    business = Business(store, analytics, outlook, lambda: registry, lambda: rules, clock, has_former=False)
    until, utc = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1), ZoneInfo("UTC")
    await ask("slos", lambda: slos.report(tenant))
    await ask("slos by service", lambda: slos.report(tenant, by_service=True))
    await ask("real-time, 15 minutes", lambda: overview.real_time(tenant, 15))
    await ask("real-time, 120 minutes", lambda: overview.real_time(tenant, 120))
    for days in (1, 30):
        since = until - timedelta(days=days)
        before = since - timedelta(days=days)
        await ask(f"dashboard, {days} days", lambda s=since, b=before: overview.dashboard(tenant, s, until, b, utc))
        asked = Question(tenant, since, until, before, tag_key="team")
        await ask(f"business view, {days} days", lambda q=asked: business.report(q))
        await ask(f"savings, {days} days", lambda s=since: analytics.savings(tenant, s, until))
    await pool.aclose()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--now", type=datetime.fromisoformat, required=True)
    parser.add_argument("--tenant", default="tenant-a")
    options = parser.parse_args()
    asyncio.run(measure(options.dsn, options.now, options.tenant))


if __name__ == "__main__":
    main()
