"""The bytes of OpenAI's shapes, written out; the official client's own types read them back.

Source: https://platform.openai.com/docs/api-reference/chat-streaming.
"""

import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.model import Model

from functions._wire.replies import DONE, ChunkWriter, finish_reason
from shared.domain.replies import (
    Citation,
    CitationFound,
    Finished,
    FinishReason,
    Origin,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageUpdate,
)
from tests.edge.edge_harness import CHAT
from tests.service.routing_doubles import ScriptedProvider

USAGE = Usage(
    input_tokens=7, input_audio_tokens=1, cache_read_tokens=2, cache_write_tokens=3, output_tokens=4, thinking_tokens=5
)
HEAD = b'data: {"id":"chatcmpl-r1","object":"chat.completion.chunk","created":17,"model":"a",'
NONE = b',"logprobs":null,"finish_reason":null}]'


def writer(**options):
    return ChunkWriter("r1", "a", 17, include_usage=options.get("include_usage", False))


def chunk_of(data):
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    return ChatCompletionChunk.model_validate_json(data.removeprefix(b"data: "))


GOLDEN = [
    ("first", lambda w: w.first(), b'"choices":[{"index":0,"delta":{"role":"assistant","content":""}'),
    (
        "text",
        lambda w: w.event(TextDelta('He"l\n\u2028lo ✓')),
        '"choices":[{"index":0,"delta":{"content":"He\\"l\\n\u2028lo ✓"}'.encode(),
    ),
    (
        "thinking",
        lambda w: w.event(ThinkingDelta("hm")),
        b'"choices":[{"index":0,"delta":{"reasoning_content":"hm"}',
    ),
    (
        "signature",
        lambda w: w.event(ThinkingDelta(signature="sig")),
        b'"choices":[{"index":0,"delta":{"reasoning_content":"","thinking_blocks":[{"type":"thinking","thinking":"","signature":"sig","model":"a"}]}',
    ),
    (
        "redacted thinking",
        lambda w: w.event(ThinkingDelta(signature="sig", redacted=True)),
        b'"choices":[{"index":0,"delta":{"reasoning_content":"","thinking_blocks":[{"type":"redacted_thinking","thinking":"","signature":"sig","model":"a"}]}',
    ),
    (
        "a tool call begins",
        lambda w: w.event(ToolCallDelta(1, "call_1", "get_weather", "", "sig")),
        b'"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"","name":"get_weather"},"id":"call_1","type":"function","extra_content":{"google":{"thought_signature":"sig"},"llm_router":{"model":"a"}}}]}',
    ),
    (
        "a tool call goes on",
        lambda w: w.event(ToolCallDelta(1, arguments_fragment='{"city":')),
        b'"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\\"city\\":"}}]}',
    ),
]


@pytest.mark.parametrize(("what", "write", "golden"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_a_chunk_byte_by_byte_without_and_with_usage(what, write, golden):
    assert write(writer()) == HEAD + golden + NONE + b"}\n\n"
    # With include_usage OpenAI sends `usage: null` in every chunk but the last.
    assert write(writer(include_usage=True)) == HEAD + golden + NONE + b',"usage":null}\n\n'
    read = chunk_of(write(writer()))
    assert (read.id, read.model, read.created, len(read.choices)) == ("chatcmpl-r1", "a", 17, 1)


def test_the_last_chunks():
    assert writer().finish(FinishReason.STOP) == (
        HEAD + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    )
    assert writer(include_usage=True).usage(USAGE, {"attempts": 1}) == (
        HEAD + b'"choices":[],"usage":{"prompt_tokens":13,"completion_tokens":9,"total_tokens":22,'
        b'"prompt_tokens_details":{"cached_tokens":2,"cache_write_tokens":3,"audio_tokens":1},'
        b'"completion_tokens_details":{"reasoning_tokens":5}},"router":{"attempts":1}}\n\n'
    )
    assert DONE == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "event", [UsageUpdate(USAGE), Finished(FinishReason.STOP), Origin("v1"), CitationFound(Citation("t", "u"))]
)
def test_what_is_no_content_makes_no_chunk(event):
    assert writer().event(event) == b""


def test_every_finish_reason_is_one_that_openais_clients_know():
    words = {finish_reason(reason) for reason in FinishReason}
    assert words <= {"stop", "length", "tool_calls", "content_filter"}
    for reason in FinishReason:
        assert chunk_of(writer().finish(reason)).choices[0].finish_reason in words


# --- whole streams and whole answers ---------------------------------------------------------------------------------

TOOL_SCRIPT = [
    Origin("a-001", "resp-1"),
    ThinkingDelta("I should "),
    ThinkingDelta("look."),
    ThinkingDelta(signature="sig-think"),
    TextDelta("Looking."),
    ToolCallDelta(0, "call_1", "get_weather", "", "sig-tool"),
    ToolCallDelta(0, arguments_fragment='{"city":'),
    ToolCallDelta(1, "call_2", "get_time", "{}"),
    ToolCallDelta(0, arguments_fragment='"Paris"}'),
    UsageUpdate(USAGE),
    Finished(FinishReason.TOOL_CALLS, "tool_use"),
]


def play(script):
    return ScriptedProvider({"a@europe-west4": [script]})


async def streamed(build_edge, script, **body):
    answer = await build_edge(play(script)).post("chat/completions", {**CHAT, "stream": True, **body})
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-router-model"] == "a"
    return answer


def assembled(events):
    """What a client makes of the chunks: text, reasoning, tool calls by index, blocks."""
    made = {"text": "", "reasoning": "", "calls": {}, "blocks": [], "finish": None}
    for _, payload in events[:-1]:
        chunk = ChatCompletionChunk.model_validate(payload)
        for choice in chunk.choices:
            delta = payload["choices"][0]["delta"]
            made["text"] += choice.delta.content or ""
            made["reasoning"] += delta.get("reasoning_content", "")
            made["blocks"] += delta.get("thinking_blocks", [])
            made["finish"] = choice.finish_reason or made["finish"]
            for call in choice.delta.tool_calls or ():
                known = made["calls"].setdefault(
                    call.index, {"id": call.id, "name": call.function.name, "arguments": ""}
                )
                known["arguments"] += call.function.arguments or ""
    return made


async def test_a_stream_with_thinking_and_two_interleaved_tool_calls(build_edge):
    answer = await streamed(build_edge, TOOL_SCRIPT)
    assert answer.events[-1] == (None, "[DONE]")
    assert answer.events[0][1]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert assembled(answer.events) == {
        "text": "Looking.",
        "reasoning": "I should look.",
        "calls": {
            0: {"id": "call_1", "name": "get_weather", "arguments": '{"city":"Paris"}'},
            1: {"id": "call_2", "name": "get_time", "arguments": "{}"},
        },
        "blocks": [{"type": "thinking", "thinking": "", "signature": "sig-think", "model": "a"}],
        "finish": "tool_calls",
    }


async def test_the_plain_answer_says_the_same(build_edge):
    answer = await build_edge(play(TOOL_SCRIPT)).post("chat/completions", CHAT)
    completion = ChatCompletion.model_validate_json(answer.body)
    message = completion.choices[0].message
    assert (completion.object, completion.model) == ("chat.completion", "a")
    assert completion.choices[0].finish_reason == "tool_calls"
    assert message.content == "Looking."
    assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls] == [
        ("call_1", "get_weather", '{"city":"Paris"}'),
        ("call_2", "get_time", "{}"),
    ]
    raw = answer.json["choices"][0]["message"]
    assert raw["reasoning_content"] == "I should look."
    assert raw["thinking_blocks"] == [
        {"type": "thinking", "thinking": "I should look.", "signature": "sig-think", "model": "a"}
    ]
    assert raw["tool_calls"][0]["extra_content"]["google"] == {"thought_signature": "sig-tool"}
    assert "extra_content" not in raw["tool_calls"][1]
    assert completion.usage.total_tokens == 22


