"""Ways to hide something from a reader who looks at characters, and the plain text behind them.

Invisible characters, look-alike letters, full-width and other digits, escapes, and text wrapped in Base64 or hex. What
is plain already costs one look.
"""
# ruff: noqa: RUF001  # the unusual characters are what is looked for

import base64
import binascii
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shared.analysis.detectors.detector import fast

_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\U000e0000-\U000e01ef"
)
"""Soft hyphens, zero-width characters, direction marks, variation selectors, tags (Unicode: Default_Ignorable)."""
DISGUISE_TRIGGERS: Final = (
    rf"[{_INVISIBLE}]",
    r"[\x{ff01}-\x{ff5e}\x{1d400}-\x{1d7ff}\x{2070}-\x{209c}\x{2460}-\x{24ff}]",
    r"[\x{660}-\x{669}\x{6f0}-\x{6f9}\x{966}-\x{96f}\x{9e6}-\x{9ef}\x{e50}-\x{e59}]",
    r"[A-Za-z0-9@._-][\x{370}-\x{3ff}\x{400}-\x{4ff}]|[\x{370}-\x{3ff}\x{400}-\x{4ff}][A-Za-z0-9@._-]",
    r"\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|%(?:40|2[deb]|3[0-9])|&#x?[0-9]",
)
"""Of which one occurs in every text that is not plain."""
_ESCAPE: Final = re.compile(
    r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|%([2-7][0-9a-fA-F])|&#(?:x([0-9a-fA-F]{2,4})|([0-9]{2,5}));"
)
"""JSON and programming languages, URLs (RFC 3986), HTML."""
_DROPPED: Final = re.compile(f"[{_INVISIBLE}]")
_NOT_ONE_BY_ONE: Final = re.compile(f"{_DROPPED.pattern}|{_ESCAPE.pattern}")

_LOOK_ALIKES: Final = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧανορ",
        "ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXavop",
        strict=True,
    )
)
"""Cyrillic and Greek letters that look like Latin ones (https://www.unicode.org/Public/security/latest/confusables.txt)."""


def _folds() -> dict[int, str]:
    """Characters that stand for one plain one."""
    table = {ord(strange): plain for strange, plain in _LOOK_ALIKES.items()}
    ranges = ((0xFF01, 0xFF5E), (0x1D400, 0x1D7FF), (0x2070, 0x209C), (0x2460, 0x24FF))
    for first, last in (*ranges, *((zero, zero + 9) for zero in (0x660, 0x6F0, 0x966, 0x9E6, 0xE50))):
        for code in range(first, last + 1):
            char = chr(code)
            digit = unicodedata.decimal(char, None)
            plain = str(digit) if digit is not None else unicodedata.normalize("NFKC", char)
            if len(plain) == 1 and plain != char:
                table[code] = plain
    return table


_FOLDS: Final = _folds()


@dataclass(frozen=True, slots=True)
class PlainView:
    """A text without its disguise, and where its characters were.

    Attributes:
        cuts: for each stretch, its start in `text` and its start in the original.
        original_length: of the original, in characters.
    """

    text: str
    cuts: tuple[tuple[int, int], ...]
    original_length: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the original of a place in the view."""
        return self._at(start), self._at(end - 1, is_last=True)

    def _at(self, place: int, *, is_last: bool = False) -> int:
        index = bisect_right(self.cuts, (place, self.original_length)) - 1
        viewed, original = self.cuts[index]
        after = self.cuts[index + 1] if index + 1 < len(self.cuts) else (len(self.text), self.original_length)
        begin = original + place - viewed
        if not is_last:
            return begin
        # The last character of a stretch may stand for several of the original: its escape.
        return after[1] if place + 1 == after[0] and after[1] - original != after[0] - viewed else begin + 1


def undisguised(text: str) -> PlainView | None:
    """The text as a reader takes it, or None when it is plain after all."""
    pieces: list[str] = []
    cuts: list[tuple[int, int]] = []
    length = done = 0
    for start, end, meant in _replacements(text):
        if start < done:
            continue
        if start > done:
            cuts.append((length, done))
            pieces.append(text[done:start])
            length += start - done
        if meant:
            cuts.append((length, start))
            pieces.append(meant)
            length += len(meant)
        done = end
    cuts.append((length, done))
    pieces.append(text[done:])
    plain = "".join(pieces).translate(_FOLDS)
    return None if plain == text else PlainView(plain, tuple(cuts), len(text))


def _replacements(text: str) -> Iterator[tuple[int, int, str]]:
    """Places whose characters are not one by one those of the plain text, in order."""
    for match in _NOT_ONE_BY_ONE.finditer(text):
        yield match.start(), match.end(), _meant(match) if match.lastindex else ""


def _meant(escape: re.Match[str]) -> str:
    digits = escape[escape.lastindex or 0]
    code = int(digits, 10 if escape.lastindex == escape.re.groups else 16)
    char = chr(code) if code <= 0x10FFFF else ""  # noqa: PLR2004  # the last code point
    return "" if _DROPPED.fullmatch(char) else char


# --- wrapped texts ---------------------------------------------------------------------------------------------------

_WRAPPED: Final = fast(r"[A-Za-z0-9+/_-]{20,}={0,2}", ignore_case=False)
WRAPPED_TRIGGER: Final = r"[A-Za-z0-9+/_-]{20}"
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")
_MAX_WRAPPED: Final = 64
_MAX_WRAPPED_CHARS: Final = 256 * 1024
"""Of all that is unwrapped of one text; more of it is found by nobody in one request."""
_MOST_STRANGE: Final = 0.05


def unwrapped(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of stretches that are text in Base64 (also its URL form) or hex.

    Bounded: what lies within such a stretch is not unwrapped again, and beyond some number and length nothing is.
    """
    left_chars = _MAX_WRAPPED_CHARS
    tried = 0
    for match in _WRAPPED.finditer(text):
        wrapped = text[match.start() : match.end()]
        if tried == _MAX_WRAPPED or len(wrapped) > left_chars:
            return
        content = _decoded(wrapped)
        if content is not None:
            tried += 1
            left_chars -= len(wrapped)
            yield match.start(), match.end(), content


def _decoded(wrapped: str) -> str | None:
    """The text, or None for what is no text: keys, hashes, names, pictures."""
    for data in _candidates(wrapped):
        try:
            plain = data.decode()
        except UnicodeDecodeError:
            continue
        strange = sum(1 for char in plain[:512] if not (char.isprintable() or char in "\r\n\t"))
        if strange <= _MOST_STRANGE * min(len(plain), 512):
            return plain
    return None


def _candidates(wrapped: str) -> Iterator[bytes]:
    if len(wrapped) % 2 == 0 and _HEX.fullmatch(wrapped):
        yield bytes.fromhex(wrapped)
        return
    body = wrapped.rstrip("=")
    usual = body.replace("-", "+").replace("_", "/")
    if len(body) % 4 == 1:
        return
    try:
        yield base64.b64decode(usual + "=" * (-len(usual) % 4), validate=True)
    except (binascii.Error, ValueError):
        return
