"""`ChatRequest` -> a Messages API body for Claude on Vertex AI, and what Claude cannot take.

https://platform.claude.com/docs/en/api/messages and https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    Part,
    ReasoningEffort,
    Role,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolMode,
    ToolResultPart,
)
from shared.ports import ProviderCall
from shared.providers.anthropic_traits import ClaudeTraits, ThinkingForm, traits_of

API_VERSION: Final = "vertex-2023-10-16"
JSON_TOOL: Final = "answer_in_json"
"""The tool a model is forced to call for a JSON answer where it has no structured outputs."""

_BUDGET_TOKENS: Final[Mapping[ReasoningEffort, int]] = {
    ReasoningEffort.LOW: 2048,
    ReasoningEffort.MEDIUM: 8192,
    ReasoningEffort.HIGH: 24576,
}
_MIN_BUDGET_TOKENS: Final = 1024
_ID_CHARACTERS = re.compile(r"[^a-zA-Z0-9_-]")
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
_JSON_INSTRUCTION: Final = "Answer with one JSON object and nothing else: no prose around it, no code fence."


def request_body(call: ProviderCall, *, stream: bool) -> bytes:
    """The JSON body for an attempt.

    Args:
        call: the attempt; `anthropic_check.check_request` accepted it.
        stream: whether the answer is to come as server-sent events.
    """
    request, traits = call.request, traits_of(call.deployment)
    body: dict[str, Any] = {
        "anthropic_version": API_VERSION,
        "max_tokens": call.max_output_tokens,
        "messages": _messages(request.messages, call.profile.id),
    }
    if stream:
        body["stream"] = True
    system = _system(request)
    if system:
        body["system"] = system
    _set_sampling(body, request)
    _set_tools(body, request, traits)
    _set_thinking(body, call, traits)
    if request.response_format.kind is FormatKind.JSON_SCHEMA and traits.structured_outputs:
        schema = {"type": "json_schema", "schema": request.response_format.schema or _ANY_OBJECT}
        body.setdefault("output_config", {})["format"] = schema
    return orjson.dumps(body, default=_plain)


def answers_by_tool(request: ChatRequest, traits: ClaudeTraits) -> bool:
    """Whether a JSON answer comes as the arguments of `JSON_TOOL`."""
    return request.response_format.kind is FormatKind.JSON_SCHEMA and not traits.structured_outputs


def _plain(value: object) -> object:
    """Schemas may be any mapping; orjson knows dict only."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


# --- turns -----------------------------------------------------------------------------------------------------------


def _messages(turns: tuple[Message, ...], model_id: str) -> list[dict[str, Any]]:
    """Turns in order; those of one role that follow each other are one, as results of parallel calls must be.

    Tool results come first in their turn, which the API demands.
    """
    merged: list[dict[str, Any]] = []
    for turn in turns:
        role = "assistant" if turn.role is Role.ASSISTANT else "user"
        blocks = [block for part in turn.parts if (block := _block(part, model_id)) is not None]
        if not blocks:
            continue
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        else:
            merged.append({"role": role, "content": blocks})
    for message in merged:
        message["content"].sort(key=lambda block: block["type"] != "tool_result")
    if merged and merged[-1]["role"] == "assistant" and "text" in merged[-1]["content"][-1]:
        # "final assistant content cannot end with trailing whitespace"
        merged[-1]["content"][-1]["text"] = merged[-1]["content"][-1]["text"].rstrip()
    return merged


def _block(part: Part, model_id: str) -> dict[str, Any] | None:
    """One content block, or None for what is left out: empty text, and thinking that is not this model's own."""
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case MediaPart():
            return _media(part)
        case ThinkingPart():
            return _thinking(part, model_id)
        case ToolCallPart():
            arguments = orjson.loads(part.arguments_json) if part.arguments_json.strip() else {}
            return {"type": "tool_use", "id": _tool_id(part.id), "name": part.name, "input": arguments}
        case ToolResultPart():
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": _tool_id(part.tool_call_id)}
            if part.text:
                result["content"] = part.text
            if part.is_error:
                result["is_error"] = True
            return result


