"""`VertexHttp` and the MaaS provider over real sockets, against a small server that misbehaves on request."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.domain.errors import (
    DependencyUnavailable,
    InvalidRequest,
    ProviderAuthError,
    ProviderBadResponse,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from shared.domain.models import Deployment, EndpointFormat, ProviderKind
from shared.domain.replies import FinishReason, StreamEvent, TextDelta, Usage
from shared.ports import ProviderCall
from shared.providers.credentials import AnonymousTokens
from shared.providers.endpoints import HuggingFaceProvider
from shared.providers.openai_maas import OpenAiMaasProvider
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from tests.unit.openai_builders import call, collected, deployment, reply

PATH = "/v1/projects/the-project/locations/us-central1/endpoints/openapi/chat/completions"
ANSWER = {
    "id": "1",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SystemClock:
    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Tokens(AnonymousTokens):
    def __init__(self, answer: str | Exception) -> None:
        self._answer = answer

    async def token(self) -> str:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Vendor:
    """Answers each call with `answer`, and remembers what was asked."""

    def __init__(self) -> None:
        self.answer: Answer = self.plain
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.connections: set[Any] = set()
        self.gone = asyncio.Event()

    async def handle(self, asked: web.Request) -> web.StreamResponse:
        self.requests.append(asked)
        self.connections.add(asked.transport)
        self.bodies.append(json.loads(await asked.read()))
        return await self.answer(asked)

    async def plain(self, asked: web.Request) -> web.StreamResponse:
        if self.bodies[-1]["stream"]:
            return await self.send(asked, delta("Hel"), delta("lo"), delta("", "stop"), "[DONE]")
        return web.json_response(ANSWER)

    async def send(self, asked: web.Request, *messages: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(asked)
        for message in messages:
            line = message if isinstance(message, str) else json.dumps(message)
            await response.write(f"data: {line}\n\n".encode())
        return response

    async def until_gone(self, asked: web.Request) -> None:
        try:
            while asked.transport and not asked.transport.is_closing():  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
        finally:
            self.gone.set()


def delta(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


@pytest.fixture
async def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
async def base(vendor: Vendor) -> AsyncIterator[str]:
    app = web.Application(client_max_size=10_000_000)
    app.router.add_post("/{path:.*}", vendor.handle)
    server = TestServer(app)
    await server.start_server()
    yield f"http://{server.host}:{server.port}"
    await server.close()


@pytest.fixture
async def http(base: str) -> AsyncIterator[VertexHttp]:
    transport = VertexHttp("the-project", Tokens("the-token"), SystemClock(), base_override=base)
    yield transport
    await transport.aclose()


@pytest.fixture
async def provider(http: VertexHttp) -> AsyncIterator[OpenAiMaasProvider]:
    grpc = VertexGrpc(project="p", tokens=AnonymousTokens(), endpoint_override="127.0.0.1:1", clock=SystemClock())
    provider = OpenAiMaasProvider(http, grpc)
    yield provider
    await provider.aclose()


def soon(seconds: float = 20.0, at: Deployment | None = None, **fields: Any) -> ProviderCall:
    return call(at=at, deadline_s=time.monotonic() + seconds, **fields)


def streamed(provider: OpenAiMaasProvider, asked: ProviderCall) -> Awaitable[list[StreamEvent]]:
    return collected(provider.stream(asked))


async def test_a_plain_call(provider: OpenAiMaasProvider, vendor: Vendor) -> None:
    asked = soon(headers={"traceparent": "00-a-b-01", "x-other": "stays here"})
    answer = reply(await provider.complete(asked))
    assert (answer.text(), answer.usage) == ("Hello", Usage(input_tokens=2, output_tokens=1))
    (seen,) = vendor.requests
    assert seen.path == PATH
    assert seen.headers["authorization"] == "Bearer the-token"
    assert seen.headers["x-request-id"] == asked.request_id
    assert seen.headers["traceparent"] == "00-a-b-01"
    assert "x-other" not in seen.headers
    assert vendor.bodies[0]["model"] == "openai/gpt-oss-120b-maas"


async def test_a_stream(provider: OpenAiMaasProvider, vendor: Vendor) -> None:
    answer = reply(await streamed(provider, soon()))
    assert (answer.text(), answer.finish_reason) == ("Hello", FinishReason.STOP)
    assert answer.usage.estimated
    assert vendor.requests[0].headers["accept-encoding"] == "identity"


async def test_one_connection_serves_calls_that_follow_each_other(provider: OpenAiMaasProvider, vendor: Vendor) -> None:
    for _ in range(3):
        await streamed(provider, soon())
        await provider.complete(soon())
    assert len(vendor.requests) == 6
    assert len(vendor.connections) == 1


async def test_a_dedicated_endpoint_has_its_own_path(http: VertexHttp, vendor: Vendor) -> None:
    grpc = VertexGrpc(project="p", tokens=AnonymousTokens(), endpoint_override="127.0.0.1:1", clock=SystemClock())
    provider = HuggingFaceProvider(http, grpc)
    at = deployment(
        ProviderKind.HUGGING_FACE,
        EndpointFormat.OPENAI_CHAT,
        target="1003",
        dedicated_host="1003.us-central1-7.prediction.vertexai.goog",
    )
    assert reply(await provider.complete(soon(at=at))).text() == "Hello"
    assert reply(await collected(provider.stream(soon(at=at)))).text() == "Hello"
    assert {asked.path for asked in vendor.requests} == {
        "/v1/projects/the-project/locations/us-central1/endpoints/1003/chat/completions"
    }
    assert "model" not in vendor.bodies[0]
    await provider.aclose()


@pytest.mark.parametrize("way", ["complete", "stream"])
class TestFailures:
    """Each failure, before the first event, of both kinds of call."""

    async def ask(self, way: str, provider: OpenAiMaasProvider, asked: ProviderCall) -> None:
        await (provider.complete(asked) if way == "complete" else streamed(provider, asked))

    async def test_a_quota_with_its_pause(self, way: str, provider: OpenAiMaasProvider, vendor: Vendor) -> None:
        async def answer(_: web.Request) -> web.Response:
            error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "secret words"}
            return web.json_response([{"error": error}], status=429, headers={"retry-after": "7"})

        vendor.answer = answer
        with pytest.raises(ProviderRateLimited) as caught:
            await self.ask(way, provider, soon())
        assert caught.value.retry_after_s == 7
        assert "secret" not in str(caught.value)

    async def test_a_pause_told_as_a_date(self, way: str, provider: OpenAiMaasProvider, vendor: Vendor) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=503, headers={"retry-after": format_datetime(SystemClock().now(), usegmt=True)})

        vendor.answer = answer
        with pytest.raises(ProviderUnavailable) as caught:
            await self.ask(way, provider, soon())
        assert caught.value.retry_after_s == 0, "the date has passed when it arrives"

    async def test_redirects_are_not_followed(self, way: str, provider: OpenAiMaasProvider, vendor: Vendor) -> None:
        async def answer(asked: web.Request) -> web.Response:
            return web.Response(status=307, headers={"location": f"{asked.url.origin()}/elsewhere"})

        vendor.answer = answer
        with pytest.raises(ProviderUnavailable):
            await self.ask(way, provider, soon())
        assert [asked.path for asked in vendor.requests] == [PATH]

    async def test_a_huge_error_body(self, way: str, provider: OpenAiMaasProvider, vendor: Vendor) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=401, body=b"x" * 5_000_000)

        vendor.answer = answer
        with pytest.raises(ProviderAuthError):
            await self.ask(way, provider, soon())

    async def test_no_server(
        self, way: str, provider: OpenAiMaasProvider, http: VertexHttp, unused_tcp_port: int
    ) -> None:
        nowhere = VertexHttp("p", AnonymousTokens(), SystemClock(), base_override=f"http://127.0.0.1:{unused_tcp_port}")
        provider._http = nowhere
        with pytest.raises(ProviderUnavailable):
            await self.ask(way, provider, soon())
        await nowhere.aclose()

    async def test_a_deadline_that_passes(self, way: str, provider: OpenAiMaasProvider, vendor: Vendor) -> None:
        async def answer(asked: web.Request) -> web.StreamResponse:
            await vendor.until_gone(asked)
            return web.Response()

        vendor.answer = answer
        with pytest.raises(ProviderTimeout) as caught:
            await self.ask(way, provider, soon(0.2))
        assert caught.value.vendor_status == "deadline"

    async def test_a_deadline_that_has_passed(self, way: str, provider: OpenAiMaasProvider, vendor: Vendor) -> None:
        with pytest.raises(ProviderTimeout):
            await self.ask(way, provider, soon(-1))
        assert vendor.requests == []

    async def test_a_cut_connection(self, way: str, provider: OpenAiMaasProvider, vendor: Vendor) -> None:
        async def answer(asked: web.Request) -> web.StreamResponse:
            assert asked.transport is not None
            asked.transport.abort()
            return web.Response()

        vendor.answer = answer
        with pytest.raises(ProviderUnavailable):
            await self.ask(way, provider, soon())

    async def test_an_answer_over_the_limit(
        self, way: str, base: str, provider: OpenAiMaasProvider, vendor: Vendor
    ) -> None:
        async def answer(_: web.Request) -> web.Response:
            response = web.Response(body=b" " * 3_000_000)
            response.enable_compression()
            return response

        vendor.answer = answer
        narrow = VertexHttp("p", AnonymousTokens(), SystemClock(), base_override=base, max_response_bytes=1_000_000)
        provider._http = narrow
        with pytest.raises(ProviderBadResponse):
            await self.ask(way, provider, soon())
        await narrow.aclose()

    async def test_no_token(self, way: str, base: str, provider: OpenAiMaasProvider, vendor: Vendor) -> None:
        tokens = Tokens(DependencyUnavailable("the token service is away"))
        provider._http = tokenless = VertexHttp("p", tokens, SystemClock(), base_override=base)
        await tokenless.warm()
        with pytest.raises(ProviderUnavailable) as caught:
            await self.ask(way, provider, soon())
        assert caught.value.code == "credentials_unavailable"
        assert vendor.requests == []
        await tokenless.aclose()


async def test_silence_between_two_pieces(provider: OpenAiMaasProvider, vendor: Vendor) -> None:
    async def answer(asked: web.Request) -> web.StreamResponse:
        response = await vendor.send(asked, delta("Hel"))
        await vendor.until_gone(asked)
        return response

    vendor.answer = answer
    seen: list[StreamEvent] = []
    with pytest.raises(ProviderTimeout) as caught:
        await consume(provider.stream(soon(idle_timeout_s=0.2)), seen)
    assert TextDelta("Hel") in seen
    assert caught.value.vendor_status == "idle"
    await asyncio.wait_for(vendor.gone.wait(), 10)


async def test_a_stream_cut_after_content(provider: OpenAiMaasProvider, vendor: Vendor) -> None:
    async def answer(asked: web.Request) -> web.StreamResponse:
        response = await vendor.send(asked, delta("Hel"))
        assert asked.transport is not None
        asked.transport.close()
        return response

    vendor.answer = answer
    seen: list[StreamEvent] = []
    with pytest.raises(ProviderUnavailable):
        await consume(provider.stream(soon()), seen)
    assert TextDelta("Hel") in seen


async def test_a_stream_that_ends_politely_but_early(provider: OpenAiMaasProvider, vendor: Vendor) -> None:
    async def answer(asked: web.Request) -> web.StreamResponse:
        return await vendor.send(asked, delta("Hel"))

    vendor.answer = answer
    with pytest.raises(ProviderUnavailable) as caught:
        await streamed(provider, soon())
    assert caught.value.code == "provider_stream_cut"


async def test_closing_the_iterator_hangs_up(provider: OpenAiMaasProvider, vendor: Vendor) -> None:
    async def answer(asked: web.Request) -> web.StreamResponse:
        response = await vendor.send(asked, delta("Hel"))
        await vendor.until_gone(asked)
        return response

    vendor.answer = answer
    events = provider.stream(soon())
    async for _ in events:
        break
    await events.aclose()  # type: ignore[attr-defined]  # the port promises an iterator that can be closed
    await asyncio.wait_for(vendor.gone.wait(), 10)


async def test_cancelling_the_task_hangs_up(provider: OpenAiMaasProvider, vendor: Vendor) -> None:
    begun = asyncio.Event()

    async def answer(asked: web.Request) -> web.StreamResponse:
        begun.set()
        await vendor.until_gone(asked)
        return web.Response()

    vendor.answer = answer
    task = asyncio.create_task(provider.complete(soon()))
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(vendor.gone.wait(), 10)


async def test_a_large_body_arrives_whole(http: VertexHttp, vendor: Vendor) -> None:
    await http.post(soon(), "x", json.dumps({"stream": False, "pad": "x" * 3_000_000}).encode(), vendor="the vendor")
    assert len(vendor.bodies[0]["pad"]) == 3_000_000


async def test_no_token_no_header(base: str, vendor: Vendor) -> None:
    http = VertexHttp("the-project", AnonymousTokens(), SystemClock(), base_override=base)
    await http.post(soon(), "x", b'{"stream": false}', vendor="the vendor")
    assert "authorization" not in vendor.requests[0].headers
    await http.aclose()


@pytest.mark.parametrize(
    ("region", "host", "expected"),
    [
        ("global", None, "aiplatform.googleapis.com"),
        ("eu", None, "aiplatform.eu.rep.googleapis.com"),
        ("us", None, "aiplatform.us.rep.googleapis.com"),
        ("europe-west4", None, "europe-west4-aiplatform.googleapis.com"),
        ("us-central1", "7.us-central1-1.prediction.vertexai.goog", "7.us-central1-1.prediction.vertexai.goog"),
    ],
)
def test_hosts(region: str, host: str | None, expected: str) -> None:
    http = VertexHttp("the-project", AnonymousTokens(), SystemClock())
    url = http.url(deployment(region=region, dedicated_host=host), "endpoints/openapi/chat/completions")
    assert (
        str(url) == f"https://{expected}/v1/projects/the-project/locations/{region}/endpoints/openapi/chat/completions"
    )


@pytest.mark.parametrize(
    ("region", "host"), [("us/../x", None), ("u s", None), ("us", "evil.com"), ("us", "x@evil.googleapis.com:9")]
)
def test_addresses_that_could_lead_elsewhere_are_refused(region: str, host: str | None) -> None:
    http = VertexHttp("the-project", AnonymousTokens(), SystemClock())
    with pytest.raises(InvalidRequest):
        http.url(deployment(region=region, dedicated_host=host), "x")


async def consume(events: AsyncIterator[StreamEvent], seen: list[StreamEvent]) -> None:
    async for event in events:
        seen.append(event)  # noqa: PERF401 - a comprehension would lose what came before the error
