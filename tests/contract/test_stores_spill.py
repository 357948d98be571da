"""Records that wait for the ledger: what `RecordSpill` promises, held by a storage queue and by its twin."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import uuid4

import pytest
from azure.core.credentials import AccessToken
from azure.storage.queue.aio import QueueClient

from infra.local.services import Azurite
from shared.domain.errors import DependencyUnavailable
from shared.domain.record_codec import MAX_DOCUMENT_BYTES, decode
from shared.domain.records import RequestRecord
from shared.ports import RecordSpill
from shared.stores.memory import MemorySpill
from shared.stores.queue_spill import QueueProbe, StorageQueueSpill, open_queue
from tests.stores_builders import attempt, batch, record


@dataclass
class Subject:
    """A spill, and how its consumer and an operator see it."""

    spill: RecordSpill
    take: Callable[[], Awaitable[list[str]]]
    """Empties the queue: the messages' bodies, as a queue-triggered function gets them."""


@pytest.fixture
async def queue(azurite: Azurite) -> AsyncIterator[QueueClient]:
    async with open_queue(f"spill-{uuid4().hex}", connection_string=azurite.connection_string) as queue:
        yield queue


async def _receive_all(queue: QueueClient) -> list[str]:
    bodies = []
    async for message in queue.receive_messages(messages_per_page=32):
        bodies.append(message.content)
        await queue.delete_message(message)
    return bodies


