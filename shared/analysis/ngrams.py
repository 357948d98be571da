"""A text as a vector: its words and character n-grams, hashed with signs into a fixed number of dimensions.

The vector is what trained classifiers multiply with their weights, in training and at request time alike. Instructions
stand at the beginning or the end of a request, so only the two ends are looked at, and the cost is bounded.
Feature hashing: Weinberger et al. 2009, https://arxiv.org/abs/0902.2206.
"""

import re
import zlib
from bisect import bisect_left
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

BUCKETS: Final = 1 << 16
"""Dimensions of the vector."""
_END_CHARS: Final = 320
_NEAR_CHARS: Final = 130
_MIDDLE_WEIGHT: Final = np.float32(0.2)
"""What stands between the ends is mostly material."""
_CHAR_ORDERS: Final = (1, 2, 3, 4)
_OPENING_WORDS: Final = 5
_MULTIPLIERS: Final = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F], np.uint32)
_MIX: Final = np.uint32(0x2C1B3C6D)
_USUAL_LENGTH: Final = 8.0
"""Of a sentence; makes its scaled vector's length about 1."""
_WORD: Final = re.compile(r"[^\W_]+|[^\w\s]")
_ASCII_WORD: Final = re.compile(r"[a-z0-9]+|[^a-z0-9_\s]")
"""The same for a window of ASCII only."""
_DIGITS: Final = str.maketrans("0123456789", "0000000000")
_BUCKET_SHIFT: Final = np.uint32(32 - BUCKETS.bit_length() + 1)
_SIGN_BIT: Final = np.uint32(1)

Vector = npt.NDArray[np.float32]
Sparse = tuple[npt.NDArray[np.intp], Vector]
"""The dimensions that a text touches, ascending, and their values; those whose signs cancel are left out."""
Keyed = tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]
"""Keys of n-grams, and the place in the window where each begins."""


def text_vector(text: str) -> Sparse:
    """The signed presence of hashed n-grams, divided by the root of the vector's length; empty for a text without any.

    Presence, not counts: pasted material repeats itself, an instruction does not. The root: more evidence is more sure,
    but not in proportion.
    """
    window = _window(text)
    keyed = (_word_keys(window), *_char_keys(window))
    hashes = _mixed(np.concatenate([keys for keys, _ in keyed]))
    weights = _near_an_end(np.concatenate([places for _, places in keyed]), len(window))
    used, found = _summed(hashes, np.where(hashes & _SIGN_BIT, -weights, weights))
    damped = np.sign(found) * np.sqrt(np.minimum(np.abs(found), 1))
    length = float(np.sqrt(damped @ damped))
    return used, (damped / np.sqrt(_USUAL_LENGTH * max(length, 1e-9))).astype(np.float32)


def _summed(hashes: npt.NDArray[np.uint32], values: Vector) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The buckets whose values do not cancel, ascending, and their sums."""
    # Sorted, a window's few thousand n-grams stay in the cache; an array of all buckets would not.
    buckets = (hashes >> _BUCKET_SHIFT).astype(np.uint16)
    order = buckets.argsort(kind="stable")
    ordered = buckets[order]
    is_first = np.ones(len(ordered), np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    sums = np.bincount(is_first.cumsum() - 1, values[order])
    remains = sums != 0
    return ordered[is_first][remains].astype(np.intp), sums[remains]


def _window(text: str) -> str:
    """Both ends in lower case, digits alike, every line's break kept as one."""
    stripped = text.strip()
    ends = stripped if len(stripped) <= 2 * _END_CHARS else f"{stripped[:_END_CHARS]}\n\n{stripped[-_END_CHARS:]}"
    return "\n".join(" ".join(line.split()) for line in ends.lower().translate(_DIGITS).splitlines() if line.strip())


def _near_an_end(places: npt.NDArray[np.int64], length: int) -> Vector:
    near = (places < _NEAR_CHARS) | (places >= length - _NEAR_CHARS)
    return np.where(near, np.float32(1), _MIDDLE_WEIGHT)


def _word_keys(window: str) -> Keyed:
    found = list((_ASCII_WORD if window.isascii() else _WORD).finditer(window))
    words = [match[0].encode("utf-8", "surrogatepass") for match in found]
    starts = [match.start() for match in found]
    closing = words[bisect_left(starts, window.rfind("\n") + 1) :]
    keys = [b"w " + word for word in words]
    keys += [b"b %b %b" % pair for pair in pairwise(words)]
    keys += [b"o " + word for line in (words, closing) for word in line[:_OPENING_WORDS]]
    keys += [b"e " + word for word in words[-2:]]
    places = np.zeros(len(keys), np.int64)  # openings and endings are near by nature
    places[: len(starts)] = starts
    places[len(starts) : 2 * len(starts) - 1] = starts[:-1]
    return np.fromiter(map(zlib.crc32, keys), np.uint32, len(keys)), places


def _char_keys(window: str) -> list[Keyed]:
    chars = np.frombuffer(f" {window} ".encode("utf-32-le", "surrogatepass"), np.uint32)
    places = np.arange(len(chars))
    sums = np.zeros(len(chars), np.uint32)
    found = []
    for order in _CHAR_ORDERS:
        count = len(chars) - order + 1
        if count > 0:
            # Each order adds a character to those of the order before.
            sums = sums[:count] + chars[order - 1 :] * _MULTIPLIERS[order - 1]
            found.append((sums + np.uint32(order), places[:count]))
    return found


def _mixed(keys: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    # Sums of products are near each other for near keys; every bit of the key has to reach the bucket and the sign.
    mixed = (keys ^ (keys >> np.uint32(15))) * _MIX
    return np.asarray(mixed ^ (mixed >> np.uint32(13)) ^ (mixed << np.uint32(11)), np.uint32)
