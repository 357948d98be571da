"""The demo in a database: loaded once however often, counted in rollups and budgets, and taken away without a trace."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from infra.demo.loading import Demo
from infra.demo.story import Story
from shared.config import REGISTRY_DIRECTORY
from shared.domain.analytics import AnalyticsQuery, Dimension
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.registry_files import load_registry
from tests.stores_builders import record

STORY = Story(datetime(2026, 10, 29, 16, tzinfo=UTC), 7)
TENANT = "tenant-a"
REQUESTS = 600


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn)
    yield pool
    await pool.aclose()


@pytest.fixture
async def demo(postgres_dsn: str) -> AsyncIterator[Demo]:
    registry = load_registry(REGISTRY_DIRECTORY)
    demo = Demo(postgres_dsn, tenant_id=TENANT, registry=registry, tag_keys=("team",), say=lambda _: None)
    yield demo
    await demo.aclose()


async def rows(pool: PostgresPool, statement: bytes) -> list[Any]:
    async with pool.connection(timeout_s=20) as connection:
        return await (await connection.execute(statement)).fetchall()


async def counts(pool: PostgresPool) -> dict[str, int]:
    tables = ("requests", "attempts", "feedback", "budget_spend", "security_events", "analytics", "analytics_slices")
    return {table: (await rows(pool, f"SELECT count(*) FROM {table}".encode()))[0][0] for table in tables}  # noqa: S608 - the list above


async def test_it_is_loaded_once_and_leaves_without_a_trace(demo: Demo, pool: PostgresPool) -> None:
    # Real traffic of the same tenant and hours stays as it is.
    real = record(tenant_id=TENANT, start_time=STORY.since, end_time=STORY.since, tags=(("team", "real"),))
    await PostgresRecordStore(pool).insert([real])
    assert await demo.since() is None
    first = await demo.load(STORY, requests=REQUESTS, seed=1, policy_version="p")
    assert first.requests == REQUESTS
    assert first.ratings > 0
    assert first.events > 0
    there = await counts(pool)
    begin = await demo.since()
    assert begin is not None
    assert begin == STORY.since
    again = await demo.load(STORY, requests=REQUESTS, seed=1, policy_version="p")
    assert (again.requests, again.ratings, again.events) == (0, 0, 0)
    assert await counts(pool) == there

    edges = (STORY.since, STORY.until)
    (total,) = await PostgresAnalytics(pool).rows(AnalyticsQuery(TENANT, edges))
    ((cost, ratings),) = await rows(
        pool, b"SELECT sum(cost_exact), (SELECT count(DISTINCT request_id) FROM feedback) FROM requests"
    )
    assert (total.count, total.cost_usd, total.ratings) == (REQUESTS + 1, cost, ratings)
    assert total.late == 1  # the real one, which was written weeks after
    query = AnalyticsQuery(TENANT, edges, (Dimension.TAG,), tag_key="team")
    assert len(await PostgresAnalytics(pool).rows(query)) == 7
    ((spent,),) = await rows(pool, b"SELECT sum(micro_usd) FROM budget_spend WHERE account LIKE 'demo-service-day/%'")
    assert Decimal(0) <= spent - (cost - real.cost_usd) * 1_000_000 < REQUESTS

    gone = await demo.remove()
    assert gone["requests"] == REQUESTS
    assert await demo.since() is None
    left = await counts(pool)
    assert left["requests"] == 1
    assert left["attempts"] == len(real.attempts)
    assert [left[name] for name in ("feedback", "budget_spend", "security_events")] == [0, 0, 0]
    (remaining,) = await PostgresAnalytics(pool).rows(AnalyticsQuery(TENANT, edges))
    assert (remaining.count, remaining.cost_usd) == (1, real.cost_usd)
