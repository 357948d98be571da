"""/compliance through the door: who may, what comes, and what the audit trail keeps of it."""

import base64
import json
import re
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser

import azure.functions as func
import pytest

from functions import timers
from functions._headers import SECURITY_HEADERS
from shared.domain.identity import RouterRole
from shared.domain.privacy import SETTLING
from shared.domain.retention import RetentionClass
from tests.edge.edge_harness import PROVED
from tests.principals import TENANT, principal_header
from tests.security_builders import event, sighting

ADMIN = principal_header("console", roles=(RouterRole.ADMIN,))
OPERATOR = principal_header("console", roles=(RouterRole.OPERATOR,))
ANALYST = principal_header("console", roles=(RouterRole.ANALYST,))
HOSTILE = "<script>alert('x')</script>\"&\u202e"


def deeds(edge, action):
    return [row.event for rows in edge.trails.rows.values() for row in rows if row.event.action == action]


async def tick(timer):
    await timers.entry(timer)(timer=func.timer.TimerRequest())


# --- who may


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("POST", "compliance/export", ADMIN),
        ("POST", "compliance/erase", ADMIN),
        ("GET", "compliance/erasures/x", OPERATOR),
        ("GET", "compliance/retention", OPERATOR),
        ("GET", "compliance/report", OPERATOR),
    ],
)
async def test_personal_data_is_for_administrators_and_the_rest_for_who_reads_the_trail(edge, method, path, least):
    allowed = {}
    for name, headers in (("service", PROVED), ("analyst", ANALYST), ("operator", OPERATOR), ("admin", ADMIN)):
        answer = await (edge.post(path, {"service": "s"}, headers) if method == "POST" else edge.get(path, headers))
        allowed[name] = answer.status != 403
    expected = {"service": False, "analyst": False, "operator": least is OPERATOR, "admin": True}
    assert allowed == expected


# --- export


async def test_an_export_is_json_lines_and_the_trail_says_who_took_it_and_not_whose(edge):
    await edge.get("models", PROVED)
    await edge.get("compliance/report", OPERATOR)  # a deed of object-1
    answer = await edge.post("compliance/export", {"principal_id": "object-1"}, ADMIN)
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "application/jsonl")
    *rows, last = [json.loads(line) for line in answer.body.splitlines()]
    assert [(row["store"], row["deed"]["action"]) for row in rows] == [("audit", "compliance.report")]
    assert last == {"next_cursor": None}
    (deed,) = deeds(edge, "compliance.export")
    assert deed.resource.startswith("principal ")
    assert "object-1" not in deed.resource


async def test_an_export_goes_on_where_the_last_page_ended(edge):
    for _ in range(3):
        await edge.get("compliance/report", OPERATOR)
        edge.clock.advance(86_400)
    cursor, actions = "0:", []
    while cursor:
        body = {"principal_id": "object-1", "cursor": cursor, "limit": 1}
        *rows, last = (await edge.post("compliance/export", body, ADMIN)).body.splitlines()
        actions += [json.loads(row)["deed"]["action"] for row in rows]
        cursor = json.loads(last)["next_cursor"]
    assert actions.count("compliance.report") == 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"principal_id": "a", "service": "b"}, None),
        ({"principal_id": ""}, "principal_id"),
        ({"principal_id": "a\0"}, None),
        ({"tag": "novalue"}, "tag"),
        ({"tag": "=x"}, "tag"),
        ({"service": "s", "limit": 5_001}, "limit"),
        ({"service": "s", "cursor": "99:"}, "cursor"),
        ({"service": "s", "cursor": "0:nonsense"}, "cursor"),
        ({"service": "s", "who": 1}, "who"),
    ],
)
async def test_an_export_that_does_not_fit_is_refused_without_quoting_it(edge, body, param):
    answer = await edge.post("compliance/export", body, ADMIN)
    assert (answer.status, answer.error["param"]) == (400, param)


# --- erase


async def test_an_erasure_is_ordered_done_and_certified(edge):
    await edge.get("compliance/report", OPERATOR)
    ordered = await edge.post("compliance/erase", {"principal_id": "object-1"}, ADMIN)
    assert (ordered.status, ordered.json["state"], ordered.json["certificate"]) == (202, "requested", None)
    again = await edge.post("compliance/erase", {"principal_id": "object-1"}, ADMIN)
    assert again.json["id"] == ordered.json["id"]
    edge.clock.advance(SETTLING.total_seconds())
    await tick(timers.erase_persons)
    done = (await edge.get(f"compliance/erasures/{ordered.json['id']}", OPERATOR)).json
    assert (done["state"], done["found"]["sessions"]) == ("completed", {})
    assert done["certificate_sha256"] == sha256(done["certificate"].encode()).hexdigest()
    assert (ordered.json.get("vouched"), done["vouched"]) == (None, True)
    (vouched,) = deeds(edge, "compliance.erased")
    assert (vouched.resource, vouched.after) == (ordered.json["id"], done["certificate_sha256"])
    assert done["found"]["audit"]["deeds"] >= 1
    assert all(deed.actor == f"erased-{done['id']}" for deed in deeds(edge, "compliance.report"))


async def test_another_tenants_erasure_is_not_found(edge):
    ordered = (await edge.post("compliance/erase", {"service": "s"}, ADMIN)).json
    foreign = principal_header("console", roles=(RouterRole.ADMIN,), tenant=TENANT)
    assert (await edge.get(f"compliance/erasures/{ordered['id']}", foreign)).status == 200
    edge.oversight.erasures.by_id[ordered["id"]] = replace(
        edge.oversight.erasures.by_id[ordered["id"]], tenant_id="another"
    )
    assert (await edge.get(f"compliance/erasures/{ordered['id']}", ADMIN)).status == 404


