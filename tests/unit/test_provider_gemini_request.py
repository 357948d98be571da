"""`ChatRequest` -> GenerateContentRequest, and what is refused before any call."""

import base64
from typing import Any

import pytest
from google.protobuf import json_format

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
from shared.domain.models import Capabilities, Deployment, ProviderKind
from shared.providers.gemini_request import check_request, request_message
from tests.unit.openai_builders import EVERYTHING, assistant, call, deployment, profile, request, user

RESOURCE = "projects/p/locations/global/publishers/google/models/gemini-3.8-flash"
SIGNATURE = base64.b64encode(b"sig").decode()
DUMMY = base64.b64encode(b"skip_thought_signature_validator").decode()
WEATHER = Tool("weather", "Looks out.", {"type": "object", "properties": {"city": {"type": "string"}}})


def at(target: str = "gemini-3.8-flash") -> Deployment:
    return deployment(ProviderKind.GEMINI, target=target)


def wire(asked: ChatRequest, target: str = "gemini-3.8-flash", **fields: Any) -> dict[str, Any]:
    attempt = call(asked, at(target), **fields)
    check_request(attempt.request, attempt.profile, attempt.deployment)
    return json_format.MessageToDict(request_message(attempt, RESOURCE))


def refused(
    asked: ChatRequest, target: str = "gemini-3.8-flash", capabilities: Capabilities = EVERYTHING
) -> str | None:
    with pytest.raises(UnsupportedFeature) as caught:
        check_request(asked, profile(capabilities), at(target))
    return caught.value.param


