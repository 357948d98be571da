"""Every fault on every kind of wire, and what a client that leaves looks like from the inside."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.rpc import error_details_pb2, status_pb2

from infra.local.simulator import protos
from infra.local.simulator.faults import HEADER
from tests.contract.simulator_process import PARENT, Simulated, chat, claude, contents, events, running

BASE = f"/v1/{PARENT}"
MAAS = f"{BASE}/endpoints/openapi/chat/completions"
HAIKU = f"{PARENT}/publishers/anthropic/models/claude-haiku-5-5"
FLASH = f"{PARENT}/publishers/google/models/gemini-3.8-flash"
SERVICE = "/google.cloud.aiplatform.v1.PredictionService/"
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with running() as simulated:
        yield simulated


@pytest.fixture(autouse=True)
def _healed(simulated: Simulated) -> Iterator[None]:
    yield
    simulated.control("DELETE", "faults")


@pytest.fixture(scope="module")
async def session(simulated: Simulated) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulated.http, timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
        yield session


@pytest.fixture(scope="module")
async def channel(simulated: Simulated) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(simulated.grpc) as channel:
        yield channel


def fault(name: str, **fields: Any) -> str:
    return json.dumps({"fault": name, **fields})


async def maas(session: aiohttp.ClientSession, value: str, **fields: Any) -> tuple[int, Any, str]:
    async with session.post(MAAS, json=chat(**fields), headers={HEADER: value}) as answer:
        return answer.status, answer.headers, await answer.text()


def generate_request() -> Any:
    request = protos.GenerateContentRequest(model=FLASH)
    request.contents.add(role="user").parts.add(text="hello")
    return request


def generate(channel: grpc.aio.Channel, value: str, *, stream: bool = False) -> Any:
    method, open_call = (
        ("StreamGenerateContent", channel.unary_stream) if stream else ("GenerateContent", channel.unary_unary)
    )
    stub = open_call(
        SERVICE + method,
        request_serializer=protos.GenerateContentRequest.SerializeToString,
        response_deserializer=protos.GenerateContentResponse.FromString,
    )
    return stub(generate_request(), metadata=((HEADER, value),), timeout=DEADLINE_S)


def raw_predict(channel: grpc.aio.Channel, value: str, document: Any, *, stream: bool = False) -> Any:
    kind = protos.StreamRawPredictRequest if stream else protos.RawPredictRequest
    method, open_call = ("StreamRawPredict", channel.unary_stream) if stream else ("RawPredict", channel.unary_unary)
    stub = open_call(
        SERVICE + method, request_serializer=kind.SerializeToString, response_deserializer=HttpBody.FromString
    )
    request = kind(
        endpoint=HAIKU, http_body=HttpBody(content_type="application/json", data=json.dumps(document).encode())
    )
    return stub(request, metadata=((HEADER, value),), timeout=DEADLINE_S)


async def collected(call: Any) -> tuple[list[Any], grpc.aio.AioRpcError | None]:
    """The messages of a stream, and the error that ended it."""
    messages: list[Any] = []
    try:
        async for message in call:
            messages.append(message)  # noqa: PERF401 - what came before the error counts
    except grpc.aio.AioRpcError as error:
        return messages, error
    return messages, None


async def read_on(
    session: aiohttp.ClientSession, value: str, *, stream: bool = True, timeout_s: float = DEADLINE_S
) -> tuple[bytes, Exception | None]:
    """What came of an answer, and the error that ended it."""
    received = b""
    options: dict[str, Any] = {"headers": {HEADER: value}, "timeout": aiohttp.ClientTimeout(total=timeout_s)}
    try:
        async with session.post(MAAS, json=chat(stream=stream), **options) as answer:
            async for piece in answer.content.iter_any():
                received += piece
    except (aiohttp.ClientError, TimeoutError) as error:
        return received, error
    return received, None


REFUSALS = [
    ("rate_limit", 429, "RESOURCE_EXHAUSTED"),
    ("server_error", 500, "INTERNAL"),
    ("unavailable", 503, "UNAVAILABLE"),
    ("bad_request", 400, "INVALID_ARGUMENT"),
    ("forbidden", 403, "PERMISSION_DENIED"),
    ("unauthenticated", 401, "UNAUTHENTICATED"),
    ("not_found", 404, "NOT_FOUND"),
    ("overloaded", 529, "UNAVAILABLE"),
    ("deadline", 504, "DEADLINE_EXCEEDED"),
]


@pytest.mark.parametrize(("name", "status", "code"), REFUSALS)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals(
    session: aiohttp.ClientSession, channel: grpc.aio.Channel, name: str, status: int, code: str, stream: bool
) -> None:
    found, _, text = await maas(session, name, stream=stream)
    assert found == status
    assert json.loads(text)[0]["error"]["status"] == code
    call = generate(channel, name, stream=stream)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read() if stream else await call
    assert caught.value.code().name == code
    assert ("x-simulator", "1") in list(caught.value.trailing_metadata())


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("bad_request", 400, "invalid_request_error"),
        ("server_error", 500, "api_error"),
        ("overloaded", 529, "overloaded_error"),
    ],
)
async def test_claude_s_own_errors(
    session: aiohttp.ClientSession, channel: grpc.aio.Channel, name: str, status: int, kind: str
) -> None:
    async with session.post(f"/v1/{HAIKU}:rawPredict", json=claude(), headers={HEADER: name}) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["type"] == kind
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw_predict(channel, name, claude())
    assert json.loads(caught.value.details() or "")["error"]["type"] == kind


async def test_claude_s_quota_is_google_s_unless_told_otherwise(session: aiohttp.ClientSession) -> None:
    for value, shape in (("rate_limit", {"error"}), (fault("rate_limit", by="model"), {"type", "error"})):
        async with session.post(f"/v1/{HAIKU}:rawPredict", json=claude(), headers={HEADER: value}) as answer:
            assert answer.status == 429
            assert set(await answer.json()) == shape


async def test_the_wait_is_told_in_every_form(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    _, headers, text = await maas(session, fault("rate_limit", retry_after_s=7))
    assert headers["Retry-After"] == "7"
    assert json.loads(text)[0]["error"]["details"][0]["retryDelay"] == "7s"
    _, headers, _ = await maas(session, fault("unavailable", retry_after_s=60, http_date=True))
    assert parsedate_to_datetime(headers["Retry-After"]).tzinfo is not None
    _, headers, _ = await maas(session, "rate_limit")
    assert "Retry-After" not in headers
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generate(channel, fault("rate_limit", retry_after_s=7.5))
    packed = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    detail = error_details_pb2.RetryInfo()
    assert status_pb2.Status.FromString(packed).details[0].Unpack(detail)
    assert (detail.retry_delay.seconds, detail.retry_delay.nanos) == (7, 500_000_000)


async def test_a_wrong_header_is_a_400(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    status, _, text = await maas(session, "nonsense")
    assert status == 400
    assert "x-sim-fault.fault must be one of" in text
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generate(channel, "nonsense")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("after", [0, 2, 10_000])
async def test_a_cut_stream_ends_without_its_end(
    session: aiohttp.ClientSession, channel: grpc.aio.Channel, after: int
) -> None:
    received, broken = await read_on(session, fault("cut", after_chunks=after))
    assert isinstance(broken, aiohttp.ClientPayloadError)
    pieces = [event for event in events(received.decode()) if event["choices"][0]["delta"].get("content")]
    assert b"[DONE]" not in received
    assert len(pieces) == after if after < 10_000 else len(pieces) > 2
    messages, error = await collected(generate(channel, fault("cut", after_chunks=after), stream=True))
    assert error is not None
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert len(messages) == after if after < 10_000 else len(messages) > 2
    assert all(not message.candidates[0].finish_reason for message in messages)


async def test_a_cut_plain_answer_never_begins(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await maas(session, "cut")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generate(channel, "cut")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("name", "stream"), [("hang", False), ("hang", True), ("stall", False), ("stall", True)])
async def test_silence_lasts_and_a_client_that_leaves_is_noticed(
    simulated: Simulated, session: aiohttp.ClientSession, name: str, stream: bool
) -> None:
    received, broken = await read_on(session, fault(name, after_chunks=2), stream=stream, timeout_s=0.3)
    assert isinstance(broken, TimeoutError)
    assert received.count(b"data:") == (3 if name == "stall" and stream else 0)
    call = await settled(simulated)
    assert (call["cancelled"], call["status"], call["fault"]) == (True, "cancelled", name)
    assert call["duration_ms"] >= 100
    assert call["ended"] > call["time"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_rpc_is_noticed(simulated: Simulated, channel: grpc.aio.Channel, stream: bool) -> None:
    call = generate(channel, "stall", stream=stream)
    if stream:
        await call.read()
    else:
        await until(lambda: simulated.last_call()["status"] == "in_flight")
    call.cancel()
    assert (await settled(simulated))["cancelled"]


async def until(condition: Any) -> None:
    """Poll with a deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.01)


