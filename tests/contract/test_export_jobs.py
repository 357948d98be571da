"""Jobs on the real database and blob store: files are seen whole or not at all, by their tenant, for their time."""

import asyncio
import hashlib
import json
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import UserDelegationKey

from shared.domain.errors import Conflict, DependencyUnavailable, Forbidden, NotFound, RateLimited, RequestTooLarge
from shared.domain.exports import COLUMNS, ExportFormat, ExportQuery, ExportState, ExportSubject, ExportTask
from shared.domain.identity import Principal, RouterRole
from shared.services.export_work import MAX_ATTEMPTS, ExportShop, ExportWork
from shared.services.exporting import KEPT, MOST_OPEN, ExportDesk
from shared.stores import export_blobs
from shared.stores.blobs import open_container
from shared.stores.export_blobs import AzureExportFiles
from shared.stores.export_files import file_of
from shared.stores.memory import ManualClock
from shared.stores.postgres.export_jobs import PostgresExportJobs
from shared.stores.postgres.export_rows import PostgresExportRows
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.system import SystemClock, UuidIds
from shared.telemetry import RecordingTelemetry
from tests.stores_builders import record

ANALYST = Principal("ana", "tenant-a", "console", frozenset({RouterRole.ANALYST}))
OPERATOR = replace(ANALYST, id="ope", roles=frozenset({RouterRole.OPERATOR}))
STRANGER = replace(ANALYST, tenant_id="tenant-b")
ROWS = 23
# Blob stores judge links by the clock on the wall.
START = SystemClock().now() - timedelta(days=1)


class Queue:
    """Remembers what was put, and may be away."""

    def __init__(self):
        self.put_tasks, self.is_away = [], False

    async def put(self, tasks, *, delay_s=0):
        if self.is_away:
            raise DependencyUnavailable("away")
        self.put_tasks += [(task, delay_s) for task in tasks]


class World:
    """A desk and its workers."""

    def __init__(self, dsn, azurite):
        self.dsn, self.storage, self.container = dsn, azurite.connection_string, f"x{uuid4().hex}"
        self.pool = PostgresPool(dsn)
        self.clock, self.telemetry, self.queue = ManualClock(START + timedelta(days=1)), RecordingTelemetry(), Queue()
        self.files = AzureExportFiles(open_container(self.container, connection_string=self.storage), https_only=False)
        self.rows, self.jobs = PostgresExportRows(self.pool, page_rows=4), PostgresExportJobs(self.pool)
        self.shop = ExportShop(self.rows, file_of, self.jobs, self.files, self.queue)
        self.desk = self.new_desk()

    def new_desk(self, **more):
        return ExportDesk(
            self.rows, file_of, self.jobs, self.files, self.queue, self.clock, UuidIds(), self.telemetry, **more
        )

    def worker(self, *, shop=None, **more):
        return ExportWork(shop or self.shop, self.clock, UuidIds(), self.telemetry, **{"lease_s": 60.0, **more})

    async def order(self, form=ExportFormat.CSV, caller=ANALYST, **fields):
        return await self.desk.order(caller, query(tenant_id=caller.tenant_id, **fields), form)

    async def written(self, form=ExportFormat.CSV, **fields):
        job = await self.order(form, **fields)
        await self.worker().do(task_of(job))
        return await self.desk.show(ANALYST, job.id)

    def sql(self, statement, *values):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(statement, values)

    async def blobs(self):
        """Names of all files that can be seen."""
        async with open_container(self.container, connection_string=self.storage) as container:
            try:
                return sorted([blob.name async for blob in container.list_blobs()])
            except ResourceNotFoundError:
                return []

    async def fetched(self, job):
        link = await self.desk.link(ANALYST, job.id)
        return await asyncio.to_thread(get, link.url)


def get(url):
    with urllib.request.urlopen(url) as response:  # noqa: S310 - our own emulator
        return response.read(), {name.lower(): value for name, value in response.headers.items()}


