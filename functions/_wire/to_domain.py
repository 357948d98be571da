"""From the chat body to the domain's request."""

import base64
import binascii
import mimetypes
import re
from collections.abc import Mapping, Sequence
from typing import Any

from functions._wire import chat as wire
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    Part,
    ReasoningEffort,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from shared.domain.errors import InvalidRequest

_AUDIO_TYPES = {"mp3": "audio/mpeg", "m4a": "audio/mp4"}
_TURN = re.compile(r"messages\[(\d+)\]")
_URI_SCHEMES = ("https://", "gs://")


def chat_request(body: wire.GenerationBody, *, prompt: str | None = None, system: str | None = None) -> ChatRequest:
    """The neutral request.

    Raises:
        InvalidRequest: something that types alone do not catch; `param` names it.
    """
    systems = [] if system is None else [system]
    messages: list[Message] = []
    call_names: dict[str, str] = {}
    for index, message in enumerate(body.messages):
        where = f"messages[{index}]"
        if message.role in {"system", "developer"}:
            systems.append(_only_text(message.content, where))
        else:
            messages.append(_message(message, where, call_names))
    if prompt is not None:
        messages.append(Message(Role.USER, (TextPart(prompt),)))
    if not messages:
        raise InvalidRequest("messages: at least one message that is not a system message", param="messages")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidRequest("give max_tokens or max_completion_tokens, not both", param="max_tokens")
    return ChatRequest(
        messages=tuple(messages),
        system="\n\n".join(part for part in systems if part),
        tools=_tools(body.tools or ()),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_response_format(body.response_format),
        sampling=_sampling(body),
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        reasoning_effort=_effort(body.reasoning_effort),
    )


def body_param(param: str | None, body: wire.GenerationBody) -> str | None:
    """A field path of the domain as the caller's body has it: system messages count there, and not in the domain."""
    found = _TURN.match(param or "")
    if param is None or found is None:
        return param
    turns = [i for i, message in enumerate(body.messages) if message.role not in {"system", "developer"}]
    turn = int(found[1])
    # Beyond the body's own messages stands the turn made of `prompt`.
    return f"messages[{turns[turn]}]{param[found.end() :]}" if turn < len(turns) else "prompt"


def _message(message: wire.ChatMessage, where: str, call_names: dict[str, str]) -> Message:
    if message.role == "tool":
        return Message(Role.TOOL, (_tool_result(message, where, call_names),))
    if message.role == "user":
        parts = _parts(message.content, where)
        if not parts:
            raise InvalidRequest(f"{where}.content: must not be empty", param=f"{where}.content")
        return Message(Role.USER, parts)
    thinking = [
        ThinkingPart(b.thinking, b.signature, b.model, redacted=b.type == "redacted_thinking")
        for b in message.thinking_blocks or ()
    ]
    calls = [_tool_call(call) for call in message.tool_calls or ()]
    call_names.update((call.id, call.name) for call in calls)
    parts = (*thinking, *_parts(message.content, where), *calls)
    if message.refusal:
        parts = (*parts, TextPart(message.refusal))
    if not parts:
        raise InvalidRequest(f"{where}: an assistant message needs content or tool_calls", param=f"{where}.content")
    return Message(Role.ASSISTANT, parts)


def _tool_call(call: wire.ToolCall) -> ToolCallPart:
    extra = call.extra_content or {}
    return ToolCallPart(
        id=call.id,
        name=call.function.name,
        arguments_json=call.function.arguments or "{}",
        signature=_text_at(extra, "google", "thought_signature"),
        origin_model_id=_text_at(extra, "llm_router", "model"),
    )


def _text_at(extra: Mapping[str, Any], group: str, key: str) -> str | None:
    inner = extra.get(group)
    value = inner.get(key) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else None


def _tool_result(message: wire.ChatMessage, where: str, call_names: Mapping[str, str]) -> ToolResultPart:
    param = f"{where}.tool_call_id"
    if message.tool_call_id is None:
        raise InvalidRequest(f"{param}: required in a tool message", param=param)
    name = call_names.get(message.tool_call_id)
    if name is None:
        raise InvalidRequest(f"{param}: no earlier assistant message made this tool call", param=param)
    return ToolResultPart(message.tool_call_id, name, _only_text(message.content, where))


def _only_text(content: str | Sequence[wire.ContentPart] | None, where: str) -> str:
    parts = _parts(content, where)
    for index, part in enumerate(parts):
        if not isinstance(part, TextPart):
            param = f"{where}.content[{index}]"
            raise InvalidRequest(f"{param}: only text is possible in this message", param=param)
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def _parts(content: str | Sequence[wire.ContentPart] | None, where: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    return tuple(_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))


