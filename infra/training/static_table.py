"""Distilling a sentence encoder into a table of word-piece vectors (Model2Vec's recipe), int8."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.training.minilm import MiniLM

Floats = NDArray[np.float32]

WIDTH: Final = 256
_BATCH: Final = 512
_LEVELS: Final = 24
"""Quantisation steps to either side; the file is compressed, so that fewer levels make it smaller."""
_FREQUENCY_SCALE: Final = 1e-3
"""SIF's ``a``: pieces much rarer than one in a thousand keep their whole weight."""


def distil(encoder: MiniLM) -> tuple[NDArray[np.int8], Floats]:
    """The table and its row scales: principal components of every piece's sentence vector, weighted by rarity.

    BERT's vocabulary is ordered by frequency, so Zipf's law on the row number stands for a count.
    """
    count = len(encoder.vocabulary)
    vectors = np.concatenate(
        [encoder.embed_pieces(np.arange(start, min(count, start + _BATCH))) for start in range(0, count, _BATCH)]
    )
    return quantised(vectors, encoder.vocabulary)


def quantised(vectors: Floats, vocabulary: list[str]) -> tuple[NDArray[np.int8], Floats]:
    """Sentence vectors of the pieces to int8 principal components and a scale a row."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    reduced = centred @ directions[:, ::-1][:, :WIDTH]
    step = np.abs(reduced).max(axis=1) / _LEVELS
    frequency = 1 / np.arange(1, len(vocabulary) + 1)
    frequency /= frequency.sum()
    weight = _FREQUENCY_SCALE / (_FREQUENCY_SCALE + frequency)
    markers = [piece.startswith("[") and piece.endswith("]") and len(piece) > 1 for piece in vocabulary]
    reduced[markers] = weight[markers] = 0.0
    return np.round(reduced / np.maximum(step, 1e-9)[:, None]).astype(np.int8), (step * weight).astype(np.float32)
