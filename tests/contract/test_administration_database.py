"""What administrators read, from rollups in PostgreSQL, against SQL over the ledger's own rows."""

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from shared.analytics.cards import compared_spans
from shared.analytics.slo import SPANS
from shared.domain.budgets import Period
from shared.domain.health import HealthRules
from shared.domain.records import RequestStatus
from shared.domain.replies import Usage
from shared.services.analytics import Analytics
from shared.services.budget_outlook import BudgetOutlook
from shared.services.business import Business, Question
from shared.services.deployment_health import DeploymentHealth
from shared.services.overview import Overview
from shared.services.slos import Slos
from shared.stores.memory_budgets import MemoryBudgetStore
from shared.stores.memory_health import MemoryHealthStore
from shared.stores.postgres.budgets import PostgresBudgetLedger
from shared.stores.postgres.pool import PostgresPool
from shared.stores.system import SystemClock
from shared.telemetry.recording import RecordingTelemetry
from tests.administration_world import SHELF
from tests.budget_builders import budget
from tests.rollup_world import RollupWorld
from tests.stores_builders import record
from tests.unit.routing_builders import policy

T = "tenant-a"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
_FAULTS = """
    SELECT count(*) FILTER (WHERE status = 'success' OR error_code IN ('provider_timeout', 'internal_error')
                               OR status = 'abandoned')::float,
           count(*) FILTER (WHERE error_code IN ('provider_timeout', 'internal_error') OR status = 'abandoned')::float,
           count(*) FILTER (WHERE status = 'success')::float,
           count(*) FILTER (WHERE status = 'success' AND duration_ms > 5000)::float,
           coalesce(sum(duration_ms) FILTER (WHERE status = 'success'), 0)
    FROM requests WHERE tenant_id = %s AND start_time >= %s AND start_time < %s
"""
_COSTS = """
    SELECT service_name, sum(cost_exact), count(*) FROM requests
    WHERE tenant_id = %s AND start_time >= %s AND start_time < %s GROUP BY 1 ORDER BY 2 DESC, 1
"""


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


@pytest.fixture(scope="module")
async def world(pool: PostgresPool) -> RollupWorld:
    """Six weeks of requests up to now, which is where the database's own clock lets windows end."""
    now = SystemClock().now()
    if now.minute < 2:
        # An hour of which no minute is complete is in no series yet.
        now -= timedelta(minutes=2)
    world = RollupWorld(pool, now)
    await world.clear()
    rng = random.Random(5)
    ends = [None] * 12 + ["provider_timeout", "internal_error", "budget_exceeded"]
    made = []
    for number in range(900):
        ago = timedelta(minutes=rng.uniform(0, 400)) if number % 3 else timedelta(days=rng.uniform(0, 42))
        code = rng.choice(ends)
        status = RequestStatus.SUCCESS if code is None else RequestStatus.ERROR
        if rng.random() < 0.03:
            status, code = rng.choice((RequestStatus.CANCELLED, RequestStatus.ABANDONED)), None
        service = rng.choice("abc")
        made.append(
            record(
                tenant_id=T if number % 10 else "tenant-b",
                service_name=service,
                start_time=now - ago,
                end_time=now - ago + timedelta(seconds=rng.lognormvariate(0, 1.2)),
                status=status,
                error_code=code,
                model_used=rng.choice(("dear", "cheap")),
                request_type=rng.choice(("code", "math")),
                usage=Usage(input_tokens=rng.randrange(5_000), output_tokens=rng.randrange(900)),
                cost_usd=Decimal(rng.randrange(10**9)) / 10**9,
                cache="off",
                tags=(("team", service * 2),),
                budget_accounts=(f"month/{now - ago:%Y-%m}/{service}",),
            )
        )
    for start in range(0, len(made), 100):
        await world.arrive(made[start : start + 100])
    await world.roll_up()
    return world


async def rows(world: RollupWorld, statement: str, since: datetime, until: datetime) -> list[tuple]:
    async with world.pool.connection(timeout_s=10) as connection:
        return await (await connection.execute(statement.encode(), (T, since, until))).fetchall()


