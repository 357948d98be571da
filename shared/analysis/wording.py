"""The words of what is asked, found once for everything that looks for words in it."""

import re
from dataclasses import dataclass
from typing import Final

_END_CHARS: Final = 800
"""How long, how hard, how strict: people say it near either end of what they ask."""
_WORD: Final = re.compile(r"[^\W\d_]++(?:[-'’][^\W\d_]+)?")  # noqa: RUF001  # the typographic apostrophe is meant
_ASCII_WORD: Final = re.compile(r"[a-z]++(?:[-'][a-z]+)?")
"""The same for lower-case ASCII."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The two ends of an instruction.

    Attributes:
        text: in lower case.
        words: in order; compounds with a hyphen are one word.
        vocabulary: the different ones, with the parts of compounds.
    """

    text: str
    words: tuple[str, ...]
    vocabulary: frozenset[str]


def wording_of(instruction: str) -> Wording:
    """The words at the two ends of an instruction."""
    lowered = instruction.lower()
    text = lowered if len(lowered) <= 2 * _END_CHARS else f"{lowered[:_END_CHARS]} {lowered[-_END_CHARS:]}"
    words = tuple((_ASCII_WORD if text.isascii() else _WORD).findall(text))
    vocabulary = set(words)
    vocabulary |= {part for word in words if "-" in word for part in word.split("-")}
    return Wording(text, words, frozenset(vocabulary))
