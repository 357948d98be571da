"""ChatRequest -> OpenAI chat body, in each dialect, and what is refused before it is written."""

import json
from types import MappingProxyType
from typing import Any

import pytest

from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    ReasoningEffort,
    ResponseFormat,
    Role,
    Sampling,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from shared.domain.errors import InvalidRequest, UnsupportedFeature
from shared.domain.models import Capabilities
from shared.providers.openai_check import check_chat
from shared.providers.openai_wire import ENDPOINT, MAAS, MISTRAL, ChatDialect, ReasoningForm, chat_body, encode
from tests.unit.openai_builders import EVERYTHING, assistant, call, deployment, profile, request, user

PNG = MediaPart(Modality.IMAGE, "image/png", data=b"\x89PNG")
WAV = MediaPart(Modality.AUDIO, "audio/wav", data=b"RIFF")
TOOL = Tool("look_up", "Looks things up", {"type": "object", "properties": {"q": {"type": "string"}}})


def body_of(
    asked: ChatRequest,
    dialect: ChatDialect = MAAS,
    *,
    stream: bool = False,
    reasoning: ReasoningForm = ReasoningForm.EFFORT,
    capabilities: Capabilities = EVERYTHING,
) -> dict[str, Any]:
    built = chat_body(
        call(asked, capabilities=capabilities), dialect, model="the-model", stream=stream, reasoning=reasoning
    )
    decoded: dict[str, Any] = json.loads(encode(built))
    return decoded


def refusal(
    asked: ChatRequest,
    dialect: ChatDialect = MAAS,
    capabilities: Capabilities = EVERYTHING,
    reasoning: ReasoningForm = ReasoningForm.EFFORT,
) -> str | None:
    try:
        check_chat(asked, profile(capabilities), deployment(), dialect, reasoning)
    except UnsupportedFeature as error:
        assert "some-model@us-central1" in error.message
        return error.param
    return None


def test_the_smallest_body() -> None:
    assert body_of(request(user("Hello"))) == {
        "model": "the-model",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 100,
        "stream": False,
    }


def test_streams_ask_for_usage_except_where_unknown_keys_are_refused() -> None:
    assert body_of(request(), stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body_of(request(), MISTRAL, stream=True)


def test_sampling() -> None:
    sampling = Sampling(0.0, 0.9, 40, 0.1, -0.2, 7, ("END", "STOP"))
    asked = request(sampling=sampling)
    body = body_of(asked)
    expected = {"temperature": 0.0, "top_p": 0.9, "top_k": 40, "presence_penalty": 0.1, "frequency_penalty": -0.2}
    assert expected.items() <= body.items()
    assert (body["seed"], body["stop"]) == (7, ["END", "STOP"])
    mistral = body_of(asked, MISTRAL)
    assert mistral["random_seed"] == 7
    assert not {"seed", "top_k"} & mistral.keys()


def test_tools_and_choices() -> None:
    strict = Tool("exact", "", MappingProxyType({"type": "object"}), strict=True)
    asked = request(tools=(TOOL, strict), tool_choice=ToolChoice(ToolMode.REQUIRED), parallel_tool_calls=False)
    body = body_of(asked)
    assert body["tools"][0] == {
        "type": "function",
        "function": {"name": "look_up", "description": "Looks things up", "parameters": dict(TOOL.parameters)},
    }
    assert body["tools"][1]["function"] == {
        "name": "exact",
        "description": "",
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)
    assert body_of(asked, MISTRAL)["tool_choice"] == "any"
    named = body_of(request(tools=(TOOL,), tool_choice=ToolChoice(ToolMode.REQUIRED, "look_up")))
    assert named["tool_choice"] == {"type": "function", "function": {"name": "look_up"}}
    assert body_of(request(tools=(TOOL,), tool_choice=ToolChoice(ToolMode.NONE)))["tool_choice"] == "none"
    assert "tool_choice" not in body_of(request(tools=(TOOL,)))
    assert "tool_choice" not in body_of(request(tool_choice=ToolChoice(ToolMode.NONE)))


def test_a_tool_without_parameters_gets_an_empty_object_schema() -> None:
    function = body_of(request(tools=(Tool("now"),)))["tools"][0]["function"]
    assert function["parameters"] == {"type": "object", "properties": {}}


def test_response_formats() -> None:
    assert "response_format" not in body_of(request())
    json_mode = body_of(request(response_format=ResponseFormat(FormatKind.JSON_OBJECT)))
    assert json_mode["response_format"] == {"type": "json_object"}
    schema = ResponseFormat(FormatKind.JSON_SCHEMA, "person", {"type": "object"}, strict=True)
    assert body_of(request(response_format=schema))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "person", "schema": {"type": "object"}, "strict": True},
    }


