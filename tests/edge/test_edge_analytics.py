"""GET /analytics, GET /analytics/savings, POST /feedback: what they take, what they refuse, and whose figures they show."""

from datetime import datetime, timedelta
from decimal import Decimal

import azure.functions as func
import pytest

from functions import timers
from shared.domain.identity import PERMISSIONS, Permission, RouterRole
from shared.domain.replies import Usage
from shared.services.analytics import Analytics
from shared.services.feedback import FeedbackDesk
from shared.services.insight import Insight
from shared.services.quality_scores import QualityScores
from shared.services.rollups import Rollups
from shared.stores.memory_analytics import MemoryAnalytics, MemoryFeedback
from shared.stores.memory_quality import MemoryQuality
from tests.edge.edge_harness import PROVED
from tests.principals import TENANT, principal_header
from tests.stores_builders import record

ANALYST = principal_header("console", roles=(RouterRole.ANALYST,))
SPAN = "from=2026-01-01&to=2026-01-03"
START = datetime.fromisoformat("2026-01-01T05:00:00+00:00")


@pytest.fixture
def edge(build_edge):
    edge = build_edge()
    edge.feedback = MemoryFeedback(edge.store)
    edge.analytics = MemoryAnalytics(edge.store, edge.feedback, edge.clock)
    shelf = edge.container.shelf
    insight = Insight(
        Analytics(edge.analytics, lambda: shelf.registry, {"app-1": "a"}),
        FeedbackDesk(edge.feedback, lambda: shelf.policy, edge.telemetry),
        Rollups(None, lambda: shelf.registry, edge.clock, edge.telemetry),
        QualityScores(MemoryQuality(edge.feedback), edge.analytics, edge.clock),
    )
    object.__setattr__(edge.container, "insight", insight)
    return edge


async def had(edge, count=1, **fields):
    values = {
        "tenant_id": TENANT,
        "service_name": "app-1",
        "start_time": START,
        "end_time": START + timedelta(seconds=2),
        "model_used": "a",
        "usage": Usage(input_tokens=1_000_000),
        "cost_usd": Decimal("0.5"),
        "tags": (("team", "x"),),
    }
    made = [record(**values | fields) for _ in range(count)]
    await edge.store.insert(made)
    return made


async def test_figures_come_with_their_freshness_and_error(edge):
    await had(edge, 3)
    await had(edge, 1, tenant_id="other")
    answer = await edge.get(f"analytics?{SPAN}&group_by=model,tag:team", headers=ANALYST)
    assert answer.status == 200
    body = answer.json
    (row,) = body["rows"]
    assert row["start"] == "2026-01-01T05:00:00+00:00"
    assert row["group"] == {"model": "a", "tag:team": "x"}
    assert (row["requests"], row["cost_usd"], row["tokens"]["input_tokens"]) == (3, 1.5, 3_000_000)
    assert row["latency_ms"]["p99"] == pytest.approx(2_000, rel=0.01)
    assert (body["bucket"], body["timezone"], body["pending_buckets"], body["late_share"]) == ("hour", "UTC", 0, 0.0)
    assert body["as_of"] == edge.clock.now().isoformat()
    assert body["total"]["requests"] == 3
    assert body["next_cursor"] is None
    assert body["previous"] is None


async def test_dates_and_starts_are_those_of_the_zone(edge):
    await had(edge, start_time=datetime.fromisoformat("2026-01-01T23:30:00+00:00"))
    answer = await edge.get(
        "analytics?from=2026-01-02&to=2026-01-03&timezone=Europe/Berlin&bucket=day", headers=ANALYST
    )
    assert [row["start"] for row in answer.json["rows"]] == ["2026-01-02T00:00:00+01:00"]
    assert answer.json["from"] == "2026-01-02T00:00:00+01:00"


async def test_pages_lead_to_the_next(edge):
    for hour in range(3):
        await had(edge, start_time=START + timedelta(hours=hour))
    starts, url = [], f"analytics?{SPAN}&limit=1&metrics=requests"
    cursor = ""
    while cursor is not None:
        body = (await edge.get(url + (f"&cursor={cursor}" if cursor else ""), headers=ANALYST)).json
        starts += [row["start"][11:13] for row in body["rows"]]
        assert body["total"] == {"requests": 3}
        cursor = body["next_cursor"]
    assert starts == ["05", "06", "07"]


async def test_the_period_before_is_compared(edge):
    await had(edge, 2, start_time=START)
    await had(edge, 3, start_time=START + timedelta(days=1))
    url = "analytics?from=2026-01-02&to=2026-01-03&compare=previous&metrics=requests,latency_ms,cost_usd"
    body = (await edge.get(url, headers=ANALYST)).json
    (change,) = body["previous"]["changes"]
    assert body["previous"]["from"] == "2026-01-01T00:00:00+00:00"
    assert (change["current"]["requests"], change["previous"]["requests"]) == (3, 2)
    assert change["relative_change"] == {"requests": 0.5, "cost_usd": 0.5}


