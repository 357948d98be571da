"""Tables of vectors on PostgreSQL and on the twin: one is built and switched to while the other is searched."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from shared.domain.documents import SearchScope
from shared.domain.errors import Conflict, InvalidRequest, NotFound
from shared.domain.security import SecurityLevel
from shared.ports import DocumentStore, PassageIndex, VectorTable, VectorTables
from shared.stores.memory import ManualClock
from shared.stores.memory_documents import MemoryDocumentStore
from shared.stores.memory_passages import MemoryPassageIndex
from shared.stores.memory_vectors import MemoryVectorTables
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.migrate import migrate
from shared.stores.postgres.passages import PostgresPassageIndex
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.vector_tables import PostgresVectorTables
from tests.retrieval_builders import DIMENSIONS, MODEL, chunk, publish, vector

NEW = "new-embedding"
LONGER = b"\0\0\x80\x3f" * (DIMENSIONS + 8)


@dataclass(frozen=True)
class Shelf:
    documents: DocumentStore
    passages: PassageIndex
    tables: VectorTables
    tenant_id: str

    async def add(self, *texts: str, **fields: object) -> str:
        return (await publish(self.documents, texts, tenant_id=self.tenant_id, **fields)).id

    async def states(self) -> dict[str, str]:
        return {table.model: table.status for table in await self.tables.all()}

    async def found(self, model: str, query: bytes) -> list[str]:
        scope = SearchScope(self.tenant_id, "manuals")
        found = await self.passages.search(scope, vector=query, terms={}, model=model, candidates=10)
        return [passage.chunk.text for passage in found.passages]


@pytest.fixture(params=["memory", "postgres"])
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[Shelf]:
    if request.param == "memory":
        store = MemoryDocumentStore(ManualClock())
        yield Shelf(store, MemoryPassageIndex(store), MemoryVectorTables(store), "tenant-a")
        return
    # Tables of vectors belong to nobody in particular: each test gets a database.
    dsn = request.getfixturevalue("empty_postgres_dsn")
    migrate(dsn)
    pool = PostgresPool(dsn, max_size=3)
    yield Shelf(
        PostgresDocumentStore(pool), PostgresPassageIndex(pool), PostgresVectorTables(pool), f"tenant-{uuid4()}"
    )
    await pool.aclose()


async def test_a_second_table_is_built_beside_the_first(shelf: Shelf) -> None:
    await shelf.add("one", "two", service="s1")
    await shelf.add("three", label=SecurityLevel.RESTRICTED)
    await shelf.tables.ensure(NEW, DIMENSIONS + 8)
    await shelf.tables.ensure(NEW, DIMENSIONS + 8)

    assert await shelf.tables.all() == [
        VectorTable(MODEL, DIMENSIONS, "active"),
        VectorTable(NEW, DIMENSIONS + 8, "building"),
    ]
    assert shelf.tenant_id in await shelf.tables.tenants()
    missing = await shelf.tables.missing(shelf.tenant_id, NEW, after=0, limit=10)
    assert [(c.text, c.label, c.service) for c in missing] == [
        ("one", SecurityLevel.INTERNAL, "s1"),
        ("two", SecurityLevel.INTERNAL, "s1"),
        ("three", SecurityLevel.RESTRICTED, "service-a"),
    ]
    rest = await shelf.tables.missing(shelf.tenant_id, NEW, after=missing[0].id, limit=1)
    assert [c.text for c in rest] == ["two"]
    assert not await shelf.tables.missing(shelf.tenant_id, MODEL, after=0, limit=10)
    assert not await shelf.tables.missing("nobody", NEW, after=0, limit=10)

    given = {c.id: LONGER for c in missing[:2]}
    assert await shelf.tables.add(shelf.tenant_id, NEW, given | {10**15: LONGER}) == 2
    assert await shelf.tables.add(shelf.tenant_id, NEW, given) == 0
    assert await shelf.tables.add(f"{shelf.tenant_id}-other", NEW, {missing[2].id: LONGER}) == 0
    assert [c.text for c in await shelf.tables.missing(shelf.tenant_id, NEW, after=0, limit=10)] == ["three"]
    assert sorted(await shelf.found(NEW, LONGER)) == ["one", "two"]
    assert len(await shelf.found(MODEL, vector("one"))) == 3


async def test_the_new_table_is_searched_after_the_switch_and_the_old_one_dropped(shelf: Shelf) -> None:
    document = await shelf.add("one")
    await shelf.tables.ensure(NEW, DIMENSIONS)
    (missing,) = await shelf.tables.missing(shelf.tenant_id, NEW, after=0, limit=10)
    await shelf.tables.add(shelf.tenant_id, NEW, {missing.id: vector("one")})
    with pytest.raises(Conflict):
        await shelf.tables.drop(MODEL)

    await shelf.tables.activate(NEW)
    await shelf.tables.activate(NEW)

    assert await shelf.passages.active_model() == NEW
    assert await shelf.states() == {MODEL: "retired", NEW: "active"}
    await shelf.tables.drop(MODEL)
    assert await shelf.states() == {NEW: "active"}
    assert await shelf.found(NEW, vector("one")) == ["one"]
    assert await shelf.found(MODEL, vector("one")) == []
    assert await shelf.documents.known_vectors(shelf.tenant_id, MODEL, [chunk(0, "one").sha]) == {}
    await shelf.documents.delete(shelf.tenant_id, document)
    assert await shelf.found(NEW, vector("one")) == []


async def test_what_does_not_fit_is_refused(shelf: Shelf) -> None:
    await shelf.add("one")
    await shelf.tables.ensure(NEW, DIMENSIONS + 8)
    (missing,) = await shelf.tables.missing(shelf.tenant_id, NEW, after=0, limit=10)
    for wrong in (vector("one"), bytes(4 * (DIMENSIONS + 8)), b""):
        with pytest.raises(InvalidRequest):
            await shelf.tables.add(shelf.tenant_id, NEW, {missing.id: wrong})
    with pytest.raises(InvalidRequest):
        await shelf.tables.ensure(NEW, DIMENSIONS)
    for call in (
        shelf.tables.missing(shelf.tenant_id, "none", after=0, limit=1),
        shelf.tables.add(shelf.tenant_id, "none", {missing.id: LONGER}),
        shelf.tables.activate("none"),
        shelf.tables.drop("none"),
    ):
        with pytest.raises(NotFound):
            await call
    assert await shelf.states() == {MODEL: "active", NEW: "building"}
