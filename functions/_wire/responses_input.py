"""From the body of POST /responses to the domain's request."""

import base64
import binascii
import re
from dataclasses import dataclass, field

import orjson

from functions._wire import responses_body as wire
from functions._wire.chat import RouterOptions
from functions._wire.content import only_text, parts_of, tools_of
from functions._wire.media import audio_of, file_of, media_at
from functions._wire.to_domain import effort_of, require_few_parts, signatures_of
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    Message,
    Modality,
    Part,
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

_TURN = re.compile(r"messages\[(\d+)\](.*)", re.DOTALL)
_FIELDS = {
    "messages": "input",
    "system": "instructions",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
"""Names of the domain's request that this body calls otherwise."""
_SEAL_VERSION = 1


@dataclass(slots=True)
class _Conversation:
    """Items folded into turns: what the model said between two turns of the others is one turn."""

    messages: list[Message] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    """The item that each turn began with."""
    spoken: list[Part] = field(default_factory=list)
    spoken_from: int = 0

    def add(self, role: Role, parts: tuple[Part, ...], index: int) -> None:
        self.end_spoken()
        self.messages.append(Message(role, parts))
        self.origins.append(index)

    def speak(self, part: Part, index: int) -> None:
        if not self.spoken:
            self.spoken_from = index
        self.spoken.append(part)

    def end_spoken(self) -> None:
        if self.spoken:
            self.messages.append(Message(Role.ASSISTANT, tuple(self.spoken)))
            self.origins.append(self.spoken_from)
            self.spoken = []


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """The neutral request, and where its turns stand in the body."""

    request: ChatRequest
    origins: tuple[int, ...]

    def param(self, param: str | None) -> str | None:
        """A field path of the domain as the caller's body has it."""
        if param is None:
            return None
        turn = _TURN.fullmatch(param)
        if turn is not None:
            place = int(turn[1])
            if not self.origins or place >= len(self.origins):
                return "input"
            # Positions inside a turn are the body's own only where the turn is one message of the caller.
            inside = turn[2].replace(".parts[", ".content[") if self.request.messages[place].role is Role.USER else ""
            return f"input[{self.origins[place]}]{inside}"
        if param in RouterOptions.model_fields:
            return f"router.{param}"
        head, dot, rest = param.partition(".")
        return f"{_FIELDS.get(head, head)}{dot}{rest}"


def responses_request(body: wire.ResponsesBody) -> ResponsesRequest:
    """Read a body.

    Raises:
        InvalidRequest: something that types alone do not catch; `param` names it.
    """
    systems = [body.instructions or ""]
    talk = _Conversation()
    if isinstance(body.input, str):
        if not body.input:
            raise InvalidRequest("input: must not be empty", param="input")
        talk.messages.append(Message(Role.USER, (TextPart(body.input),)))
    else:
        call_names: dict[str, str] = {}
        for index, item in enumerate(body.input):
            _add_item(item, index, talk, systems, call_names)
        talk.end_spoken()
    require_few_parts(talk.messages, "input")
    if not talk.messages:
        raise InvalidRequest("input: at least one item that is not a system message", param="input")
    request = ChatRequest(
        messages=tuple(talk.messages),
        system="\n\n".join(part for part in systems if part),
        tools=tools_of(body.tools or ()),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_response_format(None if body.text is None else body.text.format),
        sampling=Sampling(temperature=body.temperature, top_p=body.top_p),
        max_output_tokens=body.max_output_tokens,
        reasoning_effort=effort_of(None if body.reasoning is None else body.reasoning.effort),
    )
    return ResponsesRequest(request, tuple(talk.origins))


def sealed(part: ThinkingPart) -> str | None:
    """What a reasoning item carries so that the next turn can bring a vendor's signature back; None without one.

    It is opaque to callers, as OpenAI's `encrypted_content` is, but holds nothing that would need encryption: the
    vendor's signature is opaque itself.
    """
    if part.signature is None:
        return None
    content = [_SEAL_VERSION, part.origin_model_id, part.signature, part.redacted]
    return base64.b64encode(orjson.dumps(content)).decode()


def _unsealed(item: wire.ReasoningInput) -> ThinkingPart | None:
    """The reasoning of one of the router's own items; None for what others wrote, which means nothing here."""
    if item.encrypted_content is None:
        return None
    try:
        content = orjson.loads(base64.b64decode(item.encrypted_content, validate=True))
    except (binascii.Error, ValueError):
        return None
    match content:
        case [version, str(model_id), str(signature), bool(redacted)] if version == _SEAL_VERSION:
            return ThinkingPart("".join(s.text for s in item.summary), signature, model_id, redacted=redacted)
        case _:
            return None


def _add_item(
    item: wire.InputItem, index: int, talk: _Conversation, systems: list[str], call_names: dict[str, str]
) -> None:
    where = f"input[{index}]"
    match item:
        case wire.InputMessage():
            _add_message(item, index, talk, systems)
        case wire.FunctionCallItem():
            call_names[item.call_id] = item.name
            signature, model_id = signatures_of(item.extra_content)
            call = ToolCallPart(item.call_id, item.name, item.arguments or "{}", signature, model_id)
            talk.speak(call, index)
        case wire.FunctionOutputItem():
            name = call_names.get(item.call_id)
            if name is None:
                param = f"{where}.call_id"
                raise InvalidRequest(f"{param}: no earlier function_call has this id", param=param)
            output = item.output if isinstance(item.output, str) else "\n".join(part.text for part in item.output)
            talk.add(Role.TOOL, (ToolResultPart(item.call_id, name, output),), index)
        case wire.ReasoningInput():
            thinking = _unsealed(item)
            if thinking is not None:
                talk.speak(thinking, index)


def _add_message(item: wire.InputMessage, index: int, talk: _Conversation, systems: list[str]) -> None:
    where = f"input[{index}]"
    if item.role in {"system", "developer"}:
        systems.append(only_text(parts_of(item.content, where, _part), where))
        return
    parts = parts_of(item.content, where, _part)
    if item.role == "assistant":
        for part in parts:
            talk.speak(part, index)
    elif parts:
        talk.add(Role.USER, parts, index)
    else:
        raise InvalidRequest(f"{where}.content: must not be empty", param=f"{where}.content")


def _part(part: wire.InputPart, where: str) -> Part:
    match part:
        case wire.InputText():
            return TextPart(part.text)
        case wire.InputRefusal():
            return TextPart(part.refusal)
        case wire.InputImage():
            if part.image_url is None:
                param = f"{where}.image_url"
                raise InvalidRequest(f"{param}: required; uploaded files (file_id) are not kept here", param=param)
            detail = "high" if part.detail == "original" else part.detail
            return media_at(part.image_url, Modality.IMAGE, f"{where}.image_url", detail=detail)
        case wire.InputSound():
            return audio_of(part.input_audio.data, part.input_audio.format, f"{where}.input_audio.data")
        case wire.InputFile():
            if part.file_data is None and part.file_url is not None:
                return media_at(part.file_url, None, f"{where}.file_url", filename=part.filename)
            return file_of(part.file_data, part.filename, where)


def _tool_choice(body: wire.ResponsesBody) -> ToolChoice:
    choice = body.tool_choice
    # Clients send "auto" also when they have no tools.
    if choice is None or (choice == "auto" and not body.tools):
        return ToolChoice()
    if not body.tools and choice != "none":
        raise InvalidRequest("tool_choice: needs tools", param="tool_choice")
    if isinstance(choice, str):
        return ToolChoice(ToolMode(choice))
    if all(tool.name != choice.name for tool in body.tools or ()):
        raise InvalidRequest("tool_choice.name: not among the tools", param="tool_choice.name")
    return ToolChoice(ToolMode.REQUIRED, choice.name)


def _response_format(wanted: wire.TextFormat | None) -> ResponseFormat:
    if wanted is None:
        return ResponseFormat()
    kind = FormatKind(wanted.type)
    if kind is not FormatKind.JSON_SCHEMA:
        return ResponseFormat(kind)
    if wanted.schema_ is None:
        raise InvalidRequest("text.format.schema: required when type is json_schema", param="text.format.schema")
    return ResponseFormat(kind, wanted.name, wanted.schema_, strict=bool(wanted.strict))
