"""How hard a request is: a sum of named parts, every constant a judgement of ours."""

import math
import re
from dataclasses import dataclass
from typing import Final

from shared.analysis.hard_themes import DEEP, themes_in
from shared.analysis.wording import Wording
from shared.domain.chat import ChatRequest, FormatKind, ReasoningEffort
from shared.domain.features import Category, ComplexityLevel, Reason

_BASE: Final = {
    Category.CONVERSATION: 0.05,
    Category.CLASSIFICATION: 0.10,
    Category.EXTRACTION: 0.15,
    Category.TRANSLATION: 0.15,
    Category.SUMMARIZATION: 0.18,
    Category.QUESTION_ANSWERING: 0.18,
    Category.CREATIVE_WRITING: 0.22,
    Category.GROUNDED_ANSWER: 0.22,
    Category.UNKNOWN: 0.25,
    Category.CODE_GENERATION: 0.35,
    Category.CODE_REVIEW: 0.38,
    Category.MATH: 0.40,
    Category.REASONING: 0.40,
    Category.AGENTIC: 0.40,
}
_EFFORT: Final = {
    ReasoningEffort.NONE: -0.05,
    ReasoningEffort.LOW: 0.0,
    ReasoningEffort.MEDIUM: 0.1,
    ReasoningEffort.HIGH: 0.25,
}
_THEME = 0.1
_DEEP_THEME = 0.2
_MOST_BY_THEMES = 0.4
_DEEP_IN: Final = frozenset(
    {Category.CODE_GENERATION, Category.CODE_REVIEW, Category.MATH, Category.REASONING, Category.AGENTIC}
)
"""Where a deep theme is worked on; elsewhere (a summary of a proof) it is only talked about."""
_BRIEF_TASKS: Final = frozenset({Category.CODE_GENERATION, Category.CODE_REVIEW, Category.MATH, Category.AGENTIC})
"""Hard on average, but a dozen words of them rarely are."""
_BRIEF_WORDS: Final = 12
_CLAUSE: Final = re.compile(r"[,;:]\s|\band\b")
_REQUEST_CHARS: Final = 700
"""A paragraph longer than this is material, whose clauses ask for nothing."""
_DEMANDS: Final = frozenset(
    ("must", "should", "shall", "ensure", "exactly", "don't", "without", "only", "avoid", "include", "constraint")
)
_DEMANDING_PHRASES: Final = ("at least", "at most", "do not")
_LIST_ITEM: Final = re.compile(r"^\s{0,8}(?:[-*•]|\d{1,2}[.)])\s", re.MULTILINE)
_MEDIUM_FROM, _HIGH_FROM = 0.34, 0.6


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Complexity in [0, 1] with what made it."""

    score: float
    level: ComplexityLevel
    reasons: tuple[Reason, ...]


def difficulty_of(
    request: ChatRequest,
    category: Category,
    prompt_tokens: int,
    instruction: str,
    wording: Wording,
    *,
    has_code: bool,
) -> Difficulty:
    """Complexity of a request.

    Args:
        request: the request.
        category: its kind.
        prompt_tokens: its estimated length.
        instruction: what is asked, or its two ends.
        wording: its words.
        has_code: whether source code is part of it.
    """
    text = instruction.lower()
    parts = {
        f"category:{category.value}": _BASE[category],
        "prompt_length": min(0.2, 0.04 * math.log2(1 + prompt_tokens / 400)),
        "themes": _by_themes(wording, category),
        "clauses": min(0.18, 0.03 * max(0, _clauses(text) - 1)),
        "brevity": -0.08 if category in _BRIEF_TASKS and len(text.split(None, _BRIEF_WORDS)) <= _BRIEF_WORDS else 0.0,
        "instructions": min(0.15, 0.015 * _demands(wording)),
        "code": 0.05 if has_code else 0.0,
        "turns": min(0.1, 0.01 * (len(request.messages) - 1)),
        "tools": min(0.1, 0.02 * len(request.tools)),
        "schema": 0.05 if request.response_format.kind is FormatKind.JSON_SCHEMA else 0.0,
        "attachments": min(0.15, 0.08 * len(request.media())),
        "reasoning_effort": 0.0 if request.reasoning_effort is None else _EFFORT[request.reasoning_effort],
    }
    reasons = tuple(Reason(name, round(value, 4)) for name, value in parts.items() if value)
    score = min(1.0, max(0.0, sum(reason.contribution for reason in reasons)))
    return Difficulty(score, level_of(score), reasons)


def _by_themes(wording: Wording, category: Category) -> float:
    themes = themes_in(wording)
    deep = themes & DEEP if category in _DEEP_IN else frozenset()
    return min(_MOST_BY_THEMES, _THEME * len(themes - deep) + _DEEP_THEME * len(deep))


def _demands(wording: Wording) -> int:
    """Conditions that the answer must meet, as far as words and list marks show them."""
    counted = sum(map(wording.text.count, _DEMANDING_PHRASES)) + len(_LIST_ITEM.findall(wording.text))
    return counted + (sum(word in _DEMANDS for word in wording.words) if wording.vocabulary & _DEMANDS else 0)


def _clauses(text: str) -> int:
    """Joints of what is asked, in the first or the last paragraph."""
    ends = {text.partition("\n\n")[0], text.rpartition("\n\n")[2]}
    return max(sum(1 for _ in _CLAUSE.finditer(end)) if len(end) <= _REQUEST_CHARS else 0 for end in ends)


def level_of(score: float) -> ComplexityLevel:
    """The word for a score."""
    if score < _MEDIUM_FROM:
        return ComplexityLevel.LOW
    return ComplexityLevel.MEDIUM if score < _HIGH_FROM else ComplexityLevel.HIGH