def refused(url, method="GET"):
    """The status with which a call is refused."""
    request = urllib.request.Request(url, method=method)  # noqa: S310 - our own emulator
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request)  # noqa: S310 - likewise
    refusal.value.close()
    return refusal.value.code


def query(**fields):
    values = {
        "tenant_id": "tenant-a",
        "subject": ExportSubject.REQUESTS,
        "since": START - timedelta(hours=1),
        "until": START + timedelta(hours=1),
        "columns": tuple(column.name for column in COLUMNS[ExportSubject.REQUESTS]),
    }
    return ExportQuery(**values | fields)


def task_of(job):
    return ExportTask(job.tenant_id, job.id)


@pytest.fixture
async def world(postgres_dsn, azurite) -> AsyncIterator[World]:
    made = World(postgres_dsn, azurite)
    made.sql("TRUNCATE requests, attempts, exports, rollup_pending")
    await PostgresRecordStore(made.pool, writer="w").insert(
        [record(start_time=START, end_time=START) for _ in range(ROWS)]
    )
    yield made
    await made.files.aclose()
    await made.pool.aclose()


def ids_of(content):
    return [line.split(b",")[0] for line in content.split(b"\r\n")[1:-1]]


async def test_an_order_becomes_a_file_that_its_link_reads(world):
    job = await world.order()
    assert (job.state, job.rows_expected, world.queue.put_tasks) == (ExportState.QUEUED, None, [(task_of(job), 0)])
    with pytest.raises(Conflict) as refusal:
        await world.desk.link(ANALYST, job.id)
    assert refusal.value.code == "export_not_ready"
    await world.worker().do(task_of(job))
    ready = await world.desk.show(ANALYST, job.id)
    content, headers = await world.fetched(job)
    assert (ready.state, ready.rows_written, ready.rows_expected) == (ExportState.READY, ROWS, ROWS)
    assert (ready.size_bytes, ready.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert len(set(ids_of(content))) == len(ids_of(content)) == ROWS
    assert headers["content-type"] == ExportFormat.CSV.media_type
    assert headers["content-disposition"] == f'attachment; filename="{job.query.file_name(job.format)}"'
    # The same message once more changes nothing.
    await world.worker().do(task_of(job))
    assert await world.desk.show(ANALYST, job.id) == ready


async def test_what_came_after_the_order_is_in_no_file(world):
    job = await world.order(until=START + timedelta(days=30))
    assert job.query.until == world.clock.now()


async def test_a_file_without_rows_is_read_too(world):
    job = await world.written(ExportFormat.JSONL, filters={"service": ("nobody",)})
    assert (job.state, job.rows_written, job.size_bytes) == (ExportState.READY, 0, 0)
    content, _ = await world.fetched(job)
    assert content == b""


async def test_large_files_are_written_in_blocks(world, monkeypatch):
    monkeypatch.setattr(export_blobs, "BLOCK_BYTES", 1000)
    job = await world.written(ExportFormat.JSONL)
    content, _ = await world.fetched(job)
    assert len(content) > 10_000
    assert [json.loads(line)["id"] for line in content.splitlines()] == sorted(
        json.loads(line)["id"] for line in content.splitlines()
    )
    assert (len(content), hashlib.sha256(content).hexdigest()) == (job.size_bytes, job.sha256)


async def test_jobs_are_their_tenants(world):
    job = await world.written()
    for call in (world.desk.show, world.desk.link, world.desk.cancel):
        with pytest.raises(NotFound):
            await call(STRANGER, job.id)
        with pytest.raises(NotFound):
            await call(ANALYST, "nonsense")
    assert await world.desk.page(STRANGER, before=None, limit=10) == []
    await world.worker().do(ExportTask("tenant-b", job.id))
    assert (await world.desk.show(ANALYST, job.id)).attempts == 1


async def test_pages_of_jobs_are_newest_first(world):
    made = []
    for _ in range(3):
        world.clock.advance(1)
        made.insert(0, await world.order())
    first = await world.desk.page(ANALYST, before=None, limit=2)
    rest = await world.desk.page(ANALYST, before=(first[-1].created_at, first[-1].id), limit=2)
    assert [*first, *rest] == made


async def test_a_link_reads_one_file_for_its_time_and_nothing_else(world):
    first, second = await world.written(), await world.written()
    link = await world.desk.link(ANALYST, first.id)
    assert link.expires_at == world.clock.now() + timedelta(minutes=15)
    assert "sp=r&" in link.url
    assert "spr=https%2Chttp" in link.url
    assert refused(link.url.replace(first.blob, second.blob)) == 403
    assert refused(link.url, "DELETE") == 403
    past = await world.files.link(first.blob, now=SystemClock().now() - timedelta(hours=1), life_s=900)
    assert refused(past.url) == 403


async def test_with_an_identity_its_delegated_key_signs_and_is_kept(monkeypatch):
    asked = []

    async def delegated(service, start, end):
        asked.append((service.url, start, end))
        key = UserDelegationKey()
        key.signed_oid = key.signed_tid = "00000000-0000-0000-0000-000000000000"
        key.signed_start, key.signed_expiry = start.isoformat(), end.isoformat()
        key.signed_service, key.signed_version, key.value = "b", "2024-11-04", "a2V5"
        return key

    monkeypatch.setattr(export_blobs.BlobServiceClient, "get_user_delegation_key", delegated)

    class Credential:
        async def get_token(self, *scopes, **more):
            raise AssertionError("nothing is sent")

        async def close(self):
            return

    container = open_container("exports", account_name="account", credential=Credential())
    files, now = AzureExportFiles(container, Credential()), START
    links = [await files.link("a/1.csv", now=now + timedelta(minutes=minutes), life_s=900) for minutes in (0, 10, 239)]
    assert len(asked) == 1
    await files.link("a/1.csv", now=now + timedelta(hours=5), life_s=900)
    assert [url for url, _, _ in asked] == ["https://account.blob.core.windows.net/"] * 2
    for link in links:
        assert link.url.startswith("https://account.blob.core.windows.net/exports/a/1.csv?")
        assert "spr=https&" in link.url
        assert "skoid=" in link.url
        assert link.expires_at <= asked[0][2]
    await files.aclose()


async def test_files_leave_when_their_time_is_over_and_jobs_later(world):
    job = await world.written()
    assert await world.blobs() == [job.blob]
    world.clock.advance(KEPT.total_seconds() - 60)
    assert (await world.desk.link(ANALYST, job.id)).expires_at == job.expires_at
    world.clock.advance(60)
    assert (await world.desk.show(ANALYST, job.id)).state is ExportState.EXPIRED
    with pytest.raises(Conflict):
        await world.desk.link(ANALYST, job.id)
    await world.worker().tend()
    assert await world.blobs() == []
    assert (await world.jobs.get("tenant-a", job.id)).state is ExportState.EXPIRED
    world.clock.advance(31 * 86_400)
    await world.worker().tend()
    with pytest.raises(NotFound):
        await world.desk.show(ANALYST, job.id)


async def test_a_cancelled_job_is_done_no_more_and_its_file_is_gone(world):
    queued, ready = await world.order(), await world.written()
    for job in (queued, ready):
        cancelled = await world.desk.cancel(ANALYST, job.id)
        assert cancelled.state is ExportState.CANCELLED
        await world.worker().do(task_of(job))
        assert (await world.desk.show(ANALYST, job.id)).state is ExportState.CANCELLED
        with pytest.raises(Conflict):
            await world.desk.link(ANALYST, job.id)
    assert await world.blobs() == []


async def test_others_jobs_are_cancelled_by_whoever_may_write(world):
    job = await world.order()
    with pytest.raises(Forbidden):
        await world.desk.cancel(replace(ANALYST, id="bob"), job.id)
    assert (await world.desk.cancel(OPERATOR, job.id)).state is ExportState.CANCELLED


async def test_a_job_that_is_cancelled_while_it_is_written_leaves_no_file(world):
    job = await world.order()
    pages = world.rows.pages

    async def cancelled_meanwhile(*args):
        async for page in pages(*args):
            await world.desk.cancel(ANALYST, job.id)
            yield page

    world.rows.pages = cancelled_meanwhile
    await world.worker().do(task_of(job))
    assert (await world.desk.show(ANALYST, job.id)).state is ExportState.CANCELLED
    assert await world.blobs() == []
    assert world.telemetry.counted("exports_written", outcome="superseded") == 1


async def test_a_worker_that_lost_its_lease_does_not_touch_the_others_file(world):
    job = await world.order()
    commit = export_blobs.BlobUpload.commit
    done = []

    async def late(upload, **fields):
        if not done:
            done.append(True)
            world.sql("UPDATE exports SET lease_until = now() - interval '1 second'")
            await world.worker().do(task_of(job))
        await commit(upload, **fields)

    export_blobs.BlobUpload.commit = late
    try:
        await world.worker().do(task_of(job))
    finally:
        export_blobs.BlobUpload.commit = commit
    ready = await world.desk.show(ANALYST, job.id)
    assert (ready.state, ready.attempts) == (ExportState.READY, 2)
    assert await world.blobs() == [ready.blob]
    content, _ = await world.fetched(job)
    assert len(set(ids_of(content))) == ROWS


async def test_so_many_orders_and_no_more(world):
    orders = await asyncio.gather(*(world.order() for _ in range(MOST_OPEN + 3)), return_exceptions=True)
    assert sum(isinstance(order, RateLimited) for order in orders) == 3
    assert (await world.order(caller=STRANGER)).state is ExportState.QUEUED


async def test_what_the_queue_did_not_take_is_queued_by_the_timer(world):
    world.queue.is_away = True
    job = await world.order()
    world.queue.is_away = False
    await world.worker().tend()
    assert world.queue.put_tasks == []
    world.sql("UPDATE exports SET updated_at = now() - interval '1 hour'")
    await world.worker().tend()
    assert world.queue.put_tasks == [(task_of(job), 0)]


async def test_an_outage_puts_a_job_off_until_it_is_given_up(world):
    job = await world.order()
    world.queue.put_tasks.clear()

    class Away:
        async def add(self, piece):
            raise DependencyUnavailable("away")

    class Files:
        def upload(self, name):
            return Away()

    shop = replace(world.shop, files=Files())
    for _ in range(MAX_ATTEMPTS):
        await world.worker(shop=shop).do(task_of(job))
    failed = await world.desk.show(ANALYST, job.id)
    assert (failed.state, failed.code, failed.attempts) == (ExportState.FAILED, "dependency_unavailable", MAX_ATTEMPTS)
    assert [delay_s for _, delay_s in world.queue.put_tasks] == [10, 40, 160, 640]


async def test_a_defect_is_not_tried_again(world):
    def broken(form, columns):
        raise ZeroDivisionError

    job = await world.order()
    await world.worker(shop=replace(world.shop, file_of=broken)).do(task_of(job))
    failed = await world.desk.show(ANALYST, job.id)
    assert (failed.state, failed.code, failed.attempts) == (ExportState.FAILED, "internal_error", 1)


async def test_a_job_whose_workers_all_died_is_given_up(world):
    job = await world.order()
    world.sql("UPDATE exports SET attempts = 5, state = 'running', worker = 'w', lease_until = now()")
    await world.worker().do(task_of(job))
    assert (await world.desk.show(ANALYST, job.id)).state is ExportState.FAILED


async def test_too_many_rows_for_a_file_or_a_stream_are_refused(world):
    job = await world.order()
    await world.worker(most_rows=ROWS - 1).do(task_of(job))
    failed = await world.desk.show(ANALYST, job.id)
    assert (failed.state, failed.code) == (ExportState.FAILED, "export_too_large")
    with pytest.raises(RequestTooLarge):
        await world.new_desk(most_streamed_rows=ROWS - 1).stream(query(), ExportFormat.CSV)
    first, rest = await world.new_desk(most_streamed_rows=ROWS).stream(query(), ExportFormat.CSV)
    content = first + b"".join([piece async for piece in rest])
    assert len(set(ids_of(content))) == ROWS


async def test_a_poisoned_message_comes_back_while_its_job_is_open(world):
    job = await world.order()
    world.queue.put_tasks.clear()
    await world.worker().bury(task_of(job))
    assert world.queue.put_tasks == [(task_of(job), 640)]
    await world.desk.cancel(ANALYST, job.id)
    await world.worker().bury(task_of(job))
    await world.worker().bury(ExportTask("tenant-a", "0197a3c0-0000-7000-8000-000000000001"))
    assert len(world.queue.put_tasks) == 1


async def run_worker(world, job, **more):
    """A process that works on the job; returns its status and what it says."""
    given = {
        "dsn": world.dsn,
        "storage": world.storage,
        "container": world.container,
        "tenant_id": job.tenant_id,
        "export_id": job.id,
        "dies_at": 0,
        "dies": "before",
        "page_rows": 8,
        "lease_s": 0.001,
    }
    command = [sys.executable, "-m", "tests.contract.export_worker", json.dumps(given | more)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return process.returncode, json.loads(said) if said else None


@pytest.mark.timeout(300)
async def test_killed_anywhere_there_is_one_whole_file_with_each_row_once(world):
    status, said = await run_worker(world, await world.order())
    assert status == 0
    for dies_at in range(1, said["calls"] + 1):
        job = await world.order()
        dies = "after" if dies_at % 2 else "before"
        status, _ = await run_worker(world, job, dies_at=dies_at, dies=dies)
        # A page has only one side on which to die.
        assert status in {0, -signal.SIGKILL}
        await world.worker(lease_s=60.0).do(task_of(job))
        ready = await world.desk.show(ANALYST, job.id)
        assert ready.state is ExportState.READY
        assert ready.attempts in {1, 2}
        content, _ = await world.fetched(ready)
        assert len(ids_of(content)) == len(set(ids_of(content))) == ROWS
        assert hashlib.sha256(content).hexdigest() == ready.sha256
        await world.desk.cancel(ANALYST, job.id)
        assert not [name for name in await world.blobs() if job.id in name]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", list(ExportFormat))
async def test_memory_does_not_grow_with_the_rows(world, form):
    columns = [c for c in COLUMNS[ExportSubject.REQUESTS] if c.name not in {"id", "start_time", "duration_ms"}]
    names = ", ".join(
        {"attachment_bytes": "attachment_size", "cost_usd": "cost_exact"}.get(c.name, c.name) for c in columns
    )
    world.sql(
        f"INSERT INTO requests (id, tenant_id, start_time, {names}) "  # noqa: S608 - the tests' own words
        f"SELECT gen_random_uuid(), 'many', start_time + number * interval '1 millisecond', {names} "
        "FROM (SELECT * FROM requests LIMIT 1) AS one, generate_series(1, 200000) AS number"
    )
    job = await world.order(form, caller=replace(ANALYST, tenant_id="many"))
    status, said = await run_worker(world, job, page_rows=2_000, lease_s=60.0)
    ready = await world.jobs.get("many", job.id)
    assert (status, ready.state, ready.rows_written) == (0, ExportState.READY, 200_000)
    assert form is ExportFormat.PARQUET or ready.size_bytes > 60e6
    # Once some row groups are written, three times as many rows take no more.
    peaks_kib = said["peaks_kib"]
    assert len(peaks_kib) == 101
    assert peaks_kib[-1] - peaks_kib[30] < 24 * 1024
