"""ChatRequest -> the body of an OpenAI chat completion, for every server that speaks it on Vertex AI.

Source: https://platform.openai.com/docs/api-reference/chat/create; where servers differ, a `ChatDialect` says how:
https://cloud.google.com/vertex-ai/generative-ai/docs/maas/call-open-model-apis (models as a service),
https://docs.mistral.ai/api/#tag/chat (Mistral), https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    ReasoningEffort,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolMode,
    ToolResultPart,
)
from shared.domain.errors import InvalidRequest
from shared.ports import ProviderCall


class ReasoningForm(StrEnum):
    """How a server is told how much to think (`Deployment.options["reasoning"]`)."""

    EFFORT = "effort"
    """``reasoning_effort``: low, medium, high; thinking cannot be switched off (gpt-oss)."""
    THINKING = "thinking"
    """``chat_template_kwargs.thinking``: on or off (DeepSeek)."""
    ENABLE_THINKING = "enable_thinking"
    """``chat_template_kwargs.enable_thinking``: on or off (Qwen, GLM)."""


@dataclass(frozen=True, slots=True)
class ChatDialect:
    """Where one family of servers departs from OpenAI's chat completion.

    Attributes:
        required_tool: the word for "some tool must be called".
        seed_key: the name of the seed.
        top_k: whether top_k, which OpenAI has not, is taken.
        stream_usage: whether usage in streams must be asked for (and may be: Mistral refuses unknown keys).
        short_call_ids: whether tool call ids must be nine letters or digits.
        media: kinds of attachments that have a content part.
    """

    required_tool: str = "required"
    seed_key: str = "seed"
    top_k: bool = True
    stream_usage: bool = True
    short_call_ids: bool = False
    media: frozenset[Modality] = frozenset({Modality.IMAGE, Modality.AUDIO})


MAAS: Final = ChatDialect()
MISTRAL: Final = ChatDialect(
    required_tool="any",
    seed_key="random_seed",
    top_k=False,
    stream_usage=False,
    short_call_ids=True,
    media=frozenset({Modality.IMAGE}),
)
ENDPOINT: Final = ChatDialect(media=frozenset({Modality.IMAGE, Modality.AUDIO, Modality.VIDEO}))
"""vLLM's server: video has a content part there."""

AUDIO_FORMATS: Final[Mapping[str, str]] = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
"""The two formats ``input_audio`` knows."""

_SHORT_ID: Final = re.compile(r"[A-Za-z0-9]{9}")


def chat_body(
    call: ProviderCall,
    dialect: ChatDialect,
    *,
    model: str | None,
    stream: bool,
    reasoning: ReasoningForm,
    return_thinking: bool = False,
) -> dict[str, Any]:
    """The request body. What `check_chat` refuses is left out silently here.

    Args:
        call: the attempt.
        dialect: the server's family.
        model: the server's name for the model; None leaves the key out (one model per endpoint).
        stream: whether the answer is to be streamed.
        reasoning: how effort is told.
        return_thinking: whether thinking that this model wrote in earlier turns goes back as ``reasoning_content``.
    """
    request = call.request
    body: dict[str, Any] = {
        "messages": _messages(request, dialect, call.profile.id if return_thinking else None),
        "max_tokens": call.max_output_tokens,
        "stream": stream,
    }
    if model is not None:
        body["model"] = model
    if stream and dialect.stream_usage:
        body["stream_options"] = {"include_usage": True}
    _add_sampling(body, request, dialect)
    _add_tools(body, request, dialect)
    _add_format(body, request)
    if request.reasoning_effort is not None and call.profile.capabilities.thinking:
        _add_reasoning(body, request.reasoning_effort, reasoning)
    return body


def encode(body: Mapping[str, Any]) -> bytes:
    """JSON bytes; mappings that are not dicts (frozen schemas) are written as objects.

    Raises:
        InvalidRequest: a number over 64 bits or text that is not Unicode, somewhere in the request.
    """
    try:
        return orjson.dumps(body, default=_plain)
    except orjson.JSONEncodeError:
        raise InvalidRequest("the request holds a number or text that JSON cannot carry") from None


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


