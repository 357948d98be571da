"""Vectors by model in memory: the twin of `shared.stores.postgres.vector_tables`."""

from collections.abc import Iterator, Mapping, Sequence

from shared.domain.documents import Chunk
from shared.domain.errors import Conflict, InvalidRequest, NotFound
from shared.ports import UnembeddedChunk, VectorTable
from shared.rag.vectors import as_halves, as_singles
from shared.stores.memory_documents import Entry, MemoryDocumentStore


class MemoryVectorTables:
    """`VectorTables` over a `MemoryDocumentStore`."""

    def __init__(self, documents: MemoryDocumentStore) -> None:
        self._documents = documents

    async def all(self) -> Sequence[VectorTable]:
        """All tables, the oldest first."""
        return list(self._documents.tables.values())

    async def ensure(self, model: str, dimensions: int) -> None:
        """Make a model's table if there is none; the first is the active one."""
        self._documents.ensure_table(model, dimensions)

    async def tenants(self) -> Sequence[str]:
        """All tenants that ever had a document."""
        return self._documents.tenants()

    async def missing(self, tenant_id: str, model: str, *, after: int, limit: int) -> Sequence[UnembeddedChunk]:
        """Chunks of a tenant without a vector, by id, from the one after `after`."""
        self._known(model)
        found = [
            UnembeddedChunk(number, chunk.full_text, chunk.label, entry.document.service)
            for number, entry, place, chunk in self._chunks(tenant_id)
            if number > after and not entry.vector(model, place)
        ]
        return found[:limit]

    async def add(self, tenant_id: str, model: str, vectors: Mapping[int, bytes]) -> int:
        """Enter vectors by chunk; of chunks that are gone, or have one, nothing is entered."""
        table = self._known(model)
        try:
            halves = as_halves(list(vectors.values()))
        except ValueError as error:
            raise InvalidRequest(str(error), param="vectors") from None
        if halves.shape[1] != table.dimensions:
            raise InvalidRequest("the vectors are not as long as this model's", param="vectors")
        given = dict(zip(vectors, as_singles(halves), strict=True))
        entered = 0
        for number, entry, place, _ in self._chunks(tenant_id):
            if number in given and not entry.vector(model, place):
                entry.vectors.setdefault(model, [b""] * len(entry.chunks))[place] = given[number]
                entered += 1
        return entered

    async def activate(self, model: str) -> None:
        """Have a model's vectors searched from now on; the one before is retired."""
        self._known(model)
        tables = self._documents.tables
        for name, table in tables.items():
            if name == model or table.status == "active":
                tables[name] = VectorTable(name, table.dimensions, "active" if name == model else "retired")

    async def drop(self, model: str) -> None:
        """Remove a table with all its vectors."""
        if self._known(model).status == "active":
            raise Conflict("this model's vectors are searched: activate another one first")
        del self._documents.tables[model]
        for tenant_id in self._documents.tenants():
            for _, entry, _, _ in self._chunks(tenant_id):
                entry.vectors.pop(model, None)

    def _known(self, model: str) -> VectorTable:
        if model not in self._documents.tables:
            raise NotFound("there are no vectors of this model", param="model")
        return self._documents.tables[model]

    def _chunks(self, tenant_id: str) -> Iterator[tuple[int, Entry, int, Chunk]]:
        """Number, document, place there and chunk of everything that is searched."""
        number = 0
        for entry in self._documents.entries(tenant_id):
            for place, chunk in enumerate(entry.chunks):
                number += 1
                yield number, entry, place, chunk
