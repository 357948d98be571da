"""Word stems of English: the Porter2 algorithm.

Words that differ only in their endings (`connect`, `connected`, `connections`) count as one word of a search. The stem
is a key and not for people: `generous` becomes `generous`, `generalized` becomes `general`.

Source: https://snowballstem.org/algorithms/english/stemmer.html; on Snowball's own vocabulary a test compares samples.
"""

import re
from functools import lru_cache
from typing import Final

_VOWEL: Final = "aeiouy"
_REGION: Final = re.compile(r"[aeiouy][^aeiouy]")
_PREFIXES: Final = ("gener", "commun", "arsen", "past", "univers", "later", "emerg", "organ", "inter")
"""After these the first region begins: otherwise `general` and `generate` would be one word."""
_WHOLE: Final = {
    "skis": "ski",
    "skies": "sky",
    "idly": "idl",
    "gently": "gentl",
    "singly": "singl",
    "early": "earli",
    "only": "onli",
    "ugly": "ugli",
    "sky": "sky",
    "news": "news",
    "howe": "howe",
    "atlas": "atlas",
    "cosmos": "cosmos",
    "bias": "bias",
    "andes": "andes",
}
_STOP_AFTER_1A: Final = frozenset(
    {"inning", "outing", "canning", "herring", "earring", "evening", "exceed", "proceed", "succeed"}
)
_DOUBLES: Final = frozenset({"bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt"})
_STEP2: Final = (
    ("ational", "ate"),
    ("ization", "ize"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("iveness", "ive"),
    ("tional", "tion"),
    ("biliti", "ble"),
    ("lessli", "less"),
    ("entli", "ent"),
    ("ation", "ate"),
    ("alism", "al"),
    ("aliti", "al"),
    ("ousli", "ous"),
    ("iviti", "ive"),
    ("fulli", "ful"),
    ("ogist", "og"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("abli", "able"),
    ("izer", "ize"),
    ("ator", "ate"),
    ("alli", "al"),
    ("bli", "ble"),
)
_STEP3: Final = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("alize", "al"),
    ("icate", "ic"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ness", ""),
    ("ful", ""),
)
_STEP4: Final = (
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous", "ive", "ize",
    "al", "er", "ic",
)  # fmt: skip


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The stem of a word in small letters; words of two letters stay as they are."""
    if len(word) <= 2:  # noqa: PLR2004 - the algorithm's own limit
        return word
    if word in _WHOLE:
        return _WHOLE[word]
    # A consonant y is written Y until the end.
    word = re.sub(r"(?:^|(?<=[aeiouy]))y", "Y", word)
    first, second = _regions(word)
    word = _step_1a(word)
    if word in _STOP_AFTER_1A:
        return word
    word = _step_1b(word, first)
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in _VOWEL:  # noqa: PLR2004 - as above
        word = word[:-1] + "i"
    word = _step_2(word, first)
    word = _step_3(word, first, second)
    word = _step_4(word, second)
    return _step_5(word, first, second).replace("Y", "y")


def _regions(word: str) -> tuple[int, int]:
    """Where the two regions begin in which endings may be taken off."""
    prefix = next((prefix for prefix in _PREFIXES if word.startswith(prefix)), None)
    first = len(prefix) if prefix else _after_syllable(word, 0)
    return first, _after_syllable(word, first)


def _after_syllable(word: str, start: int) -> int:
    found = _REGION.search(word, start)
    return found.end() if found else len(word)


def _is_short_syllable_at_end(word: str) -> bool:
    if len(word) == 2:  # noqa: PLR2004 - a vowel and a consonant
        return word[0] in _VOWEL and word[1] not in _VOWEL
    return word == "past" or (
        len(word) > 2  # noqa: PLR2004 - consonant, vowel, consonant
        and word[-1] not in "aeiouywxY"
        and word[-2] in _VOWEL
        and word[-3] not in _VOWEL
    )


def _step_1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]  # noqa: PLR2004 - `ties` becomes `tie`
    if word.endswith("s") and not word.endswith(("us", "ss")) and any(letter in _VOWEL for letter in word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, first: int) -> str:
    for ending in ("eedly", "eed"):
        if word.endswith(ending):
            return word[: -len(ending)] + "ee" if len(word) - len(ending) >= first else word
    ending = next((ending for ending in ("ingly", "edly", "ing", "ed") if word.endswith(ending)), "")
    rest = word[: len(word) - len(ending)]
    if not ending or not any(letter in _VOWEL for letter in rest):
        return word
    if ending.startswith("ing") and len(rest) == 2 and rest[-1] == "y" and rest[0] not in _VOWEL:  # noqa: PLR2004 - `dying`
        return rest[:-1] + "ie"
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if rest[-2:] in _DOUBLES:
        # `add`, `egg` and `off` keep both letters.
        return rest if len(rest) == 3 and rest[0] in "aeo" else rest[:-1]  # noqa: PLR2004 - as said
    if first >= len(rest) and _is_short_syllable_at_end(rest):
        return rest + "e"
    return rest


def _step_2(word: str, first: int) -> str:
    for ending, replacement in _STEP2:
        if word.endswith(ending):
            return word[: -len(ending)] + replacement if len(word) - len(ending) >= first else word
    if word.endswith("ogi") and len(word) - 3 >= first and word[-4:-3] == "l":
        return word[:-1]
    if word.endswith("li") and len(word) - 2 >= first and word[-3:-2] in set("cdeghkmnrt"):
        return word[:-2]
    return word


def _step_3(word: str, first: int, second: int) -> str:
    for ending, replacement in _STEP3:
        if word.endswith(ending):
            return word[: -len(ending)] + replacement if len(word) - len(ending) >= first else word
    if word.endswith("ative") and len(word) - 5 >= second:
        return word[:-5]
    return word


def _step_4(word: str, second: int) -> str:
    for ending in _STEP4:
        if word.endswith(ending):
            return word[: -len(ending)] if len(word) - len(ending) >= second else word
    if word.endswith(("sion", "tion")) and len(word) - 3 >= second:
        return word[:-3]
    return word


def _step_5(word: str, first: int, second: int) -> str:
    last = len(word) - 1
    if word.endswith("e") and (last >= second or (last >= first and not _is_short_syllable_at_end(word[:-1]))):
        return word[:-1]
    if word.endswith("ll") and last >= second:
        return word[:-1]
    return word
