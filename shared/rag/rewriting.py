"""A question in a conversation, made to stand for itself: what "it" and "the other one" mean was said before.

Rules only, so it costs nothing and says nothing that nobody said. A question that leans on what was said before (it
opens like a continuation, points back with a pronoun, or is very short) gets the words of the last questions that it
lacks put before it.
"""

import re
from collections.abc import Sequence
from typing import Final

from shared.rag.terms import query_terms

_LEAST_WORDS: Final = 3
"""Fewer words that mean something are no question of their own."""
_MOST_ADDED: Final = 12
_MOST_TURNS: Final = 3
_WORD: Final = re.compile(r"[^\W_]+(?:[-_.'\u2019][^\W_]+)*")
_OPENING: Final = re.compile(
    r"\s*(?:and|but|so|also|then|what about|how about|what else|why not|und|aber|was ist mit|wie sieht es mit|et|mais"
    r"|qu'en est-il|y|pero|qu\u00e9 hay de|e|ma|en|maar)\b",
    re.IGNORECASE,
)
_POINTING: Final = re.compile(
    r"\b(?:it|its|they|them|their|theirs|this|that|these|those|he|him|his|she|her|hers|there|then|such|same|former|latter"
    r"|(?:the )?(?:other|first|second|third|last|next|previous) ones?"
    r"|es|er|ihn|ihm|ihre?[mnrs]?|diese[mnrs]?|jene[mnrs]?|dessen|deren|dort|davon|dazu|daf\u00fcr|damit"
    r"|celui-ci|celle-ci|ceux-ci|cela|\u00e7a|leurs?|ce dernier"
    r"|eso|esto|\u00e9sta?|ello|ellos|ellas|sus|ci\u00f2|questo|quello|essi)\b"
    r"|\u5b83|\u4ed6|\u5979|\u8fd9|\u90a3",
    re.IGNORECASE,
)


def standalone(question: str, earlier: Sequence[str]) -> str:
    """The question as it is searched for.

    Args:
        question: the last turn of whoever asks.
        earlier: their turns before it, in order.
    """
    if not earlier or not _leans(question):
        return question
    known = set(query_terms(question))
    added: list[str] = []
    for turn in reversed(earlier[-_MOST_TURNS:]):
        fresh = []
        for word in _words(turn):
            terms = set(query_terms(word))
            if terms and not terms <= known and _means_something(word):
                known |= terms
                fresh.append(word)
        # The latest turns come nearest to the question.
        added = [*fresh, *added]
        # A turn that stands for itself needs none of those before it.
        if len(added) >= _MOST_ADDED or not _leans(turn):
            break
    return " ".join((*added[-_MOST_ADDED:], question)) if added else question


def _leans(question: str) -> bool:
    if _OPENING.match(question) or _POINTING.search(question):
        return True
    return sum(map(_means_something, _words(question))) < _LEAST_WORDS and not _is_unspaced(question)


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _means_something(word: str) -> bool:
    # Of a word that only asks, nothing is left beside one that does not.
    return len(query_terms(f"{word} zzzz")) > 1


def _is_unspaced(text: str) -> bool:
    """Whether it is written without spaces, where words cannot be counted this way."""
    return any(ord(letter) > 0x2E80 for letter in text)  # noqa: PLR2004 - where East Asian scripts begin
