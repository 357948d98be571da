"""Prompts and answers that a service chose to have kept: what of them, how long, and in which form.

By default nothing is kept (docs/content.md). A service that opts in has each request and its answer kept for some days,
sealed with a key that is not in the database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.domain.chat import ChatRequest, MediaPart, Part, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from shared.domain.replies import ChatReply
from shared.domain.security import SecurityLevel

MAX_DAYS = 30
MAX_CONTENT_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class ContentRules:
    """How the content of one service is kept. That there are such rules is the opt-in.

    Attributes:
        keep_days: days from the request's start, 1 to `MAX_DAYS`.
        max_level: content above this level is not kept; never `RESTRICTED`.
    """

    keep_days: int
    max_level: SecurityLevel = SecurityLevel.INTERNAL

    @property
    def lasts(self) -> timedelta:
        """For how long."""
        return timedelta(days=self.keep_days)


@dataclass(frozen=True, slots=True)
class ContentKey:
    """A key that seals content. `id` tells it from its predecessors and is stored with what it seals."""

    id: str
    secret: bytes


@dataclass(frozen=True, slots=True)
class SealedContent:
    """The content of one request as it is stored.

    Attributes:
        key_id: of the key that opens it.
        sealed: the JSON text of `content_values`, sealed for `seal_name`.
        expires_at: from then on it is not given out any more, and deleted soon.
    """

    tenant_id: str
    request_id: str
    service: str
    principal_id: str
    tags: tuple[tuple[str, str], ...]
    started_at: datetime
    expires_at: datetime
    key_id: str
    sealed: bytes

    @property
    def seal_name(self) -> str:
        """What the seal is bound to: moved to another request or tenant, it does not open."""
        return f"content/{self.tenant_id}/{self.request_id}"


def content_values(request: ChatRequest, reply: ChatReply | None) -> dict[str, Any]:
    """What was sent to the model and what the caller was told, as JSON values; of media the kind and size only."""
    values: dict[str, Any] = {
        "system": request.system,
        "messages": [
            {"role": message.role.value, "parts": [_told(part) for part in message.parts]}
            for message in request.messages
        ],
        "tools": [tool.name for tool in request.tools],
        "answer": None,
    }
    if reply is not None:
        values["answer"] = {
            "parts": [_told(part) for part in reply.parts],
            "finish_reason": reply.finish_reason.value,
        }
    return values


def _told(part: Part) -> Mapping[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ThinkingPart(text=text):
            return {"type": "thinking", "text": text}
        case ToolCallPart(name=name, arguments_json=arguments):
            return {"type": "tool_call", "name": name, "arguments": arguments}
        case ToolResultPart(name=name, text=text):
            return {"type": "tool_result", "name": name, "text": text}
        case MediaPart(modality=modality, mime_type=mime, data=data):
            return {"type": modality.value, "mime_type": mime, "bytes": None if data is None else len(data)}
