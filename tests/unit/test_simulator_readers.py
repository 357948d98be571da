"""What each wire form refuses, in its vendor's words, and what its errors look like."""

import re
from typing import Any

import orjson
import pytest

from infra.local.simulator import raw
from infra.local.simulator.engine import Engine, Target, Wire
from infra.local.simulator.plan import measure
from infra.local.simulator.problems import Problem
from infra.local.simulator.profiles import Profile, Profiles
from infra.local.simulator.wires import anthropic, embeddings, gemini, generation, openai

PROFILES = Profiles.load()
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"name": "t", "input_schema": {"type": "object"}}
FUNCTION = {"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}
PNG = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}


def profile(publisher: str, model: str) -> Profile:
    found = PROFILES.model(publisher, model)
    assert found is not None
    return found


def attempt(wire: Wire[Any], body: Any, model: Profile) -> None:
    inquiry = wire.read(body, model)
    wire.check(model, inquiry.ask, measure(inquiry.ask, model))


def refusal(wire: Wire[Any], body: Any, model: Profile) -> Problem:
    with pytest.raises(Problem) as caught:
        attempt(wire, body, model)
    return caught.value


def messages(**fields: Any) -> dict[str, Any]:
    return {"anthropic_version": "vertex-2023-10-16", "max_tokens": 3_000, "messages": HELLO, **fields}


def block(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [fields]}]


CLAUDE_REFUSALS: list[tuple[Any, str]] = [
    ([], "valid dictionary"),
    (messages(model="claude"), "model: Extra inputs are not permitted"),
    (messages(n=2), "n: Extra inputs are not permitted"),
    ({**messages(), "anthropic_version": None}, "anthropic_version: Field required"),
    (messages(anthropic_version="2023-06-01"), "anthropic_version"),
    (messages(messages=[]), "at least one message is required"),
    (messages(messages=None), "messages: Field required"),
    (messages(max_tokens=None), "max_tokens: Field required"),
    (messages(max_tokens=0), "greater than or equal to 1"),
    (messages(max_tokens=200_000), "max_tokens: 200000 > 128000, which is the maximum allowed"),
    (messages(messages=[{"role": "system", "content": "x"}]), r"messages\.0\.role"),
    (messages(messages=[{"role": "user", "content": ""}]), "non-empty content"),
    (messages(messages=[{"role": "user", "content": 5}]), "valid list"),
    (messages(messages=block(type="audio")), "Input tag 'audio'"),
    (messages(messages=block(type="text", text="")), "text content blocks must be non-empty"),
    (messages(messages=block(type="tool_result", tool_use_id="x")), "unexpected `tool_use_id`"),
    (messages(messages=block(type="image", source={"type": "url", "url": "https://x"})), "URL sources"),
    (messages(messages=block(type="image", source={**PNG, "data": "??"})), "invalid base64"),
    (messages(messages=block(type="image", source={**PNG, "media_type": "image/tiff"})), "'image/jpeg'"),
    (messages(messages=block(type="document", source=PNG)), "application/pdf"),
    (
        messages(messages=block(type="thinking", thinking="x", signature="Zm9yZ2Vk")),
        "Invalid `signature` in `thinking`",
    ),
    (messages(messages=[{"role": "user", "content": "x" * 4_400_000}]), "prompt is too long: 1100000 tokens > 1000000"),
    (messages(tools=[{"name": "t"}]), "input_schema: Field required"),
    (messages(tool_choice={"type": "any"}), "tool_choice may only be specified while providing tools"),
    (messages(tools=[TOOL], tool_choice={"type": "tool", "name": "u"}), "Tool 'u' not found"),
    (messages(tools=[TOOL], tool_choice={"type": "must"}), "tool_choice.type"),
    (messages(thinking={"type": "enabled"}), "budget_tokens: Field required"),
    (messages(thinking={"type": "enabled", "budget_tokens": 10}), "greater than or equal to 1024"),
    (messages(thinking={"type": "enabled", "budget_tokens": 3_000}), "`max_tokens` must be greater than"),
    (
        messages(thinking={"type": "enabled", "budget_tokens": 2_000}, tools=[TOOL], tool_choice={"type": "any"}),
        "Thinking may not be enabled when tool_choice forces",
    ),
    (messages(thinking={"type": "enabled", "budget_tokens": 2_000}, temperature=0.2), "may only be set to 1"),
    (messages(output_config={"format": {"type": "json_schema"}}), "schema: Field required"),
    (messages(temperature=1.5), "temperature: range"),
    (messages(temperature=0.5), "temperature: claude-sonnet-5-5 only supports the default"),
    (messages(top_k=5), "top_k: claude-sonnet-5-5 only supports"),
]


