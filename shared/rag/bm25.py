"""BM25: how well words tell one chunk from the others.

Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009); the form of Lucene, whose inverse
document frequency is never negative. `K1` and `B` are those that suit passages of one length (Anserini's defaults).
"""

import math
from typing import Final

K1: Final = 0.9
"""How soon further occurrences of a word stop counting."""
B: Final = 0.4
"""How much a long chunk must have more of them."""


def rarity(chunks: int, with_word: int) -> float:
    """The weight of a word that stands in `with_word` of so many chunks."""
    return math.log(1 + (chunks - with_word + 0.5) / (with_word + 0.5))


def saturation(count: float, length: float, average_length: float, *, unit: float = 1.0) -> float:
    """What a word's occurrences are worth, from 0 to `K1` + 1.

    Args:
        count: occurrences, in units.
        length: of the chunk, in the same units.
        average_length: of the collection's chunks, in the same units.
        unit: how many of them are one occurrence.
    """
    return count * (K1 + 1) / (count + unit * K1 * (1 - B + B * length / average_length))
