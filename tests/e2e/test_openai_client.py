"""The official OpenAI client against the running stack: one model of every provider family, and its row in the ledger."""

import base64
import json
import time
import zlib

import openai
import psycopg
import pytest
import requests
from openai import OpenAI

FAMILIES = {
    "gemini": "gemini-3.8-flash",
    "anthropic": "claude-haiku-5-5",
    "openai_maas": "gpt-oss-120b",
    "mistral": "mistral-medium-3",
    "hugging_face_tgi": "example-hf-tgi",
    "hugging_face_vllm": "example-hf-vllm",
    "hugging_face_chat": "example-hf-chat",
    "custom_predict": "example-custom-predict",
    "custom_raw_predict": "example-custom-raw",
}
TOOL_MODELS = {
    "gemini": "gemini-3.8-flash",
    "anthropic": "claude-haiku-5-5",
    "openai_maas": "deepseek-v4.1-flash",
    "mistral": "mistral-medium-3",
}
PROMPT = [{"role": "user", "content": "Explain why the sky is blue in one sentence."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
            "required": ["city", "unit"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer", "minimum": 1900},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["title", "year", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(stack):
    with OpenAI(base_url=f"{stack.base_url}/api/v1", api_key="local", max_retries=0, timeout=30) as client:
        yield client


def record_of(stack, request_id):
    """The request's row, which is written behind the response."""
    deadline = time.monotonic() + 15
    with psycopg.connect(stack.settings["POSTGRES_DSN"], autocommit=True) as connection:
        while True:
            cursor = connection.execute(
                "SELECT status, model_used, provider, token_count, cost, stream, finish_reason, error_code"
                " FROM requests WHERE id = %s",
                (request_id,),
            )
            row = cursor.fetchone()
            if row is not None:
                return dict(zip((column.name for column in cursor.description), row, strict=True))
            assert time.monotonic() < deadline, f"no record of {request_id}"
            time.sleep(0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_answer_and_its_record(client, stack, family):
    model = FAMILIES[family]
    raw = client.chat.completions.with_raw_response.create(model=model, messages=PROMPT, max_tokens=200)
    reply = raw.parse()
    assert reply.model == model
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason in {"stop", "length"}
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    assert raw.headers["x-router-model"] == model
    assert raw.headers["x-router-attempts"] == "1"
    assert float(raw.headers["x-router-overhead-ms"]) > 0
    record = record_of(stack, raw.headers["x-request-id"])
    assert (record["status"], record["model_used"], record["stream"]) == ("success", model, False)
    assert record["token_count"] == reply.usage.total_tokens
    assert f"{record['cost']:.6f}" == f"{float(raw.headers['x-router-cost-usd']):.6f}"


@pytest.mark.parametrize("family", FAMILIES)
def test_stream_ends_with_finish_usage_and_done_and_equals_the_plain_answer(client, stack, family):
    model = FAMILIES[family]
    plain = client.chat.completions.create(model=model, messages=PROMPT, max_tokens=120)
    stream = client.chat.completions.create(
        model=model, messages=PROMPT, max_tokens=120, stream=True, stream_options={"include_usage": True}
    )
    request_id = stream.response.headers["x-request-id"]
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    finishes = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert text == plain.choices[0].message.content
    assert finishes == [plain.choices[0].finish_reason]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    if family != "hugging_face_tgi":  # its stream does not say how long the prompt was: the router estimates
        assert chunks[-1].usage.prompt_tokens == plain.usage.prompt_tokens
    assert {c.model for c in chunks} == {model}
    record = record_of(stack, request_id)
    assert (record["status"], record["stream"]) == ("success", True)
    assert record["token_count"] == chunks[-1].usage.total_tokens


@pytest.mark.parametrize("family", TOOL_MODELS)
def test_a_tool_is_called_answered_and_used(client, family):
    model = TOOL_MODELS[family]
    messages = [{"role": "user", "content": "Use get_weather for Paris in c."}]
    first = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], tool_choice="required")
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    call = message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["unit"] in {"c", "f"}
    messages += [
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 19}'},
    ]
    second = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


@pytest.mark.parametrize("family", TOOL_MODELS)
def test_streamed_tool_calls_assemble_to_valid_arguments(client, family):
    stream = client.chat.completions.create(
        model=TOOL_MODELS[family],
        messages=[{"role": "user", "content": "Use get_weather for Paris in c."}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        stream=True,
    )
    names, arguments, finish = [], "", None
    for chunk in stream:
        choice = chunk.choices[0]
        for delta in choice.delta.tool_calls or ():
            names += [delta.function.name] if delta.function.name else []
            arguments += delta.function.arguments or ""
        finish = choice.finish_reason or finish
    assert names == ["get_weather"]
    assert set(json.loads(arguments)) == {"city", "unit"}
    assert finish == "tool_calls"


@pytest.mark.parametrize("family", ["gemini", "anthropic", "openai_maas"])
def test_answers_obey_a_json_schema(client, family):
    reply = client.chat.completions.create(
        model=TOOL_MODELS[family],
        messages=[{"role": "user", "content": "Describe a film as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "film", "schema": SCHEMA, "strict": True}},
    )
    film = json.loads(reply.choices[0].message.content)
    assert set(film) == {"title", "year", "tags"}
    assert film["year"] >= 1900
    assert film["tags"]


def tiny_png():
    def chunk(kind, payload):
        body = kind + payload
        return len(payload).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = (1).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
        + chunk(b"IEND", b"")
    )


PICTURE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is in this picture?"},
            {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64," + base64.b64encode(tiny_png()).decode()},
            },
        ],
    }
]


def test_a_picture_reaches_a_model_that_sees(client):
    assert client.chat.completions.create(model="auto", messages=PICTURE).choices[0].message.content


def test_a_picture_for_a_blind_model_is_a_400_that_names_the_field(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt-oss-120b", messages=PICTURE)
    assert caught.value.code == "unsupported_feature"
    assert caught.value.param.startswith("messages")


def test_auto_words_choose_by_their_preset(stack):
    def chosen(model):
        body = {"model": model, "messages": PROMPT, "dry_run": True}
        answer = requests.post(f"{stack.base_url}/api/v1/route", json=body, timeout=10)
        return answer.json()["decision"]["chosen"]

    cheap, good, fast = (chosen(f"auto:{preset}") for preset in ("cost", "quality", "latency"))
    assert cheap["expected_cost_usd"] <= good["expected_cost_usd"]
    assert good["factors"]["quality"] >= cheap["factors"]["quality"]
    assert fast["expected_latency_ms"] <= good["expected_latency_ms"]


def test_models_are_listed_and_shown(client):
    ids = {model.id for model in client.models.list()}
    assert {"auto", "auto:cost", *FAMILIES.values()} <= ids
    assert len(ids) >= 16
    shown = client.models.retrieve("claude-haiku-5-5")
    assert shown.owned_by == "anthropic"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


def test_unknown_model_is_a_404(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=PROMPT)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_content_above_every_clearance_finds_no_model_but_is_recorded(client, stack):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(
            model="gemini-3.8-flash", messages=PROMPT, extra_body={"router": {"security_label": "restricted"}}
        )
    assert caught.value.code == "no_eligible_model"
    assert "clearance" in str(caught.value)
    record = record_of(stack, caught.value.response.headers["x-request-id"])
    assert (record["status"], record["error_code"]) == ("error", "no_eligible_model")
