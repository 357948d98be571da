"""Fitting the term projection: tf-idf and a randomised singular value decomposition, numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.learning.term_projection import Keys, TermProjection, damped, term_keys

Floats = NDArray[np.float32]

WIDTH: Final = 128
_LEAST_PROMPTS: Final = 10
"""Prompts that a term must occur in; rarer ones say little, and could say whose prompt it was."""
_OVERSAMPLING: Final = 16
_POWER_STEPS: Final = 2
_LEVELS: Final = 15
"""Quantisation steps to either side: four bits are enough where many terms are added."""
_CHUNK: Final = 1 << 13


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How often each prompt has each of its terms.

    Attributes:
        owners: prompt of each entry, ascending.
        terms: index of each entry's term in `keys`.
        counts: occurrences.
        prompts: number of prompts.
        pieces: size of the vocabulary.
    """

    keys: Keys
    owners: Keys
    terms: Keys
    counts: Keys
    prompts: int
    pieces: int


def count_terms(prompts: Sequence[Keys], pieces: int) -> TermCounts:
    """Counts of all terms of all prompts.

    Args:
        prompts: rows of each prompt's pieces, in order.
        pieces: size of the vocabulary.
    """
    found = [np.unique(term_keys(rows, pieces), return_counts=True) for rows in prompts]
    keys, terms = np.unique(np.concatenate([own for own, _ in found]), return_inverse=True)
    owners = np.repeat(np.arange(len(found)), [len(own) for own, _ in found])
    return TermCounts(keys, owners, terms, np.concatenate([counts for _, counts in found]), len(found), pieces)


def fit_terms(counted: TermCounts, known: NDArray[np.bool_]) -> TermProjection:
    """The projection of the terms that are common enough in the known prompts.

    Args:
        counted: terms of all prompts.
        known: the prompts that may be learned from.
    """
    inside = known[counted.owners]
    frequency = np.bincount(counted.terms[inside], minlength=len(counted.keys))
    kept = frequency >= _LEAST_PROMPTS
    inside &= kept[counted.terms]
    rarity = (1 + np.log((1 + int(known.sum())) / (1 + frequency[kept]))).astype(np.float32)
    rows = (np.cumsum(known) - 1)[counted.owners[inside]]
    columns = (np.cumsum(kept) - 1)[counted.terms[inside]]
    weights = damped(counted.counts[inside]) * rarity[columns]
    shape = (int(known.sum()), int(kept.sum()))
    norms = np.sqrt(np.bincount(rows, weights * weights, shape[0]))
    directions = _right_singular_vectors(_Sparse.of(rows, columns, weights / norms[rows], shape), min(WIDTH, *shape))
    step = np.maximum(np.abs(directions).max(axis=1, initial=0.0), 1e-9) / _LEVELS
    table = np.round(directions / step[:, None]).astype(np.int8)
    return TermProjection(counted.keys[kept], table, (step * rarity).astype(np.float32), counted.pieces)


def directions(terms: TermProjection, counted: TermCounts) -> Floats:
    """What `TermProjection.direction` says of each prompt, from the counts."""
    places = np.searchsorted(terms.keys, counted.keys)
    places[places == len(terms.keys)] = 0
    inside = (terms.keys[places] == counted.keys)[counted.terms]
    places = places[counted.terms[inside]]
    weights = damped(counted.counts[inside]) * terms.scales[places]
    vectors = _product(counted.owners[inside], places, weights, terms.table.astype(np.float32), counted.prompts)
    norms = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit: Floats = vectors / np.maximum(norms, np.float32(1e-12))
    return unit


@dataclass(frozen=True, slots=True)
class _Sparse:
    """Entries sorted by row, and sorted by column."""

    by_row: tuple[Keys, Keys, Floats]
    by_column: tuple[Keys, Keys, Floats]
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: Keys, columns: Keys, values: NDArray[np.floating], shape: tuple[int, int]) -> "_Sparse":
        values = values.astype(np.float32)
        order = np.argsort(columns, kind="stable")
        return cls((rows, columns, values), (columns[order], rows[order], values[order]), shape)

    def times(self, right: Floats) -> Floats:
        return _product(*self.by_row, right, self.shape[0])

    def transposed_times(self, right: Floats) -> Floats:
        return _product(*self.by_column, right, self.shape[1])


def _product(rows: Keys, columns: Keys, values: Floats, right: Floats, height: int) -> Floats:
    """Sparse times dense, rows ascending, in chunks that stay small."""
    result = np.zeros((height, right.shape[1]), np.float32)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        own, firsts = np.unique(rows[part], return_index=True)
        result[own] += np.add.reduceat(right[columns[part]] * values[part, None], firsts, axis=0)
    return result


def _right_singular_vectors(matrix: _Sparse, width: int) -> Floats:
    """The leading ones, as columns (Halko, Martinsson, Tropp 2011, algorithm 4.4)."""
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((matrix.shape[1], min(width + _OVERSAMPLING, *matrix.shape))).astype(np.float32)
    for _ in range(_POWER_STEPS):
        basis, _ = np.linalg.qr(matrix.times(sample))
        sample, _ = np.linalg.qr(matrix.transposed_times(basis))
    basis, _ = np.linalg.qr(matrix.times(sample))
    _, _, rotation = np.linalg.svd(matrix.transposed_times(basis).T, full_matrices=False)
    directions: Floats = np.ascontiguousarray(rotation[:width].T)
    return directions
