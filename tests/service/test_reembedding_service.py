"""Another embedding model, in memory: real services, twins of the stores."""

import pytest

from shared.domain.documents import SearchScope
from shared.domain.embeddings import Embedding
from shared.domain.errors import InternalError, ProviderUnavailable
from shared.domain.replies import Embedded, Finished, FinishReason, Usage, UsageUpdate
from shared.domain.security import SecurityLevel
from shared.services.reembedding import ENDPOINT, ReembeddingService
from shared.stores.memory import (
    ManualClock,
    MemoryJournal,
    MemoryMachine,
    MemoryRecordStore,
    MemorySpill,
    SequentialIds,
)
from shared.stores.memory_documents import MemoryDocumentStore
from shared.stores.memory_passages import MemoryPassageIndex
from shared.stores.memory_vectors import MemoryVectorTables
from shared.telemetry import RecordingTelemetry
from tests.retrieval_builders import MODEL, publish, vector
from tests.service.routing_doubles import ScriptedProvider, service
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import policy, registry

NEW = "new-embedding"
CLEARED = embedding_deployment(NEW, clearance=SecurityLevel.CONFIDENTIAL)
VECTORS = registry(
    (embedding_model(MODEL), embedding_deployment(MODEL)), (embedding_model(NEW), CLEARED), aliases={"auto": MODEL}
)


class Provider(ScriptedProvider):
    """`meanwhile` is done once, in the middle of a call."""

    meanwhile = None
    failures = 0

    async def complete(self, call):
        self.calls.append(call)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        if self.failures and len(self.calls) > 2:
            self.failures -= 1
            raise ProviderUnavailable("away")
        found = tuple(Embedding(vector(f"new {text}"), 1) for text in call.request.texts)
        return [Embedded(found), UsageUpdate(Usage(input_tokens=1)), Finished(FinishReason.STOP)]

    @property
    def texts(self):
        return [text for call in self.calls[1:] for text in call.request.texts]


class World:
    def __init__(self):
        clock = ManualClock()
        self.records = MemoryRecordStore()
        self.provider = Provider()
        self.documents = MemoryDocumentStore(clock)
        self.index = MemoryPassageIndex(self.documents)
        self.tables = MemoryVectorTables(self.documents)
        routing, self.writer = service(
            self.provider,
            VECTORS,
            policy(),
            clock=clock,
            store=self.records,
            spill=MemorySpill(),
            journal=MemoryJournal(MemoryMachine(clock)),
            telemetry=RecordingTelemetry(),
        )
        self.told = []
        self.service = ReembeddingService(self.tables, routing, clock, SequentialIds(), self.told.append)

    async def add(self, *texts, tenant_id="tenant-a", **fields):
        return await publish(self.documents, texts, tenant_id=tenant_id, **fields)

    async def found(self, model, tenant_id="tenant-a"):
        scope = SearchScope(tenant_id, "manuals")
        asked = {"vector": vector("new one"), "terms": {}, "model": model, "candidates": 1_000}
        return {passage.chunk.text for passage in (await self.index.search(scope, **asked)).passages}


@pytest.fixture
def world():
    return World()


async def test_a_switch_embeds_everything_of_all_tenants_once(world):
    texts = [f"text {number}" for number in range(300)]
    await world.add(*texts)
    await world.add("theirs", tenant_id="tenant-b")

    done = await world.service.switch(NEW)

    assert (done.embedded, done.refused) == (301, 0)
    assert await world.index.active_model() == NEW
    assert await world.found(NEW) == set(texts)
    assert await world.found(NEW, "tenant-b") == {"theirs"}
    assert sorted(world.provider.texts) == sorted([*texts, "theirs"])
    assert [told.embedded for told in world.told][:2] == [256, 300]
    assert (await world.service.switch(NEW)).embedded == 0


async def test_each_tenants_calls_are_in_its_ledger(world):
    await world.add("ours")
    await world.add("theirs", tenant_id="tenant-b")
    await world.service.build(NEW)
    world.writer.start()
    await world.writer.aclose()
    asked = {(record.tenant_id, record.endpoint) for record in world.records.by_id.values()}
    assert asked >= {("tenant-a", ENDPOINT), ("tenant-b", ENDPOINT)}


async def test_what_is_ingested_meanwhile_is_caught_up_with(world):
    await world.add("before")

    async def ingest():
        await world.add("meanwhile")

    world.provider.meanwhile = ingest
    await world.service.switch(NEW)
    await world.add("after the switch, with the old model")
    assert await world.found(NEW) == {"before", "meanwhile"}

    await world.service.sweep(NEW)

    assert await world.found(NEW) == {"before", "meanwhile", "after the switch, with the old model"}
    await world.service.drop(MODEL)
    assert await world.found(MODEL) == set()


async def test_a_run_that_stopped_goes_on_where_it_was(world):
    await world.add(*(f"text {number}" for number in range(100)))
    world.provider.failures = 10
    with pytest.raises(ProviderUnavailable):
        await world.service.switch(NEW)
    assert await world.index.active_model() == MODEL
    world.provider.failures = 0
    world.provider.calls.clear()

    await world.service.switch(NEW)

    assert len(await world.found(NEW)) == 100
    assert 0 < len(world.provider.texts) < 100


async def test_what_the_model_may_not_see_is_left_to_the_words(world):
    labels = (SecurityLevel.INTERNAL, SecurityLevel.RESTRICTED, SecurityLevel.INTERNAL)
    await world.add("one", "secret", "two", labels=labels)

    done = await world.service.switch(NEW)

    assert (done.embedded, done.refused) == (2, 1)
    assert await world.found(NEW) == {"one", "two"}
    assert "secret" not in world.provider.texts


async def test_a_build_that_never_catches_up_does_not_switch(world):
    await world.add("text")

    async def ingest():
        await world.add("more")
        world.provider.meanwhile = ingest

    world.provider.meanwhile = ingest
    with pytest.raises(InternalError):
        await world.service.switch(NEW)
    assert await world.index.active_model() == MODEL
