"""OpenAI-style chat: MaaS on the `openapi` endpoint, Mistral by rawPredict, and chat servers on deployed endpoints."""

import base64
import binascii
import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from infra.local.simulator.ask import Ask, Media, ToolSpec, Turn, count_tokens, merge_turns
from infra.local.simulator.engine import Frame, Inquiry, Wire
from infra.local.simulator.plan import Finish, Plan, PlannedCall, PromptTokens, split
from infra.local.simulator.problems import Problem, invalid
from infra.local.simulator.profiles import Profile

_EFFORT_TOKENS = {"none": 0, "minimal": 128, "low": 1_024, "medium": 8_192, "high": 24_576}
_FINISH = {
    Finish.LENGTH: "length",
    Finish.TOOLS: "tool_calls",
    Finish.SAFETY: "content_filter",
    Finish.BLOCKED: "content_filter",
}
_MISTRAL_FIELDS = frozenset({
    "model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "response_format",
    "tools", "tool_choice", "presence_penalty", "frequency_penalty", "n", "prediction", "parallel_tool_calls",
    "prompt_mode", "safe_prompt", "metadata",
})  # fmt: skip
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)


def read(body: Any, profile: Profile) -> Inquiry:
    """Read a chat completion request.

    Raises:
        Problem: 400.
    """
    if not isinstance(body, Mapping):
        raise invalid("The request body must be a JSON object.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages: field required and must not be empty")
    if profile.dialect == "mistral":
        _refuse_unknown(body)
    if body.get("n", 1) != 1:
        raise invalid("n: only 1 is supported")
    system, turns = _turns(messages, profile)
    if not turns:
        raise invalid("messages: at least one user message is required")
    mode, names = _tool_mode(body)
    json_mode, schema = _format(body.get("response_format"))
    ask = Ask(
        turns=merge_turns(turns),
        system=system,
        tools=_tools(body.get("tools") or []),
        tool_mode=mode,  # type: ignore[arg-type]  # one of the three literals
        tool_names=names,
        json_mode=json_mode,
        schema=schema,
        max_tokens=_max_tokens(body),
        stops=_stops(body.get("stop")),
        thinking_tokens=_effort(body),
        show_thinking=True,
        sampling=_sampling(body),
    )
    stream_options = body.get("stream_options") or {}
    options = {"include_usage": stream_options.get("include_usage") is True or profile.dialect == "mistral"}
    return Inquiry(ask, stream=body.get("stream") is True, options=options)


def check(profile: Profile, ask: Ask, prompt: PromptTokens) -> None:
    """Refuse what the model does not take.

    Raises:
        Problem: 400, with vLLM's sentence.
    """
    wanted = ask.max_tokens or 0
    if prompt.total + wanted > profile.context_tokens:
        raise invalid(
            f"This model's maximum context length is {profile.context_tokens} tokens. However, you requested "
            f"{prompt.total + wanted} tokens ({prompt.total} in the messages, {wanted} in the completion). Please "
            "reduce the length of the messages or completion."
        )
    if wanted > profile.max_output_tokens:
        raise invalid(f"max_tokens must be less than or equal to {profile.max_output_tokens}, got {wanted}.")
    for turn in ask.turns:
        for media in turn.media:
            if media.kind not in profile.modalities:
                raise invalid(f"{profile.id} is not a multimodal model: {media.kind} input is not supported.")


def plain(plan: Plan, _inquiry: Inquiry) -> bytes:
    """The whole completion."""
    if plan.finish is Finish.EMPTY:
        return orjson.dumps({**_envelope(plan, "chat.completion"), "choices": [], "usage": _usage(plan)})
    message: dict[str, Any] = {"role": "assistant", "content": plan.text or None}
    if plan.show_thinking:
        message["reasoning_content"] = plan.thought
    if plan.calls:
        message["tool_calls"] = [_tool_call(call) for call in plan.calls]
    choice = {"index": 0, "message": message, "finish_reason": _FINISH.get(plan.finish, "stop"), "logprobs": None}
    return orjson.dumps({**_envelope(plan, "chat.completion"), "choices": [choice], "usage": _usage(plan)})


