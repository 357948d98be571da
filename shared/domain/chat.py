"""The neutral conversation: what every provider adapter maps from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """Who speaks. System text lives in `ChatRequest.system`, not in a message."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Modality(StrEnum):
    """What a part is made of."""

    TEXT = "text"
    IMAGE = "image"
    DOCUMENT = "document"
    AUDIO = "audio"
    VIDEO = "video"


class ReasoningEffort(StrEnum):
    """How much thinking is asked for."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class MediaPart:
    """An image, document, audio or video, as bytes or by URI; exactly one of `data` and `uri` is set.

    `mime_type` is the declared type, checked against the magic bytes by the analysis.
    """

    modality: Modality
    mime_type: str
    data: bytes | None = None
    uri: str | None = None
    filename: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """The model asks for a tool. `arguments_json` is the text of a JSON object, as the model wrote it."""

    id: str
    name: str
    arguments_json: str
    signature: str | None = None
    """Opaque vendor state that must travel back with the call (Gemini `thought_signature`, base64)."""
    origin_model_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What the tool answered to call `tool_call_id`."""

    tool_call_id: str
    name: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ThinkingPart:
    """Reasoning shown by a model.

    The signature only means something to `origin_model_id`: adapters drop thinking parts that another model wrote.
    """

    text: str
    signature: str | None = None
    origin_model_id: str | None = None
    redacted: bool = False


Part = TextPart | MediaPart | ToolCallPart | ToolResultPart | ThinkingPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    parts: tuple[Part, ...]

    def text(self) -> str:
        """All text of the turn, parts joined by newlines."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is a JSON Schema object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


class ToolMode(StrEnum):
    """Whether the model may, must or must not call tools."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`name` set means: call exactly that tool (mode REQUIRED)."""

    mode: ToolMode = ToolMode.AUTO
    name: str | None = None


class FormatKind(StrEnum):
    """What shape the answer must have."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """Free text, any JSON object, or JSON that obeys `schema` (only with JSON_SCHEMA)."""

    kind: FormatKind = FormatKind.TEXT
    name: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; None leaves the vendor's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a caller wants from some model, free of any vendor's wire form.

    `messages` is never empty. `max_output_tokens` None means: the model's own default, capped by the policy.
    """

    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat = ResponseFormat()
    sampling: Sampling = Sampling()
    max_output_tokens: int | None = None
    reasoning_effort: ReasoningEffort | None = None

    def last_user_text(self) -> str:
        """The text of the user's last turn that has any, without white space around it; empty where there is none."""
        spoken = (m.text().strip() for m in reversed(self.messages) if m.role is Role.USER)
        return next(filter(None, spoken), "")

    def media(self) -> tuple[MediaPart, ...]:
        """Every attachment of every turn, in order."""
        return tuple(p for m in self.messages for p in m.parts if isinstance(p, MediaPart))
