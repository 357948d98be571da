"""From the domain to OpenAI's Responses API: the response object, its output items, and its stream of events.

Source: https://platform.openai.com/docs/api-reference/responses-streaming. Each part of a reply is one output item.
The items of a stream are those that the whole answer has, in the same order and under the same ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from functions._wire.replies import call_extra, sse_event
from functions._wire.responses_body import ResponsesBody
from functions._wire.responses_input import sealed
from shared.domain.chat import Part, TextPart, ThinkingPart, ToolCallPart
from shared.domain.errors import RouterError
from shared.domain.replies import (
    ChatReply,
    Citation,
    FinishReason,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
)

COMPLETED, INCOMPLETE, FAILED, IN_PROGRESS = "completed", "incomplete", "failed", "in_progress"
_STATUS = {
    FinishReason.STOP: (COMPLETED, None),
    FinishReason.TOOL_CALLS: (COMPLETED, None),
    FinishReason.LENGTH: (INCOMPLETE, "max_output_tokens"),
    FinishReason.CONTENT_FILTER: (INCOMPLETE, "content_filter"),
    FinishReason.REFUSAL: (INCOMPLETE, "content_filter"),
    FinishReason.ERROR: (FAILED, None),
}
"""Status and reason of incompleteness by why generation ended."""

Json = dict[str, Any]


def frame(body: ResponsesBody, request_id: str, model_id: str, created: int) -> Json:
    """What a response object says of its request, from the first event of a stream to the last."""
    text, reasoning = body.text, body.reasoning
    wanted = None if text is None else text.format
    return {
        "id": f"resp_{request_id}",
        "object": "response",
        "created_at": created,
        "status": IN_PROGRESS,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "model": model_id,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None if reasoning is None else reasoning.effort, "summary": None},
        "store": False,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"} if wanted is None else _echo(wanted)},
        "tool_choice": "auto" if body.tool_choice is None else _echo(body.tool_choice),
        "tools": [_echo(tool) for tool in body.tools or ()],
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
    }


def ended(frame: Json, reply: ChatReply, served: Json) -> Json:
    """The response object of an answer that has ended.

    Args:
        frame: as `frame` made it.
        reply: the answer.
        served: the router's facts.
    """
    status, reason = _STATUS[reply.finish_reason]
    error = None
    if status == FAILED:
        error = {"code": "server_error", "message": f"the model ended with an error ({reply.native_finish_reason})"}
    return frame | {
        "status": status,
        "error": error,
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": output_items(reply, frame["id"].removeprefix("resp_")),
        "usage": usage_body(reply.usage),
        "router": served,
    }


def output_items(reply: ChatReply, request_id: str) -> list[Json]:
    """The parts of a reply as output items; its citations stand with the last text."""
    shown = [part for part in reply.parts if _shows(part)]
    is_whole = _STATUS[reply.finish_reason][0] == COMPLETED
    last_text = max((i for i, part in enumerate(shown) if isinstance(part, TextPart)), default=None)
    return [
        _item(
            part,
            _item_id(part, request_id, index),
            COMPLETED if is_whole or index < len(shown) - 1 else _last_status(part),
            reply.citations if index == last_text else (),
        )
        for index, part in enumerate(shown)
    ]


def usage_body(usage: Usage) -> Json:
    """The usage of a response."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_long_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
        "total_tokens": usage.total_tokens,
    }


@dataclass(slots=True)
class _Open:
    """An item under way."""

    kind: type[Part]
    index: int
    id: str
    call: ToolCallPart | None = None
    fragments: list[str] = field(default_factory=list)

    def part(self, model_id: str, signature: str | None = None, *, redacted: bool = False) -> Part:
        """What has come of it."""
        text = "".join(self.fragments)
        if self.call is not None:
            return ToolCallPart(self.call.id, self.call.name, text or "{}", self.call.signature, model_id)
        if self.kind is TextPart:
            return TextPart(text)
        return ThinkingPart(text, signature, model_id, redacted=redacted)


