"""From the domain to the JSON that callers read: OpenAI's shapes with the router's facts beside them."""

from collections.abc import Sequence
from typing import Any

import orjson

from shared.domain.chat import ThinkingPart, ToolCallPart
from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import RouterError
from shared.domain.features import RequestFeatures
from shared.domain.forecasts import FORECAST_SCALE, QualityForecast
from shared.domain.records import AttemptRecord, RequestRecord
from shared.domain.replies import ChatReply, FinishReason, StreamEvent, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from shared.domain.security import INJECTION_KINDS, Finding, injection_score

_FINISH = {FinishReason.REFUSAL: "content_filter", FinishReason.ERROR: "stop"}
"""Reasons outside OpenAI's vocabulary, as its clients expect to read them."""
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
"""A comment: it says that the connection lives, and nothing else."""


def finish_reason(reason: FinishReason) -> str:
    """The reason in OpenAI's vocabulary."""
    return _FINISH.get(reason, reason.value)


def usage_body(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_long_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
    }


def message_body(reply: ChatReply) -> dict[str, Any]:
    """The assistant message; signatures travel along so that the next turn can bring them back."""
    text, calls = reply.text(), reply.tool_calls()
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = [_tool_call(call) for call in calls]
    thinking = [part for part in reply.parts if isinstance(part, ThinkingPart)]
    if thinking:
        message["reasoning_content"] = "".join(part.text for part in thinking)
        message["thinking_blocks"] = [
            {
                "type": "redacted_thinking" if part.redacted else "thinking",
                "thinking": part.text,
                "signature": part.signature,
                "model": part.origin_model_id,
            }
            for part in thinking
        ]
    if reply.citations:
        message["annotations"] = [
            {
                "type": "url_citation",
                "url_citation": {"url": c.uri, "title": c.title, "start_index": c.start, "end_index": c.end},
            }
            for c in reply.citations
        ]
    return message


def _tool_call(call: ToolCallPart) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_json},
    }
    if call.signature is not None:
        body["extra_content"] = call_extra(call.signature, call.origin_model_id)
    return body


def call_extra(signature: str, model_id: str | None) -> dict[str, Any]:
    """What a tool call carries so that the next turn can bring a vendor's signature back."""
    return {"google": {"thought_signature": signature}, "llm_router": {"model": model_id}}


def completion_body(reply: ChatReply, record: RequestRecord, created: int) -> dict[str, Any]:
    """OpenAI's chat.completion object."""
    return {
        "id": f"chatcmpl-{record.id}",
        "object": "chat.completion",
        "created": created,
        "model": record.model_used,
        "choices": [
            {
                "index": 0,
                "message": message_body(reply),
                "finish_reason": finish_reason(reply.finish_reason),
                "logprobs": None,
            }
        ],
        "usage": usage_body(reply.usage),
        "router": served_body(record),
    }


def served_body(record: RequestRecord) -> dict[str, Any]:
    """The router's facts about a whole answer."""
    return {
        "request_id": record.id,
        "deployment": record.deployment_used,
        "cost_usd": float(record.cost_usd),
        "attempts": len(record.attempts),
        "overhead_ms": round(record.overhead_ms, 3),
        "cache": record.cache,
        "saved_usd": float(record.saved_usd),
    }


class ChunkWriter:
    """Writes chat.completion.chunk events; what all chunks of a stream share is encoded once."""

    def __init__(self, request_id: str, model_id: str, created: int, *, include_usage: bool) -> None:
        head = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": model_id,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._model_id = model_id

    def first(self) -> bytes:
        """The chunk that opens the message."""
        return self._chunk({"role": "assistant", "content": ""})

    def event(self, event: StreamEvent) -> bytes:
        """The chunk for an event, empty for events that OpenAI's stream does not show."""
        match event:
            case TextDelta(text=text):
                return self._chunk({"content": text})
            case ThinkingDelta():
                return self._chunk(_thinking_delta(event, self._model_id))
            case ToolCallDelta():
                return self._chunk({"tool_calls": [_tool_delta(event, self._model_id)]})
            case _:
                return b""

    def finish(self, reason: FinishReason) -> bytes:
        """The chunk that says why generation ended."""
        return self._chunk({}, finish_reason(reason))

    def usage(self, usage: Usage, served: dict[str, Any]) -> bytes:
        """The last chunk: usage, with no choices."""
        tail = orjson.dumps({"choices": [], "usage": usage_body(usage), "router": served})
        return self._head + b"," + tail[1:] + b"\n\n"

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choices = orjson.dumps([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])
        return b"".join((self._head, b',"choices":', choices, self._tail))


def _thinking_delta(event: ThinkingDelta, model_id: str) -> dict[str, Any]:
    delta: dict[str, Any] = {"reasoning_content": event.text}
    if event.signature is not None:
        kind = "redacted_thinking" if event.redacted else "thinking"
        block = {"type": kind, "thinking": "", "signature": event.signature, "model": model_id}
        delta["thinking_blocks"] = [block]
    return delta


def _tool_delta(event: ToolCallDelta, model_id: str) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": event.arguments_fragment}
    body: dict[str, Any] = {"index": event.index, "function": function}
    if event.id is not None:
        body |= {"id": event.id, "type": "function"}
        function["name"] = event.name
    if event.signature is not None:
        body["extra_content"] = call_extra(event.signature, model_id)
    return body