def test_turns_system_and_limits():
    body = wire(
        request(
            user("Hello"),
            assistant("Hi", ""),
            user("Again", "and again"),
            system="Be kind.",
            sampling=Sampling(0.5, 0.25, 40, 1.0, -1.0, 7, ("END",)),
        ),
        max_output_tokens=321,
    )

    assert body == {
        "model": RESOURCE,
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hello"}]},
            {"role": "model", "parts": [{"text": "Hi"}]},
            {"role": "user", "parts": [{"text": "Again"}, {"text": "and again"}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 321,
            "temperature": 0.5,
            "topP": 0.25,
            "topK": 40.0,
            "presencePenalty": 1.0,
            "frequencyPenalty": -1.0,
            "seed": 7,
            "stopSequences": ["END"],
        },
    }


def test_an_explicit_zero_is_sent():
    config = wire(request(sampling=Sampling(temperature=0.0, seed=0)))["generationConfig"]
    assert config["temperature"] == 0.0
    assert config["seed"] == 0


def test_media_by_bytes_and_by_uri():
    parts = wire(
        request(
            user(
                "Look",
                MediaPart(Modality.IMAGE, "image/png", data=b"png"),
                MediaPart(Modality.DOCUMENT, "application/pdf", uri="gs://bucket/file.pdf"),
                MediaPart(Modality.AUDIO, "audio/wav", data=b"wav"),
                MediaPart(Modality.VIDEO, "video/mp4", uri="gs://bucket/film.mp4"),
            )
        )
    )["contents"][0]["parts"]

    assert parts[1:] == [
        {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(b"png").decode()}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://bucket/file.pdf"}},
        {"inlineData": {"mimeType": "audio/wav", "data": base64.b64encode(b"wav").decode()}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://bucket/film.mp4"}},
    ]


def tool_loop(signature: str | None, origin: str | None) -> ChatRequest:
    return request(
        user("Weather in Oslo and Rome?"),
        assistant(
            ToolCallPart("c1", "weather", '{"city": "Oslo", "days": 3, "exact": [1, null, true]}', signature, origin),
            ToolCallPart("c2", "weather", '{"city": "Rome"}', None, origin),
        ),
        Message(Role.TOOL, (ToolResultPart("c1", "", "rain"),)),
        Message(Role.TOOL, (ToolResultPart("c2", "weather", "no such city", is_error=True),)),
        tools=(WEATHER,),
    )


def test_tool_results_find_their_names_and_share_a_turn():
    contents = wire(tool_loop(SIGNATURE, "some-model"))["contents"]

    assert [content["role"] for content in contents] == ["user", "model", "user"]
    assert contents[1]["parts"][0] == {
        "functionCall": {"name": "weather", "args": {"city": "Oslo", "days": 3.0, "exact": [1.0, None, True]}},
        "thoughtSignature": SIGNATURE,
    }
    assert contents[1]["parts"][1] == {"functionCall": {"name": "weather", "args": {"city": "Rome"}}}
    assert contents[2]["parts"] == [
        {"functionResponse": {"name": "weather", "response": {"output": "rain"}}},
        {"functionResponse": {"name": "weather", "response": {"error": "no such city"}}},
    ]


@pytest.mark.parametrize(
    ("signature", "origin", "target", "sent"),
    [
        (SIGNATURE, "some-model", "gemini-3.8-flash", SIGNATURE),
        (SIGNATURE, "another-model", "gemini-3.8-flash", DUMMY),
        (SIGNATURE, None, "gemini-3.8-flash", DUMMY),
        (None, "some-model", "gemini-4-argon", DUMMY),
        ("not base64!", "some-model", "gemini-3.8-flash", DUMMY),
        (None, None, "gemini-2.5-pro", None),
        (SIGNATURE, "some-model", "gemini-2.5-pro", SIGNATURE),
    ],
)
def test_signatures_only_go_home(signature: str | None, origin: str | None, target: str, sent: str | None):
    parts = wire(tool_loop(signature, origin), target)["contents"][1]["parts"]
    assert parts[0].get("thoughtSignature") == sent
    assert "thoughtSignature" not in parts[1]


def test_thinking_of_others_is_dropped():
    contents = wire(
        request(
            user("Q"),
            assistant(
                ThinkingPart("mine", SIGNATURE, "some-model"),
                ThinkingPart("theirs", SIGNATURE, "another-model"),
                ThinkingPart("unsigned", None, "some-model"),
                "Answer",
                ThinkingPart("", SIGNATURE, "some-model"),
            ),
            assistant(ThinkingPart("theirs", SIGNATURE, "another-model")),
            user("Next"),
        )
    )["contents"]

    assert contents[1]["parts"] == [
        {"text": "mine", "thought": True, "thoughtSignature": SIGNATURE},
        {"text": "Answer"},
        {"text": "", "thoughtSignature": SIGNATURE},
    ]
    assert [content["role"] for content in contents] == ["user", "model", "user"]


def test_a_turn_with_nothing_left_is_left_out():
    contents = wire(request(user("Q"), assistant(ThinkingPart("x", SIGNATURE, "another")), user("Next")))["contents"]
    assert contents == [{"role": "user", "parts": [{"text": "Q"}, {"text": "Next"}]}]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice(), {"mode": "AUTO"}),
        (ToolChoice(ToolMode.REQUIRED), {"mode": "ANY"}),
        (ToolChoice(ToolMode.NONE), {"mode": "NONE"}),
        (ToolChoice(ToolMode.REQUIRED, "weather"), {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_tools_and_their_choice(choice: ToolChoice, expected: dict[str, Any]):
    body = wire(request(tools=(WEATHER, Tool("now")), tool_choice=choice))

    assert body["tools"] == [
        {
            "functionDeclarations": [
                {"name": "weather", "description": "Looks out.", "parametersJsonSchema": dict(WEATHER.parameters)},
                {"name": "now"},
            ]
        }
    ]
    assert body["toolConfig"]["functionCallingConfig"] == expected


def test_json_answers():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    plain = wire(request(response_format=ResponseFormat(FormatKind.JSON_OBJECT)))["generationConfig"]
    exact = wire(request(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "n", schema)))["generationConfig"]

    assert plain["responseMimeType"] == exact["responseMimeType"] == "application/json"
    assert "responseJsonSchema" not in plain
    assert exact["responseJsonSchema"] == schema


@pytest.mark.parametrize(
    ("target", "effort", "expected"),
    [
        ("gemini-3.8-flash", "low", {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3.1-pro-preview", "high", {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("gemini-4-argon", "medium", {"includeThoughts": True, "thinkingLevel": "MEDIUM"}),
        ("gemini-3.1-flash-lite", "none", {"includeThoughts": False, "thinkingLevel": "MINIMAL"}),
        ("gemini-2.5-flash", "none", {"includeThoughts": False, "thinkingBudget": 0}),
        ("gemini-2.5-pro", "medium", {"includeThoughts": True, "thinkingBudget": 8192}),
        ("1234567890", "low", {"includeThoughts": True, "thinkingLevel": "LOW"}),
    ],
)
def test_effort_follows_the_generation(target: str, effort: str, expected: dict[str, Any]):
    config = wire(request(reasoning_effort=ReasoningEffort(effort)), target)["generationConfig"]
    assert config["thinkingConfig"] == expected


def test_no_effort_leaves_the_models_default():
    assert "thinkingConfig" not in wire(request())["generationConfig"]


def without(**fields: Any) -> Capabilities:
    return Capabilities(
        **{
            **{name: getattr(EVERYTHING, name) for name in EVERYTHING.__dataclass_fields__},
            **fields,
        }
    )


DEEP: Any = {}
for _ in range(40):
    DEEP = {"properties": DEEP}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (request(user("x", MediaPart(Modality.IMAGE, "image/gif", data=b"x"))), "messages[0].content[1]"),
        (request(user(MediaPart(Modality.DOCUMENT, "application/msword", data=b"x"))), "messages[0].content[0]"),
        (request(sampling=Sampling(stop=("a", "b", "c", "d", "e", "f"))), "stop"),
        (request(sampling=Sampling(seed=2**31)), "seed"),
        (request(reasoning_effort=ReasoningEffort.NONE), "reasoning_effort"),
        (request(tools=(WEATHER, Tool("deep", parameters=DEEP))), "tools[1].parameters"),
        (request(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "x", DEEP)), "response_format.schema"),
        (request(user("x"), assistant(ToolCallPart("c", "f", "[1]"))), "messages[1].content[0].arguments"),
        (request(user("x"), assistant(ToolCallPart("c", "f", '{"a": "\\ud800"}'))), "messages[1].content[0].arguments"),
        (
            request(user("x"), Message(Role.TOOL, (TextPart("x"), ToolResultPart("nobody", "", "x")))),
            "messages[1].content[1].tool_call_id",
        ),
    ],
)
def test_what_gemini_cannot_take_is_named(asked: ChatRequest, param: str):
    assert refused(asked) == param


@pytest.mark.parametrize(
    ("asked", "target", "fields", "param"),
    [
        (request(reasoning_effort=ReasoningEffort.NONE), "gemini-4-argon", {}, "reasoning_effort"),
        (request(reasoning_effort=ReasoningEffort.NONE), "gemini-2.5-pro", {}, "reasoning_effort"),
        (request(reasoning_effort=ReasoningEffort.LOW), "gemini-3.8-flash", {"thinking": False}, "reasoning_effort"),
        (request(sampling=Sampling(temperature=1.0)), "gemini-4-argon", {"sampling": False}, "temperature"),
        (request(sampling=Sampling(top_p=1.0)), "gemini-4-argon", {"sampling": False}, "top_p"),
        (request(tools=(WEATHER,)), "gemini-3.8-flash", {"tools": False}, "tools"),
        (
            request(tools=(WEATHER,), response_format=ResponseFormat(FormatKind.JSON_OBJECT)),
            "gemini-2.5-flash",
            {},
            "response_format",
        ),
        (
            request(user(MediaPart(Modality.IMAGE, "image/png", uri="gs://b/x"))),
            "gemini-3.8-flash",
            {"media_uris": False},
            "messages[0].content[0]",
        ),
        (
            request(user(MediaPart(Modality.AUDIO, "audio/wav", data=b"x"))),
            "gemini-3.8-flash",
            {"modalities": frozenset({Modality.TEXT})},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_a_model_cannot_do_is_named(asked: ChatRequest, target: str, fields: dict[str, Any], param: str):
    assert refused(asked, target, without(**fields)) == param


def test_effort_none_costs_nothing_where_there_is_no_thinking():
    capabilities = without(thinking=False)
    asked = request(reasoning_effort=ReasoningEffort.NONE)
    check_request(asked, profile(capabilities), at())
    body = json_format.MessageToDict(request_message(call(asked, at(), capabilities=capabilities), RESOURCE))
    assert "thinkingConfig" not in body["generationConfig"]


def test_what_passes_the_depth_check_survives_the_wire():
    schema: Any = {"type": "string"}
    for _ in range(11):
        schema = {"type": "array", "items": [schema]}
    asked = request(
        tools=(Tool("deep", parameters=schema),), response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "x", schema)
    )
    check_request(asked, profile(), at())

    message = request_message(call(asked, at()), RESOURCE)

    assert type(message).FromString(message.SerializeToString()) == message
