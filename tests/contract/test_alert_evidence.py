"""What rules find over PostgreSQL's rollups is what they find over the records themselves."""

import random
from datetime import timedelta

import pytest

from shared.analytics.alerting import evaluate
from shared.domain.alert_metrics import Metric
from shared.domain.alerts import Baseline, Comparison, Filter, RuleKind
from shared.domain.analytics import Dimension, Subject
from shared.domain.budgets import Budget, Period
from shared.domain.scopes import Per, Scope
from shared.services.alert_evidence import EvidenceReader
from shared.stores.postgres.pool import PostgresPool
from tests.alert_world import NOON, requests, rule
from tests.rollup_world import TAG_KEYS, RollupWorld

NOW = NOON + timedelta(minutes=17)
BUDGETS = (
    Budget("all", Period.MONTH, Scope(per=Per.TENANT), hard_micro_usd=1_000_000),
    Budget("teams", Period.MONTH, Scope(per=Per.TEAM), soft_micro_usd=100_000),
)


@pytest.fixture(scope="module")
async def world(postgres_dsn):
    pool = PostgresPool(postgres_dsn, max_size=4)
    world = RollupWorld(pool, NOW)
    rng = random.Random(7)
    for _ in range(250):
        # Many in the last day, some in the weeks before.
        ago = timedelta(minutes=rng.choice([rng.randrange(90), rng.randrange(1440), rng.randrange(40 * 1440)]))
        made = requests(
            NOW - ago,
            rng.randrange(1, 3),
            rng.randrange(2),
            service_name=rng.choice("ab"),
            model_used=rng.choice("xyz"),
            tags=(("team", rng.choice("pq")),),
        )
        await world.arrive(made)
    for days in range(12):
        # So that the last hour has something to be compared with.
        await world.arrive(requests(NOW - timedelta(days=days, minutes=30), 3 + days % 3))
    await world.roll_up()
    yield world
    await pool.aclose()


@pytest.mark.parametrize(
    "more",
    [
        {"threshold": 0.0},
        {"threshold": 0.0, "window_s": 3600, "group_by": (Dimension.MODEL, Dimension.SERVICE)},
        {"threshold": 0.0, "window_s": 86_400, "group_by": (Dimension.TAG,), "tag_key": "team"},
        {"threshold": 0.0, "window_s": 7 * 86_400, "filters": (Filter(Dimension.SERVICE, ("a",)),)},
        {"metric": Metric.LATENCY_P95_MS, "window_s": 7200, "group_by": (Dimension.SERVICE,)},
        {"metric": Metric.COST_USD, "window_s": 26 * 3600, "subject": Subject.ATTEMPTS, "group_by": (Dimension.MODEL,)},
        {"kind": RuleKind.RATE_OF_CHANGE, "metric": Metric.REQUESTS, "window_s": 46_800, "comparison": Comparison.BOTH},
        {"kind": RuleKind.RATE_OF_CHANGE, "metric": Metric.REQUESTS, "window_s": 3600, "baseline": Baseline.DAY},
        {"kind": RuleKind.MISSING_DATA, "metric": Metric.REQUESTS, "window_s": 1800, "group_by": (Dimension.MODEL,)},
        {"kind": RuleKind.SLO_BURN_RATE, "metric": Metric.REQUESTS, "slo": "availability"},
        {"kind": RuleKind.SLO_BURN_RATE, "metric": Metric.REQUESTS, "slo": "p95-latency"},
        {"kind": RuleKind.ANOMALY, "metric": Metric.REQUESTS, "window_s": 3600, "threshold": 3.0},
        {"kind": RuleKind.BUDGET_PROJECTION, "metric": Metric.REQUESTS, "threshold": 0.5},
    ],
)
async def test_rollups_and_records_agree(world, more):
    made = rule(**more)
    found = []
    for store in (world.analytics, world.twin):
        reader = EvidenceReader(store, lambda: BUDGETS, TAG_KEYS)
        evidence = await reader.gather(made, [NOW], NOW)
        found.append(sorted(evaluate(made, evidence, NOW), key=lambda one: one.group))
    ours, theirs = found
    assert [(one.group, one.holds, one.words) for one in ours] == [(one.group, one.holds, one.words) for one in theirs]
    assert [one.value for one in ours] == [
        value if value is None else pytest.approx(value) for value in (one.value for one in theirs)
    ]
    assert any(one.value is not None for one in ours)
