"""Budgets with what is ahead: whose spend is whose, what is exact, and what is not known."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from shared.domain.budgets import Period, accounts_for
from shared.domain.policy import ServicePolicy
from shared.domain.scopes import Per, Scope, Subject
from shared.services.budget_outlook import BudgetOutlook
from tests.administration_world import NOW, AdministrationWorld, T
from tests.budget_builders import budget
from tests.unit.routing_builders import policy

AS_OF = NOW.replace(second=0)
MONTH = Period.MONTH


def world(*budgets, **rules):
    return AdministrationWorld(policy(budgets=budgets, **rules))


async def spent(made, service, days, *, tags=(), cost="1"):
    """A request on each of the last days and today, charged as the walk charges them."""
    for number in range(days + 1):
        start = NOW - timedelta(days=number, hours=1)
        subject = Subject(T, service, made.policy.for_service(service).team or dict(tags).get("team"), tags)
        accounts = tuple(account.id for account in accounts_for(made.policy.budgets, subject, start))
        await made.had(start, service_name=service, tags=tags, cost_usd=Decimal(cost), budget_accounts=accounts)


async def test_an_account_is_spent_exactly_and_projected_from_its_own_days():
    made = world(budget("shop-month", 40_000_000, period=MONTH))
    await spent(made, "shop", 40)
    await spent(made, "other", 40, cost="7")
    found = {one.value: one for one in await made.outlook.standings(T, AS_OF)}
    shop = found["shop"]
    assert shop.account == "shop-month/2026-11/shop"
    assert shop.settled_micro_usd == 23_000_000
    assert shop.projection.expected_usd == pytest.approx(30.3, abs=0.2)
    assert found["other"].projection.expected_usd == pytest.approx(7 * 30.3, abs=1.5)
    assert shop.elapsed_share == pytest.approx((22 + 15.7 / 24) / 30)
    assert shop.burn == pytest.approx(23 / 40 / shop.elapsed_share)
    assert shop.projection.chance_word(40.0) == "unlikely"
    assert shop.projection.passes_on(25.0) == date(2026, 11, 25)


@pytest.mark.parametrize(
    ("scope", "value", "daily"),
    [
        (Scope(Per.TENANT), T, 7.0),
        (Scope(Per.TENANT, services=frozenset({"a", "b"})), T, 3.0),
        (Scope(Per.TEAM), "red", 1.0 + 4.0),
        (Scope(Per.TAG, tag="feature"), "chat", 2.0),
        (Scope(Per.TAG, tag="feature", services=frozenset({"b"})), "chat", 2.0),
    ],
)
async def test_what_an_account_holds_is_what_it_is_projected_from(scope, value, daily):
    # a is of team red by the policy, whatever its tag says; c only says so by its tag.
    made = world(budget("b", 1, period=MONTH, scope=scope), services={"a": ServicePolicy(team="red")})
    await spent(made, "a", 30, tags=(("team", "blue"),), cost="1")
    await spent(made, "b", 30, tags=(("feature", "chat"),), cost="2")
    await spent(made, "c", 30, tags=(("team", "red"),), cost="4")
    found = {one.value: one for one in await made.outlook.standings(T, AS_OF)}[value]
    assert found.settled_micro_usd == 23 * daily * 1_000_000
    assert found.projection.expected_usd == pytest.approx(30.3 * daily, rel=0.01)


async def test_what_is_not_known_is_not_made_up():
    made = world(
        budget("users", 5, period=MONTH, scope=Scope(Per.TAG, tag="user")), budget("ever", 500, period=Period.TOTAL)
    )
    await spent(made, "shop", 10, tags=(("user", "u1"),))
    users, ever = sorted(await made.outlook.standings(T, AS_OF), key=lambda one: one.budget.name, reverse=True)
    # The tag is not one that rollups are kept by; a total has no end.
    assert (users.budget.name, users.projection, users.settled_micro_usd) == ("users", None, 11_000_000)
    assert (ever.projection, ever.elapsed_share, ever.burn, ever.ends_at) == (None, None, None, None)


async def test_money_that_is_counted_elsewhere_may_be_away():
    made = world(budget("day", 5_000_000))
    await spent(made, "shop", 1)
    (standing,) = await made.outlook.standings(T, AS_OF)
    assert standing.reserved_micro_usd == 0
    assert standing.ends_at == datetime(2026, 11, 24, tzinfo=UTC)
    made.money.away = True
    (standing,) = await made.outlook.standings(T, AS_OF)
    assert (standing.reserved_micro_usd, standing.settled_micro_usd) == (None, 1_000_000)


async def test_other_tenants_and_past_periods_are_not_shown():
    made = world(budget("day", 5_000_000))
    await made.had(NOW - timedelta(days=1), budget_accounts=("day/2026-11-22/shop",))
    await made.had(NOW - timedelta(hours=1), budget_accounts=("day/2026-11-23/shop",), tenant_id="tenant-b")
    assert await made.outlook.standings(T, AS_OF) == []


async def test_a_policy_without_budgets_asks_nobody():
    outlook = BudgetOutlook(None, None, None, lambda: replace(policy(), budgets=()), ())
    assert await outlook.standings(T, AS_OF) == ()