class ResponsesWriter:
    """Writes the events of one stream, numbered from 0.

    Items follow the same rules as `shared.domain.replies.ReplyBuilder`: deltas of a kind that follow each other are one
    item, a signature ends a stretch of reasoning, tool calls stay open to the end.
    """

    def __init__(self, frame: Json) -> None:
        self._frame = frame
        self._request_id = frame["id"].removeprefix("resp_")
        self._model_id = frame["model"]
        self._sequence = 0
        self._count = 0
        self._open: _Open | None = None
        self._calls: dict[int, _Open] = {}

    def opening(self) -> Iterator[bytes]:
        """The two events before the first item."""
        yield self._event("response.created", response=self._frame)
        yield self._event("response.in_progress", response=self._frame)

    def event(self, event: StreamEvent) -> bytes:
        """The events for an event of the answer, empty for those that say nothing to the caller."""
        match event:
            case TextDelta(text=text) if text:
                return b"".join(self._text(text))
            case ThinkingDelta():
                return b"".join(self._thinking(event))
            case ToolCallDelta():
                return b"".join(self._tool_call(event))
            case _:
                return b""

    def closing(self, reply: ChatReply, served: Json) -> Iterator[bytes]:
        """The events that end the open items, and the one that ends the stream."""
        response = ended(self._frame, reply, served)
        yield from self._close_all(response["output"], reply.citations)
        yield self._event(f"response.{response['status']}", response=response)

    def failure(self, error: RouterError, kind: str, reply: ChatReply, served: Json) -> Iterator[bytes]:
        """The events of a stream that broke: the error, and the response as far as it came."""
        yield self._event("error", code=error.code, message=error.message, param=error.param)
        response = ended(self._frame, reply, served)
        told = {"code": error.code, "message": error.message, "type": kind, "request_id": self._request_id}
        yield self._event("response.failed", response=response | {"status": FAILED, "error": told})

    def _event(self, name: str, **payload: Any) -> bytes:
        event = sse_event(name, {"type": name, "sequence_number": self._sequence, **payload})
        self._sequence += 1
        return event

    def _begin(self, kind: type[Part], part: Part) -> tuple[_Open, bytes]:
        item = _Open(kind, self._count, _item_id(part, self._request_id, self._count))
        self._count += 1
        body = _item(part, item.id, IN_PROGRESS) | ({"content": []} if kind is TextPart else {})
        return item, self._event("response.output_item.added", output_index=item.index, item=body)

    def _text(self, text: str) -> Iterator[bytes]:
        if self._open is None or self._open.kind is not TextPart:
            yield from self._close_open()
            self._open, added = self._begin(TextPart, TextPart(""))
            yield added
            yield self._on_item(self._open, "response.content_part.added", content_index=0, part=_text_content("", ()))
        self._open.fragments.append(text)
        yield self._on_item(self._open, "response.output_text.delta", content_index=0, delta=text, logprobs=[])

    def _thinking(self, event: ThinkingDelta) -> Iterator[bytes]:
        if event.redacted or self._open is None or self._open.kind is not ThinkingPart:
            yield from self._close_open()
        if not (event.text or event.signature):
            return
        if self._open is None:
            self._open, added = self._begin(ThinkingPart, ThinkingPart("", None))
            yield added
        item = self._open
        if event.text and not event.redacted:
            if not item.fragments:
                part = {"type": "summary_text", "text": ""}
                yield self._on_item(item, "response.reasoning_summary_part.added", summary_index=0, part=part)
            item.fragments.append(event.text)
            yield self._on_item(item, "response.reasoning_summary_text.delta", summary_index=0, delta=event.text)
        if event.signature:
            yield from self._close_open(event.signature, redacted=event.redacted)

    def _tool_call(self, event: ToolCallDelta) -> Iterator[bytes]:
        item = self._calls.get(event.index)
        known = ToolCallPart("", "", "") if item is None or item.call is None else item.call
        call = ToolCallPart(
            event.id or known.id, event.name or known.name, "", event.signature or known.signature, self._model_id
        )
        if item is None:
            yield from self._close_open()
            item, added = self._begin(ToolCallPart, call)
            self._calls[event.index] = item
            yield added
        item.call = call
        if event.arguments_fragment:
            item.fragments.append(event.arguments_fragment)
            yield self._on_item(item, "response.function_call_arguments.delta", delta=event.arguments_fragment)

    def _on_item(self, item: _Open, name: str, **payload: Any) -> bytes:
        return self._event(name, item_id=item.id, output_index=item.index, **payload)

    def _close_open(self, signature: str | None = None, *, redacted: bool = False) -> Iterator[bytes]:
        item, self._open = self._open, None
        if item is not None:
            yield from self._done(item, _item(item.part(self._model_id, signature, redacted=redacted), item.id))

    def _close_all(self, output: list[Json], citations: tuple[Citation, ...]) -> Iterator[bytes]:
        """End what is open as the response object shows it."""
        still_open = [*self._calls.values(), *([] if self._open is None else [self._open])]
        for item in sorted(still_open, key=lambda open_item: open_item.index):
            body = output[item.index]
            if item.kind is TextPart:
                for number, annotation in enumerate(_annotations(citations)):
                    place = {"content_index": 0, "annotation_index": number, "annotation": annotation}
                    yield self._on_item(item, "response.output_text.annotation.added", **place)
            yield from self._done(item, body)

    def _done(self, item: _Open, body: Json) -> Iterator[bytes]:
        if item.kind is TextPart:
            (part,) = body["content"]
            yield self._on_item(item, "response.output_text.done", content_index=0, text=part["text"], logprobs=[])
            yield self._on_item(item, "response.content_part.done", content_index=0, part=part)
        elif item.kind is ToolCallPart:
            yield self._on_item(item, "response.function_call_arguments.done", arguments=body["arguments"])
        elif item.fragments:
            (part,) = body["summary"]
            yield self._on_item(item, "response.reasoning_summary_text.done", summary_index=0, text=part["text"])
            yield self._on_item(item, "response.reasoning_summary_part.done", summary_index=0, part=part)
        yield self._event("response.output_item.done", output_index=item.index, item=body)


