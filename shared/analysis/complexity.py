"""How hard a request is and how long its answer will be: sums of named parts, every constant a judgement of ours."""

import math
import re
from dataclasses import dataclass
from typing import Final

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
_DEMANDING: Final = re.compile(
    r"\b(?:step by step|prove|proof|derive|refute|optimi[sz]e|trade-?offs?|architecture|concurren\w{0,6}|distributed"
    r"|edge cases?|theorem|asymptotic|thread-?safe|lock-?free|formal\w{0,3}|rigorous\w{0,2}|comprehensive|in depth"
    r"|production-ready|design a|migrat\w{1,5}|root cause|multi-?step|backward\w? compatib\w{1,7}|audit|crash recovery"
    r"|infinitely|for every|weigh\w{0,3}|hypothes[ei]s|contradict\w{0,4}|counterexample|assumptions?|ambigu\w{1,5}"
    r"|second-order|irreversible|vulnerabilit\w{1,3}|security release|strict\w{0,2}|consensus|under load|phased?)\b"
)
_BRIEF_TASKS: Final = frozenset({Category.CODE_GENERATION, Category.CODE_REVIEW, Category.MATH, Category.AGENTIC})
"""Hard on average, but a dozen words of them rarely are."""
_BRIEF_WORDS: Final = 12
_CLAUSE: Final = re.compile(r"[,;:]\s|\band\b")
_REQUEST_CHARS: Final = 700
"""A paragraph longer than this is material, whose clauses ask for nothing."""
_DEMAND: Final = re.compile(
    r"\b(?:must|should|shall|ensure|at least|at most|exactly|do not|don't|without|only|avoid|include|constraint)\b"
    r"|^\s{0,8}(?:[-*•]|\d{1,2}[.)])\s",
    re.MULTILINE,
)
_MEDIUM_FROM, _HIGH_FROM = 0.34, 0.62

_OUTPUT_TOKENS: Final = {
    Category.CLASSIFICATION: 20,
    Category.CONVERSATION: 60,
    Category.EXTRACTION: 150,
    Category.QUESTION_ANSWERING: 200,
    Category.GROUNDED_ANSWER: 220,
    Category.SUMMARIZATION: 200,
    Category.TRANSLATION: 150,
    Category.AGENTIC: 200,
    Category.UNKNOWN: 300,
    Category.MATH: 400,
    Category.REASONING: 600,
    Category.CODE_REVIEW: 600,
    Category.CODE_GENERATION: 700,
    Category.CREATIVE_WRITING: 600,
}
_THINKING_TOKENS: Final = {ReasoningEffort.LOW: 200, ReasoningEffort.MEDIUM: 800, ReasoningEffort.HIGH: 2500}
"""Billed as output."""
_ASKED_LENGTH: Final = re.compile(
    r"\b(\d{1,5}|one|two|three|four|five|six|seven|eight|nine|ten|a single|a)[ -]{1,2}"
    r"(words?|sentences?|paragraphs?|pages?|bullet points?|bullets|lines?)\b"
)
_TOKENS_PER: Final = {"word": 1.35, "sentence": 28, "paragraph": 110, "page": 650, "bullet": 30, "line": 14}
_NUMBER_WORDS: Final = ("a", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS: Final = {word: max(1, number) for number, word in enumerate(_NUMBER_WORDS)} | {"a single": 1}
_BRIEF: Final = re.compile(r"\b(?:briefly|brief|concise\w{0,2}|short answer|one word|yes or no|just the|only the)\b")
_LONG: Final = re.compile(r"\b(?:in detail|detailed|comprehensive|thorough\w{0,2}|long-form|in depth|exhaustive)\b")
_LENGTH_WINDOW: Final = 800
"""Wishes for length stand near either end of what is asked."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Complexity in [0, 1] with what made it."""

    score: float
    level: ComplexityLevel
    reasons: tuple[Reason, ...]


def difficulty_of(
    request: ChatRequest, category: Category, prompt_tokens: int, instruction: str, *, has_code: bool
) -> Difficulty:
    """Complexity of a request.

    Args:
        request: the request.
        category: its kind.
        prompt_tokens: its estimated length.
        instruction: what is asked, or its two ends.
        has_code: whether source code is part of it.
    """
    text = instruction.lower()
    parts = {
        f"category:{category.value}": _BASE[category],
        "prompt_length": min(0.2, 0.04 * math.log2(1 + prompt_tokens / 400)),
        "demanding_words": min(0.3, 0.1 * len(set(_DEMANDING.findall(_ends(text))))),
        "clauses": min(0.18, 0.03 * max(0, _clauses(text) - 1)),
        "brevity": -0.08 if category in _BRIEF_TASKS and len(text.split(None, _BRIEF_WORDS)) <= _BRIEF_WORDS else 0.0,
        "instructions": min(0.15, 0.015 * sum(1 for _ in _DEMAND.finditer(text))),
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


def _ends(text: str) -> str:
    return text if len(text) <= 2 * _LENGTH_WINDOW else f"{text[:_LENGTH_WINDOW]} {text[-_LENGTH_WINDOW:]}"


def _clauses(text: str) -> int:
    """Joints of what is asked, in the first or the last paragraph."""
    ends = {text.partition("\n\n")[0], text.rpartition("\n\n")[2]}
    return max(sum(1 for _ in _CLAUSE.finditer(end)) if len(end) <= _REQUEST_CHARS else 0 for end in ends)


def level_of(score: float) -> ComplexityLevel:
    """The word for a score."""
    if score < _MEDIUM_FROM:
        return ComplexityLevel.LOW
    return ComplexityLevel.MEDIUM if score < _HIGH_FROM else ComplexityLevel.HIGH


def expected_output_tokens(request: ChatRequest, category: Category, prompt_tokens: int, instruction: str) -> int:
    """Point estimate of the answer's tokens, thinking included, within what the request allows."""
    text = _ends(instruction.lower())
    asked = _ASKED_LENGTH.search(text)
    if asked is not None:
        number = _NUMBERS.get(asked[1]) or int(asked[1])
        tokens = number * next(rate for unit, rate in _TOKENS_PER.items() if asked[2].startswith(unit))
    else:
        tokens = _by_category(category, prompt_tokens)
        if _BRIEF.search(text):
            tokens *= 0.4
        elif _LONG.search(text):
            tokens *= 2
    if request.reasoning_effort is not None:
        tokens += _THINKING_TOKENS.get(request.reasoning_effort, 0)
    limit = request.max_output_tokens
    expected = max(1, math.ceil(tokens))
    return expected if limit is None else min(expected, limit)


def _by_category(category: Category, prompt_tokens: int) -> float:
    usual = _OUTPUT_TOKENS[category]
    match category:
        case Category.TRANSLATION:
            return max(20.0, 1.1 * prompt_tokens)
        case Category.SUMMARIZATION:
            return min(1200.0, max(usual, 0.12 * prompt_tokens))
        case Category.EXTRACTION | Category.CODE_REVIEW:
            return min(3000.0, max(usual, 0.25 * prompt_tokens))
        case _:
            return float(usual)
