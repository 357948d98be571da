"""Reading Messages API requests for Claude on Vertex, with the checks and sentences of Anthropic's own server."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from infra.local.simulator.ask import Ask, Media, ToolSpec, Turn, merge_turns
from infra.local.simulator.engine import Inquiry
from infra.local.simulator.plan import PromptTokens, is_signature
from infra.local.simulator.problems import invalid
from infra.local.simulator.profiles import Profile

VERSION = "vertex-2023-10-16"
_MIN_BUDGET_TOKENS = 1_024
_ADAPTIVE_TOKENS = {"low": 1_024, "medium": 4_096, "high": 16_384, "max": 32_768}
_MAX_IMAGE_BYTES = 5 * 1024 * 1024
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_TTL_S = {"5m": 300, "1h": 3600}
_FIELDS = frozenset({
    "anthropic_version", "anthropic_beta", "max_tokens", "messages", "system", "stream", "temperature", "top_p",
    "top_k", "stop_sequences", "tools", "tool_choice", "thinking", "metadata", "output_config", "context_management",
    "container", "service_tier",
})  # fmt: skip


def read(body: Any, profile: Profile) -> Inquiry:
    """Read a Messages request.

    Raises:
        Problem: 400, with Anthropic's sentence.
    """
    if not isinstance(body, Mapping):
        raise invalid("Input should be a valid dictionary")
    if "model" in body:
        raise invalid("model: Extra inputs are not permitted")
    for name in body:
        if name not in _FIELDS:
            raise invalid(f"{name}: Extra inputs are not permitted")
    version = body.get("anthropic_version")
    if version is None:
        raise invalid("anthropic_version: Field required")
    if version != VERSION:
        raise invalid(f'anthropic_version: Input should be "{VERSION}"')
    return Inquiry(_ask(body, profile, counting=False), stream=body.get("stream") is True)


def read_count(body: Any, profile: Profile) -> Ask:
    """Read the body of count-tokens, which has a ``model`` and no ``max_tokens``.

    Raises:
        Problem: 400.
    """
    return _ask(body, profile, counting=True)


def check(profile: Profile, ask: Ask, prompt: PromptTokens) -> None:
    """Refuse what the model does not take.

    Raises:
        Problem: 400, with Anthropic's sentence.
    """
    if ask.max_tokens is not None and ask.max_tokens > profile.max_output_tokens:
        raise invalid(
            f"max_tokens: {ask.max_tokens} > {profile.max_output_tokens}, which is the maximum allowed number of "
            f"output tokens for {profile.id}"
        )
    if prompt.total > profile.context_tokens:
        raise invalid(f"prompt is too long: {prompt.total} tokens > {profile.context_tokens} maximum")
    if profile.fixed_sampling:
        for name, default in (("temperature", 1), ("top_p", 1), ("top_k", None)):
            if ask.sampling.get(name, default) != default:
                raise invalid(f"{name}: {profile.id} only supports the default value of {name}.")


def _ask(body: Mapping[str, Any], profile: Profile, *, counting: bool) -> Ask:
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise invalid("messages: Field required" if messages is None else "messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    max_tokens = None if counting else _max_tokens(body)
    turns_of = _Turns(profile)
    turns = [turns_of.read(item, number) for number, item in enumerate(messages)]
    marks = turns_of.marks
    system = _system(body.get("system", ""), marks)
    tools = _tools(body.get("tools") or [], marks)
    thinking, shown = _thinking(body, profile, max_tokens)
    _check_thinking_kept(messages, enabled=bool(thinking))
    mode, forced = _tool_mode(body.get("tool_choice"), tools, thinking=bool(thinking))
    schema = _schema(body)
    return Ask(
        turns=merge_turns(turns) if not marks else tuple(turns),
        system=system,
        tools=tools,
        tool_mode=mode,  # type: ignore[arg-type]  # one of the three literals
        tool_names=forced,
        json_mode=schema is not None,
        schema=schema,
        max_tokens=max_tokens,
        stops=tuple(body.get("stop_sequences") or ()),
        thinking_tokens=thinking,
        show_thinking=shown,
        sampling=_sampling(body),
        cache_marks=tuple(marks),
    )


def _max_tokens(body: Mapping[str, Any]) -> int:
    value = body.get("max_tokens")
    if value is None:
        raise invalid("max_tokens: Field required")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    return value


class _Turns:
    """Reads messages one after the other.

    Attributes:
        marks: cache breakpoints as (turns before it, lifetime in seconds).
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._tool_names: dict[str, str] = {}
        self.marks: list[tuple[int, int]] = []

    def read(self, item: Any, number: int) -> Turn:
        """One message.

        Raises:
            Problem: 400.
        """
        where = f"messages.{number}"
        if not isinstance(item, Mapping):
            raise invalid(f"{where}: Input should be a valid dictionary")
        role = item.get("role")
        if role not in {"user", "assistant"}:
            raise invalid(f"{where}.role: Input should be 'user' or 'assistant'")
        content = item.get("content")
        if isinstance(content, str) and content:
            return Turn(role, content)
        if not content:
            raise invalid(
                f"{where}: all messages must have non-empty content except for the optional final assistant message"
            )
        if not isinstance(content, list):
            raise invalid(f"{where}.content: Input should be a valid list")
        turn = Turn(role)
        for block_number, block in enumerate(content):
            place = f"{where}.content.{block_number}"
            if not isinstance(block, Mapping):
                raise invalid(f"{place}: Input should be a valid dictionary")
            _mark(block, number + 1, self.marks)
            turn = self._with_block(turn, block, place)
        return turn

    def _with_block(self, turn: Turn, block: Mapping[str, Any], place: str) -> Turn:
        match block.get("type"):
            case "text":
                if not block.get("text"):
                    raise invalid("messages: text content blocks must be non-empty")
                text = str(block["text"])
                return replace(turn, text=f"{turn.text}\n{text}" if turn.text else text)
            case "image" | "document":
                return replace(turn, media=(*turn.media, _media(block, place, self._profile)))
            case "tool_use":
                self._tool_names[str(block.get("id"))] = str(block.get("name"))
                call = (str(block.get("name")), orjson.dumps(block.get("input", {})).decode())
                return replace(turn, calls=(*turn.calls, call))
            case "tool_result":
                return replace(turn, results=(*turn.results, _result(block, place, self._tool_names)))
            case "thinking" | "redacted_thinking":
                _check_signature(block, place)
                return turn
            case kind:
                raise invalid(
                    f"{place}.type: Input tag '{kind}' found using 'type' does not match any of the expected tags"
                )


