"""The words of a prompt as a point in a space of topics: latent semantic analysis of single pieces and pairs of them.

Terms are weighted by tf-idf and projected on the leading singular vectors of the training prompts (Deerwester et al.,
"Indexing by latent semantic analysis", 1990). Word vectors tell what words mean; this tells which words go together
in the benchmarks that were learned from.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Keys = NDArray[np.int64]

_NO_KEYS: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class TermProjection:
    """Terms to a direction.

    Attributes:
        keys: of the terms that count, ascending, at least one; see `term_keys`.
        table: one int8 vector a term.
        scales: factor a row, quantisation step times the term's inverse document frequency.
        pieces: size of the vocabulary that the rows come from.
    """

    keys: Keys
    table: NDArray[np.int8]
    scales: Floats
    pieces: int

    @property
    def width(self) -> int:
        """Length of a direction."""
        return int(self.table.shape[1])

    def direction(self, rows: Keys) -> Floats:
        """The unit vector of a text's pieces in order; zero when none of its terms count."""
        terms, counts = np.unique(term_keys(rows, self.pieces), return_counts=True)
        places = np.searchsorted(self.keys, terms)
        places[places == len(self.keys)] = 0
        known = self.keys[places] == terms
        places = places[known]
        weights: Floats = damped(counts[known]) * self.scales[places]
        vector: Floats = weights @ self.table[places].astype(np.float32)
        norm = float(np.sqrt(vector @ vector))
        return vector / norm if norm > 0 else vector


def term_keys(rows: Keys, pieces: int) -> Keys:
    """One number for each piece and for each pair of neighbours, repeated as often as they occur.

    Args:
        rows: a text's pieces in order.
        pieces: size of the vocabulary.
    """
    if len(rows) == 0:
        return _NO_KEYS
    return np.concatenate((rows, (rows[:-1] + 1) * pieces + rows[1:]))


def damped(counts: NDArray[np.integer]) -> Floats:
    """Sublinear term frequency: the tenth occurrence says less than the first."""
    weights: Floats = (1 + np.log(counts)).astype(np.float32)
    return weights
