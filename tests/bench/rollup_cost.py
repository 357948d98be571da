"""What rolling up costs: `python -m tests.bench.rollup_cost [--rows 100000] [--days 1] [--dsn DSN]`.

Starts a PostgreSQL of its own when no DSN is given (it must be an empty database at the newest schema). Loads some days
of requests, an attempt for each, rolls them up, asks what a dashboard asks, and then lets one late record come. Prints
seconds, CPU seconds of this process (the server's are not in them) and milliseconds; nothing is asserted.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from infra.local.application import migrate
from infra.local.environment import Ports
from infra.local.services import Postgres
from shared.analytics.sketches import quantiles
from shared.domain.analytics import AnalyticsQuery, Dimension, Granularity, SpendQuery, Subject
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.rollups import PostgresRollups
from tests.stores_builders import record

DAY = datetime(2026, 11, 5, tzinfo=UTC)
TENANT = "tenant-a"
_REQUESTS = """
    INSERT INTO requests (id, start_time, end_time, tenant_id, service_name, principal_id, endpoint, request_type,
        content_type, attachment_size, complexity_level, security_level, status, stream, requested_model, model_used,
        deployment_used, provider, region, input_tokens, output_tokens, cost_exact, ttft_ms, overhead_ms, error_code, tags,
        created_at)
    SELECT gen_random_uuid(), at, at + exp(random() * 5) * interval '100 ms', 'tenant-a',
           'service-' || floor(20 * random() * random()), 'p', '/api/v1/route', 'category-' || floor(random() * 8), 'text',
           0, 'low', 'internal', CASE WHEN failed THEN 'error' ELSE 'success' END, true, 'auto', 'model-' || number,
           'model-' || number || '@eu', 'gemini', 'europe-west4', floor(random() * 2000), floor(random() * 800),
           random()::numeric / 100, exp(random() * 4) * 20, 1 + random(), CASE WHEN failed THEN 'timeout' END,
           jsonb_build_object('team', 'team-' || floor(random() * 10)), at + interval '1 minute'
    FROM (
        SELECT %(day)s::timestamptz + n * %(length)s::interval / %(rows)s AS at,
               floor(6 * random() * random()) AS number, random() < 0.01 AS failed
        FROM generate_series(0, %(rows)s - 1) AS n
    ) AS made
"""
_ATTEMPTS = """
    INSERT INTO attempts (request_id, request_start_time, number, tenant_id, deployment_id, model_id, provider, region,
        started_at, duration_ms, outcome, ttft_ms, input_tokens, output_tokens, cost_exact)
    SELECT id, start_time, 1, tenant_id, deployment_used, model_used, provider, region, start_time, duration_ms,
           coalesce(error_code, 'success'), ttft_ms, input_tokens, output_tokens, cost_exact FROM requests
