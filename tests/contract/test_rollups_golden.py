"""Every aggregate against a slow reference over the records themselves, on PostgreSQL; late and doubled arrivals."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.analytics import MINUTES_KEPT, AnalyticsQuery, Dimension, SpendQuery, Subject
from shared.domain.quality_signals import Evidence, Sign
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import Usage
from shared.stores.postgres.pool import PostgresPool
from tests.rollup_world import RollupWorld, feedback
from tests.stores_builders import IDS, attempt, record

DAY = datetime(2026, 11, 5, tzinfo=UTC)
MINUTES = tuple(DAY + timedelta(hours=20, minutes=minute) for minute in range(0, 28 * 60, 7))
HOURS = tuple(DAY + timedelta(hours=hour) for hour in range(49))
DAYS = (DAY, DAY + timedelta(days=1), DAY + timedelta(days=2))
NOW = DAY + timedelta(days=2)
T = "tenant-a"
_TOKENS = st.integers(0, 300_000)
_USAGE = st.builds(
    Usage,
    input_tokens=_TOKENS,
    cache_read_tokens=_TOKENS,
    output_tokens=_TOKENS,
    thinking_tokens=st.sampled_from((0, 7, 2**62)),
    estimated=st.booleans(),
)
_COST = st.decimals(0, 100, places=12)
_MS = st.floats(0, 1e7)
_SCORED = st.sampled_from(
    [
        {"quality_score": None, "quality_source": None, "quality_signs": ""},
        {"quality_score": None, "quality_source": None, "quality_signs": "cut_at_limit"},
        {"quality_score": 0.5, "quality_source": "signals", "quality_signs": "truncated"},
        {"quality_score": 0.0, "quality_source": "signals", "quality_signs": "empty,truncated"},
    ]
)


def evidence(one: RequestRecord, kind: str, score: float) -> Evidence:
    said = {"score": score, "judge_model": "m9"} if kind == "judge" else {"sign": Sign(kind)}
    return Evidence(one.tenant_id, one.id, one.start_time, NOW, **said)


@st.composite
def records(draw: st.DrawFn) -> RequestRecord:
    start = DAY + timedelta(seconds=draw(st.integers(0, 2 * 86_400 - 1)))
    status = draw(st.sampled_from(RequestStatus))
    tries = draw(st.integers(0, 2))
    return record(
        id=IDS.request_id(),
        tenant_id=draw(st.sampled_from((T, T, "tenant-b"))),
        service_name=draw(st.sampled_from(("checkout", "search"))),
        model_used=draw(st.sampled_from(("m1", "m2", None))),
        deployment_used=draw(st.sampled_from(("m1@eu", "m2@us", None))),
        request_type=draw(st.sampled_from(("code", "math"))),
        start_time=start,
        end_time=start + timedelta(milliseconds=draw(st.integers(0, 90_000))),
        status=status,
        error_code=draw(st.sampled_from(("timeout", "rate_limited"))) if status is RequestStatus.ERROR else None,
        usage=draw(_USAGE),
        cost_usd=draw(_COST),
        saved_usd=draw(_COST),
        cache=draw(st.sampled_from(("hit", "semantic_hit", "miss", "off"))),
        ttft_ms=draw(st.none() | _MS),
        overhead_ms=draw(_MS),
        **draw(_SCORED),
        tags=tuple(
            draw(st.dictionaries(st.sampled_from(("team", "feature", "user")), st.sampled_from(("a", "b", "")))).items()
        ),
        attempts=tuple(
            attempt(
                number + 1,
                outcome=draw(st.sampled_from(("success", "timeout"))),
                duration_ms=draw(_MS),
                ttft_ms=draw(st.none() | _MS),
                usage=draw(_USAGE),
                cost_usd=draw(_COST),
            )
            for number in range(tries)
        ),
    )


QUERIES = [
    AnalyticsQuery(T, HOURS, group_by=tuple(dimensions), tag_key="team" if Dimension.TAG in dimensions else "")
    for dimensions in (
        (),
        (Dimension.MODEL,),
        (Dimension.SERVICE, Dimension.CATEGORY),
        (Dimension.DEPLOYMENT, Dimension.TAG),
    )
] + [
    AnalyticsQuery(T, DAYS, group_by=(Dimension.SERVICE,)),
    AnalyticsQuery(T, (DAYS[0], DAYS[-1])),
    AnalyticsQuery(T, (HOURS[3], HOURS[31]), group_by=(Dimension.MODEL,), sketches=False),
    AnalyticsQuery(T, (HOURS[3], HOURS[48])),
    AnalyticsQuery(T, (HOURS[3], HOURS[9], HOURS[48]), group_by=(Dimension.SERVICE, Dimension.MODEL, Dimension.CATEGORY)),
    AnalyticsQuery(T, DAYS, (Dimension.SERVICE, Dimension.MODEL, Dimension.CATEGORY), sketches=False),
    AnalyticsQuery(T, DAYS, (Dimension.SERVICE,), only=frozenset({"cost_usd", "usage"})),
    AnalyticsQuery(T, HOURS, only=frozenset({"error_codes", "overhead"})),
    AnalyticsQuery(T, DAYS, only=frozenset({"succeeded"}), subject=Subject.ATTEMPTS),
    AnalyticsQuery(T, MINUTES, (Dimension.MODEL,)),
    AnalyticsQuery(T, MINUTES, (Dimension.SERVICE,), {Dimension.SERVICE: ("search",)}),
    AnalyticsQuery(T, MINUTES),
    AnalyticsQuery(T, MINUTES, (Dimension.CATEGORY,)),
    AnalyticsQuery(T, DAYS, filters={Dimension.TAG: ("a",), Dimension.MODEL: ("m1", "")}, tag_key="feature"),
    AnalyticsQuery(T, DAYS, tag_key="user"),
    AnalyticsQuery(T, HOURS, subject=Subject.ATTEMPTS, group_by=(Dimension.DEPLOYMENT,)),
    AnalyticsQuery(T, DAYS, subject=Subject.ATTEMPTS),
]  # fmt: skip

SPENDS = [
    SpendQuery(T, HOURS),
    SpendQuery(T, (HOURS[5], *DAYS[1:]), group_by=()),
    SpendQuery(T, DAYS, group_by=(Dimension.SERVICE,), without_models=("m1",)),
    SpendQuery(T, DAYS, group_by=(Dimension.MODEL,), services=("search", "nobody")),
    SpendQuery(T, DAYS, without_services=("search",), without_models=("",)),
]


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


@pytest.fixture
async def world(pool: PostgresPool) -> RollupWorld:
    world = RollupWorld(pool, NOW)
    await world.clear()
    return world


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
async def test_rollups_say_what_the_records_say_however_they_arrive(pool: PostgresPool, data: st.DataObject) -> None:
    world = RollupWorld(pool, NOW)
    await world.clear()
    made = data.draw(st.lists(records(), min_size=1, max_size=25))
    rated = data.draw(st.lists(st.tuples(st.sampled_from(made), st.floats(0, 1), st.sampled_from("pq")), max_size=10))
    waves = data.draw(st.lists(st.lists(st.sampled_from(made), min_size=1, max_size=12), max_size=4))
    found = data.draw(
        st.lists(
            st.tuples(st.sampled_from(made), st.sampled_from(("judge", "retried", "schema_invalid")), st.floats(0, 1)),
            max_size=10,
        )
    )
    for one, score, principal in rated[::2]:
        await world.rate(feedback(one, score=score, principal_id=principal))
    await world.find(*(evidence(*one) for one in found[::2]))
    for wave in [*waves, made]:
        # Some of these came before: the queue gives a message twice.
        await world.arrive(wave, data.draw(st.sampled_from((timedelta(), timedelta(minutes=2), timedelta(hours=3)))))
        if data.draw(st.booleans()):
            await world.settle()
        if data.draw(st.booleans()):
            await world.roll_up()
    for one, score, principal in rated[1::2]:
        await world.rate(feedback(one, score=score, principal_id=principal))
    await world.find(*(evidence(*one) for one in found[1::2]))
    await world.roll_up()  # feedback finds its record here
    await world.settle()
    await world.roll_up()
    assert await world.settle() == 0
    for query in QUERIES:
        await world.agree(query if query.tag_key != "user" else replace(query, tenant_id="nobody"))
    for spent in SPENDS:
        assert list(await world.analytics.spend(spent)) == list(await world.twin.spend(spent))
    assert (await world.analytics.freshness()).pending == 0


async def test_rolling_up_again_changes_nothing(world: RollupWorld) -> None:
    await world.arrive([record(start_time=DAY + timedelta(minutes=n), end_time=NOW) for n in range(90)])
    assert await world.roll_up() > 0
    before = [await world.rows_of(table) for table in ("analytics", "model_performance")]
    assert await world.roll_up() == 0
    async with world.pool.connection(timeout_s=5) as connection:
        await connection.execute(b"UPDATE requests SET trace_id = NULL")
    assert await world.roll_up() > 0
    assert [await world.rows_of(table) for table in ("analytics", "model_performance")] == before


async def test_a_late_record_of_an_hour_whose_minutes_are_gone_keeps_the_others(world: RollupWorld) -> None:
    old = DAY - 2 * MINUTES_KEPT
    batch = [record(start_time=old + timedelta(minutes=n), end_time=old + timedelta(hours=1)) for n in range(60)]
    await world.arrive(batch)
    await world.roll_up()
    await world.rollups.purge_minutes(NOW)
    assert await world.rows_of("analytics_minute") == []
    assert not [row for row in await world.rows_of("analytics_slices") if row[0] == "minute"]
    await world.arrive([record(start_time=old + timedelta(minutes=7), end_time=old)], timedelta(days=4))
    await world.roll_up()
    edges = tuple(old + timedelta(hours=hour) for hour in range(25))
    (row,) = await world.analytics.rows(AnalyticsQuery(T, edges))
    assert (row.count, row.late) == (61, 1)
    await world.agree(AnalyticsQuery(T, edges))
    await world.agree(AnalyticsQuery(T, (edges[0], edges[-1])))


async def test_minutes_stay_until_their_hours_are_up_to_date(world: RollupWorld) -> None:
    old = DAY - 2 * MINUTES_KEPT
    await world.arrive([record(start_time=old, end_time=old)])
    await world.rollups.fold(NOW, tiers=())
    await world.rollups.purge_minutes(NOW)
    assert len(await world.rows_of("analytics_minute")) == 3  # one that counts every request, and one for each tag
    await world.roll_up()
    await world.rollups.purge_minutes(NOW)
    assert await world.rows_of("analytics_minute") == []
    assert len(await world.rows_of("analytics_day")) == 3


async def test_rare_values_of_a_tag_are_counted_together_at_every_level(
    world: RollupWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.stores.postgres.rollups.MOST_TAG_VALUES", 2)
    made = [
        record(start_time=DAY + timedelta(minutes=minute), end_time=DAY, tags=(("team", f"t{value}"),))
        for minute, value in itertools.chain(
            ((0, v) for v in (1, 1, 1, 2, 2, 3, 4)), ((61, v) for v in (5, 5, 5, 5, 6))
        )
    ]
    await world.arrive(made)
    await world.roll_up()
    query = AnalyticsQuery(T, DAYS, group_by=(Dimension.TAG,), tag_key="team")
    assert {row.group: row.count for row in await world.analytics.rows(query)} == {
        ("t5",): 4,
        ("t1",): 3,
        ("(other)",): 5,
    }
    assert sum(row.count for row in await world.analytics.rows(AnalyticsQuery(T, DAYS))) == 12


async def test_absurd_numbers_do_not_stop_the_rollups(world: RollupWorld) -> None:
    absurd = Usage(input_tokens=2**63 - 1, output_tokens=2**63 - 1)
    value = "模" * 512
    made = [
        record(start_time=DAY, end_time=DAY, usage=absurd, overhead_ms=1e308, ttft_ms=-5.0, tags=(("team", value),),
               cost_usd=Decimal("1e-25"))
        for _ in range(3)
    ]  # fmt: skip
    await world.arrive(made)
    await world.roll_up()
    await world.agree(AnalyticsQuery(T, DAYS))
    await world.agree(AnalyticsQuery(T, DAYS, group_by=(Dimension.TAG,), tag_key="team"))


async def test_pages_follow_one_another_without_gap_or_double(world: RollupWorld) -> None:
    made = [
        record(start_time=DAY + timedelta(hours=n % 5), end_time=DAY, model_used=f"m{n % 3}", service_name="äbc"[n % 3])
        for n in range(30)
    ]
    await world.arrive(made)
    await world.roll_up()
    query = AnalyticsQuery(T, HOURS, group_by=(Dimension.MODEL, Dimension.SERVICE), limit=4)
    found: list[Any] = []
    while True:
        page = list(await world.analytics.rows(query))
        await world.agree(query)
        found += page[: query.limit]
        if len(page) <= query.limit:
            break
        query = replace(query, after=(page[query.limit - 1].start, page[query.limit - 1].group))
    assert comparable_keys(found) == comparable_keys(await world.twin.rows(replace(query, after=None, limit=100)))
    assert len(found) == 15


def comparable_keys(rows: Any) -> list[Any]:
    return [(row.start, row.group, row.count) for row in rows]
