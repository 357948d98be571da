"""A second look at what was found, with nothing but the vectors at hand.

Two steps, both from the literature on feedback without a reader, both measured here on seven collections (nDCG@10 and
coverage of the evidence rise on average by half a point to a point, and by three points where a question needs two
documents):

- the query moves a little towards what was found first (Rocchio 1971), and the candidates are compared with it again;
- neighbours lend each other some of their score, for what resembles several good passages is rarely bad
  (Diaz, Regularizing ad hoc retrieval scores, CIKM 2005). It is how the second document of a question in two steps
  comes up: it resembles the first one, and the question only in part.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.domain.documents import Passage
from shared.rag.fusion import fuse, in_order, spread

DENSE_WEIGHT: Final = 0.45
"""The moved query finds more by meaning than the asked one."""
_FIRST: Final = 3
_STEP: Final = 0.3
_NEIGHBOURS: Final = 20
_LENT: Final = 0.2
_SHARPNESS: Final = 4

_Numbers = NDArray[np.float64]


def refine(
    passages: Sequence[Passage], query: bytes, vectors: Sequence[bytes], *, dense_weight: float = DENSE_WEIGHT
) -> list[Passage]:
    """The passages in their new order, with scores in [0, 1].

    Args:
        passages: what both legs found.
        query: the query's vector, single precision.
        vectors: the passages' own, one each.
        dense_weight: as in `fuse`.
    """
    places = {_key(passage): place for place, passage in enumerate(passages)}
    first = [(places[_key(passage)], passage.score) for passage in fuse(passages)[:_FIRST]]
    if len(passages) <= 1 or not any(score for _, score in first):
        return fuse(passages)
    rows = np.stack([_direction(vector) for vector in vectors])
    ahead = sum((score * rows[place] for place, score in first), np.zeros(rows.shape[1]))
    moved = _direction(query) + _STEP * ahead / sum(score for _, score in first)
    lexical = spread({place: p.lexical for place, p in enumerate(passages) if p.lexical is not None})
    looked_at = sum(passage.dense is not None for passage in passages)
    by_meaning = _top(rows @ (moved / np.linalg.norm(moved)), looked_at)
    by_words = np.array([lexical.get(place, 0.0) for place in range(len(rows))])
    weight = dense_weight if lexical else 1.0
    settled = _settled(weight * by_meaning + (1 - weight) * by_words, rows)
    return in_order(replace(passage, score=float(score)) for passage, score in zip(passages, settled, strict=True))


def _top(nearness: _Numbers, count: int) -> _Numbers:
    """Over [0, 1], for as many as the search looked at; the rest is 0."""
    ranked = np.sort(nearness)[::-1]
    most, least = ranked[0], ranked[min(max(count, 2), len(ranked)) - 1]
    return np.clip((nearness - least) / (most - least), 0.0, 1.0) if most > least else np.ones_like(nearness)


def _settled(scores: _Numbers, rows: _Numbers) -> _Numbers:
    """Scores of which the best have lent each other a part, the more the more alike they are."""
    best = np.argsort(-scores, kind="stable")[:_NEIGHBOURS]
    alike = np.clip(rows[best] @ rows[best].T, 0.0, None) ** _SHARPNESS
    np.fill_diagonal(alike, 0.0)
    shares = alike / np.maximum(alike.sum(axis=1, keepdims=True), 1e-9)
    settled = scores.copy()
    settled[best] = (1 - _LENT) * scores[best] + _LENT * (shares @ scores[best])
    return settled


def _direction(vector: bytes) -> _Numbers:
    values = np.frombuffer(vector, "<f4").astype(np.float64)
    return values / np.linalg.norm(values)


def _key(passage: Passage) -> tuple[str, int]:
    return passage.document_id, passage.chunk.ordinal