async def test_an_answer_with_signatures_can_be_sent_back_whole(build_edge):
    first = await build_edge(play(TOOL_SCRIPT)).post("chat/completions", CHAT)
    results = [{"role": "tool", "tool_call_id": name, "content": "19"} for name in ("call_1", "call_2")]
    body = {**CHAT, "messages": [*CHAT["messages"], first.json["choices"][0]["message"], *results]}
    edge = build_edge()
    assert (await edge.post("chat/completions", body)).status == 200
    sent = edge.provider.calls[0].request.messages[1].parts
    assert [type(part).__name__ for part in sent] == ["ThinkingPart", "TextPart", "ToolCallPart", "ToolCallPart"]
    assert (sent[0].signature, sent[0].origin_model_id) == ("sig-think", "a")
    assert (sent[2].signature, sent[2].origin_model_id) == ("sig-tool", "a")


@pytest.mark.parametrize("options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}])
async def test_usage_is_not_sent_unless_it_was_asked_for(build_edge, options):
    answer = await streamed(build_edge, TOOL_SCRIPT, **options)
    assert all("usage" not in payload for _, payload in answer.events[:-1])


async def test_usage_comes_in_a_last_chunk_without_choices_and_is_null_before(build_edge):
    answer = await streamed(build_edge, TOOL_SCRIPT, stream_options={"include_usage": True})
    *before, (_, last), done = answer.events
    assert done == (None, "[DONE]")
    assert all(payload["usage"] is None for _, payload in before)
    assert last["choices"] == []
    assert ChatCompletionChunk.model_validate(last).usage.total_tokens == 22
    # 7 + 1 audio in, 2 read and 3 written at the plain price of 1 USD per million; 9 out at 4 USD.
    assert last["router"] == {
        "request_id": answer.headers["x-request-id"],
        "deployment": "a@europe-west4",
        "cost_usd": pytest.approx(4.9e-05),
        "attempts": 1,
    }


async def test_refusals_and_citations_in_a_plain_answer(build_edge):
    script = [
        TextDelta("So"),
        CitationFound(Citation("Title", "https://x.example", 0, 2)),
        UsageUpdate(USAGE),
        Finished(FinishReason.REFUSAL, "refusal"),
    ]
    answer = await build_edge(play(script)).post("chat/completions", CHAT)
    choice = answer.json["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["annotations"] == [
        {
            "type": "url_citation",
            "url_citation": {"url": "https://x.example", "title": "Title", "start_index": 0, "end_index": 2},
        }
    ]
    assert ChatCompletion.model_validate(answer.json).choices[0].message.annotations[0].url_citation.title == "Title"


async def test_models_are_openais_model_objects(build_edge):
    listed = (await build_edge().get("models")).json
    assert listed["object"] == "list"
    models = {model.id: model for model in (Model.model_validate(entry) for entry in listed["data"])}
    assert {"auto", "auto:cost", "auto:quality", "auto:latency", "a"} <= set(models)
    assert json.dumps(listed).isascii()
