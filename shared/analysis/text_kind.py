"""What a text looks like: its language, and whether it is prose, code, mathematics, data or logs."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

UNDETERMINED: Final = "und"
"""The language tag for text that does not say (ISO 639-2)."""
PROSE, CODE, MATH, DATA, LOGS = "prose", "code", "math", "data", "logs"

_COMMON_WORDS: Final[Mapping[str, str]] = {
    "en": "the of and to in is that it for with this are be not have from what how write you your my can",
    "de": "der die das und ist nicht ein eine zu den mit für auf wie von im sie es dem auch bitte ich was",
    "fr": "le la les des est une un et que qui dans pour pas sur ce avec vous plus je du au cette",
    "es": "el la los las es una un y que en por para con no se del lo como más este qué",
    "it": "il lo gli è una un e che di per con non si della del sono come più questo nel alla",
    "pt": "o os as é uma um e que em por para com não se do da como mais este você são",
    "nl": "de het een en is van dat niet op te voor met zijn ook wat hoe deze aan naar ik",
    "pl": "i w na nie się jest to że z do jak co po dla są tym oraz czy",
}
_LANGUAGES_BY_WORD: Final = {
    word: tuple(language for language, words in _COMMON_WORDS.items() if word in words.split())
    for word in " ".join(_COMMON_WORDS.values()).split()
}
_MIN_STOP_WORDS: Final = 2
_MAX_WORDS: Final = 200
_WORD: Final = re.compile(r"[^\W\d_]+")
_SCRIPTS: Final = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af\u1100-\u11ff]")),
    ("zh", re.compile("[\u4e00-\u9fff\u3400-\u4dbf]")),
    ("uk", re.compile("[їєґЇЄҐ]")),
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

_CODE_LINE: Final = re.compile(
    r"\s{0,80}(?:(?:async )?def \w|class \w{1,80}[(:{]|import \w|from [\w.]{1,200} import |function\b|const \w|let \w"
    r"|var \w|public |private |protected |static |#include|package \w|fn \w|func \w|return\b|if ?\(|for ?\(|while ?\("
    r"|else\b ?[{:]|elif |try ?[:{]|except\b|catch ?\(|SELECT |INSERT INTO |UPDATE \w|CREATE TABLE |FROM \w|WHERE "
    r"|</?\w|@\w{1,80}$|}|\w{1,60} ?= ?\w)|[^\n]{0,400}[;{}]\s{0,20}$|[^\n]{0,200}=>"
)
_LOG_LINE: Final = re.compile(
    r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\w{3} [ \d]\d \d\d:\d\d:\d\d |\[?(?:INFO|WARN|WARNING|ERROR|DEBUG|TRACE|FATAL)\b"
    r"|\d{1,3}(?:\.\d{1,3}){3} - "
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
        letters = max(1, sum(map(str.isalpha, text)))
        for language, script in _SCRIPTS:
            found = sum(1 for _ in script.finditer(text))
            if found and (language in _DECISIVE or found >= _SCRIPT_SHARE * letters):
                return language
    words = _WORD.findall(text[:2000].lower())[:_MAX_WORDS]
    counts = Counter(language for word in words for language in _LANGUAGES_BY_WORD.get(word, ()))
    if not counts:
        return UNDETERMINED
    best, count = counts.most_common(1)[0]
    return best if count >= min(_MIN_STOP_WORDS, max(1, len(words) // 3)) else UNDETERMINED


def has_code(text: str) -> bool:
    """Whether source code is part of the text: a fence, or a run of lines that look like code."""
    if _FENCE.search(text):
        return True
    lines = _lines(text)
    return _share(_CODE_LINE, lines) * len(lines) >= _MIN_LINES


def content_type_of(text: str) -> str:
    """The kind that most of the text is of: prose, code, math, data or logs."""
    lines = _lines(text)
    if len(lines) >= _MIN_LINES and _share(_LOG_LINE, lines) >= 0.4:  # noqa: PLR2004  # traces stand between log lines
        return LOGS
    if _is_data(text, lines):
        return DATA
    code_share = _share(_CODE_LINE, lines)
    if (_fenced_share(text) >= 0.5) or (len(lines) >= _MIN_LINES and code_share >= 0.5):  # noqa: PLR2004  # most of it
        return CODE
    formulas = sum(1 for _ in _LATEX.finditer(text[:4000]))
    return MATH if formulas >= _MIN_FORMULAS else PROSE


def _is_data(text: str, lines: list[str]) -> bool:
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] in {"{}", "[]"} and '"' in stripped[:400]:
        return True
    if stripped.startswith("<?xml"):
        return True
    for separator in (",", "\t", ";", "|"):
        counts = [line.count(separator) for line in lines]
        if len(lines) >= _MIN_LINES and min(counts) >= _MIN_FORMULAS and len(set(counts)) == 1:
            return True
    return False


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
