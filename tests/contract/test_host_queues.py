"""The local host's queue triggers on real queues."""

import asyncio
import base64
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import azure.functions as func
import pytest
from azure.core.exceptions import ResourceNotFoundError, ServiceResponseError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from infra.local.hosting.indexing import QueueFunction
from infra.local.hosting.queues import QueueListener
from infra.local.hosting.settings import QueueSettings
from infra.local.hosting.storage import open_queues
from tests.contract.host_process import DEADLINE_S, AppFolder, HostProcess, eventually

QUICK = QueueSettings(max_polling_interval_s=0.1)
_numbers = count(1)


class Storage(Protocol):
    connection_string: str


class Harness:
    """One queue, one function, and the listener between them."""

    def __init__(self, service: QueueServiceClient) -> None:
        self.name = f"host-queue-{next(_numbers)}"
        self.service = service
        self.queue: QueueClient = service.get_queue_client(self.name)
        self.poison: QueueClient = service.get_queue_client(f"{self.name}-poison")
        self._listening: list[tuple[QueueListener, asyncio.Task[None]]] = []

    def listen(
        self,
        handler: Callable[[func.QueueMessage], Awaitable[None]],
        settings: QueueSettings = QUICK,
        **options: Any,
    ) -> QueueListener:
        function = QueueFunction("tested", self.name, "Storage", handler)
        listener = QueueListener(function, self.service, settings, **options)
        self._listening.append((listener, asyncio.create_task(listener.run())))
        return listener

    async def send(self, *texts: str) -> None:
        for text in texts:
            await self.queue.send_message(base64.b64encode(text.encode()).decode())

    async def waiting(self, queue: QueueClient) -> list[str]:
        """The visible messages' texts, as they lie in the queue."""
        try:
            return [str(message.content) for message in await queue.peek_messages(32)]
        except ResourceNotFoundError:
            return []

    async def left(self) -> int:
        """Messages in the queue, hidden ones included."""
        return (await self.queue.get_queue_properties()).approximate_message_count or 0

    async def close(self) -> None:
        for listener, task in self._listening:
            await listener.stop(0)
            await task


