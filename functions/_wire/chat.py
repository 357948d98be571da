"""The chat body: OpenAI's chat completions request with the router's own options, and its way into the domain.

Source: https://platform.openai.com/docs/api-reference/chat/create. What the router cannot honour is refused by name;
fields that only concern OpenAI's own platform (`user`, `store`, ...) are accepted and ignored.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from functions._wire.parsing import Body, Line
from shared.domain.errors import InvalidRequest
from shared.domain.policy import Preset, RoutingConstraints, Weights
from shared.domain.security import SecurityLevel

_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\w.:/@-]+$")]
_ToolName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]

MAX_PARTS = 1024
"""Of one message."""


class TextContent(Body):
    """A text part."""

    type: Literal["text"]
    text: str


class RefusalContent(Body):
    """A refusal in an earlier answer."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(Body):
    """An image as a data URL, or by URI where the model takes URIs."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImageContent(Body):
    """An image part."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Body):
    """Base64 audio."""

    data: str
    format: Literal["wav", "mp3", "flac", "ogg", "aac", "m4a", "webm"]


class AudioContent(Body):
    """An audio part."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class FileObject(Body):
    """A document as base64 or a data URL."""

    file_data: str | None = None
    filename: Annotated[Line, Field(max_length=255)] | None = None
    file_id: str | None = None


class FileContent(Body):
    """A document part."""

    type: Literal["file"]
    file: FileObject


class VideoUrl(Body):
    """A video as a data URL or by URI."""

    url: str


class VideoContent(Body):
    """A video part (not in OpenAI's API; Gemini takes it)."""

    type: Literal["video_url"]
    video_url: VideoUrl


ContentPart = Annotated[
    TextContent | RefusalContent | ImageContent | AudioContent | FileContent | VideoContent,
    Field(discriminator="type"),
]


class FunctionCall(Body):
    """A tool call's function; `arguments` is JSON text."""

    name: _ToolName
    arguments: str


class ToolCall(Body):
    """A tool call of an earlier answer. `extra_content` brings back what the router sent with it."""

    id: Annotated[Line, Field(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: FunctionCall
    extra_content: dict[str, Any] | None = None
    index: int | None = None


class ThinkingBlock(Body):
    """Reasoning of an earlier answer, with the signature the vendor wants back."""

    type: Literal["thinking", "redacted_thinking"] = "thinking"
    thinking: str = ""
    signature: str | None = None
    model: str | None = None


class ChatMessage(Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[ContentPart], Field(max_length=MAX_PARTS)] | None = None
    name: Annotated[Line, Field(max_length=256)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_PARTS)] | None = None
    tool_call_id: Annotated[Line, Field(max_length=256)] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    thinking_blocks: Annotated[list[ThinkingBlock], Field(max_length=MAX_PARTS)] | None = None
    annotations: Annotated[list[Any], Field(max_length=4096)] | None = None
    audio: None = None
    function_call: None = None


class FunctionDefinition(Body):
    """A tool's declaration; `parameters` is a JSON Schema."""

    name: _ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolDefinition(Body):
    """A tool the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Body):
    """The name in a tool choice."""

    name: _ToolName


class NamedToolChoice(Body):
    """Call exactly this tool."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchemaFormat(Body):
    """The schema an answer must obey."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = "answer"
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormatBody(Body):
    """What shape the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(Body):
    """Options of a streamed answer."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class WeightsBody(Body):
    """Importance of each factor, any non-negative numbers."""

    quality: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    cost: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    latency: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    reliability: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    load: Annotated[float, Field(ge=0, le=1e6)] = 0.0

    def to_domain(self) -> Weights:
        """The domain's weights.

        Raises:
            InvalidRequest: all are zero.
        """
        weights = Weights(self.quality, self.cost, self.latency, self.reliability, self.load)
        try:
            return weights.normalised()
        except ValueError as error:
            raise InvalidRequest(f"weights: {error}", param="weights") from error


_Stop = Annotated[str, Field(max_length=1024)]
_Zone = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
_Models = Annotated[list[_Name], Field(max_length=256)]
_Tags = Annotated[
    dict[Annotated[Line, Field(min_length=1, max_length=64)], Annotated[Line, Field(max_length=512)]],
    Field(max_length=16),
]


class RouterOptions(Body):
    """What a request asks of the choice, beside its content."""

    preset: Literal["balanced", "cost", "quality", "latency"] | None = None
    weights: WeightsBody | None = None
    allow_models: _Models = Field(default_factory=list)
    deny_models: _Models = Field(default_factory=list)
    residency: Annotated[list[_Zone], Field(max_length=16)] = Field(default_factory=list)
    max_cost_usd: Annotated[Decimal, Field(gt=0, le=100_000)] | None = None
    max_latency_ms: Annotated[float, Field(gt=0, le=3_600_000)] | None = None
    security_label: Literal["public", "internal", "confidential", "restricted"] | None = None
    allow_fallback: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=600)] | None = None
    cache: Literal["use", "refresh", "off"] | None = None
    cascade: bool | None = None
    tags: _Tags = Field(default_factory=dict)
    priority: Literal["normal", "low"] = "normal"

    def constraints(self, model: str) -> RoutingConstraints:
        """The constraints, with the model word (``auto``, ``auto:cost``, a model id) read.

        Raises:
            InvalidRequest: `model` is ``auto:`` with an unknown preset.
        """
        preset = None if self.preset is None else Preset(self.preset)
        named: str | None = model
        word, _, wanted = model.partition(":")
        if word == "auto":
            named = None
            if wanted:
                try:
                    preset = Preset(wanted)
                except ValueError:
                    known = ", ".join(f"auto:{p.value}" for p in Preset)
                    raise InvalidRequest(f"model: unknown preset; use auto, {known}", param="model") from None
        return RoutingConstraints(
            model=named,
            allow_fallback=self.allow_fallback,
            preset=preset,
            weights=None if self.weights is None else self.weights.to_domain(),
            allow_models=frozenset(self.allow_models),
            deny_models=frozenset(self.deny_models),
            residency=frozenset(self.residency),
            max_cost_usd=self.max_cost_usd,
            max_latency_ms=self.max_latency_ms,
            label=None if self.security_label is None else SecurityLevel.from_label(self.security_label),
        )


class GenerationBody(Body):
    """What chat completions and /route share."""

    model: _Name = "auto"
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    tools: Annotated[list[ToolDefinition], Field(max_length=512)] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormatBody | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, le=1000)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Stop | Annotated[list[Annotated[_Stop, Field(min_length=1)]], Field(max_length=16)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: _Tags | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[Literal["text"]] | None = None
    # OpenAI's own platform; without meaning here.
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    verbosity: str | None = None

    @field_validator("n")
    @classmethod
    def _one_choice(cls, value: int | None) -> int | None:
        if value not in {None, 1}:
            raise ValueError("only one choice per request is supported")
        return value

    @field_validator("logprobs", "logit_bias", "top_logprobs")
    @classmethod
    def _no_logprobs(cls, value: object) -> object:
        if value:
            raise ValueError("not supported: no model family behind the router offers it uniformly")
        return value


class ChatBody(GenerationBody):
    """POST /chat/completions."""

    router: RouterOptions = Field(default_factory=RouterOptions)


class RouteBody(GenerationBody, RouterOptions):
    """POST /route: the router's options stand beside the generation's; `prompt` is short for one user message."""

    messages: Annotated[list[ChatMessage], Field(max_length=4096)] = Field(default_factory=list)
    prompt: str | None = None
    system: str | None = None
    dry_run: bool = False


class AnalyzeBody(GenerationBody):
    """POST /analyze and /classify: a request as it would be sent, read but neither routed nor called."""

    messages: Annotated[list[ChatMessage], Field(max_length=4096)] = Field(default_factory=list)
    prompt: str | None = None
    system: str | None = None
    security_label: Literal["public", "internal", "confidential", "restricted"] | None = None
