"""Changing the embedding model while searches go on: build a second set of vectors, switch, sweep, drop the first.

Until the switch the old vectors are searched, from then on the new ones; neither lacks a chunk for longer than a sweep
takes, whichever model documents are ingested with meanwhile, and what lacks a vector is found by its words. A run that
is killed goes on where it was when it is started again: what has a vector is not embedded twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from shared.domain.embeddings import EmbeddingTask, embedding_request
from shared.domain.errors import InternalError, NoEligibleModel
from shared.domain.identity import Principal
from shared.domain.policy import RoutingConstraints
from shared.domain.security import SecurityLevel
from shared.ports import Clock, Ids, UnembeddedChunk, VectorTables
from shared.services.ledger_entry import Order
from shared.services.routing import RoutingService

ENDPOINT: Final = "rag/reembed"
SERVICE: Final = "reembedding"
_BATCH: Final = 32
"""Texts of one request: each request is read on the event loop."""
_PAGE: Final = 256
_TIMEOUT_S: Final = 120.0
_SAMPLE: Final = "How long are this model's vectors?"
_ROUNDS: Final = 20
"""Sweeps before a switch. Each is shorter than the one before, unless ingestion is faster than this."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        refused: chunks whose label no deployment of the model may see; they are found by their words.
    """

    model: str
    embedded: int = 0
    refused: int = 0


class ReembeddingService:
    """Builds, switches and drops vectors.

    Args:
        tables: where they are.
        embeddings: makes them, each call in the ledger of the tenant whose chunks they are of.
        clock: time.
        ids: of the calls.
        told: is told what has been done so far, page by page.
    """

    def __init__(
        self,
        tables: VectorTables,
        embeddings: RoutingService,
        clock: Clock,
        ids: Ids,
        told: Callable[[Swept], None] = lambda _: None,
    ) -> None:
        self._tables = tables
        self._embeddings = embeddings
        self._clock = clock
        self._ids = ids
        self._told = told

    async def build(self, model: str) -> Swept:
        """Make a model's table and fill it until nothing is missing.

        Raises:
            DependencyUnavailable: the store is away; what was entered stays.
            InternalError: ingestion is faster than this; nothing is wrong with what was built so far.
            RouterError: the model's vectors cannot be had.
        """
        sample = await self._vectors([_SAMPLE], model, tenant_id=SERVICE, label=SecurityLevel.PUBLIC)
        await self._tables.ensure(model, len(sample[0]) // 4)
        done = Swept(model)
        for _ in range(_ROUNDS):
            swept = await self.sweep(model)
            done = Swept(model, done.embedded + swept.embedded, swept.refused)
            if not swept.embedded:
                return done
        raise InternalError("more is ingested than can be embedded: try again when there is less to do")

    async def switch(self, model: str) -> Swept:
        """Fill a model's table, have it searched, and fill it once more with what came in between.

        Raises:
            DependencyUnavailable: the store is away.
            InternalError: ingestion is faster than this; the old vectors are searched still.
            RouterError: the model's vectors cannot be had.
        """
        built = await self.build(model)
        await self._tables.activate(model)
        last = await self.sweep(model)
        return Swept(model, built.embedded + last.embedded, last.refused)

    async def sweep(self, model: str) -> Swept:
        """Embed what a model has no vectors of, tenant by tenant.

        Raises:
            DependencyUnavailable: the store is away; what was entered stays.
            NotFound: the model has no table.
            RouterError: the model's vectors cannot be had.
        """
        done = Swept(model)
        for tenant_id in await self._tables.tenants():
            after, is_full = 0, True
            # What is entered while the last page is embedded is the next sweep's.
            while is_full:
                chunks = await self._tables.missing(tenant_id, model, after=after, limit=_PAGE)
                is_full = len(chunks) == _PAGE
                for batch in _batches(chunks):
                    done = await self._entered(tenant_id, batch, done)
                if chunks:
                    after = chunks[-1].id
                    self._told(done)
        return done

    async def drop(self, model: str) -> None:
        """Remove a model's vectors.

        Raises:
            Conflict: they are searched.
            DependencyUnavailable: the store is away.
            NotFound: it has none.
        """
        await self._tables.drop(model)

    async def _entered(self, tenant_id: str, chunks: Sequence[UnembeddedChunk], done: Swept) -> Swept:
        texts = [chunk.text for chunk in chunks]
        try:
            vectors = await self._vectors(texts, done.model, tenant_id=tenant_id, label=chunks[0].label)
        except NoEligibleModel:
            return Swept(done.model, done.embedded, done.refused + len(chunks))
        added = await self._tables.add(
            tenant_id, done.model, dict(zip((chunk.id for chunk in chunks), vectors, strict=True))
        )
        return Swept(done.model, done.embedded + added, done.refused)

    async def _vectors(
        self, texts: Sequence[str], model: str, *, tenant_id: str, label: SecurityLevel
    ) -> Sequence[bytes]:
        order = Order(
            request=embedding_request(texts, task=EmbeddingTask.RETRIEVAL_DOCUMENT, truncate=True),
            constraints=RoutingConstraints(model=model, label=label),
            principal=Principal(SERVICE, tenant_id, SERVICE, frozenset()),
            request_id=self._ids.request_id(),
            endpoint=ENDPOINT,
            requested_model=model,
            stream=False,
            started_s=self._clock.monotonic(),
            timeout_s=_TIMEOUT_S,
        )
        answer = await self._embeddings.answer(order)
        vectors = [embedding.vector for embedding in answer.reply.embeddings]
        if len(vectors) != len(texts):
            raise InternalError("there are fewer vectors than texts")
        return vectors


def _batches(chunks: Sequence[UnembeddedChunk]) -> Sequence[Sequence[UnembeddedChunk]]:
    """Chunks of one label each, so that one that few deployments may see keeps none from the others."""
    by_label = sorted(chunks, key=lambda chunk: chunk.label)
    return [
        same[start : start + _BATCH]
        for _, group in groupby(by_label, key=lambda chunk: chunk.label)
        for same in [list(group)]
        for start in range(0, len(same), _BATCH)
    ]
