"""The simulator's gRPC surface as Google's own asynchronous client meets it."""

import json
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import numpy as np
import pytest
from google.api import httpbody_pb2
from google.api_core import exceptions
from google.protobuf import json_format, struct_pb2

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library's own import warns of is not under test
    from google.cloud import aiplatform_v1 as v1
    from google.cloud.aiplatform_v1.services.llm_utility_service.transports import LlmUtilityServiceGrpcAsyncIOTransport
    from google.cloud.aiplatform_v1.services.prediction_service.transports import PredictionServiceGrpcAsyncIOTransport

from tests.contract.simulator_process import PARENT, Simulated, chat, claude, events, running, user

TIMEOUT_S = 20
FLASH = f"{PARENT}/publishers/google/models/gemini-3.8-flash"
HAIKU = f"{PARENT}/publishers/anthropic/models/claude-haiku-5-5"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = v1.Tool(
    function_declarations=[
        {"name": "get_weather", "parameters_json_schema": json_format.ParseDict(CITY, struct_pb2.Value())}
    ]
)


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with running() as simulated:
        yield simulated


@pytest.fixture(scope="module")
async def channel(simulated: Simulated) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(simulated.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
async def client(channel: grpc.aio.Channel) -> Any:
    return v1.PredictionServiceAsyncClient(transport=PredictionServiceGrpcAsyncIOTransport(channel=channel))


@pytest.fixture(scope="module")
async def utility(channel: grpc.aio.Channel) -> Any:
    return v1.LlmUtilityServiceAsyncClient(transport=LlmUtilityServiceGrpcAsyncIOTransport(channel=channel))


def generate(text: str = "hello", **fields: Any) -> v1.GenerateContentRequest:
    return v1.GenerateContentRequest(model=FLASH, contents=[{"role": "user", "parts": [{"text": text}]}], **fields)


def body(document: Any) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(document).encode())


def value(document: Any) -> struct_pb2.Value:
    return json_format.ParseDict(document, struct_pb2.Value())


def predicting(endpoint: str, instances: list[Any], parameters: Any = None) -> v1.PredictRequest:
    """Built as a plain message: the wrapper's constructor takes no list of Values with protobuf 7."""
    message = v1.PredictRequest.pb()(endpoint=endpoint, instances=[value(instance) for instance in instances])
    if parameters is not None:
        message.parameters.CopyFrom(value(parameters))
    return v1.PredictRequest.wrap(message)


async def test_generate_content(client: Any) -> None:
    answer = await client.generate_content(generate("What is a sea?"), timeout=TIMEOUT_S)
    candidate = answer.candidates[0]
    assert candidate.finish_reason == v1.Candidate.FinishReason.STOP
    assert candidate.content.parts[0].text.startswith("[simulated by gemini-3.8-flash] ")
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.thoughts_token_count) == (4, 0)
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count
    assert answer.model_version == "gemini-3.8-flash-simulated"
    again = await client.generate_content(generate("What is a sea?"), timeout=TIMEOUT_S)
    assert (again.response_id, again.candidates) == (answer.response_id, answer.candidates)


async def test_every_answer_says_simulator(client: Any) -> None:
    call = client.transport.generate_content(generate())
    assert ("x-simulator", "1") in [(key, found) for key, found in await call.trailing_metadata()]


async def test_stream_folds_to_the_plain_answer(client: Any) -> None:
    request = generate(
        "What is a lake?", generation_config={"thinking_config": {"thinking_level": "LOW", "include_thoughts": True}}
    )
    plain = await client.generate_content(request, timeout=TIMEOUT_S)
    thought, text = plain.candidates[0].content.parts
    assert thought.thought
    assert text.thought_signature
    chunks = [chunk async for chunk in await client.stream_generate_content(request, timeout=TIMEOUT_S)]
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert "".join(part.text for part in parts if part.thought) == thought.text
    assert "".join(part.text for part in parts if not part.thought) == text.text
    assert [part.thought_signature for part in parts if part.thought_signature] == [text.thought_signature]
    assert [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates[0].finish_reason] == [
        v1.Candidate.FinishReason.STOP
    ]
    assert chunks[-1].usage_metadata == plain.usage_metadata
    assert 24 <= plain.usage_metadata.thoughts_token_count <= 1_024


async def test_limits_stops_and_system(client: Any) -> None:
    short = await client.generate_content(generate(generation_config={"max_output_tokens": 6}), timeout=TIMEOUT_S)
    assert short.candidates[0].finish_reason == v1.Candidate.FinishReason.MAX_TOKENS
    assert short.usage_metadata.candidates_token_count == 6
    stopped = await client.generate_content(
        generate(generation_config={"stop_sequences": ["asked"]}), timeout=TIMEOUT_S
    )
    assert stopped.candidates[0].content.parts[0].text.endswith("You ")
    system = {"parts": [{"text": "s" * 40}]}
    instructed = await client.generate_content(generate(system_instruction=system), timeout=TIMEOUT_S)
    assert instructed.usage_metadata.prompt_token_count == 12


