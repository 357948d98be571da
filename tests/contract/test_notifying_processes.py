"""Dispatchers in processes of their own: killed at every await, and several at once."""

import asyncio
import json
import sys
from collections import Counter
from datetime import timedelta

import pytest
from aiohttp import web

from infra.local.environment import REPOSITORY
from shared.domain.deliveries import DeliveryQuery, DeliveryState
from shared.domain.notifications import Occasion
from shared.stores.postgres.notifications import PostgresDeliveries
from shared.stores.postgres.pool import PostgresPool
from tests import azure_wire
from tests.contract.notifying_worker import LocalOutbound, dispatcher
from tests.notification_builders import NOW, notification

MOST_STEPS = 1000
ANSWER_S = 60


@pytest.fixture(scope="module")
async def pool(postgres_dsn):
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


class Receiver:
    """Counts what comes by its id, in its order."""

    def __init__(self):
        self.ids = []

    async def answer(self, request):
        await request.read()
        self.ids.append(request.headers["webhook-id"])
        return web.Response()


@pytest.fixture
async def receiver():
    receiver = Receiver()
    async with azure_wire.serving(receiver.answer) as receiver.url:
        yield receiver


@pytest.fixture
async def start_worker(postgres_dsn, receiver, tmp_path):
    """Starts a worker; what it gives runs one dispatcher in it and says how that ended."""
    started = []

    async def start():
        log = (tmp_path / f"worker-{len(started)}.log").open("w")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.contract.notifying_worker",
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        started.append((process, log))

        async def run(now=NOW, kill_at=0):
            order = {"dsn": postgres_dsn, "url": receiver.url, "now": now.isoformat(), "kill_at": kill_at}
            process.stdin.write(f"{json.dumps(order)}\n".encode())
            async with asyncio.timeout(ANSWER_S):
                answer = (await process.stdout.readline()).decode().strip()
            assert answer in ("killed", "done"), (answer, (tmp_path / "worker-0.log").read_text()[-3000:])
            return answer

        return run

    yield start
    for process, log in started:
        process.stdin.close()
        await process.wait()
        log.close()


async def states(pool, **query):
    found = await PostgresDeliveries(pool).page(
        DeliveryQuery("tenant-a", NOW - timedelta(days=1), NOW + timedelta(days=1), limit=5000, **query)
    )
    return {one.notification.id: one.state for one in found}


@pytest.mark.timeout(300)
async def test_a_dispatcher_killed_at_any_await_loses_nothing_and_repeats_once_at_most(pool, receiver, start_worker):
    run = await start_worker()
    outbound = LocalOutbound(receiver.url)
    store, repeated, killed = PostgresDeliveries(pool), 0, 0
    for kill_at in range(1, MOST_STEPS):
        firing = notification(f"k{kill_at}", created_at=NOW)
        resolved = notification(f"k{kill_at}", id=f"r-{kill_at}", occasion=Occasion.RESOLVED)
        other = notification(f"o{kill_at}", channel="mail")
        await store.insert([firing, resolved, other])
        outcome = await run(kill_at=kill_at)
        # The next dispatcher finds what is left once the lease is over.
        await dispatcher(pool, outbound, NOW + timedelta(seconds=61)).run()
        told = Counter(receiver.ids)
        assert set(told) == {firing.id, resolved.id, other.id}, kill_at
        assert sum(told.values()) <= len(told) + 2, kill_at  # at most what was under way: one of each channel
        assert max(told.values()) <= 2, kill_at
        last_firing = len(receiver.ids) - 1 - receiver.ids[::-1].index(firing.id)
        assert last_firing < receiver.ids.index(resolved.id), kill_at
        assert all(receiver.ids.count(key) <= 1 + (outcome == "killed") for key in told)
        repeated += sum(told.values()) > len(told)
        receiver.ids.clear()
        if outcome == "done":
            break
        killed += 1
    await outbound.aclose()
    assert outcome == "done"
    assert killed > 20
    assert repeated > 0  # the kills between sending and keeping were among them
    assert set((await states(pool)).values()) == {DeliveryState.SENT}


@pytest.mark.timeout(200)
async def test_several_dispatchers_at_once_send_each_once(pool, receiver, start_worker):
    store = PostgresDeliveries(pool)
    told = [
        notification(f"m{channel}{n}", channel=channel, incident_id=f"i-{channel}-{n // 3}")
        for channel in ("ops", "mail", "desk")
        for n in range(60)
    ]
    await store.insert(told)
    workers = [await start_worker() for _ in range(4)]
    for _ in range(20):
        # A run ends when all that is left is in other hands; what waited behind that is for the next.
        assert set(await asyncio.gather(*(run() for run in workers))) == {"done"}
        if not await store.due_channels(NOW):
            break
    assert Counter(receiver.ids) == dict.fromkeys((one.id for one in told), 1)
    for channel in ("ops", "mail", "desk"):
        for incident in range(20):
            mine = [f"n-m{channel}{n}" for n in range(incident * 3, incident * 3 + 3)]
            assert [key for key in receiver.ids if key in mine] == mine
