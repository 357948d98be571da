"""Documents and search on PostgreSQL and on the twin; then what can happen to them only in a database."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from shared.domain.documents import Calibration, Candidates, Document, DocumentStatus, Passage, SearchScope
from shared.domain.errors import InvalidRequest
from shared.domain.security import SecurityLevel
from shared.ports import DocumentStore, PassageIndex
from shared.rag.terms import query_terms
from shared.stores.memory import ManualClock
from shared.stores.memory_documents import MemoryDocumentStore
from shared.stores.memory_passages import MemoryPassageIndex
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.passages import PostgresPassageIndex, SearchLimits
from shared.stores.postgres.pool import PostgresPool
from tests.retrieval_builders import DIMENSIONS, MODEL, chunk, publish, source, vector


@dataclass(frozen=True)
class Library:
    """A store and its search, for a tenant that no other test has."""

    documents: DocumentStore
    passages: PassageIndex
    tenant_id: str

    def scope(self, **fields: Any) -> SearchScope:
        return SearchScope(**{"tenant_id": self.tenant_id, "collection": "manuals"} | fields)

    async def add(self, *texts: str, **fields: Any) -> Document:
        return await publish(self.documents, texts, **{"tenant_id": self.tenant_id} | fields)

    async def find(self, query: str, candidates: int = 10, **fields: Any) -> list[Passage]:
        scope, terms = self.scope(**fields), query_terms(query)
        found = await self.passages.search(scope, vector=vector(query), terms=terms, model=MODEL, candidates=candidates)
        return list(found.passages)

    async def texts(self, query: str, **fields: Any) -> set[str]:
        return {passage.chunk.text for passage in await self.find(query, **fields)}


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=6)
    yield pool
    await pool.aclose()


def in_postgres(pool: PostgresPool, **limits: int) -> Library:
    return Library(
        PostgresDocumentStore(pool), PostgresPassageIndex(pool, limits=SearchLimits(**limits)), f"tenant-{uuid4()}"
    )


def in_memory() -> Library:
    store = MemoryDocumentStore(ManualClock())
    return Library(store, MemoryPassageIndex(store), "tenant-a")


@pytest.fixture(params=["memory", "postgres", "postgres by graph"])
def library(request: pytest.FixtureRequest) -> Library:
    if request.param == "memory":
        return in_memory()
    limits = {"small_chunks": 0, "postings": 1} if "graph" in request.param else {}
    return in_postgres(request.getfixturevalue("pool"), **limits)


@pytest.fixture
def database(pool: PostgresPool) -> Library:
    return in_postgres(pool)


async def queued(library: Library, **fields: Any) -> Document:
    sent = source(**{"tenant_id": library.tenant_id} | fields)
    return (await library.documents.register(sent, document_id=str(uuid4())))[0]


async def test_a_document_goes_its_way(library: Library) -> None:
    sent = source(tenant_id=library.tenant_id, metadata={"team": "sales"}, acl=frozenset({"eu", "us"}))
    store = library.documents
    document, is_new = await store.register(sent, document_id=(key := str(uuid4())))

    assert (is_new, document.id, document.status, document.version) == (True, key, DocumentStatus.QUEUED, 1)
    assert (document.acl, document.metadata) == (sent.acl, sent.metadata)
    assert (document.blob, document.name, document.service) == (sent.blob, sent.name, sent.service)
    claimed = await store.claim(sent.tenant_id, key, 1, worker="one", lease_s=60)
    assert claimed is not None
    assert claimed.attempts == 1
    assert await store.advance(claimed, worker="one", status=DocumentStatus.EMBEDDING, pages=3, warnings=["no table"])
    known = await store.get(sent.tenant_id, key)
    assert known is not None
    assert (known.status, known.pages, known.warnings) == (DocumentStatus.EMBEDDING, 3, ("no table",))
    told = replace(claimed, title="Found title", label=SecurityLevel.CONFIDENTIAL, pages=4)
    assert await store.publish(told, [chunk(0, "a text")], [vector("a text")], model=MODEL, worker="one")
    ready = await store.get(sent.tenant_id, key)
    assert ready is not None
    assert (ready.status, ready.live_version, ready.chunks) == (DocumentStatus.READY, 1, 1)
    assert (ready.title, ready.label, ready.pages) == ("Found title", SecurityLevel.CONFIDENTIAL, 4)


async def test_what_did_not_change_is_left_alone(library: Library) -> None:
    sent = source(tenant_id=library.tenant_id, metadata={"a": "b"}, acl=frozenset({"x"}))
    first, _ = await library.documents.register(sent, document_id=str(uuid4()))

    again, is_work = await library.documents.register(replace(sent, blob="other"), document_id=str(uuid4()))

    assert (again.id, again.version, again.blob, is_work) == (first.id, 1, sent.blob, False)
    for change in (
        {"sha": "f" * 64},
        {"title": "Other"},
        {"label": SecurityLevel.RESTRICTED},
        {"acl": frozenset({"y"})},
        {"metadata": {"a": "c"}},
    ):
        known = await library.documents.get(first.tenant_id, first.id)
        changed, is_work = await library.documents.register(replace(sent, **change), document_id=str(uuid4()))
        assert known is not None
        assert is_work, change
        assert (changed.id, changed.version) == (first.id, known.version + 1)
        sent = replace(sent, **change)


async def test_one_worker_at_a_time_holds_a_version(library: Library) -> None:
    document, store = await queued(library), library.documents
    here = (document.tenant_id, document.id)

    assert await store.claim(*here, 1, worker="one", lease_s=60)
    assert await store.claim(*here, 1, worker="two", lease_s=60) is None
    assert await store.claim(*here, 1, worker="one", lease_s=0)
    taken = await store.claim(*here, 1, worker="two", lease_s=60)
    assert taken is not None
    assert taken.attempts == 3
    assert not await store.advance(document, worker="one", status=DocumentStatus.PARSING)
    assert not await store.publish(taken, [], [], model=MODEL, worker="one")
    assert await store.claim(*here, 2, worker="two", lease_s=60) is None
    assert await store.claim(here[0], str(uuid4()), 1, worker="two", lease_s=60) is None
    assert await store.claim(here[0], "no id", 1, worker="two", lease_s=60) is None
    assert await store.claim("nobody", here[1], 1, worker="two", lease_s=60) is None


async def test_a_version_that_failed_is_queued_again_when_asked(library: Library) -> None:
    document, store = await queued(library), library.documents
    here = (document.tenant_id, document.id)
    await store.claim(*here, 1, worker="one", lease_s=60)
    assert await store.requeue(*here) is None
    assert await store.advance(document, worker="one", status=DocumentStatus.FAILED, reason="It is encrypted.")
    failed = await store.get(*here)
    assert failed is not None
    assert (failed.status, failed.reason) == (DocumentStatus.FAILED, "It is encrypted.")
    assert await store.claim(*here, 1, worker="one", lease_s=60) is None

    again = await store.requeue(*here)

    assert again is not None
    assert (again.status, again.reason, again.attempts) == (DocumentStatus.QUEUED, "", 0)
    assert await store.claim(*here, 1, worker="two", lease_s=60)


async def test_a_new_version_takes_the_old_ones_place_when_it_is_ready(library: Library) -> None:
    old = await library.add("the old wording", "a second part", source="s")
    assert await library.texts("wording") == {"the old wording", "a second part"}

    await queued(library, source="s")
    assert await library.texts("wording") == {"the old wording", "a second part"}

    new = await library.add("the new wording", source="s")
    assert (new.id, new.version, new.live_version, new.chunks) == (old.id, 3, 3, 1)
    assert await library.texts("wording") == {"the new wording"}


async def test_a_worker_of_an_older_version_publishes_nothing(library: Library) -> None:
    first = await queued(library, source="s")
    claimed = await library.documents.claim(first.tenant_id, first.id, 1, worker="one", lease_s=60)
    assert claimed is not None
    await queued(library, source="s")

    assert not await library.documents.publish(claimed, [chunk(0, "late")], [vector("late")], model=MODEL, worker="one")
    assert await library.texts("late") == set()


async def test_what_restricts_binds_before_the_new_version_is_ready(library: Library) -> None:
    await library.add("for all", source="a")
    await queued(library, source="a", acl=frozenset({"board"}))
    assert await library.texts("all") == set()
    assert await library.texts("all", groups=frozenset({"board"})) == {"for all"}

    await library.add("for one", source="b", acl=frozenset({"one", "both"}))
    await queued(library, source="b", acl=frozenset({"two", "both"}))
    assert await library.texts("one", groups=frozenset({"one", "two"})) == set()
    assert await library.texts("one", groups=frozenset({"both"})) == {"for one"}
    await queued(library, source="b", acl=frozenset({"three"}))
    assert await library.texts("one", groups=frozenset({"one", "two", "three", "both", ""})) == set()

    await library.add("for some", source="c", label=SecurityLevel.INTERNAL)
    await queued(library, source="c", label=SecurityLevel.RESTRICTED)
    assert await library.texts("some", max_level=SecurityLevel.CONFIDENTIAL) == set()


async def test_vectors_of_known_chunks_are_found(library: Library) -> None:
    await library.add("one text", "another text")
    known, unknown = chunk(0, "one text").sha, chunk(0, "not there").sha
    find = library.documents.known_vectors

    found = await find(library.tenant_id, MODEL, [known, unknown, known])

    assert list(found) == [known]
    assert pytest.approx(memoryview(found[known]).cast("f"), abs=1e-3) == memoryview(vector("one text")).cast("f")
    assert await find(library.tenant_id, "other model", [known]) == {}
    assert await find("nobody", MODEL, [known]) == {}
    assert await find(library.tenant_id, MODEL, []) == {}


async def test_vectors_of_a_version_that_is_worked_on_are_kept_until_it_is_published(library: Library) -> None:
    documents, one, two = library.documents, chunk(0, "one text"), chunk(1, "two texts")
    waiting = await queued(library)
    claimed = await documents.claim(library.tenant_id, waiting.id, 1, worker="w", lease_s=60)
    assert claimed is not None
    made = {one.sha: vector(one.text)}

    assert await documents.keep_vectors(claimed, made, model=MODEL, worker="w")
    assert await documents.keep_vectors(claimed, made, model=MODEL, worker="w")
    assert not await documents.keep_vectors(claimed, {two.sha: vector(two.text)}, model=MODEL, worker="another")
    older = replace(claimed, version=0)
    assert not await documents.keep_vectors(older, {two.sha: vector(two.text)}, model=MODEL, worker="w")

    assert await documents.known_vectors(library.tenant_id, MODEL, [one.sha, two.sha]) == made
    assert await documents.known_vectors(library.tenant_id, "other model", [one.sha]) == {}
    assert await documents.known_vectors("nobody", MODEL, [one.sha]) == {}
    assert await library.find("one text") == []
    assert await documents.publish(claimed, [two], [vector(two.text)], model=MODEL, worker="w")
    assert list(await documents.known_vectors(library.tenant_id, MODEL, [one.sha, two.sha])) == [two.sha]


async def test_a_deleted_document_keeps_no_vectors(library: Library) -> None:
    documents, one = library.documents, chunk(0, "one text")
    waiting = await queued(library)
    claimed = await documents.claim(library.tenant_id, waiting.id, 1, worker="w", lease_s=60)
    assert claimed is not None
    assert await documents.keep_vectors(claimed, {one.sha: vector(one.text)}, model=MODEL, worker="w")
    await documents.delete(library.tenant_id, waiting.id)
    assert await documents.known_vectors(library.tenant_id, MODEL, [one.sha]) == {}
    assert not await documents.keep_vectors(claimed, {one.sha: vector(one.text)}, model=MODEL, worker="w")


async def test_deletion_leaves_a_tombstone_and_nothing_else(library: Library) -> None:
    document = await library.add("gone soon", acl=frozenset({"x"}), metadata={"a": "b"})
    here = (document.tenant_id, document.id)

    was = await library.documents.delete(*here)

    assert was == document
    stone = await library.documents.get(*here)
    assert stone is not None
    assert (stone.status, stone.title, stone.chunks, stone.live_version) == (DocumentStatus.DELETED, "", 0, None)
    assert (stone.acl, stone.metadata, stone.blob) == (frozenset(), {}, "")
    assert await library.find("gone", groups=frozenset({"x"})) == []
    assert await library.documents.known_vectors(document.tenant_id, MODEL, [chunk(0, "gone soon").sha]) == {}
    assert await library.documents.delete(*here) is None
    assert await library.documents.delete(here[0], "no id") is None
    assert (await library.documents.list(here[0])).documents == []
    again = await queued(library, source=document.source)
    assert (again.id, again.version, again.status) == (document.id, 2, DocumentStatus.QUEUED)


async def test_erasure_takes_whole_collections_and_callers(library: Library) -> None:
    for number in range(3):
        await library.add(f"text {number}", collection="one", blob=f"b{number}", service="s")
    await library.add("kept", collection="two", service="t")
    deleted = await library.add("tombstone", collection="two", service="u")
    await library.documents.delete(library.tenant_id, deleted.id)

    assert sorted(await library.documents.erase(library.tenant_id, collection="one")) == ["b0", "b1", "b2"]
    assert [facts.name for facts in await library.documents.collections(library.tenant_id)] == ["two"]
    assert await library.documents.erase(library.tenant_id, service="u") == []
    assert await library.documents.get(library.tenant_id, deleted.id) is None
    assert await library.texts("kept", collection="two") == {"kept"}
    await library.documents.erase(library.tenant_id)
    assert await library.documents.collections(library.tenant_id) == ()


async def test_lists_have_pages_and_filters(library: Library) -> None:
    added = [await library.add("x", collection="one" if n % 2 else "two") for n in range(5)]
    failing = await queued(library, collection="one")
    listed, store = [], library.documents
    cursor = None
    while True:
        page = await store.list(library.tenant_id, limit=2, cursor=cursor)
        listed += [document.id for document in page.documents]
        if (cursor := page.cursor) is None:
            break

    assert listed == [failing.id, *(document.id for document in reversed(added))]
    assert len((await store.list(library.tenant_id, collection="one")).documents) == 3
    assert [d.id for d in (await store.list(library.tenant_id, status=DocumentStatus.QUEUED)).documents] == [failing.id]
    assert (await store.list("nobody")).documents in ([], ())
    with pytest.raises(InvalidRequest) as refusal:
        await store.list(library.tenant_id, cursor="?")
    assert refusal.value.param == "cursor"


async def test_collections_say_what_they_hold(library: Library) -> None:
    await library.add("one", "two", collection="a", size_bytes=10)
    await queued(library, collection="a", size_bytes=5)
    await library.add(collection="b", size_bytes=1)

    first, second = await library.documents.collections(library.tenant_id)

    assert (first.name, first.documents, first.chunks, first.bytes) == ("a", 2, 2, 15)
    assert first.by_status == {DocumentStatus.READY: 1, DocumentStatus.QUEUED: 1}
    assert (second.name, second.documents, second.chunks) == ("b", 1, 0)


async def test_what_nobody_works_on_is_stuck(library: Library) -> None:
    document = await queued(library)
    held = await queued(library)
    await library.documents.claim(held.tenant_id, held.id, 1, worker="one", lease_s=60)
    await library.add("ready")

    found = await library.documents.stuck(older_than_s=0.0, limit=1000)

    assert [d.id for d in found if d.tenant_id == library.tenant_id] == [document.id]
    assert [d for d in await library.documents.stuck(older_than_s=60) if d.tenant_id == library.tenant_id] == []


async def test_of_those_that_nobody_took_only_the_old_ones_are_stuck(library: Library) -> None:
    await queued(library)
    lost = await queued(library)
    await library.documents.claim(lost.tenant_id, lost.id, 1, worker="one", lease_s=0)

    found = await library.documents.stuck(older_than_s=0.0, waiting_s=60, limit=1000)

    assert [d.id for d in found if d.tenant_id == library.tenant_id] == [lost.id]


async def test_both_legs_find(library: Library) -> None:
    await library.add("the read_timeout_ms of the client", "about cats and dogs", "Zeppelins fly")

    found = {passage.chunk.text: passage for passage in await library.find("what is the timeout of a client?")}

    best = found["the read_timeout_ms of the client"]
    assert best.dense is not None
    assert best.lexical is not None
    assert best.dense > max(p.dense or 0 for p in found.values() if p is not best)
    assert found["about cats and dogs"].lexical is None
    assert best.score == 0
    assert (best.title, best.chunk.ordinal, best.chunk.page) != ("", 1, None)


async def test_one_leg_is_left_out_when_it_has_nothing_to_go_by(library: Library) -> None:
    await library.add("alpha beta", "gamma delta")
    search = library.passages.search
    by_words = await search(library.scope(), vector=None, terms={"alpha": 1.0}, model=MODEL, candidates=5)
    by_vector = await search(library.scope(), vector=vector("gamma"), terms={}, model=MODEL, candidates=1)

    assert [(p.chunk.text, p.dense) for p in by_words.passages] == [("alpha beta", None)]
    assert [(p.chunk.text, p.lexical) for p in by_vector.passages] == [("gamma delta", None)]
    assert not (await search(library.scope(), vector=None, terms={}, model=MODEL, candidates=5)).passages


async def test_filters_hold(library: Library) -> None:
    await library.add("common word", metadata={"team": "a", "lang": "de"}, source="a")
    second = await library.add("common word too", metadata={"team": "b"}, source="b")
    await library.add("common word secret", label=SecurityLevel.RESTRICTED, source="c")
    mixed = (SecurityLevel.PUBLIC, SecurityLevel.CONFIDENTIAL)
    await library.add("common word public", "common word confidential", labels=mixed, label=SecurityLevel.PUBLIC)

    assert await library.texts("common", metadata={"team": "a"}) == {"common word"}
    assert await library.texts("common", metadata={"team": "a", "lang": "en"}) == set()
    assert await library.texts("common", documents=frozenset({second.id})) == {"common word too"}
    assert await library.texts("common", documents=frozenset({"no id"})) == set()
    assert await library.texts("common", max_level=SecurityLevel.PUBLIC) == {"common word public"}
    assert len(await library.texts("common", max_level=SecurityLevel.CONFIDENTIAL)) == 4
    assert len(await library.texts("common")) == 5
    assert await library.texts("common", collection="other") == set()


async def test_texts_that_no_database_holds_keep_their_length(library: Library) -> None:
    text = "nul\0 and \ud800 surrogate"
    await library.add(text, title="t\0t", metadata={"k\0": "v\ud800"}, acl=frozenset({"g\0"}))

    (found,) = await library.find("surrogate", groups=frozenset({"g\0"}), metadata={"k\0": "v\ud800"})

    assert len(found.chunk.text) == len(text)


async def test_wrong_vectors_are_refused(library: Library) -> None:
    await library.add("there")
    document = await queued(library)
    claimed = await library.documents.claim(document.tenant_id, document.id, 1, worker="w", lease_s=60)
    assert claimed is not None
    long = bytes(4) + vector("x")
    for vectors in ([], [long], [bytes(4 * DIMENSIONS)], [b"\0\0\xc0\x7f" * DIMENSIONS], [b"\0"]):
        with pytest.raises(InvalidRequest) as refusal:
            await library.documents.publish(claimed, [chunk(0, "x")], vectors, model=MODEL, worker="w")
        assert refusal.value.param == "vectors"
    for wrong in (long, b"", bytes(4 * DIMENSIONS)):
        with pytest.raises(InvalidRequest) as refusal:
            await library.passages.search(library.scope(), vector=wrong, terms={}, model=MODEL, candidates=1)
        assert refusal.value.param == "vector"
    assert await library.documents.publish(claimed, [chunk(0, "x")], [vector("x")], model=MODEL, worker="w")


async def test_vectors_and_the_most_that_words_can_score_come_along(library: Library) -> None:
    await library.add("alpha beta", "gamma delta")
    known = await library.passages.search(
        library.scope(), vector=vector("alpha"), terms={"alpha": 1.0, "unknown": 1.0}, model=MODEL, candidates=5
    )
    other = await library.passages.search(
        library.scope(), vector=vector("alpha"), terms={"alpha": 1.0}, model="other", candidates=5
    )

    assert known.chunks == 2
    for passage, found in zip(known.passages, known.vectors, strict=True):
        assert memoryview(found).cast("f") == pytest.approx(memoryview(vector(passage.chunk.text)).cast("f"), abs=1e-3)
    best = known.passages[0].lexical
    assert best is not None
    assert 0 < best < known.most_lexical / 2
    assert [(p.dense, v) for p, v in zip(other.passages, other.vectors, strict=True)] == [(None, b"")]
    nothing = await library.passages.search(
        library.scope(collection="none"), vector=None, terms={"a": 1.0}, model=MODEL, candidates=5
    )
    assert nothing == Candidates()


async def test_calibrations_are_kept_until_the_collection_is_another(library: Library) -> None:
    await library.add("one", "two")
    index, here = library.passages, (library.tenant_id, "manuals")
    model = await index.active_model()
    assert model == MODEL
    assert here in await index.uncalibrated(MODEL, limit=10_000)
    kept = Calibration(MODEL, 0.25, 2)

    await index.calibrate(*here, kept)

    found = await index.search(library.scope(), vector=None, terms={"one": 1.0}, model=MODEL, candidates=1)
    assert found.calibration == kept
    assert here not in await index.uncalibrated(MODEL, limit=10_000)
    assert here in await index.uncalibrated("other model", limit=10_000)
    await library.add("three", "four", "five")
    assert here in await index.uncalibrated(MODEL, limit=10_000)
    await index.calibrate(library.tenant_id, "no such", kept)