def test_a_tool_conversation() -> None:
    turns = (
        user("What is 1+1?"),
        assistant(
            ThinkingPart("I should add", "sig", "some-model"),
            "Adding.",
            ToolCallPart("call_1234567", "add", '{"a":1,"b":1}', origin_model_id="other"),
        ),
        Message(
            Role.TOOL, (ToolResultPart("call_1234567", "add", "2"), ToolResultPart("x", "add", "no", is_error=True))
        ),
        user("And?"),
    )
    messages = body_of(request(*turns, system="Be brief."))["messages"]
    assert messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1+1?"},
        {
            "role": "assistant",
            "content": "Adding.",
            "tool_calls": [
                {"id": "call_1234567", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1234567", "content": "2"},
        {"role": "tool", "tool_call_id": "x", "content": "Error: no"},
        {"role": "user", "content": "And?"},
    ]


def test_mistral_call_ids_have_nine_letters_or_digits_and_still_match() -> None:
    turns = (
        assistant(ToolCallPart("call_0193a5b27c1e", "f", "{}"), ToolCallPart("abcDEF123", "f", "{}")),
        Message(Role.TOOL, (ToolResultPart("call_0193a5b27c1e", "f", "1"), ToolResultPart("abcDEF123", "f", "2"))),
    )
    asked, *results = body_of(request(*turns), MISTRAL)["messages"]
    ids = [sent["id"] for sent in asked["tool_calls"]]
    assert ids == [result["tool_call_id"] for result in results]
    assert all(len(sent) == 9 and sent.isalnum() for sent in ids)
    assert ids[1] == "abcDEF123"


def test_a_turn_of_nothing_but_thinking_is_left_out() -> None:
    turns = (user("a"), assistant(ThinkingPart("...", None, "other")), user("b"))
    assert [m["content"] for m in body_of(request(*turns))["messages"]] == ["a", "b"]


def test_thinking_goes_back_only_where_it_is_wanted_and_only_to_who_wrote_it() -> None:
    own, foreign = ThinkingPart("mine", None, "some-model"), ThinkingPart("not mine", None, "other")
    asked = call(request(user("a"), assistant(own, foreign, "b"), assistant(foreign, "c")))
    for wanted, sent in ((True, ["mine", None]), (False, [None, None])):
        body = chat_body(asked, MAAS, model="m", stream=False, reasoning=ReasoningForm.EFFORT, return_thinking=wanted)
        assert [turn.get("reasoning_content") for turn in body["messages"][1:]] == sent


def test_media_parts() -> None:
    by_uri = MediaPart(Modality.IMAGE, "image/png", uri="gs://bucket/a.png", detail="low")
    video = MediaPart(Modality.VIDEO, "video/mp4", uri="https://example.com/v.mp4")
    content = body_of(request(user("See", PNG, by_uri, WAV, video)), ENDPOINT)["messages"][0]["content"]
    assert content == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "image_url", "image_url": {"url": "gs://bucket/a.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}},
    ]


@pytest.mark.parametrize(
    ("form", "effort", "expected"),
    [
        (ReasoningForm.EFFORT, ReasoningEffort.LOW, {"reasoning_effort": "low"}),
        (ReasoningForm.THINKING, ReasoningEffort.HIGH, {"chat_template_kwargs": {"thinking": True}}),
        (ReasoningForm.THINKING, ReasoningEffort.NONE, {"chat_template_kwargs": {"thinking": False}}),
        (ReasoningForm.ENABLE_THINKING, ReasoningEffort.NONE, {"chat_template_kwargs": {"enable_thinking": False}}),
    ],
)
def test_reasoning(form: ReasoningForm, effort: ReasoningEffort, expected: dict[str, Any]) -> None:
    assert expected.items() <= body_of(request(reasoning_effort=effort), reasoning=form).items()


def test_reasoning_is_not_told_to_a_model_that_does_not_think() -> None:
    body = body_of(request(reasoning_effort=ReasoningEffort.NONE), capabilities=Capabilities())
    assert not {"reasoning_effort", "chat_template_kwargs"} & body.keys()


@pytest.mark.parametrize("value", [2**70, "\ud800"])
def test_what_json_cannot_carry_is_the_callers_mistake(value: object) -> None:
    tool = Tool("f", "", {"type": "object", "const": value})
    with pytest.raises(InvalidRequest):
        body_of(request(tools=(tool,)))


@pytest.mark.parametrize(
    ("asked", "dialect", "param"),
    [
        (request(sampling=Sampling(top_k=3)), MISTRAL, "top_k"),
        (request(user("x", WAV)), MISTRAL, "messages[0].content[1]"),
        (
            request(user("x"), user("x", MediaPart(Modality.DOCUMENT, "application/pdf", b"%"))),
            MAAS,
            "messages[1].content[1]",
        ),
        (request(user(MediaPart(Modality.VIDEO, "video/mp4", b"x"))), MAAS, "messages[0].content[0]"),
        (request(user(MediaPart(Modality.AUDIO, "audio/flac", b"x"))), MAAS, "messages[0].content[0]"),
        (request(user(MediaPart(Modality.AUDIO, "audio/wav", uri="gs://a"))), MAAS, "messages[0].content[0]"),
        (request(user("a"), assistant(PNG)), MAAS, "messages[1]"),
        (request(reasoning_effort=ReasoningEffort.NONE), MAAS, "reasoning_effort"),
        (request(user(PNG, WAV), sampling=Sampling(top_k=3)), MAAS, None),
    ],
)
def test_what_a_dialect_cannot_carry(asked: ChatRequest, dialect: ChatDialect, param: str | None) -> None:
    assert refusal(asked, dialect) == param


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (request(tools=(TOOL,)), "tools"),
        (request(system="x"), "system"),
        (request(response_format=ResponseFormat(FormatKind.JSON_OBJECT)), "response_format"),
        (request(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema={})), "response_format"),
        (request(sampling=Sampling(temperature=0.5)), "temperature"),
        (request(sampling=Sampling(top_p=0.5)), "top_p"),
        (request(user("x", PNG)), "messages[0].content[1]"),
        (request(), None),
        (request(reasoning_effort=ReasoningEffort.NONE), None),
        (request(reasoning_effort=ReasoningEffort.LOW), "reasoning_effort"),
    ],
)
def test_what_a_model_does_not_do(asked: ChatRequest, param: str | None) -> None:
    assert refusal(asked, capabilities=Capabilities(system=False, sampling=False)) == param


def test_uris_need_a_model_that_fetches_them() -> None:
    asked = request(user(MediaPart(Modality.IMAGE, "image/png", uri="gs://a")))
    sees = Capabilities(modalities=frozenset({Modality.TEXT, Modality.IMAGE}))
    assert refusal(asked, capabilities=sees) == "messages[0].content[0]"


def test_thinking_can_be_switched_off_where_the_template_knows_how() -> None:
    asked = request(reasoning_effort=ReasoningEffort.NONE)
    assert refusal(asked, reasoning=ReasoningForm.ENABLE_THINKING) is None
