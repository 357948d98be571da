"""GenerateContentResponse -> stream events, one mapping for plain and streamed answers."""

import base64
import re
from dataclasses import replace
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
from shared.providers.json_struct import plain_struct

VENDOR: Final = "Gemini"
_AUDIO: Final = 4
"""`Modality.AUDIO` of google.cloud.aiplatform.v1."""

_FINISH: Final = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
    "MODEL_ARMOR": FinishReason.CONTENT_FILTER,
}
"""Every other word is an ERROR: the vendor stopped for a reason that is no answer."""


class GeminiState:
    """What spans the messages of one answer.

    Args:
        request_id: of the attempt; call ids are made from it, since v1 function calls carry none.
        one_call: whether only the first function call of the answer is wanted.
    """

    __slots__ = (
        "_call_prefix",
        "calls",
        "finished",
        "has_content",
        "one_call",
        "origin_known",
        "saw_candidate",
        "saw_response",
        "usage",
    )

    def __init__(self, request_id: str, *, one_call: bool = False) -> None:
        self.one_call = one_call
        self._call_prefix = "call_" + re.sub(r"[^A-Za-z0-9]", "", request_id)[-20:]
        self.calls = 0
        self.finished: Finished | None = None
        self.has_content = False
        self.origin_known = False
        self.saw_candidate = False
        self.saw_response = False
        self.usage: Usage | None = None

    def next_call_id(self) -> str:
        """An id that no other call of this request has."""
        return f"{self._call_prefix}_{self.calls}"


def events_of(response: Any, state: GeminiState) -> list[StreamEvent]:
    """The events of one response, whole or piece. `Finished` waits for `closing_events`.

    Raises:
        ProviderBadResponse: the model wrote a function call that cannot be read.
    """
    events: list[StreamEvent] = []
    state.saw_response = True
    if not state.origin_known and (response.model_version or response.response_id):
        state.origin_known = True
        events.append(Origin(response.model_version or None, response.response_id or None))
    if response.candidates:
        _add_candidate(events, response.candidates[0], state)
    elif response.HasField("prompt_feedback") and response.prompt_feedback.block_reason:
        feedback = response.prompt_feedback
        category = _blocked_category(feedback.safety_ratings)
        state.finished = Finished(FinishReason.CONTENT_FILTER, _name(feedback, "block_reason"), category)
    if response.HasField("usage_metadata"):
        usage = usage_of(response.usage_metadata)
        if usage not in (state.usage, _NOTHING):
            state.usage = usage
            events.append(UsageUpdate(usage))
    return events


def closing_events(state: GeminiState, *, streamed: bool) -> list[StreamEvent]:
    """What is owed when no more responses come.

    Raises:
        ProviderBadResponse: there was no candidate and no block, or a candidate that holds nothing.
        ProviderUnavailable: a stream ended within the answer.
    """
    finished = state.finished
    if finished is None:
        if streamed and (state.saw_candidate or not state.saw_response):
            raise errors.stream_cut(VENDOR)
        raise errors.unreadable(VENDOR, "no candidate and no reason")
    if finished.reason in (FinishReason.STOP, FinishReason.ERROR) and not state.has_content:
        raise errors.unreadable(VENDOR, f"an empty answer ({finished.native})")
    if finished.reason is FinishReason.STOP and state.calls:
        finished = replace(finished, reason=FinishReason.TOOL_CALLS)
    return [finished] if state.usage is not None else [UsageUpdate(_NOTHING), finished]


def usage_of(metadata: Any) -> Usage:
    """Gemini's usage as disjoint kinds.

    Cached tokens are counted inside the prompt, thoughts and tool-use prompts beside everything else, and audio
    inside both the prompt and the cached part.
    """
    cached = metadata.cached_content_token_count
    audio = _audio_tokens(metadata.prompt_tokens_details) - _audio_tokens(metadata.cache_tokens_details)
    audio = max(0, audio)
    answered = metadata.candidates_token_count + metadata.thoughts_token_count
    # v1 has the modalities of the tool-use prompt but not its sum, which is what the total holds besides the rest.
    tool_use = sum(detail.token_count for detail in metadata.tool_use_prompt_tokens_details) or max(
        0, metadata.total_token_count - metadata.prompt_token_count - answered
    )
    return Usage(
        input_tokens=max(0, metadata.prompt_token_count - cached - audio) + tool_use,
        input_audio_tokens=audio,
        cache_read_tokens=cached,
        output_tokens=metadata.candidates_token_count,
        thinking_tokens=metadata.thoughts_token_count,
    )


_NOTHING: Final = Usage()


def _add_candidate(events: list[StreamEvent], candidate: Any, state: GeminiState) -> None:
    state.saw_candidate = True
    for part in candidate.content.parts:
        _add_part(events, part, state)
    if candidate.HasField("citation_metadata"):
        for cited in candidate.citation_metadata.citations:
            citation = Citation(
                title=cited.title or None, uri=cited.uri or None, start=cited.start_index, end=cited.end_index
            )
            events.append(CitationFound(citation))
    if candidate.finish_reason:
        native = _name(candidate, "finish_reason")
        if native == "MALFORMED_FUNCTION_CALL":
            raise errors.unreadable(VENDOR, "a malformed function call")
        reason = _FINISH.get(native, FinishReason.ERROR)
        state.finished = Finished(reason, native, _blocked_category(candidate.safety_ratings))


def _add_part(events: list[StreamEvent], part: Any, state: GeminiState) -> None:
    signature = base64.b64encode(part.thought_signature).decode("ascii") if part.thought_signature else None
    kind = part.WhichOneof("data")
    if kind == "function_call" and state.one_call and state.calls:
        # The vendor has no word for this wish. A call that is left out comes again once the first one is answered.
        return
    if kind == "function_call":
        # Protobuf maps have no order: sorted, equal calls are equal texts.
        arguments = orjson.dumps(plain_struct(part.function_call.args), option=orjson.OPT_SORT_KEYS).decode()
        events.append(ToolCallDelta(state.calls, state.next_call_id(), part.function_call.name, arguments, signature))
        state.calls += 1
        state.has_content = True
    elif part.thought:
        events.append(ThinkingDelta(part.text, signature))
        state.has_content = True
    else:
        if part.text:
            events.append(TextDelta(part.text))
            state.has_content = True
        if signature is not None:
            # A signature on plain text stands for thinking that is not shown; it travels as a part without text.
            events.append(ThinkingDelta("", signature))


def _name(message: Any, field: str) -> str:
    """The enum's word; a number that this version of the messages does not know stays a number."""
    number = getattr(message, field)
    value = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    return str(number) if value is None else value.name


def _blocked_category(ratings: Any) -> str | None:
    for rating in ratings:
        if rating.blocked:
            return _name(rating, "category")
    return None


def _audio_tokens(details: Any) -> int:
    return sum(detail.token_count for detail in details if detail.modality == _AUDIO)
