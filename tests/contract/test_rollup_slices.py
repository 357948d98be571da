"""Slices are the sums of the rollups: those that are made with a bucket, and those that the migration makes of old ones."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from shared.analytics.sketches import compact, count_of
from shared.domain.analytics import AnalyticsQuery, Dimension
from shared.domain.records import RequestStatus
from shared.stores.postgres.analytics import statement_of
from shared.stores.postgres.migrate import read_migrations
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.rollup_slices import slice_for
from tests.rollup_world import RollupWorld
from tests.stores_builders import record

DAY = datetime(2026, 11, 5, tzinfo=UTC)
NOW = DAY + timedelta(days=1)
T = "tenant-a"
SPLIT = ("service_name", "model_id", "deployment_id", "category", "prompt_above_tokens")


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn)
    yield pool
    await pool.aclose()


@pytest.fixture
async def world(pool: PostgresPool) -> RollupWorld:
    world = RollupWorld(pool, NOW)
    await world.clear()
    kinds = product(("a", "b"), ("m", "n"), ("math", "code"), ("x", "y"), (0, 1, 2))
    await world.arrive(
        [
            record(
                start_time=DAY + timedelta(minutes=37 * number),
                end_time=DAY + timedelta(minutes=37 * number, seconds=1 + number),
                service_name=service,
                model_used=model,
                deployment_used=f"{model}@{place}",
                request_type=category,
                status=RequestStatus.ERROR if place == 1 else RequestStatus.SUCCESS,
                error_code="provider_timeout" if place == 1 else None,
                cost_usd=Decimal(number) / 8,
                tags=(("team", team),),
            )
            for number, (service, model, category, team, place) in enumerate(kinds)
        ]
    )
    await world.roll_up()
    return world


async def rows(world: RollupWorld, statement: str) -> list[Any]:
    async with world.pool.connection(timeout_s=20) as connection:
        return await (await connection.execute(statement.encode())).fetchall()


async def slices(world: RollupWorld) -> list[tuple[Any, ...]]:
    """All of them, with distributions such that equal ones are equal."""
    found = await rows(
        world,
        "SELECT kept, granularity, bucket, tag_key, tag_value, status, error_code, reused, service_name, model_id, "
        "deployment_id, category, prompt_above_tokens, requests, cost_usd, output_tokens, ratings, latency, ttft, overhead "
        "FROM analytics_slices",
    )
    return sorted((*row[:-3], *map(compact, row[-3:])) for row in found)


async def test_each_slice_adds_up_to_the_rollups(world: RollupWorld) -> None:
    found = await rows(world, "SELECT DISTINCT kept, tag_key <> '', granularity = 'minute' FROM analytics_slices")
    assert len(found) == 16
    for kept, by_tag, of_minutes in found:
        within = f"granularity {'=' if of_minutes else '<>'} 'minute'"
        columns = [] if kept == "all" else kept.split(",")
        keys = ", ".join(("granularity", "bucket", "tag_key", "tag_value", "status", "error_code", "reused", *columns))
        has_sketches = kept != "service_name,model_id,category"
        sums = "sum(requests), sum(cost_usd), sum(late), sum(output_tokens)"
        sums += ", sum(length(overhead)) > 0" if has_sketches else ""
        where = f"tag_key {'<>' if by_tag else '='} ''"
        expected, sliced = [
            await rows(world, f"SELECT {keys}, {sums} FROM {table} WHERE {which} AND {where} GROUP BY {keys} ORDER BY {keys}")  # noqa: S608 - names from the table itself
            for table, which in (("analytics", within), ("analytics_slices", f"{within} AND kept = '{kept}'"))
        ]  # fmt: skip
        assert sliced == expected
        assert expected
        ((held, count),) = await rows(
            world,
            f"SELECT string_agg(overhead, ''), sum(requests) FROM analytics_slices "  # noqa: S608 - likewise
            f"WHERE kept = '{kept}' AND {where} AND {within}",
        )
        assert count_of(held) == (count if has_sketches else 0)
        # One row for each combination: what a slice does not keep tells none apart.
        ((surplus,),) = await rows(
            world,
            f"SELECT count(*) FROM (SELECT FROM analytics_slices WHERE kept = '{kept}' AND {where} AND {within} "  # noqa: S608 - likewise
            f"GROUP BY {keys} HAVING count(*) > 1) AS doubled",
        )
        assert surplus == 0


async def test_sums_of_three_things_have_a_slice_without_distributions(world: RollupWorld) -> None:
    query = AnalyticsQuery(T, (DAY, NOW), (Dimension.SERVICE, Dimension.MODEL, Dimension.CATEGORY), sketches=False)
    assert statement_of(query)[1]["kept"] == "service_name,model_id,category"
    await world.agree(query)
    assert statement_of(replace(query, only=frozenset({"latency"}), sketches=True))[1]["kept"] is None


@pytest.mark.parametrize(
    ("groups", "tag_key", "kept"),
    [
        ((), "", "all"),
        ((Dimension.SERVICE,), "", "service_name"),
        ((Dimension.MODEL,), "", "model_id"),
        ((Dimension.SERVICE, Dimension.MODEL), "", None),
        ((Dimension.TAG,), "team", None),
    ],
)
async def test_minutes_have_slices_of_their_own(
    world: RollupWorld, groups: Sequence[Dimension], tag_key: str, kept: str | None
) -> None:
    edges = (DAY + timedelta(minutes=1), DAY + timedelta(minutes=40), NOW)
    query = AnalyticsQuery(T, edges, tuple(groups), tag_key=tag_key)
    assert statement_of(query)[1]["kept"] == kept
    await world.agree(query)


@pytest.mark.parametrize(
    ("groups", "filters", "tag_key", "kept"),
    [
        ((), (), "", "all"),
        ((Dimension.MODEL,), (), "", "model_id"),
        ((Dimension.CATEGORY,), (Dimension.SERVICE,), "", "service_name,category"),
        ((Dimension.SERVICE, Dimension.MODEL), (), "", "service_name,model_id,prompt_above_tokens"),
        ((Dimension.TAG,), (), "team", "all"),
        ((Dimension.TAG,), (Dimension.SERVICE,), "team", "service_name"),
        ((Dimension.TAG, Dimension.DEPLOYMENT), (), "team", None),
        ((Dimension.SERVICE, Dimension.MODEL, Dimension.CATEGORY), (), "", None),
    ],
)
async def test_a_question_takes_the_smallest_slice_that_answers_it(
    world: RollupWorld, groups: Sequence[Dimension], filters: Sequence[Dimension], tag_key: str, kept: str | None
) -> None:
    wanted = dict.fromkeys(filters, ("a",))
    query = AnalyticsQuery(T, (DAY, NOW), tuple(groups), wanted, tag_key=tag_key)
    statement, values = statement_of(query)
    assert values["kept"] == kept
    assert (b"analytics_slices" in statement) == (kept is not None)
    await world.agree(query)


def test_no_slice_is_taken_that_lacks_a_column() -> None:
    for size in range(2 ** len(SPLIT)):
        columns = {column for place, column in enumerate(SPLIT) if size & 2**place}
        for by_tag, of_minutes, sketches in product((False, True), repeat=3):
            kept = slice_for(columns, by_tag=by_tag, of_minutes=of_minutes, sketches=sketches)
            assert kept is None or columns <= set(kept.split(","))


async def test_the_migration_slices_what_was_rolled_up_before(world: RollupWorld) -> None:
    expected = await slices(world)
    migrations = [migration for migration in read_migrations() if migration.name.endswith("_slices.sql")]
    async with world.pool.connection(timeout_s=20) as connection:
        await connection.execute(b"DROP TABLE analytics_slices")
        for migration in migrations:
            await connection.execute(migration.sql.encode())
    assert await slices(world) == expected
    assert len(expected) > 300
