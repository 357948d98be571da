"""The official client's Responses API against the running stack."""

import json

import openai
import pytest
import requests
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.e2e.ledger_row import row_of

MODELS = {
    "gemini": "gemini-3.8-flash",
    "anthropic": "claude-haiku-5-5",
    "openai_maas": "deepseek-v4.1-flash",
    "mistral": "mistral-medium-3",
}
SKY = "Explain why the sky is blue in one sentence."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Film(BaseModel):
    title: str
    year: int = Field(ge=1900)


@pytest.fixture(scope="module")
def client(stack):
    with OpenAI(base_url=f"{stack.base_url}/api/v1", api_key="local", max_retries=0, timeout=30) as client:
        yield client


@pytest.mark.parametrize("family", MODELS)
def test_a_plain_answer_says_who_gave_it_and_what_it_cost(client, family):
    model = MODELS[family]
    raw = client.responses.with_raw_response.create(
        model=model, input=SKY, instructions="Be brief.", metadata={"team": "x"}
    )
    reply = raw.parse()
    assert (reply.object, reply.status, reply.model, reply.store) == ("response", "completed", model, False)
    assert reply.output_text
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens > 0
    assert reply.id == f"resp_{raw.headers['x-request-id']}"
    assert (raw.headers["x-router-model"], raw.headers["x-router-attempts"]) == (model, "1")
    assert float(raw.headers["x-router-cost-usd"]) == reply.model_extra["router"]["cost_usd"] > 0
    assert (reply.instructions, reply.metadata) == ("Be brief.", {"team": "x"})


@pytest.mark.parametrize("family", MODELS)
def test_a_stream_holds_what_the_plain_answer_holds(client, family):
    model = MODELS[family]
    plain = client.responses.create(model=model, input=SKY)
    with client.responses.stream(model=model, input=SKY) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == plain.output_text
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == plain.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[1].type, events[-1].type) == (
        "response.created",
        "response.in_progress",
        "response.completed",
    )
    assert final.usage.output_tokens == plain.usage.output_tokens


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("family", MODELS)
def test_a_tool_is_called_answered_and_used(client, family, streamed):
    asked = {"model": MODELS[family], "tools": [WEATHER], "parallel_tool_calls": False}
    talk = [{"role": "user", "content": "Use get_weather for Paris in c."}]
    if streamed:
        with client.responses.stream(**asked, input=talk, tool_choice="required") as stream:
            first = stream.get_final_response()
    else:
        first = client.responses.create(**asked, input=talk, tool_choice="required")
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert call.name == "get_weather"
    assert set(json.loads(call.arguments)) == {"city", "unit"}
    talk += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": '{"celsius": 19}'}]
    second = client.responses.create(**asked, input=talk)
    assert second.output_text
    assert second.status == "completed"


@pytest.mark.parametrize("family", ["gemini", "anthropic", "openai_maas"])
def test_answers_are_parsed_by_their_schema(client, family):
    reply = client.responses.parse(model=MODELS[family], input="Describe a film.", text_format=Film)
    assert isinstance(reply.output_parsed, Film)
    with client.responses.stream(model=MODELS[family], input="Describe a film.", text_format=Film) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Film)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("family", ["gemini", "anthropic"])
def test_thinking_is_shown_and_comes_back(client, family, streamed):
    asked = {"model": MODELS[family], "reasoning": {"effort": "high", "summary": "auto"}, "tools": [WEATHER]}
    talk = [{"role": "user", "content": "Use get_weather for Paris in c."}]
    deltas = ""
    if streamed:
        with client.responses.stream(**asked, input=talk) as stream:
            for event in stream:
                if event.type == "response.reasoning_summary_text.delta":
                    deltas += event.delta
            first = stream.get_final_response()
    else:
        first = client.responses.create(**asked, input=talk)
    reasoning = [item for item in first.output if item.type == "reasoning" and item.summary]
    shown = "".join(part.text for item in reasoning for part in item.summary)
    assert shown
    assert deltas == (shown if streamed else "")
    if family == "gemini":  # Anthropic counts thinking among the output and does not say how much it was
        assert first.usage.output_tokens_details.reasoning_tokens > 0
    (call,) = [item for item in first.output if item.type == "function_call"]
    # Both vendors refuse the next turn when their signatures do not come back as they were.
    talk += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    assert client.responses.create(**asked, input=talk).output_text


def test_an_answer_that_was_cut_by_its_limit_is_incomplete(client):
    reply = client.responses.create(model=MODELS["anthropic"], input=SKY, max_output_tokens=16)
    assert (reply.status, reply.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert reply.output[-1].status == "incomplete"


def test_auto_and_the_routers_options(client):
    raw = client.responses.with_raw_response.create(
        model="auto:cost", input=SKY, extra_body={"router": {"residency": ["eu"]}}, extra_headers={"x-mine": "1"}
    )
    assert raw.headers["x-router-deployment"].rpartition("@")[2].startswith("eu")
    assert raw.parse().model == raw.headers["x-router-model"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"include": ["web_search_call.action.sources"]}, "include"),
        ({"model": "gpt-oss-120b", "reasoning": {"effort": "none"}}, "reasoning.effort"),
        ({"model": "gemini-3.8-flash", "temperature": 0.5}, "temperature"),
        ({"model": "text-embedding-005"}, "model"),
    ],
)
def test_what_does_not_map_is_a_400_that_names_the_field(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "auto", "input": SKY, **fields})
    assert caught.value.param == param


def test_a_stream_that_breaks_ends_with_its_error_and_is_paid_for(client, stack):
    stack.simulator.set_faults([{"match": {}, "fault": "cut", "after_chunks": 2}])
    stream = client.responses.create(model=MODELS["gemini"], input="Tell me about rivers.", stream=True)
    events = list(stream)
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1].response.error.code == events[-2].code == "provider_unavailable"
    assert events[-1].response.output[0].status == "incomplete"
    row = row_of(stack, stream.response.headers["x-request-id"])
    assert (row["status"], row["error_code"]) == ("error", "provider_unavailable")
    assert row["token_count"] > 0
    assert row["cost"] > 0


def test_a_failure_before_the_first_word_is_a_status(client, stack):
    stack.simulator.set_faults([{"match": {}, "fault": "unavailable"}])
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(model=MODELS["gemini"], input=SKY, stream=True)
    assert caught.value.status_code == 503


def test_responses_are_not_kept(stack):
    answer = requests.get(f"{stack.base_url}/api/v1/responses/resp_1", timeout=10)
    assert answer.status_code == 404
