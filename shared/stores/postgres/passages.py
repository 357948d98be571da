"""Search: the nearest vectors and the rarest words of what a reader may see, as of one instant.

Three round trips: what the collection is like and how much of it the scope holds; both legs; the passages. How a leg is
read follows from the first: a filter must neither let other people's rows use up what is looked at, nor make every
query look at everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from shared.domain.documents import Calibration, Candidates, Chunk, Passage, SearchScope
from shared.domain.errors import InvalidRequest
from shared.domain.security import SecurityLevel
from shared.rag.bm25 import K1, B, rarity
from shared.rag.terms import QUARTERS
from shared.rag.vectors import as_halves
from shared.stores.postgres import passage_statements as statements
from shared.stores.postgres.chunk_rows import singles_of, vector_literals
from shared.stores.postgres.document_rows import MODEL, key_of, lexeme, storable_text, vectors_table
from shared.stores.postgres.pool import Connection, PostgresPool
from shared.stores.postgres.tenancy import TenantTransactions

_MOST_COMMON: Final = 16
"""Of the common words of a question that is a page long, which say nothing any more."""


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """From where on a search is read in another way. Benchmarks and tests vary them.

    Attributes:
        small_chunks: so many vectors at most are compared one by one: exactly, and as fast as the graph finds its way
            through a filter.
        postings: read at most, of the rarest words; the others count only for the chunks that those have found.
        found_by_rare: how many chunks those are.
        ef_search: of HNSW: candidates kept while the graph is searched.
        max_scan_tuples: of HNSW: most rows that a search visits before every row is compared instead.
    """

    small_chunks: int = 4_000
    postings: int = 20_000
    found_by_rare: int = 500
    ef_search: int = 100
    max_scan_tuples: int = 40_000


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a search stands on.

    Attributes:
        values: of the statements.
        vectors: the model's table; None leaves the vectors out.
        reach: chunks of the documents that the scope holds; labels may hide some of them.
        is_open: whether the scope holds the whole collection.
        is_some: whether it holds few chunks, of documents that `values` names.
        postings: of all words of the query.
        most_lexical: as in `Candidates`, like what follows.
    """

    values: dict[str, Any]
    vectors: str | None
    reach: int
    is_open: bool
    is_some: bool
    postings: int
    most_lexical: float
    chunks: int
    calibration: Calibration | None

    @property
    def visible(self) -> str:
        """What a candidate must pass."""
        return "" if self.is_open else statements.VISIBLE.format()