@pytest.mark.parametrize(("body", "sentence"), CLAUDE_REFUSALS)
def test_claude_refuses(body: Any, sentence: str) -> None:
    problem = refusal(anthropic.WIRE, body, profile("anthropic", "claude-sonnet-5-5"))
    assert problem.status == 400
    error = orjson.loads(problem.anthropic_body())
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert re.search(sentence, error["error"]["message"])


CHAT_REFUSALS: list[tuple[Any, str]] = [
    ([], "JSON object"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, "at least one user message"),
    ({"messages": ["x"]}, r"messages\[0\] must be an object"),
    ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\]\.role"),
    ({"messages": [{"role": "user", "content": ""}]}, "must not be empty"),
    ({"messages": [{"role": "user", "content": 5}]}, r"messages\[0\]\.content"),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, r"content\[0\]\.type"),
    ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "does not answer any tool call"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"arguments": {}}}]}]},
        "must be a string",
    ),
    ({"messages": block(type="image_url", image_url={"url": "ftp://x"})}, "data: URI"),
    ({"messages": block(type="image_url", image_url={"url": "data:image/png;base64,?"})}, "invalid base64"),
    ({"messages": block(type="image_url", image_url={"url": "https://x/y.png"})}, "not a multimodal model"),
    ({"messages": HELLO, "n": 2}, "n: only 1"),
    ({"messages": HELLO, "max_tokens": 0}, "max_tokens must be at least 1"),
    ({"messages": HELLO, "max_tokens": 32_769}, "less than or equal to 32768"),
    ({"messages": HELLO, "max_completion_tokens": 200_000}, "maximum context length is 131072 tokens"),
    ({"messages": HELLO, "temperature": 3}, "temperature"),
    ({"messages": HELLO, "tools": [{"type": "function"}]}, r"tools\[0\]\.function\.name"),
    ({"messages": HELLO, "tool_choice": "maybe"}, "tool_choice"),
    ({"messages": HELLO, "tools": [FUNCTION], "tool_choice": {"function": {"name": "u"}}}, "no tool named 'u'"),
    ({"messages": HELLO, "response_format": {"type": "json_schema"}}, "json_schema.schema"),
    ({"messages": HELLO, "reasoning_effort": "extreme"}, "reasoning_effort"),
]


@pytest.mark.parametrize(("body", "sentence"), CHAT_REFUSALS)
def test_chat_servers_refuse(body: Any, sentence: str) -> None:
    problem = refusal(openai.MAAS, body, profile("openai", "openai/gpt-oss-120b-maas"))
    error = orjson.loads(problem.google_list_body())[0]["error"]
    assert (problem.status, error["status"]) == (400, "INVALID_ARGUMENT")
    assert re.search(sentence, error["message"])
    assert orjson.loads(problem.openai_body())["error"]["type"] == "BadRequestError"


def test_mistral_refuses_keys_and_call_ids_that_are_not_its_own() -> None:
    model = profile("mistralai", "mistral-medium-3")
    problem = refusal(openai.SERVER, {"messages": HELLO, "stream_options": {}}, model)
    assert (problem.status, problem.message) == (422, "Extra inputs are not permitted: body.stream_options")
    call = {"id": "call_too_long", "function": {"name": "t", "arguments": "{}"}}
    problem = refusal(openai.SERVER, {"messages": [*HELLO, {"role": "assistant", "tool_calls": [call]}]}, model)
    assert "length of 9" in problem.message