def _part(part: wire.ContentPart, where: str) -> Part:
    match part:
        case wire.TextContent():
            return TextPart(part.text)
        case wire.RefusalContent():
            return TextPart(part.refusal)
        case wire.ImageContent():
            return _media(part.image_url.url, Modality.IMAGE, f"{where}.image_url.url", detail=part.image_url.detail)
        case wire.VideoContent():
            return _media(part.video_url.url, Modality.VIDEO, f"{where}.video_url.url")
        case wire.AudioContent():
            audio = part.input_audio
            mime_type = _AUDIO_TYPES.get(audio.format, f"audio/{audio.format}")
            return MediaPart(Modality.AUDIO, mime_type, _decoded(audio.data, f"{where}.input_audio.data"))
        case wire.FileContent():
            return _file(part.file, f"{where}.file")


def _file(file: wire.FileObject, where: str) -> MediaPart:
    if file.file_data is None:
        raise InvalidRequest(f"{where}.file_data: required; uploaded files (file_id) are not kept here", param=where)
    if file.file_data.startswith("data:"):
        return _media(file.file_data, None, f"{where}.file_data", filename=file.filename)
    mime_type = mimetypes.guess_type(file.filename or "")[0] or "application/pdf"
    data = _decoded(file.file_data, f"{where}.file_data")
    return MediaPart(_modality_of(mime_type), mime_type, data, filename=file.filename)


def _media(
    url: str, modality: Modality | None, where: str, *, detail: str | None = None, filename: str | None = None
) -> MediaPart:
    if url.startswith("data:"):
        head, separator, payload = url[5:].partition(",")
        mime_type, _, encoding = head.partition(";")
        if not separator or encoding != "base64" or "/" not in mime_type:
            raise InvalidRequest(f"{where}: a data URL must read data:TYPE;base64,DATA", param=where)
        kind = modality or _modality_of(mime_type)
        return MediaPart(kind, mime_type.lower(), _decoded(payload, where), filename=filename, detail=detail)
    if not url.startswith(_URI_SCHEMES):
        raise InvalidRequest(f"{where}: must be a data:, https:// or gs:// URL", param=where)
    guessed = mimetypes.guess_type(url.partition("?")[0])[0]
    kind = modality or Modality.DOCUMENT
    default = {Modality.IMAGE: "image/jpeg", Modality.VIDEO: "video/mp4"}.get(kind, "application/octet-stream")
    return MediaPart(kind, guessed or default, uri=url, filename=filename, detail=detail)


def _modality_of(mime_type: str) -> Modality:
    family = mime_type.partition("/")[0]
    return Modality(family) if family in {"image", "audio", "video"} else Modality.DOCUMENT


def _decoded(payload: str, where: str) -> bytes:
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{where}: not valid base64", param=where) from None
    if not data:
        raise InvalidRequest(f"{where}: empty", param=where)
    return data


def _tools(definitions: Sequence[wire.ToolDefinition]) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for index, definition in enumerate(definitions):
        function = definition.function
        if any(tool.name == function.name for tool in tools):
            param = f"tools[{index}].function.name"
            raise InvalidRequest(f"{param}: another tool has this name", param=param)
        schema = function.parameters or {"type": "object", "properties": {}}
        tools.append(Tool(function.name, function.description or "", schema, strict=bool(function.strict)))
    return tuple(tools)


def _tool_choice(body: wire.GenerationBody) -> ToolChoice:
    choice = body.tool_choice
    if choice is None:
        return ToolChoice()
    if not body.tools and choice != "none":
        raise InvalidRequest("tool_choice: needs tools", param="tool_choice")
    if isinstance(choice, str):
        return ToolChoice(ToolMode(choice))
    name = choice.function.name
    if all(tool.function.name != name for tool in body.tools or ()):
        raise InvalidRequest("tool_choice.function.name: not among the tools", param="tool_choice.function.name")
    return ToolChoice(ToolMode.REQUIRED, name)


def _response_format(body: wire.ResponseFormatBody | None) -> ResponseFormat:
    if body is None:
        return ResponseFormat()
    kind = FormatKind(body.type)
    if kind is not FormatKind.JSON_SCHEMA:
        return ResponseFormat(kind)
    if body.json_schema is None:
        param = "response_format.json_schema"
        raise InvalidRequest(f"{param}: required when type is json_schema", param=param)
    schema = body.json_schema
    return ResponseFormat(kind, schema.name, schema.schema_, strict=bool(schema.strict))


def _sampling(body: wire.GenerationBody) -> Sampling:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        seed=body.seed,
        stop=stop,
    )


def _effort(word: str | None) -> ReasoningEffort | None:
    if word is None:
        return None
    return ReasoningEffort.LOW if word == "minimal" else ReasoningEffort(word)
