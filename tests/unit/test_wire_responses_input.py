"""What the Responses API's body becomes, and what is refused by name."""

import base64
import json

import pytest

from functions._wire.parsing import parse
from functions._wire.responses_body import ResponsesBody
from functions._wire.responses_input import responses_request
from shared.domain.chat import (
    FormatKind,
    MediaPart,
    Modality,
    ReasoningEffort,
    Role,
    TextPart,
    ToolCallPart,
    ToolMode,
    ToolResultPart,
)
from shared.domain.errors import InvalidRequest

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
USER = {"role": "user", "content": "hello"}
CALL = {
    "type": "function_call",
    "call_id": "c1",
    "name": "weather",
    "arguments": '{"city":"Rome"}',
    "id": "fc",
    "status": "completed",
}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n").decode()


def read(**fields):
    return responses_request(parse(json.dumps(fields).encode(), ResponsesBody))


def request(**fields):
    return read(**fields).request


def refused(**fields):
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    return caught.value


def test_a_plain_text_is_one_user_turn():
    (message,) = request(input="hello", instructions="be brief").messages
    assert (message.role, message.parts) == (Role.USER, (TextPart("hello"),))
    assert request(input="hello", instructions="be brief").system == "be brief"


def test_system_and_developer_messages_follow_the_instructions():
    items = [
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [{"type": "input_text", "text": "two"}]},
        USER,
    ]
    assert request(input=items, instructions="zero").system == "zero\n\none\n\ntwo"


def test_what_the_model_said_between_two_turns_is_one_turn():
    said = {
        "type": "message",
        "role": "assistant",
        "id": "m",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}],
    }
    reasoning = {
        "type": "reasoning",
        "id": "rs",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "from-another-vendor",
    }
    second = {**CALL, "call_id": "c2"}
    read_ = read(
        input=[
            USER,
            reasoning,
            said,
            CALL,
            second,
            OUTPUT,
            {
                **OUTPUT,
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
            },
        ]
    )
    _, spoken, first_result, second_result = read_.request.messages
    assert spoken.role is Role.ASSISTANT
    assert spoken.parts == (
        TextPart("Let me look."),
        ToolCallPart("c1", "weather", '{"city":"Rome"}'),
        ToolCallPart("c2", "weather", '{"city":"Rome"}'),
    )
    assert first_result.parts == (ToolResultPart("c1", "weather", "sunny"),)
    assert second_result.parts == (ToolResultPart("c2", "weather", "a\nb"),)
    assert read_.origins == (0, 2, 5, 6)


@pytest.mark.parametrize(
    "seal",
    [
        "",
        "!",
        base64.b64encode(b"[2,3]").decode(),
        base64.b64encode(b'{"a":1}').decode(),
        base64.b64encode(b"[1,2,3,4]").decode(),
        base64.b64encode(b"\xff").decode(),
    ],
)
def test_reasoning_of_others_is_ignored(seal):
    items = [USER, {"type": "reasoning", "summary": [], "encrypted_content": seal}]
    assert len(request(input=items).messages) == 1


def test_pictures_documents_and_sound():
    content = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": PNG, "detail": "original"},
        {"type": "input_file", "filename": "a.pdf", "file_data": base64.b64encode(b"%PDF").decode()},
        {"type": "input_file", "file_url": "https://example.org/b.pdf"},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}},
    ]
    (message,) = request(input=[{"role": "user", "content": content}]).messages
    _, image, document, remote, sound = message.parts
    assert image == MediaPart(Modality.IMAGE, "image/png", b"\x89PNG\r\n", detail="high")
    assert document == MediaPart(Modality.DOCUMENT, "application/pdf", b"%PDF", filename="a.pdf")
    assert (remote.uri, remote.mime_type) == ("https://example.org/b.pdf", "application/pdf")
    assert sound.mime_type == "audio/wav"


def test_tools_formats_and_settings():
    schema = {"type": "object", "properties": {}}
    wanted = request(
        input="hi",
        tools=[TOOL],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "film", "schema": schema, "strict": True}},
        reasoning={"effort": "minimal", "summary": "auto"},
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
    )
    assert wanted.tools[0].strict
    assert (wanted.tool_choice.mode, wanted.tool_choice.name) == (ToolMode.REQUIRED, "weather")
    assert wanted.parallel_tool_calls is False
    assert (wanted.response_format.kind, wanted.response_format.name) == (FormatKind.JSON_SCHEMA, "film")
    assert wanted.response_format.schema == schema
    assert wanted.reasoning_effort is ReasoningEffort.LOW
    assert (wanted.max_output_tokens, wanted.sampling.temperature, wanted.sampling.top_p) == (50, 0.5, 0.9)
    assert request(input="hi", text={"format": {"type": "json_object"}}).response_format.kind is FormatKind.JSON_OBJECT
    assert request(input="hi", tool_choice="auto").tool_choice.mode is ToolMode.AUTO


def test_what_means_nothing_here_is_taken_and_ignored():
    assert request(
        input="hi",
        store=False,
        background=False,
        include=["reasoning.encrypted_content"],
        truncation="disabled",
        user="u",
        service_tier="auto",
        prompt_cache_key="k",
        previous_response_id=None,
        metadata={"a": "b"},
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "system", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": ""}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [USER, {"type": "web_search_call", "id": "x"}]}, "input[1]"),
        ({"input": [{"type": 7}]}, "input[0].type"),
        ({"input": ["text"]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [USER, OUTPUT]}, "input[1].call_id"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "system", "content": [{"type": "input_image", "image_url": PNG}]}, USER]},
            "input[0].content[0]",
        ),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "x", "tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"input": "x", "tool_choice": "required"}, "tool_choice"),
        ({"input": "x", "tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice.name"),
        (
            {"input": "x", "tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
            "tool_choice",
        ),
        ({"input": "x", "text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"input": "x", "text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": "x", "reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "x", "conversation": {"id": "c"}}, "conversation"),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "store": True}, "store"),
        ({"input": "x", "include": ["message.output_text.logprobs"]}, "include"),
        ({"input": "x", "truncation": "auto"}, "truncation"),
        ({"input": "x", "max_tool_calls": 3}, "max_tool_calls"),
        ({"input": "x", "top_logprobs": 3}, "top_logprobs"),
        ({"input": "x", "context_management": [{"type": "compaction"}]}, "context_management"),
        ({"input": "x", "n": 2}, "n"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({}, "input"),
    ],
)
def test_what_does_not_map_is_refused_by_name(fields, param):
    error = refused(**fields)
    found = error.param or ""
    assert found == param or found.startswith((f"{param}.", f"{param}[")), (found, error.message)


@pytest.mark.parametrize(
    ("domain", "body"),
    [
        (None, None),
        ("messages", "input"),
        ("messages[0]", "input[1]"),
        ("messages[0].content[1]", "input[1].content[1]"),
        ("messages[1].content[0].arguments", "input[2]"),
        ("messages[2]", "input[3]"),
        ("messages[9]", "input"),
        ("system", "instructions"),
        ("response_format.schema", "text.format.schema"),
        ("max_tokens", "max_output_tokens"),
        ("reasoning_effort", "reasoning.effort"),
        ("tools[0].parameters", "tools[0].parameters"),
        ("max_cost_usd", "router.max_cost_usd"),
    ],
)
def test_errors_about_the_request_name_the_bodys_fields(domain, body):
    talk = read(input=[{"role": "system", "content": "s"}, USER, CALL, OUTPUT])
    assert talk.param(domain) == body


def test_errors_about_a_plain_text_name_the_input():
    assert read(input="x").param("messages[0].content[0]") == "input"
