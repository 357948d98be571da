"""A keyed fingerprint of a message that nearly the same message shares, and that tells nobody what was said. Pure.

SimHash over words and pairs of neighbouring words: Charikar, "Similarity estimation techniques from rounding
algorithms", STOC 2002; near duplicates by at most three of 64 bits: Manku, Jain, Das Sarma, "Detecting near-duplicates
for web crawling", WWW 2007. Every feature is hashed with a secret key (keyed BLAKE2b, RFC 7693), so that without the
key neither the words nor whether a guessed message was sent can be found out.
"""

import re
from hashlib import blake2b
from itertools import pairwise

import numpy as np

BITS = 64
BANDS = 4
"""Two fingerprints that differ by less than this many bits share one of as many bands."""
MOST_APART = BANDS - 1
_BAND_BITS = BITS // BANDS
_LEAST_WORDS = 4
"""Shorter messages ("yes", "go on") are said again for many reasons."""
_LEAST_CHARS = 20
_WORDS_A_SIDE = 32
"""Of a long message: so many words from its beginning and from its end."""
_READ_CHARS = 1_000
_WORD = re.compile(r"\w+")


def fingerprint(text: str, key: bytes) -> int | None:
    """64 bits; None: too short to be known again.

    Case, punctuation and spacing do not count; of long messages the beginning and the end do.

    Args:
        text: of the message.
        key: 16 to 64 bytes; fingerprints of two keys never compare.
    """
    words = _words(text)
    if len(words) < _LEAST_WORDS or sum(map(len, words)) < _LEAST_CHARS:
        return None
    features = {*words, *(f"{one} {other}" for one, other in pairwise(words))}
    digests = b"".join(
        blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest() for feature in features
    )
    bits = np.unpackbits(np.frombuffer(digests, np.uint8).reshape(-1, BITS // 8), axis=1)
    majority = 2 * bits.sum(axis=0, dtype=np.int64) > len(features)
    return int.from_bytes(np.packbits(majority).tobytes())


def bands(value: int) -> tuple[str, ...]:
    """The parts of a fingerprint that near ones are looked for by."""
    mask = (1 << _BAND_BITS) - 1
    return tuple(f"{place}{(value >> (place * _BAND_BITS)) & mask:04x}" for place in range(BANDS))


def is_near(one: int, other: int) -> bool:
    """Whether two messages are nearly the same."""
    return (one ^ other).bit_count() <= MOST_APART


def whose(tenant_id: str, principal_id: str, key: bytes) -> str:
    """Whose message it is, as 32 hex digits that name nobody."""
    known = b"\0".join(part.encode("utf-8", "surrogatepass") for part in (tenant_id, principal_id))
    return blake2b(known, digest_size=16, key=key).hexdigest()


def _words(text: str) -> list[str]:
    if len(text) > 2 * _READ_CHARS:
        text = f"{text[:_READ_CHARS]} {text[-_READ_CHARS:]}"
    words = _WORD.findall(text.casefold())
    return words if len(words) <= 2 * _WORDS_A_SIDE else words[:_WORDS_A_SIDE] + words[-_WORDS_A_SIDE:]
