"""`ChatRequest` -> Messages API body, and what is refused before any call."""

import base64
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
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from shared.domain.errors import UnsupportedFeature
from shared.domain.models import Deployment, ProviderKind
from shared.providers.anthropic_check import check_request
from shared.providers.anthropic_request import request_body
from shared.providers.anthropic_traits import ClaudeTraits, ThinkingForm, traits_of
from tests.unit.openai_builders import EVERYTHING, assistant, call, deployment, profile, request, user

HAIKU_4_5 = "claude-haiku-4-5@20251001"
SONNET_4_6 = "claude-sonnet-4-6"
OPUS_5 = "claude-opus-5"
OPUS_5_5 = "claude-opus-5-5"
SONNET_5_5 = "claude-sonnet-5-5"
HAIKU_5_5 = "claude-haiku-5-5"
WEATHER = Tool(
    "weather", "Looks out.", MappingProxyType({"type": "object", "properties": {"city": {"type": "string"}}})
)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
AS_SCHEMA = ResponseFormat(FormatKind.JSON_SCHEMA, "n", SCHEMA)


def at(target: str = HAIKU_4_5, **options: Any) -> Deployment:
    return deployment(ProviderKind.ANTHROPIC, target=target, options=options)


def wire(
    asked: ChatRequest,
    target: str = HAIKU_4_5,
    *,
    stream: bool = False,
    options: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    attempt = call(asked, at(target, **(options or {})), **fields)
    check_request(attempt.request, attempt.profile, attempt.deployment)
    body: dict[str, Any] = json.loads(request_body(attempt, stream=stream))
    return body


def test_a_plain_body():
    body = wire(
        request(
            user("Hello"),
            assistant("Hi"),
            user("Again"),
            system="Be kind.",
            sampling=Sampling(0.5, top_k=4, stop=("END",)),
        ),
        max_output_tokens=77,
    )
    assert body == {
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 77,
        "system": "Be kind.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "user", "content": [{"type": "text", "text": "Again"}]},
        ],
        "temperature": 0.5,
        "top_k": 4,
        "stop_sequences": ["END"],
    }
    assert wire(request(), stream=True)["stream"] is True


def test_media():
    content = wire(
        request(
            user(
                MediaPart(Modality.IMAGE, "image/PNG", data=b"png"),
                MediaPart(Modality.DOCUMENT, "application/pdf", data=b"pdf", filename="a.pdf"),
                MediaPart(Modality.DOCUMENT, "text/plain", data="né".encode()),
            )
        )
    )["messages"][0]["content"]
    assert content == [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"png").decode()},
        },
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(b"pdf").decode()},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "né"}},
    ]


def test_tool_results_of_parallel_calls_are_one_turn_and_come_first():
    messages = wire(
        request(
            user("Q"),
            assistant(
                "Looking.",
                ToolCallPart("c:1", "weather", '{"city": "Oslo"}', "sig", "other"),
                ToolCallPart("c2", "now", ""),
            ),
            Message(Role.TOOL, (ToolResultPart("c:1", "weather", "rain"),)),
            Message(Role.TOOL, (ToolResultPart("c2", "now", "", is_error=True),)),
            user("Well?"),
        )
    )["messages"]

    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == [
        {"type": "text", "text": "Looking."},
        {"type": "tool_use", "id": "c_1", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "c2", "name": "now", "input": {}},
    ]
    assert messages[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c_1", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "c2", "is_error": True},
        {"type": "text", "text": "Well?"},
    ]


def test_thinking_only_goes_home():
    messages = wire(
        request(
            user("Q"),
            assistant(
                ThinkingPart("mine", "s1", "some-model"),
                ThinkingPart("", "blob", "some-model", redacted=True),
                ThinkingPart("theirs", "s2", "another"),
                ThinkingPart("unsigned", None, "some-model"),
                "A",
            ),
            assistant(ThinkingPart("theirs", "s2", "another"), "  "),
            user("Next"),
        )
    )["messages"]
    assert messages[1]["content"] == [
        {"type": "thinking", "thinking": "mine", "signature": "s1"},
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "text", "text": "A"},
    ]
    assert len(messages) == 3


def test_a_prefill_ends_without_white_space():
    assert wire(request(user("Q"), assistant("It is \n")))["messages"][-1]["content"][0]["text"] == "It is"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": ToolChoice(ToolMode.REQUIRED)}, {"type": "any"}),
        ({"tool_choice": ToolChoice(ToolMode.NONE), "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": ToolChoice(ToolMode.REQUIRED, "weather")}, {"type": "tool", "name": "weather"}),
    ],
)
def test_tools_and_their_choice(fields: dict[str, Any], expected: dict[str, Any] | None):
    body = wire(request(tools=(WEATHER, Tool("now", strict=True)), **fields))
    assert body["tools"] == [
        {"name": "weather", "description": "Looks out.", "input_schema": dict(WEATHER.parameters)},
        {"name": "now", "input_schema": {"type": "object"}, "strict": True},
    ]
    assert body.get("tool_choice") == expected


