"""What each part of a request is made of: stretches of prose, code, data, logs and so on with their places and shares.

For POST /analyze; routing needs the overall kind only (`shared.analysis.text_kind`). A text is read line by line:
fences and runs of like lines become stretches, what is left between them is looked at by paragraph. Of a text longer
than `MOST_CHARS` the two ends are read.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from shared.analysis.text_formats import code_language, data_format_of, fence_language, is_log_line
from shared.analysis.text_kind import CODE, DATA, LOGS, MATH, PROSE, is_code_line, is_math
from shared.analysis.tokens import FAMILIES, estimate_tokens, media_tokens, plain_text
from shared.domain.chat import ChatRequest, MediaPart, Modality, ToolCallPart
from shared.domain.features import AttachmentFeatures

TABLE, URL, PDF, OFFICE = "table", "url", "pdf", "office"
MOST_CHARS: Final = 256 * 1024
_MOST_JSON_STARTS: Final = 16
"""A text may have a bracket on every line; each start costs a reading of what follows."""
_FENCE: Final = re.compile(r"^[ \t]{0,8}(```|~~~)([\w+#.-]{0,20})")
_URL_LINE: Final = re.compile(r"[ \t*-]{0,8}(?:https?://|www\.)\S{3,2000}+\s{0,8}$")
_KEY_LINE: Final = re.compile(r"[ ]{0,40}(?:- )?[\w./-]{1,60}:(?: |$)|[ ]{0,40}- \S|---$|[ ]{0,40}#")
_NESTED_LINE: Final = re.compile(r"[ ]{1,40}(?:- )?[\w./-]{1,60}:(?: |$)|[ ]{0,40}- [\w./-]{1,60}:(?: |$)")
_DATA_FENCES: Final = frozenset({"json", "csv", "sql", "xml", "yaml", "toml", "tsv"})
_LEAST_LINES: Final = 2
_MOST_GAP: Final = 2
"""Lines within code that do not look like it (comments, continued calls); indented ones may be more."""
_TABLE_BARS: Final = 2
_OFFICE_TYPES: Final = ("application/vnd.", "application/msword", "application/x-ole-storage", "application/rtf")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a text of one kind.

    Attributes:
        start, end: character places in the text.
        kind: prose, code, math, data, logs, table or url.
        language: of code (python, sql, ...) or data (json, csv, sql, xml, yaml), where it is clear.
    """

    start: int
    end: int
    kind: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class PartContent:
    """A part of a request.

    Attributes:
        location: as in findings and attachments.
        kind: what most of it is: a kind of `Stretch`, or image, audio, video, pdf, office, document.
        language: of the largest stretch of that kind.
        share: of the request's estimated tokens.
        stretches: of a text, in order; empty for media.
    """

    location: str
    kind: str
    language: str | None
    share: float
    stretches: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """Every part, and the share of each kind in the request's estimated tokens, the largest first."""

    parts: tuple[PartContent, ...]
    shares: Mapping[str, float]


def contents_of(request: ChatRequest, attachments: tuple[AttachmentFeatures, ...]) -> Contents:
    """What each part of a request is made of.

    Args:
        request: the request.
        attachments: what its media are, in the order of `ChatRequest.media`.
    """
    weights: defaultdict[str, float] = defaultdict(float)
    read: list[tuple[PartContent, float]] = []
    media = iter(attachments)
    for location, part in _located(request):
        if isinstance(part, MediaPart) and plain_text(part) is None:
            of = next(media)
            kind = _media_kind(of)
            tokens = float(media_tokens(part, of, FAMILIES[0]))
            weights[kind] += tokens
            read.append((PartContent(location, kind, None, 0.0), tokens))
            continue
        if isinstance(part, MediaPart):
            next(media)
        text = (plain_text(part) or "") if isinstance(part, MediaPart) else part
        if text.strip():
            read.append(_text_part(location, text, weights))
    total = max(1.0, sum(tokens for _, tokens in read))
    parts = tuple(
        PartContent(part.location, part.kind, part.language, tokens / total, part.stretches) for part, tokens in read
    )
    shares = sorted(weights.items(), key=lambda item: -item[1])
    return Contents(parts, {kind: tokens / total for kind, tokens in shares})


def _located(request: ChatRequest) -> Iterator[tuple[str, str | MediaPart]]:
    yield "system", request.system
    for turn, message in enumerate(request.messages):
        for position, part in enumerate(message.parts):
            location = f"messages[{turn}].parts[{position}]"
            match part:
                case MediaPart():
                    yield location, part
                case ToolCallPart():
                    yield location, part.arguments_json
                case _:
                    yield location, part.text


