"""The neutral request: what every wire form is read into, and the identity that answers are drawn from."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

CHARS_PER_TOKEN = 4
"""A simulated token is four characters; text is cut at token borders exactly there."""

_SEEN_KINDS = ("image", "document", "audio", "video")


def count_tokens(text: str) -> int:
    """Tokens of a text: its length in characters over four, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Media:
    """An attachment. Only its digest and size are kept, never its bytes."""

    kind: Literal["image", "document", "audio", "video"]
    mime_type: str
    sha256: str
    size_bytes: int
    units: int = 1
    """Pages of a document; 1 otherwise."""

    @classmethod
    def of(cls, mime_type: str, content: bytes, uri: str = "") -> "Media":
        """Describe bytes (or, when there are none, the URI they are at) declared as `mime_type`."""
        family = mime_type.split("/", 1)[0]
        kind: Literal["image", "document", "audio", "video"] = "document"
        if family in _SEEN_KINDS:
            kind = family  # type: ignore[assignment]  # the test above narrows it to the literal
        pages = max(1, content.count(b"/Type /Page") + content.count(b"/Type/Page") - content.count(b"/Type /Pages"))
        digest = hashlib.sha256(content or uri.encode()).hexdigest()
        return cls(kind, mime_type, digest, len(content), pages if kind == "document" else 1)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function that the model may call; `schema` is JSON Schema."""

    name: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `results` are tool results as (tool name, text)."""

    role: Literal["user", "assistant"]
    text: str = ""
    media: tuple[Media, ...] = ()
    calls: tuple[tuple[str, str], ...] = ()
    results: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """What some caller wants, free of the wire form it came in.

    Attributes:
        tool_names: with `tool_mode` ``required``: the tools of which one must be called; empty means any.
        thinking_tokens: budget for thinking; 0 means none, None means the model's default.
        show_thinking: whether thoughts are part of the answer.
        sampling: whatever else shapes the answer; only part of the request's identity.
        explicit_cache_tokens: tokens of a named cache that stand before the prompt (Gemini ``cached_content``).
        cache_marks: after how many turns a cache breakpoint was set (0: after system and tools), with the lifetime in
            seconds (Anthropic ``cache_control``).
    """

    turns: tuple[Turn, ...]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_mode: Literal["auto", "required", "none"] = "auto"
    tool_names: tuple[str, ...] = ()
    json_mode: bool = False
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    thinking_tokens: int | None = None
    show_thinking: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    explicit_cache_tokens: int = 0
    cache_marks: tuple[tuple[int, int], ...] = ()

    def last_user_text(self) -> str:
        """Text of the last user turn that has any."""
        for turn in reversed(self.turns):
            if turn.role == "user" and turn.text:
                return turn.text
        return ""

    def digest(self) -> bytes:
        """SHA-256 of the whole normalised request."""
        return hashlib.sha256(orjson.dumps(self, option=orjson.OPT_SORT_KEYS)).digest()


def merge_turns(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Join neighbours of the same role, as every vendor does."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            last = merged[-1]
            text = f"{last.text}\n{turn.text}" if last.text and turn.text else last.text or turn.text
            merged[-1] = replace(
                last,
                text=text,
                media=last.media + turn.media,
                calls=last.calls + turn.calls,
                results=last.results + turn.results,
            )
        else:
            merged.append(turn)
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class MediaRates:
    """Tokens that attachments cost."""

    image_tokens: int = 258
    page_tokens: int = 258
    audio_tokens_per_16kb: int = 32
    video_tokens_per_64kb: int = 263

    def tokens(self, media: Media) -> int:
        """Tokens of one attachment."""
        if media.kind == "image":
            return self.image_tokens
        if media.kind == "document":
            return self.page_tokens * media.units
        if media.kind == "audio":
            return self.audio_tokens_per_16kb * max(1, math.ceil(media.size_bytes / 16_384))
        return self.video_tokens_per_64kb * max(1, math.ceil(media.size_bytes / 65_536))


def turn_text_tokens(turn: Turn) -> int:
    """Tokens of a turn's text, tool calls and tool results."""
    return (
        count_tokens(turn.text)
        + sum(count_tokens(name) + count_tokens(arguments) for name, arguments in turn.calls)
        + sum(count_tokens(name) + count_tokens(text) for name, text in turn.results)
    )


def preamble_tokens(ask: Ask) -> int:
    """Tokens of system text, tools and a response schema, which stand before the turns."""
    tokens = count_tokens(ask.system)
    for tool in ask.tools:
        tokens += count_tokens(tool.name) + count_tokens(tool.description) + len(orjson.dumps(tool.schema)) // 4
    if ask.schema is not None:
        tokens += len(orjson.dumps(ask.schema)) // 4
    return tokens