async def test_tools_go_round_with_their_signature(client: Any) -> None:
    request = generate("call get_weather", tools=[WEATHER])
    called = await client.generate_content(request, timeout=TIMEOUT_S)
    content = called.candidates[0].content
    assert dict(content.parts[0].function_call.args) == {"city": "simulated"}
    assert content.parts[0].thought_signature
    result = {"role": "user", "parts": [{"function_response": {"name": "get_weather", "response": {"sky": "clear"}}}]}
    request.contents.append(content)
    request.contents.append(result)
    after = await client.generate_content(request, timeout=TIMEOUT_S)
    assert 'The tool get_weather answered: {"sky": "clear"}' in after.candidates[0].content.parts[0].text
    request.contents[1].parts[0].thought_signature = b""
    with pytest.raises(exceptions.InvalidArgument, match="missing a thought_signature in functionCall parts"):
        await client.generate_content(request, timeout=TIMEOUT_S)
    forced = generate(tools=[WEATHER], tool_config={"function_calling_config": {"mode": "ANY"}})
    chunks = [chunk async for chunk in await client.stream_generate_content(forced, timeout=TIMEOUT_S)]
    assert [chunk.candidates[0].content.parts[0].function_call.name for chunk in chunks] == ["get_weather"]


@pytest.mark.parametrize("field", ["response_json_schema", "response_schema"])
async def test_json_answers_obey_either_schema(client: Any, field: str) -> None:
    schema: Any = {"type_": "OBJECT", "properties": {"n": {"type_": "INTEGER", "minimum": 5}}, "required": ["n"]}
    if field == "response_json_schema":
        schema = value({"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}, "required": ["n"]})
    config = {"response_mime_type": "application/json", field: schema}
    answer = await client.generate_content(generate(generation_config=config), timeout=TIMEOUT_S)
    assert json.loads(answer.candidates[0].content.parts[0].text) == {"n": 5}


async def test_media_and_caches_are_counted(client: Any) -> None:
    request = generate("x" * 40, cached_content="projects/p/locations/l/cachedContents/1")
    request.contents[0].parts.append({"inline_data": {"mime_type": "image/png", "data": b"x"}})
    request.contents[0].parts.append({"file_data": {"mime_type": "audio/wav", "file_uri": "gs://b/o.wav"}})
    usage = (await client.generate_content(request, timeout=TIMEOUT_S)).usage_metadata
    assert usage.cached_content_token_count == 4_096
    assert usage.prompt_token_count == 4_096 + 10 + 258 + 32
    details = {detail.modality.name: detail.token_count for detail in usage.prompt_tokens_details}
    assert details == {"TEXT": 4_106, "IMAGE": 258, "AUDIO": 32}


async def test_count_tokens_agrees_with_the_bill(client: Any, utility: Any) -> None:
    request = generate("Count me, please.", tools=[WEATHER])
    billed = (await client.generate_content(request, timeout=TIMEOUT_S)).usage_metadata.prompt_token_count
    counted = await utility.count_tokens(
        v1.CountTokensRequest(endpoint=FLASH, model=FLASH, contents=request.contents, tools=request.tools),
        timeout=TIMEOUT_S,
    )
    assert counted.total_tokens == billed
    assert counted.total_billable_characters == len("Countme,please.")


async def test_claude_by_raw_predict_and_its_stream(client: Any) -> None:
    plain = await client.raw_predict(v1.RawPredictRequest(endpoint=HAIKU, http_body=body(claude())), timeout=TIMEOUT_S)
    message = json.loads(plain.data)
    assert plain.content_type == "application/json"
    request = v1.StreamRawPredictRequest(endpoint=HAIKU, http_body=body(claude(stream=True)))
    chunks = [chunk async for chunk in await client.stream_raw_predict(request, timeout=TIMEOUT_S)]
    assert len(chunks) > 3
    assert chunks[0].content_type.startswith("text/event-stream")
    sent = events(b"".join(chunk.data for chunk in chunks).decode())
    assert (
        "".join(e["delta"].get("text", "") for e in sent if e["type"] == "content_block_delta")
        == message["content"][0]["text"]
    )
    whole = v1.StreamRawPredictRequest(endpoint=HAIKU, http_body=body(claude()))
    single = [chunk async for chunk in await client.stream_raw_predict(whole, timeout=TIMEOUT_S)]
    assert [json.loads(chunk.data) for chunk in single] == [message]
    unstreamed = v1.RawPredictRequest(endpoint=HAIKU, http_body=body(claude(stream=True)))
    assert events((await client.raw_predict(unstreamed, timeout=TIMEOUT_S)).data.decode()) == sent


async def test_claude_counts_tokens(client: Any) -> None:
    endpoint = f"{PARENT}/publishers/anthropic/models/count-tokens"
    counted = await client.raw_predict(
        v1.RawPredictRequest(
            endpoint=endpoint, http_body=body({"model": "claude-haiku-5-5", "messages": user("x" * 8)})
        ),
        timeout=TIMEOUT_S,
    )
    assert json.loads(counted.data) == {"input_tokens": 2}


@pytest.mark.parametrize(
    ("target", "document", "where"),
    [
        (
            "publishers/mistralai/models/codestral-2",
            chat(model="codestral-2"),
            lambda a: a["choices"][0]["message"]["content"],
        ),
        ("endpoints/1001", {"inputs": "hello"}, lambda a: a[0]["generated_text"]),
        ("endpoints/1003", {"messages": user("hello")}, lambda a: a["choices"][0]["message"]["content"]),
        ("endpoints/1005", {"prompt": "hello"}, lambda a: a["content"]),
        ("endpoints/777", {"prompt": "hello"}, lambda a: a["content"]),
    ],
)
async def test_other_bodies_by_raw_predict(client: Any, target: str, document: Any, where: Any) -> None:
    request = v1.RawPredictRequest(endpoint=f"{PARENT}/{target}", http_body=body(document))
    answer = json.loads((await client.raw_predict(request, timeout=TIMEOUT_S)).data)
    assert where(answer).startswith("[simulated by ")


async def test_predict_on_endpoints(client: Any) -> None:
    async def predict(endpoint: str, instance: Any) -> Any:
        request = predicting(f"{PARENT}/endpoints/{endpoint}", [instance])
        answer = await client.predict(request, timeout=TIMEOUT_S)
        return [json_format.MessageToDict(item) for item in v1.PredictResponse.pb(answer).predictions]

    raw = await predict("1002", {"prompt": "hello", "max_tokens": 20, "raw_response": True})
    assert raw[0].startswith("[simulated by endpoint-1002]")
    instance = {"@requestFormat": "chatCompletions", "messages": user("hello"), "max_tokens": 20}
    assert (await predict("1002", instance))[0]["usage"]["completion_tokens"] == 20
    assert (await predict("1004", {"prompt": "hello", "max_tokens": 20}))[0]["usage"] == {"in": 2, "out": 20}


async def test_embeddings_by_both_methods(client: Any) -> None:
    model = f"{PARENT}/publishers/google/models"
    texts = [{"content": text} for text in ("reset my password", "password reset", "the sea")]
    request = predicting(f"{model}/text-embedding-005", texts, {"outputDimensionality": 256})
    answer = json_format.MessageToDict(v1.PredictResponse.pb(await client.predict(request, timeout=TIMEOUT_S)))
    vectors = np.array([item["embeddings"]["values"] for item in answer["predictions"]])
    assert vectors.shape == (3, 256)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    embedded = await client.embed_content(
        v1.EmbedContentRequest(
            model=f"{model}/text-embedding-005",
            content={"parts": [{"text": "reset my password"}]},
            embed_content_config={"output_dimensionality": 256},
        ),
        timeout=TIMEOUT_S,
    )
    assert np.allclose(embedded.embedding.values, vectors[0], atol=1e-6)
    assert embedded.usage_metadata.prompt_token_count == 5
    long = v1.EmbedContentRequest(
        model=f"{model}/gemini-embedding-001",
        content={"parts": [{"text": "x" * 9_000}]},
        embed_content_config={"auto_truncate": False},
    )
    with pytest.raises(exceptions.InvalidArgument, match="supports up to 2048"):
        await client.embed_content(long, timeout=TIMEOUT_S)
    long.embed_content_config.auto_truncate = True
    assert (await client.embed_content(long, timeout=TIMEOUT_S)).truncated


async def test_errors_have_google_s_codes_and_the_model_server_s_words(client: Any) -> None:
    missing = generate()
    missing.model = f"{PARENT}/publishers/google/models/gemini-9"
    with pytest.raises(exceptions.NotFound, match=r"Publisher Model .* was not found"):
        await client.generate_content(missing, timeout=TIMEOUT_S)
    missing.model = "gemini"
    with pytest.raises(exceptions.InvalidArgument, match="Invalid resource name"):
        await client.generate_content(missing, timeout=TIMEOUT_S)
    missing.model = HAIKU
    with pytest.raises(exceptions.InvalidArgument, match="not supported in the generateContent API"):
        await client.generate_content(missing, timeout=TIMEOUT_S)
    sonnet = f"{PARENT}/publishers/anthropic/models/claude-sonnet-5-5"
    with pytest.raises(exceptions.InvalidArgument) as refused:
        await client.raw_predict(
            v1.RawPredictRequest(endpoint=sonnet, http_body=body(claude(temperature=0.2))), timeout=TIMEOUT_S
        )
    error = json.loads(refused.value.message)["error"]
    assert error["type"] == "invalid_request_error"
    assert "temperature" in error["message"]
    broken = v1.RawPredictRequest(endpoint=HAIKU, http_body=httpbody_pb2.HttpBody(data=b"{"))
    with pytest.raises(exceptions.InvalidArgument, match="Invalid JSON payload"):
        await client.raw_predict(broken, timeout=TIMEOUT_S)
    with pytest.raises(exceptions.InvalidArgument, match="not supported in the predict API"):
        await client.predict(predicting(FLASH, [{"content": "x"}]), timeout=TIMEOUT_S)
