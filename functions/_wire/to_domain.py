"""From the chat body to the domain's request."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from functions._wire import chat as wire
from functions._wire.content import only_text, parts_of, tools_of
from functions._wire.media import audio_of, file_of, media_at
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    Message,
    Modality,
    Part,
    ReasoningEffort,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from shared.domain.errors import InvalidRequest

MAX_PARTS_IN_ALL = 8192
"""Each part is read for itself, which costs more than its characters when there are very many."""
_TURN = re.compile(r"messages\[(\d+)\]")
_PART = re.compile(r"\.parts\[(\d+)\]")
_TOOL = re.compile(r"(tools\[\d+\])\.(description|parameters)")


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
            systems.append(only_text(parts_of(message.content, where, _part), where))
        else:
            messages.append(_message(message, where, call_names))
    if prompt is not None:
        messages.append(Message(Role.USER, (TextPart(prompt),)))
    require_few_parts(messages, "messages")
    if not messages:
        raise InvalidRequest("messages: at least one message that is not a system message", param="messages")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidRequest("give max_tokens or max_completion_tokens, not both", param="max_tokens")
    return ChatRequest(
        messages=tuple(messages),
        system="\n\n".join(part for part in systems if part),
        tools=tools_of((tool.function for tool in body.tools or ()), ".function"),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_response_format(body.response_format),
        sampling=_sampling(body),
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        reasoning_effort=effort_of(body.reasoning_effort),
    )


def require_few_parts(messages: Sequence[Message], field: str) -> None:
    """Refuse conversations of very many parts.

    Raises:
        InvalidRequest: naming the field.
    """
    if sum(len(message.parts) for message in messages) > MAX_PARTS_IN_ALL:
        raise InvalidRequest(f"{field}: more than {MAX_PARTS_IN_ALL} parts in all", param=field)


def body_param(param: str | None, body: wire.GenerationBody) -> str | None:
    """A field path of the domain as the caller's body has it: system messages count there, and not in the domain."""
    found = _TURN.match(param or "")
    if param is None or found is None:
        return None if param is None else _outer_param(param, body)
    turns = [i for i, message in enumerate(body.messages) if message.role not in {"system", "developer"}]
    turn = int(found[1])
    if turn >= len(turns):
        return "prompt"  # beyond the body's own messages stands the turn made of it
    inside = _PART.match(param, found.end())
    if inside is None:
        return f"messages[{turns[turn]}]{param[found.end() :]}"
    return f"messages[{turns[turn]}].{_field_of_part(body.messages[turns[turn]], int(inside[1]))}"


def _outer_param(param: str, body: wire.GenerationBody) -> str:
    """The field of what stands outside the turns."""
    if param == "system":
        first = next((i for i, message in enumerate(body.messages) if message.role in {"system", "developer"}), None)
        return param if first is None else f"messages[{first}].content"
    if param == "response_format.schema":
        return "response_format.json_schema.schema"
    tool = _TOOL.fullmatch(param)
    return param if tool is None else f"{tool[1]}.function.{tool[2]}"


def _field_of_part(message: wire.ChatMessage, position: int) -> str:
    """The field of a message that a part of its turn was made of, in the order of `_message`."""
    thinking = len(message.thinking_blocks or ()) if message.role == "assistant" else 0
    if position < thinking:
        return f"thinking_blocks[{position}]"
    position -= thinking
    spoken = len(message.content) if isinstance(message.content, list) else int(bool(message.content))
    if message.role == "assistant" and position >= spoken:
        call = position - spoken
        return f"tool_calls[{call}].function.arguments" if call < len(message.tool_calls or ()) else "refusal"
    return f"content[{position}]" if isinstance(message.content, list) and message.role != "tool" else "content"


def _message(message: wire.ChatMessage, where: str, call_names: dict[str, str]) -> Message:
    if message.role == "tool":
        return Message(Role.TOOL, (_tool_result(message, where, call_names),))
    if message.role == "user":
        parts = parts_of(message.content, where, _part)
        if not parts:
            raise InvalidRequest(f"{where}.content: must not be empty", param=f"{where}.content")
        return Message(Role.USER, parts)
    thinking = [
        ThinkingPart(b.thinking, b.signature, b.model, redacted=b.type == "redacted_thinking")
        for b in message.thinking_blocks or ()
    ]
    calls = [_tool_call(call) for call in message.tool_calls or ()]
    call_names.update((call.id, call.name) for call in calls)
    parts = (*thinking, *parts_of(message.content, where, _part), *calls)
    if message.refusal:
        parts = (*parts, TextPart(message.refusal))
    if not parts:
        raise InvalidRequest(f"{where}: an assistant message needs content or tool_calls", param=f"{where}.content")
    return Message(Role.ASSISTANT, parts)


def _tool_call(call: wire.ToolCall) -> ToolCallPart:
    signature, model_id = signatures_of(call.extra_content)
    return ToolCallPart(call.id, call.function.name, call.function.arguments or "{}", signature, model_id)


def signatures_of(extra: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """The signature in a tool call's `extra_content`, and the model that it is of."""
    extra = extra or {}
    return _text_at(extra, "google", "thought_signature"), _text_at(extra, "llm_router", "model")


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
    return ToolResultPart(message.tool_call_id, name, only_text(parts_of(message.content, where, _part), where))


def _part(part: wire.ContentPart, where: str) -> Part:
    match part:
        case wire.TextContent():
            return TextPart(part.text)
        case wire.RefusalContent():
            return TextPart(part.refusal)
        case wire.ImageContent():
            return media_at(part.image_url.url, Modality.IMAGE, f"{where}.image_url.url", detail=part.image_url.detail)
        case wire.VideoContent():
            return media_at(part.video_url.url, Modality.VIDEO, f"{where}.video_url.url")
        case wire.AudioContent():
            return audio_of(part.input_audio.data, part.input_audio.format, f"{where}.input_audio.data")
        case wire.FileContent():
            return file_of(part.file.file_data, part.file.filename, f"{where}.file")


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


def effort_of(word: str | None) -> ReasoningEffort | None:
    """OpenAI's word for the effort as the domain's; the least there is stands for ``minimal``."""
    if word is None:
        return None
    return ReasoningEffort.LOW if word == "minimal" else ReasoningEffort(word)
