"""The business view: sums against the records themselves, and conclusions that only follow where they do."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.analytics.economics import SavingsState
from shared.domain.policy import ServicePolicy
from shared.domain.replies import Usage
from shared.services.business import Question
from tests.administration_world import NOW, AdministrationWorld, T
from tests.rollup_world import feedback
from tests.unit.routing_builders import policy

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
WEEK = Question(T, MIDNIGHT - timedelta(days=7), MIDNIGHT, MIDNIGHT - timedelta(days=14), tag_key="team")
LATELY = MIDNIGHT - timedelta(hours=30)
CHEAP = {"model_used": "cheap", "deployment_used": "cheap@europe-west4"}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 16 * 24 * 60), st.sampled_from("ab"), st.sampled_from(("dear", "cheap")),
            st.sampled_from(("code", "math")), st.decimals(0, 9, places=9), st.sampled_from(("red", None)),
        ),
        max_size=20,
    )
)  # fmt: skip
async def test_costs_are_the_sums_of_the_records(made):
    world = AdministrationWorld()
    sums = {"now": defaultdict(Decimal), "before": defaultdict(Decimal)}
    for minutes, service, model, category, cost, team in made:
        start = NOW - timedelta(minutes=minutes)
        await world.had(
            start, service_name=service, model_used=model, request_type=category, cost_usd=cost,
            tags=(("team", team),) if team else (),
        )  # fmt: skip
        period = "now" if WEEK.since <= start < WEEK.until else "before"
        if WEEK.previous_since <= start < WEEK.until:
            keys = [("service", service), ("model", model), ("category", category)]
            for key in [*keys, ("total", ""), *([("tag:team", team)] if team else [])]:
                sums[period][key] += cost
    found = await world.services.business.report(WEEK)
    assert found.total.cost_usd == sums["now"]["total", ""]
    assert found.previous.cost_usd == sums["before"]["total", ""]
    for name in ("service", "model", "category", "tag:team"):
        shown = {change.group[0]: change for change in found.changes[name]}
        assert shown.keys() == {word for one in sums.values() for key, word in one if key == name}
        for word, change in shown.items():
            assert (change.current.cost_usd if change.current else 0) == sums["now"][name, word]
            assert (change.previous.cost_usd if change.previous else 0) == sums["before"][name, word]
        costs = [change.current.cost_usd if change.current else 0 for change in found.changes[name]]
        assert costs == sorted(costs, reverse=True)


async def test_a_span_that_goes_on_is_compared_with_as_many_hours():
    world = AdministrationWorld()
    asked = Question(T, MIDNIGHT, MIDNIGHT + timedelta(days=1), MIDNIGHT - timedelta(days=1))
    await world.had(MIDNIGHT + timedelta(hours=1))
    await world.had(MIDNIGHT - timedelta(days=1) + timedelta(hours=14))
    await world.had(MIDNIGHT - timedelta(days=1) + timedelta(hours=15))
    found = await world.services.business.report(asked)
    hours = timedelta(hours=15)
    assert found.compared == ((asked.since, asked.since + hours), (asked.previous_since, asked.previous_since + hours))
    assert (found.total.count, found.previous.count) == (1, 1)


async def served(world, *, cheap, dear, days=7, **fields):
    """So many requests twice a day by each model, whose tokens cost as they would."""
    for half_day in range(2 * days):
        for number in range(cheap + dear):
            is_cheap = number < cheap
            await world.had(
                WEEK.since + timedelta(hours=12 * half_day),
                cost_usd=Decimal("0.1") if is_cheap else Decimal(1),
                **(CHEAP if is_cheap else {}) | fields,
            )


async def test_savings_that_keep_the_quality_meet_the_target():
    world = AdministrationWorld(former={"checkout": "dear"}.items())
    await served(world, cheap=3, dear=7)
    found = await world.services.business.report(WEEK)
    assert found.savings.report.total.share == pytest.approx(0.27)
    assert found.savings.retention.share == pytest.approx((0.3 * 0.88 + 0.7 * 0.9) / 0.9)
    assert found.savings.state is SavingsState.MET
    assert found.former.report.models == {"checkout": "dear"}
    assert found.former.report.total.saved_usd == found.savings.report.total.saved_usd


async def test_savings_by_weak_models_do_not_count():
    world = AdministrationWorld()
    await served(world, cheap=0, dear=1)
    await served(world, cheap=3, dear=0, model_used="weak", deployment_used="weak@europe-west4", service_name="s")
    found = await world.services.business.report(WEEK)
    assert found.savings.report.total.share > 0.6
    assert found.savings.state is SavingsState.QUALITY_NOT_KEPT


async def test_too_little_is_said_of_too_little():
    world = AdministrationWorld()
    assert (await world.services.business.report(WEEK)).savings.state is SavingsState.NOT_ENOUGH_DATA
    await served(world, cheap=1, dear=2, days=2)
    found = await world.services.business.report(WEEK)
    assert found.savings.report.total.interval is None
    assert found.savings.state is SavingsState.NOT_ENOUGH_DATA
    assert (found.former, found.roi) == (None, None)


async def test_the_router_must_pay_for_itself():
    world = AdministrationWorld()
    await served(world, cheap=3, dear=7)
    asked = Question(T, WEEK.since, WEEK.until, WEEK.previous_since, running_usd_per_month=Decimal(365) / 12)
    found = (await world.services.business.report(asked)).roi
    assert found.running_usd == pytest.approx(Decimal(7))
    assert found.saved_usd == Decimal("37.8")
    assert found.net_usd == pytest.approx(Decimal("30.8"))
    assert found.ratio == pytest.approx(30.8 / 7)


async def test_what_one_of_each_costs():
    world = AdministrationWorld()
    first = await world.had(WEEK.since, cost_usd=Decimal(3), usage=Usage(input_tokens=1_000, output_tokens=500))
    await world.had(WEEK.since, cost_usd=Decimal(1), usage=Usage(input_tokens=500), error_code="provider_timeout")
    await world.feedback.put(feedback(first, score=0.5))
    units = (await world.services.business.report(WEEK)).units
    assert units.per_request_usd == 2
    assert units.per_answer_usd == 4
    assert units.per_1k_tokens_usd == 2
    assert units.per_good_answer_usd == pytest.approx(8)
    assert units.per_good_answer_interval.low < 8 < units.per_good_answer_interval.high


async def test_a_cheaper_model_is_named_where_it_is_expected_to_do_as_well():
    world = AdministrationWorld()
    small = {"service_name": "shop", "usage": Usage(input_tokens=900, output_tokens=100)}
    await world.had(LATELY, request_type="code", cost_usd=Decimal(2), **small)
    await world.had(LATELY, request_type="math", cost_usd=Decimal(1), **small | CHEAP)
    (one,) = (await world.services.business.report(WEEK)).opportunities
    assert (one.service, one.model_id, one.category, one.suggested_model_id) == ("shop", "dear", "code", "cheap")
    # A tenth of the price; weak would be cheaper yet, and is expected to be much worse.
    assert one.saving_usd == pytest.approx(1.8)
    assert (one.quality, one.suggested_quality) == (0.9, 0.88)


@pytest.mark.parametrize(
    "rules",
    [
        ServicePolicy(deny_models=frozenset({"cheap"})),
        ServicePolicy(allow_models=frozenset({"dear"})),
        ServicePolicy(residency=frozenset({"us"})),
    ],
)
async def test_no_model_is_named_that_the_service_may_not_use(rules):
    world = AdministrationWorld(policy(services={"shop": rules}))
    await world.had(LATELY, service_name="shop", usage=Usage(input_tokens=900), cost_usd=Decimal(2))
    assert (await world.services.business.report(WEEK)).opportunities == []


async def test_no_model_is_named_that_may_not_hold_the_prompts():
    world = AdministrationWorld()
    await world.had(LATELY, usage=Usage(input_tokens=90_000))
    assert (await world.services.business.report(WEEK)).opportunities == []


async def test_a_day_that_is_unlike_its_weekdays_is_shown():
    world = AdministrationWorld()
    for day in range(1, 57):
        start = MIDNIGHT - timedelta(days=day)
        is_weekend = start.weekday() > 4
        await world.had(start, service_name="shop", cost_usd=Decimal(2 if is_weekend else 10) + day % 3)
    # A Sunday like a working day.
    await world.had(datetime(2026, 11, 22, 5, tzinfo=UTC), service_name="shop", cost_usd=Decimal(9))
    (found,) = (await world.services.business.report(WEEK)).anomalies
    assert (found.service, found.day) == ("shop", date(2026, 11, 22))
    assert found.cost_usd == pytest.approx(12)
    assert found.usual_usd == pytest.approx(3, abs=1.1)


async def test_the_month_is_projected_for_all_and_for_each_service():
    world = AdministrationWorld()
    for day in range(40):
        for service, cost in (("a", 1), ("b", 3)):
            await world.had(NOW - timedelta(days=day, hours=1), service_name=service, cost_usd=Decimal(cost))
    found = await world.services.business.report(WEEK)
    assert found.month.spent_usd == pytest.approx(23 * 4)
    assert found.month.expected_usd == pytest.approx(4 * 30.3, rel=0.01)
    assert found.month_by_service["b"].expected_usd == pytest.approx(3 * 30.3, rel=0.01)
    assert found.month.path[-1].day == date(2026, 11, 30)


async def test_nothing_of_another_tenant_is_in_it():
    world = AdministrationWorld()
    await world.had(WEEK.since, tenant_id="tenant-b", tags=(("team", "x"),))
    found = await world.services.business.report(WEEK)
    assert (found.total.count, found.month.spent_usd, found.month_by_service) == (0, 0, {})
    assert all(changes == [] for changes in found.changes.values())
