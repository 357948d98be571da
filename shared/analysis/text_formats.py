"""The formats inside a text: structured data (JSON, CSV, SQL, XML, tables), logs, addresses, code by its language."""

import re
from collections import Counter
from typing import Final

from shared.analysis.code_signs import CODE_SIGNS

_FENCE: Final = re.compile(r"^[ \t]{0,8}```([\w+#-]{0,20})", re.MULTILINE)
_SQL: Final = re.compile(
    r"\bselect\b[^;]{1,400}?\bfrom\b|\binsert into\b|\bcreate (?:table|view|index)\b|\bupdate \w{1,60} set\b"
    r"|\bdelete from\b|\balter table\b|^with \w{1,60} as \(",
    re.IGNORECASE | re.MULTILINE,
)
_SQL_VERBS: Final = ("select", "insert into", "create ", "update ", "delete from", "alter table")
_SQL_SIGN: Final = re.compile(r"[*=;(]|\b(?:SELECT|INSERT|CREATE|UPDATE|DELETE|ALTER)\b")
"""English asks to select from things too; a query has signs or capitals."""
_LOG_LINE: Final = re.compile(
    r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\w{3} [ \d]\d \d\d:\d\d:\d\d |\[?(?:INFO|WARN|WARNING|ERROR|DEBUG|TRACE|FATAL)\b"
    r"|\d{1,3}(?:\.\d{1,3}){3} - "
)
_URL: Final = re.compile(r"https?://[^\s<>\"]{3,}|\bwww\.[^\s<>\"]{3,}")
_XML_OPENING: Final = re.compile(r"<([A-Za-z_][\w.:-]{0,60})[\s>/]")
_NOT_DATA: Final = frozenset({"html", "div", "document", "context", "passage", "source"})
"""Elements that hold a page, or the material of a question."""
_DATA_FORMATS: Final = frozenset({"json", "csv", "sql", "xml"})
_QUOTED: Final = re.compile(r'"[^"\n]{0,200}"')
_SEPARATORS: Final = ",\t;"
_SIGNED_CHARS: Final = 1000
"""Of code that are searched for a language's signs."""
_LEAST_SEPARATORS: Final = 2
_LEAST_LINES: Final = 3
_MOST: Final = 0.6
_LOG_SHARE: Final = 0.4
_JSON_BRACKETS: Final = frozenset({"{}", "[]"})

_FENCE_NAMES: Final = {
    "py": "python", "python3": "python", "js": "javascript", "jsx": "javascript", "ts": "typescript",
    "tsx": "typescript", "c++": "cpp", "cs": "csharp", "c#": "csharp", "golang": "go", "rs": "rust", "rb": "ruby",
    "sh": "bash", "shell": "bash", "zsh": "bash", "kt": "kotlin", "yml": "yaml", "docker": "dockerfile",
}  # fmt: skip


def data_format_of(text: str, lines: list[str]) -> str | None:
    """The format, when the text as a whole is structured data: json, csv, sql, xml or table; else None.

    Args:
        text: the text.
        lines: its lines that are not blank.
    """
    body = _inside_fence(text.strip())
    ends = body[:1] + body[-1:]
    if ends in _JSON_BRACKETS and ('"' in body[:400] or body[1:2].isdigit() or ends == body):
        return "json"
    opening = _XML_OPENING.match(body)
    if body.startswith("<?xml") or (
        opening and opening[1].lower() not in _NOT_DATA and body.endswith(f"</{opening[1]}>")
    ):
        return "xml"
    if len(lines) >= _LEAST_LINES:
        if "|" in text and sum(line.count("|") >= _LEAST_SEPARATORS for line in lines) >= _MOST * len(lines):
            return "table"
        if _is_separated(lines):
            return "csv"
    return "sql" if _mostly_sql(lines) and _is_sql(body[:2000]) else None


def formats_of(text: str, lines: list[str], whole: str | None, *, has_code: bool) -> tuple[str, ...]:
    """Every format found, in a fixed order; code as ``code:<language>``, or ``code`` where the language is not clear.

    Args:
        text: the text, or its two ends.
        lines: its lines that are not blank.
        whole: what `data_format_of` says.
        has_code: whether source code is part of it.
    """
    found = []
    if whole is not None:
        found.append(whole)
    elif "|" in text and sum(line.count("|") >= _LEAST_SEPARATORS for line in lines) >= _LEAST_LINES:
        found.append("table")
    if len(lines) >= _LEAST_LINES and log_share(lines) >= _LOG_SHARE:
        found.append("log")
    if has_code and whole is None and "log" not in found:
        language = code_language(text[:6000])
        found.append(language if language in _DATA_FORMATS else f"code:{language}" if language else "code")
    if "http" in text or "www." in text:
        found += ["url"] * (_URL.search(text) is not None)
    return tuple(found)


def is_log_line(line: str) -> bool:
    """Whether a line begins as a log entry does."""
    return _LOG_LINE.match(line) is not None


def log_share(lines: list[str]) -> float:
    """The share of lines that begin as log entries do."""
    return sum(map(is_log_line, lines)) / len(lines) if lines else 0.0


def fence_language(name: str) -> str:
    """The language that the word behind a fence's ticks means."""
    return _FENCE_NAMES.get(name.lower(), name.lower())


def _inside_fence(text: str) -> str:
    if not text.startswith("```") or not text.endswith("```"):
        return text
    return text[3:-3].partition("\n")[2].strip()


def _is_separated(lines: list[str]) -> bool:
    bare = [_QUOTED.sub("", line) if '"' in line else line for line in lines]
    for separator in _SEPARATORS:
        if separator != "\t" and sum(f"{separator} " in line for line in bare) * 2 >= len(bare):
            continue  # as people write lists
        count, times = Counter(line.count(separator) for line in bare).most_common(1)[0]
        if count >= _LEAST_SEPARATORS and times >= max(_LEAST_LINES, _MOST * len(bare)):
            return not any(line.rstrip().endswith((";", "{", "}")) for line in bare)
    return False


def _is_sql(text: str) -> bool:
    lowered = text.lower()
    if not any(verb in lowered for verb in _SQL_VERBS):
        return False
    return _SQL.search(text) is not None and _SQL_SIGN.search(text) is not None


def _mostly_sql(lines: list[str]) -> bool:
    first = lines[0].split(None, 1)[0].strip("`(").lower() if lines else ""
    return first in {"select", "insert", "create", "update", "delete", "alter", "with", "sql", ""}


def code_language(text: str) -> str | None:
    """The language of source code by its fence or its signs, None where neither tells."""
    for fence in _FENCE.finditer(text):
        if fence[1]:
            return fence_language(fence[1])
    text = f"{text[:_SIGNED_CHARS]}\n"
    scores = {
        language: sum(1 for _ in pattern.finditer(text)) if any(needle in text for needle in needles) else 0
        for language, needles, pattern in CODE_SIGNS
    }
    if _is_sql(text) and not any(scores[language] > 1 for language in ("python", "java", "php", "csharp")):
        return "sql"
    best = max(scores, key=lambda language: scores[language])
    return best if scores[best] else None