async def test_attempts_are_counted_apart(edge):
    await had(edge, 2)
    body = (await edge.get(f"analytics?{SPAN}&of=attempts&group_by=deployment", headers=ANALYST)).json
    (row,) = body["rows"]
    assert (row["attempts"], row["errors"], row["errors_by_class"]) == (4, 2, {"provider_rate_limited": 2})
    assert row["tokens_per_s"] == pytest.approx(350 / (1400.25 - 312.5) * 1000)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("nonsense=1", "nonsense"),
        ("from=yesterday", "from"),
        ("from=0001-01-01", "from"),
        ("to=9999-12-31T23:59:59-12:00", "to"),
        ("from=2026-01-02&to=2026-01-01", "from"),
        ("from=2020-01-01&to=2026-01-01", "from"),
        ("timezone=../../etc/passwd", "timezone"),
        ("timezone=Mars/Olympus", "timezone"),
        ("timezone=Asia/Kolkata&bucket=day&from=2026-01-01", "timezone"),
        ("bucket=minute", "bucket"),
        ("bucket=hour&from=2025-10-01&to=2026-01-01", "bucket"),
        ("group_by=model,model", "group_by"),
        ("group_by=tag", "group_by"),
        ("group_by=tag:team,tag:feature", "group_by"),
        ("group_by=tag:user", "group_by"),
        ("group_by=principal", "group_by"),
        ("filter.tag=team", "filter.tag"),
        ("filter.tag=:x", "filter.tag"),
        ("filter.tag=feature:x&group_by=tag:team", "filter.tag"),
        ("filter.model=" + ",".join(map(str, range(51))), "filter.model"),
        ("filter.model=%00", "filter.model"),
        ("of=attempts&group_by=service", "of"),
        ("of=attempts&filter.category=code", "of"),
        ("metrics=requests,joy", "metrics"),
        ("of=attempts&metrics=quality", "metrics"),
        ("compare=next", "compare"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=%20", "cursor"),
        ("cursor=WyJ4Il0=", "cursor"),
        ("cursor=W10=", "cursor"),
        ("cursor=bnVsbA==", "cursor"),
        ("cursor=WzFd", "cursor"),
    ],
)
async def test_what_does_not_fit_is_named(edge, query, param):
    answer = await edge.get(f"analytics?{query}", headers=ANALYST)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_whoever_may_not_read_the_administration_sees_only_himself(edge, monkeypatch):
    monkeypatch.setitem(PERMISSIONS, RouterRole.SERVICE, PERMISSIONS[RouterRole.SERVICE] | {Permission.ANALYTICS_READ})
    await had(edge, 2)
    await had(edge, 5, service_name="other")
    assert (await edge.get(f"analytics?{SPAN}")).json["total"]["requests"] == 2
    assert (await edge.get(f"analytics?{SPAN}&filter.service=app-1")).json["total"]["requests"] == 2
    assert (await edge.get(f"analytics/savings?{SPAN}")).json["total"]["requests"] == 2
    for path in ("analytics?filter.service=other", "analytics?of=attempts", "analytics/savings?filter.service=other"):
        answer = await edge.get(path)
        assert (answer.status, answer.error["code"]) == (403, "forbidden")
    assert (await edge.get(f"analytics?{SPAN}", headers=ANALYST)).json["total"]["requests"] == 7


async def test_savings_name_the_model_that_they_are_measured_by(edge):
    await had(edge, 2)
    body = (await edge.get(f"analytics/savings?{SPAN}&baseline=former&group_by=service", headers=ANALYST)).json
    assert body["baseline_models"] == {"app-1": "a"}
    total = body["total"]
    assert (total["actual_usd"], total["baseline_usd"], total["saved_share"]) == (1.0, 2.0, 0.5)
    assert total["interval"] is None
    assert [group["group"] for group in body["groups"]] == ["app-1"]
    best = (await edge.get(f"analytics/savings?{SPAN}", headers=ANALYST)).json
    assert best["baseline_models"] == {"*": "a"}


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("group_by=category", 400, "group_by"),
        ("group_by=service,model", 400, "group_by"),
        ("group_by=tag:team", 400, "group_by"),
        ("baseline=nobody", 404, "baseline"),
        ("metrics=x", 400, "metrics"),
    ],
)
async def test_what_does_not_fit_savings_is_named(edge, query, status, param):
    answer = await edge.get(f"analytics/savings?{query}", headers=ANALYST)
    assert (answer.status, answer.error["param"]) == (status, param)


