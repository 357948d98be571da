"""What an answer shows of its quality by itself, at a glance: microseconds, and no content in what comes of it. Pure.

Whether JSON obeys its schema costs more and is looked at behind the response (`shared.services.quality_watch`).
"""

import re

from shared.analysis.refusal_wording import is_refusal
from shared.domain.chat import ChatRequest, FormatKind
from shared.domain.quality_signals import Sign
from shared.domain.replies import ChatReply, FinishReason

SHORT_CHARS = 600
"""Longer answers that begin as refusals do usually go on to help."""
_TAIL_CHARS = 600
_LONGEST_UNIT_CHARS = 150
"""The tail holds a unit at least four times."""
_LEAST_LETTERS = 3
"""Of a unit: zeros of a matrix and lines of dashes are no loop."""
_LETTERS = re.compile(r"[^\W\d_]")
_REFUSING = frozenset({FinishReason.REFUSAL, FinishReason.CONTENT_FILTER})


def signs_of(reply: ChatReply, request: ChatRequest) -> frozenset[Sign]:
    """What is seen of a whole answer as the model gave it.

    Args:
        reply: the answer.
        request: what was asked.
    """
    if reply.finish_reason in _REFUSING:
        return frozenset({Sign.REFUSED})
    text, calls = reply.text(), reply.tool_calls()
    found = set[Sign]()
    if reply.finish_reason is FinishReason.LENGTH:
        found.add(Sign.TRUNCATED if request.max_output_tokens is None else Sign.CUT_AT_LIMIT)
    if not calls:
        if not text or text.isspace():
            found.add(Sign.EMPTY)
        elif ends_in_loop(text):
            found.add(Sign.REPETITION)
        elif len(text) <= SHORT_CHARS and request.response_format.kind is FormatKind.TEXT and is_refusal(text):
            found.add(Sign.REFUSAL_WORDING)
    return frozenset(found)


def ends_in_loop(text: str) -> bool:
    """Whether a text ends with the same words over and over: four times at least, and for 600 characters.

    A string has the period p when it equals itself moved by p; each p costs one comparison that mostly ends at once.
    """
    tail = text[-_TAIL_CHARS:]
    if len(tail) < _TAIL_CHARS:
        return False
    for unit in range(1, _LONGEST_UNIT_CHARS + 1):
        if tail[unit] == tail[0] and tail[unit:] == tail[:-unit]:
            return len(_LETTERS.findall(tail[:unit])) >= _LEAST_LETTERS
    return False
