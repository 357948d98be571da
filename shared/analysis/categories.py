"""What kind of task a request is: weighted cue rules, with honest doubt.

Words and short phrases of the instruction count for categories; what the request is made of (tools, code, a schema)
counts too. Scores become probabilities in which UNKNOWN keeps a share of its own, so that thin evidence stays thin.

What to expect: rules know the phrases they were given. Of 26 requests in phrasings that were kept apart while the cues
were written, 9 were placed right, 9 were left unknown, 8 were placed wrong.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from shared.analysis.category_cues import CJK_CUES, CUES, FAIR, STRONG
from shared.domain.features import Category

Probabilities = tuple[tuple[Category, float], ...]
"""Every category with its probability, most probable first; they sum to 1."""

_DOUBT: Final = 2.2
"""Weight of UNKNOWN; a category overtakes it at a score of ln(1 + 2.2), about 1.2."""
_MAX_SCORE: Final = 7.0
_NEAR_WORDS: Final = 60
"""Instructions stand at the beginning or the end; what lies between is mostly material."""
_MATERIAL_SHARE: Final = 0.3
_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # noqa: RUF001  # the typographic apostrophe is meant

_MULTIPLE_CHOICE: Final = re.compile(r"(?:^|\n| )\(?A[).:] .{1,600}?(?:\n| )\(?B[).:] ", re.DOTALL)
_SUM: Final = re.compile(r"\d(?:\s{0,3}[+*×÷^=]\s{0,3}\d|\s[-/]\s\d)")  # noqa: RUF001  # the multiplication sign is meant
_UNKNOWN_X: Final = re.compile(r"x\s{0,2}[=^]\s{0,2}\d")
_FORMULA_MARKS: Final = ("\\frac", "\\int", "\\sum", "\\sqrt", "\\begin{", "√", "∫", "∑")
_MATERIAL_MARKS: Final = re.compile(
    r"<(?:document|context|passage|source)s?\b|^(?:context|passage|document|sources?):", re.IGNORECASE | re.MULTILINE
)
_DIFF: Final = re.compile(r"^(?:diff --git |@@ -\d|\+\+\+ b/)", re.MULTILINE)
_SHORT_WORDS: Final = 12
_FEW_NUMBERS: Final = 2
_MAX_PROBLEM_WORDS: Final = 120
_QUESTION_MARKS: Final = frozenset("?？؟")  # noqa: RUF001  # those of other scripts too
_GENERAL: Final = (Category.QUESTION_ANSWERING, Category.CONVERSATION)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a request is made of, beside its words.

    Attributes:
        instruction: text of the last user turn, or its two ends when it is long.
        system: beginning of the system text.
        has_code: whether source code is part of the request.
        offers_tools: whether the model may call tools.
        used_tools: whether tools were called in earlier turns.
        wants_schema: whether the answer must obey a JSON schema.
        turns: messages so far.
    """

    instruction: str
    system: str = ""
    has_code: bool = False
    offers_tools: bool = False
    used_tools: bool = False
    wants_schema: bool = False
    turns: int = 1


def classify(evidence: Evidence) -> Probabilities:
    """Probabilities over the taxonomy."""
    scores = dict.fromkeys(CUES, 0.0)
    words = _WORD.findall(evidence.instruction.lower())
    _add_cues(scores, words, 1.0)
    _add_cues(scores, _WORD.findall(evidence.system[:2000].lower()), 0.4)
    if not evidence.instruction.isascii():
        for category, pattern in CJK_CUES:
            if pattern.search(evidence.instruction):
                scores[category] += STRONG
    _add_structure(scores, evidence, words)
    _yield_to_particular(scores, evidence, words)
    return _probabilities(scores)


def _add_cues(scores: dict[Category, float], words: list[str], share: float) -> None:
    seen: set[str] = set()
    last = len(words)
    for position, first in enumerate(words):
        longest = _LONGEST_BY_FIRST_WORD.get(first)
        if longest is None:
            continue
        near = position < _NEAR_WORDS or position >= last - _NEAR_WORDS
        for end in range(position + 1, min(position + longest, last) + 1):
            phrase = " ".join(words[position:end])
            if phrase in seen or phrase not in _BY_PHRASE:
                continue
            seen.add(phrase)
            for category, weight in _BY_PHRASE[phrase]:
                gain = weight * share if near else weight * share * _MATERIAL_SHARE
                # A second cue of the same kind adds less than the first.
                scores[category] += gain if scores[category] < STRONG else gain / 3


def _add_structure(scores: dict[Category, float], evidence: Evidence, words: list[str]) -> None:
    text = evidence.instruction
    if evidence.offers_tools:
        scores[Category.AGENTIC] += 4.0
    if evidence.used_tools:
        scores[Category.AGENTIC] += 1.5
    if evidence.wants_schema:
        scores[Category.EXTRACTION] += 0.9
    if evidence.has_code:
        _add_code(scores, text)
    else:
        scores[Category.MATH] += _mathematics(text, words)
    if _MATERIAL_MARKS.search(text):
        scores[Category.GROUNDED_ANSWER] += 2.0
    if _MULTIPLE_CHOICE.search(text):
        scores[Category.QUESTION_ANSWERING] += 2.2
    if text.rstrip()[-1:] in _QUESTION_MARKS:
        scores[Category.QUESTION_ANSWERING] += 0.7


def _yield_to_particular(scores: dict[Category, float], evidence: Evidence, words: list[str]) -> None:
    """Questions and greetings are part of every kind of request: a particular kind goes before them."""
    if len(words) > _SHORT_WORDS and evidence.turns == 1:
        scores[Category.CONVERSATION] /= 4
    if any(score >= STRONG for category, score in scores.items() if category not in _GENERAL):
        for category in _GENERAL:
            scores[category] /= 2


def _mathematics(text: str, words: list[str]) -> float:
    formula = _SUM.search(text) or _UNKNOWN_X.search(text) or any(mark in text for mark in _FORMULA_MARKS)
    numbers = sum(word.isdecimal() for word in words)
    word_problem = numbers >= _FEW_NUMBERS and len(words) <= _MAX_PROBLEM_WORDS and "how" in words
    return (1.8 if formula else 0.0) + (1.5 if word_problem else 0.0)


def _add_code(scores: dict[Category, float], text: str) -> None:
    # "Function" or "review" means code where code is; alone the word means little.
    scores[Category.CODE_REVIEW] += 1.6 if scores[Category.CODE_REVIEW] >= FAIR else 0.6
    scores[Category.CODE_GENERATION] += 1.0
    if _DIFF.search(text):
        scores[Category.CODE_REVIEW] += 2.0


def _probabilities(scores: Mapping[Category, float]) -> Probabilities:
    weights = {category: math.expm1(min(score, _MAX_SCORE)) for category, score in scores.items()}
    weights[Category.UNKNOWN] = _DOUBT
    total = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0].value))
    return tuple((category, weight / total) for category, weight in ranked)


def _index() -> dict[str, list[tuple[Category, float]]]:
    by_phrase: dict[str, list[tuple[Category, float]]] = {}
    for category, groups in CUES.items():
        for weight, phrases in groups.items():
            for phrase in phrases.split(","):
                by_phrase.setdefault(" ".join(_WORD.findall(phrase)), []).append((category, weight))
    return by_phrase


_BY_PHRASE: Final = _index()
_LONGEST_BY_FIRST_WORD: Final = {
    first: max(len(phrase.split()) for phrase in phrases)
    for first, phrases in groupby(sorted(_BY_PHRASE), key=lambda phrase: phrase.split(" ", 1)[0])
}
"""Most words have no cue that begins with them, and cost one look-up."""
