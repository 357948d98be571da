"""The neutral answer: stream events, and the reply that they fold into.

A reply is the fold of a stream: adapters map each vendor message to `StreamEvent`s, and `ReplyBuilder` folds
events into a `ChatReply`. Plain and streamed answers therefore share one mapping and cannot drift apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.domain.chat import Part, TextPart, ThinkingPart, ToolCallPart
from shared.domain.embeddings import Embedding


class FinishReason(StrEnum):
    """Why generation ended, in one vocabulary (the OpenAI one, with `refusal` and `error` told apart)."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by kind; the kinds are disjoint, so the total is their sum.

    Vendors disagree on what contains what (Gemini counts cached tokens inside the prompt, Anthropic beside it;
    OpenAI counts thinking inside completion tokens, Gemini beside it): adapters untangle that, pricing never has to.
    """

    input_tokens: int = 0
    """Text, image, video and document tokens that were neither read from nor written to a cache."""
    input_audio_tokens: int = 0
    """Uncached audio tokens; not contained in `input_tokens`."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Written to a cache of the vendor's default (short) lifetime."""
    cache_write_long_tokens: int = 0
    """Written to a cache of the vendor's long lifetime (Anthropic: one hour)."""
    output_tokens: int = 0
    """Visible answer and tool-call tokens."""
    thinking_tokens: int = 0
    """Reasoning tokens; billed as output, not contained in `output_tokens`."""
    estimated: bool = False
    """The vendor reported no (or not all) counts: those missing are counted from characters by the adapter."""

    @property
    def prompt_tokens(self) -> int:
        """Everything that went in."""
        return (
            self.input_tokens
            + self.input_audio_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.cache_write_long_tokens
        )

    @property
    def completion_tokens(self) -> int:
        """Everything that came out, thinking included."""
        return self.output_tokens + self.thinking_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Citation:
    """A source the vendor names for a stretch of the answer."""

    title: str | None = None
    uri: str | None = None
    start: int | None = None
    end: int | None = None


