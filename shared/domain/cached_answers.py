"""A kept answer and its bytes: compressed JSON, versioned, read strictly.

What cannot be read is no answer: a cache that changed its form simply starts cold.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared.domain.chat import TextPart, ThinkingPart, ToolCallPart
from shared.domain.dataclass_json import from_values, to_values
from shared.domain.replies import ChatReply, Citation, FinishReason, Usage

_FORMAT = b"\x01"
_MAX_BYTES = 16 * 2**20
"""Of a document once unpacked, so that a hostile or broken entry cannot fill the memory."""
_PARTS: dict[str, type[TextPart | ThinkingPart | ToolCallPart]] = {
    "text": TextPart,
    "thinking": ThinkingPart,
    "tool_call": ToolCallPart,
}
_KINDS: Mapping[type[Any], str] = {kind: name for name, kind in _PARTS.items()}
_PLAIN = ("native_finish_reason", "finish_detail", "model_version", "response_id")


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A whole answer, who gave it, and what it cost then.

    Attributes:
        cost_usd: exact cost of the call that gave it: what each later hit saves.
        kept_at: UTC.
    """

    reply: ChatReply
    model_id: str
    deployment_id: str
    cost_usd: Decimal
    kept_at: datetime


def pack(answer: CachedAnswer) -> bytes:
    """An answer as bytes.

    Raises:
        ValueError: it has a part that answers do not have.
    """
    reply = answer.reply
    document = {
        "parts": [[_kind(part), to_values(part)] for part in reply.parts],
        "finish": reply.finish_reason.value,
        "usage": to_values(reply.usage),
        "citations": [to_values(citation) for citation in reply.citations],
        "reply": {name: getattr(reply, name) for name in _PLAIN},
        "model": answer.model_id,
        "deployment": answer.deployment_id,
        "cost_usd": str(answer.cost_usd),
        "kept_at": answer.kept_at.isoformat(),
    }
    # Half of a surrogate pair, which a vendor may send, is written as its escape.
    return _FORMAT + zlib.compress(json.dumps(document, separators=(",", ":")).encode(), level=1)


def unpack(data: bytes) -> CachedAnswer | None:
    """The answer, or None when these are not the bytes of one in this format."""
    if data[:1] != _FORMAT:
        return None
    try:
        return _answer(json.loads(_inflated(data[1:])))
    except (zlib.error, ValueError, ArithmeticError, KeyError, TypeError):
        return None


def _inflated(data: bytes) -> bytes:
    reader = zlib.decompressobj()
    plain = reader.decompress(data, _MAX_BYTES)
    if not reader.eof:
        raise ValueError("cut, or too large")
    return plain


def _kind(part: object) -> str:
    name = _KINDS.get(type(part))
    if name is None:
        raise ValueError(f"{type(part).__name__} is no part of an answer")
    return name


def _answer(document: dict[str, Any]) -> CachedAnswer:
    reply = ChatReply(
        parts=tuple(from_values(_PARTS[kind], values) for kind, values in document["parts"]),
        finish_reason=FinishReason(document["finish"]),
        usage=from_values(Usage, document["usage"]),
        citations=tuple(from_values(Citation, values) for values in document["citations"]),
        **{name: document["reply"][name] for name in _PLAIN},
    )
    return CachedAnswer(
        reply=reply,
        model_id=document["model"],
        deployment_id=document["deployment"],
        cost_usd=Decimal(document["cost_usd"]),
        kept_at=datetime.fromisoformat(document["kept_at"]),
    )