@pytest.fixture(params=["memory", "queue"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "queue":
        queue = request.getfixturevalue("queue")
        return Subject(StorageQueueSpill(queue), lambda: _receive_all(queue))
    twin = MemorySpill()

    async def take() -> list[str]:
        messages, twin.messages = twin.messages, []
        return messages

    return Subject(twin, take)


async def _records(subject: Subject) -> list[RequestRecord]:
    return [record for body in await subject.take() for record in decode(body)]


def _by_id(records: list[RequestRecord]) -> list[RequestRecord]:
    return sorted(records, key=lambda record: record.id)


async def test_records_come_out_exactly_as_they_went_in(subject: Subject) -> None:
    records = batch(3)

    await subject.spill.put(records)

    assert _by_id(await _records(subject)) == _by_id(records)


async def test_nothing_puts_nothing(subject: Subject) -> None:
    await subject.spill.put([record()])
    await subject.take()
    await subject.spill.put([])

    assert await subject.take() == []


async def test_many_records_share_few_messages_that_all_fit(subject: Subject) -> None:
    records = batch(150)

    await subject.spill.put(records)

    bodies = await subject.take()
    assert 1 < len(bodies) < 15
    assert max(len(base64.b64encode(body.encode())) for body in bodies) <= 64 * 1024
    assert _by_id([item for body in bodies for item in decode(body)]) == _by_id(records)


async def test_the_largest_record_that_a_caller_can_make_fits(subject: Subject) -> None:
    text = "\x01" * 600
    largest = record(
        requested_model=text,
        service_name=text,
        principal_id=text,
        error_message=text * 3,
        tags=tuple((f"{number:02}{text}", text) for number in range(32)),
        attempts=tuple(attempt(number) for number in range(1, 11)),
    )

    await subject.spill.put([largest])

    (read,) = await _records(subject)
    assert replace(read, tags=(), requested_model="", service_name="", principal_id="", error_message="") == replace(
        largest, tags=(), requested_model="", service_name="", principal_id="", error_message=""
    )
    assert read.tags


async def test_a_record_longer_than_a_message_is_refused_whole_and_before_anything_is_sent(subject: Subject) -> None:
    endless = record(attempts=tuple(attempt(number) for number in range(1, 200)))

    with pytest.raises(ValueError, match=endless.id):
        await subject.spill.put([*batch(60), endless])

    await subject.spill.put([good := record()])
    assert await _records(subject) == [good]


async def test_hostile_text_does_not_hold_up_the_records_around_it(subject: Subject) -> None:
    hostile, good = record(requested_model="gem\0ini \ud83d"), record()

    await subject.spill.put([hostile, good])

    expected = replace(hostile, requested_model="gem\ufffdini \ufffd")
    assert _by_id(await _records(subject)) == _by_id([expected, good])


async def test_putting_again_loses_nothing(subject: Subject) -> None:
    records = batch(5)

    await subject.spill.put(records)
    await subject.spill.put(records)

    assert {item.id for item in await _records(subject)} == {item.id for item in records}


async def test_a_twin_that_is_switched_away_takes_nothing() -> None:
    twin, written = MemorySpill(), record()
    twin.away = True
    with pytest.raises(DependencyUnavailable):
        await twin.put([written])

    twin.away = False
    await twin.put([written])
    assert (twin.take(), twin.take()) == ((written,), ())


# Only the queue


async def test_a_message_is_base64_of_a_versioned_document(queue: QueueClient) -> None:
    await StorageQueueSpill(queue).put([written := record()])

    raw = QueueClient.from_queue_url(queue.url, credential=queue.credential, api_version=queue.api_version)
    async with raw:
        (message,) = [message async for message in raw.receive_messages()]
    body = base64.b64decode(message.content, validate=True)
    assert len(body) <= MAX_DOCUMENT_BYTES
    assert json.loads(body)["v"] == 1
    assert decode(body) == (written,)


async def test_a_message_never_expires(queue: QueueClient) -> None:
    await StorageQueueSpill(queue).put([record()])

    (message,) = await queue.peek_messages()

    assert message.expires_on.year == 9999


async def test_many_workers_may_find_the_queue_missing_at_once(queue: QueueClient) -> None:
    records = batch(8)

    await asyncio.gather(*(StorageQueueSpill(queue).put([item]) for item in records))

    assert _by_id([r for body in await _receive_all(queue) for r in decode(body)]) == _by_id(records)


async def test_a_frozen_queue_service_costs_no_more_than_the_deadline(azurite: Azurite, queue: QueueClient) -> None:
    spill = StorageQueueSpill(queue, deadline_s=0.3)
    await StorageQueueSpill(queue).put([record()])
    azurite.freeze()

    async with asyncio.timeout(20):
        with pytest.raises(DependencyUnavailable):
            await spill.put([record()])
        with pytest.raises(DependencyUnavailable):
            await QueueProbe(spill, timeout_s=0.3).check()

    azurite.thaw()
    await StorageQueueSpill(queue, deadline_s=20).put([record()])


async def test_a_queue_service_that_is_not_there_is_unavailable_and_its_key_stays_secret() -> None:
    key = base64.b64encode(b"hunter2").decode()
    address = f"AccountName=spill;AccountKey={key};QueueEndpoint=http://127.0.0.1:1/spill;"
    async with open_queue("request-log", connection_string=address) as queue:
        with pytest.raises(DependencyUnavailable) as absence:
            await StorageQueueSpill(queue, deadline_s=5).put([record()])
    assert key not in repr(absence.value)
    assert absence.value.__cause__ is None


async def test_the_probe_takes_a_missing_queue_for_an_answer(queue: QueueClient) -> None:
    await QueueProbe(StorageQueueSpill(queue)).check()


async def test_a_key_that_does_not_hold_is_no_answer(azurite: Azurite) -> None:
    address = azurite.connection_string
    key = next(part for part in address.split(";") if part.startswith("AccountKey="))
    forged = address.replace(key, f"AccountKey={base64.b64encode(b'forged').decode()}")
    async with open_queue("request-log", connection_string=forged) as queue:
        with pytest.raises(DependencyUnavailable):
            await QueueProbe(StorageQueueSpill(queue), timeout_s=5).check()


class _Credential:
    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        raise AssertionError("building a client asks for no token")

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *details: object) -> None:
        pass


async def test_an_account_with_a_managed_identity_is_reached_by_https() -> None:
    async with open_queue("request-log", account_name="ledger", credential=_Credential()) as queue:
        assert queue.url == "https://ledger.queue.core.windows.net/request-log"


@pytest.mark.parametrize("arguments", [{}, {"account_name": "ledger"}, {"connection_string": "nonsense"}])
def test_a_queue_without_an_address_or_an_identity_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        open_queue("request-log", **arguments)