def _add_sampling(body: dict[str, Any], request: ChatRequest, dialect: ChatDialect) -> None:
    sampling = request.sampling
    wanted = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k if dialect.top_k else None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        dialect.seed_key: sampling.seed,
        "stop": list(sampling.stop) or None,
    }
    body.update((key, value) for key, value in wanted.items() if value is not None)


def _add_tools(body: dict[str, Any], request: ChatRequest, dialect: ChatDialect) -> None:
    if not request.tools:
        return
    body["tools"] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
                **({"strict": True} if tool.strict else {}),
            },
        }
        for tool in request.tools
    ]
    choice = request.tool_choice
    if choice.name is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.mode is not ToolMode.AUTO:  # AUTO is every server's default
        body["tool_choice"] = dialect.required_tool if choice.mode is ToolMode.REQUIRED else "none"
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls


def _add_format(body: dict[str, Any], request: ChatRequest) -> None:
    wanted = request.response_format
    if wanted.kind is FormatKind.JSON_OBJECT:
        body["response_format"] = {"type": "json_object"}
    elif wanted.kind is FormatKind.JSON_SCHEMA:
        schema = {"name": wanted.name or "answer", "schema": wanted.schema or {}, "strict": wanted.strict}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _add_reasoning(body: dict[str, Any], effort: ReasoningEffort, form: ReasoningForm) -> None:
    if form is ReasoningForm.EFFORT:
        if effort is not ReasoningEffort.NONE:
            body["reasoning_effort"] = effort.value
    else:
        body["chat_template_kwargs"] = {form.value: effort is not ReasoningEffort.NONE}


def _messages(request: ChatRequest, dialect: ChatDialect, thinker: str | None) -> list[dict[str, Any]]:
    """The turns; `thinker` is the model whose thinking is sent back, if any."""
    messages: list[dict[str, Any]] = []
    if request.system:
        messages.append({"role": "system", "content": request.system})
    for message in request.messages:
        if message.role is Role.ASSISTANT:
            messages += _assistant(message, dialect, thinker)
            continue
        messages += [_tool_result(part, dialect) for part in message.parts if isinstance(part, ToolResultPart)]
        content = _content(message)
        if content:
            messages.append({"role": "user", "content": content})
    return messages


def _assistant(message: Message, dialect: ChatDialect, thinker: str | None) -> list[dict[str, Any]]:
    turn: dict[str, Any] = {"role": "assistant", "content": message.text() or None}
    calls = [
        {
            "id": _call_id(part.id, dialect),
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments_json},
        }
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    if calls:
        turn["tool_calls"] = calls
    if not calls and not turn["content"]:
        return []  # nothing but thinking: servers refuse a turn without content and calls
    thinking = [p.text for p in message.parts if isinstance(p, ThinkingPart) and p.origin_model_id == thinker]
    if thinker and thinking:
        turn["reasoning_content"] = "".join(thinking)
    return [turn]


def _tool_result(part: ToolResultPart, dialect: ChatDialect) -> dict[str, Any]:
    # The wire form has no error flag, so the text says it.
    text = f"Error: {part.text}" if part.is_error else part.text
    return {"role": "tool", "tool_call_id": _call_id(part.tool_call_id, dialect), "content": text}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not any(isinstance(part, MediaPart) for part in message.parts):
        return message.text()
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, MediaPart):
            content.append(_media(part))
    return content


def _media(part: MediaPart) -> dict[str, Any]:
    if part.modality is Modality.AUDIO:
        encoded = base64.b64encode(part.data or b"").decode()
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": AUDIO_FORMATS[part.mime_type]}}
    url = part.uri or f"data:{part.mime_type};base64,{base64.b64encode(part.data or b'').decode()}"
    if part.modality is Modality.VIDEO:
        return {"type": "video_url", "video_url": {"url": url}}
    return {"type": "image_url", "image_url": {"url": url, **({"detail": part.detail} if part.detail else {})}}


def _call_id(call_id: str, dialect: ChatDialect) -> str:
    """The call's id in the server's form; the same id always becomes the same one, so calls and results still match."""
    if not dialect.short_call_ids or _SHORT_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]
