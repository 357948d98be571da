"""OpenAI chat completions, plain or streamed -> events, through one mapping.

A plain answer is one chunk whose choice has a `message`; a streamed one has a `delta`. Decoded JSON is read as it is,
without a model class per chunk: this code decides how many streams one core carries. The shapes come from
https://platform.openai.com/docs/api-reference/chat/object and .../chat/streaming, with what Vertex's publishers and
vLLM add: ``reasoning_content`` or ``reasoning``, content as a list (Mistral), chunks without choices, errors in the
stream, several tool calls under one index.
"""

from typing import Any, Final

import orjson

from shared.domain.errors import ProviderUnavailable
from shared.domain.replies import (
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
from shared.ports import ProviderCall
from shared.providers.errors import from_error_object, stream_cut, unreadable
from shared.providers.usage_estimate import estimated_usage, token_count

FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.REFUSAL,
}
"""OpenAI's words, Mistral's model_length, and TGI's for its chat route. An unknown word means a regular end."""

_FAILURES: Final = frozenset({"error", "abort", "insufficient_system_resource"})
"""Ends that are no answer: Mistral's error, vLLM's abort, DeepSeek's."""


class OpenAiReader:
    """Reads one answer; `shared.providers.wire_stream.ChunkReader`.

    Args:
        call: the attempt.
        vendor: how to call the vendor in errors.
    """

    def __init__(self, call: ProviderCall, vendor: str) -> None:
        self.vendor = vendor
        self.finished = False
        self._call = call
        self._origin_told = False
        self._usage_told = False
        self._refused = False
        self._output_chars = 0
        self._call_ids: list[str] = []
        """Id of each tool call begun, by our index."""
        self._call_index: dict[int, int] = {}
        """Our index of the call that the vendor's index stands for now."""

    def events_of(self, payload: Any) -> list[StreamEvent]:
        """The events of a chunk or of a whole answer.

        Raises:
            ProviderError: the payload reports a failure, or is no chat completion.
        """
        try:
            return self._events_of(payload)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise unreadable(self.vendor, "an answer that is no chat completion") from None

    def end(self, *, declared: bool) -> list[StreamEvent]:
        """Usage, when the vendor gave none.

        Raises:
            ProviderUnavailable: the stream was cut.
            ProviderBadResponse: the vendor declared an end without a finish reason.
        """
        if not self.finished:
            raise unreadable(self.vendor, "an answer without a finish reason") if declared else stream_cut(self.vendor)
        if self._usage_told:
            return []
        return [UsageUpdate(estimated_usage(self._call, self._output_chars))]

    def _events_of(self, payload: Any) -> list[StreamEvent]:
        if isinstance(payload, list):  # Google wraps errors in a list
            payload = payload[0]
        events: list[StreamEvent] = []
        choices = payload.get("choices")
        if choices:
            choice = choices[0]
            delta = choice.get("delta") or choice.get("message")
            if delta:
                self._add_content(delta, events)
            if (native := choice.get("finish_reason")) and not self.finished:
                events.append(self._finish(native))
        else:
            self._raise_reported(payload)
        if not self._origin_told:
            self._origin_told = True
            events.insert(0, Origin(payload.get("model") or None, payload.get("id") or None))
        if usage := payload.get("usage"):
            self._usage_told = True
            events.append(UsageUpdate(self._usage(usage)))
        return events

    def _add_content(self, delta: dict[str, Any], events: list[StreamEvent]) -> None:
        if content := delta.get("content"):
            if type(content) is str:
                self._output_chars += len(content)
                events.append(TextDelta(content))
            else:
                self._add_content_list(content, events)
        if thinking := delta.get("reasoning_content") or delta.get("reasoning"):
            # Before the text: a plain answer has both in one message, and thinking came first.
            events.insert(0, ThinkingDelta(self._text(thinking)))
        if refusal := delta.get("refusal"):
            self._refused = True
            events.append(TextDelta(self._text(refusal)))
        if calls := delta.get("tool_calls"):
            for place, call in enumerate(calls):
                events.append(self._tool_call(place, call))

    def _add_content_list(self, content: list[dict[str, Any]], events: list[StreamEvent]) -> None:
        """Mistral's thinking models answer with parts: text, and thinking that is a list of texts itself."""
        for part in content:
            if part["type"] == "text":
                events.append(TextDelta(self._text(part["text"])))
            elif part["type"] == "thinking":
                events.extend(ThinkingDelta(self._text(inner["text"])) for inner in part["thinking"])

    def _text(self, text: Any) -> str:
        if type(text) is not str:
            raise TypeError
        self._output_chars += len(text)
        return text

    def _tool_call(self, place: int, call: dict[str, Any]) -> ToolCallDelta:
        """A fragment under our own index: some servers send several calls under index 0, or none at all."""
        function = call.get("function") or {}
        call_id, name = call.get("id") or None, function.get("name") or None
        theirs = call.get("index")
        theirs = place if theirs is None else theirs
        index = self._call_index.get(theirs)
        if index is None or (call_id and name and call_id != self._call_ids[index]):
            index = self._call_index[theirs] = len(self._call_ids)
            call_id = call_id or f"call_{self._call.request_id.replace('-', '')}_{index}"
            self._call_ids.append(call_id)
        arguments = function.get("arguments") or ""
        if type(arguments) is not str:
            arguments = orjson.dumps(arguments).decode()
        return ToolCallDelta(index, call_id, name, self._text(arguments))

    def _finish(self, native: Any) -> Finished:
        if native in _FAILURES:
            raise ProviderUnavailable(f"{self.vendor} broke the answer off", vendor_status=str(native))
        self.finished = True
        reason = FINISH_REASONS.get(native, FinishReason.STOP)
        if reason is FinishReason.STOP:
            # Several servers say "stop" for these, too.
            if self._call_ids:
                reason = FinishReason.TOOL_CALLS
            elif self._refused:
                reason = FinishReason.REFUSAL
        return Finished(reason, str(native))

    def _usage(self, usage: dict[str, Any]) -> Usage:
        prompt, completion = token_count(usage.get("prompt_tokens")), token_count(usage.get("completion_tokens"))
        if prompt is None or completion is None:
            return estimated_usage(self._call, self._output_chars, input_tokens=prompt, output_tokens=completion)
        prompt_details = usage.get("prompt_tokens_details") or {}
        cached = token_count(prompt_details.get("cached_tokens"))
        if cached is None:  # DeepSeek's own name for it
            cached = token_count(usage.get("prompt_cache_hit_tokens")) or 0
        cached = min(cached, prompt)
        audio = min(token_count(prompt_details.get("audio_tokens")) or 0, prompt - cached)
        thinking = token_count((usage.get("completion_tokens_details") or {}).get("reasoning_tokens")) or 0
        if token_count(usage.get("total_tokens")) != prompt + completion + thinking:
            # OpenAI counts thinking inside completion tokens; xAI beside them, and then the total says so.
            thinking = min(thinking, completion)
            completion -= thinking
        return Usage(
            input_tokens=prompt - cached - audio,
            input_audio_tokens=audio,
            cache_read_tokens=cached,
            output_tokens=completion,
            thinking_tokens=thinking,
        )

    def _raise_reported(self, payload: dict[str, Any]) -> None:
        """Raise the failure that a payload without choices reports, if it does."""
        error = payload.get("error")
        if error is None and payload.get("object") == "error":  # vLLM's older form
            error = payload
        if error is not None:
            raise from_error_object(error if isinstance(error, dict) else {}, vendor=self.vendor)
