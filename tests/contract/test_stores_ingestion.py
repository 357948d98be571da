"""Blobs and the queue of tasks: what their ports promise, held by Azure Storage and by the twins."""

import asyncio
from uuid import uuid4

import pytest

from functions._wire.rag import task_of
from shared.domain.documents import IngestionTask
from shared.domain.errors import DependencyUnavailable, NotFound, RequestTooLarge
from shared.stores.blobs import AzureBlobStore, open_container
from shared.stores.ingestion_queue import StorageIngestionQueue
from shared.stores.memory_ingestion import MemoryBlobStore, MemoryIngestionQueue
from shared.stores.queue_spill import open_queue
from tests.contract.test_stores_spill import _Credential


@pytest.fixture(params=["memory", "azure"])
async def blobs(request):
    if request.param == "memory":
        yield MemoryBlobStore()
        return
    azurite = request.getfixturevalue("azurite")
    store = AzureBlobStore(open_container(f"c-{uuid4().hex}", connection_string=azurite.connection_string))
    yield store
    await store.aclose()


@pytest.mark.parametrize("name", ["tenant-1/one", "tenant-1/a b/ä?#%25.pdf", "x" * 900])
@pytest.mark.parametrize("content", [b"", b"bytes\0", bytes(3 * 2**20)], ids=len)
async def test_bytes_come_back_under_their_name(blobs, name, content):
    await blobs.put(name, content)
    assert await blobs.get(name, max_bytes=len(content)) == content


async def test_the_last_bytes_count(blobs):
    await blobs.put("t/one", b"first")
    await blobs.put("t/one", b"second")
    assert await blobs.get("t/one", max_bytes=100) == b"second"


async def test_what_is_not_there_is_not_found_and_may_be_deleted(blobs):
    with pytest.raises(NotFound):
        await blobs.get("t/none", max_bytes=100)
    await blobs.delete("t/none")
    await blobs.put("t/one", b"x")
    await blobs.delete("t/one")
    with pytest.raises(NotFound):
        await blobs.get("t/one", max_bytes=100)
    with pytest.raises(NotFound):
        await blobs.get("t/none", max_bytes=100)


async def test_what_is_too_large_is_not_read(blobs):
    await blobs.put("t/one", bytes(101))
    with pytest.raises(RequestTooLarge):
        await blobs.get("t/one", max_bytes=100)


async def test_workers_that_make_the_container_together_both_succeed(azurite):
    name = f"c-{uuid4().hex}"
    stores = [AzureBlobStore(open_container(name, connection_string=azurite.connection_string)) for _ in range(4)]
    await asyncio.gather(*(store.put(f"t/{place}", b"x") for place, store in enumerate(stores)))
    for place, store in enumerate(stores):
        assert await store.get(f"t/{(place + 1) % 4}", max_bytes=1) == b"x"
        await store.aclose()


@pytest.mark.parametrize("call", ["put", "get", "delete"])
async def test_a_service_that_is_away_says_so_in_time(azurite, call):
    store = AzureBlobStore(
        open_container("nobody", connection_string=azurite.connection_string.replace(str(azurite.ports.blob), "1")),
        deadline_s=5,
    )
    more = {"put": (b"x",), "get": (), "delete": ()}[call]
    with pytest.raises(DependencyUnavailable):
        await getattr(store, call)("t/one", *more, **({"max_bytes": 10} if call == "get" else {}))
    await store.aclose()


async def test_a_frozen_service_is_given_up(azurite):
    store = AzureBlobStore(
        open_container(f"c-{uuid4().hex}", connection_string=azurite.connection_string), deadline_s=0.5
    )
    azurite.freeze()
    with pytest.raises(DependencyUnavailable):
        await store.put("t/one", b"x")
    azurite.thaw()
    await store.aclose()


def test_a_container_needs_to_know_who_asks():
    for arguments in ({}, {"account_name": "a"}, {"credential": _Credential()}):
        with pytest.raises(ValueError, match="connection string"):
            open_container("c", **arguments)


async def test_a_container_is_reached_with_an_identity():
    container = open_container("c", account_name="account", credential=_Credential())
    assert container.url == "https://account.blob.core.windows.net/c"
    await container.close()


def tasks(count):
    return [IngestionTask("tenant-1", str(uuid4()), 1, "tenant-1/blob") for _ in range(count)]


async def _received(queue):
    found = []
    async for message in queue.receive_messages(messages_per_page=32):
        found.append(task_of(message.content.encode()))
        await queue.delete_message(message)
    return found


async def test_tasks_come_out_as_they_went_in(azurite):
    client = open_queue(f"q-{uuid4().hex}", connection_string=azurite.connection_string)
    queue = StorageIngestionQueue(client)
    put = tasks(21)
    await queue.put([])
    await queue.put(put)
    assert sorted(await _received(client), key=str) == sorted(put, key=str)
    await queue.aclose()


async def test_tasks_that_are_put_off_are_not_given_out_yet(azurite):
    client = open_queue(f"q-{uuid4().hex}", connection_string=azurite.connection_string)
    queue = StorageIngestionQueue(client)
    await queue.put(tasks(1), delay_s=600)
    assert await _received(client) == []
    assert (await client.get_queue_properties()).approximate_message_count == 1
    await queue.aclose()


async def test_a_queue_that_is_away_says_so(azurite):
    away = azurite.connection_string.replace(str(azurite.ports.queue), "1")
    queue = StorageIngestionQueue(open_queue("nobody", connection_string=away))
    with pytest.raises(DependencyUnavailable):
        await queue.put(tasks(2))
    await queue.aclose()


async def test_the_twin_keeps_tasks_with_their_delays():
    twin = MemoryIngestionQueue()
    (task,) = tasks(1)
    await twin.put([task], delay_s=5)
    assert twin.waiting == [(task, 5)]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"tenant_id": "t", "document_id": "d", "version": "x"}'])
def test_a_message_that_is_no_task_is_refused(body):
    with pytest.raises(ValueError):
        task_of(body)
