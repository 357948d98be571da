"""Feedback: what `FeedbackStore` promises, held by PostgreSQL and by its twin; then what waits for its record."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.domain.analytics import AnalyticsQuery
from shared.domain.errors import NotFound
from shared.domain.feedback import WAITING, Feedback, FeedbackState
from shared.stores.postgres.pool import PostgresPool
from tests.rollup_world import RollupWorld, feedback
from tests.stores_builders import record

DAY = datetime(2026, 11, 5, tzinfo=UTC)
DAYS = (DAY, DAY + timedelta(days=1))


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


@pytest.fixture
async def world(pool: PostgresPool) -> RollupWorld:
    world = RollupWorld(pool, DAY + timedelta(hours=2))
    await world.clear()
    return world


@pytest.fixture(params=["postgres", "memory"])
def store(request: pytest.FixtureRequest, world: RollupWorld) -> Any:
    return world.feedback if request.param == "postgres" else world.twin_feedback


def made(**fields: Any) -> Any:
    return record(start_time=DAY + timedelta(hours=1), end_time=DAY + timedelta(hours=1), **fields)


async def test_feedback_counts_when_its_request_is_in_the_ledger(world: RollupWorld, store: Any) -> None:
    one = made()
    assert await store.put(feedback(one)) is FeedbackState.WAITING
    await world.arrive([one])
    assert await store.put(feedback(one)) is FeedbackState.COUNTED


async def test_another_services_request_is_not_found(world: RollupWorld, store: Any) -> None:
    one = made()
    await world.arrive([one])
    with pytest.raises(NotFound, match="request_id"):
        await store.put(feedback(one, service="search"))


async def test_another_tenants_request_looks_like_one_that_has_not_arrived(world: RollupWorld, store: Any) -> None:
    one = made()
    await world.arrive([one])
    assert await store.put(feedback(one, tenant_id="tenant-b")) is FeedbackState.WAITING


async def _quality(world: RollupWorld) -> tuple[int, float]:
    await world.roll_up()
    await world.agree(AnalyticsQuery("tenant-a", DAYS))
    (row,) = await world.analytics.rows(AnalyticsQuery("tenant-a", DAYS))
    return row.ratings, row.rating_sum


async def _rate(world: RollupWorld, *given: Feedback) -> None:
    for one in given:
        await world.rate(one)


async def test_saying_it_again_replaces_what_was_said(world: RollupWorld) -> None:
    one = made()
    await world.arrive([one])
    await _rate(world, feedback(one, score=1.0), feedback(one, score=0.25), feedback(one, score=0.25))
    assert await _quality(world) == (1, 0.25)
    assert len(await world.rows_of("feedback")) == 1


async def test_a_request_that_several_rated_counts_once_with_their_mean(world: RollupWorld) -> None:
    one = made()
    await world.arrive([one, made()])
    await _rate(world, feedback(one, score=1.0), feedback(one, score=0.5, principal_id="q"))
    assert await _quality(world) == (1, 0.75)


async def test_feedback_that_came_first_counts_once_its_record_has_come(world: RollupWorld) -> None:
    one, foreign = made(), made()
    await _rate(world, feedback(one, score=0.5))
    await world.feedback.put(feedback(foreign, service="search", score=0.0))
    await world.feedback.put(feedback(foreign, tenant_id="tenant-b", score=0.0))
    await world.arrive([one, foreign])
    assert await _quality(world) == (1, 0.5)


async def test_feedback_is_given_up_after_a_week(world: RollupWorld) -> None:
    one = made()
    await world.feedback.put(feedback(one))
    await world.rollups.join_feedback(one.end_time + WAITING)
    assert len(await world.rows_of("feedback")) == 1
    await world.rollups.join_feedback(one.end_time + WAITING + timedelta(seconds=1))
    assert await world.rows_of("feedback") == []


async def test_those_that_wait_in_vain_do_not_keep_the_others_out(
    world: RollupWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.stores.postgres.rollups._FEEDBACK_A_STEP", 2)
    lost, last = [made() for _ in range(5)], made()
    for one in lost:
        await world.feedback.put(feedback(one, given_at=DAY))
    await world.rate(feedback(last))
    await world.arrive([last])
    for minute in range(3):
        await world.rollups.join_feedback(world.now + timedelta(minutes=minute))
    assert await _quality(world) == (1, 1.0)


async def test_late_feedback_changes_the_bucket_of_its_request(world: RollupWorld) -> None:
    one = made()
    await world.arrive([one])
    assert await _quality(world) == (0, 0.0)
    later = replace(feedback(one, score=0.5), given_at=one.end_time + timedelta(days=30))
    await world.rate(later)
    assert await _quality(world) == (1, 0.5)