def gemini_body(*contents: Any, **fields: Any) -> dict[str, Any]:
    return {"contents": contents or [{"role": "user", "parts": [{"text": "hello"}]}], **fields}


CALL_TURN = {"role": "model", "parts": [{"functionCall": {"name": "t", "args": {}}}]}
RESULT_TURN = {"role": "user", "parts": [{"functionResponse": {"name": "t", "response": {}}}]}
GEMINI_REFUSALS: list[tuple[Any, str]] = [
    ({"contents": []}, "at least one contents field"),
    (gemini_body({"role": "robot", "parts": [{"text": "x"}]}), "valid role"),
    (gemini_body({"role": "user", "parts": []}), "must have a text parameter"),
    (gemini_body({"role": "user", "parts": [{}]}), "must have a text parameter"),
    (gemini_body(generationConfig={"maxOutputTokens": 65_537}), "maxOutputTokens value of 65537 .* 65537 .exclusive"),
    (gemini_body(generationConfig={"maxOutputTokens": 0}), "maxOutputTokens value of 0"),
    (gemini_body(generationConfig={"temperature": 3}), "temperature value of 3"),
    (gemini_body(generationConfig={"candidateCount": 2}), "Multiple candidates"),
    (gemini_body(generationConfig={"responseSchema": {"type": "STRING"}}), "responseSchema"),
    (gemini_body({"role": "user", "parts": [{"text": "x" * 4_194_308}]}), r"input token count \(1048577\) exceeds"),
    (gemini_body(unknownField=1), "Invalid JSON payload"),
    (gemini_body({"role": "user", "parts": [{"text": "go"}]}, CALL_TURN, RESULT_TURN), "missing a thought_signature"),
]


