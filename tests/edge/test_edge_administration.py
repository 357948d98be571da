"""GET /admin/dashboard, /real-time, /analytics, /business-intel and /slos: what they say, refuse, and whose it is."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from shared.domain.errors import DependencyUnavailable
from shared.domain.identity import RouterRole
from shared.domain.replies import Usage
from shared.services.analytics import Analytics
from shared.services.insight import Insight
from tests.administration_world import AdministrationWorld
from tests.budget_builders import budget
from tests.principals import TENANT, principal_header
from tests.unit.routing_builders import policy

ADMIN = principal_header("console", roles=(RouterRole.ADMIN,))
PATHS = ("dashboard", "real-time", "analytics", "business-intel", "slos")
RULES = policy(budgets=(budget("shop-day", 5_000_000),))


@pytest.fixture
def edge(build_edge):
    edge = build_edge(environ={"ROUTER_RUNNING_COST_USD_PER_MONTH": "100"})
    edge.clock.advance(3600 * 15.5)
    edge.world = AdministrationWorld(RULES, clock=edge.clock, records=edge.store, former={"checkout": "dear"}.items())
    object.__setattr__(edge.container, "administration", edge.world.services)
    analytics = Analytics(edge.world.store, lambda: edge.container.shelf.registry, {})
    object.__setattr__(edge.container, "insight", Insight(analytics, None, None, None))
    return edge


async def had(edge, ago, **fields):
    return await edge.world.had(edge.clock.now() - ago, **{"tenant_id": TENANT} | fields)


def at(edge, ago=timedelta()):
    return (edge.clock.now() - ago).replace(minute=0, second=0, microsecond=0)


async def test_the_first_page_is_one_answer(edge):
    day = edge.clock.now().date().isoformat()
    await had(edge, timedelta(minutes=90), budget_accounts=(f"shop-day/{day}/shop",))
    await had(edge, timedelta(minutes=90), error_code="internal_error", tenant_id="other", cost_usd=Decimal(50))
    body = (await edge.get("admin/dashboard", ADMIN)).json
    cards = {card["name"]: card for card in body["cards"]}
    assert list(cards) == [
        "requests", "requests_per_s", "error_rate", "fault_share", "latency_p95", "overhead_p99", "cost",
        "cache_hit_share", "quality", "savings_share",
    ]  # fmt: skip
    assert (cards["requests"]["value"], cards["cost"]["value"], cards["error_rate"]["value"]) == (1, 1.0, 0.0)
    assert sum(point["value"] for point in cards["requests"]["series"]) == 1
    assert {slo["name"]: slo["state"] for slo in body["slos"]}["availability"] == "met"
    assert body["budgets"][0] | {"projected": None, "burn": None, "elapsed_share": None} == {
        "name": "shop-day", "per": "service", "value": "shop", "period": "day",
        "period_starts_at": f"{day}T00:00:00+00:00",
        "period_ends_at": (datetime.fromisoformat(f"{day}T00:00:00+00:00") + timedelta(days=1)).isoformat(),
        "hard_usd": "5", "soft_usd": None, "settled_usd": "1", "reserved_usd": "0",
        "used_share": 0.2, "elapsed_share": None, "burn": None, "projected": None,
        "exceeds": "unknown", "exceeds_on": None,
    }  # fmt: skip
    assert body["top"]["models_by_cost"] == [
        {"group": "dear", "requests": 1, "errors": 0, "error_rate": 0.0, "fault_share": 0.0, "cost_usd": 1.0}
    ]
    assert {strip["breaker"] for strip in body["deployments"]} == {"closed"}
    assert (body["stale"], body["open"]) == (False, {"findings": {}})
    assert body["compared"]["current"]["to"] == at(edge).isoformat()


async def test_the_last_minutes_are_told_once(edge):
    await had(edge, timedelta(minutes=2), usage=Usage(input_tokens=120), cost_usd=Decimal("0.5"))
    first = await edge.get("admin/real-time?minutes=5", ADMIN)
    body = first.json
    assert [minute["requests"] for minute in body["minutes"]] == [0, 0, 0, 1, 0]
    minute = body["minutes"][3]
    assert (minute["tokens_per_s"], minute["cost_usd_per_hour"], minute["requests_per_s"]) == (2, 30, 1 / 60)
    assert minute["latency_ms"]["p50"] == pytest.approx(2_000, rel=0.01)
    assert [(model["model"], len(model["minutes"])) for model in body["models"]] == [("dear", 1)]
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = await edge.get("admin/real-time?minutes=5", ADMIN | {"if-none-match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    # Half a minute later nothing has changed; a minute later the window has.
    edge.clock.advance(20)
    assert (await edge.get("admin/real-time?minutes=5", ADMIN | {"if-none-match": etag})).status == 304
    edge.clock.advance(60)
    later = await edge.get("admin/real-time?minutes=5", ADMIN | {"if-none-match": etag})
    assert (later.status, [minute["requests"] for minute in later.json["minutes"]]) == (200, [0, 0, 1, 0, 0])
    assert (await edge.get("admin/real-time?minutes=6", ADMIN | {"if-none-match": etag})).status == 200


async def test_objectives_say_what_is_left(edge):
    await had(edge, timedelta(minutes=90), service_name="a")
    await had(edge, timedelta(minutes=90), service_name="b", error_code="provider_timeout")
    await had(edge, timedelta(minutes=90), service_name="b", error_code="budget_exceeded")
    body = (await edge.get("admin/slos?group_by=service", ADMIN)).json
    found = {slo["name"]: slo for slo in body["slos"]}
    one = found["availability"]
    assert (one["objective"], one["value"], one["events"], one["state"]) == (0.999, 0.5, 2, "missed")
    assert one["error_budget"] == {
        "total": pytest.approx(0.002), "spent": 1, "left_share": pytest.approx(-499),
    }  # fmt: skip
    assert one["burn_rates"] == {
        "5m": None,
        "30m": None,
        "1h": None,
        "6h": pytest.approx(500),
        "3d": pytest.approx(500),
    }
    assert [(row["long"], row["factor"], row["page"]) for row in one["burning"]] == [("3d", 1.0, False)]
    assert found["capacity"]["peak"]["served_per_s"] == pytest.approx(2 / 60)
    assert {service["service"]: service["slos"][0]["value"] for service in body["services"]} == {"a": 1.0, "b": 0.0}
    assert (await edge.get("admin/slos", ADMIN)).json["services"] == []


async def test_the_business_view_keeps_exact_sums_exact(edge):
    cost = Decimal("0.123456789012345678")
    await had(edge, timedelta(hours=2), cost_usd=cost, tags=(("team", "red"),))
    body = (await edge.get("admin/business-intel", ADMIN)).json
    assert body["total"]["cost_usd"] == str(cost)
    assert list(body["costs"]) == ["service", "model", "category", "tag:team"]
    (team,) = body["costs"]["tag:team"]
    assert (team["group"], team["cost_usd"], team["cost_share"]) == ("red", str(cost), 1.0)
    assert body["unit_costs"]["total"]["per_answer_usd"] == str(cost)
    assert body["savings"]["target"] == {
        "from_share": 0.2, "to_share": 0.3, "least_quality_retention": 0.95, "state": "not_enough_data",
    }  # fmt: skip
    assert body["savings"]["baseline_models"] == {"*": "dear"}
    assert body["savings"]["expected_quality"]["retention"] == pytest.approx(1)
    assert body["savings_against_former"]["baseline_models"] == {"checkout": "dear"}
    assert body["roi"]["running_usd"] == pytest.approx(100 * 23.5 / (365 / 12 * 24), rel=0.01)
    assert body["quality"]["target"]["state"] == "not_enough_data"
    assert body["month"]["spent_usd"] == pytest.approx(float(cost))
    asked = (await edge.get("admin/business-intel?tag=feature&running_cost_usd_per_month=0", ADMIN)).json
    assert (list(asked["costs"])[-1], asked["roi"]["ratio"], asked["roi"]["running_usd"]) == ("tag:feature", None, 0)


async def test_figures_of_all_services_are_those_of_analytics(edge):
    await had(edge, timedelta(hours=2), service_name="another")
    url = "analytics?group_by=service&metrics=requests"
    admin, plain = await edge.get(f"admin/{url}", ADMIN), await edge.get(url, ADMIN)
    assert admin.json["rows"] == plain.json["rows"] != []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("dashboard?nonsense=1", "nonsense"),
        ("dashboard?from=yesterday", "from"),
        ("dashboard?timezone=Mars/Olympus", "timezone"),
        ("dashboard?from=2026-01-02&to=2026-01-01", "from"),
        ("real-time?minutes=0", "minutes"),
        ("real-time?minutes=121", "minutes"),
        ("real-time?minutes=-1", "minutes"),
        ("real-time?minutes=\u0661", "minutes"),
        ("real-time?from=2026-01-01", "from"),
        ("slos?group_by=model", "group_by"),
        ("slos?limit=1", "limit"),
        ("business-intel?tag=user", "tag"),
        ("business-intel?running_cost_usd_per_month=-1", "running_cost_usd_per_month"),
        ("business-intel?running_cost_usd_per_month=NaN", "running_cost_usd_per_month"),
        ("business-intel?running_cost_usd_per_month=1e99", "running_cost_usd_per_month"),
        ("business-intel?running_cost_usd_per_month=much", "running_cost_usd_per_month"),
        ("business-intel?group_by=service", "group_by"),
    ],
)
async def test_what_does_not_fit_is_named(edge, query, param):
    answer = await edge.get(f"admin/{query}", ADMIN)
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize("path", PATHS)
async def test_rollups_that_are_away_are_said_to_be(edge, path, monkeypatch):
    async def away(_):
        raise DependencyUnavailable("away")

    monkeypatch.setattr(type(edge.world.store), "freshness", away)
    assert (await edge.get(f"admin/{path}", ADMIN)).status == 503


@pytest.mark.parametrize("path", PATHS)
async def test_an_empty_tenant_is_answered(edge, path):
    await had(edge, timedelta(hours=2), tenant_id="other", service_name="secret-service")
    answer = await edge.get(f"admin/{path}", ADMIN)
    assert answer.status == 200
    assert b"secret-service" not in answer.body