class PostgresPassageIndex:
    """`PassageIndex` on the tables that `PostgresDocumentStore` writes.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a search is done or fails.
        limits: how it is done.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0, limits: SearchLimits | None = None) -> None:
        self._pool = pool
        self._transactions = TenantTransactions(pool)
        self._deadline_s = deadline_s
        self._limits = limits or SearchLimits()

    async def search(
        self, scope: SearchScope, *, vector: bytes | None, terms: Mapping[str, float], model: str, candidates: int
    ) -> Candidates:
        """The best `candidates` of each leg, with their scores of each leg that they were found by.

        Raises:
            DependencyUnavailable: no answer in time.
            InvalidRequest: the vector does not have the length of the model's vectors, or no direction.
        """
        weights: dict[int, float] = {}
        for term, weight in terms.items():
            weights[lexeme(term)] = weights.get(lexeme(term), 0.0) + weight
        values = _scope_values(scope) | {
            "vector": _literal(vector),
            "model": model,
            "lexemes": list(weights),
            "candidates": candidates,
            "small": self._limits.small_chunks,
        }
        async with self._transactions.reading(scope.tenant_id, timeout_s=self._deadline_s) as connection:
            if connection is None:
                return Candidates()
            values["tenant"] = connection.tenant
            ground = await self._ground(connection.sql, values, weights, None if vector is None else len(vector) // 4)
            if ground is None:
                return Candidates()
            dense = await _dense(connection.sql, ground)
            lexical = await _lexical(connection.sql, ground)
            rows = await _rows(connection.sql, ground, [*dense.keys() | lexical])
        found = [rows[chunk] for chunk in dict.fromkeys((*dense, *lexical)) if chunk in rows]
        return Candidates(
            tuple(_passage(row, dense.get(row[0]), lexical.get(row[0])) for row in found),
            tuple(b"" if row[-1] is None else singles_of(row[-1]) for row in found),
            ground.most_lexical,
            ground.chunks,
            ground.calibration,
        )

    async def active_model(self) -> str | None:
        """The embedding model whose vectors are complete and searched; None before the first document.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            row = await (await connection.execute(statements.ACTIVE_MODEL)).fetchone()
        return None if row is None else str(row[0])

    async def calibrate(self, tenant_id: str, collection: str, calibration: Calibration) -> None:
        """Keep what was measured; nothing when there is no such collection.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; doing it again is safe.
        """
        async with self._transactions.writing(tenant_id, timeout_s=self._deadline_s) as connection:
            values = (Jsonb(asdict(calibration)), connection.tenant, storable_text(collection))
            await connection.sql.execute(statements.CALIBRATE, values)

    async def uncalibrated(self, model: str, *, limit: int) -> Sequence[tuple[str, str]]:
        """Tenant and name of collections whose calibration is missing, by another model, or of other times.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        found: list[tuple[str, str]] = []
        for tenant_id in await self._transactions.tenants(timeout_s=self._deadline_s):
            if len(found) >= limit:
                break
            async with self._transactions.reading(tenant_id, timeout_s=self._deadline_s) as connection:
                if connection is not None:
                    values = (connection.tenant, model, limit - len(found))
                    cursor = await connection.sql.execute(statements.UNCALIBRATED, values)
                    found += [(tenant_id, str(name)) for (name,) in await cursor.fetchall()]
        return found

    async def _ground(
        self, connection: Connection, values: dict[str, Any], weights: Mapping[int, float], dimensions: int | None
    ) -> _Ground | None:
        limits = self._limits
        await connection.execute(statements.TUNE, (str(limits.ef_search), str(limits.max_scan_tuples)))
        about = await connection.execute(statements.COLLECTION, values)
        models = await connection.execute(MODEL, (values["model"],))
        frequencies = await connection.execute(statements.FREQUENCIES, values)
        reaching = await connection.execute(statements.ALLOWED.format().encode(), values)
        collection, model, reach = await about.fetchone(), await models.fetchone(), await reaching.fetchone()
        if collection is None or reach is None or not collection[1]:
            return None
        if dimensions is not None and model is not None and model[1] != dimensions:
            raise InvalidRequest("the vector is not as long as this model's", param="vector")
        number, chunks, lengths, highest_label, restricted, calibration = collection
        is_open = not (values["is_narrow"] or restricted or highest_label > values["level"])
        in_chunks = {int(word): int(count) for word, count in await frequencies.fetchall()}
        words = _words(in_chunks, weights, chunks, limits.postings) | _norm(chunks, lengths)
        return _Ground(
            values
            | words
            | {
                "collection": number,
                "allowed": reach[1],
                "looked_at": limits.found_by_rare if words["common"] else values["candidates"],
            },
            None if dimensions is None or model is None else vectors_table(model[0]),
            chunks if is_open else int(reach[0]),
            is_open,
            not is_open and reach[1] is not None,
            sum(in_chunks.values()),
            sum(weight * rarity(chunks, in_chunks.get(word, 0)) for word, weight in weights.items()) * (K1 + 1),
            chunks,
            None if calibration is None else Calibration(**calibration),
        )


async def _dense(connection: Connection, ground: _Ground) -> dict[int, float]:
    """The nearest chunks, the nearest first, with their cosine."""
    if ground.vectors is None or not ground.reach:
        return {}
    exact = statements.NEAREST_OF_SOME if ground.is_some else statements.NEAREST_OF_ALL
    is_small = ground.is_some or ground.reach <= ground.values["small"]
    found = await _hits(connection, exact if is_small else statements.NEAREST, ground)
    if not is_small and len(found) < min(ground.values["candidates"], ground.reach):
        # The graph gave up before it had found enough of what this reader may see.
        found = await _hits(connection, exact, ground)
    return dict(sorted(found.items(), key=lambda hit: -hit[1]))


async def _lexical(connection: Connection, ground: _Ground) -> dict[int, float]:
    """The chunks with the rarest words of the query, the best first, with their BM25."""
    values = ground.values
    words = len(values["rare"]) + len(values["common"])
    if not words or not ground.reach:
        return {}
    if ground.is_some and ground.reach * words < ground.postings:
        return await _hits(connection, statements.BY_WORDS_OF_SOME, ground)
    # As many as hold enough that are visible, if these are spread evenly, and four times that.
    looked_at = max(values["looked_at"], 4 * values["candidates"] * ground.chunks // ground.reach)
    found = await _hits(connection, statements.BY_WORDS, replace(ground, values=values | {"looked_at": looked_at}))
    is_all = not values["common"] and looked_at >= ground.postings
    if is_all or len(found) >= min(values["candidates"], ground.reach):
        return found
    everything = {
        "rare": values["rare"] + values["common"],
        "rare_weights": values["rare_weights"] + values["common_weights"],
        "common": [],
        "common_weights": [],
        "looked_at": None,
    }
    return await _hits(connection, statements.BY_WORDS, replace(ground, values=values | everything))


async def _hits(connection: Connection, template: str, ground: _Ground) -> dict[int, float]:
    statement = template.format(vectors=ground.vectors, visible=ground.visible)
    cursor = await connection.execute(statement.encode(), ground.values, binary=True)
    return {int(chunk): float(score) for chunk, score in await cursor.fetchall()}


async def _rows(connection: Connection, ground: _Ground, ids: Sequence[int]) -> dict[int, TupleRow]:
    """The chunks with these ids."""
    vectors = ground.vectors
    template = statements.PASSAGES.format(
        embedding="halfvec_send(embedding)" if vectors else "NULL",
        joined=statements.WITH_VECTORS.format(vectors=vectors) if vectors else "",
    )
    cursor = await connection.execute(template.encode(), ground.values | {"ids": ids}, binary=True)
    return {row[0]: row for row in await cursor.fetchall()}


def _scope_values(scope: SearchScope) -> dict[str, Any]:
    metadata = {storable_text(key): storable_text(value) for key, value in scope.metadata.items()}
    return {
        "name": storable_text(scope.collection),
        # The group without a name is nobody's (`document_rows.NEW_VERSION`).
        "groups": [storable_text(group) for group in scope.groups if group],
        "level": int(scope.max_level),
        "documents": [key for text in scope.documents if (key := key_of(text))] if scope.documents else None,
        "metadata": Jsonb(metadata) if metadata else None,
        "is_narrow": bool(scope.documents or metadata),
    }


def _literal(vector: bytes | None) -> str | None:
    try:
        return None if vector is None else vector_literals(as_halves([vector]))[0]
    except ValueError as error:
        raise InvalidRequest(str(error), param="vector") from None


def _words(
    in_chunks: Mapping[int, int], weights: Mapping[int, float], chunks: int, most_postings: int
) -> dict[str, list[Any]]:
    """The query's words, the rarest first, up to a number of postings and the rest; with what each is worth."""
    words: dict[str, list[Any]] = {"rare": [], "rare_weights": [], "common": [], "common_weights": []}
    postings = 0
    for word, frequency in sorted(in_chunks.items(), key=lambda item: item[1]):
        postings += frequency
        kind = "rare" if postings <= most_postings or not words["rare"] else "common"
        if len(words["common"]) == _MOST_COMMON:
            break
        words[kind].append(word)
        words[f"{kind}_weights"].append(weights[word] * rarity(chunks, frequency) * (K1 + 1))
    return words


def _norm(chunks: int, lengths: int) -> dict[str, float]:
    """The two parts of BM25's denominator, in quarters of an occurrence."""
    return {"fixed": QUARTERS * K1 * (1 - B), "by_length": QUARTERS * K1 * B * chunks / max(lengths, 1)}


def _passage(row: TupleRow, dense: float | None, lexical: float | None) -> Passage:
    _, document, title, source, ordinal, text, prefix, page, start, end, tokens, sha, label, _ = row
    chunk = Chunk(ordinal, text, prefix, page, start, end, tokens, sha, SecurityLevel(label))
    return Passage(str(document), title, source, chunk, 0.0, dense, lexical)
