"""The local host's HTTP front, called as ASGI without a server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from infra.local.hosting.front import AccessKeys, FunctionsFront, HttpLimits
from infra.local.hosting.indexing import HttpFunction
from infra.local.hosting.routes import Route, RouteTable

Handler = Callable[[Request], Awaitable[object]]


class Exchange:
    """One request as a server would bring it, and what came back."""

    def __init__(self, method: str, path: str, chunks: list[bytes], headers: dict[str, str]) -> None:
        raw_path, _, query = path.partition("?")
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        self._chunks = chunks
        self.sent: list[dict[str, Any]] = []
        self.has_body = asyncio.Event()
        self.disconnected = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._chunks:
            body = self._chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._chunks)}
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))
        if len(self.sent) > 1:
            self.has_body.set()

    @property
    def status(self) -> int:
        status = self.sent[0]["status"]
        assert isinstance(status, int)
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def front(
    handler: Handler,
    *,
    template: str = "api/x/{id?}",
    methods: str = "GET,POST",
    auth_level: str = "anonymous",
    limits: HttpLimits | None = None,
    keys: AccessKeys | None = None,
) -> FunctionsFront:
    function = HttpFunction("tested", template, frozenset(methods.split(",")), auth_level, handler)
    routes = RouteTable([Route(function.name, function.template, function.methods, function)])
    return FunctionsFront(routes, limits or HttpLimits(), keys or AccessKeys(), {"id": "h", "version": "4"})


async def call(
    app: FunctionsFront,
    path: str = "/api/x",
    method: str = "GET",
    chunks: list[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Exchange:
    exchange = Exchange(method, path, [b""] if chunks is None else chunks, headers or {})
    await app(exchange.scope, exchange.receive, exchange.send)
    return exchange


async def answer_ok(_request: Request) -> Response:
    return Response("ok")


async def test_the_function_gets_a_fastapi_request_with_its_route_values():
    async def handler(request: Request) -> object:
        body = await request.body()
        return {"type": type(request).__name__, "params": request.path_params, "body": body.decode()}

    exchange = await call(front(handler), "/api/x/7?a=b", "POST", [b"he", b"y"], {"content-length": "3"})
    assert exchange.status == 200
    assert json.loads(exchange.body) == {"type": "Request", "params": {"id": "7"}, "body": "hey"}


@pytest.mark.parametrize(
    ("result", "body"), [("text", b'"text"'), ({"a": [1]}, b'{"a":[1]}'), ([1, 2], b"[1,2]"), (True, b"true")]
)
async def test_what_is_no_response_is_answered_as_json(result: object, body: bytes):
    async def handler(_request: Request) -> object:
        return result

    exchange = await call(front(handler))
    assert (exchange.status, exchange.headers["content-type"], exchange.body) == (200, "application/json", body)


async def test_none_is_an_empty_500():
    async def handler(_request: Request) -> object:
        return None

    exchange = await call(front(handler))
    assert (exchange.status, exchange.body) == (500, b"")


async def test_an_exception_is_an_empty_500_that_tells_nothing(caplog: pytest.LogCaptureFixture):
    async def handler(_request: Request) -> object:
        raise RuntimeError("secret")

    exchange = await call(front(handler))
    assert (exchange.status, exchange.body) == (500, b"")
    assert "Function tested failed" in caplog.text


async def test_an_http_exception_passes_with_status_and_headers():
    async def handler(_request: Request) -> object:
        raise HTTPException(429, "slow down", {"retry-after": "3"})

    exchange = await call(front(handler))
    assert (exchange.status, exchange.headers["retry-after"]) == (429, "3")
    assert json.loads(exchange.body) == {"detail": "slow down"}


async def test_unknown_paths_and_methods_are_empty_404s():
    for path, method in (
        ("/api/y", "GET"),
        ("/api/x", "DELETE"),
        ("/admin/other", "GET"),
        ("/admin/host/status", "PUT"),
    ):
        exchange = await call(front(answer_ok), path, method)
        assert (exchange.status, exchange.body) == (404, b"")


async def test_functions_never_see_admin_paths():
    exchange = await call(front(answer_ok, template="{*all}"), "/admin/users")
    assert exchange.status == 404


async def test_the_host_tells_its_status():
    exchange = await call(front(answer_ok), "/admin/host/status")
    document = json.loads(exchange.body)
    assert (document["id"], document["state"], document["version"]) == ("h", "Running", "4")
    assert document["processUptime"] >= 0


@pytest.mark.parametrize(
    ("auth_level", "query", "header", "status"),
    [
        ("anonymous", "", None, 200),
        ("function", "", None, 401),
        ("function", "", "wrong", 401),
        ("function", "", "f-key", 200),
        ("function", "?code=f-key", None, 200),
        ("function", "?code=wrong", None, 401),
        ("function", "", "m-key", 200),
        ("function", "", "\u00e9", 401),
        ("admin", "", "f-key", 401),
        ("admin", "?code=m-key", None, 200),
    ],
)
async def test_keys(auth_level: str, query: str, header: str | None, status: int):
    app = front(answer_ok, auth_level=auth_level, keys=AccessKeys("f-key", "m-key"))
    exchange = await call(app, "/api/x" + query, headers={"x-functions-key": header} if header else {})
    assert exchange.status == status


async def test_without_a_configured_key_none_is_asked_for():
    assert (await call(front(answer_ok, auth_level="function"))).status == 200


async def test_the_master_key_guards_the_status_page():
    app = front(answer_ok, keys=AccessKeys(master="m-key"))
    assert (await call(app, "/admin/host/status")).status == 401
    assert (await call(app, "/admin/host/status?code=m-key")).status == 200


async def read_all(request: Request) -> Response:
    return Response(str(len(await request.body())))


async def test_a_declared_body_that_is_too_long_never_reaches_the_function():
    app = front(read_all, limits=HttpLimits(max_body_bytes=4))
    exchange = await call(app, method="POST", chunks=[b"12345"], headers={"content-length": "5"})
    assert (exchange.status, exchange.headers["connection"], exchange.body) == (413, "close", b"")
    exchange = await call(app, method="POST", chunks=[b"1234"], headers={"content-length": "4"})
    assert (exchange.status, exchange.body) == (200, b"4")


@pytest.mark.parametrize("catches", [False, True])
async def test_a_chunked_body_is_cut_where_it_gets_too_long(catches: bool):
    async def handler(request: Request) -> object:
        try:
            return await read_all(request)
        except Exception:
            if catches:
                return Response("as if nothing had happened")
            raise

    app = front(handler, limits=HttpLimits(max_body_bytes=4))
    chunked = {"transfer-encoding": "chunked"}
    exchange = await call(app, method="POST", chunks=[b"123", b"45", b"6"], headers=chunked)
    assert (exchange.status, exchange.body) == (413, b"")
    exchange = await call(app, method="POST", chunks=[b"12", b"34"], headers=chunked)
    assert (exchange.status, exchange.body) == (200, b"4")


async def test_silence_is_answered_with_502_while_the_function_runs_on():
    go_on, finished = asyncio.Event(), asyncio.Event()

    async def handler(_request: Request) -> object:
        await go_on.wait()
        finished.set()
        return Response("too late")

    app = front(handler, limits=HttpLimits(response_timeout_s=0.01))
    exchange = Exchange("GET", "/api/x", [b""], {})
    serving = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await exchange.has_body.wait()
    assert (exchange.status, exchange.body) == (502, b"")
    assert not finished.is_set()
    go_on.set()
    await serving
    assert finished.is_set()
    assert len(exchange.sent) == 2


@pytest.mark.parametrize(
    ("response_timeout_s", "function_timeout_s", "status"), [(230.0, 0.01, 500), (0.01, 0.02, 502)]
)
async def test_the_function_timeout_cancels_the_function(
    response_timeout_s: float, function_timeout_s: float, status: int
):
    cancelled = asyncio.Event()

    async def handler(_request: Request) -> object:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    limits = HttpLimits(response_timeout_s=response_timeout_s, function_timeout_s=function_timeout_s)
    exchange = await call(front(handler, limits=limits))
    assert cancelled.is_set()
    assert (exchange.status, exchange.body) == (status, b"")


async def test_a_cancelled_request_stays_cancelled():
    started = asyncio.Event()

    async def handler(_request: Request) -> object:
        started.set()
        await asyncio.Event().wait()

    serving = asyncio.create_task(call(front(handler)))
    await started.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_disconnect_ends_the_stream_and_closes_its_generator():
    closed = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        try:
            yield "one"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def handler(_request: Request) -> object:
        return StreamingResponse(pieces())

    exchange = Exchange("GET", "/api/x", [b""], {})
    app = front(handler)
    serving = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await exchange.has_body.wait()
    assert exchange.body == b"one"
    exchange.disconnected.set()
    await serving
    assert closed.is_set()
