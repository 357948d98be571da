"""Recorded shapes of chat completions from OpenAI-style servers, plain and streamed."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.chat import TextPart, ThinkingPart
from shared.domain.errors import (
    ContextWindowExceeded,
    ProviderBadResponse,
    ProviderError,
    ProviderRateLimited,
    ProviderUnavailable,
)
from shared.domain.replies import (
    CONTENT_EVENTS,
    Finished,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageUpdate,
)
from shared.providers.openai_reader import OpenAiReader
from shared.providers.wire_stream import read_plain, read_sse
from tests.unit.openai_builders import call, collected, pieces, reply, request, user


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **top: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "openai/gpt-oss-120b-maas",
        "choices": [{"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}],
        **top,
    }


def sse(*chunks: dict[str, Any] | list[Any] | str, done: bool = True) -> bytes:
    lines = [item if isinstance(item, str) else json.dumps(item) for item in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, *(["[DONE]"] if done else [])]).encode()


def plain(message: dict[str, Any], finish: str | None = "stop", **top: Any) -> bytes:
    body = {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "model": "openai/gpt-oss-120b-maas",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
        **top,
    }
    return json.dumps(body).encode()


def reader() -> OpenAiReader:
    return OpenAiReader(call(), "the vendor")


USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 50},
    "completion_tokens_details": {"reasoning_tokens": 200},
}

RECORDED = sse(
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Let me "}),
    chunk({"reasoning_content": "see."}),
    chunk({"content": "Grüße"}),
    chunk({"content": ", world"}, usage=None),
    chunk({}, "stop"),
    {"id": "chatcmpl-7", "model": "m", "object": "chat.completion.chunk", "choices": [], "usage": USAGE},
)


async def streamed(body: bytes, *cuts: int) -> list[Any]:
    return await collected(read_sse(pieces(body, *cuts), reader()))


async def test_a_recorded_stream_becomes_thinking_text_usage_and_one_end() -> None:
    events = await streamed(RECORDED)
    answer = reply(events)
    assert answer.parts == (ThinkingPart("Let me see.", None, "some-model"), TextPart("Grüße, world"))
    assert answer.usage == Usage(
        input_tokens=126, input_audio_tokens=50, cache_read_tokens=1024, output_tokens=100, thinking_tokens=200
    )
    assert answer.finish_reason is FinishReason.STOP
    assert (answer.model_version, answer.response_id) == ("openai/gpt-oss-120b-maas", "chatcmpl-7")
    assert [type(event) for event in events].count(Finished) == 1


async def test_the_role_only_chunk_is_no_content() -> None:
    events = await streamed(RECORDED)
    first_content = next(event for event in events if isinstance(event, CONTENT_EVENTS))
    assert first_content == ThinkingDelta("Let me ")


@given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
async def test_chunk_boundaries_change_nothing(cuts: list[int]) -> None:
    assert await streamed(RECORDED, *cuts) == await streamed(RECORDED)


@given(at=st.integers(0, 10_000))
async def test_a_cut_anywhere_before_the_end_is_told(at: int) -> None:
    finish_at = RECORDED.index(b'"finish_reason": "stop"')
    cut = RECORDED[: at % finish_at]
    with pytest.raises(ProviderUnavailable):
        await streamed(cut)


@given(at=st.integers(0, 10_000))
async def test_a_cut_after_the_end_costs_the_exact_usage_but_not_the_answer(at: int) -> None:
    finish_end = RECORDED.index(b"\n\n", RECORDED.index(b'"finish_reason": "stop"')) + 2
    answer = reply(await streamed(RECORDED[: finish_end + at % (len(RECORDED) - finish_end)]))
    assert answer.text() == "Grüße, world"
    assert answer.usage.estimated or answer.usage.completion_tokens == 300


def test_plain_and_stream_give_the_same_reply() -> None:
    message = {"content": "Grüße, world", "reasoning_content": "Let me see.", "refusal": None, "tool_calls": []}
    answer = reply(read_plain(plain(message, usage=USAGE), reader()))
    assert answer.parts == (ThinkingPart("Let me see.", None, "some-model"), TextPart("Grüße, world"))
    assert answer.usage.thinking_tokens == 200
    assert answer.usage.total_tokens == 1500


async def test_tool_calls_are_gathered_by_index() -> None:
    body = sse(
        chunk(
            {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}
        ),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        chunk({}, "tool_calls"),
    )
    answer = reply(await streamed(body))
    assert [(c.id, c.name, c.arguments_json) for c in answer.tool_calls()] == [("a", "f", '{"x":1}'), ("b", "g", "{}")]
    assert answer.finish_reason is FinishReason.TOOL_CALLS


async def test_two_calls_under_one_index_stay_two() -> None:
    first = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    second = {"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"y":'}}
    rest = {"index": 0, "function": {"arguments": "2}"}}
    body = sse(*(chunk({"tool_calls": [part]}) for part in (first, second, rest)), chunk({}, "stop"))
    answer = reply(await streamed(body))
    assert [(c.id, c.arguments_json) for c in answer.tool_calls()] == [("a", "{}"), ("b", '{"y":2}')]


def test_plain_tool_calls_without_index_or_id_and_with_an_object_for_arguments() -> None:
    calls = [{"function": {"name": "f", "arguments": {"x": 1}}}, {"id": "", "function": {"name": "g"}}]
    answer = reply(read_plain(plain({"content": None, "tool_calls": calls}, "stop"), reader()))
    one, two = answer.tool_calls()
    assert (one.name, one.arguments_json) == ("f", '{"x":1}')
    assert (two.name, two.arguments_json) == ("g", "{}")
    assert one.id != two.id
    assert one.id.startswith("call_")
    assert len(one.id) <= 40, "OpenAI's limit for call ids"
    assert answer.finish_reason is FinishReason.TOOL_CALLS, "the server said stop"


def test_a_refusal_is_text_and_a_reason() -> None:
    answer = reply(read_plain(plain({"content": None, "refusal": "I will not."}), reader()))
    assert answer.text() == "I will not."
    assert answer.finish_reason is FinishReason.REFUSAL


def test_mistral_content_parts() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Yes."},
        {"type": "reference", "reference_ids": [1]},
    ]
    answer = reply(read_plain(plain({"content": content}), reader()))
    assert answer.parts == (ThinkingPart("Hm.", None, "some-model"), TextPart("Yes."))


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("model_length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("eos_token", FinishReason.STOP),
        ("something_new", FinishReason.STOP),
    ],
)
def test_finish_reasons(native: str, reason: FinishReason) -> None:
    answer = reply(read_plain(plain({"content": "x"}, native), reader()))
    assert (answer.finish_reason, answer.native_finish_reason) == (reason, native)


@pytest.mark.parametrize("native", ["error", "abort", "insufficient_system_resource"])
def test_an_end_that_is_no_answer_is_a_failure(native: str) -> None:
    with pytest.raises(ProviderUnavailable):
        read_plain(plain({"content": "half"}, native), reader())


def test_reasoning_counted_beside_completion_is_left_there() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}
    usage_with_details = {**usage, "completion_tokens_details": {"reasoning_tokens": 100}}
    answer = reply(read_plain(plain({"content": "x"}, usage=usage_with_details), reader()))
    assert answer.usage == Usage(input_tokens=10, output_tokens=5, thinking_tokens=100)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(input_tokens=10, output_tokens=5)),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8},
            Usage(input_tokens=2, cache_read_tokens=8, output_tokens=5),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 99}},
            Usage(cache_read_tokens=10, output_tokens=5),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 9}},
            Usage(input_tokens=10, thinking_tokens=5),
        ),
        (
            {"prompt_tokens": 10.0, "completion_tokens": 5.0, "prompt_tokens_details": None},
            Usage(input_tokens=10, output_tokens=5),
        ),
        ({"prompt_tokens": 10}, Usage(input_tokens=10, output_tokens=1, estimated=True)),
        ({"prompt_tokens": -1, "completion_tokens": True}, Usage(input_tokens=2, output_tokens=1, estimated=True)),
    ],
)
def test_usage(usage: dict[str, Any], expected: Usage) -> None:
    assert reply(read_plain(plain({"content": "four"}, usage=usage), reader())).usage == expected


def test_missing_usage_is_estimated_and_says_so() -> None:
    asked = call(request(user("x" * 400), system="s" * 40))
    body = plain({"content": "y" * 100}, usage=None)
    answer = reply(read_plain(body, OpenAiReader(asked, "the vendor")))
    assert answer.usage == Usage(input_tokens=110, output_tokens=25, estimated=True)


async def test_the_last_usage_wins() -> None:
    body = sse(
        chunk({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 1}),
        chunk({"content": "b"}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2}),
    )
    events = await streamed(body)
    assert sum(isinstance(event, UsageUpdate) for event in events) == 2
    assert reply(events).usage == Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize(
    ("reported", "error"),
    [
        ({"error": {"message": "quota", "type": "rate_limit_error", "code": 429}}, ProviderRateLimited),
        ([{"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}}], ProviderUnavailable),
        ({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, ProviderError),
        ({"error": {"code": "context_length_exceeded", "type": "invalid_request_error"}}, ContextWindowExceeded),
        ({"error": "something broke"}, ProviderUnavailable),
    ],
)
async def test_an_error_inside_the_stream_is_raised_after_what_came(reported: Any, error: type[ProviderError]) -> None:
    seen: list[Any] = []

    async def consume() -> None:
        async for event in read_sse(pieces(sse(chunk({"content": "half"}), reported)), reader()):
            seen.append(event)  # noqa: PERF401 - a comprehension would lose what came before the error

    with pytest.raises(error) as caught:
        await consume()
    assert TextDelta("half") in seen
    assert "broke" not in str(caught.value), "vendor texts are not repeated"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b"7",
        b'"text"',
        b"null",
        b'{"choices": []}',
        b'{"choices": 3}',
        b'{"choices": [7]}',
        b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": [7]}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"reasoning": {}}}]}',
        b'{"choices": [{"message": {"reasoning": {"a": 1}}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "x"}, "finish_reason": {}}]}',
        b'{"choices": [{"message": {"content": "x"}, "finish_reason": ["stop"]}]}',
        b'{"choices": [{"message": {"tool_calls": "x"}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"tool_calls": [{"index": {}}]}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": "many"}',
        b'{"choices": [{"message": {"content": "x"}}]}',
        b"[" * 5000,
    ],
)
def test_what_is_no_chat_completion_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(ProviderBadResponse):
        read_plain(body, reader())


async def test_done_without_a_finish_reason_is_a_bad_response() -> None:
    with pytest.raises(ProviderBadResponse):
        await streamed(sse(chunk({"content": "half"})))


async def test_garbage_between_chunks_is_a_bad_response() -> None:
    with pytest.raises(ProviderBadResponse):
        await streamed(sse(chunk({"content": "half"}), '{"choices": [{"delta"', chunk({}, "stop")))


async def test_a_stream_without_done_or_last_blank_line_is_whole_when_finished() -> None:
    body = sse(chunk({"content": "all"}), chunk({}, "stop", usage=USAGE), done=False).rstrip()
    assert reply(await streamed(body)).text() == "all"


async def test_reading_goes_on_after_done_until_the_connection_may_be_reused() -> None:
    ended = False

    async def source() -> Any:
        nonlocal ended
        yield sse(chunk({"content": "x"}, "stop"))
        ended = True

    await collected(read_sse(source(), reader()))
    assert ended


async def test_closing_the_events_closes_the_source() -> None:
    closed = False

    async def source() -> Any:
        nonlocal closed
        try:
            while True:
                yield sse(chunk({"content": "x"}), done=False)
        finally:
            closed = True

    events = read_sse(source(), reader())
    async for _ in events:
        break
    await events.aclose()  # type: ignore[attr-defined]  # the port promises an iterator that can be closed
    assert closed


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "delta", "message", "content", "tool_calls", "function", "index", "usage", "error"),
                    *("finish_reason", "reasoning", "prompt_tokens", "completion_tokens", "prompt_tokens_details"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(payloads=st.lists(_json, min_size=1, max_size=4))
def test_hostile_shapes_raise_provider_errors_only(payloads: list[Any]) -> None:
    under_test = reader()
    with suppress(ProviderError):  # anything else is a defect and fails here
        for payload in payloads:
            for event in under_test.events_of(payload):
                assert not isinstance(event, ToolCallDelta) or isinstance(event.arguments_fragment, str)
        under_test.end(declared=False)
        assert under_test.finished
