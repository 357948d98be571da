"""Every text of a request with its place: what is searched, and what a redaction must reach."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.analysis.detectors.injection import Source
from shared.analysis.tokens import plain_text
from shared.domain.chat import ChatRequest, MediaPart, Message, Role, TextPart, ToolCallPart, ToolResultPart
from shared.domain.embeddings import EmbeddingRequest
from shared.domain.ranking import RankingRequest


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A text and where it stands.

    Attributes:
        source: who may have written an attack into it; None: nobody, since the operator or the model wrote it.
        joins_next: whether a model reads it and the next one as one text.
    """

    location: str
    text: str
    source: Source | None = None
    joins_next: bool = False


def texts_of(request: ChatRequest) -> Iterator[PlacedText]:
    """All texts, the empty ones left out."""
    return (placed for placed in _texts_of(request) if placed.text)


def _texts_of(request: ChatRequest) -> Iterator[PlacedText]:
    yield PlacedText("system", request.system)
    for index, tool in enumerate(request.tools):
        yield PlacedText(f"tools[{index}].description", tool.description, Source.TOOL)
        yield PlacedText(f"tools[{index}].parameters", strings_in(tool.parameters), Source.TOOL)
    if request.response_format.schema is not None:
        yield PlacedText("response_format.schema", strings_in(request.response_format.schema))
    for index, word in enumerate(request.sampling.stop):
        yield PlacedText(f"stop[{index}]", word)
    are_apart = isinstance(request, EmbeddingRequest | RankingRequest)
    for turn, message in enumerate(request.messages):
        yield from _texts_of_turn(message, turn, are_apart=are_apart)


def _texts_of_turn(message: Message, turn: int, *, are_apart: bool) -> Iterator[PlacedText]:
    for position, part in enumerate(message.parts):
        location = f"messages[{turn}].parts[{position}]"
        match part:
            case TextPart(text=text):
                following = message.parts[position + 1 : position + 2]
                joins = not are_apart and bool(following) and isinstance(following[0], TextPart)
                source = Source.USER if message.role is Role.USER and not are_apart else None
                yield PlacedText(location, text, source, joins)
            case MediaPart():
                yield PlacedText(location, plain_text(part) or "", Source.TOOL)
                yield PlacedText(f"{location}.uri", part.uri or "")
                yield PlacedText(f"{location}.filename", part.filename or "")
            case ToolCallPart():
                yield PlacedText(f"{location}.arguments", part.arguments_json)
            case ToolResultPart():
                yield PlacedText(location, part.text, Source.TOOL)
            case _:
                yield PlacedText(location, part.text)


def request_chars(request: ChatRequest) -> int:
    """About how much there is to read: the texts of the turns, without decoding any attachment."""
    sizes = (
        len(
            part.arguments_json
            if isinstance(part, ToolCallPart)
            else part.data or b""
            if isinstance(part, MediaPart)
            else part.text
        )
        for message in request.messages
        for part in message.parts
    )
    return len(request.system) + sum(sizes)


def unread_attachments(request: ChatRequest) -> int:
    """How many attachments hold content that nobody here can read: pictures, sound, binary documents, addresses."""
    return sum(plain_text(part) is None for part in request.media())


def strings_in(schema: Mapping[str, Any]) -> str:
    """The keys and texts of a JSON value that could hold something, a line each; the words of JSON Schema are left out.

    Not recursive: a caller chooses the depth.
    """
    lines: list[str] = []
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            lines += [key for key in value if key not in _SCHEMA_WORDS and not _NAME.fullmatch(key)]
            waiting += list(value.values())[::-1]
        elif isinstance(value, list | tuple):
            waiting += value[::-1]
        elif isinstance(value, str) and not _NAME.fullmatch(value):
            lines.append(value)
    return "\n".join(lines)


_SCHEMA_WORDS = frozenset(
    {"type", "properties", "required", "items", "enum", "description", "$schema", "$ref", "$defs"}
)
_NAME = re.compile(r"[A-Za-z_]{1,24}")
"""Names of fields and types: no detector takes one so short and plain for more."""
