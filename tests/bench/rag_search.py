"""What a search costs in a large collection: ``python tests/bench/rag_search.py [--chunks 100000]``.

A collection of made-up documents (words by Zipf's law, vectors that lie in clusters as real ones do) in a PostgreSQL of
the benchmark's own; then hybrid searches over all of it, a tenth, a hundredth, by metadata and by access list. Prints
times, and how much of what exact search finds is found.
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from shared.domain.documents import Chunk, DocumentSource, Passage, SearchScope
from shared.domain.security import SecurityLevel
from shared.rag.fusion import fuse
from shared.rag.terms import query_terms
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.passages import PostgresPassageIndex, SearchLimits
from shared.stores.postgres.pool import PostgresPool
from tests.evals.rag_world import database

TENANT, COLLECTION, MODEL = "bench", "large", "bench-embedding"
DIMENSIONS, LATENT, CLUSTERS = 384, 16, 400
"""Vectors of real texts, 18,000 passages by all-MiniLM-L6-v2, have an intrinsic dimension of 11 (two nearest neighbours,
Facco et al. 2017); these have 12."""
VOCABULARY, WORDS_IN_CHUNK, CHUNKS_IN_DOCUMENT = 60_000, 120, 50
EVERYTHING = 10_000_000
SCOPES: dict[str, dict[str, Any]] = {
    "100%": {},
    "10% by metadata": {"metadata": {"tenth": "yes"}},
    "1% by metadata": {"metadata": {"hundredth": "yes"}},
    "50% by access list": {"groups": frozenset({"sales"})},
}


class Library:
    """Makes texts and vectors, the same in every run."""

    def __init__(self, seed: int = 5) -> None:
        self._rng = np.random.default_rng(seed)
        ranks = np.arange(1, VOCABULARY + 1)
        # Zipf-Mandelbrot: the words that say nothing are gone already, so the commonest stand in a third of the chunks.
        weights = 1.0 / (ranks + 30.0)
        self._shares = np.cumsum(weights / weights.sum())
        self._map = self._rng.standard_normal((LATENT, DIMENSIONS))
        self._centres = 1.5 * self._rng.standard_normal((CLUSTERS, LATENT))

    def words(self, count: int) -> list[str]:
        """Words as often as they are in texts."""
        return [f"w{rank}x" for rank in np.searchsorted(self._shares, self._rng.random(count))]

    def vectors(self, count: int) -> NDArray[np.float32]:
        """Unit vectors in clusters."""
        places = self._centres[self._rng.integers(0, CLUSTERS, count)] + self._rng.standard_normal((count, LATENT))
        rows = places @ self._map + 0.3 * self._rng.standard_normal((count, DIMENSIONS))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")

    def query(self) -> tuple[str, bytes]:
        """A question of eight words and its vector."""
        return " ".join(self.words(8)), self.vectors(1)[0].tobytes()


async def fill(dsn: str, library: Library, chunks: int) -> None:
    """Publish documents; the graph is built afterwards, which takes a fraction of the time."""
    pool = PostgresPool(dsn, statement_timeout_s=600)
    store = PostgresDocumentStore(pool, deadline_s=600)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT ensure_embedding_model(%s, %s)", (MODEL, DIMENSIONS))
        connection.execute("DROP INDEX vectors_1_embedding_idx")
        started = time.perf_counter()
        for number in range(chunks // CHUNKS_IN_DOCUMENT):
            await _publish(store, library, number)
        print(f"{chunks} chunks published in {time.perf_counter() - started:.0f} s", flush=True)
        started = time.perf_counter()
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute(
            "CREATE INDEX vectors_1_embedding_idx ON vectors_1 USING hnsw (embedding halfvec_cosine_ops) "
            "WITH (m = 16, ef_construction = 100)"
        )
        connection.execute("VACUUM ANALYZE")
        sizes = connection.execute("SELECT pg_size_pretty(pg_database_size(current_database()))").fetchone()
        print(
            f"graph built in {time.perf_counter() - started:.0f} s; the database has {sizes and sizes[0]}", flush=True
        )
    await pool.aclose()


async def _publish(store: PostgresDocumentStore, library: Library, number: int) -> None:
    flags = {"tenth": "yes"} if number % 10 == 0 else {}
    flags |= {"hundredth": "yes"} if number % 100 == 0 else {}
    acl = frozenset({"sales", "board"}) if number % 2 else frozenset({"board"})
    sent = DocumentSource(
        TENANT, COLLECTION, f"s{number}", "text/plain", f"s{number}", "", f"{number:064d}", 0, metadata=flags, acl=acl
    )
    document, _ = await store.register(sent, document_id=str(uuid4()))
    claimed = await store.claim(TENANT, document.id, 1, worker="bench", lease_s=600)
    assert claimed is not None
    chunks = []
    for ordinal in range(CHUNKS_IN_DOCUMENT):
        text = " ".join(library.words(WORDS_IN_CHUNK))
        digest = hashlib.sha256(text.encode()).hexdigest()
        chunks.append(Chunk(ordinal, text, "", 1, 0, len(text), WORDS_IN_CHUNK, digest, SecurityLevel.INTERNAL))
    vectors = [row.tobytes() for row in library.vectors(len(chunks))]
    assert await store.publish(claimed, chunks, vectors, model=MODEL, worker="bench")


async def measure(dsn: str, library: Library, queries: int) -> None:
    """Print times and shares of each scope."""
    pool = PostgresPool(dsn, statement_timeout_s=600)
    usual = PostgresPassageIndex(pool, deadline_s=600)
    exact = PostgresPassageIndex(
        pool, deadline_s=600, limits=SearchLimits(small_chunks=EVERYTHING, postings=EVERYTHING)
    )
    print(f"{'scope':20} {'p50 ms':>7} {'p99 ms':>7} | of exact: dense@10 words@10 hybrid@10")
    for name, fields in SCOPES.items():
        scope = SearchScope(TENANT, COLLECTION, **{"groups": frozenset({"board"})} | fields)
        times_ms, shares = [], []
        for _ in range(queries):
            text, vector = library.query()
            asked = {"vector": vector, "terms": query_terms(text), "model": MODEL, "candidates": 50}
            started = time.perf_counter()
            found = await usual.search(scope, **asked)
            times_ms.append(1000 * (time.perf_counter() - started))
            if len(shares) < queries // 4:
                shares.append(_shares(found.passages, (await exact.search(scope, **asked)).passages))
        p50, p99 = np.percentile(times_ms[2:], [50, 99])
        dense, words, hybrid = np.mean(shares, axis=0)
        print(f"{name:20} {p50:7.1f} {p99:7.1f} |           {dense:8.3f} {words:8.3f} {hybrid:9.3f}", flush=True)
    await pool.aclose()


def _shares(found: Sequence[Passage], exact: Sequence[Passage]) -> tuple[float, float, float]:
    """What part of the ten best of each leg, and of both, was found."""
    best = []
    for passages in (found, exact):
        dense = sorted((p for p in passages if p.dense is not None), key=lambda p: -(p.dense or 0))[:10]
        words = sorted((p for p in passages if p.lexical is not None), key=lambda p: -(p.lexical or 0))[:10]
        best.append([{(p.document_id, p.chunk.ordinal) for p in leg} for leg in (dense, words, fuse(passages)[:10])])
    return tuple(len(ours & theirs) / max(len(theirs), 1) for ours, theirs in zip(*best, strict=True))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--dsn", help="of a database that was filled before, instead of a new one")
    options = parser.parse_args()
    library = Library()
    if options.dsn:
        asyncio.run(measure(options.dsn, library, options.queries))
        return
    with tempfile.TemporaryDirectory(prefix="rag-search-") as folder, database(Path(folder)) as dsn:
        asyncio.run(fill(dsn, library, options.chunks))
        asyncio.run(measure(dsn, library, options.queries))


if __name__ == "__main__":
    main()
