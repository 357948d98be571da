"""A prompt as numbers: the mean of its pieces' static vectors, the topics of its terms, and what its form shows.

The vectors are those of a sentence encoder's pieces in isolation, reduced by PCA and weighted by smooth inverse
frequency, as in Model2Vec (https://github.com/MinishLab/model2vec) and SIF (Arora et al., ICLR 2017). Topics are in
`term_projection`; the form is length, digits and layout.
"""

import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.learning.term_projection import TermProjection
from shared.learning.wordpiece import WordPiece, sample

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

_COUNTED: Final = "\n?\\$={(\",.:;[<_^%*'"
_DIGITS: Final = str.maketrans("", "", "0123456789")
_OPTION: Final = re.compile(r"^\(?[A-J][.):] ", re.MULTILINE)
_ANSWER_WINDOW: Final = 20
STRUCTURE_WIDTH: Final = 9 + len(_COUNTED)
LIMIT: Final = 4.0
"""Standard deviations beyond which a feature says no more; keeps hostile prompts within what was trained on."""


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Static vectors of a vocabulary's pieces.

    Attributes:
        vocabulary: how texts are split.
        table: one int8 vector a piece.
        row_scales: factor a row, quantisation step times the piece's weight.
    """

    vocabulary: WordPiece
    table: NDArray[np.int8]
    row_scales: Floats

    def pieces(self, part: str) -> Rows:
        """Rows of a text's pieces in order."""
        return np.array(self.vocabulary.rows(part), np.int64)

    def direction(self, pieces: Rows) -> Floats:
        """The unit vector of a text's meaning; zero when it has no piece."""
        rows, counts = np.unique(pieces, return_counts=True)
        mean: Floats = (self.row_scales[rows] * counts.astype(np.float32)) @ self.table[rows].astype(np.float32)
        norm = float(np.sqrt(mean @ mean))
        return mean / norm if norm > 0 else mean


class PromptEncoder:
    """Text to the standardised feature vector that item models read: meaning, topics, form.

    Args:
        words: of the meaning.
        terms: of the topics.
        centre: mean of the raw features over the training prompts.
        spread: their standard deviation.
    """

    def __init__(self, words: WordVectors, terms: TermProjection, centre: Floats, spread: Floats) -> None:
        self._words = words
        self._terms = terms
        self._centre = centre
        self._spread = spread

    def encode(self, text: str) -> Floats:
        """Standardised features of a text of any length; time is bounded by `sample`."""
        part = sample(text)
        pieces = self._words.pieces(part)
        raw = np.concatenate(
            (self._words.direction(pieces), self._terms.direction(pieces), structure_of(part, len(text))),
            dtype=np.float32,
        )
        return standardised(raw, self._centre, self._spread)

    def meaning(self, text: str) -> Floats:
        """The words' part alone, for comparing texts by cosine; zero when the text has no known piece."""
        direction = self._words.direction(self._words.pieces(sample(text)))
        return standardised(direction, self._centre[: len(direction)], self._spread[: len(direction)])


def standardised(raw: Floats, centre: Floats, spread: Floats) -> Floats:
    """Features on the scale that was trained on, within its limits."""
    features = (raw - centre) / spread
    limited: Floats = np.minimum(np.maximum(features, -LIMIT), LIMIT)  # on few values a third of the time of clip
    return limited


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
