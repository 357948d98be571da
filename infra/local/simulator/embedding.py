"""Vectors of texts: what they come from, and a way to make them without a model.

Without one, words, word pairs and letter triples are hashed, so that like texts have like vectors.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"\w+", re.UNICODE)
_ENDING = re.compile(r"(?<=\w{4})(?:ing|ed|es|s)$")
"""Inflections of English words, so that a plural is near its singular."""
_PROBES = 4
"""Dimensions that each feature is spread over; several make chance collisions harmless."""
_WORD_WEIGHT, _PAIR_WEIGHT, _LETTERS_WEIGHT = 1.0, 0.5, 0.4
_STOP_WEIGHT = 0.15
_STOP_WORDS = frozenset(
    "a an and are as at be by can do does for from has have how i in is it its me my not of on or our so that the "  # noqa: SIM905 - reads better as a line
    "their this to was we were what when where which who why will with you your".split()
)


Vector = npt.NDArray[np.float64]


class Vectors(Protocol):
    """A source of vectors."""

    @property
    def name(self) -> str:
        """What the vectors are, for people: answers and the health page say it."""
        ...

    def of(self, texts: Sequence[str], dimensions: int) -> list[Vector]:
        """A unit vector for each text; the same text always has the same. May take long: call it in a thread."""
        ...


class HashedVectors:
    """Vectors by hashing, which know words but no meaning."""

    name = "hashed words, no model"

    def of(self, texts: Sequence[str], dimensions: int) -> list[Vector]:
        """A unit vector for each text."""
        return [embed(text, dimensions) for text in texts]


@lru_cache(maxsize=4_096)
def embed(text: str, dimensions: int) -> Vector:
    """A unit vector for a text; the same text always gives the same vector, of unit length at every dimension.

    Args:
        text: any text; one without a word gets a vector of its own.
        dimensions: how long the vector is.
    """
    vector = np.zeros(dimensions)
    words = [_ENDING.sub("", word) for word in _WORD.findall(text.lower())] or [f"\x00{text}"]
    for feature, weight in _features(words):
        digest = hashlib.blake2b(feature.encode(), digest_size=4 * _PROBES).digest()
        for probe in range(_PROBES):
            value = int.from_bytes(digest[probe * 4 : probe * 4 + 4], "big")
            vector[(value >> 1) % dimensions] += weight if value & 1 else -weight
    length = float(np.linalg.norm(vector))
    if length == 0:
        vector[0], length = 1.0, 1.0
    vector /= length
    vector.flags.writeable = False
    return vector


def _features(words: list[str]) -> list[tuple[str, float]]:
    features: list[tuple[str, float]] = []
    for word in words:
        weight = _STOP_WEIGHT if word in _STOP_WORDS else 1.0
        features.append((f"w {word}", _WORD_WEIGHT * weight))
        padded = f"<{word}>"
        features.extend((f"l {padded[at : at + 3]}", _LETTERS_WEIGHT * weight) for at in range(len(padded) - 2))
    for first, second in pairwise(words):
        light = first in _STOP_WORDS or second in _STOP_WORDS
        features.append((f"p {first} {second}", _PAIR_WEIGHT * (_STOP_WEIGHT if light else 1.0)))
    return features
