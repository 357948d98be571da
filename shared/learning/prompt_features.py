"""A prompt as numbers: the mean of its pieces' static vectors, and what its form shows (length, digits, layout).

The vectors are those of a sentence encoder's pieces in isolation, reduced by PCA and weighted by smooth inverse
frequency, as in Model2Vec (https://github.com/MinishLab/model2vec) and SIF (Arora et al., ICLR 2017).
"""

import math
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.learning.wordpiece import WordPiece, sample

Floats = NDArray[np.float32]

_COUNTED: Final = "\n?\\$={(\",.:;[<_^%*'"
_DIGITS: Final = str.maketrans("", "", "0123456789")
_OPTION: Final = re.compile(r"^\(?[A-J][.):] ", re.MULTILINE)
_ANSWER_WINDOW: Final = 20
STRUCTURE_WIDTH: Final = 9 + len(_COUNTED)
LIMIT: Final = 4.0
"""Standard deviations beyond which a feature says no more; keeps hostile prompts within what was trained on."""


class PromptEncoder:
    """Text to the standardised feature vector that item models read.

    Args:
        vocabulary: word pieces.
        table: one int8 vector a piece.
        row_scales: factor a row, quantisation step times the piece's weight.
        centre: mean of the raw features over the training prompts.
        spread: their standard deviation.
    """

    def __init__(
        self, vocabulary: WordPiece, table: NDArray[np.int8], row_scales: Floats, centre: Floats, spread: Floats
    ) -> None:
        self._vocabulary = vocabulary
        self._table = table
        self._row_scales = row_scales
        self._centre = centre
        self._spread = spread

    def encode(self, text: str) -> Floats:
        """Standardised features of a text of any length; time is bounded by `sample`."""
        features = (self.raw(text) - self._centre) / self._spread
        return np.clip(features, -LIMIT, LIMIT, out=features)

    def raw(self, text: str) -> Floats:
        """The same before standardising: direction of the mean vector, then structure."""
        part = sample(text)
        rows, counts = np.unique(np.array(self._vocabulary.rows(part), np.intp), return_counts=True)
        mean = (self._row_scales[rows] * counts.astype(np.float32)) @ self._table[rows].astype(np.float32)
        norm = float(np.linalg.norm(mean))
        return np.concatenate((mean / norm if norm > 0 else mean, structure_of(part, len(text))), dtype=np.float32)


def structure_of(text: str, whole_length: int) -> Floats:
    """What a prompt's form shows, mostly logarithms of counts.

    Args:
        text: the prompt, or a sample of it.
        whole_length: characters of the whole prompt.
    """
    length = len(text) + 1
    digits = len(text) - len(text.translate(_DIGITS))
    words = len(text.split())
    log_length = math.log(whole_length + 1)
    form = [
        log_length,
        log_length * log_length / 10,
        math.log1p(len(_OPTION.findall(text))),
        math.log1p(digits),
        digits / length,
        math.log1p(words),
        len(text) / (words + 1) / 5,
        float("def " in text),
        float("Answer" in text[-_ANSWER_WINDOW:]),
    ]
    return np.array(form + [math.log1p(text.count(mark)) for mark in _COUNTED], np.float32)
