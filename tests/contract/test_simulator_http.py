"""The simulator's HTTP surface as an HTTP client meets it: every path, plain and streamed."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest

from tests.contract.simulator_process import PARENT, Simulated, chat, claude, contents, events, running, user

BASE = f"/v1/{PARENT}"
MAAS = f"{BASE}/endpoints/openapi/chat/completions"
HAIKU = f"{BASE}/publishers/anthropic/models/claude-haiku-5-5"
FLASH = f"{BASE}/publishers/google/models/gemini-3.8-flash"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n pixel").decode()


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with running() as simulated:
        yield simulated


@pytest.fixture(scope="module")
async def session(simulated: Simulated) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulated.http, timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def post(session: aiohttp.ClientSession, path: str, body: Any, status: int = 200) -> Any:
    async with session.post(path, json=body) as answer:
        assert answer.status == status, await answer.text()
        assert answer.headers["x-simulator"] == "1"
        return await answer.json()


async def stream(session: aiohttp.ClientSession, path: str, body: Any) -> list[Any]:
    async with session.post(path, json=body) as answer:
        assert answer.status == 200
        assert answer.headers["x-simulator"] == "1"
        assert answer.content_type == "text/event-stream"
        return events(await answer.text())


# --- OpenAI-style MaaS ------------------------------------------------------------------------------------------------


async def test_chat_completion(session: aiohttp.ClientSession) -> None:
    answer = await post(session, MAAS, chat("What is a river?", max_tokens=500))
    choice = answer["choices"][0]
    assert answer["model"] == "openai/gpt-oss-120b-maas-simulated"
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].startswith("[simulated by openai/gpt-oss-120b-maas] ")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] == 4


async def test_chat_stream_folds_to_the_plain_answer(session: aiohttp.ClientSession) -> None:
    body = chat("What is a lake?")
    plain = await post(session, MAAS, body)
    chunks = await stream(session, MAAS, {**body, "stream": True, "stream_options": {"include_usage": True}})
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"] == plain["usage"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-2]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == plain["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-2] if chunk["choices"][0]["finish_reason"]] == [
        "stop"
    ]
    assert {chunk["id"] for chunk in chunks[:-1]} == {plain["id"]}
    without = await stream(session, MAAS, {**body, "stream": True})
    assert all("usage" not in chunk for chunk in without[:-1])


async def test_chat_tools_thinking_json_and_stops(session: aiohttp.ClientSession) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
    called = await post(session, MAAS, chat("call get_weather", tools=tools, reasoning_effort="low"))
    message = called["choices"][0]["message"]
    assert called["choices"][0]["finish_reason"] == "tool_calls"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"city": "simulated"}
    reasoning = called["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert 24 <= reasoning < called["usage"]["completion_tokens"]
    assert message["reasoning_content"].startswith("[simulated thoughts")
    turns = [
        *user("call get_weather"),
        message,
        {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"},
    ]
    after = await post(session, MAAS, {"model": "openai/gpt-oss-120b-maas", "messages": turns, "tools": tools})
    assert "The tool get_weather answered: sunny" in after["choices"][0]["message"]["content"]
    forced = await post(
        session, MAAS, chat(tools=tools, tool_choice={"type": "function", "function": {"name": "get_weather"}})
    )
    assert forced["choices"][0]["finish_reason"] == "tool_calls"
    form = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}
    shaped = await post(session, MAAS, chat(response_format=form))
    assert set(json.loads(shaped["choices"][0]["message"]["content"])) == {"city"}
    stopped = await post(session, MAAS, chat("river", stop=["asked"]))
    assert stopped["choices"][0]["message"]["content"] == "[simulated by openai/gpt-oss-120b-maas] You "


async def test_streamed_tool_calls_come_in_fragments(session: aiohttp.ClientSession) -> None:
    schema = {"type": "object", "properties": {n: {"type": "string"} for n in "abcd"}, "required": list("abcd")}
    tools = [{"type": "function", "function": {"name": "fill", "parameters": schema}}]
    chunks = await stream(session, MAAS, chat("call fill", tools=tools, stream=True))
    fragments = [
        call for chunk in chunks[:-1] for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())
    ]
    assert fragments[0]["function"] == {"name": "fill", "arguments": ""}
    assert len(fragments) > 2
    assert set(json.loads("".join(call["function"]["arguments"] for call in fragments))) == set("abcd")


async def test_images_by_modality(session: aiohttp.ClientSession) -> None:
    parts = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    body = {"messages": [{"role": "user", "content": parts}]}
    maverick = "meta/llama-4-maverick-17b-128e-instruct-maas"
    seen = await post(session, MAAS, {**body, "model": maverick})
    assert "Received 1 attachment(s): image/png." in seen["choices"][0]["message"]["content"]
    blind = await post(session, MAAS, {**body, "model": "openai/gpt-oss-120b-maas"}, 400)
    assert "image input is not supported" in blind[0]["error"]["message"]


async def test_unknown_models_and_paths(session: aiohttp.ClientSession) -> None:
    for model in ("openai/gpt-99-maas", "google/gemini-9"):
        problem = await post(session, MAAS, chat(model=model), 404)
        assert problem[0]["error"]["status"] == "NOT_FOUND"
    assert (await post(session, MAAS, chat(model="gpt"), 400))[0]["error"]["status"] == "INVALID_ARGUMENT"
    assert (await post(session, f"{BASE}/endpoints/openapi/nonsense", {}, 404))["error"]["code"] == 404
    assert (await post(session, "/v2/projects", {}, 404))["error"]["code"] == 404
    async with session.post(MAAS, data=b"{broken") as answer:
        assert answer.status == 400
        assert "Invalid JSON payload" in await answer.text()


async def test_openapi_embeddings(session: aiohttp.ClientSession) -> None:
    path = f"{BASE}/endpoints/openapi/embeddings"
    body = {
        "model": "google/text-embedding-005",
        "input": ["reset my password", "password reset", "sea"],
        "dimensions": 128,
    }
    answer = await post(session, path, body)
    vectors = np.array([row["embedding"] for row in answer["data"]])
    assert vectors.shape == (3, 128)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    packed = await post(session, path, {**body, "encoding_format": "base64"})
    decoded = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert np.allclose(decoded, vectors[0], atol=1e-6)
    wrong = await post(session, path, {"model": "google/gemini-3.8-flash", "input": "x"}, 400)
    assert "not an embedding model" in wrong["error"]["message"]


# --- publishers over REST ---------------------------------------------------------------------------------------------


async def test_claude_plain_and_stream_agree(session: aiohttp.ClientSession) -> None:
    body = claude("hello there", thinking={"type": "enabled", "budget_tokens": 1_024})
    plain = await post(session, f"{HAIKU}:rawPredict", body)
    assert plain["model"] == "claude-haiku-5-5-simulated"
    assert [part["type"] for part in plain["content"]] == ["thinking", "text"]
    streamed = await stream(session, f"{HAIKU}:streamRawPredict", {**body, "stream": True})
    kinds = [event["type"] for event in streamed]
    assert kinds[:2] == ["message_start", "ping"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    deltas = [event["delta"] for event in streamed if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == plain["content"][0]["thinking"]
    assert "".join(delta.get("signature", "") for delta in deltas) == plain["content"][0]["signature"]
    assert "".join(delta.get("text", "") for delta in deltas) == plain["content"][1]["text"]
    assert streamed[-2]["usage"] == plain["usage"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2


async def test_claude_hides_thinking_unless_asked(session: aiohttp.ClientSession) -> None:
    hidden = await post(session, f"{HAIKU}:rawPredict", claude(thinking={"type": "adaptive"}))
    assert hidden["content"][0]["thinking"] == ""
    assert hidden["content"][0]["signature"]
    shown = await post(session, f"{HAIKU}:rawPredict", claude(thinking={"type": "adaptive", "display": "summarized"}))
    assert shown["content"][0]["thinking"].startswith("[simulated thoughts of claude-haiku-5-5]")
    off = await post(session, f"{HAIKU}:rawPredict", claude(thinking={"type": "disabled"}))
    assert [part["type"] for part in off["content"]] == ["text"]


async def test_claude_tools_go_round_with_their_thinking(session: aiohttp.ClientSession) -> None:
    tools = [{"name": "get_weather", "input_schema": WEATHER}]
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    asked = claude("use get_weather", tools=tools, thinking=thinking)
    called = await post(session, f"{HAIKU}:rawPredict", asked)
    use = called["content"][-1]
    assert (called["stop_reason"], use["type"], use["input"]) == ("tool_use", "tool_use", {"city": "simulated"})
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "sunny"}]}

    def again(parts: list[Any]) -> dict[str, Any]:
        return {**asked, "messages": [*asked["messages"], {"role": "assistant", "content": parts}, result]}

    after = await post(session, f"{HAIKU}:rawPredict", again(called["content"]))
    assert "The tool get_weather answered: sunny" in after["content"][-1]["text"]
    problem = await post(session, f"{HAIKU}:rawPredict", again([use]), 400)
    assert "Expected `thinking` or `redacted_thinking`, but found `tool_use`" in problem["error"]["message"]


async def test_claude_cache_tokens_stand_beside_the_input(simulated: Simulated, session: aiohttp.ClientSession) -> None:
    simulated.control("DELETE", "cache")
    system = [{"type": "text", "text": "rivers " * 1_000, "cache_control": {"type": "ephemeral"}}]
    first = (await post(session, f"{HAIKU}:rawPredict", claude("hi", system=system)))["usage"]
    again = (await post(session, f"{HAIKU}:rawPredict", claude("hi", system=system)))["usage"]
    assert (first["cache_creation_input_tokens"], first["cache_read_input_tokens"], first["input_tokens"]) == (
        1750,
        0,
        1,
    )
    assert (again["cache_creation_input_tokens"], again["cache_read_input_tokens"], again["input_tokens"]) == (
        0,
        1750,
        1,
    )
    assert first["output_tokens"] == again["output_tokens"]
    hour = [{**system[0], "text": "lakes " * 1_000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    long = (await post(session, f"{HAIKU}:rawPredict", claude("hi", system=hour)))["usage"]
    assert long["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1500}


async def test_claude_documents_versions_and_structured_output(session: aiohttp.ClientSession) -> None:
    pdf = base64.b64encode(b"%PDF-1.4 /Type /Page /Type /Page").decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": pdf}
    parts = [{"type": "document", "source": source}, {"type": "text", "text": "read"}]
    body = claude()
    body["messages"] = [{"role": "user", "content": parts}]
    answer = await post(session, f"{HAIKU}%40default:rawPredict", body)
    assert answer["usage"]["input_tokens"] == 2 * 1_500 + 1
    shaped = claude(output_config={"format": {"type": "json_schema", "schema": WEATHER}})
    path = f"{BASE}/publishers/anthropic/models/claude-haiku-4-5@20251001:rawPredict"
    assert set(json.loads((await post(session, path, shaped))["content"][0]["text"])) == {"city"}
    missing = await post(session, f"{BASE}/publishers/anthropic/models/claude-2:rawPredict", claude(), 404)
    assert missing["error"]["status"] == "NOT_FOUND"


async def test_claude_counts_tokens_outside_global(session: aiohttp.ClientSession) -> None:
    body = {"model": "claude-haiku-5-5", "messages": user("x" * 40)}
    path = "publishers/anthropic/models/count-tokens:rawPredict"
    assert await post(session, f"{BASE}/{path}", body) == {"input_tokens": 10}
    assert "global" in (await post(session, f"/v1/projects/p/locations/global/{path}", body, 400))["error"]["message"]
    assert "model: Field required" in (await post(session, f"{BASE}/{path}", {}, 400))["error"]["message"]


async def test_gemini_plain_sse_and_array_agree(session: aiohttp.ClientSession) -> None:
    body = contents("What is a sea?", thinkingConfig={"includeThoughts": True, "thinkingBudget": 200})
    plain = await post(session, f"{FLASH}:generateContent", body)
    thought, text = plain["candidates"][0]["content"]["parts"]
    assert thought["thought"]
    assert text["thoughtSignature"]
    usage = plain["usageMetadata"]
    assert usage["totalTokenCount"] == sum(usage[f"{n}TokenCount"] for n in ("prompt", "candidates", "thoughts"))
    assert plain["modelVersion"] == "gemini-3.8-flash-simulated"
    sse = await stream(session, f"{FLASH}:streamGenerateContent?alt=sse", body)
    async with session.post(f"{FLASH}:streamGenerateContent", json=body) as answer:
        array = await answer.json()
    for messages in (sse, array):
        parts = [part for message in messages for part in message["candidates"][0]["content"]["parts"]]
        assert "".join(part["text"] for part in parts if not part.get("thought")) == text["text"]
        assert "".join(part["text"] for part in parts if part.get("thought")) == thought["text"]
        assert messages[-1]["candidates"][0]["finishReason"] == "STOP"
        assert messages[-1]["usageMetadata"] == usage
        assert all("finishReason" not in message["candidates"][0] for message in messages[:-1])


async def test_gemini_counts_tokens_and_refuses_unknown_verbs(session: aiohttp.ClientSession) -> None:
    counted = await post(session, f"{FLASH}:countTokens", {"contents": contents("x" * 41)["contents"]})
    assert counted["totalTokens"] == 11
    assert counted["promptTokensDetails"] == [{"modality": "TEXT", "tokenCount": 11}]
    assert (await post(session, f"{FLASH}:levitate", {}, 404))["error"]["code"] == 404
    assert (await post(session, f"{HAIKU}:generateContent", contents(), 400))["error"]["code"] == 400
    assert (await post(session, f"{FLASH}:rawPredict", {}, 400))["error"]["code"] == 400


async def test_embeddings_by_predict(session: aiohttp.ClientSession) -> None:
    path = f"{BASE}/publishers/google/models/gemini-embedding-001:predict"
    answer = await post(session, path, {"instances": [{"content": "hello", "task_type": "RETRIEVAL_QUERY"}]})
    embedding = answer["predictions"][0]["embeddings"]
    assert len(embedding["values"]) == 3072
    assert embedding["statistics"] == {"truncated": False, "token_count": 2}


async def test_mistral_by_raw_predict(session: aiohttp.ClientSession) -> None:
    path = f"{BASE}/publishers/mistralai/models/mistral-medium-3"
    body = {"model": "mistral-medium-3", "messages": user("bonjour")}
    plain = await post(session, f"{path}:rawPredict", body)
    chunks = await stream(session, f"{path}:streamRawPredict", {**body, "stream": True})
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1] if c["choices"])
    assert text == plain["choices"][0]["message"]["content"]
    assert chunks[-2]["usage"] == plain["usage"]


# --- deployed endpoints -----------------------------------------------------------------------------------------------


async def test_tgi(session: aiohttp.ClientSession) -> None:
    path = f"{BASE}/endpoints/1001"
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 30, "details": True, "stop": ["asked"]}}
    plain = (await post(session, f"{path}:rawPredict", body))[0]
    assert plain["generated_text"] == "[simulated by endpoint-1001] You asked"
    assert plain["details"]["finish_reason"] == "stop_sequence"
    tokens = await stream(session, f"{path}:streamRawPredict", {**body, "stream": True})
    assert (
        "".join(event["token"]["text"] for event in tokens) == tokens[-1]["generated_text"] == plain["generated_text"]
    )
    assert tokens[-1]["details"]["generated_tokens"] == plain["details"]["generated_tokens"]
    full = {"inputs": "hello", "parameters": {"return_full_text": True}}
    assert (await post(session, f"{path}:rawPredict", full))[0]["generated_text"].startswith("hello[simulated by")
    refused = await post(session, f"{path}:rawPredict", {"inputs": ""}, 422)
    assert refused["error_type"] == "validation"


async def test_vllm_by_predict_in_both_formats(session: aiohttp.ClientSession) -> None:
    path = f"{BASE}/endpoints/1002:predict"
    wrapped = await post(session, path, {"instances": [{"prompt": "hello", "max_tokens": 12}]})
    raw = await post(session, path, {"instances": [{"prompt": "hello", "max_tokens": 12, "raw_response": True}]})
    assert wrapped["predictions"] == [f"Prompt:\nhello\nOutput:\n{raw['predictions'][0]}"]
    instance = {"@requestFormat": "chatCompletions", "messages": user("hello"), "max_tokens": 12}
    chatted = await post(session, path, {"instances": [instance]})
    assert chatted["predictions"]["usage"]["completion_tokens"] == 12


async def test_chat_endpoints(session: aiohttp.ClientSession) -> None:
    body = {"messages": user("hello")}
    plain = await post(session, f"{BASE}/endpoints/1003/chat/completions", body)
    raw = await post(session, f"{BASE}/endpoints/1003:rawPredict", body)
    assert plain["choices"] == raw["choices"]
    chunks = await stream(session, f"{BASE}/endpoints/1003/chat/completions", {**body, "stream": True})
    assert chunks[-1] == "[DONE]"
    refused = await post(session, f"{BASE}/endpoints/1003/chat/completions", {"messages": []}, 400)
    assert refused["error"]["type"] == "BadRequestError"
    assert (
        "no chat/completions route"
        in (await post(session, f"{BASE}/endpoints/1001/chat/completions", body, 404))["error"]["message"]
    )
    assert (await post(session, f"{BASE}/endpoints/4242/chat/completions", body))["model"] == "endpoint-4242-simulated"


async def test_custom_endpoints(session: aiohttp.ClientSession) -> None:
    instance = {"prompt": "hello", "max_tokens": 9}
    predicted = await post(
        session, f"{BASE}/endpoints/1004:predict", {"instances": [instance], "parameters": {"stop": "x"}}
    )
    answer = predicted["predictions"][0]
    assert (answer["stop_reason"], answer["usage"]) == ("length", {"in": 2, "out": 9})
    raw = await post(session, f"{BASE}/endpoints/1005:rawPredict", {"messages": user("hello")})
    assert raw["content"].startswith("[simulated by endpoint-1005] ")
    assert raw["stop_reason"] == "stop"
    pieces = await stream(
        session, f"{BASE}/endpoints/1005:streamRawPredict", {"messages": user("hello"), "stream": True}
    )
    assert pieces[-1]["usage"]["out"] > 0
    assert "content" not in pieces[-1]


# --- control ----------------------------------------------------------------------------------------------------------


async def test_calls_hold_sizes_and_digests_but_no_content(
    simulated: Simulated, session: aiohttp.ClientSession
) -> None:
    simulated.control("DELETE", "calls")
    secret = "the-secret-word"
    async with session.post(MAAS, json=chat(secret), headers={"traceparent": "00-1-2-01"}) as answer:
        await answer.read()
    await post(session, f"{BASE}/endpoints/1001:rawPredict", {"inputs": secret})
    calls = simulated.control("GET", "calls")["calls"]
    assert [call["method"] for call in calls] == ["openapi/chat/completions", "rawPredict"]
    assert calls[0]["model"] == "openai/gpt-oss-120b-maas"
    assert (calls[0]["region"], calls[0]["status"], calls[0]["stream"]) == ("us-central1", "ok", False)
    assert calls[0]["traceparent"] == "00-1-2-01"
    assert calls[1]["endpoint"] == "1001"
    assert len(calls[0]["content_sha256"]) == 64
    assert calls[0]["output_tokens"] > 0
    assert secret not in json.dumps(calls)
    assert simulated.control("DELETE", "calls") == {"calls": []}


async def test_profiles_are_changed_and_restored(simulated: Simulated, session: aiohttp.ClientSession) -> None:
    path = f"{BASE}/publishers/google/models/gemini-9:generateContent"
    await post(session, path, contents(), 404)
    changed = simulated.control("PUT", "profiles", {"models": {"gemini-9": {"answer_tokens": 20}}})
    assert changed["models"]["gemini-9"] == {"answer_tokens": 20}
    assert (await post(session, path, contents()))["modelVersion"] == "gemini-9-simulated"
    restored = simulated.control("DELETE", "profiles")
    assert "gemini-9" not in restored["models"]
    assert restored["time_scale"] == 0
    await post(session, path, contents(), 404)


@pytest.mark.parametrize(
    ("method", "page", "body", "status"),
    [
        ("GET", "nonsense", b"", 404),
        ("POST", "faults", b"{}", 405),
        ("PUT", "faults", b"{", 400),
        ("PUT", "faults", b'{"rules": []}', 400),
        ("PUT", "faults", b'[{"fault": "nonsense"}]', 400),
        ("PUT", "profiles", b"[]", 400),
        ("PUT", "profiles", b'{"time_scale": -1}', 400),
        ("GET", "calls?last=x", b"", 400),
        ("PUT", "calls", b"", 405),
        ("PUT", "health", b"", 405),
        ("GET", "cache", b"", 405),
    ],
)
async def test_control_refuses(
    session: aiohttp.ClientSession, method: str, page: str, body: bytes, status: int
) -> None:
    async with session.request(method, f"/_sim/{page}", data=body) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]


async def test_health_tells_what_this_is(simulated: Simulated) -> None:
    health = simulated.control("GET", "health")
    assert (health["status"], health["simulator"], health["seed"], health["time_scale"]) == ("ok", True, 7, 0)
    assert "anthropic/claude-opus-5-5" in health["models"]
