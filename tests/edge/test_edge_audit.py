"""What the door writes to the audit trail, and GET /audit."""

from dataclasses import replace

import pytest

from functions._edge import AuditDetail, Reply
from functions.http import ROUTES
from shared.domain.audit import AuditOutcome
from shared.domain.errors import InvalidRequest
from tests.edge.edge_harness import PROVED, Caller
from tests.principals import principal_header

BY_NAME = {route.name: route for route in ROUTES}
AUDITOR = principal_header("app-9", roles=("Router.Operator",))
JSON = {"content-type": "application/json"}
DEED = replace(BY_NAME["receipt"], audited="test.deed")


async def events(edge):
    """What is in the trail, the oldest first."""
    await edge.container.audit.aclose()
    return [row.event for rows in edge.trails.rows.values() for row in rows]


async def listed(edge, query=""):
    answer = await edge.send("GET", f"audit{query}", headers=AUDITOR)
    assert answer.status == 200, answer.json
    return answer.json


async def test_a_deed_is_written_with_who_what_and_from_where(edge):
    async def changed(_call):
        return Reply({}, audit=AuditDetail(resource="policy", before="a" * 64, after="b" * 64))

    headers = {**AUDITOR, "x-forwarded-for": "203.0.113.77", "user-agent": "curl/8"}
    assert (await edge.knock(DEED, headers=headers, handler=changed)).status == 200
    (event,) = await events(edge)
    assert (event.action, event.resource, event.outcome) == ("test.deed", "policy", AuditOutcome.SUCCEEDED)
    assert (event.actor, event.service, event.network) == ("object-1", "app-9", "203.0.113.0/24")
    assert (event.before, event.after) == ("a" * 64, "b" * 64)
    assert event.user_agent
    assert "curl" not in event.user_agent


async def test_a_deed_that_failed_is_written_with_its_code(edge):
    async def failing(_call):
        raise InvalidRequest("no", param="x")

    assert (await edge.knock(DEED, headers=AUDITOR, handler=failing)).status == 400
    (event,) = await events(edge)
    assert (event.outcome, event.code) == (AuditOutcome.FAILED, "invalid_request")


async def test_a_deed_that_cannot_be_audited_is_not_reported_as_done(edge, monkeypatch):
    monkeypatch.setattr("shared.services.audit._DEADLINE_S", 0.01)
    edge.trails.away = True

    async def done(_call):
        return Reply({})

    answer = await edge.knock(DEED, headers=AUDITOR, handler=done)
    assert (answer.status, answer.error["code"]) == (503, "dependency_unavailable")


@pytest.mark.parametrize(
    ("headers", "actor", "code"),
    [({}, "anonymous", "unauthenticated"), (principal_header(roles=()), "object-1", "forbidden")],
)
async def test_a_refusal_is_noted(edge, headers, actor, code):
    await edge.knock(BY_NAME["models"], headers=headers)
    (event,) = await events(edge)
    assert (event.actor, event.code, event.outcome) == (actor, code, AuditOutcome.DENIED)
    assert (event.action, event.resource) == ("access", "GET models")


async def test_what_everybody_does_all_day_is_not_in_the_trail(edge):
    await edge.knock(BY_NAME["models"], headers=PROVED)
    await edge.knock(BY_NAME["health"])
    assert await events(edge) == []


async def test_the_trail_is_read_in_pages_and_reading_is_audited_too(edge):
    for _ in range(3):
        await edge.knock(BY_NAME["models"], headers=principal_header(roles=()))
    first = await listed(edge, "?limit=2&action=access&until=2100-01-01T00:00:00Z&since=2099-12-01T00:00:00Z")
    assert first == {"events": [], "next_cursor": None}
    first = await listed(edge, "?limit=2&action=access")
    second = await listed(edge, f"?limit=2&action=access&cursor={first['next_cursor']}")
    assert (len(first["events"]), len(second["events"]), second["next_cursor"]) == (2, 1, None)
    ids = [event["id"] for event in first["events"] + second["events"]]
    assert ids == sorted(set(ids), reverse=True)
    reads = await listed(edge, "?action=audit.read&outcome=succeeded&actor=object-1")
    assert len(reads["events"]) == 3


async def test_the_chains_are_verified_on_demand(edge):
    await edge.knock(BY_NAME["models"])
    await listed(edge)
    verified = (await listed(edge, "?verify=true"))["verification"]
    assert (verified["intact"], verified["faults"]) == (True, [])
    (rows,) = edge.trails.rows.values()
    rows[0] = replace(rows[0], body=rows[0].body.replace("anonymous", "somebody"))
    broken = (await listed(edge, "?verify=true"))["verification"]
    assert broken["intact"] is False
    assert broken["faults"][0]["sequence"] == 1


async def test_another_tenants_events_are_not_shown(edge):
    await edge.knock(BY_NAME["models"], headers=principal_header(roles=()))
    await listed(edge)  # is itself written, and what was noted before it
    own = (await listed(edge, "?action=access"))["events"]
    assert len(own) == 1
    (noted,) = [row.event for rows in edge.trails.rows.values() for row in rows if row.event.action == "access"]
    await edge.container.audit.record(replace(noted, tenant_id="another", id="foreign"))
    assert (await listed(edge, "?action=access"))["events"] == own


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=501", "limit"),
        ("?limit=x", "limit"),
        ("?since=yesterday", "since"),
        ("?since=2026-11-23T00:00:00", "since"),
        ("?since=2020-01-01T00:00:00Z", "since"),
        ("?outcome=maybe", "outcome"),
        ("?cursor=!!", "cursor"),
        ("?cursor=AAAA", "cursor"),
        ("?verify=perhaps", "verify"),
        ("?who=p-1", "who"),
    ],
)
async def test_a_query_that_does_not_fit_names_its_parameter(edge, query, param):
    answer = await edge.send("GET", f"audit{query}", headers=AUDITOR)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_only_who_may_read_the_trail_reads_it(edge):
    answer = await edge.knock(BY_NAME["audit"], Caller([b""]), headers={**PROVED, **JSON})
    assert (answer.status, answer.error["code"]) == (403, "forbidden")