# --- stream events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More visible text."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More reasoning; a signature usually comes in a delta of its own with empty text and closes the part."""

    text: str = ""
    signature: str | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A fragment of tool call number `index` (0-based). The first fragment carries `id` and `name`."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments_fragment: str = ""
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class UsageUpdate:
    """Usage so far; each update replaces the one before (never added to it)."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    """Generation ended. `native` is the vendor's own word, `detail` its reason for a block (a category, no content)."""

    reason: FinishReason
    native: str = ""
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who answered: the vendor's model version and response id, as far as it says."""

    model_version: str | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class CitationFound:
    """The vendor cites a source."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of the texts of an `EmbeddingRequest`, in their order."""

    embeddings: tuple[Embedding, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """How well the texts of a `RankingRequest` answer its question, in [0, 1], in the texts' order."""

    scores: tuple[float, ...]


StreamEvent = (
    TextDelta | ThinkingDelta | ToolCallDelta | UsageUpdate | Finished | Origin | CitationFound | Embedded | Ranked
)

CONTENT_EVENTS = (TextDelta, ThinkingDelta, ToolCallDelta)
"""Events that the caller sees as content: from the first of them on, no other model may take over silently."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A whole answer."""

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    native_finish_reason: str
    usage: Usage
    finish_detail: str | None = None
    model_version: str | None = None
    response_id: str | None = None
    citations: tuple[Citation, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    """Of an `EmbeddingRequest`, in the order of its texts."""
    scores: tuple[float, ...] = ()
    """Of a `RankingRequest`, in the order of its texts."""

    def text(self) -> str:
        """The visible text."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The tools the model asks for."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))


class ReplyBuilder:
    """Folds stream events into a reply.

    Text and thinking deltas that follow each other form one part; tool calls are ordered by index. `finished` is
    False until a `Finished` event came: a stream that ends without one was cut.

    Args:
        model_id: stamped on thinking and tool-call parts, so that they are never sent to another model.
    """

    def __init__(self, model_id: str) -> None:
        self._model_id = model_id
        self._parts: list[Part | int] = []
        self._texts: list[str] = []
        self._open: str | None = None
        self._calls: dict[int, dict[str, Any]] = {}
        self._citations: list[Citation] = []
        self._embeddings: tuple[Embedding, ...] = ()
        self._scores: tuple[float, ...] = ()
        self._origin = Origin()
        self._finish: Finished | None = None
        self.usage = Usage()
        self.has_content = False

    @property
    def finished(self) -> bool:
        """Whether the vendor said that the answer is whole."""
        return self._finish is not None

    def add(self, event: StreamEvent) -> None:
        """Take one event."""
        match event:
            case TextDelta(text=text) if text:
                self._continue("text")
                self._texts.append(text)
                self.has_content = True
            case ThinkingDelta():
                self._add_thinking(event)
            case ToolCallDelta():
                self._add_tool_call(event)
            case UsageUpdate(usage=usage):
                self.usage = usage
            case Finished():
                self._finish = event
            case Origin():
                self._origin = Origin(
                    event.model_version or self._origin.model_version,
                    event.response_id or self._origin.response_id,
                )
            case CitationFound(citation=citation):
                self._citations.append(citation)
            case Embedded(embeddings=embeddings):
                self._embeddings = embeddings
            case Ranked(scores=scores):
                self._scores = scores

    def extend(self, events: Sequence[StreamEvent]) -> "ReplyBuilder":
        """Take several events; returns self, so that a plain reply is one expression."""
        for event in events:
            self.add(event)
        return self

    def build(self) -> ChatReply:
        """The reply so far; without a `Finished` event its finish reason is ERROR."""
        self._close()
        parts = tuple(self._tool_call(item) if isinstance(item, int) else item for item in self._parts)
        finish = self._finish or Finished(FinishReason.ERROR, "incomplete")
        return ChatReply(
            parts=parts,
            finish_reason=finish.reason,
            native_finish_reason=finish.native,
            finish_detail=finish.detail,
            usage=self.usage,
            model_version=self._origin.model_version,
            response_id=self._origin.response_id,
            citations=tuple(self._citations),
            embeddings=self._embeddings,
            scores=self._scores,
        )

    def _add_thinking(self, event: ThinkingDelta) -> None:
        self.has_content = self.has_content or bool(event.text or event.signature)
        if event.redacted:
            self._close()
            self._parts.append(ThinkingPart("", event.signature, self._model_id, redacted=True))
            return
        self._continue("thinking")
        self._texts.append(event.text)
        if event.signature:
            text = "".join(self._texts)
            self._texts, self._open = [], None
            self._parts.append(ThinkingPart(text, event.signature, self._model_id))

    def _add_tool_call(self, event: ToolCallDelta) -> None:
        self.has_content = True
        call = self._calls.get(event.index)
        if call is None:
            self._close()
            call = self._calls[event.index] = {"id": "", "name": "", "arguments": [], "signature": None}
            self._parts.append(event.index)
        call["id"] = event.id or call["id"]
        call["name"] = event.name or call["name"]
        call["signature"] = event.signature or call["signature"]
        call["arguments"].append(event.arguments_fragment)

    def _tool_call(self, index: int) -> ToolCallPart:
        call = self._calls[index]
        return ToolCallPart(
            id=call["id"],
            name=call["name"],
            arguments_json="".join(call["arguments"]) or "{}",
            signature=call["signature"],
            origin_model_id=self._model_id,
        )

    def _continue(self, kind: str) -> None:
        if self._open != kind:
            self._close()
            self._open = kind

    def _close(self) -> None:
        if self._open == "text":
            self._parts.append(TextPart("".join(self._texts)))
        elif self._open == "thinking":
            self._parts.append(ThinkingPart("".join(self._texts), None, self._model_id))
        self._texts, self._open = [], None