def test_a_schema_is_the_output_format_where_there_is_one():
    body = wire(request(response_format=AS_SCHEMA, tools=(WEATHER,)))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("target", "options"), [("claude-sonnet-4@20250514", {}), (HAIKU_4_5, {"structured_outputs": False})]
)
def test_a_schema_is_a_forced_tool_where_there_is_no_output_format(target: str, options: dict[str, Any]):
    asked = request(response_format=AS_SCHEMA, tools=(), reasoning_effort=ReasoningEffort.HIGH)
    body = wire(asked, target, options=options, max_output_tokens=8000)
    assert body["tools"] == [{"name": "answer_in_json", "description": "Gives the answer.", "input_schema": SCHEMA}]
    assert body["tool_choice"] == {"type": "tool", "name": "answer_in_json"}
    assert "output_config" not in body
    assert "thinking" not in body


def test_json_without_a_schema_is_asked_for_in_words():
    body = wire(request(system="Be kind.", response_format=ResponseFormat(FormatKind.JSON_OBJECT)))
    assert body["system"].startswith("Be kind.\n\n")
    assert "JSON object" in body["system"]


@pytest.mark.parametrize(
    ("target", "effort", "thinking", "output_config"),
    [
        (HAIKU_4_5, "low", {"type": "enabled", "budget_tokens": 2048}, None),
        (HAIKU_4_5, "high", {"type": "enabled", "budget_tokens": 10_000}, None),
        (HAIKU_4_5, "none", None, None),
        (SONNET_4_6, "medium", {"type": "adaptive"}, {"effort": "medium"}),
        (SONNET_4_6, "none", None, None),
        (OPUS_5, "low", {"type": "adaptive", "display": "summarized"}, {"effort": "low"}),
        (OPUS_5, "none", {"type": "disabled"}, None),
        (SONNET_5_5, "high", {"type": "adaptive", "display": "summarized"}, {"effort": "high"}),
        (SONNET_5_5, "none", {"type": "between_tools"}, None),
        (HAIKU_5_5, "none", {"type": "disabled"}, None),
        (OPUS_5_5, None, None, None),
    ],
)
def test_effort_follows_the_generation(target: str, effort: str | None, thinking: Any, output_config: Any):
    asked = request(reasoning_effort=ReasoningEffort(effort) if effort else None)
    body = wire(asked, target, max_output_tokens=20_000)
    assert body.get("thinking") == thinking
    assert body.get("output_config") == output_config


def test_effort_and_format_share_their_object():
    body = wire(request(response_format=AS_SCHEMA, reasoning_effort=ReasoningEffort.LOW), OPUS_5_5)
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["schema"] == SCHEMA


def test_a_forced_tool_turns_thinking_off():
    forced = request(tools=(WEATHER,), tool_choice=ToolChoice(ToolMode.REQUIRED), reasoning_effort=ReasoningEffort.HIGH)
    assert wire(forced, OPUS_5)["thinking"] == {"type": "disabled"}
    assert "thinking" not in wire(forced, HAIKU_4_5)


def test_a_budget_needs_room_and_a_thinking_turn_to_continue():
    effort = ReasoningEffort.LOW
    assert "thinking" not in wire(request(reasoning_effort=effort), max_output_tokens=2000)
    loop = (assistant(ToolCallPart("c1", "now", "{}")), Message(Role.TOOL, (ToolResultPart("c1", "now", "noon"),)))
    assert "thinking" not in wire(request(user("Q"), *loop, reasoning_effort=effort), max_output_tokens=9000)
    own = assistant(ThinkingPart("t", "s", "some-model"), ToolCallPart("c1", "now", "{}"))
    body = wire(request(user("Q"), own, loop[1], reasoning_effort=effort), max_output_tokens=9000)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}


PNG = MediaPart(Modality.IMAGE, "image/png", data=b"x")


