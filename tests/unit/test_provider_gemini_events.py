"""GenerateContentResponse -> events: payloads in the vendor's shape, plain and streamed."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.chat import TextPart, ThinkingPart
from shared.domain.errors import ProviderBadResponse, ProviderUnavailable, RetryScope
from shared.domain.replies import ChatReply, Citation, FinishReason, ReplyBuilder, StreamEvent, Usage, UsageUpdate
from shared.providers.gemini_events import GeminiState, closing_events, events_of, usage_of
from shared.providers.vertex_protos import messages

SIGNATURE = base64.b64encode(b"sig").decode()
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}


def response(body: dict[str, Any]) -> Any:
    return json_format.ParseDict(body, messages().GenerateContentResponse(), ignore_unknown_fields=True)


def candidate(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **fields}]}


def read(*bodies: dict[str, Any], streamed: bool = True) -> list[StreamEvent]:
    state = GeminiState("0193a5b2-7c1e-7000-8000-000000000001")
    events = [event for body in bodies for event in events_of(response(body), state)]
    return events + closing_events(state, streamed=streamed)


def fold(events: list[StreamEvent]) -> ChatReply:
    return ReplyBuilder("m").extend(events).build()


def test_a_whole_answer():
    reply = fold(
        read(
            {
                **candidate(
                    {"text": "I wonder. ", "thought": True},
                    {"text": "Hello"},
                    {"text": " there", "thoughtSignature": SIGNATURE},
                    finishReason="STOP",
                    citationMetadata={
                        "citations": [{"uri": "https://a.example", "title": "A", "startIndex": 1, "endIndex": 4}]
                    },
                ),
                "usageMetadata": {**USAGE, "thoughtsTokenCount": 3, "totalTokenCount": 18},
                "modelVersion": "gemini-3.8-flash-001",
                "responseId": "r-1",
            },
            streamed=False,
        )
    )

    assert reply.parts == (
        ThinkingPart("I wonder. ", None, "m"),
        TextPart("Hello there"),
        ThinkingPart("", SIGNATURE, "m"),
    )
    assert (reply.finish_reason, reply.native_finish_reason, reply.finish_detail) == (FinishReason.STOP, "STOP", None)
    assert reply.usage == Usage(input_tokens=10, output_tokens=5, thinking_tokens=3)
    assert (reply.model_version, reply.response_id) == ("gemini-3.8-flash-001", "r-1")
    assert reply.citations == (Citation("A", "https://a.example", 1, 4),)


def test_tool_calls_get_ids_and_whole_numbers():
    reply = fold(
        read(
            {
                **candidate(
                    {
                        "functionCall": {
                            "name": "weather",
                            "args": {"city": "Oslo", "days": 3, "at": 1.5, "in": [{"a": None}]},
                        },
                        "thoughtSignature": SIGNATURE,
                    },
                    {"functionCall": {"name": "now"}},
                    finishReason="STOP",
                ),
                "usageMetadata": USAGE,
            }
        )
    )

    first, second = reply.tool_calls()
    assert json.loads(first.arguments_json) == {"city": "Oslo", "days": 3, "at": 1.5, "in": [{"a": None}]}
    assert first.arguments_json == '{"at":1.5,"city":"Oslo","days":3,"in":[{"a":null}]}'
    assert (first.name, first.signature, first.origin_model_id) == ("weather", SIGNATURE, "m")
    assert (second.name, second.arguments_json, second.signature) == ("now", "{}", None)
    assert first.id != second.id
    assert len(first.id) <= 40
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert reply.native_finish_reason == "STOP"


def test_only_the_first_call_is_told_when_tools_are_to_be_called_one_by_one():
    state = GeminiState("r", one_call=True)
    calls = [{"functionCall": {"name": name, "args": {}}} for name in ("first", "second")]
    bodies = [candidate(*calls), {**candidate(calls[1], finishReason="STOP"), "usageMetadata": USAGE}]
    events = [event for body in bodies for event in events_of(response(body), state)]
    reply = fold([*events, *closing_events(state, streamed=True)])
    assert [call.name for call in reply.tool_calls()] == ["first"]
    assert reply.finish_reason is FinishReason.TOOL_CALLS


def test_call_ids_differ_between_requests():
    ids = {GeminiState(f"0193a5b2-7c1e-7000-8000-00000000000{n}").next_call_id() for n in range(10)}
    assert len(ids) == 10


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ("STOP", FinishReason.STOP),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("RECITATION", FinishReason.CONTENT_FILTER),
        ("BLOCKLIST", FinishReason.CONTENT_FILTER),
        ("PROHIBITED_CONTENT", FinishReason.CONTENT_FILTER),
        ("SPII", FinishReason.CONTENT_FILTER),
        ("MODEL_ARMOR", FinishReason.CONTENT_FILTER),
        ("OTHER", FinishReason.ERROR),
    ],
)
def test_finish_reasons(native: str, expected: FinishReason):
    ratings = [
        {"category": "HARM_CATEGORY_HATE_SPEECH", "probability": "LOW"},
        {"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH", "blocked": True},
    ]
    body = {**candidate({"text": "x"}, finishReason=native, safetyRatings=ratings), "usageMetadata": USAGE}
    reply = fold(read(body, streamed=False))
    assert (reply.finish_reason, reply.native_finish_reason) == (expected, native)
    assert reply.finish_detail == "HARM_CATEGORY_HARASSMENT"


def test_a_finish_reason_of_the_future_is_an_error_with_its_number():
    message = response({**candidate({"text": "x"}), "usageMetadata": USAGE})
    message.candidates[0].finish_reason = 77
    state = GeminiState("r")
    reply = fold([*events_of(message, state), *closing_events(state, streamed=False)])
    assert (reply.finish_reason, reply.native_finish_reason) == (FinishReason.ERROR, "77")


@pytest.mark.parametrize("streamed", [True, False])
def test_a_blocked_prompt_is_an_answer(streamed: bool):
    feedback = {
        "blockReason": "SAFETY",
        "blockReasonMessage": "quotes the prompt",
        "safetyRatings": [{"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "blocked": True}],
    }
    events = read({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 9}}, streamed=streamed)
    reply = fold(events)
    assert (reply.finish_reason, reply.native_finish_reason) == (FinishReason.CONTENT_FILTER, "SAFETY")
    assert reply.finish_detail == "HARM_CATEGORY_DANGEROUS_CONTENT"
    assert reply.usage == Usage(input_tokens=9)
    assert "quotes" not in repr(events)


def test_a_prompt_blocked_for_other_reasons_is_no_error():
    reply = fold(read({"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": USAGE}, streamed=False))
    assert (reply.finish_reason, reply.native_finish_reason) == (FinishReason.CONTENT_FILTER, "OTHER")


@pytest.mark.parametrize(
    "bodies",
    [
        [{"usageMetadata": USAGE}],
        [{}],
        [{**candidate(finishReason="STOP"), "usageMetadata": USAGE}],
        [{**candidate({"text": ""}, finishReason="STOP"), "usageMetadata": USAGE}],
        [{**candidate(finishReason="OTHER"), "usageMetadata": USAGE}],
        [{**candidate(finishReason="MALFORMED_FUNCTION_CALL"), "usageMetadata": USAGE}],
        [candidate({"text": "x"}), candidate(finishReason="MALFORMED_FUNCTION_CALL")],
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_holds_nothing_is_no_success(bodies: list[dict[str, Any]], streamed: bool):
    with pytest.raises(ProviderBadResponse) as caught:
        read(*bodies, streamed=streamed)
    assert caught.value.scope is RetryScope.OTHER_DEPLOYMENT


@pytest.mark.parametrize("bodies", [[], [candidate({"text": "Hel"})], [candidate({"text": "x", "thought": True})]])
def test_a_stream_without_a_finish_was_cut(bodies: list[dict[str, Any]]):
    with pytest.raises(ProviderUnavailable) as caught:
        read(*bodies)
    assert caught.value.vendor_status == "cut"


def test_nothing_left_after_thinking_is_a_length_stop():
    body = {**candidate(finishReason="MAX_TOKENS"), "usageMetadata": {"promptTokenCount": 3, "thoughtsTokenCount": 100}}
    reply = fold(read(body, streamed=False))
    assert reply.finish_reason is FinishReason.LENGTH
    assert reply.usage == Usage(input_tokens=3, thinking_tokens=100)


FIXTURES = sorted((Path(__file__).parent / "fixtures_usage").glob("gemini_*.json"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_usage_fixtures(path: Path):
    fixture = json.loads(path.read_text())
    usage = usage_of(response(fixture["payload"]).usage_metadata)
    assert usage == Usage(**fixture["usage"])
    assert usage.total_tokens == fixture["payload"]["usageMetadata"]["totalTokenCount"]


def test_cached_audio_is_not_counted_twice():
    metadata = {
        "promptTokenCount": 5000,
        "cachedContentTokenCount": 3000,
        "candidatesTokenCount": 10,
        "totalTokenCount": 5310,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}, {"modality": "AUDIO", "tokenCount": 4000}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 3000}],
        "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 300}],
    }
    usage = usage_of(response({"usageMetadata": metadata}).usage_metadata)
    assert usage == Usage(input_tokens=1300, input_audio_tokens=1000, cache_read_tokens=3000, output_tokens=10)
    assert usage.total_tokens == 5310


def test_usage_is_told_when_it_changes():
    prompt_only = {"promptTokenCount": 10, "totalTokenCount": 10}
    events = read(
        {**candidate({"text": "a"}), "usageMetadata": prompt_only},
        {**candidate({"text": "b"}), "usageMetadata": prompt_only},
        {**candidate({"text": "c"}, finishReason="STOP"), "usageMetadata": USAGE},
    )
    updates = [event.usage for event in events if isinstance(event, UsageUpdate)]
    assert updates == [Usage(input_tokens=10), Usage(input_tokens=10, output_tokens=5)]


def test_there_is_always_a_usage():
    assert UsageUpdate(Usage()) in read(candidate({"text": "a"}, finishReason="STOP"))


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8), st.lists(st.text(min_size=1), max_size=4), st.booleans())
def test_plain_and_streamed_answers_are_the_same(texts: list[str], thoughts: list[str], calls: bool):
    tail = [{"functionCall": {"name": "f", "args": {"n": 1}}, "thoughtSignature": SIGNATURE}] if calls else []
    pieces = [{"text": thought, "thought": True} for thought in thoughts] + [{"text": text} for text in texts]
    whole = [{"text": "".join(thoughts), "thought": True}] if thoughts else []
    whole += [{"text": "".join(texts)}, *tail]

    streamed = read(
        *[candidate(piece) for piece in [*pieces, *tail]],
        {**candidate(finishReason="STOP"), "usageMetadata": USAGE},
    )
    plain = read({**candidate(*whole, finishReason="STOP"), "usageMetadata": USAGE}, streamed=False)

    assert fold(streamed) == fold(plain)
