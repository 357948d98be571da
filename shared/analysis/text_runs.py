"""A text as runs of characters of one class, and the counts of them that tell how a tokenizer will cut it.

Tokenizers first split where the class changes (letters, digits, signs, spaces), then cut long or rare pieces further.
So the number of tokens is close to a weighted sum of run counts, run lengths and neighbourhoods: exact in length,
linear in time, a few array passes whatever the text. `infra/training/tokens.py` fits the weights.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]

_CLASSES: Final = (
    "none", "lower", "upper", "digit", "space", "newline", "tab", "stop", "quote", "bracket", "sign", "latin", "greek",
    "cyrillic", "hebrew", "arabic", "devanagari", "indic", "thai", "typographic", "kana", "han", "hangul", "wide",
    "emoji", "other",
)  # fmt: skip
_NUMBER: Final = {name: number for number, name in enumerate(_CLASSES)}
_K: Final = len(_CLASSES)
_ASCII_CLASSES: Final = (
    ("sign", "".join(map(chr, range(1, 32))) + "#$%&*+/=@\\^_|~\x7f"),
    ("lower", "abcdefghijklmnopqrstuvwxyz"),
    ("upper", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ("digit", "0123456789"),
    ("space", " "),
    ("newline", "\n\r"),
    ("tab", "\t"),
    ("stop", ".,!?;:'-"),
    ("quote", '"`'),
    ("bracket", "()[]{}<>"),
)  # fmt: skip
_BLOCKS: Final = (
    (0x80, "latin"), (0x300, "other"), (0x380, "greek"), (0x400, "cyrillic"), (0x580, "hebrew"), (0x600, "arabic"),
    (0x800, "other"), (0x900, "devanagari"), (0x980, "indic"), (0xE00, "thai"), (0xE80, "other"), (0x1E00, "latin"),
    (0x1F00, "greek"), (0x2000, "typographic"), (0x3000, "kana"), (0x3100, "han"), (0xA000, "other"),
    (0xAC00, "hangul"), (0xD800, "other"), (0xF900, "han"), (0xFB00, "arabic"), (0xFE00, "wide"), (0x10000, "other"),
    (0x1F000, "emoji"), (0x20000, "han"), (0x32000, "other"),
)  # fmt: skip
"""First code point of each class beyond ASCII, in steps of 128: Unicode's blocks, coarsely."""
_BLOCK_SHIFT: Final = 7
_MOST_LENGTH: Final = 31
"""Longer runs are counted as this long where a length matters; the sum of all lengths is exact."""
_SIGNS: Final = ("stop", "quote", "bracket", "sign")
_BY_CHAR_AND_RUN: Final = ("greek", "cyrillic", "hebrew", "arabic", "devanagari", "hangul")
"""Scripts with spaces: words are cut by their number and by their letters."""
_BY_CHAR: Final = ("latin", "indic", "thai", "typographic", "kana", "han", "wide", "emoji", "other")
LANGUAGES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("de", "fr", "es", "it", "pt", "nl", "pl", "tr"), ("lower", "latin")),
    "uk": ("cyrillic",),
}
"""Languages whose words are cut finer than those of English (Russian) in the same script; the letters that count."""
_START: Final = np.zeros(1, np.intp)


def _ascii_table() -> bytes:
    table = bytearray(256)
    for name, chars in _ASCII_CLASSES:
        for char in chars:
            table[ord(char)] = _NUMBER[name]
    return bytes(table)


def _block_table() -> npt.NDArray[np.uint8]:
    table = np.zeros(0x110000 >> _BLOCK_SHIFT, np.uint8)
    for first, name in _BLOCKS:
        table[first >> _BLOCK_SHIFT :] = _NUMBER[name]
    return table