def frames(plan: Plan, inquiry: Inquiry) -> list[Frame[bytes]]:
    """The completion as server-sent events: role, deltas, finish reason, usage where it was asked for, [DONE]."""
    envelope = _envelope(plan, "chat.completion.chunk")
    result: list[Frame[bytes]] = []

    def add(delta: Mapping[str, Any], tokens: int = 0, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        result.append(Frame(_event({**envelope, "choices": [choice]}), tokens))

    if plan.finish is not Finish.EMPTY:
        add({"role": "assistant", "content": ""})
        for piece in plan.thought_pieces():
            add({"reasoning_content": piece}, count_tokens(piece))
        for piece in plan.pieces():
            add({"content": piece}, count_tokens(piece))
        for number, call in enumerate(plan.calls):
            opening = _tool_call(call)
            opening["index"] = number
            opening["function"]["arguments"] = ""
            add({"tool_calls": [opening]})
            for piece in split(call.arguments_json, plan.profile.piece_tokens):
                add({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}, count_tokens(piece))
        add({}, 0, _FINISH.get(plan.finish, "stop"))
    if inquiry.options.get("include_usage"):
        result.append(Frame(_event({**envelope, "choices": [], "usage": _usage(plan)})))
    result.append(Frame(b"data: [DONE]\n\n"))
    return result


def _wire(name: str, problem: Any) -> Wire[bytes]:
    failure = Problem(503, "The service is currently unavailable.")
    return Wire(
        name=name,
        read=read,
        check=check,
        plain=plain,
        frames=frames,
        broken_plain=lambda plan: plain(plan, Inquiry(Ask(())))[:-23],
        broken_chunk=lambda plan: (
            b'data: {"id":"chatcmpl-' + plan.id.encode() + b'","choices":[{"index":0,"delta":{"cont\n\n'
        ),
        problem=problem,
        failed_chunk=lambda _plan: b"data: " + problem(failure) + b"\n\n",
    )


MAAS = _wire("maas", Problem.google_list_body)
"""OpenAI-style MaaS: Google's own error form, in an array."""
SERVER = _wire("openai", Problem.openai_body)
"""A chat server behind an endpoint, or Mistral's: OpenAI's error form."""


# --- reading ----------------------------------------------------------------------------------------------------------


def _refuse_unknown(body: Mapping[str, Any]) -> None:
    """Mistral's server takes its own keys only."""
    for name in body:
        if name not in _MISTRAL_FIELDS:
            raise Problem(422, f"Extra inputs are not permitted: body.{name}")


def _turns(messages: list[Any], profile: Profile) -> tuple[str, list[Turn]]:
    system: list[str] = []
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for number, item in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(item, Mapping):
            raise invalid(f"{where} must be an object")
        role = item.get("role")
        text, media = _content(item.get("content"), f"{where}.content")
        if role in {"system", "developer"}:
            system.append(text)
        elif role == "user":
            if not text and not media:
                raise invalid(f"{where}.content must not be empty")
            turns.append(Turn("user", text, media))
        elif role == "assistant":
            turns.append(Turn("assistant", text, media, _past_calls(item, where, names, profile)))
        elif role == "tool":
            call_id = item.get("tool_call_id")
            if call_id not in names:
                raise invalid(f"{where}.tool_call_id does not answer any tool call before it")
            turns.append(Turn("user", results=((names[call_id], text),)))
        else:
            raise invalid(f"{where}.role must be one of system, developer, user, assistant, tool")
    return "\n".join(system), turns


def _past_calls(
    item: Mapping[str, Any], where: str, names: dict[str, str], profile: Profile
) -> tuple[tuple[str, str], ...]:
    calls = []
    for number, call in enumerate(item.get("tool_calls") or []):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
            raise invalid(f"{where}.tool_calls[{number}].function.arguments must be a string")
        call_id = str(call.get("id"))
        if profile.dialect == "mistral" and not re.fullmatch(r"[a-zA-Z0-9]{9}", call_id):
            # Mistral's own rule; its users meet it when they replay another model's ids.
            raise invalid(f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9.")
        names[call_id] = str(function.get("name"))
        calls.append((str(function.get("name")), function["arguments"]))
    return tuple(calls)


def _content(content: Any, where: str) -> tuple[str, tuple[Media, ...]]:
    if content is None or isinstance(content, str):
        return content or "", ()
    if not isinstance(content, list):
        raise invalid(f"{where} must be a string or a list")
    texts: list[str] = []
    media: list[Media] = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            texts.append(str(part.get("text", "")))
        elif kind == "image_url":
            image = part.get("image_url")
            media.append(
                _image(image.get("url", "") if isinstance(image, Mapping) else str(image), f"{where}[{number}]")
            )
        elif kind == "input_audio":
            audio = part.get("input_audio") or {}
            media.append(Media.of(f"audio/{audio.get('format', 'wav')}", _decoded(str(audio.get("data", "")), where)))
        else:
            raise invalid(f"{where}[{number}].type must be one of text, image_url, input_audio")
    return "\n".join(texts), tuple(media)


def _image(url: str, where: str) -> Media:
    match = _DATA_URI.match(url)
    if match:
        return Media.of(match.group(1), _decoded(url[match.end() :], where))
    if url.startswith(("http://", "https://", "gs://")):
        return Media.of("image/unknown", b"", url)
    raise invalid(f"{where}.image_url.url must be a data: URI or an address")


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{where}: invalid base64 data") from error


def _tools(value: Any) -> tuple[ToolSpec, ...]:
    tools = []
    for number, item in enumerate(value):
        function = item.get("function") if isinstance(item, Mapping) else None
        if not isinstance(function, Mapping) or not function.get("name"):
            raise invalid(f"tools[{number}].function.name: field required")
        tools.append(
            ToolSpec(str(function["name"]), function.get("parameters") or {}, str(function.get("description", "")))
        )
    return tuple(tools)


def _tool_mode(body: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        name = str((choice.get("function") or {}).get("name", ""))
        known = {
            (tool.get("function") or {}).get("name") for tool in body.get("tools") or [] if isinstance(tool, Mapping)
        }
        if name not in known:
            raise invalid(f"tool_choice: there is no tool named {name!r}")
        return "required", (name,)
    modes = {None: "auto", "auto": "auto", "none": "none", "required": "required", "any": "required"}
    if choice not in modes:
        raise invalid("tool_choice must be one of none, auto, required, or name a function")
    return modes[choice], ()


def _format(value: Any) -> tuple[bool, Mapping[str, Any] | None]:
    if value is None or value.get("type") == "text":
        return False, None
    if value.get("type") == "json_object":
        return True, None
    wrapped = value.get("json_schema")
    schema = wrapped.get("schema") if isinstance(wrapped, Mapping) else None
    if value.get("type") != "json_schema" or not isinstance(schema, Mapping):
        raise invalid("response_format.json_schema.schema: field required")
    return True, schema


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise invalid(f"{name} must be at least 1, got {value}.")
            return value
    return None


def _stops(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _effort(body: Mapping[str, Any]) -> int | None:
    effort = body.get("reasoning_effort")
    if effort is None:
        switches = body.get("chat_template_kwargs") or {}
        for name in ("thinking", "enable_thinking"):
            if isinstance(switches.get(name), bool):
                return _EFFORT_TOKENS["medium"] if switches[name] else 0
        return None
    if effort not in _EFFORT_TOKENS:
        raise invalid(f"reasoning_effort must be one of {', '.join(_EFFORT_TOKENS)}")
    return _EFFORT_TOKENS[effort]


def _sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "temperature",
        "top_p",
        "top_k",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "random_seed",
        "parallel_tool_calls",
    )
    values = {name: body[name] for name in names if body.get(name) is not None}
    temperature = values.get("temperature", 1.0)
    if not isinstance(temperature, int | float) or not 0 <= temperature <= 2:  # noqa: PLR2004 - the documented range
        raise invalid("temperature must be between 0 and 2")
    return values


# --- writing ----------------------------------------------------------------------------------------------------------


def _envelope(plan: Plan, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{plan.id}",
        "object": kind,
        "created": int(time.time()),
        "model": plan.version,
        "system_fingerprint": "simulated",
    }


def _usage(plan: Plan) -> dict[str, Any]:
    """Usage: cached tokens are inside the prompt tokens, reasoning is inside the completion tokens."""
    completion = plan.output_tokens + plan.thinking_tokens
    usage: dict[str, Any] = {
        "prompt_tokens": plan.prompt.total,
        "completion_tokens": completion,
        "total_tokens": plan.prompt.total + completion,
        "completion_tokens_details": {"reasoning_tokens": plan.thinking_tokens},
    }
    if plan.profile.cache_min_tokens:
        usage["prompt_tokens_details"] = {"cached_tokens": plan.cache.read_tokens}
    return usage


def _tool_call(call: PlannedCall) -> dict[str, Any]:
    # Nine letters and digits suit Mistral, and nobody else minds.
    return {"id": call.id[-9:], "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"
