"""No chunk crosses a tenant, an access list, a clearance or a filter, whatever is asked: on PostgreSQL and on the twin."""

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.documents import Document, Passage, SearchScope
from shared.domain.security import SecurityLevel
from shared.ports import DocumentStore, PassageIndex
from shared.rag.terms import query_terms, text_terms
from shared.stores.memory import ManualClock
from shared.stores.memory_documents import MemoryDocumentStore
from shared.stores.memory_passages import MemoryPassageIndex
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.passages import PostgresPassageIndex, SearchLimits
from shared.stores.postgres.pool import PostgresPool
from tests.retrieval_builders import MODEL, publish, vector

TENANTS = tuple(f"tenant-{uuid4()}" for _ in range(3))
COLLECTIONS = ("manuals", "letters")
GROUPS = ("sales", "board", "eu")
TEAMS = ("a", "b", "")
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
LEVELS = tuple(SecurityLevel)


@dataclass(frozen=True)
class Known:
    """A chunk with all that says who may see it."""

    document: Document
    text: str
    label: SecurityLevel


class Shelves:
    """The same documents everywhere, with what the test itself knows of them. No dataclass: it would be shown whole."""

    def __init__(self, known: Sequence[Known], indexes: dict[str, PassageIndex], twin: PassageIndex) -> None:
        self.known, self.indexes, self.twin = known, indexes, twin


async def _filled(stores: Sequence[DocumentStore]) -> list[Known]:
    rng = random.Random(11)
    known = []
    for _ in range(60):
        level = rng.choice(LEVELS)
        texts = [" ".join(rng.choices(WORDS, k=5)) for _ in range(rng.randint(1, 4))]
        labels = [rng.choice([each for each in LEVELS if each >= level]) for _ in texts]
        team = rng.choice(TEAMS)
        fields = {
            "tenant_id": rng.choice(TENANTS),
            "collection": rng.choice(COLLECTIONS),
            "source": f"s{rng.getrandbits(64)}",
            "acl": frozenset(rng.sample(GROUPS, rng.choice([0, 0, 1, 2]))),
            "metadata": {"team": team} if team else {},
            "label": level,
        }
        documents = [await publish(store, texts, labels=labels, **fields) for store in stores]
        known += [Known(documents[0], text, label) for text, label in zip(texts, labels, strict=True)]
        # The ids differ from store to store; what is filtered by is the source's.
        assert len({document.source for document in documents}) == 1
    return known


@pytest.fixture(scope="module")
async def shelves(postgres_dsn: str) -> AsyncIterator[Shelves]:
    pool = PostgresPool(postgres_dsn, max_size=4)
    twin = MemoryDocumentStore(ManualClock())
    known = await _filled([PostgresDocumentStore(pool), twin])
    indexes: dict[str, PassageIndex] = {
        name: PostgresPassageIndex(pool, limits=limits)
        for name, limits in {
            "usual": SearchLimits(),
            "by graph": SearchLimits(small_chunks=0, ef_search=100),
            "by a graph that gives up": SearchLimits(small_chunks=0, ef_search=1, max_scan_tuples=1),
            "by few words": SearchLimits(small_chunks=20, postings=5, found_by_rare=3),
        }.items()
    }
    yield Shelves(known, indexes, MemoryPassageIndex(twin))
    await pool.aclose()


scopes = st.builds(
    SearchScope,
    st.sampled_from((*TENANTS, "nobody")),
    st.sampled_from((*COLLECTIONS, "none")),
    st.frozensets(st.sampled_from((*GROUPS, ""))),
    st.sampled_from(LEVELS),
    metadata=st.sampled_from(({}, {"team": "a"}, {"team": "b"}, {"team": "a", "more": "x"})),
)
questions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True).map(" ".join)


def is_visible(known: Known, scope: SearchScope) -> bool:
    """What may be seen, said once more and in other words than the stores'."""
    document = known.document
    return (
        document.tenant_id == scope.tenant_id
        and document.collection == scope.collection
        and (not document.acl or not document.acl.isdisjoint(scope.groups - {""}))
        and max(known.label, document.label) <= scope.max_level
        and (not scope.documents or document.id in scope.documents)
        and scope.metadata.items() <= document.metadata.items()
    )


def seen(passages: Sequence[Passage]) -> set[tuple[str, str, int]]:
    return {(passage.source, passage.chunk.text, passage.chunk.ordinal) for passage in passages}


@given(scopes, questions, st.integers(1, 60), st.just(frozenset()) | st.frozensets(st.integers(0, 99), max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_exactly_what_may_be_seen_is_found(
    shelves: Shelves, scope: SearchScope, question: str, candidates: int, places: frozenset[int]
) -> None:
    chosen = frozenset(known.document.id for place, known in enumerate(shelves.known) if place in places)
    scope = SearchScope(scope.tenant_id, scope.collection, scope.groups, scope.max_level, chosen, scope.metadata)
    visible = [known for known in shelves.known if is_visible(known, scope)]
    with_words = [known for known in visible if set(query_terms(question)) & set(text_terms(known.text))]
    for name, index in shelves.indexes.items():
        found = await index.search(
            scope, vector=vector(question), terms=query_terms(question), model=MODEL, candidates=candidates
        )
        allowed = {(known.document.source, known.text) for known in visible}
        assert {(source, text) for source, text, _ in seen(found.passages)} <= allowed, name
        # And nothing that may be seen is starved by what may not.
        assert sum(p.dense is not None for p in found.passages) == min(candidates, len(visible)), name
        assert sum(p.lexical is not None for p in found.passages) == min(candidates, len(with_words)), name
    if not chosen:
        everything = 1_000
        asked = {"vector": vector(question), "terms": query_terms(question), "model": MODEL, "candidates": everything}
        here, there = await shelves.indexes["usual"].search(scope, **asked), await shelves.twin.search(scope, **asked)
        assert seen(here.passages) == seen(there.passages)
        ours = {(p.source, p.chunk.ordinal): p for p in here.passages}
        for passage in there.passages:
            same = ours[passage.source, passage.chunk.ordinal]
            assert same.dense == pytest.approx(passage.dense, abs=1e-5)
            assert (same.lexical is None) == (passage.lexical is None)
            assert (same.lexical or 0.0) == pytest.approx(passage.lexical or 0.0)
        assert here.most_lexical == pytest.approx(there.most_lexical)