async def settled(simulated: Simulated) -> dict[str, Any]:
    """The last call once it ended."""
    await until(lambda: simulated.last_call()["status"] != "in_flight")
    return simulated.last_call()


async def test_a_slow_first_token_comes_after_its_delay(simulated: Simulated, session: aiohttp.ClientSession) -> None:
    for stream in (False, True):
        status, _, _ = await maas(session, fault("slow_first_token", delay_s=0.2), stream=stream)
        assert status == 200
        assert simulated.last_call()["duration_ms"] >= 200


async def test_malformed_plain_answers(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    paths = [
        (MAAS, chat()),
        (f"/v1/{HAIKU}:rawPredict", claude()),
        (f"/v1/{FLASH}:generateContent", contents()),
        (f"{BASE}/endpoints/1001:rawPredict", {"inputs": "x"}),
    ]
    for path, document in paths:
        async with session.post(path, json=document, headers={HEADER: "malformed_json"}) as answer:
            assert answer.status == 200
            text = await answer.text()
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    answer = await generate(channel, "malformed_json")
    assert len(answer.candidates) == 1
    assert not answer.candidates[0].HasField("content")
    assert answer.candidates[0].finish_reason == 0


async def test_a_malformed_chunk_stands_in_a_stream_that_goes_on(
    session: aiohttp.ClientSession, channel: grpc.aio.Channel
) -> None:
    _, _, text = await maas(session, fault("malformed_json", after_chunks=2), stream=True)
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    broken = [number for number, line in enumerate(lines) if line != "[DONE]" and not _is_json(line)]
    assert broken == [3]
    assert lines[-1] == "[DONE]"
    messages, error = await collected(generate(channel, fault("malformed_json", after_chunks=1), stream=True))
    assert error is None
    assert [message.candidates[0].HasField("content") for message in messages[:3]] == [True, False, True]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


async def test_errors_inside_streams(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    value = fault("stream_error", after_chunks=1)
    _, _, text = await maas(session, value, stream=True)
    assert json.loads(text.strip().splitlines()[-1][6:])[0]["error"]["status"] == "UNAVAILABLE"
    chunks, error = await collected(raw_predict(channel, value, claude(stream=True), stream=True))
    assert error is None
    sent = events(b"".join(chunk.data for chunk in chunks).decode())
    assert sent[-1] == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert sum(event["type"] == "content_block_delta" for event in sent) == 1
    _, error = await collected(generate(channel, value, stream=True))
    assert error is not None
    async with session.post(
        f"{BASE}/endpoints/1001:streamRawPredict", json={"inputs": "x", "stream": True}, headers={HEADER: value}
    ) as answer:
        assert events(await answer.text())[-1]["error_type"] == "overloaded"


async def test_empty_answers(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    for stream in (False, True):
        call = generate(channel, "empty_candidates", stream=stream)
        answer = await call.read() if stream else await call
        assert len(answer.candidates) == 0
        assert answer.prompt_feedback.block_reason == 0
        assert answer.usage_metadata.prompt_token_count == 2
    _, _, text = await maas(session, "empty_candidates")
    assert json.loads(text)["choices"] == []
    message = json.loads((await raw_predict(channel, "empty_candidates", claude())).data)
    assert (message["content"], message["stop_reason"]) == ([], "end_turn")


async def test_blocks_of_the_prompt(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    answer = await generate(channel, "safety_block")
    assert len(answer.candidates) == 0
    assert answer.prompt_feedback.block_reason == 1
    assert answer.usage_metadata.candidates_token_count == 0
    message = json.loads((await raw_predict(channel, "safety_block", claude())).data)
    assert (message["content"], message["stop_reason"]) == ([], "refusal")
    _, _, text = await maas(session, "safety_block")
    assert json.loads(text)["choices"][0]["finish_reason"] == "content_filter"


async def test_blocks_of_the_answer(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    value = fault("safety_block", level="answer")
    candidate = (await generate(channel, value)).candidates[0]
    assert candidate.finish_reason == 3
    assert candidate.content.parts[0].text
    assert candidate.safety_ratings[0].blocked
    message = json.loads((await raw_predict(channel, value, claude())).data)
    assert message["content"][0]["text"]
    assert message["stop_reason"] == "refusal"
    _, _, text = await maas(session, value, stream=True)
    assert [e["choices"][0]["finish_reason"] for e in events(text)[:-1]][-1] == "content_filter"


async def test_truncated_answers(session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
    assert (await generate(channel, "truncated")).candidates[0].finish_reason == 2
    assert json.loads((await raw_predict(channel, "truncated", claude())).data)["stop_reason"] == "max_tokens"
    _, _, text = await maas(session, "truncated")
    answer = json.loads(text)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert not answer["choices"][0]["message"]["content"].endswith(")")


async def test_rules_by_model_region_and_number_of_times(simulated: Simulated, session: aiohttp.ClientSession) -> None:
    rules = [{"match": {"model": "claude-haiku-5-5", "region": "us-central1"}, "fault": "unavailable", "times": 1}]
    simulated.control("PUT", "faults", {"faults": rules})

    async def status(path: str, document: Any) -> int:
        async with session.post(path, json=document) as answer:
            return answer.status

    elsewhere = f"/v1/{HAIKU}:rawPredict".replace("us-central1", "europe-west1")
    assert await status(MAAS, chat()) == 200
    assert await status(elsewhere, claude()) == 200
    assert [await status(f"/v1/{HAIKU}:rawPredict", claude()) for _ in range(2)] == [503, 200]
    assert simulated.control("GET", "faults")["faults"][0]["fired"] == 1
    simulated.control("PUT", "faults", [{"match": {"endpoint": "1004"}, "fault": "rate_limit"}])
    assert await status(f"{BASE}/endpoints/1004:predict", {"instances": [{"prompt": "x"}]}) == 429
    assert await status(f"{BASE}/endpoints/1005:rawPredict", {"prompt": "x"}) == 200
    simulated.control("PUT", "faults", [{"fault": "forbidden"}])
    embedding = f"{BASE}/publishers/google/models/text-embedding-005:predict"
    assert await status(embedding, {"instances": [{"content": "x"}]}) == 403
    assert await status(f"/v1/{FLASH}:countTokens", {"contents": contents()["contents"]}) == 403
    assert simulated.control("DELETE", "faults") == {"faults": []}


async def test_a_refused_call_still_tells_whose_content_it_was(
    simulated: Simulated, session: aiohttp.ClientSession
) -> None:
    await maas(session, "forbidden", text="one and the same")
    refused = simulated.last_call()
    await maas(session, "truncated", text="one and the same")
    assert refused["content_sha256"] == simulated.last_call()["content_sha256"] != ""
    assert (refused["status"], refused["http_status"], refused["output_tokens"]) == ("error", 403, None)
