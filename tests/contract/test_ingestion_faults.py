"""A batch of documents on the real stack while workers are killed and what they need is stopped: all ready, each once.

`make fault-ingestion` does it with 500 documents and prints figures; the suite is content with fewer.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import psycopg
import pytest

from infra.local.environment import Directories, function_app_environment
from shared import container
from shared.config import Settings
from shared.domain.documents import DocumentStatus
from shared.domain.errors import RouterError
from shared.domain.identity import Principal, RouterRole
from shared.services.ingestion import Submission

DOCUMENTS = int(os.environ.get("FAULT_DOCUMENTS", "60"))
DEADLINE_S = 240 + 2 * DOCUMENTS
OUTAGE_S = 3
BATCH = 32
"""Texts in a request for vectors."""
OWNER = Principal("p-1", "tenant-faults", "loader", frozenset({RouterRole.SERVICE}))


def text_of(number):
    return "\n\n".join(
        f"Order {number}-{line} was shipped on time and its receiver did not complain about anything at all."
        for line in range(40)
    )


@pytest.fixture
def settings(servers, postgres_dsn, redis_url, azurite, simulator, tmp_path):
    ports, directories = servers.ports, Directories(tmp_path)
    return {**function_app_environment(ports, directories, dsn=postgres_dsn), "REDIS_URL": redis_url}


@pytest.fixture
async def desk(settings):
    built = await container.build(Settings.from_env(settings))
    yield built.ingestion.desk
    await built.close()


@pytest.fixture
def start_worker(settings):
    """Starts a worker process and waits until it serves."""
    started = []

    def start():
        command = [sys.executable, "-m", "tests.contract.ingestion_worker", json.dumps(settings)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


async def everything(desk, collection="orders"):
    """All documents; one that changes between two pages may be missing."""
    documents, cursor = {}, None
    while True:
        page = await desk.page(OWNER, collection=collection, status=None, limit=200, cursor=cursor)
        documents |= {document.id: document for document in page.documents}
        cursor = page.cursor
        if cursor is None:
            return list(documents.values())


def is_ready(documents):
    return [document for document in documents if document.status is DocumentStatus.READY]


async def ready(desk, share):
    """Waits until so much of the batch is ready."""
    return await ends(desk, lambda counts: counts[DocumentStatus.READY] >= share * DOCUMENTS)


async def ends(desk, statuses, collection="orders"):
    """Waits until so many documents have these statuses; returns the count of each."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            documents = await everything(desk, collection)
        except RouterError:
            documents = []  # the database is away on purpose
        counts = Counter(document.status for document in documents)
        if statuses(counts):
            return documents
        assert time.monotonic() < deadline_s, counts
        await asyncio.sleep(0.1)


@pytest.mark.timeout(400 + 3 * DOCUMENTS)
async def test_a_batch_survives_killed_workers_and_stopped_services(
    desk, start_worker, simulator, postgres_server, postgres_dsn, capsys
):
    began_s = time.monotonic()
    doomed, steady = start_worker(), start_worker()
    submissions = [
        Submission("orders", f"order-{number}", f"order-{number}.md", "text/markdown", text_of(number).encode())
        for number in range(DOCUMENTS)
    ]
    for start in range(0, DOCUMENTS, 20):
        await desk.submit(OWNER, submissions[start : start + 20])

    async def kill():
        nonlocal doomed
        doomed.kill()
        doomed = await asyncio.to_thread(start_worker)

    async def stop_simulator():
        simulator.stop()
        await asyncio.sleep(OUTAGE_S)  # an outage, not a wait for something
        simulator.start()

    async def stop_postgres():
        await asyncio.to_thread(postgres_server.stop)
        await asyncio.to_thread(postgres_server.start)

    async def freeze_postgres():
        postgres_server.freeze()
        await asyncio.sleep(OUTAGE_S)  # likewise
        postgres_server.thaw()

    under_way = []
    for fault in (kill, stop_simulator, kill, stop_postgres, kill, freeze_postgres):
        # From where it stands: while a worker starts the other goes on, and the death of one without work proves nothing.
        done = len(is_ready(await ready(desk, 0)))
        await ready(desk, min(1, done / DOCUMENTS + 0.05))
        await fault()
        under_way.append(DOCUMENTS - len(is_ready(await ready(desk, 0))))
    documents = await ready(desk, 1)

    assert steady.poll() is None
    assert {document.version for document in documents} == {1}
    assert {document.live_version for document in documents} == {1}
    expected = {document.source: document.chunks for document in documents}
    assert len(expected) == DOCUMENTS
    assert len(set(expected.values())) == 1
    facts = {fact.name: fact for fact in await desk.collections(OWNER)}
    assert facts["orders"].documents == DOCUMENTS
    assert facts["orders"].chunks == sum(expected.values())
    paid = await paid_documents(postgres_dsn)
    assert set(paid) == {document.id for document in documents}
    with capsys.disabled():
        print(  # noqa: T201 - what `make fault-ingestion` is for
            f"\n{DOCUMENTS} documents, {sum(expected.values())} chunks, {time.monotonic() - began_s:.0f} s; {len(under_way)} "
            f"faults, not ready after each: {under_way}; ready, each once: {len(documents)}; "
            f"requests for vectors that were paid for: {sum(paid.values())}; "
            f"attempts: {dict(sorted(Counter(document.attempts for document in documents).items()))}"
        )


async def paid_documents(dsn):
    """Documents with the number of successful requests for their vectors; the ledger is written behind the work."""
    statement = (
        "SELECT tags->>'document', count(*) FROM requests "
        "WHERE endpoint = 'rag/ingest' AND service_name = 'loader' AND status = 'success' GROUP BY 1"
    )
    deadline_s = time.monotonic() + 30
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            found = dict(connection.execute(statement).fetchall())
            if len(found) >= DOCUMENTS or time.monotonic() > deadline_s:
                return found
            await asyncio.sleep(0.2)


@pytest.mark.timeout(400)
async def test_a_worker_that_is_killed_while_it_embeds_has_paid_in_vain_for_one_batch_at_most(
    desk, start_worker, simulator
):
    words = " ".join(f"word{number}" for number in range(30))
    book = "\n\n".join(f"Paragraph {number} of this book. {words} {number}" for number in range(1_200))
    calls_of(simulator, "DELETE")
    doomed = start_worker()
    await desk.submit(OWNER, [Submission("books", "book", "book.md", "text/markdown", book.encode())])
    deadline_s = time.monotonic() + DEADLINE_S
    while len(calls_of(simulator)) < 2 * BATCH:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)
    doomed.kill()
    doomed.wait()
    (document,) = await ends(desk, lambda counts: counts.total() == 1, "books")
    assert document.status is DocumentStatus.EMBEDDING
    start_worker()
    (document,) = await ends(desk, lambda counts: counts[DocumentStatus.READY] == 1, "books")

    calls = [call for call in calls_of(simulator) if call["status"] == "ok"]
    assert document.attempts == 2
    assert document.chunks > 4 * BATCH
    # The model takes one text a call.
    assert document.chunks <= len(calls) <= document.chunks + BATCH


def calls_of(simulator, method="GET"):
    """What the simulator was asked for; DELETE forgets it."""
    request = urllib.request.Request(  # noqa: S310 - our own simulator
        f"{simulator.http_endpoint}/_sim/calls?last=2000", method=method
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own simulator
        return json.load(answer).get("calls", [])
