"""/admin/alerts at the door: bodies, pages, versions, refusals, and what the audit trail says."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from functions.http import PREFIX, ROUTES
from infra.local.hosting.routes import Route, RouteTable
from shared import container
from shared.domain.alerts import Incident, IncidentState, Silence
from shared.domain.identity import RouterRole
from shared.services.alert_desk import AlertDesk, Alerting
from shared.services.alert_evidence import EvidenceReader
from shared.services.alerting import AlertEvaluator
from shared.stores.memory import SequentialIds
from shared.stores.memory_alerts import MemoryAlerts
from shared.stores.memory_analytics import MemoryAnalytics, MemoryFeedback
from tests.alert_world import requests
from tests.alert_world import rule as alert_rule
from tests.principals import TENANT, principal_header

ANALYST = principal_header(roles=(RouterRole.ANALYST,))
OPERATOR = principal_header(roles=(RouterRole.OPERATOR,))
ERRORS = {
    "name": "Errors",
    "kind": "threshold",
    "metric": "error_rate",
    "threshold": 0.1,
    "window_s": 300,
    "for_s": 60,
    "keep_firing_s": 0,
    "severity": "critical",
    "channels": ["ops"],
    "group_by": ["model", "tag:team"],
    "filters": {"service": ["checkout"]},
    "runbook_url": "https://runbooks.example/errors",
    "escalation": {"after_s": 600, "channels": ["boss"]},
}


@pytest.fixture
def world(edge):
    """The edge with alerts behind it."""
    edge.alerts = MemoryAlerts()
    evidence = EvidenceReader(
        MemoryAnalytics(edge.store, MemoryFeedback(edge.store), edge.clock), lambda: (), ("team",)
    )

    def channels(_tenant):
        return ("ops", "boss")

    desk = AlertDesk(edge.alerts, evidence, channels, edge.clock, SequentialIds())
    edge.evaluator = AlertEvaluator(edge.alerts, evidence, channels, edge.clock, edge.telemetry)
    edge.container = replace(edge.container, alerting=Alerting(edge.evaluator, desk))
    container.override(edge.container)
    return edge


async def made(world, **more):
    answer = await world.post("admin/alerts", ERRORS | more, OPERATOR)
    assert answer.status == 201, answer.json
    return answer.json


def deeds(world):
    return [row.event for rows in world.trails.rows.values() for row in rows]


def firing(world, number=1, **more):
    at = world.clock.now() + timedelta(minutes=number)
    values = {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "tenant_id": TENANT,
        "rule_id": "router-slo-availability",
        "rule_name": "r",
        "group": (("model", "a"),),
        "state": IncidentState.FIRING,
        "started_at": at,
        "fired_at": at,
    }
    one = Incident(**values | more)
    world.alerts.kept_incidents[one.id] = one
    return one


# --- rules


async def test_a_rule_is_made_shown_and_audited(world):
    rule = await made(world)
    assert rule | ERRORS == rule
    assert (rule["version"], rule["built_in"], rule["changed_by"]) == (1, False, "object-1")
    answer = await world.get(f"admin/alerts/{rule['id']}", ANALYST)
    assert answer.status == 200
    assert answer.headers["etag"] == '"1"'
    assert (answer.json["state"], answer.json["evaluation"], answer.json["incidents"]) == ("ok", "new", [])
    (deed,) = [deed for deed in deeds(world) if deed.action == "alerts.create"]
    assert (deed.resource, deed.outcome) == (f"alert rule {rule['id']}", "succeeded")
    assert deed.after


async def test_rules_are_listed_in_pages_with_the_built_in_ones(world):
    for name in ("A", "Z"):
        await made(world, name=name)
    everything = (await world.get("admin/alerts", ANALYST)).json
    assert everything["next_cursor"] is None
    names = [one["name"] for one in everything["rules"]]
    assert names == sorted(names)
    assert sum(one["built_in"] for one in everything["rules"]) == len(names) - 2
    found, query = [], "limit=2"
    while True:
        page = (await world.get(f"admin/alerts?{query}", ANALYST)).json
        found += [one["name"] for one in page["rules"]]
        if page["next_cursor"] is None:
            break
        query = f"limit=2&cursor={page['next_cursor']}"
    assert found == names
    firing(world)
    (one,) = (await world.get("admin/alerts?state=firing", ANALYST)).json["rules"]
    assert (one["id"], one["state"], one["firing"]) == ("router-slo-availability", "firing", 1)


async def test_what_is_another_tenants_is_not_there(world):
    theirs = alert_rule(id="theirs", tenant_id="another")
    world.alerts.kept_rules["another", theirs.id] = theirs
    one = firing(world, tenant_id="another")
    now = world.clock.now()
    silence = Silence("s", "another", now, now + timedelta(hours=1), "you", "why")
    await world.alerts.put_silence(silence, most=9, now=now)
    assert [one for one in (await world.get("admin/alerts", ANALYST)).json["rules"] if not one["built_in"]] == []
    assert (await world.get("admin/alerts/incidents", ANALYST)).json["incidents"] == []
    assert (await world.get("admin/alerts/silences", ANALYST)).json["silences"] == []
    for method, path, body in (
        ("GET", "theirs", None),
        ("POST", "theirs", {"enabled": False, "version": 1}),
        ("POST", "theirs/test", {}),
        ("DELETE", "theirs", None),
        ("DELETE", "silences/s", None),
        ("POST", f"incidents/{one.id}/acknowledge", {}),
    ):
        url = f"admin/alerts/{path}"
        send = world.post(url, body, OPERATOR) if method == "POST" else world.send(method, url, headers=OPERATOR)
        assert (await send).status == 404, url
    assert world.alerts.notifications == {}


async def test_a_change_names_what_changes_and_upon_which_version(world):
    rule = await made(world)
    path = f"admin/alerts/{rule['id']}"
    answer = await world.post(path, {"threshold": 0.2, "escalation": None}, {**OPERATOR, "if-match": '"1"'})
    assert (answer.status, answer.headers["etag"]) == (200, '"2"')
    assert answer.json | ERRORS | {"threshold": 0.2, "escalation": None} == answer.json
    late = await world.post(path, {"threshold": 0.3, "version": 1}, OPERATOR)
    assert (late.status, late.error["code"], late.error["param"]) == (409, "conflict", "version")
    blind = await world.post(path, {"threshold": 0.3}, OPERATOR)
    assert (blind.status, blind.error["param"]) == (400, "version")
    odd = await world.post(path, {"threshold": 0.3}, {**OPERATOR, "if-match": "*"})
    assert (odd.status, odd.error["param"]) == (400, "if-match")
    renamed = await world.post(path, {"name": None, "version": 2}, OPERATOR)
    assert (renamed.status, renamed.error["param"]) == (400, "name")
    (deed,) = [deed for deed in deeds(world) if deed.action == "alerts.change" and deed.outcome == "succeeded"]
    assert deed.before != deed.after


async def test_a_built_in_rule_is_disabled_and_not_deleted(world):
    path = "admin/alerts/router-slo-availability"
    answer = await world.post(path, {"enabled": False, "version": 0}, OPERATOR)
    assert (answer.status, answer.json["version"], answer.json["built_in"]) == (200, 1, True)
    assert (await world.get(path, ANALYST)).json["state"] == "disabled"
    refused = await world.send("DELETE", path, headers=OPERATOR)
    assert (refused.status, refused.error["code"]) == (409, "conflict")
    other = await world.post(path, {"kind": "threshold", "slo": "", "version": 1}, OPERATOR)
    assert (other.status, other.error["param"]) == (400, "kind")


async def test_a_deleted_rule_is_gone(world):
    rule = await made(world)
    path = f"admin/alerts/{rule['id']}"
    assert (await world.send("DELETE", path, headers=OPERATOR)).json == {"id": rule["id"], "deleted": True}
    assert (await world.get(path, ANALYST)).status == 404
    assert (await world.send("DELETE", path, headers=OPERATOR)).status == 404
    await made(world)


async def test_a_name_is_taken_once_also_those_of_built_in_rules(world):
    await made(world)
    for name in ("Errors", "Rollups stand still"):
        answer = await world.post("admin/alerts", ERRORS | {"name": name}, OPERATOR)
        assert (answer.status, answer.error["param"]) == (409, "name")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"name": None}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"kind": None}, "kind"),
        ({"kind": "guess"}, "kind"),
        ({"metric": "mood"}, "metric"),
        ({"of": "attempts"}, "subject"),
        ({"of_metric": "requests"}, "of_metric"),
        ({"kind": "ratio"}, "of_metric"),
        ({"comparison": "both"}, "comparison"),
        ({"threshold": "much"}, "threshold"),
        ({"window_s": 90}, "window_s"),
        ({"window_s": 0}, "window_s"),
        ({"window_s": 10**9 + 1}, "window_s"),
        ({"window_s": 86_400 + 60}, "window_s"),
        ({"for_s": 86_401}, "for_s"),
        ({"keep_firing_s": -1}, "keep_firing_s"),
        ({"repeat_s": 10}, "repeat_s"),
        ({"severity": "loud"}, "severity"),
        ({"channels": ["nowhere"]}, "channels"),
        ({"channels": ["ops", "ops"]}, "channels"),
        ({"channels": []}, "channels"),
        ({"escalation": {"after_s": 1, "channels": ["boss"]}}, "escalation.after_s"),
        ({"escalation": {"after_s": 600, "channels": []}}, "escalation.channels"),
        ({"escalation": {"after_s": 600, "channels": ["nowhere"]}}, "escalation.channels"),
        ({"runbook_url": "http://plain.example"}, "runbook_url"),
        ({"runbook_url": "https://user:word@x.example"}, "runbook_url"),
        ({"group_by": ["colour"]}, "group_by"),
        ({"group_by": ["tag"]}, "group_by"),
        ({"group_by": ["tag:team", "tag:feature"]}, "filters"),
        ({"group_by": ["tag:colour"]}, "tag_key"),
        ({"group_by": ["model", "model"]}, "group_by"),
        ({"filters": {"model": []}}, "filters.model"),
        ({"filters": {"tag:feature": ["x"]}}, "filters"),
        ({"slo": "availability"}, "slo"),
        ({"kind": "slo_burn_rate", "metric": "requests"}, "slo"),
        ({"kind": "slo_burn_rate", "metric": "requests", "slo": "luck"}, "slo"),
        ({"kind": "anomaly", "threshold": 5}, "window_s"),
        ({"kind": "budget_projection", "metric": "requests", "threshold": 1}, "group_by"),
        ({"kind": "missing_data"}, "metric"),
        ({"metric": "rollup_age_s"}, "metric"),
        ({"colour": 1}, "colour"),
        ({"days": 32, "dry_run": True}, "days"),
    ],
)
async def test_a_rule_that_cannot_be_is_refused_by_its_field(world, more, param):
    answer = await world.post("admin/alerts", ERRORS | more, OPERATOR)
    assert (answer.status, answer.error["param"]) == (400, param), answer.json
    assert world.alerts.kept_rules == {}


async def test_a_dry_run_says_what_would_have_fired_and_keeps_nothing(world):
    now = world.clock.now()
    for hours in (1, 30, 100):
        bad = requests(now - timedelta(hours=hours), 0, 3, tenant_id=TENANT, tags=(("team", "x"),), model_used="m")
        await world.store.insert(bad)
    answer = await world.post("admin/alerts", ERRORS | {"dry_run": True, "channels": [], "escalation": None}, OPERATOR)
    assert answer.status == 200, answer.json
    preview = answer.json["preview"]
    assert preview["fired"] == 3
    assert [one["group"] for one in preview["incidents"]] == [{"model": "m", "tag:team": "x"}] * 3
    assert preview["by_minutes_from"] is not None
    assert world.alerts.kept_rules == {}
    assert world.alerts.notifications == {}


# --- tests, incidents, silences


async def test_a_test_goes_to_everybody_the_rule_tells(world):
    rule = await made(world)
    answer = await world.post(f"admin/alerts/{rule['id']}/test", {}, OPERATOR)
    assert answer.status == 202
    assert [one["channel"] for one in answer.json["notifications"]] == ["ops", "boss"]
    assert all("this is a test" in one.summary for one in world.alerts.notifications.values())
    silent = await world.post("admin/alerts/router-rollups-stalled/test", {}, OPERATOR)
    assert (silent.status, silent.error["param"]) == (409, "channels")


async def test_incidents_are_read_in_pages_and_acknowledged_once(world):
    known = [firing(world, n) for n in range(1, 4)]
    first = (await world.get("admin/alerts/incidents?limit=2&state=firing", ANALYST)).json
    rest = (await world.get(f"admin/alerts/incidents?limit=2&cursor={first['next_cursor']}", ANALYST)).json
    assert [one["id"] for one in first["incidents"] + rest["incidents"]] == [one.id for one in reversed(known)]
    assert rest["next_cursor"] is None
    path = f"admin/alerts/incidents/{known[0].id}/acknowledge"
    answer = await world.post(path, {"note": "on it"}, OPERATOR)
    assert (answer.status, answer.json["acknowledged_by"], answer.json["note"]) == (200, "object-1", "on it")
    assert (await world.post(path, {}, OPERATOR)).status == 409
    assert (await world.post("admin/alerts/incidents/x/acknowledge", {}, OPERATOR)).status == 404
    assert (await world.post(path, {}, ANALYST)).status == 403


async def test_silences_are_made_listed_and_ended(world):
    now = world.clock.now()
    asked = {"labels": {"model": "m"}, "ends_at": (now + timedelta(hours=1)).isoformat(), "why": "maintenance"}
    answer = await world.post("admin/alerts/silences", asked, OPERATOR)
    assert (answer.status, answer.json["by"], answer.json["starts_at"]) == (201, "object-1", now.isoformat())
    assert (await world.get("admin/alerts/silences", ANALYST)).json["silences"] == [answer.json]
    path = f"admin/alerts/silences/{answer.json['id']}"
    assert (await world.send("DELETE", path, headers=OPERATOR)).status == 200
    assert (await world.get("admin/alerts/silences", ANALYST)).json["silences"] == []


@pytest.mark.parametrize(
    ("more", "status", "param"),
    [
        ({"why": ""}, 400, "why"),
        ({"ends_at": "2026-11-23T00:00:00"}, 400, "ends_at"),
        ({"ends_at": "2001-01-01T00:00:00Z"}, 400, "ends_at"),
        ({"ends_at": "2201-01-01T00:00:00Z"}, 400, "ends_at"),
        ({"rule_id": "gone"}, 404, "rule_id"),
        ({"labels": {"model": 1}}, 400, "labels.model"),
    ],
)
async def test_a_silence_that_cannot_be_is_refused(world, more, status, param):
    asked = {"ends_at": (world.clock.now() + timedelta(hours=1)).isoformat(), "why": "w"}
    answer = await world.post("admin/alerts/silences", asked | more, OPERATOR)
    assert (answer.status, answer.error["param"]) == (status, param)


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("admin/alerts?limit=0", "limit"),
        ("admin/alerts?cursor=!!", "cursor"),
        ("admin/alerts?cursor=WzEsMl0=", "cursor"),
        ("admin/alerts?state=resolved", "state"),
        ("admin/alerts?colour=red", "colour"),
        ("admin/alerts/incidents?state=lost", "state"),
        ("admin/alerts/incidents?cursor=!!", "cursor"),
        ("admin/alerts/router-rollups-stalled?rule_id=x", "rule_id"),
        ("admin/alerts/silences?limit=1", "limit"),
    ],
)
async def test_a_query_that_does_not_fit_names_its_parameter(world, path, param):
    answer = await world.get(path, ANALYST)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_an_absent_database_is_told_as_such(world):
    world.alerts.away = True
    answer = await world.get("admin/alerts", ANALYST)
    assert (answer.status, answer.error["code"]) == (503, "dependency_unavailable")


async def test_no_path_of_alerts_depends_on_the_order_in_which_routes_are_tried(world):
    """Azure tries overlapping routes by the names of their functions: the literal one must come first."""
    mine = [route for route in ROUTES if route.path.startswith("admin/alerts/")]
    overlapping = []
    for literal, general in permutations(mine, 2):
        table = RouteTable([Route("r", f"api/{PREFIX}/{general.path}", frozenset({general.method}), "r")])
        if "{" not in literal.path and table.match(literal.method, f"/api/{PREFIX}/{literal.path}"):
            overlapping.append((literal.name, general.name))
    assert overlapping
    # By their first letters, which every way of comparing puts in the same order.
    assert all(literal[0] < general[0] for literal, general in overlapping)
