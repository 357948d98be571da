"""The local host's timer triggers: locks and status on real blobs."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import azure.functions as func
import pytest
from azure.storage.blob.aio import BlobLeaseClient

from infra.local.hosting.cron import parse_schedule
from infra.local.hosting.indexing import RetryPolicy, TimerFunction
from infra.local.hosting.storage import NEVER, ScheduleStatus, TimerStore
from infra.local.hosting.timers import TimerListener, utc_now
from tests.contract.host_process import DEADLINE_S, AppFolder, HostProcess, eventually

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAILY = "0 0 3 * * *"
LOCK_S = 15
_numbers = count(1)

Handler = Callable[[func.TimerRequest], Awaitable[None]]


class Storage(Protocol):
    connection_string: str


class Clock:
    """A wall clock that stands still until it is set."""

    def __init__(self, instant: datetime = NOON) -> None:
        self.instant = instant

    def __call__(self) -> datetime:
        return self.instant


class Harness:
    """One timer of one app, on as many hosts as a test starts."""

    def __init__(self, connection_string: str, resources: AsyncExitStack) -> None:
        self.name = "tested"
        self.host_id = f"host-timer-{next(_numbers)}"
        self._connection_string = connection_string
        self._resources = resources
        self._listening: list[tuple[TimerListener, asyncio.Task[None]]] = []
        self.store = self.open_store()

    def open_store(self) -> TimerStore:
        store = TimerStore(self._connection_string, self.host_id)
        self._resources.push_async_callback(store.close)
        return store

    def listen(
        self,
        handler: Handler,
        schedule: str = DAILY,
        *,
        now: Callable[[], datetime] = utc_now,
        run_on_startup: bool = False,
        use_monitor: bool | None = None,
        retry: RetryPolicy | None = None,
        function_timeout_s: float | None = None,
    ) -> TimerListener:
        function = TimerFunction(
            self.name, parse_schedule(schedule), schedule, run_on_startup, use_monitor, retry or RetryPolicy(), handler
        )
        listener = TimerListener(
            function, self.open_store(), lock_s=LOCK_S, function_timeout_s=function_timeout_s, now=now
        )
        self._listening.append((listener, asyncio.create_task(listener.run())))
        return listener

    async def status(self) -> ScheduleStatus:
        """The status, once there is one."""
        deadline_s = time.monotonic() + DEADLINE_S
        await self.store.prepare()
        while (status := await self.store.read_status(self.name)) is None:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)
        return status

    async def status_after(self, instant: datetime) -> ScheduleStatus:
        """The status, once it was updated after an instant."""
        deadline_s = time.monotonic() + DEADLINE_S
        while (status := await self.status()).last_updated <= instant:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)
        return status

    async def write(self, last: datetime, due: datetime, updated: datetime | None = None) -> None:
        await self.store.prepare()
        await self.store.write_status(self.name, ScheduleStatus(last, due, updated or last))

    async def stop(self, listener: TimerListener, grace_s: float = 0) -> None:
        (task,) = [task for known, task in self._listening if known is listener]
        await listener.stop(grace_s)
        await task

    async def close(self) -> None:
        for listener, task in self._listening:
            await listener.stop(0)
            await task


@pytest.fixture
async def harness(azurite: Storage) -> AsyncIterator[Harness]:
    async with AsyncExitStack() as resources:
        tested = Harness(azurite.connection_string, resources)
        yield tested
        await tested.close()


class Recorder:
    """A handler that notes what it got."""

    def __init__(self) -> None:
        self.requests: list[func.TimerRequest] = []
        self.ran = asyncio.Event()

    async def __call__(self, request: func.TimerRequest) -> None:
        self.requests.append(request)
        self.ran.set()

    async def wait(self) -> None:
        await asyncio.wait_for(self.ran.wait(), DEADLINE_S)
        self.ran.clear()


async def test_a_new_timer_writes_its_status_and_does_not_fire(harness: Harness):
    recorder = Recorder()
    harness.listen(recorder, now=Clock())
    assert await harness.status() == ScheduleStatus(NEVER, NOON.replace(day=24, hour=3), NOON)
    assert recorder.requests == []


async def test_a_missed_occurrence_fires_once_as_past_due(harness: Harness):
    last, due = NOON - timedelta(days=3), datetime(2026, 11, 21, 3, tzinfo=UTC)
    await harness.write(last, due)
    recorder = Recorder()
    harness.listen(recorder, now=Clock())
    status = await harness.status_after(last)
    # Two days were missed; they are made up for by one run, and the next one lies ahead.
    (request,) = recorder.requests
    assert request.past_due is True
    assert request.schedule_status == {
        "Last": "2026-11-20T12:00:00+00:00",
        "Next": "2026-11-21T03:00:00+00:00",
        "LastUpdated": "2026-11-20T12:00:00+00:00",
    }
    assert request.schedule == {"AdjustForDST": True}
    assert status == ScheduleStatus(NOON, NOON.replace(day=24, hour=3), NOON)


async def test_a_timer_that_never_ran_can_be_past_due(harness: Harness):
    created = NOON - timedelta(days=1)
    await harness.write(NEVER, NOON.replace(hour=3), created)
    recorder = Recorder()
    harness.listen(recorder, now=Clock())
    await recorder.wait()
    assert recorder.requests[0].past_due is True


async def test_a_status_that_azure_wrote_is_understood(harness: Harness):
    await harness.store.prepare()
    text = {
        "Last": "0001-01-01T00:00:00",
        "Next": "2026-11-23T03:00:00Z",
        "LastUpdated": "2026-11-22T12:00:00.1234567+00:00",
    }
    await harness.store._status_blob(harness.name).upload_blob(json.dumps(text))
    recorder = Recorder()
    harness.listen(recorder, now=Clock())
    await recorder.wait()
    assert recorder.requests[0].past_due is True


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b'{"Last": 1, "Next": 2, "LastUpdated": 3}', b"\xff"])
async def test_a_broken_status_is_replaced(harness: Harness, text: bytes):
    await harness.store.prepare()
    await harness.store._status_blob(harness.name).upload_blob(text)
    recorder = Recorder()
    harness.listen(recorder, now=Clock())
    assert (await harness.status()).last_updated == NOON
    assert recorder.requests == []


async def test_a_changed_schedule_is_not_past_due(harness: Harness):
    last = NOON - timedelta(days=3)
    await harness.write(last, datetime(2026, 11, 20, 18, tzinfo=UTC))
    recorder = Recorder()
    harness.listen(recorder, now=Clock())
    assert await harness.status_after(last) == ScheduleStatus(NEVER, NOON.replace(day=24, hour=3), NOON)
    assert recorder.requests == []


async def test_without_monitoring_nothing_is_past_due_and_no_status_is_kept(harness: Harness):
    await harness.write(NOON - timedelta(days=3), datetime(2026, 11, 21, 3, tzinfo=UTC))
    recorder = Recorder()
    harness.listen(recorder, now=Clock(), use_monitor=False, run_on_startup=True)
    await recorder.wait()
    (request,) = recorder.requests
    assert (request.past_due, request.schedule_status) == (False, {})
    assert (await harness.status()).last == NOON - timedelta(days=3)


async def test_run_on_startup_fires_once_and_then_by_the_schedule(harness: Harness):
    recorder = Recorder()
    clock = Clock(NOON.replace(hour=2, minute=59, second=59, microsecond=900_000))
    harness.listen(recorder, now=clock, run_on_startup=True)
    await recorder.wait()
    await harness.status_after(clock.instant - timedelta(seconds=1))
    assert recorder.requests[0].past_due is False
    clock.instant = NOON.replace(hour=3)
    await recorder.wait()
    assert recorder.requests[1].past_due is False
    assert await harness.status_after(
        NOON.replace(hour=2, minute=59, second=59, microsecond=900_000)
    ) == ScheduleStatus(clock.instant, NOON.replace(day=24, hour=3), clock.instant)


async def test_of_two_hosts_one_fires_each_occurrence_once(harness: Harness):
    fired: list[tuple[str, int]] = []
    enough = asyncio.Event()

    def on(host: str) -> Handler:
        async def handler(_request: func.TimerRequest) -> None:
            fired.append((host, int(time.time())))
            if len(fired) >= 3:
                enough.set()

        return handler

    for host in ("a", "b"):
        harness.listen(on(host), "* * * * * *")
    await asyncio.wait_for(enough.wait(), DEADLINE_S)
    assert len({host for host, _ in fired}) == 1
    assert len(fired) <= fired[-1][1] - fired[0][1] + 2


async def test_a_host_that_stops_hands_the_timer_over(harness: Harness):
    first, second = Recorder(), Recorder()
    leaving = harness.listen(first, "* * * * * *")
    await first.wait()
    await harness.stop(leaving)
    seen = len(first.requests)
    harness.listen(second, "* * * * * *")
    await second.wait()
    assert len(first.requests) == seen


async def test_a_lost_lock_is_noticed(harness: Harness):
    await harness.store.prepare()
    lost = asyncio.Event()
    lock = await harness.store.lock(harness.name, LOCK_S, lost.set)
    assert lock is not None
    assert lock.held
    assert await harness.store.lock(harness.name, LOCK_S, lost.set) is None
    blob = harness.store._blob(f"locks/{harness.host_id}/Host.Functions.{harness.name}.Listener")
    await BlobLeaseClient(blob).break_lease(lease_break_period=0)
    thief = await harness.store.lock(harness.name, LOCK_S, lost.set)
    assert thief is not None
    await asyncio.wait_for(lost.wait(), DEADLINE_S)
    assert not lock.held
    assert thief.held
    await lock.close()
    await thief.close()


async def test_a_run_under_way_ends_and_is_recorded_before_the_lock_goes(harness: Harness):
    started, finish = asyncio.Event(), asyncio.Event()

    async def handler(_request: func.TimerRequest) -> None:
        started.set()
        await finish.wait()

    last = NOON - timedelta(days=3)
    await harness.write(last, datetime(2026, 11, 21, 3, tzinfo=UTC))
    listener = harness.listen(handler, now=Clock())
    await asyncio.wait_for(started.wait(), DEADLINE_S)
    stopping = asyncio.create_task(harness.stop(listener, DEADLINE_S))
    assert await harness.store.lock(harness.name, LOCK_S, finish.set) is None
    finish.set()
    await stopping
    assert (await harness.status()).last == NOON
    lock = await harness.store.lock(harness.name, LOCK_S, finish.set)
    assert lock is not None
    await lock.close()


async def test_a_failed_run_is_retried_by_its_policy_and_then_counts_as_run(harness: Harness):
    attempts = []

    async def handler(request: func.TimerRequest) -> None:
        attempts.append(request.past_due)
        raise ValueError("always")

    last = NOON - timedelta(days=3)
    await harness.write(last, datetime(2026, 11, 21, 3, tzinfo=UTC))
    harness.listen(handler, now=Clock(), retry=RetryPolicy(2, 0.01, 0.01))
    assert (await harness.status_after(last)).last == NOON
    assert attempts == [True, True, True]


async def test_a_run_beyond_the_function_timeout_is_cancelled(harness: Harness):
    cancelled = asyncio.Event()

    async def handler(_request: func.TimerRequest) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    last = NOON - timedelta(days=3)
    await harness.write(last, datetime(2026, 11, 21, 3, tzinfo=UTC))
    harness.listen(handler, now=Clock(), function_timeout_s=0.05)
    await harness.status_after(last)
    assert cancelled.is_set()


async def test_two_hosts_of_two_workers_fire_each_second_once(tmp_path: Path, azurite: Storage):
    settings: dict[str, Any] = {
        "AzureWebJobsStorage": azurite.connection_string,
        "AzureFunctionsWebHost__hostid": f"host-timer-{next(_numbers)}",
        "HOST_TEST_QUEUE": f"host-timer-queue-{next(_numbers)}",
    }
    folder = AppFolder(tmp_path / "app", settings)
    hosts = [HostProcess(folder, "--workers", "2", name=name) for name in ("first", "second")]
    try:
        for host in hosts:
            await host.ready()
        await eventually(lambda: len(folder.noted("tick")) >= 4)
    finally:
        for host in hosts:
            host.close()
    ticks = folder.noted("tick")
    assert len({pid for pid, _ in ticks}) == 1
    # No more runs than seconds; the two ends may each be cut.
    assert len(ticks) <= ticks[-1][1] - ticks[0][1] + 2
