"""What words a text is found by.

The same analysis for documents and queries, whatever the language: which one a short query is in cannot be told, and a
wrong guess would make its words others than the document's. So the script of a word decides, not its language:

- Latin: small letters without accents, and the stem (`shared.rag.stemming`, whose rules for English endings do little
  harm elsewhere); the words of Western languages that say nothing are left out.
- Identifiers of code count whole and, for less, in their parts: `CombinedExecutor`, `read_timeout_ms`.
- Cyrillic, Greek and the like: words are cut to five letters, a plain stemmer that does nearly as well as one made for
  the language (McNamee, Nicholas, Mayfield: Addressing morphological variation in alphabetic languages, SIGIR 2009).
- Chinese, Japanese, Korean, Thai and others that write no spaces: pairs of neighbouring characters.

Counts are in quarters of an occurrence, so that they are whole numbers wherever they are stored.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from shared.rag.stemming import stem

QUARTERS: Final = 4
"""Units of one occurrence in the text."""
_PART: Final = 2
"""Of a part of an identifier."""
_PREFIX: Final = 4
"""Of a word in title or headings."""
MAX_COUNT: Final = 32_767
"""Counts and lengths end here: they are stored in two bytes."""
_MAX_WORD: Final = 64
"""Longer ones are no words (keys, base64): only so many characters of them count."""

_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
)
_MARKS: Final = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
"""Accents and vowel signs, which `re` holds for no part of a word."""
_LETTERS: Final = rf"(?:(?![{_UNSPACED}])(?:[^\W_]|[{_MARKS}]))+"
_PIECES: Final = re.compile(rf"[{_UNSPACED}]+|{_LETTERS}(?:_+{_LETTERS})*")
_IS_UNSPACED: Final = re.compile(rf"[{_UNSPACED}]")
_PARTS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_CASES: Final = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]|_")
_LATIN: Final = re.compile(r"[a-z0-9]+")
_CUT: Final = 5

_ENGLISH: Final = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to
    was will with"""
"""Lucene's set."""
_WESTERN: Final = """
    der das dem den des und ist ein eine einer einem einen zu im auf fur mit nicht von sich auch
    le la les du et est une dans pour que qui sur pas au aux
    el los las y es un una en por con para del se
    il lo gli e di che non per della dei
    o os um uma em do da dos das na
    het een van te dat niet zijn op"""
"""German, French, Spanish, Italian, Portuguese, Dutch: articles and what joins, without accents. None of them means
much in English."""
_ASKING: Final = """
    what which who whom whose when where why how does do did can could should would may might must i you we he she his
    her its our your my me us them from about has have had been being were am so than too very just also tell please
    wer was wann wo warum wie welche welcher welches wurde wird werden hat haben sind
    quel quelle quels quelles quand comment pourquoi ou sont ont
    cual cuales cuando donde como quien fue son
    quale quali quando dove come chi sono"""
"""What questions are made of."""
_STOP_WORDS: Final = frozenset((_ENGLISH + _WESTERN).split())
_ASKING_WORDS: Final = _STOP_WORDS | frozenset(_ASKING.split())


def text_terms(text: str, prefix: str = "") -> Mapping[str, int]:
    """The words of a chunk and how often they stand in it, in quarters; title and headings count like the text."""
    counts: Counter[str] = Counter()
    _count(counts, text, _STOP_WORDS, QUARTERS)
    if prefix:
        _count(counts, prefix, _STOP_WORDS, _PREFIX)
    return {term: min(count, MAX_COUNT) for term, count in counts.items()}


def query_terms(text: str) -> Mapping[str, float]:
    """The words of a query with their weights; without the words that only ask, when others remain."""
    counts: Counter[str] = Counter()
    _count(counts, text, _ASKING_WORDS, QUARTERS)
    if not counts:
        _count(counts, text, _STOP_WORDS, QUARTERS)
    return {term: count / QUARTERS for term, count in counts.items()}


def telling_terms(text: str) -> frozenset[str]:
    """The words of a query without those that only ask; none when it has no others."""
    counts: Counter[str] = Counter()
    _count(counts, text, _ASKING_WORDS, QUARTERS)
    return frozenset(counts)


def length(terms: Mapping[str, int]) -> int:
    """Of a chunk, as its words are counted."""
    return min(sum(terms.values()), MAX_COUNT)


def _count(counts: Counter[str], text: str, stop_words: frozenset[str], unit: int) -> None:
    for word in _PIECES.findall(text):
        for term, folded, share in _terms(word[:_MAX_WORD]):
            if folded not in stop_words:
                counts[term] += unit * share // QUARTERS


@lru_cache(maxsize=65_536)
def _terms(word: str) -> tuple[tuple[str, str, int], ...]:
    """Terms of a piece of text without spaces and punctuation: as counted, as written, and in quarters of a count."""
    if _IS_UNSPACED.match(word):
        return tuple((pair, pair, QUARTERS) for pair in _pairs(unicodedata.normalize("NFKC", word)))
    folded = _folded(word)
    whole = (_stemmed(folded), folded, QUARTERS)
    parts = [part.lower() for part in _PARTS.findall(word)] if _CASES.search(word) else []
    if len(parts) < 2:  # noqa: PLR2004 - one part is the whole
        return (whole,)
    return (whole, *((stem(part), part, _PART) for part in parts if len(part) > 1))


def _pairs(run: str) -> Iterable[str]:
    return (run[start : start + 2] for start in range(max(1, len(run) - 1)))


def _folded(word: str) -> str:
    """Small letters, compatibility forms replaced, accents taken off Latin letters."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _stemmed(folded: str) -> str:
    if _LATIN.fullmatch(folded):
        return stem(folded)
    if folded.isascii():
        return folded
    return folded[:_CUT] if folded[0] > "\u036f" else stem(folded)
