"""A batch of documents on the real stack while workers are killed and what they need is stopped: all ready, each once."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter

import psycopg
import pytest

from infra.local.environment import Directories, function_app_environment
from shared import container
from shared.config import Settings
from shared.domain.documents import DocumentStatus
from shared.domain.identity import Principal, RouterRole
from shared.services.ingestion import Submission

DOCUMENTS = 60
DEADLINE_S = 240
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


async def ends(desk, statuses):
    """Waits until so many documents have these statuses; returns the count of each."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            page = await desk.page(OWNER, collection="orders", status=None, limit=200, cursor=None)
        except Exception:  # noqa: BLE001 - the database is away on purpose
            page = None
        counts = Counter(document.status for document in page.documents) if page else Counter()
        if statuses(counts):
            return page.documents
        assert time.monotonic() < deadline_s, counts
        await asyncio.sleep(0.1)


@pytest.mark.timeout(400)
async def test_a_batch_survives_killed_workers_and_stopped_services(
    desk, start_worker, simulator, postgres_server, postgres_dsn
):
    doomed, steady = start_worker(), start_worker()
    submissions = [
        Submission("orders", f"order-{number}", f"order-{number}.md", "text/markdown", text_of(number).encode())
        for number in range(DOCUMENTS)
    ]
    for start in range(0, DOCUMENTS, 20):
        await desk.submit(OWNER, submissions[start : start + 20])

    await ends(desk, lambda counts: counts[DocumentStatus.READY] >= 5)
    doomed.kill()
    start_worker()
    await ends(desk, lambda counts: counts[DocumentStatus.READY] >= 15)
    simulator.stop()
    await asyncio.sleep(2)  # an outage, not a wait for something
    simulator.start()
    await ends(desk, lambda counts: counts[DocumentStatus.READY] >= 30)
    await asyncio.to_thread(postgres_server.stop)
    await asyncio.to_thread(postgres_server.start)
    documents = await ends(desk, lambda counts: counts[DocumentStatus.READY] == DOCUMENTS)

    assert steady.poll() is None
    assert {document.version for document in documents} == {1}
    assert {document.live_version for document in documents} == {1}
    expected = {document.source: document.chunks for document in documents}
    assert len(expected) == DOCUMENTS
    assert len(set(expected.values())) == 1
    facts = {fact.name: fact for fact in await desk.collections(OWNER)}
    assert facts["orders"].documents == DOCUMENTS
    assert facts["orders"].chunks == sum(expected.values())
    assert await paid_documents(postgres_dsn) == {document.id for document in documents}


async def paid_documents(dsn):
    """Documents for whose vectors the ledger holds a successful request; it is written behind the work."""
    statement = (
        "SELECT DISTINCT tags->>'document' FROM requests "
        "WHERE endpoint = 'rag/ingest' AND service_name = 'loader' AND status = 'success'"
    )
    deadline_s = time.monotonic() + 30
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            found = {row[0] for row in connection.execute(statement).fetchall()}
            if len(found) >= DOCUMENTS or time.monotonic() > deadline_s:
                return found
            await asyncio.sleep(0.2)
