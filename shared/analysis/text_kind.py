"""What a text looks like: its language, and whether it is prose, code, mathematics, data or logs."""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from shared.analysis.language_words import LANGUAGES_BY_WORD, LETTERS
from shared.analysis.text_formats import data_format_of, formats_of, log_share

UNDETERMINED: Final = "und"
"""The language tag for text that does not say (ISO 639-2)."""
PROSE, CODE, MATH, DATA, LOGS = "prose", "code", "math", "data", "logs"

_MAX_WORDS: Final = 200
_LEAST_SCORE: Final = 0.7
"""A word that three languages share says too little alone."""
_WORD: Final = re.compile(r"[^\W\d_]+")
_ASCII_WORD: Final = re.compile(r"[a-z]+")
"""The same for lower-case ASCII."""
_SHARES_BY_WORD: Final = {
    word: tuple((language, 1 / len(spoken)) for language in spoken) for word, spoken in LANGUAGES_BY_WORD.items()
}
_SCRIPTS: Final = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af\u1100-\u11ff]")),
    ("zh", re.compile("[\u4e00-\u9fff\u3400-\u4dbf]")),
    ("uk", re.compile("[їєґіЇЄҐІ]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("fa", re.compile("[پچژگ]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
"""In order: kana decides before Han, Ukrainian and Persian letters before the rest of their script."""
_DECISIVE: Final = frozenset({"ja", "uk", "fa"})
_SCRIPT_SHARE: Final = 0.15
_SCRIPT_CHARS: Final = 1500
"""Of each end that are looked at for scripts."""

_CODE_LINE: Final = re.compile(
    r"\s{0,80}(?:(?:async )?def \w|class \w{1,80}[(:{]|import \w|from [\w.]{1,200} import |function\b|const \w|let \w"
    r"|var \w|public |private |protected |static |#include|package \w|fn \w|func \w|return\b|if ?\(|for ?\(|while ?\("
    r"|else\b ?[{:]|elif |try ?[:{]|except\b|catch ?\(|SELECT |INSERT INTO |UPDATE \w|CREATE TABLE |FROM \w|WHERE "
    r"|</?\w|@\w{1,80}$|}|\w{1,60} ?= ?\w|end$|puts |echo |done$|fi$|set -|#!/|val \w|fun \w|apiVersion: |\w{1,60} <- "
    r"|(?:RUN|COPY|WORKDIR|CMD|ENTRYPOINT) |[\w.-]{1,60}:\s{0,4}$|- \w{1,60}: )|[^\n]{0,400}[;{}]\s{0,20}$"
    r"|[^\n]{0,200}=>"
)
_LATEX: Final = re.compile(
    r"\\(?:frac|int|sum|sqrt|begin|left|cdot|alpha|beta|theta|infty|pi|le|ge|ne)\b"
    r"|\$[^$\n]{1,200}\$|[∑∫√≤≥≠∞∂]"
)
_FENCE: Final = re.compile(r"^[ \t]{0,8}```([\w+#-]{0,20})", re.MULTILINE)
_MAX_LINES: Final = 200
_MIN_LINES: Final = 3
_MIN_FORMULAS: Final = 2


def language_of(text: str) -> str:
    """ISO 639-1 code of the language, or `UNDETERMINED`. A guess from scripts and stop words, never more."""
    if not text.isascii():
        ends = text if len(text) <= 2 * _SCRIPT_CHARS else text[:_SCRIPT_CHARS] + text[-_SCRIPT_CHARS:]
        letters = max(1, sum(map(str.isalpha, ends)))
        for language, script in _SCRIPTS:
            found = len(script.findall(ends))
            if found and (language in _DECISIVE or found >= _SCRIPT_SHARE * letters):
                return language
    lowered = text[:2000].lower()
    scores: defaultdict[str, float] = defaultdict(float)
    for word in (_ASCII_WORD if lowered.isascii() else _WORD).findall(lowered)[:_MAX_WORDS]:
        for language, share in _SHARES_BY_WORD.get(word, ()):
            scores[language] += share
    if not lowered.isascii():
        for language, letters_of in LETTERS.items():
            scores[language] += 0.5 * min(3, sum(lowered.count(letter) for letter in letters_of))
    best, score = max(scores.items(), key=lambda item: item[1], default=(UNDETERMINED, 0))
    return best if score >= _LEAST_SCORE else UNDETERMINED


@dataclass(frozen=True, slots=True)
class TextShape:
    """What a text is made of.

    Attributes:
        has_code: whether source code is part of it: a fence, or a run of lines that look like code.
        content_type: the kind that most of it is of: prose, code, math, data or logs.
        formats: the formats inside it (`shared.analysis.text_formats`).
    """

    has_code: bool
    content_type: str
    formats: tuple[str, ...]


def shape_of(text: str) -> TextShape:
    """Code, kind and formats, read off the first lines."""
    lines = _lines(text)
    code_share = _share(_CODE_LINE, lines)
    fenced = "```" in text
    has_code = (fenced and _FENCE.search(text) is not None) or code_share * len(lines) >= _MIN_LINES
    whole = data_format_of(text, lines)
    if len(lines) >= _MIN_LINES and log_share(lines) >= 0.4:  # noqa: PLR2004  # traces stand between log lines
        content_type = LOGS
    elif whole is not None:
        content_type = DATA
    elif (fenced and _fenced_share(text) >= 0.5) or (len(lines) >= _MIN_LINES and code_share >= 0.5):  # noqa: PLR2004  # most of it
        content_type = CODE
    else:
        content_type = MATH if is_math(text) else PROSE
    return TextShape(has_code, content_type, formats_of(text, lines, whole, has_code=has_code))


def is_math(text: str) -> bool:
    """Whether formulas stand at the text's beginning."""
    return sum(1 for _ in _LATEX.finditer(text[:4000])) >= _MIN_FORMULAS


def is_code_line(line: str) -> bool:
    """Whether a line looks like source code."""
    return _CODE_LINE.match(line) is not None


def has_code(text: str) -> bool:
    """Whether source code is part of the text."""
    return shape_of(text).has_code


def _lines(text: str) -> list[str]:
    return [line for line in text[:16_000].splitlines()[:_MAX_LINES] if line.strip()]


def _share(pattern: re.Pattern[str], lines: list[str]) -> float:
    return sum(pattern.match(line) is not None for line in lines) / len(lines) if lines else 0.0


def _fenced_share(text: str) -> float:
    marks = [match.start() for match in _FENCE.finditer(text)]
    if not marks:
        return 0.0
    ends = [*marks[1::2], len(text)] if len(marks) % 2 else marks[1::2]
    return sum(end - start for start, end in zip(marks[::2], ends, strict=True)) / len(text)
