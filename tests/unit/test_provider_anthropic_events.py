"""Messages API -> events: payloads in the vendor's shape, plain and streamed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.chat import TextPart, ThinkingPart
from shared.domain.errors import (
    ProviderBadResponse,
    ProviderError,
    ProviderRateLimited,
    ProviderUnavailable,
    RetryScope,
)
from shared.domain.replies import ChatReply, Citation, FinishReason, ReplyBuilder, StreamEvent, Usage
from shared.providers.anthropic_events import AnthropicReader, usage_of
from shared.providers.wire_stream import read_plain, read_sse
from tests.unit.openai_builders import collected, pieces

USAGE = {"input_tokens": 10, "output_tokens": 5}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}


def plain(body: Any, json_tool: str | None = None) -> ChatReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return fold(read_plain(raw, AnthropicReader(json_tool)))


def fold(events: list[StreamEvent]) -> ChatReply:
    return ReplyBuilder("m").extend(events).build()


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def start(**usage: Any) -> dict[str, Any]:
    message = {
        **MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 10, "output_tokens": 1, **usage},
    }
    return {"type": "message_start", "message": message}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str = "end_turn", **fields: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None, **fields}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}, {"type": "message_stop"}]


async def streamed(body: bytes, *cuts: int, json_tool: str | None = None) -> ChatReply:
    return fold(await collected(read_sse(pieces(body, *cuts), AnthropicReader(json_tool))))


TEXT = {"type": "text_delta"}


async def test_a_streamed_answer_of_every_kind():
    reply = await streamed(
        sse(
            start(cache_read_input_tokens=100),
            {"type": "ping"},
            *block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "Hm"},
                {"type": "thinking_delta", "thinking": "m."},
                {"type": "signature_delta", "signature": "sig"},
            ),
            *block(1, {"type": "redacted_thinking", "data": "blob"}),
            *block(
                2,
                {"type": "text", "text": ""},
                {**TEXT, "text": "Hel"},
                {
                    "type": "citations_delta",
                    "citation": {"document_title": "D", "start_char_index": 1, "end_char_index": 2},
                },
                {**TEXT, "text": "lo"},
            ),
            *block(3, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
            *block(
                4,
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
                {"type": "input_json_delta", "partial_json": ""},
                {"type": "input_json_delta", "partial_json": '{"city": '},
                {"type": "input_json_delta", "partial_json": '"Oslo"}'},
            ),
            *block(5, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}),
            {"type": "a_new_event", "anything": 1},
            *end("tool_use"),
        )
    )

    assert reply.parts[:3] == (
        ThinkingPart("Hmm.", "sig", "m"),
        ThinkingPart("", "blob", "m", redacted=True),
        TextPart("Hello"),
    )
    first, second = reply.tool_calls()
    assert (first.id, first.name, first.arguments_json) == ("toolu_1", "weather", '{"city": "Oslo"}')
    assert (second.id, second.name, second.arguments_json) == ("toolu_2", "now", "{}")
    assert (reply.finish_reason, reply.native_finish_reason) == (FinishReason.TOOL_CALLS, "tool_use")
    assert reply.usage == Usage(input_tokens=10, cache_read_tokens=100, output_tokens=5)
    assert (reply.model_version, reply.response_id) == ("claude-haiku-4-5-20251001", "msg_1")
    assert reply.citations == (Citation("D", None, 1, 2),)


def test_a_plain_answer_of_every_kind():
    reply = plain(
        {
            **MESSAGE,
            "content": [
                {"type": "thinking", "thinking": "Hmm.", "signature": "sig"},
                {"type": "redacted_thinking", "data": "blob"},
                {"type": "text", "text": "Hello", "citations": [{"title": "T", "url": "https://a.example"}]},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
            ],
            "stop_reason": "tool_use",
        }
    )
    assert reply.parts[:3] == (
        ThinkingPart("Hmm.", "sig", "m"),
        ThinkingPart("", "blob", "m", redacted=True),
        TextPart("Hello"),
    )
    assert json.loads(reply.tool_calls()[0].arguments_json) == {"city": "Oslo"}
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert reply.citations == (Citation("T", "https://a.example", None, None),)


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("pause_turn", FinishReason.LENGTH),
        ("refusal", FinishReason.REFUSAL),
        ("word_of_the_future", FinishReason.ERROR),
    ],
)
async def test_stop_reasons(native: str, expected: FinishReason):
    details = (
        {"stop_details": {"type": "refusal", "category": "cyber", "explanation": "quotes"}}
        if native == "refusal"
        else {}
    )
    reply = plain({**MESSAGE, "stop_reason": native, **details})
    body = sse(start(), *block(0, {"type": "text", "text": ""}, {**TEXT, "text": "Hello"}), *end(native, **details))
    assert (reply.finish_reason, reply.native_finish_reason) == (expected, native)
    assert reply.finish_detail == ("cyber" if details else None)
    assert await streamed(body) == reply


async def test_a_forced_json_answer_is_text():
    message = {
        **MESSAGE,
        "content": [{"type": "tool_use", "id": "t", "name": "answer_in_json", "input": {"n": 1}}],
        "stop_reason": "tool_use",
    }
    body = sse(
        start(),
        *block(
            0,
            {"type": "tool_use", "id": "t", "name": "answer_in_json", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"n"'},
            {"type": "input_json_delta", "partial_json": ": 1}"},
        ),
        *end("tool_use"),
    )
    for reply in (plain(message, "answer_in_json"), await streamed(body, json_tool="answer_in_json")):
        assert json.loads(reply.text()) == {"n": 1}
        assert reply.tool_calls() == ()
        assert reply.finish_reason is FinishReason.STOP


def test_an_empty_turn_is_an_answer():
    reply = plain({**MESSAGE, "content": []})
    assert (reply.parts, reply.finish_reason) == ((), FinishReason.STOP)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'"text"',
        json.dumps({**MESSAGE, "stop_reason": None}).encode(),
        json.dumps({**MESSAGE, "content": None}).encode(),
        json.dumps({**MESSAGE, "content": [{"type": "tool_use"}]}).encode(),
        json.dumps({**MESSAGE, "content": ["x"]}).encode(),
        json.dumps({**MESSAGE, "usage": ["x"]}).encode(),
        json.dumps({"type": "error", "error": None}).encode(),
    ],
)
def test_answers_that_cannot_be_read(body: bytes):
    with pytest.raises(ProviderBadResponse):
        plain(body)


@pytest.mark.parametrize(
    ("error", "expected", "scope"),
    [
        ("overloaded_error", ProviderUnavailable, RetryScope.SAME),
        ("rate_limit_error", ProviderRateLimited, RetryScope.SAME),
        ("api_error", ProviderUnavailable, RetryScope.SAME),
    ],
)
async def test_errors_inside_answers(error: str, expected: type[ProviderError], scope: RetryScope):
    event = {"type": "error", "error": {"type": error, "message": "quotes the prompt"}}
    with pytest.raises(expected) as caught:
        await streamed(sse(start(), *block(0, {"type": "text", "text": "x"}), event))
    assert caught.value.scope is scope
    assert "quotes" not in caught.value.message
    with pytest.raises(expected):
        plain(event)


WHOLE = sse(start(), *block(0, {"type": "text", "text": ""}, {**TEXT, "text": "Hel"}, {**TEXT, "text": "lo"}), *end())


async def test_a_cut_stream_never_looks_whole():
    whole = await streamed(WHOLE)
    last_content = WHOLE.index(b"event: message_delta")
    for length in range(len(WHOLE)):
        try:
            reply = await streamed(WHOLE[:length])
        except ProviderUnavailable as error:
            assert error.vendor_status == "cut"
        else:
            assert length > last_content
            assert (reply.text(), reply.finish_reason) == ("Hello", FinishReason.STOP)
    assert whole.text() == "Hello"


async def test_broken_json_inside_a_stream():
    with pytest.raises(ProviderBadResponse):
        await streamed(sse(start()) + b"event: content_block_delta\ndata: {broken\n\n" + sse(*end()))


@given(st.lists(st.text(min_size=1), max_size=5), st.lists(st.integers(0, 10_000), max_size=10))
def test_plain_and_streamed_answers_are_the_same(texts: list[str], cuts: list[int]):
    deltas = [{**TEXT, "text": text} for text in texts]
    body = sse(start(), *block(0, {"type": "text", "text": ""}, *deltas), *end())
    message = {**MESSAGE, "content": [{"type": "text", "text": "".join(texts)}]}
    assert asyncio.run(streamed(body, *cuts)) == plain(message)


FIXTURES = sorted((Path(__file__).parent / "fixtures_usage").glob("anthropic_*.json"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_usage_fixtures(path: Path):
    fixture = json.loads(path.read_text())
    assert usage_of(fixture["payload"]["usage"]) == Usage(**fixture["usage"])


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, Usage()),
        ({"input_tokens": None, "output_tokens": "5"}, Usage()),
        ({"cache_creation_input_tokens": 30}, Usage(cache_write_tokens=30)),
        (
            {
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            },
            Usage(cache_write_tokens=10, cache_write_long_tokens=20),
        ),
        (
            {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}},
            Usage(output_tokens=20, thinking_tokens=30),
        ),
    ],
)
def test_usage_kinds_are_disjoint(usage: dict[str, Any], expected: Usage):
    assert usage_of(usage) == expected


async def test_the_last_count_of_a_stream_replaces_the_one_before():
    body = sse(
        start(
            cache_creation_input_tokens=7,
            cache_creation={"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 0},
        ),
        *block(0, {"type": "text", "text": "x"}),
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 9, "input_tokens": 11},
        },
    )
    assert (await streamed(body)).usage == Usage(input_tokens=11, cache_write_tokens=7, output_tokens=9)
