"""A streamed response tells the same items as the whole one, whatever order a model's events come in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions._wire.responses_body import ResponsesBody
from functions._wire.responses_input import responses_request
from functions._wire.responses_reply import ResponsesWriter, ended, frame
from shared.domain.chat import ThinkingPart, ToolCallPart
from shared.domain.errors import ProviderUnavailable
from shared.domain.replies import (
    Citation,
    CitationFound,
    Finished,
    FinishReason,
    Origin,
    ReplyBuilder,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageUpdate,
)

SERVED = {"request_id": "r1"}
USAGE = Usage(
    input_tokens=10,
    cache_read_tokens=5,
    cache_write_tokens=2,
    cache_write_long_tokens=1,
    output_tokens=7,
    thinking_tokens=3,
)
words = st.text(max_size=5)
signatures = st.sampled_from([None, "c2ln"])
events = st.one_of(
    st.builds(TextDelta, words),
    st.builds(ThinkingDelta, words, signatures),
    st.just(ThinkingDelta("", "cmVk", redacted=True)),
    st.builds(
        ToolCallDelta,
        st.integers(0, 2),
        st.sampled_from([None, "call-1"]),
        st.sampled_from([None, "tool"]),
        words,
        signatures,
    ),
    st.just(UsageUpdate(USAGE)),
    st.just(Origin("v1", "r")),
    st.builds(CitationFound, st.builds(Citation, words, st.just("https://e.org"), st.none(), st.just(3))),
)


def about(**fields):
    return frame(ResponsesBody.model_validate({"input": "hello", **fields}), "r1", "m", 17)


def read(pieces):
    found = []
    for block in b"".join(pieces).decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        payload = json.loads(data.removeprefix("data: "))
        assert name == f"event: {payload['type']}"
        found.append(payload)
    return found


def played(script, reason=FinishReason.STOP):
    """The events of a stream, and the whole answer that the same script makes."""
    reply = ReplyBuilder("m").extend([*script, Finished(reason, "native")]).build()
    writer = ResponsesWriter(about())
    pieces = [*writer.opening(), *map(writer.event, script), *writer.closing(reply, SERVED)]
    return read(pieces), ended(about(), reply, SERVED)


def said(item):
    """What a model wrote of an item."""
    match item["type"]:
        case "message":
            return item["content"][0]["text"]
        case "function_call":
            return item["arguments"]
        case _:
            return "".join(part["text"] for part in item["summary"])


def test_text_in_the_order_that_clients_wait_for():
    told, whole = played([TextDelta("Hel"), TextDelta("lo"), UsageUpdate(USAGE)])
    assert [event["type"] for event in told] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert told[-1]["response"] == whole
    assert whole["output"][0]["content"][0]["text"] == "Hello"
    assert whole["usage"] == {
        "input_tokens": 18,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 28,
    }


def test_reasoning_and_tool_calls_stream_as_items_of_their_own():
    told, whole = played(
        [
            ThinkingDelta("Let me "),
            ThinkingDelta("see."),
            ThinkingDelta("", "c2ln"),
            ToolCallDelta(0, "call-1", "weather", '{"city":', "dGc="),
            ToolCallDelta(0, arguments_fragment='"Rome"}'),
        ],
        FinishReason.TOOL_CALLS,
    )
    assert [event["type"].removeprefix("response.") for event in told[2:-1]] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    reasoning, call = whole["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Let me see."}]
    assert (call["name"], call["call_id"], call["arguments"]) == ("weather", "call-1", '{"city":"Rome"}')
    assert told[-1]["type"] == "response.completed"


def test_what_an_answer_carries_comes_back_as_the_same_parts():
    reply = ReplyBuilder("m").extend(
        [
            ThinkingDelta("why", "c2ln"),
            ThinkingDelta("", "cmVk", redacted=True),
            ToolCallDelta(0, "c", "t", "{}", "dGc="),
        ]
    )
    reply.add(Finished(FinishReason.TOOL_CALLS))
    output = ended(about(), reply.build(), SERVED)["output"]
    items = [
        {"role": "user", "content": "go"},
        *output,
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ]
    _, assistant, _ = responses_request(ResponsesBody.model_validate({"input": items})).request.messages
    assert assistant.parts == (
        ThinkingPart("why", "c2ln", "m"),
        ThinkingPart("", "cmVk", "m", redacted=True),
        ToolCallPart("c", "t", "{}", "dGc=", "m"),
    )


@given(st.lists(events, max_size=12), st.sampled_from([r for r in FinishReason if r is not FinishReason.ERROR]))
def test_the_items_of_the_stream_are_those_of_the_whole_answer(script, reason):
    told, whole = played(script, reason)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert told[-1]["response"] == whole
    output = whole["output"]
    added = {e["output_index"]: e["item"] for e in told if e["type"] == "response.output_item.added"}
    done = {e["output_index"]: e["item"] for e in told if e["type"] == "response.output_item.done"}
    assert list(added) == sorted(done) == list(range(len(output)))
    for index, item in enumerate(output):
        assert (
            (added[index]["id"], added[index]["type"])
            == (item["id"], item["type"])
            == (done[index]["id"], done[index]["type"])
        )
        if item["type"] == "message":
            assert done[index]["content"][0]["text"] == item["content"][0]["text"]
        else:
            assert done[index] == item
        deltas = "".join(e["delta"] for e in told if e.get("item_id") == item["id"] and e["type"].endswith(".delta"))
        assert deltas == said(item) or (item["type"], deltas, item["arguments"]) == ("function_call", "", "{}")


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        (FinishReason.STOP, "completed", None),
        (FinishReason.LENGTH, "incomplete", {"reason": "max_output_tokens"}),
        (FinishReason.CONTENT_FILTER, "incomplete", {"reason": "content_filter"}),
        (FinishReason.REFUSAL, "incomplete", {"reason": "content_filter"}),
        (FinishReason.ERROR, "failed", None),
    ],
)
def test_why_an_answer_ended_is_its_status(reason, status, why):
    told, whole = played([TextDelta("Hel")], reason)
    assert told[-1]["type"] == f"response.{status}"
    assert (whole["status"], whole["incomplete_details"]) == (status, why)
    assert whole["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")
    assert (whole["error"] is None) == (status != "failed")


def test_a_broken_stream_ends_with_the_error_and_never_as_completed():
    writer = ResponsesWriter(about())
    builder = ReplyBuilder("m").extend([TextDelta("Hel")])
    error = ProviderUnavailable("the model's stream was cut")
    pieces = [
        *writer.opening(),
        writer.event(TextDelta("Hel")),
        *writer.failure(error, "api_error", builder.build(), SERVED),
    ]
    *_, told, failed = read(pieces)
    assert told["type"] == "error"
    assert (told["code"], told["message"]) == ("provider_unavailable", "the model's stream was cut")
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "provider_unavailable"
    assert failed["response"]["output"][0]["status"] == "incomplete"


def test_citations_stand_with_the_last_text():
    cited = CitationFound(Citation("A page", "https://e.org", 1, 3))
    told, whole = played([TextDelta("one"), ToolCallDelta(0, "c", "t", "{}"), TextDelta("two"), cited])
    texts = [item["content"][0] for item in whole["output"] if item["type"] == "message"]
    assert [len(text["annotations"]) for text in texts] == [0, 1]
    (added,) = [event for event in told if event["type"] == "response.output_text.annotation.added"]
    assert added["annotation"] == texts[1]["annotations"][0]
    assert added["annotation"]["title"] == "A page"
