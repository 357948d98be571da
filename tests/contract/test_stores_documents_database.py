"""What can happen to documents only in a database: rivals, tenants in one table, statistics that must stay right."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from infra.local.services import Postgres
from shared.domain.documents import Document, SearchScope
from shared.domain.errors import DependencyUnavailable
from shared.rag.terms import length, query_terms, text_terms
from shared.stores.postgres.document_rows import lexeme
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.passages import PostgresPassageIndex, SearchLimits
from shared.stores.postgres.pool import Connection, PostgresPool
from tests.retrieval_builders import MODEL, chunk, publish, source, vector

TABLES = ("collections", "documents", "chunks", "postings", "lexemes", "vectors_1", "vectors_1_0")
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")


@pytest.fixture(scope="module")
async def pool(postgres_dsn: str) -> AsyncIterator[PostgresPool]:
    pool = PostgresPool(postgres_dsn, max_size=8)
    yield pool
    await pool.aclose()


@pytest.fixture
def store(pool: PostgresPool) -> PostgresDocumentStore:
    return PostgresDocumentStore(pool)


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid4()}"


async def rows(connection: Connection, tenant: str, statement: str) -> list[TupleRow]:
    """What the tenant sees."""
    async with connection.transaction():
        await connection.execute(
            "SELECT set_config('router.retrieval_tenant', number::text, true) FROM retrieval_tenants WHERE tenant_id = %s",
            (tenant,),
        )
        return await (await connection.execute(statement.encode())).fetchall()


async def assert_statistics_hold(pool: PostgresPool, tenant: str) -> None:
    """Everything that is counted is what counting again from the texts would give."""
    async with pool.connection(timeout_s=10) as connection:
        chunks = await rows(connection, tenant, "SELECT id, collection, text, prefix FROM chunks")
        collections = await rows(connection, tenant, "SELECT number, chunks, lengths FROM collections")
        lexemes = await rows(connection, tenant, "SELECT collection, lexeme, chunks FROM lexemes")
        postings = await rows(connection, tenant, "SELECT collection, lexeme, chunk, count, length FROM postings")
        vectors = await rows(connection, tenant, "SELECT chunk FROM vectors_1")
        live = await rows(connection, tenant, "SELECT coalesce(sum(chunks), 0) FROM documents")
    words = {id_: (collection, text_terms(text, prefix)) for id_, collection, text, prefix in chunks}
    frequencies = Counter((collection, lexeme(t)) for collection, terms in words.values() for t in terms)
    for number, count, total in collections:
        mine = [terms for collection, terms in words.values() if collection == number]
        assert (count, total) == (len(mine), sum(map(length, mine)))
    assert {(c, w): n for c, w, n in lexemes} == frequencies
    assert sorted(postings) == sorted(
        (collection, lexeme(term), id_, count, length(terms))
        for id_, (collection, terms) in words.items()
        for term, count in terms.items()
    )
    assert {id_ for (id_,) in vectors} == set(words)
    assert live == [(len(words),)]


async def test_nothing_is_seen_without_saying_whose(
    pool: PostgresPool, store: PostgresDocumentStore, tenant: str
) -> None:
    document = await publish(store, ["mine"], tenant_id=tenant)
    await publish(store, ["theirs"], tenant_id=f"{tenant}-other")

    async with pool.connection(timeout_s=10) as connection:
        for table in TABLES:
            counted = await connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
            assert await counted.fetchone() == (0,), table
        assert await rows(connection, tenant, "SELECT id::text FROM documents") == [(document.id,)]
        assert await rows(connection, tenant, "SELECT text FROM chunks") == [("mine",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await rows(connection, tenant, "INSERT INTO lexemes VALUES (1, 1, 0, 1)")
    assert await store.get(f"{tenant}-other", document.id) is None


async def test_statistics_hold_through_a_life(pool: PostgresPool, store: PostgresDocumentStore, tenant: str) -> None:
    await publish(store, ["alpha beta", "beta gamma gamma"], tenant_id=tenant, source="a")
    await publish(store, ["beta"], tenant_id=tenant, source="b", collection="other")
    await assert_statistics_hold(pool, tenant)
    again = await publish(store, ["delta beta"], tenant_id=tenant, source="a")
    await assert_statistics_hold(pool, tenant)
    await publish(store, [f"{word} {n}" for n in range(450) for word in ("many",)], tenant_id=tenant, source="c")
    await assert_statistics_hold(pool, tenant)
    await store.delete(tenant, again.id)
    await assert_statistics_hold(pool, tenant)
    async with pool.connection(timeout_s=10) as connection:
        # A row that is taken away by hand takes everything with it.
        await rows(connection, tenant, "DELETE FROM documents WHERE source = 'c' RETURNING 1")
    await assert_statistics_hold(pool, tenant)
    await store.erase(tenant)
    async with pool.connection(timeout_s=10) as connection:
        for table in TABLES:
            assert await rows(connection, tenant, f"TABLE {table}") == [], table


async def test_rivals_keep_the_invariants(pool: PostgresPool, store: PostgresDocumentStore, tenant: str) -> None:
    rng = random.Random(7)

    async def ingest(name: str, worker: str, texts: list[str]) -> None:
        registered, _ = await store.register(source(tenant_id=tenant, source=name), document_id=str(uuid4()))
        claimed = await store.claim(tenant, registered.id, registered.version, worker=worker, lease_s=60)
        if claimed is not None:
            chunks = [chunk(n, text) for n, text in enumerate(texts)]
            await store.publish(claimed, chunks, [vector(t) for t in texts], model=MODEL, worker=worker)

    async def remove(name: str) -> None:
        for document in (await store.list(tenant, limit=100)).documents:
            if document.source == name:
                await store.delete(tenant, document.id)

    async def search() -> None:
        index = PostgresPassageIndex(pool)
        scope = SearchScope(tenant, "manuals")
        found = await index.search(scope, vector=vector("beta"), terms={"beta": 1}, model=MODEL, candidates=50)
        # Every document is seen in one version, whole: its chunks name the worker that published them.
        by_document: dict[str, set[str]] = {}
        for passage in found.passages:
            by_document.setdefault(passage.document_id, set()).add(passage.chunk.text.split()[0])
        assert all(len(workers) == 1 for workers in by_document.values())

    for round_ in range(6):
        work = []
        for n in range(8):
            name, worker = rng.choice(["one", "two"]), f"worker{round_}x{n}"
            texts = [f"{worker} beta {rng.choice(WORDS)} {rng.choice(WORDS)}" for _ in range(rng.randint(1, 6))]
            work.append(ingest(name, worker, texts))
        work += [remove("one"), search(), search(), store.erase(tenant, service="nobody")]
        rng.shuffle(work)
        await asyncio.gather(*work)
        await assert_statistics_hold(pool, tenant)
        documents: list[Document] = list((await store.list(tenant, limit=100)).documents)
        assert sorted(d.source for d in documents) == sorted({d.source for d in documents})


async def test_the_shorter_ways_through_a_collection_find_the_same(
    pool: PostgresPool, store: PostgresDocumentStore, tenant: str
) -> None:
    rng = random.Random(3)
    for n in range(30):
        texts = [" ".join(rng.choices(WORDS, k=8)) for _ in range(10)]
        await publish(
            store, texts, tenant_id=tenant, acl=frozenset({"many"} if n % 3 else {"few"}), metadata={"n": str(n % 5)}
        )
    exact = PostgresPassageIndex(pool)
    by_graph = PostgresPassageIndex(pool, limits=SearchLimits(small_chunks=0, ef_search=200))
    narrow = PostgresPassageIndex(pool, limits=SearchLimits(small_chunks=0, ef_search=1, max_scan_tuples=1))
    fields: list[dict[str, Any]] = [
        {"groups": frozenset({"many", "few"})},
        {"groups": frozenset({"few"})},
        {"groups": frozenset({"few"}), "metadata": {"n": "3"}},
    ]
    for changes in fields:
        scope = SearchScope(tenant, "manuals", **changes)
        query = "alpha beta kappa"
        asked = {"vector": vector(query), "terms": query_terms(query), "model": MODEL, "candidates": 15}
        expected = (await exact.search(scope, **asked)).passages
        expected_dense = [p.dense for p in expected if p.dense is not None]
        expected_words = sorted((p.lexical for p in expected if p.lexical is not None), reverse=True)
        for index in (by_graph, narrow):
            found = (await index.search(scope, **asked)).passages
            dense = [p.dense for p in found if p.dense is not None]
            assert len(dense) == 15
            assert sum(dense) == pytest.approx(sum(expected_dense), rel=0.02)
            words = sorted((p.lexical for p in found if p.lexical is not None), reverse=True)
            assert words == pytest.approx(expected_words)


async def test_common_words_only_count_for_what_rare_words_found(
    pool: PostgresPool, store: PostgresDocumentStore, tenant: str
) -> None:
    texts = [f"common filler{n}" + (" rare" if n % 20 == 0 else "") for n in range(100)]
    await publish(store, texts, tenant_id=tenant)
    terms = {"common": 1.0, "rare": 1.0}
    exact = PostgresPassageIndex(pool)
    frugal = PostgresPassageIndex(pool, limits=SearchLimits(postings=50))
    scope = SearchScope(tenant, "manuals")

    best = await exact.search(scope, vector=None, terms=terms, model=MODEL, candidates=5)
    same = await frugal.search(scope, vector=None, terms=terms, model=MODEL, candidates=5)
    more = await frugal.search(scope, vector=None, terms=terms, model=MODEL, candidates=30)

    assert [p.lexical for p in same.passages] == pytest.approx([p.lexical for p in best.passages])
    assert len(more.passages) == 30


async def test_a_database_that_is_away_is_said_so(postgres_server: Postgres, pool: PostgresPool, tenant: str) -> None:
    store = PostgresDocumentStore(pool, deadline_s=2.0)
    document = await publish(store, ["still here"], tenant_id=tenant)
    postgres_server.stop()
    with pytest.raises(DependencyUnavailable):
        await store.get(tenant, document.id)
    with pytest.raises(DependencyUnavailable):
        await PostgresPassageIndex(pool, deadline_s=2.0).search(
            SearchScope(tenant, "manuals"), vector=None, terms={"here": 1}, model=MODEL, candidates=1
        )
    postgres_server.start()
    assert await store.get(tenant, document.id) == document
