"""Messages API -> stream events, one mapping for plain and streamed answers.

A plain message is read as the stream it stands for: its start, each block whole, its end.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from shared.domain.replies import (
    Citation,
    CitationFound,
    Finished,
    FinishReason,
    Origin,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageUpdate,
)
from shared.providers import errors
from shared.providers.usage_estimate import token_count

VENDOR: Final = "Claude"

_FINISH: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "pause_turn": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}
"""https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons. A paused turn is not whole, hence
LENGTH; a word that is not known is an ERROR."""


class AnthropicReader:
    """Maps one answer's messages to events (`wire_stream.ChunkReader`).

    Args:
        json_tool: the tool whose arguments are the answer's text, when a JSON answer was forced that way.
    """

    vendor = VENDOR

    def __init__(self, json_tool: str | None = None) -> None:
        self._json_tool = json_tool
        self._usage: dict[str, Any] = {}
        self._finish: Finished | None = None
        self._stopped = False
        self._calls = 0
        self._call_of_block: dict[int, int] = {}
        self._text_blocks: set[int] = set()
        self._by_type: Mapping[str, Callable[[Mapping[str, Any]], list[StreamEvent]]] = {
            "message": self._whole,
            "message_start": self._start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
        }

    @property
    def finished(self) -> bool:
        """Whether the vendor said why the answer ended."""
        return self._finish is not None

    def events_of(self, payload: Any) -> Sequence[StreamEvent]:
        """The events of one message; `Finished` waits for the end, since nothing may follow it.

        Raises:
            ProviderError: it reports a failure, or is not of the vendor's shape.
        """
        try:
            handler = self._by_type.get(payload["type"])
            return [] if handler is None else handler(payload)
        except (KeyError, TypeError, AttributeError, ValueError):
            # Whatever is missing or of the wrong type in a vendor's message: one error, without the message.
            raise errors.unreadable(VENDOR, "a message of an unknown shape") from None

    def end(self, *, declared: bool) -> Sequence[StreamEvent]:
        """The events still owed when nothing more comes.

        Raises:
            ProviderBadResponse: a plain answer without a stop reason.
            ProviderUnavailable: a stream that ended within the answer.
        """
        if self._finish is None:
            raise errors.unreadable(VENDOR, "no stop reason") if declared else errors.stream_cut(VENDOR)
        return [self._finish]

    # --- message level ---

    def _whole(self, message: Mapping[str, Any]) -> list[StreamEvent]:
        events = self._start({"message": message})
        for index, block in enumerate(message["content"]):
            events += self._block_start({"index": index, "content_block": block})
        events += self._message_delta({"delta": message})
        return events

    def _start(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        message = event["message"]
        return [Origin(message.get("model"), message.get("id")), *self._usage_update(message.get("usage"))]

    def _message_delta(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        delta = event["delta"]
        native = delta.get("stop_reason")
        if native is not None:
            reason = _FINISH.get(native, FinishReason.ERROR)
            if reason is FinishReason.TOOL_CALLS and not self._calls:
                reason = FinishReason.STOP  # the forced JSON answer
            details = delta.get("stop_details") or {}
            self._finish = Finished(reason, str(native), details.get("category"))
        return self._usage_update(event.get("usage"))

    def _message_stop(self, _event: Mapping[str, Any]) -> list[StreamEvent]:
        self._stopped = True
        return []

    def _error(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        raise errors.from_error_object(event["error"], vendor=VENDOR)

    def _usage_update(self, usage: Mapping[str, Any] | None) -> list[StreamEvent]:
        """Counts of a message_delta are cumulative: each replaces the one before, those missing stay."""
        if not usage:
            return []
        self._usage.update({name: count for name, count in usage.items() if count is not None})
        return [UsageUpdate(usage_of(self._usage))]

    # --- blocks ---

    def _block_start(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        index, block = event["index"], event["content_block"]
        match block["type"]:
            case "text":
                text: list[StreamEvent] = [TextDelta(block["text"])] if block.get("text") else []
                return text + [_citation(found) for found in block.get("citations") or ()]
            case "thinking":
                shown, signature = block.get("thinking") or "", block.get("signature") or None
                return [ThinkingDelta(shown, signature)] if shown or signature else []
            case "redacted_thinking":
                return [ThinkingDelta("", block["data"], redacted=True)]
            case "tool_use":
                return self._tool_start(index, block)
            case _:
                return []

    def _tool_start(self, index: int, block: Mapping[str, Any]) -> list[StreamEvent]:
        arguments = orjson.dumps(block["input"]).decode() if block.get("input") else ""
        if block["name"] == self._json_tool:
            self._text_blocks.add(index)
            return [TextDelta(arguments)] if arguments else []
        call = self._call_of_block[index] = self._calls
        self._calls += 1
        return [ToolCallDelta(call, block["id"], block["name"], arguments)]

    def _block_delta(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        delta = event["delta"]
        match delta["type"]:
            case "text_delta":
                return [TextDelta(delta["text"])]
            case "thinking_delta":
                return [ThinkingDelta(delta["thinking"])]
            case "signature_delta":
                return [ThinkingDelta("", delta["signature"])]
            case "input_json_delta":
                return self._arguments(event["index"], delta["partial_json"])
            case "citations_delta":
                return [_citation(delta["citation"])]
            case _:
                return []

    def _arguments(self, index: int, fragment: str) -> list[StreamEvent]:
        if not fragment:
            return []
        if index in self._text_blocks:
            return [TextDelta(fragment)]
        call = self._call_of_block.get(index)
        return [] if call is None else [ToolCallDelta(call, arguments_fragment=fragment)]


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Claude's usage as disjoint kinds: cache counts come beside `input_tokens`, thinking inside `output_tokens`."""
    written = _count(usage, "cache_creation_input_tokens")
    lifetimes = usage.get("cache_creation") or {}
    long_written = _count(lifetimes, "ephemeral_1h_input_tokens")
    written = max(written - long_written, _count(lifetimes, "ephemeral_5m_input_tokens"))
    thinking = _count(usage.get("output_tokens_details") or {}, "thinking_tokens")
    return Usage(
        input_tokens=_count(usage, "input_tokens"),
        cache_read_tokens=_count(usage, "cache_read_input_tokens"),
        cache_write_tokens=written,
        cache_write_long_tokens=long_written,
        output_tokens=max(0, _count(usage, "output_tokens") - thinking),
        thinking_tokens=thinking,
    )


def _count(usage: Mapping[str, Any], name: str) -> int:
    return token_count(usage.get(name)) or 0


def _citation(found: Mapping[str, Any]) -> CitationFound:
    return CitationFound(
        Citation(
            title=found.get("document_title") or found.get("title"),
            uri=found.get("url"),
            start=found.get("start_char_index"),
            end=found.get("end_char_index"),
        )
    )
