"""A person's documents on the real stores: exported whole, erased whole, and no kill changes what comes out."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from shared.domain.documents import DocumentStatus, SearchScope
from shared.domain.errors import DependencyUnavailable, InvalidRequest, NotFound
from shared.domain.privacy import DataSubject, SubjectKind
from shared.stores.memory_ingestion import MemoryBlobStore
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.passages import PostgresPassageIndex
from shared.stores.postgres.personal_documents import _STEP, PostgresDocumentsOfPersons
from shared.stores.postgres.pool import PostgresPool
from shared.stores.system import SystemClock
from tests.retrieval_builders import MODEL, chunk, publish, source, vector
from tests.security_builders import erasure_of

CLOCK = SystemClock()
WHO, OTHER = "person-4711", "p-2"
SECRET = "Alice likes marzipan"
KINDS = {
    SubjectKind.PRINCIPAL: ((WHO, ""), {"principal": WHO}, {"principal": OTHER}),
    SubjectKind.SERVICE: (("shop-of-alice", ""), {"service": "shop-of-alice"}, {"service": "other"}),
    SubjectKind.TAG: (("alice", "user"), {"metadata": {"user": "alice"}}, {"metadata": {"user": "bob"}}),
}


class World:
    """Documents of a tenant that nobody else uses."""

    def __init__(self, pool):
        self.pool, self.blobs, self.tenant = pool, MemoryBlobStore(), f"t-{uuid4().hex}"
        self.documents, self.index = PostgresDocumentStore(pool), PostgresPassageIndex(pool)
        self.persons = PostgresDocumentsOfPersons(pool, self.blobs)

    def subject(self, kind=SubjectKind.PRINCIPAL):
        (value, tag), _, _ = KINDS[kind]
        return DataSubject(self.tenant, kind, value, tag)

    def order(self, kind=SubjectKind.PRINCIPAL, *, later_s=60):
        at = CLOCK.now() + timedelta(seconds=later_s)
        return replace(erasure_of(self.subject(kind)), requested_at=at)

    async def add(self, *texts, **fields):
        return await publish(self.documents, texts or (SECRET,), **{"tenant_id": self.tenant} | fields)

    async def waiting(self, **fields):
        """A document whose bytes wait."""
        blob = f"{self.tenant}/{uuid4()}"
        await self.blobs.put(blob, SECRET.encode())
        given = source(**{"tenant_id": self.tenant, "blob": blob} | fields)
        document, _ = await self.documents.register(given, document_id=str(uuid4()))
        return document

    async def exported(self, kind=SubjectKind.PRINCIPAL, limit=100):
        rows, cursor = [], ""
        while cursor is not None:
            page = await self.persons.export(self.subject(kind), cursor, limit)
            assert len(page.rows) <= limit
            rows += page.rows
            cursor = page.cursor
        return rows

    async def erased(self, order, kind=SubjectKind.PRINCIPAL):
        count, cursor = 0, ""
        while cursor is not None:
            step = await self.persons.erase(order, self.subject(kind), cursor)
            assert await self.persons.erase(order, self.subject(kind), cursor) == step
            count += step.counts.get("documents", 0)
            cursor = step.cursor
        return count

    async def found(self, text=SECRET):
        scope = SearchScope(self.tenant, "manuals", frozenset({"board"}))
        candidates = await self.index.search(scope, vector=vector(text), terms={}, model=MODEL, candidates=50)
        return sorted(passage.chunk.text for passage in candidates.passages)

    async def everything(self):
        """All rows of the tenant's documents, as one text."""
        texts = []
        async with self.documents._transactions.reading(self.tenant, timeout_s=10) as connection:
            for table in ("documents", "chunks", "embedded_chunks"):
                cursor = await connection.sql.execute(f"SELECT to_jsonb(t)::text FROM {table} AS t".encode())  # noqa: S608 - named here
                texts += [text for (text,) in await cursor.fetchall()]
        return "\n".join(texts)


@pytest.fixture
async def world(postgres_dsn):
    pool = PostgresPool(postgres_dsn)
    yield World(pool)
    await pool.aclose()


@pytest.mark.parametrize("kind", list(SubjectKind))
async def test_theirs_are_exported_and_erased_and_nobody_elses(world, kind):
    _, theirs, others = KINDS[kind]
    first = await world.add(SECRET, "It snows", source="alice-diary.txt", **theirs)
    second = await world.waiting(source="alice-cv.pdf", **theirs)
    kept = await world.add("Shipping costs twelve euros", **others)

    rows = await world.exported(kind)
    assert [row["document"]["id"] for row in rows if "document" in row] == [first.id, second.id]
    chunks = [row["chunk"]["text"] for row in rows if "chunk" in row]
    assert chunks == [SECRET, "It snows"]
    assert [row["document"]["bytes"] for row in rows if "document" in row] == [None, second.blob]

    assert await world.erased(world.order(kind), kind) == 2
    left = await world.everything()
    for word in ("alice", "marzipan", "snows", first.sha, *(value for value in theirs.values() if kind != "tag")):
        assert word not in left
    assert await world.found() == ["Shipping costs twelve euros"]
    assert (await world.documents.get(world.tenant, kept.id)).status is DocumentStatus.READY
    assert (await world.documents.get(world.tenant, first.id)).status is DocumentStatus.DELETED
    with pytest.raises(NotFound):
        await world.blobs.get(second.blob, max_bytes=100)
    assert await world.exported(kind) == []
    facts = await world.documents.collections(world.tenant)
    assert [(fact.documents, fact.chunks) for fact in facts] == [(1, 1)]


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_pages_of_any_size_give_everything_once(world, limit):
    for number in (1, 2):
        await world.add(*(f"text {number}-{place}" for place in range(number * 2)), principal=WHO)
    await world.waiting(principal=WHO)
    rows = await world.exported(limit=limit)
    assert [row["chunk"]["text"] for row in rows if "chunk" in row] == [
        "text 1-0", "text 1-1", "text 2-0", "text 2-1", "text 2-2", "text 2-3",
    ]  # fmt: skip
    assert len([row for row in rows if "document" in row]) == 3


