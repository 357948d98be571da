"""Vectors as they are stored: half precision, which changes no ranking that anybody could see and halves the index."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Halves = NDArray[np.float16]


def as_halves(vectors: Sequence[bytes]) -> Halves:
    """Vectors in little-endian single precision, one row each.

    Raises:
        ValueError: their lengths differ, or one is empty, all zero or not finite.
    """
    if not vectors:
        return np.zeros((0, 0), np.float16)
    if len({len(vector) for vector in vectors}) != 1 or not vectors[0] or len(vectors[0]) % 4:
        raise ValueError("vectors of one model have one length")
    rows = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)
    with np.errstate(over="ignore"):
        halves = rows.astype(np.float16)
    # A vector without length has no direction: the database would call its similarity NaN and rank it first.
    if not np.isfinite(halves).all() or not halves.any(axis=1).all():
        raise ValueError("a vector is zero or not finite")
    return halves


def as_singles(halves: Halves) -> list[bytes]:
    """The same vectors in little-endian single precision."""
    return [row.tobytes() for row in halves.astype("<f4")]
