"""/admin/export: what is streamed and how it ends, jobs and their links, what is refused, and what the trail says."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta

import azure.functions as func
import pytest
import uvicorn
from azurefunctions.extensions.http.fastapi import Request

from functions import queues, timers
from functions._edge import entry
from functions.http import ROUTES
from shared.container.contents import Exports
from shared.domain.errors import DependencyUnavailable
from shared.domain.exports import ExportState, ExportTask, RowPage, SignedLink
from shared.domain.identity import RouterRole
from shared.services.exporting import ExportDesk
from shared.services.idempotency import IdempotencyService
from shared.stores.export_files import file_of
from shared.stores.memory_reuse import MemoryIdempotencyStore
from tests.edge.edge_harness import PROVED, Caller
from tests.principals import TENANT, principal_header

ANALYST = principal_header("console", roles=(RouterRole.ANALYST,))
MISSING = "0197a3c0-0000-7000-8000-000000000001"


class Rows:
    """Pages as the test says; None is an outage."""

    def __init__(self):
        self.pages_of, self.total, self.asked, self.is_open = [b"1\r\n", b"2\r\n"], 2, None, False

    async def count(self, query, *, most):
        return min(self.total, most)

    async def pages(self, query, form):
        self.asked, self.is_open = (query, form), True
        try:
            for text in self.pages_of:
                if text is None:
                    raise DependencyUnavailable("the database does not answer")
                yield RowPage(text, 1)
        finally:
            self.is_open = False


class Jobs:
    """Jobs in a dictionary."""

    def __init__(self):
        self.kept = {}

    async def add(self, job, *, most_open):
        mine = [one for one in self.kept.values() if one.tenant_id == job.tenant_id and one.state.is_open]
        if len(mine) < most_open:
            self.kept[job.id] = job
        return len(mine) < most_open

    async def get(self, tenant_id, export_id):
        job = self.kept.get(export_id)
        return job if job is not None and job.tenant_id == tenant_id else None

    async def page(self, tenant_id, *, before, limit):
        mine = [job for job in self.kept.values() if job.tenant_id == tenant_id]
        mine.sort(key=lambda job: (job.created_at, job.id), reverse=True)
        return [job for job in mine if before is None or (job.created_at, job.id) < before][:limit]

    async def cancel(self, tenant_id, export_id):
        job = await self.get(tenant_id, export_id)
        if job is not None:
            job = self.kept[export_id] = replace(job, state=ExportState.CANCELLED)
        return job


class Files:
    def __init__(self):
        self.deleted = []

    async def link(self, name, *, now, life_s):
        return SignedLink(f"https://files.example/{name}?signature", now + timedelta(seconds=life_s))

    async def delete(self, name):
        self.deleted.append(name)


class Queue:
    def __init__(self):
        self.tasks = []

    async def put(self, tasks, *, delay_s=0):
        self.tasks += tasks


class Work:
    def __init__(self):
        self.calls = []

    async def do(self, task):
        self.calls.append(("do", task))

    async def bury(self, task):
        self.calls.append(("bury", task))

    async def tend(self):
        self.calls.append(("tend",))


@pytest.fixture
def edge(build_edge):
    edge = build_edge()
    edge.rows, edge.jobs, edge.files, edge.queue, edge.work = Rows(), Jobs(), Files(), Queue(), Work()
    container = edge.container
    desk = ExportDesk(
        edge.rows,
        file_of,
        edge.jobs,
        edge.files,
        edge.queue,
        edge.clock,
        container.ids,
        edge.telemetry,
        most_streamed_rows=2,
    )
    object.__setattr__(container, "exports", Exports(desk, edge.work))
    idempotency = IdempotencyService(
        MemoryIdempotencyStore(edge.clock), edge.clock, edge.telemetry, refuses_without_store=False
    )
    object.__setattr__(container, "idempotency", idempotency)
    return edge


async def test_rows_are_streamed_with_the_headers_of_a_file(edge):
    now = edge.clock.now()
    answer = await edge.get("admin/export?of=requests&columns=id", headers=ANALYST)
    assert (answer.status, answer.body) == (200, b"id\r\n1\r\n2\r\n")
    assert len(answer.messages) > 3
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    since = now - timedelta(days=1)
    name = f"requests_{since:%Y%m%dT%H%M%SZ}_{now:%Y%m%dT%H%M%SZ}.csv"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["cache-control"] == "private, no-store"
    query, _ = edge.rows.asked
    assert (query.tenant_id, query.since, query.until, query.columns) == (TENANT, since, now, ("id",))
    assert not edge.rows.is_open


async def test_filters_and_spans_reach_the_query(edge):
    url = (
        "admin/export?of=analytics&format=jsonl&granularity=day&from=2025-12-01T00:00:00%2B01:00&to=2026-01-01T00:00:00Z"
        "&filter.service=a,b&filter.tag_key=team"
    )
    answer = await edge.get(url, headers=ANALYST)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/jsonl")
    query, form = edge.rows.asked
    assert form.value == "json"
    assert query.since == datetime.fromisoformat("2025-11-30T23:00:00+00:00")
    assert query.filters == {"service": ("a", "b"), "tag_key": ("team",)}
    assert query.granularity.value == "day"


async def test_an_outage_before_the_first_rows_is_an_error_with_a_status(edge):
    edge.rows.pages_of = [None]
    answer = await edge.get("admin/export?of=requests&columns=id", headers=ANALYST)
    assert (answer.status, answer.error["code"]) == (503, "dependency_unavailable")


async def test_a_file_that_breaks_never_looks_whole(edge):
    edge.rows.pages_of = [b"1\r\n", None]
    caller = Caller()
    with pytest.raises(DependencyUnavailable):
        await edge.send("GET", "admin/export?of=requests&columns=id", caller, headers=ANALYST)
    # The server meets the error while the body is open, and closes the connection without its end.
    assert caller.answer.body == b"id\r\n1\r\n"
    assert all(message.get("more_body", False) for message in caller.answer.messages[1:])
    assert not edge.rows.is_open
    (span,) = edge.telemetry.requests
    assert not span.success


async def test_over_the_wire_a_broken_file_lacks_its_last_chunk(edge):
    async def app(scope, receive, send):
        response = await entry(next(route for route in ROUTES if route.name == "export"))(Request(scope, receive))
        await response(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    async def fetched():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        proof = "".join(f"{name}: {value}\r\n" for name, value in ANALYST.items())
        writer.write(f"GET /?of=requests&columns=id HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{proof}\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    try:
        whole = await fetched()
        edge.rows.pages_of = [b"1\r\n", None]
        broken = await fetched()
    finally:
        server.should_exit = True
        await serving
    assert b"transfer-encoding: chunked" in whole.lower()
    assert whole.endswith(b"0\r\n\r\n")
    assert broken.startswith(b"HTTP/1.1 200")
    assert broken.endswith(b"id\r\n1\r\n\r\n")


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@pytest.mark.parametrize("leaves_after", [0, 1, 2])
async def test_a_caller_who_leaves_ends_the_reading(edge, leaves_after, spec_version):
    edge.rows.pages_of = [b"1\r\n"] * 1000
    caller = Caller(leaves_after=leaves_after, spec_version=spec_version)
    await edge.send("GET", "admin/export?of=requests&columns=id", caller, headers=ANALYST)
    assert not edge.rows.is_open
    assert len(caller.answer.messages) < 10


async def test_too_many_rows_are_a_job(edge):
    edge.rows.total = 3
    answer = await edge.get("admin/export?of=requests", headers=ANALYST)
    assert (answer.status, answer.error["code"]) == (413, "export_too_large")
    assert "POST /admin/export" in answer.error["message"]


async def test_a_job_from_its_order_to_its_link_and_its_end(edge):
    body = {"of": "feedback", "format": "parquet", "from": "2025-12-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    answer = await edge.post("admin/export", body | {"filters": {"service": ["a"]}}, headers=ANALYST)
    job = answer.json
    assert (answer.status, job["state"], job["of"], job["format"]) == (202, "queued", "feedback", "parquet")
    assert job["file_name"] == "feedback_20251201T000000Z_20260101T000000Z.parquet"
    assert (job["rows_written"], job["rows_expected"], job["filters"]) == (0, None, {"service": ["a"]})
    assert edge.queue.tasks == [ExportTask(TENANT, job["id"])]
    path = f"admin/export/{job['id']}"
    assert (await edge.get(path, headers=ANALYST)).json == job
    early = await edge.post(f"{path}/link", b"", headers=ANALYST)
    assert (early.status, early.error["code"]) == (409, "export_not_ready")
    edge.jobs.kept[job["id"]] = replace(
        edge.jobs.kept[job["id"]], state=ExportState.READY, attempts=1, rows_written=7, rows_expected=7, size_bytes=9
    )
    assert (await edge.get(path, headers=ANALYST)).json["rows_written"] == 7
    link = await edge.post(f"{path}/link", b"", headers=ANALYST)
    assert link.json["url"] == f"https://files.example/{job['id']}/1.parquet?signature"
    assert datetime.fromisoformat(link.json["expires_at"]) == edge.clock.now() + timedelta(minutes=15)
    assert (await edge.send("DELETE", path, headers=ANALYST)).json["state"] == "cancelled"
    assert edge.files.deleted == [f"{job['id']}/1.parquet"]


async def test_what_was_done_is_in_the_audit_trail(edge):
    await edge.get("admin/export?of=requests&columns=id", headers=ANALYST)
    job = (await edge.post("admin/export", {"of": "requests"}, headers=ANALYST)).json
    await edge.send("DELETE", f"admin/export/{job['id']}", headers=ANALYST)
    events = [row.event for chain in edge.trails.rows.values() for row in chain]
    assert [(event.action, event.resource) for event in events] == [
        ("export.read", "export requests"),
        ("export.create", f"export {job['id']}"),
        ("export.delete", f"export {job['id']}"),
    ]


async def test_an_order_that_is_sent_twice_is_one_job(edge):
    headers = {**ANALYST, "idempotency-key": "k1"}
    first, second = [await edge.post("admin/export", {"of": "requests"}, headers=headers) for _ in range(2)]
    assert (first.status, second.status, first.json["id"]) == (202, 202, second.json["id"])
    assert second.headers["idempotency-replayed"] == "true"
    assert len(edge.jobs.kept) == 1


async def test_jobs_are_listed_in_pages_for_their_tenant(edge):
    made = []
    for _ in range(3):
        edge.clock.advance(1)
        made.append((await edge.post("admin/export", {"of": "requests"}, headers=ANALYST)).json["id"])
    first = (await edge.get("admin/exports?limit=2", headers=ANALYST)).json
    rest = (await edge.get(f"admin/exports?limit=2&cursor={first['next_cursor']}", headers=ANALYST)).json
    assert [job["id"] for job in first["exports"] + rest["exports"]] == made[::-1]
    assert rest["next_cursor"] is None
    for job in edge.jobs.kept.values():
        edge.jobs.kept[job.id] = replace(job, query=replace(job.query, tenant_id="other"))
    assert (await edge.get("admin/exports", headers=ANALYST)).json == {"exports": [], "next_cursor": None}
    for method, path in (("GET", ""), ("POST", "/link"), ("DELETE", "")):
        answer = await edge.send(method, f"admin/export/{made[0]}{path}", headers=ANALYST)
        assert (answer.status, answer.error["param"]) == (404, "export_id")


async def test_too_many_jobs_are_refused_with_a_time_to_come_back(edge):
    answers = [await edge.post("admin/export", {"of": "requests"}, headers=ANALYST) for _ in range(6)]
    assert [answer.status for answer in answers] == [202] * 5 + [429]
    assert answers[-1].error["code"] == "too_many_exports"
    assert int(answers[-1].headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "of"),
        ("of=prompts", "of"),
        ("of=requests&format=xlsx", "format"),
        ("of=requests&from=2026-01-01", "from"),
        ("of=requests&from=yesterday", "from"),
        ("of=requests&to=0001-01-01T00:00:00%2B14:00", "to"),
        ("of=requests&to=0001-01-01T00:00:00Z", "to"),
        ("of=requests&from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("of=requests&from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("of=requests&from=2999-01-01T00:00:00Z&to=2999-01-02T00:00:00Z", "from"),
        ("of=requests&columns=", "columns"),
        ("of=requests&columns=id,id", "columns"),
        ("of=requests&columns=id,tenant_id", "columns"),
        ("of=feedback&columns=id;DROP TABLE requests", "columns"),
        ("of=requests&filter.outcome=x", "filter.outcome"),
        ("of=requests&filter.password=x", "filter.password"),
        ("of=requests&filter.model=%00", "filter.model"),
        ("of=requests&filter.model=" + ",".join(map(str, range(51))), "filter.model"),
        ("of=requests&granularity=day", "granularity"),
        ("of=analytics&granularity=minute", "granularity"),
        ("of=requests&tenant=x", "tenant"),
    ],
)
async def test_what_does_not_fit_is_named(edge, query, param):
    answer = await edge.get(f"admin/export?{query}", headers=ANALYST)
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"of": "prompts"}, "of"),
        ({"of": None}, "of"),
        ({"format": "xlsx"}, "format"),
        ({"from": "2026-01-01T00:00:00"}, "from"),
        ({"to": 5}, "to"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from"),
        ({"to": "0001-01-01T00:00:00+14:00"}, "to"),
        ({"from": "9999-12-31T23:59:59-14:00"}, "from"),
        ({"columns": []}, "columns"),
        ({"columns": ["tenant_id"]}, "columns"),
        ({"filters": {"outcome": ["x"]}}, "filters.outcome"),
        ({"filters": {"model": []}}, "filters.model"),
        ({"filters": {"model": ["a\nb"]}}, "filters.model[0]"),
        ({"filters": {"model": "a"}}, "filters.model"),
        ({"granularity": "day"}, "granularity"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_an_order_that_does_not_fit_is_named(edge, change, param):
    answer = await edge.post("admin/export", {"of": "requests"} | change, headers=ANALYST)
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("cursor=%20", "cursor"), ("cursor=eA==", "cursor"), ("x=1", "x")]
)
async def test_a_page_that_does_not_fit_is_named(edge, query, param):
    answer = await edge.get(f"admin/exports?{query}", headers=ANALYST)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_services_may_not_export(edge):
    assert (await edge.get("admin/export?of=requests", headers=PROVED)).status == 403
    assert (await edge.post("admin/export", {"of": "requests"}, headers=PROVED)).status == 403
    assert (await edge.get(f"admin/export/{MISSING}", headers=ANALYST)).status == 404


async def test_queue_and_timer_hand_the_work_on(edge):
    body = json.dumps({"tenant_id": TENANT, "export_id": MISSING})
    message = func.QueueMessage(id="1", body=body, pop_receipt="r")
    task = ExportTask(TENANT, MISSING)
    await queues.write_exports.build().get_user_function()(message)
    await queues.take_back_exports.build().get_user_function()(message)
    await timers.entry(timers.tend_exports)(timer=func.timer.TimerRequest())
    assert edge.work.calls == [("do", task), ("bury", task), ("tend",)]