async def test_neither_answer_nor_trail_nor_log_names_whom_an_erasure_is_about(edge):
    answer = await edge.post("compliance/erase", {"tag": "user=canary-4711"}, ADMIN)
    edge.clock.advance(SETTLING.total_seconds())
    await tick(timers.erase_persons)
    shown = await edge.get(f"compliance/erasures/{answer.json['id']}", ADMIN)
    told = [answer.body, shown.body, str(edge.trails.rows), str(edge.telemetry.logs), str(edge.telemetry.spans)]
    assert all("canary" not in str(one) for one in told)


# --- retention


async def test_what_is_due_is_shown_and_leaves_at_night(edge):
    old = edge.clock.now() - timedelta(days=3_650)
    edge.oversight.retention.kept[RetentionClass.EVENTS, "principal_sightings"] = [old, edge.clock.now()]
    shown = (await edge.get("compliance/retention", OPERATOR)).json
    assert shown["due"] == [{"class": "events", "what": "principal_sightings", "rows": 1}]
    assert (shown["records_months"], shown["audit_months"], shown["enforced"]) == (13, 24, True)
    await tick(timers.enforce_retention)
    assert (await edge.get("compliance/retention", OPERATOR)).json["due"] == []
    assert (await edge.get("compliance/retention?what=all", OPERATOR)).status == 400


# --- report


async def lived(edge, name=HOSTILE):
    at = edge.clock.now() - timedelta(minutes=1)
    seen = sighting(tenant_id=TENANT, principal_id=name, service=name, first_at=at, last_at=at)
    made = [event(tenant_id=TENANT, at=at, actor=name, resource=f"GET r{n}") for n in range(4)]
    await edge.oversight.events.insert(made, [seen])
    await tick(timers.watch_threats)


async def test_the_report_says_what_is_known_and_what_is_not(edge):
    await lived(edge, "p-1")
    await edge.post("compliance/erase", {"service": "gone"}, ADMIN)
    report = (await edge.get("compliance/report", OPERATOR)).json
    assert ("p-1", ["Router.Service"], 1) in [(p["principal_id"], p["roles"], p["networks"]) for p in report["access"]]
    assert report["incidents"]["events"] == {"permission_denied": 4}
    assert [f["subject"] for f in report["incidents"]["not_resolved"]] == ["p-1"]
    assert (report["audit"]["intact"], report["audit"]["faults"]) == (True, [])
    assert [e["state"] for e in report["erasures"]] == ["requested"]
    facts = {fact["topic"]: fact["protected"] for fact in report["encryption"]}
    assert (facts["redis in transit"], facts["storage in transit"], facts["session tokens"]) == (False, True, None)
    assert (report["unavailable"], report["retention"]["due"]) == ([], [])
    assert any("at rest" in one for one in report["not_known_here"])


async def test_a_broken_trail_stands_in_the_report(edge):
    await edge.get("compliance/report", OPERATOR)
    (rows,) = edge.trails.rows.values()
    rows[0] = replace(rows[0], body=rows[0].body.replace("object-1", "object-2"))
    report = (await edge.get("compliance/report", OPERATOR)).json
    assert report["audit"]["intact"] is False
    assert b"broken" in (await edge.get("compliance/report?format=html", OPERATOR)).body


async def test_a_section_that_cannot_be_had_is_missing_by_name(edge):
    edge.oversight.findings.away = edge.oversight.erasures.away = True
    answer = await edge.get("compliance/report", OPERATOR)
    assert (answer.status, answer.json["incidents"], answer.json["erasures"]) == (200, None, None)
    assert sorted(answer.json["unavailable"]) == ["erasures", "incidents"]
    page = (await edge.get("compliance/report?format=html", OPERATOR)).body.decode()
    assert page.count("could not be had") == 2


class Tags(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


async def test_the_page_shows_hostile_names_as_text_and_loads_nothing(edge):
    await lived(edge)
    answer = await edge.get("compliance/report?format=html", OPERATOR)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Tags()
    page.feed(answer.body.decode())
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "strong", "ul", "li", "table", "thead",
        "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "class"}
    assert page.text.count(HOSTILE) >= 3
    assert "url(" not in answer.body.decode()


async def test_the_pages_style_is_allowed_by_its_hash_and_nothing_else_is(edge):
    answer = await edge.get("compliance/report?format=html", OPERATOR)
    (style,) = re.findall("<style>(.*?)</style>", answer.body.decode(), re.DOTALL)
    policy = answer.headers["content-security-policy"]
    assert base64.b64encode(sha256(style.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    others = {name: value for name, value in SECURITY_HEADERS.items() if name != "content-security-policy"}
    assert answer.headers.items() >= others.items()


@pytest.mark.parametrize(("query", "param"), [("format=pdf", "format"), ("since=x", "since"), ("who=me", "who")])
async def test_a_report_that_does_not_fit_is_refused(edge, query, param):
    answer = await edge.get(f"compliance/report?{query}", OPERATOR)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_reading_the_report_is_in_the_trail(edge):
    await edge.get("compliance/report", OPERATOR)
    assert [deed.outcome for deed in deeds(edge, "compliance.report")] == ["succeeded"]
