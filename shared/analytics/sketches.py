"""Distributions that can be added up: DDSketch with a relative error of 1%, as bytes that merge by being joined.

Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees" (VLDB 2019),
https://www.vldb.org/pvldb/vol12/p2195-masson.pdf. A value goes to the bin ``ceil(log(value) / log(GAMMA))``; whatever
lies in a bin is at most 1% from the value that stands for it. Bins are never collapsed: from a thousandth of a
millisecond to eleven days there are 1,400 of them.

The form in a store is pairs of bin (two bytes, signed) and count (four bytes), big-endian. A bin may occur more than
once, so two sketches end to end are their sum, which PostgreSQL's ``string_agg`` does without knowing what they are;
`compact` makes one pair of those of a bin.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LOG_GAMMA = math.log(GAMMA)
LEAST = 1e-3
"""Values up to this one count as 0."""
MOST = 1e9
"""Values above this one count as it."""
ZERO_BIN = -32768

_PAIR = np.dtype([("bin", ">i2"), ("count", ">u4")])
_BINS = 2**16
_MOST_IN_PAIR = 2**32 - 1

Bins = npt.NDArray[np.int64]


def bin_of(value: float) -> int:
    """The bin of a value; whatever is not above `LEAST` has one of its own."""
    return ZERO_BIN if value <= LEAST else math.ceil(math.log(min(value, MOST)) / LOG_GAMMA)


def sketch_of(values: Iterable[float]) -> bytes:
    """A sketch of values."""
    return compact(np.array([(bin_of(value), 1) for value in values], dtype=_PAIR).tobytes())


def compact(sketch: bytes) -> bytes:
    """The same sketch with each bin once, in order.

    Raises:
        ValueError: the bytes are no sketch.
        OverflowError: more values than a pair can count are in one bin.
    """
    return compact_all([sketch])[0]


def compact_all(sketches: Sequence[bytes]) -> list[bytes]:
    """`compact` for many at once, at a fraction of the time.

    Raises:
        ValueError: the bytes of one are no sketch.
        OverflowError: more values than a pair can count are in one bin of one.
    """
    if any(len(sketch) % _PAIR.itemsize for sketch in sketches):
        raise ValueError("a sketch consists of whole pairs")
    owners = np.repeat(np.arange(len(sketches)), [len(sketch) // _PAIR.itemsize for sketch in sketches])
    pairs = np.frombuffer(b"".join(sketches), dtype=_PAIR)
    places, counts = _summed(owners * _BINS + (pairs["bin"].astype(np.int64) - ZERO_BIN), pairs["count"])
    if counts.size and counts.max() > _MOST_IN_PAIR:
        raise OverflowError("more values in a bin than a pair counts")
    made = np.empty(len(places), dtype=_PAIR)
    made["bin"], made["count"] = places % _BINS + ZERO_BIN, counts
    ends = np.searchsorted(places, np.arange(len(sketches) + 1) * _BINS) * _PAIR.itemsize
    joined = made.tobytes()
    return [joined[start:end] for start, end in pairwise(ends.tolist())]


def count_of(sketch: bytes) -> int:
    """How many values a sketch holds.

    Raises:
        ValueError: the bytes are no sketch.
    """
    return int(np.frombuffer(sketch, dtype=_PAIR)["count"].sum(dtype=np.int64))


def count_up_to(sketch: bytes, value: float) -> int:
    """How many values are at most `value`; those within 1% of it may be counted either way.

    Raises:
        ValueError: the bytes are no sketch.
    """
    pairs = np.frombuffer(sketch, dtype=_PAIR)
    return int(pairs["count"][pairs["bin"] <= bin_of(value)].sum(dtype=np.int64))


def quantiles(sketch: bytes, levels: Sequence[float]) -> tuple[float | None, ...]:
    """Estimates of quantiles, each within 1% of the value of rank ``floor(level * (count - 1))``; None without values.

    Args:
        sketch: one, or several end to end.
        levels: between 0 and 1.

    Raises:
        ValueError: the bytes are no sketch, or a level is not between 0 and 1.
    """
    if not all(0 <= level <= 1 for level in levels):
        raise ValueError("levels: must be from 0 to 1")
    pairs = np.frombuffer(sketch, dtype=_PAIR)
    bins, counts = _summed(pairs["bin"].astype(np.int64), pairs["count"])
    if not bins.size:
        return (None,) * len(levels)
    reached = np.cumsum(counts)
    ranks = [math.floor(level * (int(reached[-1]) - 1)) for level in levels]
    return tuple(_value_of(int(bins[np.searchsorted(reached, rank, side="right")])) for rank in ranks)


def _value_of(number: int) -> float:
    """What stands for the values of a bin: as far from its lower end as from its upper one, relatively."""
    return 0.0 if number == ZERO_BIN else 2 * math.exp(number * LOG_GAMMA) / (GAMMA + 1)


def _summed(keys: Bins, counts: npt.NDArray[np.uint32]) -> tuple[Bins, Bins]:
    """Each key once, in order, with the sum of its counts."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    firsts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    totals = np.add.reduceat(counts[order].astype(np.int64), firsts) if len(firsts) else np.zeros(0, dtype=np.int64)
    return ordered[firsts], totals
