"""/admin/alerts/deliveries: pages of the caller's own tenant, and dead ones that are sent again."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from shared import container as containers
from shared.domain.channels import ChannelKind
from shared.domain.identity import RouterRole
from shared.services.notifying import DeliveryDesk, Dispatcher, Notifying
from shared.stores.memory_notifications import MemoryDeliveries
from tests.edge.edge_harness import Edge
from tests.notification_builders import notification
from tests.principals import TENANT, principal_header

ANALYST = principal_header(roles=(RouterRole.ANALYST,))
OPERATOR = principal_header(roles=(RouterRole.OPERATOR,))
PATH = "admin/alerts/deliveries"


@pytest.fixture
async def edge():
    edge = Edge()
    edge.deliveries = MemoryDeliveries()
    dispatcher = Dispatcher(
        edge.deliveries,
        dict.fromkeys(ChannelKind),
        lambda: edge.container.shelf.policy,
        edge.clock,
        edge.telemetry,
        random.Random(1),
    )
    edge.container = replace(edge.container, notifying=Notifying(dispatcher, DeliveryDesk(edge.deliveries, edge.clock)))
    containers.override(edge.container)
    yield edge
    containers.override(None)


async def tell(edge, *numbers, **fields):
    now = edge.clock.now()
    told = [notification(n, tenant_id=TENANT, created_at=now - timedelta(seconds=n), **fields) for n in numbers]
    await edge.deliveries.insert(told)


async def kill(edge, channel="ops"):
    """Gives up what is due."""
    now = edge.clock.now()
    for one in await edge.deliveries.claim(TENANT, channel, now, lease_s=60, limit=100):
        await edge.deliveries.died(one, "http_410", now)


async def test_a_delivery_says_what_where_and_how_far(edge):
    await tell(edge, 1)
    answer = await edge.get(PATH, headers=ANALYST)
    assert answer.status == 200
    (one,) = answer.json["deliveries"]
    created_at = (edge.clock.now() - timedelta(seconds=1)).isoformat()
    assert one == {
        "id": "n-1",
        "channel": "ops",
        "occasion": "firing",
        "severity": "critical",
        "rule_id": "r-1",
        "rule_name": "Too many errors",
        "incident_id": "i-1",
        "summary": "The error rate of gemini-flash is 12% (threshold 5%).",
        "created_at": created_at,
        "state": "waiting",
        "attempts": 0,
        "next_attempt_at": created_at,
        "ended_at": None,
        "last_error": None,
    }
    assert answer.json["next_cursor"] is None


async def test_pages_follow_each_other_and_end(edge):
    await tell(edge, *range(1, 6))
    first = await edge.get(f"{PATH}?limit=2", headers=ANALYST)
    second = await edge.get(f"{PATH}?limit=2&cursor={first.json['next_cursor']}", headers=ANALYST)
    third = await edge.get(f"{PATH}?limit=2&cursor={second.json['next_cursor']}", headers=ANALYST)
    pages = [[one["id"] for one in page.json["deliveries"]] for page in (first, second, third)]
    assert pages == [["n-1", "n-2"], ["n-3", "n-4"], ["n-5"]]
    assert third.json["next_cursor"] is None


async def test_filters(edge):
    await tell(edge, 1)
    await kill(edge)
    await tell(edge, 2, channel="mail")
    for query, found in [("state=dead", ["n-1"]), ("channel=mail", ["n-2"]), ("incident_id=i-1", ["n-1"])]:
        answer = await edge.get(f"{PATH}?{query}", headers=ANALYST)
        assert [one["id"] for one in answer.json["deliveries"]] == found


async def test_another_tenants_are_not_there(edge):
    await edge.deliveries.insert([notification(1, created_at=edge.clock.now())])
    assert (await edge.get(PATH, headers=ANALYST)).json["deliveries"] == []
    assert (await edge.post(f"{PATH}/n-1/retry", {}, headers=OPERATOR)).status == 404


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("state=lost", "state"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
        ("channel=", "channel"),
        ("incident_id=%00", "incident_id"),
        ("since=2020-01-01T00:00:00Z", "since"),
        ("colour=red", "colour"),
    ],
)
async def test_what_does_not_fit_is_named(edge, query, param):
    answer = await edge.get(f"{PATH}?{query}", headers=ANALYST)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_a_dead_one_is_sent_again_and_the_trail_says_who_asked(edge):
    await tell(edge, 1)
    await kill(edge)
    answer = await edge.post(f"{PATH}/n-1/retry", {}, headers=OPERATOR)
    assert (answer.status, answer.json["state"], answer.json["last_error"]) == (202, "waiting", "http_410")
    await edge.container.audit.aclose()
    (event,) = [row.event for rows in edge.trails.rows.values() for row in rows]
    assert (event.action, event.resource) == ("alerts.retry_delivery", "notification n-1")


async def test_only_dead_ones_are_sent_again(edge):
    await tell(edge, 1)
    answer = await edge.post(f"{PATH}/n-1/retry", {}, headers=OPERATOR)
    assert answer.status == 409
    assert (await edge.post(f"{PATH}/n-1/retry", {}, headers=ANALYST)).status == 403


async def test_the_timer_delivers(edge):
    from functions.timers import deliver_notifications  # noqa: PLC0415 - functions are made when it is imported

    await tell(edge, 1)
    await deliver_notifications(edge.container)
    assert edge.deliveries.by_id["n-1"].last_error == "channel_unknown"
