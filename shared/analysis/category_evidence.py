"""What a request shows of its task beside its words, and both together as the vector that the classifier weighs."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.analysis.ngrams import BUCKETS, Sparse, Vector, text_vector

_MULTIPLE_CHOICE: Final = re.compile(r"(?:^|\n| )\(?[Aa][).:] .{1,600}?(?:\n| )\(?[Bb][).:] ", re.DOTALL)
_SUM: Final = re.compile(  # with the multiplication sign
    r"\d(?:\s{0,3}[+*×÷^=]\s{0,3}\d|\s[-/]\s\d)"  # noqa: RUF001  # the multiplication sign is meant
)
_UNKNOWN_X: Final = re.compile(r"[a-z]\)?\s{0,2}[=^+*-]\s{0,2}\d")
_FORMULA_MARKS: Final = ("\\frac", "\\int", "\\sum", "\\sqrt", "\\lim", "\\begin{", "√", "∫", "∑")
_MATERIAL_MARKS: Final = re.compile(
    r"<(?:document|context|passage|source)s?\b|^(?:context|passage|document|sources?)\b[^\n]{0,10}:|^\[1\] ",
    re.MULTILINE,
)
_DIFF: Final = re.compile(r"^(?:diff --git |@@ -\d|\+\+\+ b/)", re.MULTILINE)
_ERRORS: Final = ("Error:", "Error\n", "Exception:", "Traceback", "panic:", "error:", "error[", "ERROR")
_QUESTION_MARKS: Final = frozenset("?？؟")  # noqa: RUF001  # those of other scripts too
_PARTS: Final = 1000
"""Characters at either end that are looked at for marks."""
_SIZES: Final = (2, 6, 15, 40, 120)
"""Words: a greeting, a short question, a sentence, a paragraph, pasted material."""
_CHARS_PER_WORD: Final = 5
"""For a size that means the same in scripts without spaces is counted in characters, with Han counted double."""
_FIGURE: Final = re.compile(r"\d")
_MANY_FIGURES: Final = 0.15
_WEIGHT: Final = np.float32(0.25)
"""Of a mark beside an n-gram, whose vector has length 1."""


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


MARKS: Final = (
    "code", "formula", "material", "choices", "diff", "error", "ends_as_question", "asks_at_an_end", "schema", "lines",
    "figures", *(f"above_{size}_words" for size in _SIZES),
)  # fmt: skip
"""Names of the dimensions after those of the text."""


def evidence_vector(evidence: Evidence) -> Sparse:
    """The vector of the instruction, followed by one dimension for each of `MARKS`."""
    used, values = text_vector(evidence.instruction)
    marks = _marks(evidence)
    shown = np.flatnonzero(marks)
    return np.concatenate((used, shown + BUCKETS)), np.concatenate((values, marks[shown]))


def _marks(evidence: Evidence) -> Vector:
    whole = evidence.instruction.strip()
    text = whole if len(whole) <= 2 * _PARTS else f"{whole[:_PARTS]}\n{whole[-_PARTS:]}"
    first, last = text.partition("\n")[0], text.rpartition("\n")[2]
    has_figures = _FIGURE.search(text) is not None
    sums = has_figures and (_SUM.search(text) or _UNKNOWN_X.search(text))
    formula = sums or any(mark in text for mark in _FORMULA_MARKS)
    size = (len(whole) if whole.isascii() else len(whole.encode("utf-8", "surrogatepass")) * 0.6) / _CHARS_PER_WORD
    marks = (
        evidence.has_code,
        bool(formula) and not evidence.has_code,
        _MATERIAL_MARKS.search(text.lower()) is not None,
        _MULTIPLE_CHOICE.search(text) is not None,
        _DIFF.search(text) is not None,
        any(error in text for error in _ERRORS),
        text[-1:] in _QUESTION_MARKS,
        first.rstrip()[-1:] in _QUESTION_MARKS or last.rstrip()[-1:] in _QUESTION_MARKS,
        evidence.wants_schema,
        text.count("\n") > 1,
        has_figures and len(_FIGURE.findall(text[:_PARTS])) > _MANY_FIGURES * len(text[:_PARTS]),
        *(size > limit for limit in _SIZES),
    )
    return np.array(marks, np.float32) * _WEIGHT
