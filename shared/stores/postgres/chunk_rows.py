"""Chunks and vectors on their way into the database and out of it."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from shared.domain.documents import Chunk, Vectors
from shared.domain.errors import InvalidRequest
from shared.rag.terms import length, text_terms
from shared.rag.vectors import Halves, as_halves
from shared.stores.postgres.document_rows import array_literal, lexeme, storable_text

_HEADER_BYTES: Final = 4
"""Of a halfvec's binary form: its dimension and an unused field; big-endian halves follow."""


def halves_of(chunks: Sequence[Chunk], vectors: Vectors) -> Halves:
    """The chunks' vectors as they are stored.

    Raises:
        InvalidRequest: they do not fit the chunks, or cannot be compared.
    """
    if len(vectors) != len(chunks):
        raise InvalidRequest("there must be one vector for each chunk", param="vectors")
    try:
        return as_halves(vectors)
    except ValueError as error:
        raise InvalidRequest(str(error), param="vectors") from None


def vector_literals(halves: Halves) -> list[str]:
    """As halfvec reads them; five digits tell any half from its neighbours."""
    form = "[" + ",".join(["%.5g"] * halves.shape[1]) + "]"
    return [form % tuple(row) for row in halves.tolist()]


def singles_of(halfvec: bytes) -> bytes:
    """A vector that ``halfvec_send`` gave, in little-endian single precision."""
    return np.frombuffer(halfvec, ">f2", offset=_HEADER_BYTES).astype("<f4").tobytes()


def chunk_columns(chunks: Sequence[Chunk]) -> tuple[list[Any], ...]:
    """Columns of `document_rows.INSERT_CHUNKS` from `ordinal` on."""
    columns: tuple[list[Any], ...] = tuple([] for _ in range(12))
    for chunk in chunks:
        # Two words of a chunk may share a number: they count as one.
        counts: dict[int, int] = {}
        terms = text_terms(chunk.text, chunk.prefix)
        for term, count in terms.items():
            counts[lexeme(term)] = max(count, counts.get(lexeme(term), 0))
        row = (
            chunk.ordinal,
            chunk.page,
            chunk.start,
            chunk.end,
            chunk.tokens,
            int(chunk.label),
            length(terms),
            bytes.fromhex(chunk.sha),
            storable_text(chunk.prefix),
            storable_text(chunk.text),
            array_literal(list(counts)),
            array_literal(list(counts.values())),
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns
