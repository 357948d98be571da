"""Under which keys an answer is kept: everything that could change it, the tenant first.

What only restricts who may serve (clearance, residency, allow and deny lists, caps) is not part of a key: those bind
again on every hit, because only an answer of a deployment that is eligible now is served.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shared.analysis.question_form import question_form
from shared.domain.caching import CachePolicy, CacheScope
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Part,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from shared.domain.decisions import Decision
from shared.services.ledger_entry import Order
from shared.services.receipts import fast_canonical

_VERSION = 1
"""Raised whenever equal keys would no longer mean equal requests."""
_HASH_IN_THREAD_BYTES = 256 * 1024
"""Hashing more would hold up the other requests of the process for longer than a millisecond."""


@dataclass(frozen=True, slots=True)
class AnswerKeys:
    """Where an answer is looked for and kept.

    Attributes:
        exact: key of this very request.
        form: key of all requests whose last turn has the same form and whose rest is equal; None: only exact ones.
        turn: the last turn, to be compared with the one kept under `form`.
    """

    exact: str
    form: str | None
    turn: str


async def answer_keys(order: Order, decision: Decision, rules: CachePolicy) -> AnswerKeys:
    """The keys of a request under a policy.

    Raises:
        TypeError: the request has no canonical form.
    """
    request, principal = order.request, order.principal
    media = await _digests(request)
    everything_else = {
        "v": _VERSION,
        "scope": [principal.tenant_id, principal.service if rules.scope is CacheScope.SERVICE else None],
        # A new registry or policy starts cold: its presets, rules and prices never meet answers of the old one.
        "configuration": [decision.registry_version, decision.policy_version],
        "model": order.constraints.model,
        "preset": order.constraints.preset,
        "weights": None if order.constraints.weights is None else asdict(order.constraints.weights),
        "rule_effort": decision.effort,
        "request": _head(request),
        "turns": [_message(message, media) for message in request.messages[:-1]],
    }
    last = request.messages[-1]
    prefix = tenant_prefix(principal.tenant_id)
    form = question_form(last.text(), decision.features.language) if _may_share(request, rules) else None
    return AnswerKeys(
        exact=_key(prefix, {**everything_else, "turn": _message(last, media)}),
        form=None if form is None else _key(prefix, {**everything_else, "form": form}),
        turn=last.text(),
    )


def tenant_prefix(tenant_id: str) -> str:
    """What all keys of a tenant begin with, so that its answers can be found and deleted."""
    return f"answers:{hashlib.sha256(tenant_id.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}:"


def _key(prefix: str, document: Mapping[str, Any]) -> str:
    return prefix + hashlib.sha256(fast_canonical(document)).hexdigest()


def _may_share(request: ChatRequest, rules: CachePolicy) -> bool:
    """Whether a turn of the same form may share an answer: plain questions, answered in plain text."""
    last = request.messages[-1]
    return (
        rules.semantic
        and last.role is Role.USER
        and all(isinstance(part, TextPart) for part in last.parts)
        and not request.tools
        and request.response_format.kind is FormatKind.TEXT
    )


def _head(request: ChatRequest) -> list[Any]:
    sampling, wanted, choice = request.sampling, request.response_format, request.tool_choice
    return [
        request.system,
        [[tool.name, tool.description, tool.parameters, tool.strict] for tool in request.tools],
        [choice.mode, choice.name, request.parallel_tool_calls],
        [wanted.kind, wanted.name, wanted.schema, wanted.strict],
        asdict(sampling),
        request.max_output_tokens,
        request.reasoning_effort,
    ]


def _message(message: Message, media: Mapping[int, str]) -> list[Any]:
    return [message.role, [_part(part, media) for part in message.parts]]


def _part(part: Part, media: Mapping[int, str]) -> list[Any]:
    match part:
        case TextPart(text=text):
            return ["text", text]
        case MediaPart():
            described = [part.modality, part.mime_type, part.filename, part.detail]
            return ["media", media[id(part)], part.uri, described]
        case ToolCallPart():
            return ["call", part.id, part.name, part.arguments_json, part.signature, part.origin_model_id]
        case ThinkingPart():
            return ["thinking", part.text, part.signature, part.origin_model_id, part.redacted]
        case _:
            return ["result", part.tool_call_id, part.name, part.text, part.is_error]


async def _digests(request: ChatRequest) -> dict[int, str]:
    """SHA-256 of each attachment, by the part's identity."""
    media = request.media()
    if sum(len(part.data or b"") for part in media) > _HASH_IN_THREAD_BYTES:
        return await asyncio.to_thread(_hashed, media)
    return _hashed(media)


def _hashed(media: tuple[MediaPart, ...]) -> dict[int, str]:
    return {id(part): hashlib.sha256(part.data or b"").hexdigest() for part in media}