async def test_a_cursor_of_somewhere_else_is_refused(world):
    await world.add(principal=WHO)
    for cursor in ("x", "1", "1 -3", "1 2 3", "-1 0"):
        with pytest.raises(InvalidRequest):
            await world.persons.export(world.subject(), cursor, 10)


async def test_more_documents_than_a_step_takes_and_vectors_that_were_kept(world, monkeypatch):
    monkeypatch.setattr("shared.stores.postgres.personal_documents._STEP", _STEP.replace(b"LIMIT 200", b"LIMIT 20"))
    monkeypatch.setattr("shared.stores.postgres.personal_documents._AT_ONCE", 20)
    for number in range(45):
        await world.add(f"{SECRET} {number}", principal=WHO)
    document = await world.waiting(principal=WHO)
    claimed = await world.documents.claim(world.tenant, document.id, 1, worker="w", lease_s=60)
    one = chunk(0, SECRET)
    assert await world.documents.keep_vectors(claimed, {one.sha: vector(SECRET)}, model=MODEL, worker="w")
    assert await world.erased(world.order()) == 46
    assert await world.found() == []
    assert await world.documents.known_vectors(world.tenant, MODEL, [one.sha]) == {}
    assert not await world.documents.publish(claimed, [one], [vector(SECRET)], model=MODEL, worker="w")


async def test_what_they_send_after_the_order_is_another_matter(world):
    await world.add(source="diary.txt", principal=WHO)
    order = replace(world.order(later_s=0), requested_at=CLOCK.now())
    later = await world.add("Something new", principal=WHO)
    renewed = await world.waiting(source="diary.txt", principal=WHO)
    assert await world.erased(order) == 1
    assert await world.found() == ["Something new"]
    assert (await world.documents.get(world.tenant, later.id)).status is DocumentStatus.READY
    queued = await world.documents.get(world.tenant, renewed.id)
    assert (queued.status, queued.live_version, queued.chunks) == (DocumentStatus.QUEUED, None, 0)


async def test_of_a_document_that_somebody_else_renewed_the_old_version_goes(world):
    old = await world.add(source="shared.txt", principal=WHO)
    renewed = await world.waiting(source="shared.txt", principal=OTHER)
    assert renewed.id == old.id
    (told,) = [row["document"] for row in await world.exported() if "document" in row]
    assert told["id"] == old.id
    assert await world.erased(world.order()) == 1
    assert await world.found() == []
    claimed = await world.documents.claim(world.tenant, old.id, 2, worker="w", lease_s=60)
    assert await world.documents.publish(claimed, [chunk(0, "theirs")], [vector("theirs")], model=MODEL, worker="w")
    assert await world.found("theirs") == ["theirs"]
    assert await world.erased(world.order()) == 0
    assert await world.found("theirs") == ["theirs"]


async def test_a_kill_after_any_statement_ends_in_the_same(world):
    await world.add(SECRET, "It snows", principal=WHO, acl=frozenset({"board"}))
    await world.waiting(principal=WHO)
    order, kills = world.order(), 0
    usual = world.persons._transactions.writing
    while True:
        left = kills

        @asynccontextmanager
        async def dying(tenant_id, *, timeout_s):
            nonlocal left
            if left == 0:
                raise DependencyUnavailable("killed")
            left -= 1
            async with usual(tenant_id, timeout_s=timeout_s) as connection:
                yield connection

        world.persons._transactions.writing = dying
        try:
            step = await world.persons.erase(order, world.subject(), "")
        except DependencyUnavailable:
            kills += 1
            assert kills < 20
            continue
        break
    world.persons._transactions.writing = usual
    assert kills > 2
    assert step == await world.persons.erase(order, world.subject(), "")
    assert step.counts == {"documents": 2}
    assert await world.found() == []


async def test_while_its_chunks_go_nobody_finds_the_rest(world, monkeypatch):
    monkeypatch.setattr("shared.stores.postgres.personal_documents._CHUNKS_AT_ONCE", 1)
    await world.add(*(f"{SECRET} {number}" for number in range(5)), principal=WHO)
    seen = []
    usual = world.persons._transactions.writing

    @asynccontextmanager
    async def watched(tenant_id, *, timeout_s):
        async with usual(tenant_id, timeout_s=timeout_s) as connection:
            yield connection
        seen.append(await world.found())

    world.persons._transactions.writing = watched
    await world.persons.erase(world.order(), world.subject(), "")
    assert seen[0] == []
    assert not any(seen)


async def test_a_tenant_without_documents(world):
    assert await world.exported() == []
    assert await world.erased(world.order()) == 0
