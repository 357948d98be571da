"""Ingestion in memory: real services and reader, twins of the stores, an embedding model that hashes."""

import hashlib
import struct
from dataclasses import dataclass, field

from shared.domain.embeddings import Embedding
from shared.domain.replies import Embedded, Finished, FinishReason, Usage, UsageUpdate
from shared.domain.security import DetectionRules
from shared.providers.parsing.reader import read
from shared.services.ingestion import IngestionService, Submission
from shared.services.ingestion_work import IngestionWork, Workshop
from shared.stores.memory import (
    ManualClock,
    MemoryJournal,
    MemoryMachine,
    MemoryRecordStore,
    MemorySpill,
    SequentialIds,
)
from shared.stores.memory_documents import MemoryDocumentStore
from shared.stores.memory_ingestion import MemoryBlobStore, MemoryIngestionQueue
from shared.telemetry import RecordingTelemetry
from tests.service.routing_doubles import PRINCIPAL, ScriptedProvider, service
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import policy, registry

EU = embedding_deployment()
USUAL = DetectionRules()
VECTORS = registry((embedding_model(), EU), aliases={"auto": "e"})


def vector_of(text):
    """A unit vector of four numbers that tells texts apart."""
    numbers = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[:4]]
    length = sum(number * number for number in numbers) ** 0.5
    return struct.pack("<4f", *(number / length for number in numbers))


@dataclass
class HashingProvider(ScriptedProvider):
    """Gives each text a vector of its own; first plays what `failures` holds."""

    failures: list = field(default_factory=list)

    async def complete(self, call):
        self.calls.append(call)
        if self.failures:
            failure = self.failures.pop(0)
            if callable(failure):
                await failure()
            else:
                raise failure
        texts = call.request.texts
        found = tuple(Embedding(vector_of(text), len(text.split())) for text in texts)
        return [Embedded(found), UsageUpdate(Usage(input_tokens=len(texts))), Finished(FinishReason.STOP)]

    @property
    def texts(self):
        return [text for call in self.calls for text in call.request.texts]


class ReadingParser:
    """The real reader without its process; `failures` come first."""

    def __init__(self):
        self.failures = []
        self.calls = 0

    async def parse(self, content, *, media_type, name):
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return read(content, media_type=media_type, name=name)


class World:
    def __init__(self, *, shelf=VECTORS, ocr=None, detection=USUAL, documents=None, **rules):
        self.clock = ManualClock()
        self.telemetry = RecordingTelemetry()
        self.records = MemoryRecordStore()
        self.provider = HashingProvider()
        self.documents = documents or MemoryDocumentStore(self.clock)
        self.blobs, self.inbox, self.queue = MemoryBlobStore(), MemoryBlobStore(), MemoryIngestionQueue()
        self.parser = ReadingParser()
        routing, self.writer = service(
            self.provider,
            shelf,
            policy(**rules),
            clock=self.clock,
            store=self.records,
            spill=MemorySpill(),
            journal=MemoryJournal(MemoryMachine(self.clock)),
            telemetry=self.telemetry,
        )
        ids = SequentialIds()
        self.desk = IngestionService(self.documents, self.blobs, self.inbox, self.queue, ids, self.telemetry)
        shop = Workshop(
            self.documents, self.blobs, self.queue, self.parser, routing, lambda: "e", lambda: detection, ocr
        )
        self.work = IngestionWork(shop, self.clock, ids, self.telemetry)

    async def send(self, text="Refunds take 14 days.", source="refunds.txt", **changes):
        """One document at the desk; returns it as it was taken."""
        given = {"collection": "docs", "name": source, "media_type": "text/plain", "content": text.encode()}
        (taken,) = await self.desk.submit(PRINCIPAL, [Submission(source=source, **{**given, **changes})])
        return taken

    async def run(self, rounds=20):
        """Does what the queue holds, letting its delays pass, until nothing waits."""
        for _ in range(rounds):
            if not self.queue.waiting:
                return
            task, delay_s = self.queue.waiting.pop(0)
            self.clock.advance(delay_s)
            await self.work.do(task)
        raise AssertionError("the queue does not empty")

    async def document(self, taken):
        return await self.desk.get(PRINCIPAL, taken.document.id)

    def chunks(self, taken):
        return self.documents._entries[taken.document.id].chunks

    async def ledger(self):
        """The records of requests for vectors, once they are written."""
        self.writer.start()
        await self.writer.aclose()
        return list(self.records.by_id.values())