_ASCII_TABLE: Final = _ascii_table()
_ASCII_ARRAY: Final = np.frombuffer(_ASCII_TABLE, np.uint8)
_BLOCK_TABLE: Final = _block_table()
_LENGTHS: Final = np.arange(_MOST_LENGTH + 1)
_COUNTED: Final = {
    **{("at least", length): length <= _LENGTHS for length in (1, 2)},
    **{("within", length): np.minimum(_LENGTHS, length) for length in (1, 2, 5, 9, 16, _MOST_LENGTH)},
    ("groups", 3): -(-_LENGTHS // 3),
}
"""What a run of each length adds to a class's counts: whole numbers, whose sums are exact in any order."""
_COUNTED_BY_LENGTH: Final = np.stack(tuple(_COUNTED.values()), axis=1).astype(np.float64)
_COLUMN: Final = {counted: column for column, counted in enumerate(_COUNTED)}


def _classes_of(text: str) -> npt.NDArray[np.uint8]:
    if text.isascii():
        return np.frombuffer(text.encode("ascii").translate(_ASCII_TABLE), np.uint8)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    ascii_class = _ASCII_ARRAY[np.minimum(points, 127)]
    return np.where(points < 128, ascii_class, _BLOCK_TABLE[points >> _BLOCK_SHIFT])  # noqa: PLR2004  # ASCII ends here


class _Table:
    """Runs by class and length, neighbours by class, characters by class."""

    def __init__(self, text: str) -> None:
        classes = _classes_of(text)
        borders = np.flatnonzero(classes[1:] != classes[:-1]) + 1
        starts = np.concatenate((_START, borders))
        lengths = np.concatenate((borders, (len(classes),))) - starts
        runs = classes[starts].astype(np.intp)
        slots = runs * (_MOST_LENGTH + 1) + np.minimum(lengths, _MOST_LENGTH)
        by_length = np.bincount(slots, minlength=_K * (_MOST_LENGTH + 1)).reshape(_K, -1)
        # Some fifty numbers are read from these: each costs less in a list than in an array.
        self._counts: list[list[float]] = (by_length @ _COUNTED_BY_LENGTH).tolist()
        self._pairs: list[int] = np.bincount(runs[:-1] * _K + runs[1:], minlength=_K * _K).tolist()
        self._chars: list[float] = np.bincount(runs, lengths, minlength=_K).tolist()

    def runs(self, name: str, at_least: int = 1) -> float:
        return self._counts[_NUMBER[name]][_COLUMN["at least", at_least]]

    def chars(self, name: str) -> float:
        return self._chars[_NUMBER[name]]

    def beyond(self, name: str, length: int) -> float:
        """Characters of runs after their first `length`."""
        return self.chars(name) - self._counts[_NUMBER[name]][_COLUMN["within", length]]

    def groups(self, name: str, size: int) -> float:
        """Pieces of at most `size` characters."""
        longest = max(0.0, self.beyond(name, _MOST_LENGTH))
        return self._counts[_NUMBER[name]][_COLUMN["groups", size]] + longest / size

    def pair(self, first: str, second: str) -> float:
        return float(self._pairs[_NUMBER[first] * _K + _NUMBER[second]])

    def touching(self, first: str, second: str) -> float:
        return self.pair(first, second) + self.pair(second, first)


def _features(table: _Table, language: str) -> dict[str, float]:
    found = {
        "words": table.runs("lower"),
        "letters_after_5": table.beyond("lower", 5),
        "letters_after_9": table.beyond("lower", 9),
        "capital_runs": table.runs("upper", 2),
        "capitals_after_2": table.beyond("upper", 2),
        "capitalised": table.pair("upper", "lower"),
        "letter_by_digit": table.touching("lower", "digit"),
        "capital_by_digit": table.touching("upper", "digit"),
        "digits": table.chars("digit"),
        "digit_groups": table.groups("digit", 3),
        "single_spaces": table.runs("space") - table.runs("space", 2),
        "space_runs": table.runs("space", 2),
        "spaces_by_16": table.beyond("space", 16) / 16,
        "digit_after_space": table.pair("space", "digit"),
        "line_ends": table.runs("newline"),
        "further_line_ends": table.beyond("newline", 1),
        "tab_indents": table.pair("newline", "tab"),
        "tab_runs": table.runs("tab") - table.pair("newline", "tab"),
        "line_ends_after_sign": sum(table.pair(sign, "newline") for sign in _SIGNS),
    }
    found |= {f"{name}_runs": table.runs(name) for name in (*_SIGNS, *_BY_CHAR_AND_RUN)}
    found |= {f"{name}_chars": table.chars(name) for name in (*_BY_CHAR_AND_RUN, *_BY_CHAR)}
    found |= {"stops_after_1": table.beyond("stop", 1), "signs_after_1": table.beyond("sign", 1)}
    found |= {
        f"letters_in_{name}": sum(map(table.chars, scripts)) if name == language else 0.0
        for name, scripts in LANGUAGES.items()
    }
    return found


FEATURES: Final = tuple(_features(_Table(" "), ""))
"""Names of the dimensions of `run_counts`."""


def run_counts(text: str, language: str) -> Counts:
    """The counts named by `FEATURES`.

    Args:
        text: any text; NUL characters separate and count nothing.
        language: ISO 639-1 code of most of it.
    """
    if not text:
        return np.zeros(len(FEATURES))
    return np.array(list(_features(_Table(text), language).values()))
