"""The gRPC transport against a real gRPC server: names, metadata, deadlines, silence, cancellation, errors, channels."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import pytest

from shared.domain.errors import (
    DependencyUnavailable,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from shared.domain.models import Deployment, ProviderKind
from shared.ports import ProviderCall
from shared.providers import vertex_grpc
from shared.providers.credentials import AnonymousTokens
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_protos import messages
from tests.contract.vertex_server import PredictionServer, serving, until
from tests.unit.openai_builders import call, deployment, request

M = messages()
RESOURCE = "projects/p/locations/us-central1/endpoints/42"


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - the adapter under test runs on real time

    def monotonic(self) -> float:
        return time.monotonic()


class FixedTokens:
    def __init__(self, answer: str | Exception | float) -> None:
        self._answer = answer
        self.closed = False

    async def token(self) -> str | None:
        if isinstance(self._answer, Exception):
            raise self._answer
        if isinstance(self._answer, float):
            await asyncio.sleep(self._answer)
            return None
        return self._answer

    async def aclose(self) -> None:
        self.closed = True


def attempt(at: Deployment | None = None, *, in_s: float = 20.0, **fields: Any) -> ProviderCall:
    return call(request(), at or deployment(), deadline_s=time.monotonic() + in_s, **fields)


def transport(server: PredictionServer | None, tokens: Any = None, **fields: Any) -> VertexGrpc:
    return VertexGrpc(
        project="p",
        tokens=tokens or AnonymousTokens(),
        endpoint_override=server.endpoint if server else None,
        clock=RealClock(),
        **fields,
    )


@pytest.fixture
async def server() -> AsyncIterator[PredictionServer]:
    async with serving() as fake:
        yield fake


@pytest.fixture
async def vertex(server: PredictionServer) -> AsyncIterator[VertexGrpc]:
    made = transport(server)
    yield made
    await made.aclose()


async def hello(_request: Any, _context: Any) -> Any:
    return M.HttpBody(content_type="application/json", data=b'{"hello": 1}')


async def forever(_request: Any, _context: Any) -> Any:
    await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("region", "dedicated", "host"),
    [
        ("global", None, "aiplatform.googleapis.com:443"),
        ("us", None, "aiplatform.us.rep.googleapis.com:443"),
        ("eu", None, "aiplatform.eu.rep.googleapis.com:443"),
        ("europe-west4", None, "europe-west4-aiplatform.googleapis.com:443"),
        (
            "europe-west4",
            "42.europe-west4-1.prediction.vertexai.goog",
            "42.europe-west4-1.prediction.vertexai.goog:443",
        ),
    ],
)
def test_hosts(region: str, dedicated: str | None, host: str):
    assert transport(None).host_of(deployment(region=region, dedicated_host=dedicated)) == host


def test_resource_names():
    at = deployment(ProviderKind.ANTHROPIC, target="claude-opus-5-5@20260922", region="global")
    named = Deployment(**{**{f: getattr(at, f) for f in at.__dataclass_fields__}, "project": "theirs"})
    vertex = transport(None)
    assert vertex.publisher_model(at, "anthropic") == (
        "projects/p/locations/global/publishers/anthropic/models/claude-opus-5-5@20260922"
    )
    assert vertex.endpoint(named) == "projects/theirs/locations/global/endpoints/claude-opus-5-5@20260922"


async def test_metadata_and_body(server: PredictionServer):
    server.raw = hello
    tokens = FixedTokens("t0ken")
    vertex = transport(server, tokens)
    headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "x-other": "stays here"}
    at = deployment(target="42", dedicated_host="42.prediction.vertexai.goog")

    answer = await vertex.raw_predict(attempt(at, headers=headers), "projects/p/endpoints/a@b", b'{"n": 1}')
    await vertex.aclose()

    assert answer == b'{"hello": 1}'
    name, received, metadata = server.calls[0]
    assert name == "RawPredict"
    assert received.http_body.data == b'{"n": 1}'
    assert received.http_body.content_type == "application/json"
    assert metadata["authorization"] == "Bearer t0ken"
    assert metadata["x-goog-request-params"] == "endpoint=projects/p/endpoints/a%40b"
    assert metadata["x-request-id"] == "0193a5b2-7c1e-7000-8000-000000000001"
    assert metadata["traceparent"] == headers["traceparent"]
    assert metadata["x-vertex-ai-endpoint-id"] == "42"
    assert "x-other" not in metadata
    assert tokens.closed


async def test_anonymous_calls_carry_no_authorization(server: PredictionServer, vertex: VertexGrpc):
    server.raw = hello
    await vertex.raw_predict(attempt(), RESOURCE, b"{}")
    assert "authorization" not in server.calls[0][2]
    assert "x-vertex-ai-endpoint-id" not in server.calls[0][2]


async def test_generate_content_routes_by_model(server: PredictionServer, vertex: VertexGrpc):
    async def generate(received: Any, _context: Any) -> Any:
        return M.GenerateContentResponse(response_id=received.model)

    async def stream_generate(received: Any, _context: Any) -> AsyncIterator[Any]:
        for n in range(3):
            yield M.GenerateContentResponse(response_id=f"{received.model}{n}")

    server.generate, server.stream_generate = generate, stream_generate
    asked = M.GenerateContentRequest(model="m")
    assert (await vertex.generate_content(asked, attempt())).response_id == "m"
    pieces = [piece.response_id async for piece in vertex.stream_generate_content(asked, attempt())]
    assert pieces == ["m0", "m1", "m2"]
    assert {metadata["x-goog-request-params"] for _, _, metadata in server.calls} == {"model=m"}


async def test_predict_keeps_json_values(server: PredictionServer, vertex: VertexGrpc):
    async def echo(received: Any, _context: Any) -> Any:
        answer = M.PredictResponse()
        answer.predictions.extend(received.instances)
        answer.predictions.append(received.parameters)
        return answer

    server.predict = echo
    instances = [{"a": [1, 2.5, "x", None, True, {}, []], "big": 2**53}, "text", 7, 1e300]
    assert await vertex.predict(attempt(), RESOURCE, instances, {"n": 3}) == [*instances, {"n": 3}]
    assert await vertex.predict(attempt(), RESOURCE, [], None) == [None]


async def test_every_call_has_what_is_left_of_the_deadline(server: PredictionServer, vertex: VertexGrpc):
    server.raw = hello
    await vertex.raw_predict(attempt(in_s=15), RESOURCE, b"{}")
    assert 0 < server.remaining_s[0] < 16


async def test_a_passed_deadline_makes_no_call(server: PredictionServer, vertex: VertexGrpc):
    with pytest.raises(ProviderTimeout):
        await vertex.raw_predict(attempt(in_s=-1), RESOURCE, b"{}")
    with pytest.raises(ProviderTimeout):
        await anext(vertex.stream_raw_predict(attempt(in_s=-1), RESOURCE, b"{}"))
    assert server.calls == []


async def test_the_deadline_ends_a_call(server: PredictionServer, vertex: VertexGrpc):
    server.raw = forever
    with pytest.raises(ProviderTimeout):
        await vertex.raw_predict(attempt(in_s=0.2), RESOURCE, b"{}")


async def test_a_silent_stream_times_out(server: PredictionServer, vertex: VertexGrpc):
    async def one_then_silence(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield M.HttpBody(data=b"one")
        await asyncio.sleep(3600)

    server.stream_raw = one_then_silence
    stream = vertex.stream_raw_predict(attempt(idle_timeout_s=0.2), RESOURCE, b"{}")
    assert await anext(stream) == b"one"
    with pytest.raises(ProviderTimeout) as caught:
        await anext(stream)
    assert caught.value.vendor_status == "idle"
    await server.until_cancelled("StreamRawPredict")


async def test_a_stream_that_never_begins_times_out(server: PredictionServer, vertex: VertexGrpc):
    async def silence(_request: Any, _context: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield M.HttpBody()

    server.stream_raw = silence
    with pytest.raises(ProviderTimeout):
        await anext(vertex.stream_raw_predict(attempt(idle_timeout_s=0.2), RESOURCE, b"{}"))


async def test_cancelling_a_call_reaches_the_server(server: PredictionServer, vertex: VertexGrpc):
    server.raw = forever
    task = asyncio.create_task(vertex.raw_predict(attempt(), RESOURCE, b"{}"))
    await until(lambda: bool(server.calls))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until_cancelled("RawPredict")


@pytest.mark.parametrize("how", ["close the iterator", "cancel the task"])
async def test_leaving_a_stream_reaches_the_server(server: PredictionServer, vertex: VertexGrpc, how: str):
    async def endless(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield M.HttpBody(data=b"x")
        await asyncio.sleep(3600)

    server.stream_raw = endless
    stream = vertex.stream_raw_predict(attempt(), RESOURCE, b"{}")
    assert await anext(stream) == b"x"
    if how == "close the iterator":
        await stream.aclose()
    else:
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await server.until_cancelled("StreamRawPredict")


async def test_errors_are_ours_and_hide_the_vendors_text(server: PredictionServer, vertex: VertexGrpc):
    async def refuse(_request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("retry-after", "4"),))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quotes the prompt")

    async def fail_midway(_request: Any, context: Any) -> AsyncIterator[Any]:
        yield M.HttpBody(data=b"x")
        await context.abort(grpc.StatusCode.UNAVAILABLE, "quotes the prompt")

    server.raw, server.stream_raw = refuse, fail_midway
    with pytest.raises(ProviderRateLimited) as limited:
        await vertex.raw_predict(attempt(), RESOURCE, b"{}")
    assert limited.value.retry_after_s == 4
    stream = vertex.stream_raw_predict(attempt(), RESOURCE, b"{}")
    assert await anext(stream) == b"x"
    with pytest.raises(ProviderUnavailable) as away:
        await anext(stream)
    for error in (limited.value, away.value):
        assert "quotes" not in error.message
        assert error.__cause__ is None
        assert error.__suppress_context__


async def test_a_call_that_the_server_cancels_is_no_cancellation_of_ours(server: PredictionServer, vertex: VertexGrpc):
    async def cancelled(_request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.CANCELLED, "gone")

    server.raw = cancelled
    with pytest.raises(ProviderUnavailable):
        await vertex.raw_predict(attempt(), RESOURCE, b"{}")


async def test_closing_the_transport_ends_calls_as_unavailable(server: PredictionServer):
    server.raw = forever
    vertex = transport(server)
    task = asyncio.create_task(vertex.raw_predict(attempt(), RESOURCE, b"{}"))
    await until(lambda: bool(server.calls))
    await vertex.aclose()
    with pytest.raises(ProviderUnavailable):
        await task


async def test_a_refused_connection_is_unavailable():
    vertex = VertexGrpc(project="p", tokens=AnonymousTokens(), endpoint_override="127.0.0.1:1", clock=RealClock())
    with pytest.raises(ProviderUnavailable):
        await vertex.raw_predict(attempt(), RESOURCE, b"{}")
    await vertex.aclose()


@pytest.mark.parametrize(
    ("answer", "expected", "code"),
    [
        (ProviderAuthError("refused"), ProviderAuthError, "provider_auth_error"),
        (DependencyUnavailable("away"), ProviderUnavailable, "credentials_unavailable"),
        (3600.0, ProviderTimeout, "provider_timeout"),
    ],
)
async def test_a_token_that_cannot_be_had(server: PredictionServer, answer: Any, expected: type[Exception], code: str):
    vertex = transport(server, FixedTokens(answer))
    with pytest.raises(expected) as caught:
        await vertex.raw_predict(attempt(in_s=0.3), RESOURCE, b"{}")
    assert caught.value.code == code  # type: ignore[attr-defined]  # every expected class is a RouterError
    assert server.calls == []
    await vertex.aclose()


async def test_calls_spread_over_connections(server: PredictionServer):
    waiting = asyncio.Event()

    async def wait(_request: Any, _context: Any) -> Any:
        await waiting.wait()
        return M.HttpBody()

    server.raw = wait
    vertex = transport(server, channels_per_host=4)
    tasks = [asyncio.create_task(vertex.raw_predict(attempt(), RESOURCE, b"{}")) for _ in range(240)]
    await until(lambda: len(server.calls) == 240)
    waiting.set()
    await asyncio.gather(*tasks)
    assert len(server.peers) == 4
    await vertex.aclose()


async def test_an_answer_over_the_default_limit_of_grpc(server: PredictionServer, vertex: VertexGrpc):
    async def large(_request: Any, _context: Any) -> Any:
        return M.HttpBody(data=bytes(6 * 1024 * 1024))

    server.raw = large
    assert len(await vertex.raw_predict(attempt(), RESOURCE, b"{}")) == 6 * 1024 * 1024


@pytest.mark.parametrize("answer", [ProviderAuthError("refused"), DependencyUnavailable("away"), 3600.0])
async def test_warming_leaves_failures_to_the_first_call(
    server: PredictionServer, answer: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vertex_grpc, "_WARM_DEADLINE_S", 0.05)
    vertex = transport(server, FixedTokens(answer))
    await vertex.warm()
    await vertex.aclose()
    assert server.calls == []


async def test_warming_connects(server: PredictionServer):
    vertex = transport(server)
    await vertex.warm([vertex.host_of(deployment())])
    channels = [channel.channel for channel in vertex._pools[server.endpoint].channels]
    await until(lambda: all(channel.get_state() is grpc.ChannelConnectivity.READY for channel in channels))
    await vertex.aclose()


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_the_whole_client_package_still_imports(first: str):
    """In a process of its own: what was imported through stand-ins must be what the package then finds."""
    ours = "from shared.providers.vertex_protos import messages; m = messages()"
    theirs = "from google.cloud.aiplatform_v1 import GenerateContentRequest, PredictionServiceAsyncClient"
    lines = [ours, theirs] if first == "ours" else [theirs, ours]
    if first == "ours":
        lines.insert(1, "import sys; assert 'google.cloud.aiplatform_v1' not in sys.modules, 'stand-in left behind'")
    lines.append("from google.cloud.aiplatform_v1.types import prediction_service")
    lines.append("assert GenerateContentRequest.pb() is m.GenerateContentRequest")
    lines.append("assert prediction_service.GenerateContentRequest is GenerateContentRequest")
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=90, check=False
    )
    assert result.returncode == 0, result.stderr