@pytest.mark.parametrize(
    ("asked", "target", "param"),
    [
        (request(sampling=Sampling(seed=1)), HAIKU_4_5, "seed"),
        (request(sampling=Sampling(presence_penalty=0.5)), HAIKU_4_5, "presence_penalty"),
        (request(sampling=Sampling(frequency_penalty=-0.5)), HAIKU_4_5, "frequency_penalty"),
        (request(sampling=Sampling(temperature=1.5)), HAIKU_4_5, "temperature"),
        (request(sampling=Sampling(temperature=0.5, top_p=0.5)), HAIKU_4_5, "top_p"),
        (request(sampling=Sampling(stop=("a", " \n"))), HAIKU_4_5, "stop"),
        (request(sampling=Sampling(temperature=0.5), reasoning_effort=ReasoningEffort.LOW), HAIKU_4_5, "temperature"),
        (request(sampling=Sampling(top_k=5), reasoning_effort=ReasoningEffort.LOW), HAIKU_4_5, "top_k"),
        (request(reasoning_effort=ReasoningEffort.NONE), OPUS_5_5, "reasoning_effort"),
        (request(tools=(WEATHER,), tool_choice=ToolChoice(ToolMode.REQUIRED)), SONNET_5_5, "tool_choice"),
        (request(tools=(WEATHER,), tool_choice=ToolChoice(ToolMode.REQUIRED, "weather")), OPUS_5_5, "tool_choice"),
        (request(tools=(WEATHER,), response_format=AS_SCHEMA), "claude-3-5-sonnet@20240620", "response_format"),
        (request(user("Q"), assistant("It is")), OPUS_5, "messages[1]"),
        (
            request(user("Q", MediaPart(Modality.IMAGE, "image/png", uri="gs://b/x"))),
            HAIKU_4_5,
            "messages[0].content[1]",
        ),
        (request(user(MediaPart(Modality.IMAGE, "image/heic", data=b"x"))), HAIKU_4_5, "messages[0].content[0]"),
        (
            request(user(MediaPart(Modality.IMAGE, "image/png", data=bytes(5 * 1024 * 1024 + 1)))),
            HAIKU_4_5,
            "messages[0].content[0]",
        ),
        (request(user(MediaPart(Modality.DOCUMENT, "text/csv", data=b"x"))), HAIKU_4_5, "messages[0].content[0]"),
        (request(user(MediaPart(Modality.AUDIO, "audio/wav", data=b"x"))), HAIKU_4_5, "messages[0].content[0]"),
        (request(user("Q"), assistant(PNG), user("Q")), HAIKU_4_5, "messages[1].content[0]"),
        (
            request(user("Q"), assistant(ToolCallPart("c", "f", "{")), user("Q")),
            HAIKU_4_5,
            "messages[1].content[0].arguments",
        ),
    ],
)
def test_what_claude_cannot_take_is_named(asked: ChatRequest, target: str, param: str):
    with pytest.raises(UnsupportedFeature) as caught:
        check_request(asked, profile(EVERYTHING), at(target))
    assert caught.value.param == param


def test_a_schema_without_any_way_to_hold_it_is_refused():
    with pytest.raises(UnsupportedFeature) as caught:
        check_request(request(response_format=AS_SCHEMA), profile(), at(OPUS_5_5, structured_outputs=False))
    assert caught.value.param == "response_format"


def test_neutral_penalties_and_full_images_pass():
    asked = request(
        user(MediaPart(Modality.IMAGE, "image/png", data=bytes(5 * 1024 * 1024))),
        sampling=Sampling(temperature=1.0, presence_penalty=0.0, frequency_penalty=0.0),
        reasoning_effort=ReasoningEffort.LOW,
    )
    check_request(asked, profile(), at())
    assert "presence_penalty" not in wire(request(user(TextPart("x")), sampling=asked.sampling))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("claude-3-5-sonnet@20240620", (ThinkingForm.BUDGET, True, False, True)),
        ("claude-opus-4@20250514", (ThinkingForm.BUDGET, True, False, True)),
        ("claude-sonnet-4-20250514", (ThinkingForm.BUDGET, True, False, True)),
        (HAIKU_4_5, (ThinkingForm.BUDGET, True, True, True)),
        (SONNET_4_6, (ThinkingForm.ADAPTIVE, True, True, False)),
        ("claude-opus-4-7", (ThinkingForm.ADAPTIVE, True, True, False)),
        (OPUS_5, (ThinkingForm.ADAPTIVE, True, True, False)),
        (HAIKU_5_5, (ThinkingForm.ADAPTIVE, True, True, False)),
        (SONNET_5_5, (ThinkingForm.ADAPTIVE, False, True, False)),
        ("claude-fable-5-1", (ThinkingForm.ADAPTIVE, False, True, False)),
        ("something-new", (ThinkingForm.ADAPTIVE, False, True, False)),
    ],
)
def test_traits_by_version(target: str, expected: tuple[ThinkingForm, bool, bool, bool]):
    traits = traits_of(at(target))
    assert (traits.thinking_form, traits.forced_tools, traits.structured_outputs, traits.prefill) == expected


def test_options_override_the_version():
    assert traits_of(at(SONNET_5_5, forced_tools=True, structured_outputs=False, prefill=True)) == ClaudeTraits(
        ThinkingForm.ADAPTIVE,
        thinking_off="between_tools",
        forced_tools=True,
        structured_outputs=False,
        prefill=True,
    )
