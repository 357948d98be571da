"""Previews: the same code over history finds what live evaluation found, minute by minute."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.alert_metrics import Metric
from shared.domain.alerts import Baseline, IncidentQuery, RuleKind, Season
from shared.domain.analytics import Dimension
from shared.domain.budgets import Budget, Period
from shared.domain.errors import InvalidRequest
from shared.domain.scopes import Per, Scope
from shared.services import alert_desk
from tests.alert_world import NOON, TENANT, AlertWorld, requests, rule

KINDS = st.sampled_from(
    [
        {"window_s": 60, "for_s": 120},
        {"window_s": 300, "keep_firing_s": 120, "group_by": (Dimension.SERVICE,)},
        {"kind": RuleKind.RATE_OF_CHANGE, "metric": Metric.REQUESTS, "threshold": 0.5, "window_s": 120},
        {"kind": RuleKind.MISSING_DATA, "metric": Metric.REQUESTS, "window_s": 120},
        {"kind": RuleKind.RATIO, "metric": Metric.ERRORS, "of_metric": Metric.REQUESTS, "threshold": 0.5},
    ]
)
MINUTES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(["a", "b"])), min_size=5, max_size=25
)


def seen(incidents):
    found = [(one.group, one.started_at, one.fired_at, one.resolved_at, one.value) for one in incidents]
    return sorted(found, key=str)


@given(KINDS, MINUTES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_preview_finds_what_live_evaluation_found(more, minutes):
    async def play():
        world, made = AlertWorld(), rule(**more)
        await world.keep(made)
        # So that history has a beginning for both, at which nothing holds.
        await world.ledger.insert(requests(NOON - timedelta(minutes=1), 1))
        for good, bad, service in minutes:
            await world.minute(good, bad, service_name=service)
        live = await world.store.incidents(IncidentQuery(TENANT, limit=500))
        preview = await world.desk.preview(made, days=1)
        fired = [one for one in live if one.fired_at is not None]
        # Before that there was nothing, which some rules call missing.
        assert seen(one for one in preview.incidents if one.started_at >= NOON) == seen(fired)

    asyncio.run(play())


async def test_history_without_minutes_is_looked_at_by_hours():
    world = AlertWorld()
    for days in (1, 3, 5):
        await world.ledger.insert(requests(NOON - timedelta(days=days, minutes=30), 0, 2))
    preview = await world.desk.preview(rule(window_s=300, for_s=0), days=7)
    assert preview.minutes_since is not None
    assert NOON - preview.minutes_since < timedelta(hours=48)
    found = [(one.started_at < preview.minutes_since, one.resolved_at is not None) for one in preview.incidents]
    assert found == [(True, True), (True, True), (False, True)]
    assert preview.until - preview.since >= timedelta(days=7)


async def test_long_windows_and_seasons_have_a_preview_too():
    world = AlertWorld()
    for days in range(20):
        for hour in range(24):
            await world.ledger.insert(requests(NOON - timedelta(days=days, hours=hour, minutes=30), 3))
    await world.ledger.insert(requests(NOON - timedelta(hours=5, minutes=20), 60))
    anomaly = rule(kind=RuleKind.ANOMALY, metric=Metric.REQUESTS, threshold=6.0, window_s=3600, season=Season.DAY)
    preview = await world.desk.preview(anomaly, days=4)
    assert len(preview.incidents) == 1
    change = rule(kind=RuleKind.RATE_OF_CHANGE, metric=Metric.REQUESTS, threshold=0.5, window_s=72_000)
    assert len((await world.desk.preview(change, days=4)).incidents) == 1
    daily = rule(
        kind=RuleKind.RATE_OF_CHANGE, metric=Metric.REQUESTS, threshold=3.0, window_s=3600, baseline=Baseline.DAY
    )
    assert len((await world.desk.preview(daily, days=4)).incidents) == 1


BUDGET = Budget("tokens", Period.MONTH, Scope(per=Per.SERVICE, values=frozenset({"dear"})), hard_micro_usd=1_000_000)


async def test_a_budget_is_projected_for_whom_it_is_kept():
    world = AlertWorld(budgets=(BUDGET,))
    for days in range(25):
        for service in ("dear", "other"):
            await world.ledger.insert(requests(NOON - timedelta(days=days), 100, service_name=service))
    made = rule(kind=RuleKind.BUDGET_PROJECTION, metric=Metric.REQUESTS, threshold=1.0)
    await world.keep(made)
    for _ in range(6):
        await world.minute(1)
    (one,) = await world.store.incidents(IncidentQuery(TENANT))
    assert one.group == (("budget", "tokens"), ("service", "dear"))
    # 100 requests a day at 0.000912 dollars are 2.7 dollars a month.
    assert one.value == pytest.approx(2.7, rel=0.1)
    preview = await world.desk.preview(made, days=10)
    assert [one.group for one in preview.incidents] == [(("budget", "tokens"), ("service", "dear"))]


async def test_how_old_rollups_were_has_no_history():
    with pytest.raises(InvalidRequest) as refused:
        await AlertWorld().desk.preview(rule(metric=Metric.ROLLUP_AGE_S), days=7)
    assert refused.value.param == "metric"


async def test_with_too_many_groups_all_of_it_is_by_hours(monkeypatch):
    monkeypatch.setattr(alert_desk, "_MOST_STEPS", 100)
    world = AlertWorld()
    await world.ledger.insert(requests(NOON - timedelta(hours=3, minutes=30), 0, 2))
    preview = await world.desk.preview(rule(), days=2)
    assert preview.minutes_since is None
    (one,) = preview.incidents
    assert one.fired_at == NOON - timedelta(hours=3)


async def test_more_rows_than_can_be_read_are_refused(monkeypatch):
    monkeypatch.setattr(alert_desk, "PREVIEW_ROWS", 2)
    world = AlertWorld()
    for hours in range(5):
        await world.ledger.insert(requests(NOON - timedelta(hours=hours, minutes=30)))
    with pytest.raises(InvalidRequest) as refused:
        await world.desk.preview(rule(), days=2)
    assert refused.value.param == "group_by"