async def until(look: Callable[[], Awaitable[object]]) -> None:
    """Look until the answer is true."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not await look():
        assert time.monotonic() < deadline_s, "did not come true"
        await asyncio.sleep(0.02)


@pytest.fixture
async def harness(azurite: Storage) -> AsyncIterator[Harness]:
    async with open_queues(azurite.connection_string) as service:
        tested = Harness(service)
        await tested.queue.create_queue()
        yield tested
        await tested.close()


async def test_success_deletes_and_the_function_sees_the_whole_message(harness: Harness):
    seen: list[func.QueueMessage] = []

    async def handler(message: func.QueueMessage) -> None:
        seen.append(message)

    await harness.send('{"ä": 1}')
    harness.listen(handler)
    await until(lambda: _is(harness.left(), 0))
    (message,) = seen
    assert (message.get_json(), message.dequeue_count) == ({"ä": 1}, 1)
    assert message.id
    assert message.pop_receipt
    assert message.insertion_time is not None
    assert message.expiration_time is not None
    assert message.time_next_visible is not None
    assert message.expiration_time - message.insertion_time == timedelta(days=7)
    lease = message.time_next_visible - datetime.now(UTC)  # noqa: TID251 - compared with the server's clock
    assert timedelta(minutes=9) < lease <= timedelta(minutes=10)


async def _is(actual: Awaitable[object], expected: object) -> bool:
    return await actual == expected


async def test_a_missing_queue_is_made(harness: Harness):
    await harness.queue.delete_queue()
    done = asyncio.Event()

    async def handler(_message: func.QueueMessage) -> None:
        done.set()

    harness.listen(handler)

    async def sent() -> bool:
        try:
            await harness.send("x")
        except ResourceNotFoundError:
            return False
        return True

    await until(sent)
    await asyncio.wait_for(done.wait(), DEADLINE_S)


async def test_failures_are_retried_counted_and_end_in_the_poison_queue(harness: Harness):
    counts: list[int | None] = []

    async def handler(message: func.QueueMessage) -> None:
        counts.append(message.dequeue_count)
        raise ValueError("always")

    await harness.send("bad")
    harness.listen(handler, QueueSettings(max_dequeue_count=3, max_polling_interval_s=0.1))
    await until(lambda: harness.waiting(harness.poison))
    assert counts == [1, 2, 3]
    # The text is copied as it was, and not encoded a second time.
    assert await harness.waiting(harness.poison) == [base64.b64encode(b"bad").decode()]
    await until(lambda: _is(harness.left(), 0))
    (poison,) = await harness.poison.peek_messages()
    assert poison.expires_on is not None
    assert poison.expires_on.year == 9999


async def test_a_failed_message_stays_hidden_for_the_visibility_timeout(harness: Harness):
    failed_at, again_at = [], []

    async def handler(message: func.QueueMessage) -> None:
        if message.dequeue_count == 1:
            failed_at.append(time.monotonic())
            raise ValueError("once")
        again_at.append(time.monotonic())

    await harness.send("x")
    harness.listen(handler, QueueSettings(visibility_timeout_s=2, max_polling_interval_s=0.1))
    await until(lambda: _is(harness.left(), 0))
    # A lower bound that the server enforces, in whole seconds; nothing is asserted about how much longer it took.
    assert again_at[0] - failed_at[0] > 1


async def test_a_message_is_not_deleted_when_the_poison_copy_fails(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def handler(_message: func.QueueMessage) -> None:
        raise ValueError("always")

    async def broken(*_: object, **__: object) -> None:
        raise ServiceResponseError("the copy got lost")

    await harness.send("bad")
    listener = harness.listen(handler, QueueSettings(max_dequeue_count=1, max_polling_interval_s=0.1))
    monkeypatch.setattr(listener._poison, "send_message", broken)
    await until(lambda: _true("will come back" in caplog.text))
    assert await harness.left() == 1
    assert await harness.waiting(harness.poison) == []


async def _true(value: bool) -> bool:
    return value


async def test_a_message_that_took_its_workers_down_is_not_run_again(harness: Harness):
    ran = []

    async def handler(message: func.QueueMessage) -> None:
        ran.append(message)

    await harness.send("crasher")
    for _ in range(2):
        # Taken and never settled, as by a process that died.
        (taken,) = [message async for message in harness.queue.receive_messages(visibility_timeout=1)]
        await harness.queue.update_message(taken, visibility_timeout=0)
    harness.listen(handler, QueueSettings(max_dequeue_count=2, max_polling_interval_s=0.1))
    await until(lambda: harness.waiting(harness.poison))
    assert ran == []


async def test_what_is_not_base64_goes_to_the_poison_queue_at_once(harness: Harness):
    ran = []

    async def handler(message: func.QueueMessage) -> None:
        ran.append(message)

    await harness.queue.send_message("plain text")
    harness.listen(handler)
    await until(lambda: harness.waiting(harness.poison))
    assert await harness.waiting(harness.poison) == ["plain text"]
    assert ran == []


async def test_plain_messages_are_taken_as_they_are_when_so_configured(harness: Harness):
    bodies = []

    async def handler(message: func.QueueMessage) -> None:
        bodies.append(message.get_body())

    await harness.queue.send_message("plain text")
    harness.listen(handler, QueueSettings(base64=False, max_polling_interval_s=0.1))
    await until(lambda: _is(harness.left(), 0))
    assert bodies == [b"plain text"]


async def test_the_lease_is_renewed_while_the_function_runs(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    started, finish = asyncio.Event(), asyncio.Event()
    counts = []

    async def handler(message: func.QueueMessage) -> None:
        counts.append(message.dequeue_count)
        started.set()
        await finish.wait()

    await harness.send("long")
    listener = harness.listen(handler, lease_s=2)
    renewed = 0
    update = listener._queue.update_message

    async def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal renewed
        answer = await update(*arguments, **options)
        renewed += 1
        return answer

    monkeypatch.setattr(listener._queue, "update_message", counting)
    await asyncio.wait_for(started.wait(), DEADLINE_S)
    # Three renewals of a two-second lease lie beyond its first end.
    await until(lambda: _true(renewed >= 3))
    assert [message async for message in harness.queue.receive_messages()] == []
    finish.set()
    # Deleted with the receipt of the last renewal, not the first one.
    await until(lambda: _is(harness.left(), 0))
    assert counts == [1]


async def test_batches_bound_the_concurrency(harness: Harness):
    running, highest, done = 0, 0, 0
    full, go_on = asyncio.Event(), asyncio.Event()

    async def handler(_message: func.QueueMessage) -> None:
        nonlocal running, highest, done
        running += 1
        highest = max(highest, running)
        if running == 4:
            full.set()
        await go_on.wait()
        running -= 1
        done += 1

    await harness.send(*map(str, range(12)))
    harness.listen(handler, QueueSettings(batch_size=4, new_batch_threshold=1, max_polling_interval_s=0.1))
    await asyncio.wait_for(full.wait(), DEADLINE_S)
    # Above the threshold nothing more is taken: the other eight stay visible.
    assert len(await harness.waiting(harness.queue)) == 8
    go_on.set()
    await until(lambda: _true(done == 12))
    # A new batch comes on top of what the threshold lets run on.
    assert highest <= 4 + 1


async def test_the_function_timeout_is_a_failure(harness: Harness):
    counts = []

    async def handler(message: func.QueueMessage) -> None:
        counts.append(message.dequeue_count)
        if message.dequeue_count == 1:
            await asyncio.Event().wait()

    await harness.send("slow")
    harness.listen(handler, function_timeout_s=0.05)
    await until(lambda: _is(harness.left(), 0))
    assert counts == [1, 2]


async def test_stopping_waits_and_then_gives_back_what_is_not_done(harness: Harness):
    started = asyncio.Event()

    async def handler(message: func.QueueMessage) -> None:
        if message.get_body() == b"endless":
            started.set()
            await asyncio.Event().wait()

    await harness.send("endless")
    listener = harness.listen(handler)
    await asyncio.wait_for(started.wait(), DEADLINE_S)
    await listener.stop(0.05)
    # Visible again at once, and not only when its ten minutes are over.
    await until(lambda: harness.waiting(harness.queue))


async def test_messages_that_come_while_the_listener_stops_are_given_back(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    ran = []

    async def handler(message: func.QueueMessage) -> None:
        ran.append(message)

    function = QueueFunction("tested", harness.name, "Storage", handler)
    listener = QueueListener(function, harness.service, QUICK)
    take = listener._take

    async def take_and_be_stopped() -> Any:
        messages = await take()
        await listener.stop(0)
        return messages

    monkeypatch.setattr(listener, "_take", take_and_be_stopped)
    await harness.send("x")
    await listener.run()
    assert len(await harness.waiting(harness.queue)) == 1
    assert ran == []


@pytest.fixture
def folder(tmp_path: Path, azurite: Storage) -> AppFolder:
    settings = {"HOST_TEST_QUEUE": f"host-queue-{next(_numbers)}", "AzureWebJobsStorage": azurite.connection_string}
    return AppFolder(tmp_path / "app", settings)


@pytest.fixture
def host(folder: AppFolder) -> Iterator[HostProcess]:
    folder.write_host_file({"maxDequeueCount": 2, "visibilityTimeout": "00:00:00"})
    process = HostProcess(folder, "--workers", "2")
    yield process
    for name in ("one", "two"):
        folder.open_gate(name)
    process.close()


async def test_the_process_takes_messages_by_its_host_file_and_drains(
    folder: AppFolder, host: HostProcess, azurite: Storage
):
    await host.ready()
    async with open_queues(azurite.connection_string) as service:
        queue = service.get_queue_client(folder.settings["HOST_TEST_QUEUE"])
        poison = service.get_queue_client(folder.settings["HOST_TEST_QUEUE"] + "-poison")

        async def send(text: str) -> bool:
            try:
                await queue.send_message(base64.b64encode(text.encode()).decode())
            except ResourceNotFoundError:
                return False
            return True

        await until(lambda: send("bad"))
        await eventually(lambda: folder.noted("message") == [["bad", 1], ["bad", 2]])

        async def buried() -> object:
            try:
                return await poison.peek_messages()
            except ResourceNotFoundError:
                return None

        await until(buried)
        await send("gate:one")
        await eventually(lambda: ["gate:one", 1] in folder.noted("message"))
        host.signal(signal.SIGTERM)
        folder.open_gate("one")
        assert await host.exit_code() == 0
        # It ran to its end, and its message is gone.
        assert ["gate:one"] in folder.noted("message-done")
        assert (await queue.get_queue_properties()).approximate_message_count == 0