@pytest.mark.parametrize(("body", "sentence"), GEMINI_REFUSALS)
def test_gemini_refuses(body: Any, sentence: str) -> None:
    problem = refusal(gemini.REST_SSE, body, profile("google", "gemini-3.8-flash"))
    error = orjson.loads(problem.google_body())["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert re.search(sentence, error["message"])


def test_gemini_wants_signatures_of_the_current_turn_only() -> None:
    model = profile("google", "gemini-3.8-flash")
    said = {"role": "user", "parts": [{"text": "go"}]}

    def signed(value: bytes) -> dict[str, Any]:
        request = gemini.from_json(gemini_body(said, CALL_TURN, RESULT_TURN))
        request.contents[1].parts[0].thought_signature = value
        return request

    assert gemini.WIRE.read(signed(b"skip_thought_signature_validator"), model)
    with pytest.raises(Problem, match="Thought signature is not valid"):
        gemini.WIRE.read(signed(b"forged"), model)
    earlier = gemini_body(said, CALL_TURN, RESULT_TURN, {"role": "model", "parts": [{"text": "done"}]}, said)
    assert gemini.REST_SSE.read(earlier, model)
    assert gemini.REST_SSE.read(gemini_body(said, CALL_TURN, RESULT_TURN), profile("google", "gemini-embedding-001"))


@pytest.mark.parametrize(
    ("wire", "body", "status", "sentence"),
    [
        (generation.TGI, {}, 422, "`inputs` cannot be empty"),
        (generation.TGI, {"inputs": "x", "parameters": []}, 400, "parameters must be an object"),
        (generation.TGI, {"inputs": "x", "parameters": {"temperature": 0}}, 422, "strictly positive"),
        (generation.TGI, {"inputs": "x", "parameters": {"max_new_tokens": 0}}, 422, "`max_new_tokens`"),
        (generation.TGI, {"inputs": "x", "parameters": {"stop": list("abcde")}}, 422, "up to 4 stop sequences"),
        (generation.TGI, {"inputs": "x", "parameters": {"max_new_tokens": 131_072}}, 422, "must be <= 131072"),
        (generation.VLLM, {"instances": []}, 400, "exactly one object"),
        (generation.VLLM, {"instances": [{"max_tokens": 5}]}, 400, "prompt: field required"),
        (generation.VLLM, {"instances": [{"prompt": "x" * 600_000}]}, 400, "maximum context length"),
        (generation.PREDICT, {"instances": [{"question": "x"}]}, 400, r"instances\[0\] must have one of prompt"),
        (generation.RAW, [], 400, "JSON object"),
        (generation.RAW, {"question": "x"}, 400, "body must have one of prompt"),
    ],
)
def test_endpoint_containers_refuse(wire: Wire[Any], body: Any, status: int, sentence: str) -> None:
    problem = refusal(wire, body, PROFILES.fallback_profile("1"))
    assert problem.status == status
    assert re.search(sentence, problem.message)
    assert orjson.loads(problem.tgi_body()).keys() == {"error", "error_type"}


@pytest.mark.parametrize(
    ("instances", "parameters", "sentence"),
    [
        ([], None, "0 instance"),
        ([{"content": ""}], None, r"instances\[0\]\.content"),
        ([{"content": "x"}], {"outputDimensionality": 769}, "from 1 to 768"),
        ([{"content": "x"}] * 251, None, "max is 250"),
        ([{"content": "x" * 8_000}] * 11, None, "supports up to 20000"),
        ([{"content": "x" * 9_000}], {"autoTruncate": False}, "2250 but the model supports up to 2048"),
    ],
)
def test_embedding_models_refuse(instances: list[Any], parameters: Any, sentence: str) -> None:
    model = profile("google", "text-embedding-005")
    with pytest.raises(Problem, match=sentence):
        embeddings.compute(embeddings.read_predict(instances, parameters, model), model)


def test_gemini_embedding_takes_one_text_a_request() -> None:
    with pytest.raises(Problem, match="Max allowed instances is 1"):
        embeddings.read_predict([{"content": "a"}, {"content": "b"}], None, profile("google", "gemini-embedding-001"))


@pytest.mark.parametrize(
    ("body", "wire"),
    [
        ({"inputs": "x"}, "tgi"),
        ({"messages": []}, "openai"),
        ({"prompt": "x"}, "raw"),
        ({"instances": [{"prompt": "x", "raw_response": True}]}, "vllm"),
        ({"instances": [{"text": "x"}]}, "predict"),
    ],
)
def test_an_unlisted_endpoint_speaks_what_the_body_looks_like(body: Any, wire: str) -> None:
    found, _ = raw.resolve(Engine(PROFILES, seed=7), Target("p", "r", endpoint="77"), body)
    assert found.name == wire


@pytest.mark.parametrize("body", [{}, [], {"x": 1}])
def test_a_body_that_looks_like_nothing_is_refused(body: Any) -> None:
    with pytest.raises(Problem, match="the endpoint's format is not known"):
        raw.resolve(Engine(PROFILES, seed=7), Target("p", "r", endpoint="77"), body)


@pytest.mark.parametrize("name", ["", "projects/p", "projects/p/locations/r/endpoints/1/x", "models/gemini"])
def test_resource_names_are_checked(name: str) -> None:
    with pytest.raises(Problem, match="Invalid resource name"):
        Target.parse(name)


@pytest.mark.parametrize("wire", [anthropic.WIRE, openai.MAAS, gemini.REST_SSE])
@pytest.mark.parametrize(
    "body", [{"messages": [{"role": "user", "content": [5]}], "contents": 7}, {"messages": 3}, "x"]
)
def test_no_shape_of_body_is_an_internal_error(wire: Wire[Any], body: Any) -> None:
    engine = Engine(PROFILES, seed=7)
    with pytest.raises(Problem) as caught, engine.call("m", Target("p", "r")) as call:
        engine.prepare(call, wire, profile("google", "gemini-3.8-flash"), body)
    assert caught.value.status == 400