async def test_burn_rates_and_budgets_are_those_of_the_rows(world: RollupWorld) -> None:
    report = await Slos(world.analytics, world.clock).report(T, by_service=True)
    found = {status.slo.name: status for status in report.total}
    assert report.as_of == world.now.replace(second=0, microsecond=0)
    starts = {span: report.as_of - span for span in SPANS}
    starts |= {span: start.replace(minute=0) for span, start in starts.items() if span > HOUR}
    for span, since in [*starts.items(), (None, report.since)]:
        ((valid, bad, succeeded, slow, spent_ms),) = await rows(world, _FAULTS, since, report.as_of)
        expected = {
            "availability": bad / (0.001 * valid),
            "p95-latency": slow / (0.05 * succeeded),
            "mean-latency": spent_ms / (2_000 * succeeded),
        }
        for name, rate in expected.items():
            status = found[name]
            seen = status.rates[span] if span is not None else 1 - status.budget.left_share
            assert seen == pytest.approx(rate), (name, span)
    assert sum(statuses[0].events for statuses in report.services.values()) == found["availability"].events
    assert found["capacity"].peak is not None


async def test_costs_by_service_budgets_and_the_month_are_those_of_the_rows(
    world: RollupWorld, pool: PostgresPool
) -> None:
    ledger, money = PostgresBudgetLedger(pool), MemoryBudgetStore(world.clock, gather_s=0)
    rules = policy(budgets=(budget("month", 10**9, period=Period.MONTH),))
    analytics = Analytics(world.analytics, lambda: SHELF, {})
    outlook = BudgetOutlook(world.analytics, ledger, money, lambda: rules, ("team",))
    view = Business(world.analytics, analytics, outlook, lambda: SHELF, lambda: rules, world.clock, has_former=False)
    until = world.now.replace(minute=0, second=0, microsecond=0) + HOUR
    asked = Question(T, until - 10 * DAY, until, until - 20 * DAY, tag_key="team")
    found = await view.report(asked)
    expected = await rows(world, _COSTS, asked.since, until)
    assert [(c.group[0], c.current.cost_usd, c.current.count) for c in found.changes["service"]] == expected
    assert [(c.group[0], c.current.cost_usd, c.current.count) for c in found.changes["tag:team"]] == [
        (service * 2, cost, count) for service, cost, count in expected
    ]
    before = await rows(world, _COSTS, *found.compared[1])
    assert found.previous.cost_usd == sum(cost for _, cost, _ in before)
    month = world.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    spent = await rows(world, _COSTS, month, until)
    assert found.month.spent_usd == pytest.approx(float(sum(cost for _, cost, _ in spent)))
    # Each request counts in whole micro-USD, rounded up.
    settled = {one.value: one.settled_micro_usd for one in found.budgets}
    assert settled.keys() == {service for service, _, _ in spent}
    for service, cost, count in spent:
        assert float(cost) * 1e6 - 1 <= settled[service] <= float(cost) * 1e6 + count
    for one in found.budgets:
        assert one.projection.interval.low >= one.projection.spent_usd


async def test_the_first_page_counts_every_request_once(world: RollupWorld, pool: PostgresPool) -> None:
    analytics = Analytics(world.analytics, lambda: SHELF, {})
    outlook = BudgetOutlook(
        world.analytics, PostgresBudgetLedger(pool), MemoryBudgetStore(world.clock), policy, ("team",)
    )
    health = DeploymentHealth(
        MemoryHealthStore(world.clock),
        HealthRules(),
        world.clock,
        RecordingTelemetry(),
        random.Random(1),
        worker_id="w",
    )
    slos = Slos(world.analytics, world.clock)
    overview = Overview(world.analytics, analytics, slos, outlook, health, lambda: SHELF, world.clock, {})
    until = world.now.replace(minute=0, second=0, microsecond=0) + HOUR
    for length in (DAY, 30 * DAY):
        since = until - length
        page = await overview.dashboard(T, since, until, since - length, ZoneInfo("UTC"))
        cards = {card.name: card for card in page.cards}
        for card, span in (
            ("value", (since, until)),
            ("previous", compared_spans(since, until, since - length, page.as_of)[1]),
        ):
            raw = await rows(world, _COSTS, *span)
            assert getattr(cards["requests"], card) == sum(count for _, _, count in raw)
            assert getattr(cards["cost"], card) == pytest.approx(float(sum(cost for _, cost, _ in raw)))
        assert sum(point.value for point in cards["requests"].series) == cards["requests"].value
    last = await overview.real_time(T, 60)
    ((count,),) = await rows(
        world, "SELECT count(*) FROM requests WHERE tenant_id = %s AND start_time >= %s AND start_time < %s",
        last.edges[0], last.edges[-1],
    )  # fmt: skip
    assert sum(row.count for row in last.minutes) == sum(row.count for row in last.models) == count > 0
