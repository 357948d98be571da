"""Claude on Vertex: the Messages API in rawPredict and streamRawPredict (docs.anthropic.com, "Claude on Vertex AI")."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from infra.local.simulator.ask import Ask, count_tokens
from infra.local.simulator.engine import Frame, Inquiry, Wire
from infra.local.simulator.plan import Finish, Plan, PlannedCall, split
from infra.local.simulator.problems import Problem
from infra.local.simulator.wires.anthropic_request import check, read

_STOPS = {
    Finish.LENGTH: "max_tokens",
    Finish.TOOLS: "tool_use",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.SAFETY: "refusal",
    Finish.BLOCKED: "refusal",
}


def plain(plan: Plan, _inquiry: Inquiry) -> bytes:
    """The whole message."""
    content: list[dict[str, Any]] = []
    if plan.thought:
        thought = plan.thought if plan.show_thinking else ""
        content.append({"type": "thinking", "thinking": thought, "signature": _signature(plan)})
    if plan.text:
        content.append({"type": "text", "text": plan.text})
    content.extend(_tool_use(call, call.arguments) for call in plan.calls)
    message = _message(plan, content)
    message["stop_reason"] = _STOPS.get(plan.finish, "end_turn")
    message["stop_sequence"] = plan.stop_sequence
    message["usage"] = _usage(plan, plan.output_tokens + plan.thinking_tokens)
    return orjson.dumps(message)


def frames(plan: Plan, _inquiry: Inquiry) -> list[Frame[bytes]]:
    """The message as server-sent events."""
    opening = _message(plan, [])
    opening.update(stop_reason=None, stop_sequence=None, usage=_usage(plan, 1))
    result = [
        Frame(_event("message_start", message=opening) + _event("ping")),
    ]
    index = 0
    if plan.thought:  # hidden thinking is a block with a signature only
        result.append(_start(index, {"type": "thinking", "thinking": "", "signature": ""}))
        result += [_delta(index, count_tokens(p), type="thinking_delta", thinking=p) for p in plan.thought_pieces()]
        result.append(_delta(index, 0, type="signature_delta", signature=_signature(plan)))
        result.append(_stop(index))
        index += 1
    if plan.text:
        result.append(_start(index, {"type": "text", "text": ""}))
        result += [_delta(index, count_tokens(piece), type="text_delta", text=piece) for piece in plan.pieces()]
        result.append(_stop(index))
        index += 1
    for call in plan.calls:
        result.append(_start(index, _tool_use(call, {})))
        result.append(_delta(index, 0, type="input_json_delta", partial_json=""))
        pieces = split(call.arguments_json, plan.profile.piece_tokens)
        result += [_delta(index, count_tokens(p), type="input_json_delta", partial_json=p) for p in pieces]
        result.append(_stop(index))
        index += 1
    delta = {"stop_reason": _STOPS.get(plan.finish, "end_turn"), "stop_sequence": plan.stop_sequence}
    usage = _usage(plan, plan.output_tokens + plan.thinking_tokens)
    result.append(Frame(_event("message_delta", delta=delta, usage=usage) + _event("message_stop")))
    return result


def _failed(_plan: Plan) -> bytes:
    return _event("error", error={"type": "overloaded_error", "message": "Overloaded"})


WIRE: Wire[bytes] = Wire(
    name="anthropic",
    read=read,
    check=check,
    plain=plain,
    frames=frames,
    broken_plain=lambda plan: plain(plan, Inquiry(Ask(())))[:-17],
    broken_chunk=lambda _plan: (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"te\n\n'
    ),
    problem=Problem.anthropic_body,
    failed_chunk=_failed,
)


def _message(plan: Plan, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_vrtx_{plan.id}",
        "type": "message",
        "role": "assistant",
        "model": plan.version,
        "content": content,
    }


def _usage(plan: Plan, output_tokens: int) -> dict[str, Any]:
    """Usage: cache reads and writes stand beside the input tokens, thinking is inside the output tokens."""
    cache = plan.cache
    written = cache.write_tokens + cache.write_long_tokens
    return {
        "input_tokens": plan.prompt.total - cache.read_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cache.read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cache.write_tokens,
            "ephemeral_1h_input_tokens": cache.write_long_tokens,
        },
        "output_tokens": output_tokens,
    }


def _tool_use(call: PlannedCall, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_vrtx_{call.id}", "name": call.name, "input": arguments}


def _signature(plan: Plan) -> str:
    return base64.b64encode(plan.signature()).decode()


def _event(name: str, **fields: Any) -> bytes:
    return f"event: {name}\ndata: ".encode() + orjson.dumps({"type": name, **fields}) + b"\n\n"


def _start(index: int, block: Mapping[str, Any]) -> Frame[bytes]:
    return Frame(_event("content_block_start", index=index, content_block=block))


def _delta(index: int, tokens: int, **delta: Any) -> Frame[bytes]:
    return Frame(_event("content_block_delta", index=index, delta=delta), tokens)


def _stop(index: int) -> Frame[bytes]:
    return Frame(_event("content_block_stop", index=index))
