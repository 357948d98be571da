"""Placeholders in place of what must not reach a model, and back.

Within one request a value has one placeholder, wherever it stands: the model can tell that two mentions are one person.
Numbers follow the order of first mention, so the next turn of a conversation that begins alike gets the same ones, and
a cached answer to a redacted request fits every request of that form.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shared.analysis.request_texts import texts_of
from shared.analysis.tokens import plain_text
from shared.domain.chat import (
    ChatRequest,
    MediaPart,
    Message,
    Part,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from shared.domain.security import Finding

_LEAST_CHARS: Final = 6
"""Of values that are replaced wherever they stand; shorter ones, such as half a name, only where they were found."""
_MOST_REPLACED_EVERYWHERE: Final = 2_000
PLACEHOLDER: Final = re.compile(r"(?:<|&lt;|\\u003[cC])(?P<name>[A-Z][A-Z0-9_]{0,63}_[0-9]{1,6})(?:>|&gt;|\\u003[eE])")
"""Also as models write it back in HTML and in JSON."""
LONGEST_PLACEHOLDER: Final = 84
_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9_]")

Rewrite = Callable[[str, str], str]
"""Location and text to the text that takes its place."""


@dataclass(slots=True)
class Placeholders:
    """The values of one request by placeholder. They live as long as the request, in memory only.

    Attributes:
        values: by the placeholder's name, such as ``EMAIL_1``.
    """

    values: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Values by kind."""
    _names: dict[str, str] = field(default_factory=dict)
    _taken: frozenset[str] = frozenset()

    @classmethod
    def beside(cls, texts: Iterable[str]) -> "Placeholders":
        """Placeholders that none of these texts holds already."""
        return cls(_taken=frozenset(match["name"] for text in texts for match in PLACEHOLDER.finditer(text)))

    def of(self, kind: str, value: str) -> str:
        """The placeholder of a value."""
        known = self._names.get(value)
        if known is not None:
            return f"<{known}>"
        word = _NOT_IN_NAMES.sub("_", kind.upper())[:48].lstrip("_0123456789") or "VALUE"
        number = self.counts[kind] = 1 + self.counts.get(kind, 0)
        while (name := f"{word}_{number}") in self._taken or name in self.values:
            number += 1
        self._names[value] = name
        self.values[name] = value
        return f"<{name}>"

    def found(self, text: str, *, in_json: bool = False) -> Iterator[tuple[int, int, str]]:
        """Start, end and value of each placeholder in a text of the answer; unknown ones are left alone.

        Args:
            text: what the model wrote.
            in_json: the text is JSON, and a value must not end its string.
        """
        for match in PLACEHOLDER.finditer(text):
            value = self.values.get(match["name"])
            if value is not None:
                yield match.start(), match.end(), json.dumps(value, ensure_ascii=False)[1:-1] if in_json else value


def redacted(request: ChatRequest, findings: Iterable[Finding]) -> tuple[ChatRequest, Placeholders]:
    """The request with placeholders in place of what was found.

    What was found in one place is replaced in all: in tool calls and their results, schemas, stop words, the names and
    the text of attachments.

    Args:
        request: what is asked.
        findings: all of what is to go, not only the first of each kind.
    """
    spans: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        spans[finding.location].append(finding)
    texts = {placed.location: placed.text for placed in texts_of(request)}
    placeholders = Placeholders.beside(texts.values())
    pieces = {location: _pieces(texts[location], found, location, placeholders) for location, found in spans.items()}
    everywhere = _everywhere(placeholders)

    def rewrite(location: str, text: str) -> str:
        if location not in pieces:
            return everywhere(text)
        return "".join(piece if is_placeholder else everywhere(piece) for piece, is_placeholder in pieces[location])

    return _rewritten(request, rewrite, everywhere), placeholders


def _pieces(text: str, found: list[Finding], location: str, placeholders: Placeholders) -> list[tuple[str, bool]]:
    """The text cut at the findings, and for each piece whether it is a placeholder."""
    is_json = _is_call(location)
    pieces: list[tuple[str, bool]] = []
    done = 0
    for finding in sorted(found, key=lambda f: (f.start, -f.end)):
        if finding.start < done:
            continue
        value = text[finding.start : finding.end]
        pieces.append((text[done : finding.start], False))
        pieces.append((placeholders.of(finding.kind, _unescaped(value) if is_json else value), True))
        done = finding.end
    return [*pieces, (text[done:], False)]


def _is_call(location: str) -> bool:
    return location.endswith(".arguments")


def _unescaped(value: str) -> str:
    """A piece of a JSON string as its reader has it."""
    if "\\" not in value:
        return value
    try:
        return str(json.loads(f'"{value}"', strict=False))
    except ValueError:
        return value


def _everywhere(placeholders: Placeholders) -> Callable[[str], str]:
    """Replaces known values where no finding says that they stand."""
    values = {value: name for name, value in placeholders.values.items() if len(value) >= _LEAST_CHARS}
    if not values or len(values) > _MOST_REPLACED_EVERYWHERE:
        return lambda text: text
    longest_first = sorted(values, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(value)}(?!\w)" for value in longest_first))
    return lambda text: pattern.sub(lambda match: f"<{values[match[0]]}>", text)


def _rewritten(request: ChatRequest, rewrite: Rewrite, everywhere: Callable[[str], str]) -> ChatRequest:
    schema = request.response_format.schema
    return replace(
        request,
        system=rewrite("system", request.system),
        tools=tuple(
            replace(
                tool,
                description=rewrite(f"tools[{index}].description", tool.description),
                parameters=_texts_within(tool.parameters, everywhere),
            )
            for index, tool in enumerate(request.tools)
        ),
        response_format=replace(
            request.response_format, schema=None if schema is None else _texts_within(schema, everywhere)
        ),
        sampling=replace(
            request.sampling,
            stop=tuple(rewrite(f"stop[{index}]", word) for index, word in enumerate(request.sampling.stop)),
        ),
        messages=tuple(
            Message(
                message.role,
                tuple(_part(part, f"messages[{turn}].parts[{i}]", rewrite) for i, part in enumerate(message.parts)),
            )
            for turn, message in enumerate(request.messages)
        ),
    )


def _part(part: Part, location: str, rewrite: Rewrite) -> Part:
    match part:
        case ToolCallPart():
            return replace(part, arguments_json=rewrite(f"{location}.arguments", part.arguments_json))
        case MediaPart():
            text = plain_text(part)
            data = part.data if text is None else rewrite(location, text).encode()
            name = None if part.filename is None else rewrite(f"{location}.filename", part.filename)
            return replace(part, data=data, filename=name)
        case TextPart() | ToolResultPart() | ThinkingPart():
            return replace(part, text=rewrite(location, part.text))


def _texts_within(value: Mapping[str, Any], everywhere: Callable[[str], str]) -> Mapping[str, Any]:
    """The JSON value with its texts rewritten, not its keys: what those hold cannot be taken out, and still counts.

    Not recursive: a caller chooses the depth.
    """
    holder: dict[str, Any] = {"value": value}
    waiting: list[tuple[Any, Any]] = [(holder, "value")]
    while waiting:
        owner, key = waiting.pop()
        inner = owner[key]
        if isinstance(inner, Mapping):
            owner[key] = dict(inner)
            waiting += [(owner[key], name) for name in inner]
        elif isinstance(inner, list | tuple):
            owner[key] = list(inner)
            waiting += [(owner[key], index) for index in range(len(inner))]
        elif isinstance(inner, str):
            owner[key] = everywhere(inner)
    rewritten: Mapping[str, Any] = holder["value"]
    return rewritten