def sse_data(payload: dict[str, Any]) -> bytes:
    """One unnamed server-sent event."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def sse_event(name: str, payload: dict[str, Any]) -> bytes:
    """One named server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(payload) + b"\n\n"


def error_body(error: RouterError, kind: str, request_id: str) -> dict[str, Any]:
    """The error envelope."""
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "code": error.code,
            "param": error.param,
            "request_id": request_id,
        }
    }


# --- /route ----------------------------------------------------------------------------------------------------------


def route_body(reply: ChatReply, record: RequestRecord, decision: Decision) -> dict[str, Any]:
    """The answer of POST /route."""
    return {
        **served_body(record),
        "model": record.model_used,
        "output": {
            "text": reply.text(),
            "message": message_body(reply),
            "finish_reason": finish_reason(reply.finish_reason),
            "native_finish_reason": reply.native_finish_reason,
            "model_version": reply.model_version,
        },
        "usage": usage_body(reply.usage),
        "itinerary": itinerary_body(record.attempts),
        "decision": decision_body(decision),
    }


def itinerary_body(attempts: Sequence[AttemptRecord]) -> list[dict[str, Any]]:
    """Every call that was made, in the order in which they began."""
    return [
        {
            "number": a.number,
            "model": a.model_id,
            "deployment": a.deployment_id,
            "outcome": a.outcome,
            "vendor_status": a.vendor_status,
            "duration_ms": round(a.duration_ms, 3),
            "cost_usd": float(a.cost_usd),
        }
        for a in attempts
    ]


def delta_payload(event: StreamEvent, model_id: str) -> dict[str, Any] | None:
    """The payload of a ``delta`` event of a streamed /route, or None for events it does not show."""
    match event:
        case TextDelta(text=text):
            return {"text": text}
        case ThinkingDelta():
            return {"thinking": event.text}
        case ToolCallDelta():
            return {"tool_call": _tool_delta(event, model_id)}
        case _:
            return None


def decision_body(decision: Decision) -> dict[str, Any]:
    """Why this model: the analysis, every candidate's scores, every rejection's reason."""
    return {
        "chosen": candidate_body(decision.chosen),
        "fallbacks": [c.deployment.id for c in decision.fallbacks],
        "margin": round(decision.margin, 6),
        "weights": _numbers(decision.weights),
        "rules": list(decision.rules),
        "forecast": _forecast(decision.forecast),
        "candidates": [candidate_body(c) for c in decision.candidates],
        "rejections": [
            {"deployment": r.deployment_id, "model": r.model_id, "reason": r.reason.value, "detail": r.detail}
            for r in decision.rejections
        ],
        "analysis": analysis_body(decision.features),
        "registry_version": decision.registry_version,
        "policy_version": decision.policy_version,
    }


def candidate_body(candidate: Candidate) -> dict[str, Any]:
    """One eligible deployment."""
    return {
        "model": candidate.profile.id,
        "deployment": candidate.deployment.id,
        "region": candidate.deployment.region,
        "score": round(candidate.score, 6),
        "propensity": candidate.propensity,
        "factors": _numbers(candidate.factors),
        "expected_quality": _expected_quality(candidate),
        "expected_cost_usd": float(candidate.expected_cost_usd),
        "worst_case_cost_usd": float(candidate.worst_case_cost_usd),
        "expected_latency_ms": round(candidate.expected_latency_ms, 1),
    }


def _forecast(forecast: QualityForecast | None) -> dict[str, Any] | None:
    """Which predictor spoke, and how well it knows requests like this; its figures stand with the candidates."""
    if forecast is None:
        return None
    return {"version": forecast.version, "familiarity": forecast.familiarity / FORECAST_SCALE}


def _expected_quality(candidate: Candidate) -> dict[str, float] | None:
    """What was forecast of the candidate's model; the quality factor is its cautious form."""
    if candidate.quality_mean is None or candidate.quality_std is None:
        return None
    return {"mean": candidate.quality_mean, "std": candidate.quality_std}


def analysis_body(features: RequestFeatures) -> dict[str, Any]:
    """What was read of the request; findings as kinds and spans, never values."""
    return {
        "category": features.category.value,
        "category_confidence": round(features.category_confidence, 4),
        "content_type": features.content_type,
        "content_formats": list(features.content_formats),
        "language": features.language,
        "complexity": round(features.complexity, 4),
        "complexity_level": features.complexity_level.value,
        "complexity_reasons": {reason.feature: round(reason.contribution, 4) for reason in features.reasons},
        "security_level": features.security_level.label,
        "findings": [_finding(f) for f in features.findings if f.kind not in INJECTION_KINDS],
        "injection": injection_body(features.findings),
        "prompt_tokens": features.prompt_tokens,
        "expected_output_tokens": features.expected_output_tokens,
        "modalities": sorted(m.value for m in features.modalities),
    }


def injection_body(findings: Sequence[Finding]) -> dict[str, Any]:
    """Signs of an attack: how likely it is one, and where they stand."""
    signs = [_finding(f) | {"strength": f.confidence} for f in findings if f.kind in INJECTION_KINDS]
    return {"score": round(injection_score(findings), 4), "signals": signs}


def _finding(finding: Finding) -> dict[str, Any]:
    f = finding
    return {"kind": f.kind, "level": f.level.label, "location": f.location, "start": f.start, "end": f.end}


_FACTORS = ("quality", "cost", "latency", "reliability", "load")


def _numbers(scores: object) -> dict[str, float]:
    return {name: round(getattr(scores, name), 6) for name in _FACTORS}
