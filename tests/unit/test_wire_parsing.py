"""Bad bodies: the error names the field and never quotes what stood there."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions._wire.chat import ChatBody, RouteBody
from functions._wire.parsing import parse
from functions._wire.to_domain import body_param, chat_request
from shared.domain.chat import FormatKind, MediaPart, Modality, Role, TextPart, ToolCallPart, ToolMode, ToolResultPart
from shared.domain.errors import InvalidRequest
from shared.domain.policy import Preset
from shared.domain.security import SecurityLevel

CANARY = "canary-4711"
USER = {"role": "user", "content": CANARY}
PNG = "data:image/png;base64,iVBORw0KGgo="


def body(**fields):
    return json.dumps({"messages": [USER], **fields}).encode()


def message(**fields):
    return json.dumps({"messages": [fields]}).encode()


BAD = [
    ("not JSON", b'{"messages": [' + CANARY.encode(), None),
    ("empty", b"", None),
    ("an array", b"[1]", None),
    ("no messages", b"{}", "messages"),
    ("messages not a list", b'{"messages": "x"}', "messages"),
    ("no message at all", b'{"messages": []}', "messages"),
    ("unknown role", message(role=CANARY, content="x"), "messages[0].role"),
    ("no role", message(content="x"), "messages[0].role"),
    ("content a number", message(role="user", content=5), "messages[0].content"),
    ("empty content", message(role="user", content=""), "messages[0].content"),
    ("unknown part", message(role="user", content=[{"type": "hologram"}]), "messages[0].content[0]"),
    ("part without text", message(role="user", content=[{"type": "text"}]), "messages[0].content[0].text"),
    (
        "part with a wrong type",
        message(role="user", content=[{"type": "text", "text": "a"}, {"type": "text", "text": 7}]),
        "messages[0].content[1].text",
    ),
    (
        "image by a strange scheme",
        message(role="user", content=[{"type": "image_url", "image_url": {"url": f"file:///{CANARY}"}}]),
        "messages[0].content[0].image_url.url",
    ),
    (
        "image that is not base64",
        message(role="user", content=[{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CANARY}!"}}]),
        "messages[0].content[0].image_url.url",
    ),
    (
        "data URL without base64",
        message(role="user", content=[{"type": "image_url", "image_url": {"url": f"data:image/png,{CANARY}"}}]),
        "messages[0].content[0].image_url.url",
    ),
    (
        "file by id",
        message(role="user", content=[{"type": "file", "file": {"file_id": "f"}}]),
        "messages[0].content[0].file",
    ),
    ("only a system message", message(role="system", content="x"), "messages"),
    (
        "image for the system",
        message(role="system", content=[{"type": "image_url", "image_url": {"url": PNG}}]),
        "messages[0].content[0]",
    ),
    ("empty assistant", json.dumps({"messages": [USER, {"role": "assistant"}]}).encode(), "messages[1].content"),
    (
        "tool result of nothing",
        json.dumps({"messages": [USER, {"role": "tool", "tool_call_id": CANARY, "content": "x"}]}).encode(),
        "messages[1].tool_call_id",
    ),
    (
        "tool result without id",
        json.dumps({"messages": [USER, {"role": "tool", "content": "x"}]}).encode(),
        "messages[1].tool_call_id",
    ),
    ("negative max_tokens", body(max_tokens=-1), "max_tokens"),
    ("zero max_tokens", body(max_tokens=0), "max_tokens"),
    ("max_tokens as text", body(max_tokens="5"), "max_tokens"),
    ("max_tokens as a fraction", body(max_tokens=1.5), "max_tokens"),
    ("both limits", body(max_tokens=1, max_completion_tokens=1), "max_tokens"),
    ("temperature too high", body(temperature=2.1), "temperature"),
    ("temperature NaN", b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}', "temperature"),
    ("stream as text", body(stream="yes"), "stream"),
    ("unknown field", body(foo=CANARY), "foo"),
    ("two choices", body(n=2), "n"),
    ("logprobs", body(logprobs=True), "logprobs"),
    ("model with a line break", body(model="a\nb"), "model"),
    ("empty model", body(model=""), "model"),
    ("unknown preset", body(model="auto:fastest"), "model"),
    ("tool without name", body(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    ("tool name twice", body(tools=[{"type": "function", "function": {"name": "a"}}] * 2), "tools[1].function.name"),
    ("choice without tools", body(tool_choice="required"), "tool_choice"),
    (
        "choice of an unknown tool",
        body(
            tools=[{"type": "function", "function": {"name": "a"}}],
            tool_choice={"type": "function", "function": {"name": "b"}},
        ),
        "tool_choice.function.name",
    ),
    ("schema missing", body(response_format={"type": "json_schema"}), "response_format.json_schema"),
    ("unknown format", body(response_format={"type": "xml"}), "response_format.type"),
    ("router option unknown", body(router={"speed": 1}), "router.speed"),
    ("router label unknown", body(router={"security_label": "secret"}), "router.security_label"),
    ("negative cap", body(router={"max_cost_usd": -1}), "router.max_cost_usd"),
    ("zone in capitals", body(router={"residency": ["EU"]}), "router.residency[0]"),
    ("all weights zero", body(router={"weights": {}}), "weights"),
    ("seventeen tags", body(metadata={str(i): "x" for i in range(17)}), "metadata"),
    ("tag not text", body(metadata={"a": 1}), "metadata.a"),
]


@pytest.mark.parametrize(("case", "raw", "param"), BAD, ids=[row[0] for row in BAD])
def test_bad_bodies_name_the_field_and_quote_nothing(case, raw, param):
    def read():
        parsed = parse(raw, ChatBody)
        chat_request(parsed)
        parsed.router.constraints(parsed.model)

    with pytest.raises(InvalidRequest) as caught:
        read()
    assert caught.value.param == param
    assert CANARY not in caught.value.message


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["messages", "role", "content", "tools", "router", "x"]), inner, max_size=4
            )
        ),
        max_leaves=20,
    ).map(lambda value: json.dumps(value).encode())
)
@settings(max_examples=400, deadline=None)
def test_any_bytes_end_in_a_request_or_in_a_named_error(raw):
    try:
        chat_request(parse(raw, ChatBody))
    except InvalidRequest as error:
        assert error.message


def test_a_whole_conversation_reaches_the_domain():
    raw = json.dumps(
        {
            "model": "auto:cost",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "No jokes."}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "look", "arguments": '{"at":"it"}'},
                            "extra_content": {
                                "google": {"thought_signature": "c2ln"},
                                "llm_router": {"model": "gemini-3.8-flash"},
                            },
                        },
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
            ],
            "tools": [
                {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}
            ],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
            },
            "stop": "END",
            "seed": 5,
            "max_completion_tokens": 10,
            "reasoning_effort": "minimal",
            "user": "u",
            "store": False,
            "router": {"security_label": "confidential", "residency": ["eu"], "tags": {"team": "x"}},
        }
    ).encode()
    parsed = parse(raw, ChatBody)
    request = chat_request(parsed)
    assert request.system == "Be brief.\n\nNo jokes."
    user, assistant, tool = request.messages
    assert user.parts == (
        TextPart("What is this?"),
        MediaPart(Modality.IMAGE, "image/png", b"\x89PNG\r\n\x1a\n", detail="low"),
    )
    assert assistant.parts == (ToolCallPart("c1", "look", '{"at":"it"}', "c2ln", "gemini-3.8-flash"),)
    assert tool.role is Role.TOOL
    assert tool.parts == (ToolResultPart("c1", "look", "a cat"),)
    assert request.tool_choice.mode is ToolMode.REQUIRED
    assert request.tool_choice.name == "look"
    assert request.response_format.kind is FormatKind.JSON_SCHEMA
    assert request.sampling.stop == ("END",)
    assert request.max_output_tokens == 10
    assert request.reasoning_effort.value == "low"
    wanted = parsed.router.constraints(parsed.model)
    assert wanted.model is None
    assert wanted.preset is Preset.COST
    assert wanted.label is SecurityLevel.CONFIDENTIAL
    assert wanted.residency == frozenset({"eu"})


def test_media_by_uri_and_files_take_their_kind_from_their_type():
    def part(content):
        return chat_request(parse(message(role="user", content=[content]), ChatBody)).messages[0].parts[0]

    assert part({"type": "image_url", "image_url": {"url": "gs://b/cat.webp"}}) == MediaPart(
        Modality.IMAGE, "image/webp", uri="gs://b/cat.webp"
    )
    assert part({"type": "video_url", "video_url": {"url": "https://h/v"}}).mime_type == "video/mp4"
    assert part({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}).mime_type == "audio/mpeg"
    pdf = part({"type": "file", "file": {"file_data": "JVBERg==", "filename": "a.pdf"}})
    assert (pdf.modality, pdf.mime_type, pdf.data) == (Modality.DOCUMENT, "application/pdf", b"%PDF")
    picture = part({"type": "file", "file": {"file_data": PNG}})
    assert picture.modality is Modality.IMAGE


def test_route_body_puts_options_beside_the_prompt():
    parsed = parse(
        b'{"prompt":"hi","preset":"quality","max_cost_usd":0.01,"dry_run":true,"allow_models":["a"]}', RouteBody
    )
    assert parsed.dry_run
    assert chat_request(parsed, prompt=parsed.prompt).messages[0].text() == "hi"
    wanted = parsed.constraints(parsed.model)
    assert str(wanted.max_cost_usd) == "0.01"
    assert wanted.allow_models == frozenset({"a"})
    with pytest.raises(InvalidRequest) as caught:
        chat_request(parse(b"{}", RouteBody))
    assert caught.value.param == "messages"


def test_fields_are_named_as_the_body_has_them():
    body = parse(
        json.dumps(
            {"messages": [{"role": "system", "content": "s"}, USER, {"role": "developer", "content": "d"}, USER]}
        ).encode(),
        RouteBody,
    )
    assert body_param("messages[0].content[2]", body) == "messages[1].content[2]"
    assert body_param("messages[1]", body) == "messages[3]"
    assert body_param("messages[2].content", body) == "prompt"
    assert body_param("tools[0]", body) == "tools[0]"
    assert body_param(None, body) is None
