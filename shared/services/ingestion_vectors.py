"""Vectors of a document's chunks: asked for once, kept batch by batch, paid for by whoever sent the document."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from shared.domain.documents import Chunk, Document
from shared.domain.embeddings import EmbeddingTask, embedding_request
from shared.domain.errors import DependencyUnavailable, InternalError
from shared.domain.identity import Principal
from shared.domain.policy import RoutingConstraints
from shared.domain.security import SecurityLevel
from shared.ports import Clock, DocumentStore, Ids, Telemetry
from shared.services.ledger_entry import Order
from shared.services.routing import RoutingService

ENDPOINT: Final = "rag/ingest"
_BATCH: Final = 32
"""Texts of one request for vectors; each request is read on the event loop, which others need too."""
_EMBED_TIMEOUT_S: Final = 120.0


class LeaseLost(Exception):
    """Somebody else works on the version, or it was deleted or replaced."""


class ChunkEmbedder:
    """Makes vectors of chunks.

    Args:
        documents: where vectors are known from and kept.
        embeddings: makes them, each call in the ledger.
        clock: time.
        ids: of the calls.
        telemetry: counts.
    """

    def __init__(
        self, documents: DocumentStore, embeddings: RoutingService, clock: Clock, ids: Ids, telemetry: Telemetry
    ) -> None:
        self._documents = documents
        self._embeddings = embeddings
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry

    async def vectors(
        self, document: Document, chunks: Sequence[Chunk], model: str, worker: str
    ) -> Mapping[str, bytes]:
        """Vectors of all chunks, by what they hold; only those that are not known are asked for.

        Each batch is kept as soon as it is there: a worker that dies has paid in vain for one at most.

        Raises:
            LeaseLost: the work is somebody else's now.
            RouterError: the vectors cannot be had.
        """
        by_sha = {chunk.sha: chunk for chunk in chunks}
        vectors = dict(await self._documents.known_vectors(document.tenant_id, model, list(by_sha)))
        missing = [chunk for sha, chunk in by_sha.items() if sha not in vectors]
        batches = list(_batches(missing))
        for place, batch in enumerate(batches, 1):
            made = await self._embedded(document, batch, model)
            vectors |= made
            # The last one is published right away.
            if place < len(batches):
                await self._keep(document, made, model, worker)
        self._telemetry.count("chunks_embedded", len(missing))
        self._telemetry.count("chunks_reused", len(by_sha) - len(missing))
        return vectors

    async def _keep(self, document: Document, made: Mapping[str, bytes], model: str, worker: str) -> None:
        """Keep a batch. That it could not be kept stops nothing: it is paid for again, if this worker dies.

        Raises:
            LeaseLost: the next batch would be paid for in vain.
        """
        try:
            if not await self._documents.keep_vectors(document, made, model=model, worker=worker):
                raise LeaseLost
        except DependencyUnavailable:
            self._telemetry.count("embedded_batches_not_kept")

    async def _embedded(self, document: Document, chunks: Sequence[Chunk], model: str) -> dict[str, bytes]:
        """Vectors of some chunks of one label, paid for by whoever sent the document."""
        texts = [chunk.full_text for chunk in chunks]
        order = Order(
            request=embedding_request(texts, task=EmbeddingTask.RETRIEVAL_DOCUMENT, truncate=True),
            constraints=RoutingConstraints(model=model, label=chunks[0].label),
            principal=Principal(ENDPOINT, document.tenant_id, document.service, frozenset()),
            request_id=self._ids.request_id(),
            endpoint=ENDPOINT,
            requested_model=model,
            stream=False,
            started_s=self._clock.monotonic(),
            timeout_s=_EMBED_TIMEOUT_S,
            tags=(("collection", document.collection), ("document", document.id)),
        )
        answer = await self._embeddings.answer(order)
        found = answer.reply.embeddings
        if len(found) != len(chunks):
            raise InternalError("there are fewer vectors than texts")
        return {chunk.sha: embedding.vector for chunk, embedding in zip(chunks, found, strict=True)}


def _batches(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks of one label together: what one of them is not cleared for must not hold up the others' vectors."""
    by_label: dict[SecurityLevel, list[Chunk]] = {}
    for chunk in chunks:
        by_label.setdefault(chunk.label, []).append(chunk)
    # What may be refused comes first, before anything is paid for.
    for label in sorted(by_label, reverse=True):
        alike = by_label[label]
        for start in range(0, len(alike), _BATCH):
            yield alike[start : start + _BATCH]