def _media_kind(of: AttachmentFeatures) -> str:
    detected = of.detected_mime_type or "application/zip"
    mime_type = of.declared_mime_type if detected == "application/zip" else detected
    if mime_type == "application/pdf":
        return PDF
    if of.modality is Modality.DOCUMENT and mime_type.startswith(_OFFICE_TYPES):
        return OFFICE
    return of.modality.value


def _text_part(location: str, text: str, weights: dict[str, float]) -> tuple[PartContent, float]:
    stretches = stretches_of(text)
    # One estimate a part, shared out by characters: a thousand short stretches would cost a thousand estimates.
    per_char = estimate_tokens(text) / sum(stretch.end - stretch.start for stretch in stretches)
    kinds: Counter[str] = Counter()
    for stretch in stretches:
        kinds[stretch.kind] += stretch.end - stretch.start
    for kind, chars in kinds.items():
        weights[kind] += chars * per_char
    kind = kinds.most_common(1)[0][0]
    largest = max((s for s in stretches if s.kind == kind), key=lambda s: s.end - s.start)
    return PartContent(location, kind, largest.language, 0.0, stretches), per_char * sum(kinds.values())


def stretches_of(text: str) -> tuple[Stretch, ...]:
    """The stretches of a text, in order, neighbours of one kind and language joined."""
    if len(text) <= MOST_CHARS:
        return _joined(_Reader(text, 0).stretches())
    half, offset = text[: MOST_CHARS // 2], len(text) - MOST_CHARS // 2
    return _joined(_Reader(half, 0).stretches()) + _joined(_Reader(text[offset:], offset).stretches())


def _joined(found: list[Stretch]) -> tuple[Stretch, ...]:
    joined: list[Stretch] = []
    for stretch in found:
        last = joined[-1] if joined else None
        if last is not None and (last.kind, last.language) == (stretch.kind, stretch.language):
            joined[-1] = Stretch(last.start, stretch.end, last.kind, last.language)
        else:
            joined.append(stretch)
    return tuple(joined)


class _Reader:
    """Reads one text. Lines are known by number; `_at[n]` is where line n begins."""

    def __init__(self, text: str, offset: int) -> None:
        self._text = text
        self._offset = offset
        self._lines = text.splitlines(keepends=True)
        self._at = [0]
        for line in self._lines:
            self._at.append(self._at[-1] + len(line))

    def stretches(self) -> list[Stretch]:
        labels = self._labels()
        found: list[Stretch] = []
        for label, numbers in groupby(range(len(labels)), key=labels.__getitem__):
            block = list(numbers)
            found += self._of_run(label, block[0], block[-1] + 1)
        return found

    def _labels(self) -> list[str]:
        """A label a line: ``fence:<n>:<language>`` and ``json:<n>`` for whole blocks, a kind, or PROSE."""
        labels: list[str | None] = [None] * len(self._lines)
        self._mark_fences(labels)
        self._mark_json(labels)
        self._mark_yaml(labels)
        whole = [label or _line_kind(line) for label, line in zip(labels, self._lines, strict=True)]
        _close_gaps(whole, self._lines)
        return whole

    def _mark_fences(self, labels: list[str | None]) -> None:
        opened: tuple[int, str, str] | None = None
        for number, line in enumerate(self._lines):
            fence = _FENCE.match(line)
            if fence is None or (opened is not None and fence[1] != opened[1]):
                continue
            if opened is None:
                opened = number, fence[1], fence[2]
            else:
                labels[opened[0] : number + 1] = [f"fence:{opened[0]}:{opened[2]}"] * (number + 1 - opened[0])
                opened = None
        if opened is not None:
            labels[opened[0] :] = [f"fence:{opened[0]}:{opened[2]}"] * (len(labels) - opened[0])

    def _mark_json(self, labels: list[str | None]) -> None:
        starts = (n for n, line in enumerate(self._lines) if line.lstrip()[:1] in {"{", "["})
        done = -1
        for start, _ in zip(starts, range(_MOST_JSON_STARTS), strict=False):
            if start <= done or labels[start] is not None:
                continue
            end = self._json_end(start)
            if end is not None:
                labels[start:end] = [f"json:{start}"] * (end - start)
                done = end - 1

    def _mark_yaml(self, labels: list[str | None]) -> None:
        for first, last in self._paragraphs(0, len(labels)):
            lines = [line for line in self._lines[first:last] if line.strip()]
            if not any(labels[first:last]) and _is_yaml(lines):
                labels[first:last] = ["yaml"] * (last - first)

    def _json_end(self, start: int) -> int | None:
        """The line after the JSON value that begins on a line, when it takes up whole lines."""
        at = self._at[start] + len(self._lines[start]) - len(self._lines[start].lstrip())
        try:
            value, end = json.JSONDecoder().raw_decode(self._text, at)
        except (ValueError, RecursionError):
            return None
        rest = self._text.find("\n", end)
        after = self._text[end : rest if rest >= 0 else len(self._text)]
        if after.strip(" \t\r,;.") or not isinstance(value, dict | list) or not value:
            return None
        return start + self._text.count("\n", at, end) + 1

    def _of_run(self, label: str, first: int, last: int) -> list[Stretch]:
        if label.startswith("json:"):
            return [self._stretch(first, last, DATA, "json")]
        if label == "yaml":
            return [self._stretch(first, last, DATA, "yaml")]
        if label.startswith("fence:"):
            return [self._fenced(label.split(":", 2)[2], first, last)]
        if label != PROSE:
            return [self._stretch(first, last, label, self._language(label, first, last))]
        return [stretch for start, end in self._paragraphs(first, last) for stretch in self._paragraph(start, end)]

    def _fenced(self, name: str, first: int, last: int) -> Stretch:
        language = fence_language(name) if name else None
        if language in _DATA_FENCES:
            return self._stretch(first, last, DATA, language)
        inner = self._lines[first + 1 : last - 1]
        bare = [line for line in inner if line.strip()]
        if language is None and bare:
            whole = data_format_of("".join(inner), bare)
            if whole is not None:
                return self._stretch(first, last, TABLE if whole == TABLE else DATA, whole)
            if sum(map(is_log_line, bare)) * 2 >= len(bare):
                return self._stretch(first, last, LOGS)
        return self._stretch(first, last, CODE, language or code_language("".join(inner)[:6000]))

    def _paragraphs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        start = first
        for number in range(first, last):
            if not self._lines[number].strip():
                if start < number:
                    yield start, number + 1
                start = number + 1
        if start < last:
            yield start, last

    def _paragraph(self, first: int, last: int) -> list[Stretch]:
        lines = [line for line in self._lines[first:last] if line.strip()]
        text = "".join(lines)
        headed = len(lines) > _LEAST_LINES and lines[0].rstrip().endswith((":", "?", "."))
        below = data_format_of("".join(lines[1:]), lines[1:]) if headed else None
        whole = below or data_format_of(text, lines)
        if whole is not None:
            head = [self._stretch(first, first + 1, PROSE)] if below else []
            kind, language = (TABLE, None) if whole == TABLE else (DATA, whole)
            return [*head, self._stretch(first + len(head), last, kind, language)]
        return [self._stretch(first, last, MATH if is_math(text) else PROSE)]

    def _language(self, kind: str, first: int, last: int) -> str | None:
        return code_language(self._text[self._at[first] : self._at[last]][:6000]) if kind == CODE else None

    def _stretch(self, first: int, last: int, kind: str, language: str | None = None) -> Stretch:
        if kind == CODE and language in _DATA_FENCES:
            kind = DATA
        return Stretch(self._offset + self._at[first], self._offset + self._at[last], kind, language)


def _line_kind(line: str) -> str:
    if is_log_line(line):
        return LOGS
    if line.count("|") >= _TABLE_BARS:
        return TABLE
    if ("http" in line or "www." in line) and _URL_LINE.match(line):
        return URL
    return CODE if is_code_line(line) else PROSE


def _close_gaps(labels: list[str], lines: list[str]) -> None:
    """Short gaps inside code and logs join them; code and tables of a single line are prose after all."""
    runs = [(label, list(numbers)) for label, numbers in groupby(range(len(labels)), key=labels.__getitem__)]
    for (before, _), (label, gap), (after, _) in zip(runs, runs[1:], runs[2:], strict=False):
        inside = len(gap) <= _MOST_GAP or all(not lines[number].strip() or lines[number][0] in " \t" for number in gap)
        if label == PROSE and before == after and before in {CODE, LOGS} and inside:
            for number in gap:
                labels[number] = before
    runs = [(label, list(numbers)) for label, numbers in groupby(range(len(labels)), key=labels.__getitem__)]
    for label, numbers in runs:
        if label in {CODE, TABLE, LOGS} and len(numbers) < _LEAST_LINES:
            labels[numbers[0]] = PROSE


def _is_yaml(lines: list[str]) -> bool:
    """Keys on nearly every line, some of them below others: a list of keys alone may be a letter's head."""
    keyed = sum(_KEY_LINE.match(line) is not None for line in lines)
    nested = any(_NESTED_LINE.match(line) for line in lines)
    return len(lines) > _LEAST_LINES and nested and keyed * 10 >= len(lines) * 9