"""


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints how long the block took."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    yield
    cpu_s = time.process_time() - began_cpu_s
    print(f"{what:<58}{time.perf_counter() - began_s:>9.2f} s, {cpu_s:.2f} s of CPU here", flush=True)


async def roll_up(rollups: PostgresRollups, now: datetime) -> None:
    """Everything that is due, phase by phase."""
    for name, step in (
        ("minutes from the ledger", lambda: rollups.fold(now, tiers=(200_000,))),
        ("hours from minutes", lambda: rollups.merge(Granularity.HOUR)),
        ("the day from hours", lambda: rollups.merge(Granularity.DAY)),
    ):
        with timed(name):
            while await step():
                pass


async def ask(analytics: PostgresAnalytics, what: str, query: AnalyticsQuery) -> None:
    """A question, several times, with its quantiles."""
    took_ms = []
    for _ in range(7):
        began_s = time.perf_counter()
        rows = await analytics.rows(query)
        for row in rows:
            quantiles(row.latency, (0.5, 0.95, 0.99))
        took_ms.append(1000 * (time.perf_counter() - began_s))
    print(f"{what:<58}{statistics.median(took_ms):>9.1f} ms, {len(rows)} rows")


async def measure(dsn: str, rows: int, days: int) -> None:
    """Loads, rolls up, asks."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        with timed(f"load {rows:,} requests with their notes"):
            connection.execute("SELECT ensure_request_partitions(%s, %s)", (DAY, 1 + days // 28))
            connection.execute(_REQUESTS, {"day": DAY, "rows": rows, "length": timedelta(days=days)})
            connection.execute(_ATTEMPTS)
        connection.execute("ANALYZE")
    pool = PostgresPool(dsn, statement_timeout_s=120)
    rollups, analytics = PostgresRollups(pool, tag_keys=("team",)), PostgresAnalytics(pool)
    now = DAY + timedelta(days=days)
    await roll_up(rollups, now)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
        rolled = [f"{table}_{one.value}" for table in ("analytics", "model_performance") for one in Granularity]
        for name in (*rolled, "analytics_slices"):
            size = connection.execute(
                f"SELECT count(*), pg_size_pretty(pg_total_relation_size('{name}')) FROM {name}"  # noqa: S608 - constants
            ).fetchone()
            print(f"{name:<58}{size[0] if size else 0:>9,} rows, {size[1] if size else ''}")
    hours = tuple(DAY + timedelta(hours=hour) for hour in range(25))
    await ask(analytics, "a day by hour", AnalyticsQuery(TENANT, hours))
    await ask(analytics, "a day by hour and model", AnalyticsQuery(TENANT, hours, group_by=(Dimension.MODEL,)))
    await ask(analytics, "a day by hour and service, no distributions",
              AnalyticsQuery(TENANT, hours, group_by=(Dimension.SERVICE,), sketches=False))  # fmt: skip
    await ask(analytics, "all by team", AnalyticsQuery(TENANT, (DAY, now), group_by=(Dimension.TAG,), tag_key="team"))
    await ask(analytics, "all by deployment, of attempts",
              AnalyticsQuery(TENANT, (DAY, now), group_by=(Dimension.DEPLOYMENT,), subject=Subject.ATTEMPTS))  # fmt: skip
    await ask(analytics, "all by service, model and category: no slice has it",
              AnalyticsQuery(TENANT, (DAY, now), (Dimension.SERVICE, Dimension.MODEL, Dimension.CATEGORY)))  # fmt: skip
    by_day = tuple(DAY + timedelta(days=day) for day in range(days + 1))
    by_hour = tuple(DAY + timedelta(hours=hour) for hour in range(24 * days + 1))
    if days > 1:
        await ask(analytics, f"{days} days by day", AnalyticsQuery(TENANT, by_day))
        await ask(analytics, f"{days} days by day and model", AnalyticsQuery(TENANT, by_day, (Dimension.MODEL,)))
        await ask(analytics, f"{days} days by day and service", AnalyticsQuery(TENANT, by_day, (Dimension.SERVICE,)))
        await ask(analytics, f"{days} days by hour, first page", AnalyticsQuery(TENANT, by_hour, limit=100))
        await ask(analytics, f"{days} days by hour and model, first page",
                  AnalyticsQuery(TENANT, by_hour, (Dimension.MODEL,), limit=100))  # fmt: skip
    began_s = time.perf_counter()
    spent = await analytics.spend(SpendQuery(TENANT, by_day))
    print(f"{'what savings are computed from':<58}{1000 * (time.perf_counter() - began_s):>9.1f} ms, {len(spent)} rows")
    await PostgresRecordStore(pool).insert([record(start_time=DAY + timedelta(hours=7), end_time=DAY)])
    print("one late record:")
    await roll_up(rollups, now)
    with timed("the same, when minutes are not kept any more"):
        await PostgresRecordStore(pool).insert([record(start_time=DAY + timedelta(hours=7), end_time=DAY)])
        await roll_up(rollups, now + timedelta(days=9))
    await pool.aclose()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--dsn")
    options = parser.parse_args()
    if options.dsn:
        asyncio.run(measure(options.dsn, options.rows, options.days))
        return
    with tempfile.TemporaryDirectory() as directory:
        server = Postgres(Path(directory) / "postgres", Path(directory), Ports.free().postgres, durable=False)
        server.start()
        try:
            migrate(server.dsn)
            asyncio.run(measure(server.dsn, options.rows, options.days))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
