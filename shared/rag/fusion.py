"""One ranking of two: what lies near by meaning and what shares rare words.

Measured on 17 collections, the weighted sum of min-max normalised scores beats reciprocal rank fusion on most, above
all where one leg is bad: ranks know nothing of that, scores do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final

from shared.domain.documents import Passage

DENSE_WEIGHT: Final = 0.4
"""Of the vectors; the rest is the words'."""
_RRF_K: Final = 60
"""Cormack, Clarke and Buettcher, Reciprocal Rank Fusion outperforms Condorcet (SIGIR 2009)."""


class Fusion(StrEnum):
    """How two rankings become one."""

    WEIGHTED = "weighted"
    """Each leg's scores are spread over [0, 1] and added by weight."""
    RRF = "rrf"
    """Only ranks count."""
    DENSE = "dense"
    LEXICAL = "lexical"


def fuse(
    passages: Sequence[Passage], *, method: Fusion = Fusion.WEIGHTED, dense_weight: float = DENSE_WEIGHT
) -> list[Passage]:
    """The passages with their scores in [0, 1], the best first; one that a leg did not find has 0 of it.

    Args:
        passages: what both legs found.
        method: how they are joined; of `Fusion.DENSE` and `Fusion.LEXICAL` only that leg's remain.
        dense_weight: of the vectors, in [0, 1]; without words, and without vectors, the other leg is all there is.
    """
    dense = {place: score for place, passage in enumerate(passages) if (score := passage.dense) is not None}
    lexical = {place: score for place, passage in enumerate(passages) if (score := passage.lexical) is not None}
    match method:
        case Fusion.WEIGHTED:
            weight = dense_weight if dense and lexical else float(bool(dense))
            scores = _sum((weight, spread(dense)), (1 - weight, spread(lexical)))
        case Fusion.RRF:
            scores = _sum((0.5, _by_rank(dense)), (0.5, _by_rank(lexical)))
        case Fusion.DENSE:
            scores = spread(dense)
        case Fusion.LEXICAL:
            scores = spread(lexical)
    return in_order(replace(passages[place], score=score) for place, score in scores.items())


def in_order(passages: Iterable[Passage]) -> list[Passage]:
    """The best first; among equals, the document's own order."""
    return sorted(passages, key=lambda passage: (-passage.score, passage.document_id, passage.chunk.ordinal))


def spread(scores: Mapping[int, float]) -> dict[int, float]:
    """Scores over [0, 1]; all 1 where they are equal."""
    if not scores:
        return {}
    least, most = min(scores.values()), max(scores.values())
    if most == least:
        return dict.fromkeys(scores, 1.0)
    return {place: (score - least) / (most - least) for place, score in scores.items()}


def _by_rank(scores: Mapping[int, float]) -> dict[int, float]:
    """What a rank is worth, with 1 for the first."""
    ranked = sorted(scores, key=lambda place: -scores[place])
    return {place: (_RRF_K + 1) / (_RRF_K + rank) for rank, place in enumerate(ranked, start=1)}


def _sum(*parts: tuple[float, Mapping[int, float]]) -> dict[int, float]:
    total: dict[int, float] = {}
    for weight, scores in parts:
        for place, score in scores.items():
            total[place] = total.get(place, 0.0) + weight * score
    return total