def _shows(part: Part) -> bool:
    return bool(part.text or part.signature) if isinstance(part, ThinkingPart) else True


def _last_status(part: Part) -> str:
    """Of the last item of an answer that is not whole: signed reasoning was complete before the answer broke off."""
    return COMPLETED if isinstance(part, ThinkingPart) and part.signature else INCOMPLETE


def _item_id(part: Part, request_id: str, index: int) -> str:
    prefix = "fc" if isinstance(part, ToolCallPart) else "rs" if isinstance(part, ThinkingPart) else "msg"
    return f"{prefix}_{request_id}_{index}"


def _item(part: Part, item_id: str, status: str = COMPLETED, citations: tuple[Citation, ...] = ()) -> Json:
    match part:
        case ToolCallPart():
            item: Json = {
                "id": item_id,
                "type": "function_call",
                "status": status,
                "call_id": part.id,
                "name": part.name,
                "arguments": part.arguments_json,
            }
            if part.signature is not None:
                item["extra_content"] = call_extra(part.signature, part.origin_model_id)
            return item
        case ThinkingPart():
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            return {
                "id": item_id,
                "type": "reasoning",
                "status": status,
                "summary": summary,
                "encrypted_content": sealed(part),
            }
        case _:
            content = [_text_content(getattr(part, "text", ""), citations)]
            return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def _text_content(text: str, citations: tuple[Citation, ...]) -> Json:
    return {"type": "output_text", "text": text, "annotations": _annotations(citations), "logprobs": []}


def _annotations(citations: tuple[Citation, ...]) -> list[Json]:
    return [
        {
            "type": "url_citation",
            "url": citation.uri or "",
            "title": citation.title or "",
            "start_index": citation.start or 0,
            "end_index": citation.end or 0,
        }
        for citation in citations
    ]


def _echo(value: Any) -> Any:
    """A part of the request as it came."""
    return value if isinstance(value, str) else value.model_dump(by_alias=True, exclude_none=True)