def _media(part: MediaPart) -> dict[str, Any]:
    mime, data = part.mime_type.lower(), part.data or b""
    if mime == "text/plain":
        source = {"type": "text", "media_type": mime, "data": data.decode("utf-8", "replace")}
    else:
        source = {"type": "base64", "media_type": mime, "data": base64.b64encode(data).decode("ascii")}
    block: dict[str, Any] = {"type": "image" if part.modality is Modality.IMAGE else "document", "source": source}
    if part.modality is Modality.DOCUMENT and part.filename:
        block["title"] = part.filename
    return block


def _thinking(part: ThinkingPart, model_id: str) -> dict[str, Any] | None:
    if part.origin_model_id != model_id or not part.signature:
        return None
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.signature}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _tool_id(call_id: str) -> str:
    """Other vendors' ids may hold characters that the API refuses."""
    return _ID_CHARACTERS.sub("_", call_id)


# --- parameters ------------------------------------------------------------------------------------------------------


def _system(request: ChatRequest) -> str:
    """The system text; JSON without a schema is asked for in words, there is no mode for it."""
    if request.response_format.kind is FormatKind.JSON_OBJECT:
        return f"{request.system}\n\n{_JSON_INSTRUCTION}".strip()
    return request.system


def _set_sampling(body: dict[str, Any], request: ChatRequest) -> None:
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(request.sampling, name)
        if value is not None:
            body[name] = value
    if request.sampling.stop:
        body["stop_sequences"] = list(request.sampling.stop)


def _set_tools(body: dict[str, Any], request: ChatRequest, traits: ClaudeTraits) -> None:
    tools = [_tool(tool, traits) for tool in request.tools]
    choice: dict[str, Any] | None = None
    if answers_by_tool(request, traits):
        schema = request.response_format.schema or _ANY_OBJECT
        tools.append({"name": JSON_TOOL, "description": "Gives the answer.", "input_schema": schema})
        choice = {"type": "tool", "name": JSON_TOOL}
    elif request.tools:
        choice = _tool_choice(request)
    if tools:
        body["tools"] = tools
    if choice is not None:
        body["tool_choice"] = choice


def _tool(tool: Tool, traits: ClaudeTraits) -> dict[str, Any]:
    block: dict[str, Any] = {"name": tool.name, "input_schema": tool.parameters or _ANY_OBJECT}
    if tool.description:
        block["description"] = tool.description
    if tool.strict and traits.structured_outputs:
        block["strict"] = True
    return block


def _tool_choice(request: ChatRequest) -> dict[str, Any] | None:
    wanted = request.tool_choice
    choice: dict[str, Any]
    if wanted.name is not None:
        choice = {"type": "tool", "name": wanted.name}
    else:
        choice = {"type": {ToolMode.AUTO: "auto", ToolMode.REQUIRED: "any", ToolMode.NONE: "none"}[wanted.mode]}
    if request.parallel_tool_calls is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice if choice != {"type": "auto"} else None


def _set_thinking(body: dict[str, Any], call: ProviderCall, traits: ClaudeTraits) -> None:
    """Thinking as this generation takes it; off while a tool is forced, which excludes it."""
    if not call.profile.capabilities.thinking:
        return
    effort = call.request.reasoning_effort
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    if forced or effort is ReasoningEffort.NONE:
        if traits.thinking_off is not None:
            body["thinking"] = {"type": traits.thinking_off}
        return
    if effort is None:
        return
    if traits.thinking_form is ThinkingForm.ADAPTIVE:
        body["thinking"] = {"type": "adaptive"}
        if traits.thinking_hidden:
            body["thinking"]["display"] = "summarized"
        body.setdefault("output_config", {})["effort"] = effort.value
        return
    # Budgets count against max_tokens and have a floor; half of a short answer is left to the answer.
    budget = min(_BUDGET_TOKENS[effort], call.max_output_tokens // 2)
    if budget >= _MIN_BUDGET_TOKENS and not _continues_without_thinking(body["messages"]):
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _continues_without_thinking(messages: list[dict[str, Any]]) -> bool:
    """Whether tool results answer a turn without thinking: with a budget, such a turn must begin with its own."""
    if len(messages) < 2 or messages[-1]["content"][0]["type"] != "tool_result":  # noqa: PLR2004 - call and results
        return False
    return messages[-2]["content"][0]["type"] not in ("thinking", "redacted_thinking")