async def test_feedback_is_kept_without_what_is_sensitive_and_shows_in_the_figures(edge):
    (one,) = await had(edge)
    body = {"request_id": one.id, "thumbs": "up", "comment": "mail bob@example.com", "tags": ["helpful"]}
    answer = await edge.post("feedback", body)
    assert answer.status == 200
    assert answer.json == {
        "request_id": one.id,
        "state": "counted",
        "score": 1.0,
        "points": 5.0,
        "of_points": 5,
        "tags": ["helpful"],
        "comment": "mail [email]",
        "redacted": ["email"],
    }
    assert (await edge.post("feedback", {"request_id": one.id.upper(), "score": 0.9})).status == 200
    quality = (await edge.get(f"analytics?{SPAN}&metrics=quality", headers=ANALYST)).json["total"]["quality"]
    assert (quality["ratings"], quality["mean"], quality["points"]) == (1, 0.9, 4.5)
    assert quality["interval"]["low"] < 0.9 < quality["interval"]["high"]
    assert quality["sources"]["feedback"]["ratings"] == 1
    assert quality["target"] == {"above_points": 4.5, "state": "not_enough_data"}


async def test_quality_is_shown_by_source_and_faulty_answers_stand_apart(edge):
    judged = {"quality_source": "judge", "quality_signs": ""}
    await had(edge, 60, quality_score=1.0, **judged)
    await had(edge, 10, quality_score=0.75, **judged)
    await had(edge, 5, quality_score=0.0, quality_source="signals", quality_signs="empty")
    await had(edge, 25, quality_score=None, quality_source=None, quality_signs="")
    body = (await edge.get(f"analytics?{SPAN}&metrics=quality&group_by=model", headers=ANALYST)).json
    quality = body["total"]["quality"]
    assert (quality["ratings"], quality["points"]) == (70, pytest.approx(5 * 67.5 / 70))
    assert quality["interval"]["low"] > 0.9
    assert quality["target"]["state"] == "met"
    assert {source: found["ratings"] for source, found in quality["sources"].items()} == {
        "feedback": 0,
        "judge": 70,
        "signals": 5,
    }
    assert quality["sources"]["signals"]["mean"] == 0.0
    assert quality["fault_rate"] == pytest.approx(0.05)
    since = START.replace(hour=0)
    means = await edge.container.insight.quality.means(TENANT, since, since + timedelta(days=1))
    assert [(m.model_id, m.category, m.source.value, m.count) for m in means] == [
        ("a", "code", "judge", 70),
        ("a", "code", "signals", 5),
    ]
    assert means[0].mean == pytest.approx(67.5 / 70)
    assert await edge.container.insight.quality.means("nobody", since, since + timedelta(days=1)) == []


async def test_the_timer_makes_scores(edge):
    (one,) = await had(edge, quality_score=None, quality_source=None, quality_signs="")
    await edge.post("feedback", {"request_id": one.id, "score": 0.5})
    await timers.score_quality(edge.container)
    assert (edge.store.by_id[one.id].quality_score, edge.store.by_id[one.id].quality_source) == (0.5, "feedback")


async def test_feedback_may_come_before_its_record(edge):
    answer = await edge.post("feedback", {"request_id": "0197a3c0-0000-7000-8000-000000000001", "score": 0})
    assert (answer.status, answer.json["state"]) == (202, "waiting")


async def test_feedback_on_another_services_request_is_not_taken(edge):
    (one,) = await had(edge, service_name="other")
    answer = await edge.post("feedback", {"request_id": one.id, "score": 1})
    assert (answer.status, answer.error["param"]) == (404, "request_id")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"request_id": "x"}, "request_id"),
        ({"score": 1.1}, "score"),
        ({"score": True}, "score"),
        ({"thumbs": "sideways"}, "thumbs"),
        ({"thumbs": "up"}, None),
        ({"score": None}, None),
        ({"comment": "a\0"}, "comment"),
        ({"tags": ["a\nb"]}, "tags[0]"),
        ({"tags": ["x"] * 21}, "tags"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_feedback_that_does_not_fit_is_named(edge, change, param):
    body = {"request_id": "0197a3c0-0000-7000-8000-000000000001", "score": 0.5} | change
    answer = await edge.post("feedback", body)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_the_timer_brings_rollups_up_to_date(edge):
    class Due:
        steps = 3

        async def join_feedback(self, now):
            assert now == edge.clock.now()

        async def fold(self, now, *, tiers):
            self.steps -= 1
            return self.steps >= 0

        async def merge(self, granularity):
            return False

        async def purge_minutes(self, now):
            assert self.steps < 0

    edge.container.insight.rollups._store = due = Due()
    await timers.entry(timers.roll_up)(timer=func.timer.TimerRequest())
    assert due.steps < 0
    assert [(span.name, span.success) for span in edge.telemetry.requests] == [("roll_up", True)]


async def test_feedback_needs_its_permission_and_analytics_theirs(edge):
    assert (await edge.post("feedback", {}, headers=ANALYST)).status == 403
    assert (await edge.get("analytics", headers=PROVED)).status == 403
    assert (await edge.get("analytics/savings", headers=PROVED)).status == 403