def _media(block: Mapping[str, Any], place: str, profile: Profile) -> Media:
    source = block.get("source")
    if not isinstance(source, Mapping):
        raise invalid(f"{place}.source: Field required")
    kind = str(block["type"])
    if source.get("type") == "text" and kind == "document":
        return Media.of("text/plain", str(source.get("data", "")).encode())
    if source.get("type") != "base64":
        raise invalid(f"{place}.source.type: URL sources are not supported on this platform; use base64")
    mime_type = str(source.get("media_type", ""))
    if kind not in profile.modalities:
        raise invalid(f"{place}: this model does not support {kind} input")
    try:
        data = base64.b64decode(str(source.get("data", "")), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{place}.source.base64.data: invalid base64 data") from error
    if kind == "image" and mime_type not in _IMAGE_TYPES:
        raise invalid(
            f"{place}.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
        )
    if kind == "document" and mime_type != "application/pdf":
        raise invalid(f"{place}.source.base64.media_type: Input should be 'application/pdf'")
    if kind == "image" and len(data) > _MAX_IMAGE_BYTES:
        raise invalid(
            f"{place}.source.base64: image exceeds 5 MB maximum: {len(data)} bytes > {_MAX_IMAGE_BYTES} bytes"
        )
    return Media.of(mime_type, data)


def _result(block: Mapping[str, Any], place: str, names: Mapping[str, str]) -> tuple[str, str]:
    call_id = str(block.get("tool_use_id", ""))
    if call_id not in names:
        raise invalid(
            f"{place}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each `tool_result` block "
            "must have a corresponding `tool_use` block in the previous message."
        )
    content = block.get("content", "")
    if isinstance(content, list):
        content = "\n".join(str(item.get("text", "")) for item in content if isinstance(item, Mapping))
    return names[call_id], str(content)


def _check_signature(block: Mapping[str, Any], place: str) -> None:
    name = "signature" if block["type"] == "thinking" else "data"
    try:
        value = base64.b64decode(str(block.get(name, "")), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if not is_signature(value):
        raise invalid(f"{place}: Invalid `{name}` in `{block['type']}` block")


def _check_thinking_kept(messages: list[Any], *, enabled: bool) -> None:
    """With thinking on, an assistant turn whose tools are now answered must begin with its thinking block."""
    if not enabled or len(messages) < 2:  # noqa: PLR2004 - a result needs a call before it
        return
    last, before = messages[-1].get("content"), messages[-2].get("content")
    if not isinstance(last, list) or not any(block.get("type") == "tool_result" for block in last):
        return
    first = before[0].get("type") if isinstance(before, list) else "text"
    if first not in {"thinking", "redacted_thinking"}:
        raise invalid(
            f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{first}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block "
            "(preceeding the lastmost set of `tool_use` and `tool_result` blocks)."
        )


def _system(value: Any, marks: list[tuple[int, int]]) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise invalid("system: Input should be a valid string or list")
    for block in value:
        _mark(block, 0, marks)
    return "\n".join(str(block.get("text", "")) for block in value)


def _tools(value: Any, marks: list[tuple[int, int]]) -> tuple[ToolSpec, ...]:
    tools = []
    for number, item in enumerate(value):
        if not isinstance(item, Mapping) or not item.get("name"):
            raise invalid(f"tools.{number}.custom.name: Field required")
        if not isinstance(item.get("input_schema"), Mapping):
            raise invalid(f"tools.{number}.custom.input_schema: Field required")
        _mark(item, 0, marks)
        tools.append(ToolSpec(str(item["name"]), item["input_schema"], str(item.get("description", ""))))
    return tuple(tools)


def _mark(block: Mapping[str, Any], after: int, marks: list[tuple[int, int]]) -> None:
    control = block.get("cache_control")
    if isinstance(control, Mapping):
        marks.append((after, _TTL_S.get(str(control.get("ttl", "5m")), 300)))


def _tool_mode(choice: Any, tools: tuple[ToolSpec, ...], *, thinking: bool) -> tuple[str, tuple[str, ...]]:
    if choice is None:
        return "auto", ()
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind not in {"auto", "any", "tool", "none"}:
        raise invalid("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    if not tools:
        raise invalid("tool_choice: tool_choice may only be specified while providing tools")
    if kind in {"any", "tool"} and thinking:
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
    if kind == "tool":
        name = str(choice.get("name", ""))
        if name not in {tool.name for tool in tools}:
            raise invalid(f"Tool '{name}' not found in provided tools")
        return "required", (name,)
    return {"auto": "auto", "any": "required"}.get(str(kind), "none"), ()


def _thinking(body: Mapping[str, Any], profile: Profile, max_tokens: int | None) -> tuple[int | None, bool]:
    thinking = body.get("thinking")
    if not isinstance(thinking, Mapping) or thinking.get("type") in {"disabled", "between_tools"}:
        return 0, False
    if not profile.can_think:
        raise invalid(f"thinking: {profile.id} does not support thinking")
    if thinking.get("type") == "adaptive":
        effort = (body.get("output_config") or {}).get("effort", "high")
        return _ADAPTIVE_TOKENS.get(str(effort), _ADAPTIVE_TOKENS["high"]), thinking.get("display") == "summarized"
    budget = thinking.get("budget_tokens")
    if thinking.get("type") != "enabled" or not isinstance(budget, int):
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if budget < _MIN_BUDGET_TOKENS:
        raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if max_tokens is not None and budget >= max_tokens:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature", 1) != 1:
        raise invalid("`temperature` may only be set to 1 when thinking is enabled.")
    return budget, True


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    form = (body.get("output_config") or {}).get("format")
    if form is None:
        return None
    if (
        not isinstance(form, Mapping)
        or form.get("type") != "json_schema"
        or not isinstance(form.get("schema"), Mapping)
    ):
        raise invalid("output_config.format.schema: Field required")
    schema: Mapping[str, Any] = form["schema"]
    return schema


def _sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: body[name] for name in ("temperature", "top_p", "top_k") if body.get(name) is not None}
    temperature = values.get("temperature", 1)
    if not isinstance(temperature, int | float) or not 0 <= temperature <= 1:
        raise invalid("temperature: range: 0..1")
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use"):
        values["parallel_tool_calls"] = False
    return values
