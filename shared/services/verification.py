"""Whether an answer is good enough to be sent, as far as that can be told without knowing the right one. Pure.

Sources: JSON Schema (https://json-schema.org/draft/2020-12); agreement of several answers after Wang et al.,
"Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022), https://arxiv.org/abs/2203.11171.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import orjson

from shared.analysis.refusal_wording import is_refusal
from shared.domain.chat import ChatRequest, FormatKind, ResponseFormat
from shared.domain.replies import ChatReply, FinishReason

_REFUSING = (FinishReason.REFUSAL, FinishReason.CONTENT_FILTER, FinishReason.ERROR)
_WORDS = re.compile(r"\w+")
_NUMBERS = re.compile(r"\d+(?:[.,]\d+)*")
_SHORT_CHARS = 400
"""Up to this length two answers with other numbers in them are two different answers."""
_MAX_COMPARED_CHARS = 20_000
_BACKTRACK_LIMIT = 10_000
"""Steps of one pattern of a caller's schema on one string; past it the pattern counts as not met."""


def fault_of(reply: ChatReply, request: ChatRequest, *, longer_is_possible: bool) -> str | None:
    """What is wrong with an answer, as a word for records, or None.

    Args:
        reply: the answer.
        request: what was asked.
        longer_is_possible: whether another model could answer at greater length, so that being cut short is a fault.
    """
    text, calls = reply.text(), reply.tool_calls()
    if reply.finish_reason in _REFUSING:
        return "refusal"
    if not text.strip() and not calls:
        return "empty"
    if reply.finish_reason is FinishReason.LENGTH and longer_is_possible:
        return "truncated"
    if not calls and is_refusal(text):
        return "refusal"
    return form_fault_of(reply, request)


def form_fault_of(reply: ChatReply, request: ChatRequest) -> str | None:
    """What is wrong with the form of an answer: ``tool_arguments``, ``schema``, or None."""
    text, calls = reply.text(), reply.tool_calls()
    if not all(_call_fits(call.name, call.arguments_json, request) for call in calls):
        return "tool_arguments"
    if not calls and not _format_fits(text, request.response_format):
        return "schema"
    return None


def agreement(texts: Sequence[str]) -> float:
    """How alike answers to the same question are, in [0, 1]: the mean over all pairs; 1 for a single answer."""
    pairs = list(combinations([text[:_MAX_COMPARED_CHARS] for text in texts], 2))
    return math.fsum(_likeness(a, b) for a, b in pairs) / len(pairs) if pairs else 1.0


def _format_fits(text: str, wanted: ResponseFormat) -> bool:
    if wanted.kind is FormatKind.TEXT:
        return True
    value = _json(text)
    if wanted.kind is FormatKind.JSON_OBJECT or wanted.schema is None:
        return isinstance(value, dict)
    return value is not _NOT_JSON and _obeys(value, wanted.schema)


def _call_fits(name: str, arguments_json: str, request: ChatRequest) -> bool:
    tool = next((tool for tool in request.tools if tool.name == name), None)
    arguments = _json(arguments_json)
    return tool is not None and isinstance(arguments, dict) and _obeys(arguments, tool.parameters)


def _obeys(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value obeys a schema; a schema that is none, or refers outside of itself, is taken as obeyed."""
    # Imported where it is needed: most processes never run a cascade.
    import jsonschema_rs  # noqa: PLC0415 - 20 ms and 15 MB

    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_LIMIT)
    try:
        validator = jsonschema_rs.validator_for(dict(schema), pattern_options=options, offline=True)
    except ValueError:
        return True
    return bool(validator.is_valid(value))


_NOT_JSON = object()


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _NOT_JSON


def _likeness(a: str, b: str) -> float:
    first, second = _json(a), _json(b)
    if isinstance(first, dict | list) or isinstance(second, dict | list):
        return float(first == second)
    words_a, words_b = _WORDS.findall(a.casefold()), _WORDS.findall(b.casefold())
    if words_a == words_b:
        return 1.0
    if max(len(a), len(b)) <= _SHORT_CHARS and set(_NUMBERS.findall(a)) != set(_NUMBERS.findall(b)):
        return 0.0
    return _cosine(Counter(words_a), Counter(words_b))


def _cosine(a: Counter[str], b: Counter[str]) -> float:
    dot = sum(count * b[word] for word, count in a.items())
    norm = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return min(1.0, dot / norm) if norm else 0.0
