"""The body of POST /responses: the parts of OpenAI's Responses API that have a meaning behind a router.

Source: https://platform.openai.com/docs/api-reference/responses/create. What needs state on the server, tools that
OpenAI runs itself, or other features of its platform is refused by name; fields that only concern that platform
(`user`, `service_tier`, ...) are accepted and ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator

from functions._wire.chat import MAX_PARTS, NamedFunction, RouterOptions
from functions._wire.parsing import Body, Line

REASONING_CONTENT = "reasoning.encrypted_content"
"""The one `include` that is honoured: reasoning items always carry it."""


class _Replayed(Body):
    """An item of an earlier answer, sent back as it came: what servers add to it is not looked at."""

    model_config = ConfigDict(extra="ignore")


class InputText(_Replayed):
    """Text, of the caller or of an earlier answer."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class InputRefusal(_Replayed):
    """A refusal in an earlier answer."""

    type: Literal["refusal"]
    refusal: str


class InputImage(Body):
    """An image as a data URL, or by URI where the model takes URIs."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


class InputFile(Body):
    """A document as base64, a data URL or a URI."""

    type: Literal["input_file"]
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: Annotated[Line, Field(max_length=255)] | None = None


class SoundData(Body):
    """Base64 audio."""

    data: str
    format: Literal["wav", "mp3"]


class InputSound(Body):
    """An audio part."""

    type: Literal["input_audio"]
    input_audio: SoundData


InputPart = Annotated[
    InputText | InputRefusal | InputImage | InputFile | InputSound,
    Field(discriminator="type"),
]


class InputMessage(_Replayed):
    """A message; `type` may be left out."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Annotated[list[InputPart], Field(max_length=MAX_PARTS)]


class FunctionCallItem(_Replayed):
    """A tool call of an earlier answer. `extra_content` brings back what the router sent with it."""

    type: Literal["function_call"]
    call_id: Annotated[Line, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
    arguments: str
    extra_content: dict[str, Any] | None = None


class FunctionOutputItem(_Replayed):
    """What a tool answered."""

    type: Literal["function_call_output"]
    call_id: Annotated[Line, Field(min_length=1, max_length=256)]
    output: str | list[InputText]


class SummaryText(_Replayed):
    """A stretch of shown reasoning."""

    text: str


class ReasoningInput(_Replayed):
    """Reasoning of an earlier answer: used when the router itself wrote its `encrypted_content`, ignored otherwise."""

    type: Literal["reasoning"]
    summary: list[SummaryText] = Field(default_factory=list)
    encrypted_content: str | None = None


def _kind(item: Any) -> str:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "message")
    return kind if isinstance(kind, str) else "message"


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningInput, Tag("reasoning")],
    Discriminator(
        _kind,
        custom_error_type="unsupported_item",
        custom_error_message="not supported: items are message, function_call, function_call_output and reasoning",
    ),
]


class FunctionTool(Body):
    """A tool the model may call; `parameters` is a JSON Schema."""

    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @field_validator("type", mode="before")
    @classmethod
    def _only_functions(cls, value: object) -> object:
        if value != "function":
            raise ValueError("only function tools are possible: the router runs no tools itself")
        return value


class FunctionChoice(NamedFunction):
    """Call exactly this tool."""

    type: Literal["function"]


class TextFormat(Body):
    """What shape the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=64)] = "answer"
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextOptions(Body):
    """Options of the text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(Body):
    """How much thinking; what the model shows of it comes as its summary, whatever `summary` asks for."""

    effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class StreamExtras(Body):
    """Options of a streamed answer."""

    include_obfuscation: bool | None = None


_Tags = Annotated[
    dict[Annotated[Line, Field(min_length=1, max_length=64)], Annotated[Line, Field(max_length=512)]],
    Field(max_length=16),
]


class ResponsesBody(Body):
    """POST /responses."""

    model: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\w.:/@-]+$")] = "auto"
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=4096)]
    instructions: str | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=512)] | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stream: bool | None = None
    stream_options: StreamExtras | None = None
    metadata: _Tags | None = None
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    router: RouterOptions = Field(default_factory=RouterOptions)
    # What needs state on the server, or OpenAI's own platform: refused when it is asked for.
    store: bool | None = None
    background: bool | None = None
    background_options: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    max_tool_calls: Any = None
    context_management: Any = None
    moderation: Any = None
    top_logprobs: int | None = None
    # The same, without meaning here.
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Any = None
    service_tier: str | None = None

    @field_validator("store", "background", "previous_response_id", "conversation", "prompt")
    @classmethod
    def _nothing_is_kept(cls, value: object) -> object:
        if value:
            raise ValueError("not supported: the router keeps no answers; send the whole conversation as input")
        return value

    @field_validator("background_options", "max_tool_calls", "context_management", "moderation", "top_logprobs")
    @classmethod
    def _not_offered(cls, value: object) -> object:
        if value:
            raise ValueError("not supported: no model family behind the router offers it uniformly")
        return value

    @field_validator("truncation")
    @classmethod
    def _never_shortened(cls, value: str | None) -> str | None:
        if value == "auto":
            raise ValueError("not supported: the router never drops a part of the input")
        return value

    @field_validator("include")
    @classmethod
    def _only_reasoning(cls, value: list[str] | None) -> list[str] | None:
        if set(value or ()) - {REASONING_CONTENT}:
            raise ValueError(f"only {REASONING_CONTENT} can be included")
        return value
