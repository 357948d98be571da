"""Canonical JSON: one value has exactly one text, so that a hash of the text is a hash of the value.

In the manner of RFC 8785 (JSON Canonicalization Scheme): UTF-8, keys sorted, no white space, only the escapes that JSON
demands. Two choices differ from it: keys are sorted by code point (RFC 8785 sorts by UTF-16 unit, another order beyond
the basic plane only), and a float keeps its fraction (``1.0``, where JavaScript writes ``1``), so integers and floats
stay apart. Both are what orjson does with ``OPT_SORT_KEYS``, which writes the same bytes several times faster.
"""

import math
from json.encoder import encode_basestring
from typing import Any

_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
_PLAIN_EXPONENT = -5
"""The one power of ten that Python's shortest form writes with an exponent and this form does not."""


def canonical(value: Any) -> bytes:
    """The canonical text of a JSON value: None, booleans, numbers, texts, lists or tuples, dictionaries by text.

    Raises:
        ValueError: a float that is not finite, an integer beyond 64 bits, or half of a surrogate pair.
        TypeError: anything that is not JSON.
    """
    return _text(value).encode()


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, list | tuple):
        return f"[{','.join([_text(item) for item in value])}]"
    if isinstance(value, dict):
        return f"{{{','.join([f'{_key(key)}:{_text(value[key])}' for key in sorted(value)])}}}"
    raise TypeError(f"{type(value).__name__} is not JSON")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError("a key that is not a text")
    return encode_basestring(key)


def _integer(value: int) -> str:
    if not _MIN_INTEGER <= value <= _MAX_INTEGER:
        raise ValueError("an integer beyond 64 bits")
    return int.__repr__(value)


def _float(value: float) -> str:
    """The shortest digits that read back as the same float."""
    if not math.isfinite(value):
        raise ValueError("a float that is not finite")
    digits, exponent_mark, exponent = float.__repr__(value).partition("e")
    if not exponent_mark:
        return digits
    power = int(exponent)
    if power == _PLAIN_EXPONENT:
        sign = "-" if digits.startswith("-") else ""
        return f"{sign}0.0000{digits.lstrip('-').replace('.', '')}"
    return f"{digits}e{power:+d}"
