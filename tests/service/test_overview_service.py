"""The first page and the last minutes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from shared.domain.errors import ProviderUnavailable
from shared.domain.health import BreakerState, CallOutcome
from tests.administration_world import NOW, AdministrationWorld, T
from tests.rollup_world import feedback

UTC_ZONE = ZoneInfo("UTC")
HOUR = timedelta(hours=1)
UNTIL = datetime(2026, 11, 23, 16, tzinfo=UTC)
SINCE = UNTIL - 24 * HOUR


def page(world, since=SINCE, until=UNTIL, zone=UTC_ZONE):
    return world.services.overview.dashboard(T, since, until, since - (until - since), zone)


def cards(found):
    return {card.name: card for card in found.cards}


async def test_cards_say_how_the_day_was_and_how_the_day_before():
    world = AdministrationWorld()
    for hour in range(1, 24):
        await world.had(NOW - hour * HOUR)
        await world.had(NOW - hour * HOUR, error_code="provider_timeout")
        await world.had(NOW - (hour + 24) * HOUR, cost_usd=Decimal(4))
    rated = await world.had(NOW - 2 * HOUR, error_code="budget_exceeded", overhead_ms=9.0)
    await world.feedback.put(feedback(rated, score=0.8))
    found = await page(world)
    shown = cards(found)
    assert shown["requests"].value == 47
    # 23 complete hours of either day: the one that runs is in no comparison.
    assert found.compared == ((SINCE, UNTIL - HOUR), (SINCE - 24 * HOUR, UNTIL - 25 * HOUR))
    assert (shown["requests"].previous, shown["requests"].change) == (23, pytest.approx(47 / 23 - 1))
    assert shown["requests_per_s"].value == pytest.approx(47 / (23.7 * 3600))
    assert shown["error_rate"].value == pytest.approx(24 / 47)
    assert shown["fault_share"].value == pytest.approx(23 / 46)
    assert shown["latency_p95"].value == pytest.approx(2_000, rel=0.01)
    assert shown["overhead_p99"].value == pytest.approx(1.125, rel=0.01)
    assert (shown["cost"].value, shown["cost"].previous) == (47, 92)
    assert shown["quality"].value == pytest.approx(4)
    assert shown["quality"].interval.low < 4 < shown["quality"].interval.high
    assert shown["savings_share"].value == pytest.approx(1 - 47 / 47)
    series = shown["requests"].series
    assert [point.start for point in series] == [SINCE + number * HOUR for number in range(24)]
    assert sum(point.value for point in series) == 47
    # The running hour's rate is over the minutes of it that are over.
    assert shown["requests_per_s"].series[-1].value == 0
    assert shown["requests_per_s"].series[-2].value == pytest.approx(2 / 3600)


async def test_an_empty_tenant_has_a_page():
    found = await page(AdministrationWorld())
    assert {card.name: card.value for card in found.cards if card.value is not None} == {
        "requests": 0,
        "requests_per_s": 0,
        "cost": 0,
    }
    assert (found.budgets, found.models_by_cost, found.is_stale) == ((), [], False)
    assert found.as_of == NOW.replace(second=0)
    assert found.open == {"findings": {"high": 2}}


async def test_a_span_without_a_complete_hour_is_compared_with_nothing():
    world = AdministrationWorld()
    await world.had(NOW - timedelta(minutes=5))
    found = await page(world, UNTIL - HOUR, UNTIL)
    assert found.compared is None
    card = cards(found)["requests"]
    assert (card.value, card.previous, card.change) == (1, None, None)


async def test_days_are_those_of_the_zone_and_hours_where_it_has_no_whole_ones():
    world = AdministrationWorld()
    berlin = await page(world, UNTIL - timedelta(days=10), zone=ZoneInfo("Europe/Berlin"))
    assert berlin.edges[1] == datetime(2026, 11, 13, 23, tzinfo=UTC)
    india = await page(world, UNTIL - timedelta(days=10), zone=ZoneInfo("Asia/Kolkata"))
    assert india.edges[1] == datetime(2026, 11, 14, tzinfo=UTC)


async def test_the_dearest_and_the_most_faulty_come_first():
    world = AdministrationWorld()
    for number in range(7):
        code = "provider_timeout" if number < 2 else None
        await world.had(NOW - HOUR, service_name=f"s{number}", cost_usd=Decimal(number), error_code=code)
    await world.had(NOW - HOUR, service_name="s1", cost_usd=Decimal(0), error_code="internal_error")
    found = await page(world)
    assert [row.group[0] for row in found.services_by_cost] == ["s6", "s5", "s4", "s3", "s2"]
    assert [(row.group[0], row.errors) for row in found.services_by_errors] == [("s1", 2), ("s0", 1)]
    assert [row.group[0] for row in found.models_by_cost] == ["dear"]


async def test_every_deployment_shows_its_breaker_and_the_tenants_own_calls():
    world = AdministrationWorld()
    await world.had(NOW - timedelta(minutes=30), error_code="provider_unavailable")
    await world.had(NOW - timedelta(minutes=30))
    await world.had(NOW - timedelta(minutes=30), tenant_id="tenant-b")
    await world.had(NOW - timedelta(hours=3))
    outcome = CallOutcome(succeeded=False, duration_ms=10.0, ttft_ms=None, error=ProviderUnavailable("down"))
    for _ in range(30):
        world.health.started("cheap@europe-west4")
        world.health.ended("cheap@europe-west4", outcome)
    found = {strip.deployment.id: strip for strip in (await page(world)).deployments}
    assert list(found) == ["dear@europe-west4", "cheap@europe-west4", "weak@europe-west4"]
    dear, cheap = found["dear@europe-west4"], found["cheap@europe-west4"]
    assert (dear.state, dear.last_hour.count, dear.last_hour.errors) == (BreakerState.CLOSED, 2, 1)
    assert (cheap.state, cheap.last_hour) == (BreakerState.OPEN, None)
    assert cheap.returns_in_s > 0


async def test_the_last_minutes_are_those_that_are_complete():
    world = AdministrationWorld()
    await world.had(NOW - timedelta(seconds=10))
    await world.had(NOW - timedelta(minutes=1), model_used="cheap")
    await world.had(NOW - timedelta(minutes=15))
    await world.had(NOW - timedelta(minutes=16))
    found = await world.services.overview.real_time(T, 15)
    assert found.edges[-1] == found.as_of == NOW.replace(second=0)
    assert [(row.start, row.count) for row in found.minutes] == [
        (found.edges[0], 1),
        (found.edges[-2], 1),
    ]
    assert [row.group for row in found.models] == [("dear",), ("cheap",)]


async def test_rollups_that_stand_still_are_said_to_and_show_where_they_stopped(monkeypatch):
    world = AdministrationWorld()
    await world.had(NOW - timedelta(minutes=30))
    fresh = await world.store.freshness()

    async def stopped(ago):
        async def freshness(_):
            return type(fresh)(NOW - ago, 3)

        monkeypatch.setattr(type(world.store), "freshness", freshness)
        return await world.services.overview.real_time(T, 15)

    found = await stopped(timedelta(minutes=29))
    assert (found.is_stale, found.edges[-1]) == (True, datetime(2026, 11, 23, 15, 13, tzinfo=UTC))
    assert [row.count for row in found.minutes] == [1]
    # Minutes that are that old are not kept.
    long_ago = await stopped(timedelta(days=3))
    assert (long_ago.is_stale, long_ago.minutes) == (True, [])
    assert (await page(world)).is_stale
