"""The HTTP front: one bare ASGI callable between uvicorn and the functions.

Per request it looks the route up, checks the key, hands a `fastapi.Request` to the function and sends what comes
back. Answers follow the Azure Functions host with HTTP v2, whose worker returns results through FastAPI: a response
object as it is; anything else as JSON; `HTTPException` with its status and headers; any other exception, or None, as
an empty 500; no answer within 230 s as 502 while the function runs on
(https://learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-trigger#limits).
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from infra.local.hosting.indexing import HttpFunction
from infra.local.hosting.routes import RouteTable

logger = logging.getLogger("host.http")

_BODYLESS_STATUS = frozenset({204, 205, 304})


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of the platform.

    Attributes:
        max_body_bytes: larger request bodies get 413.
        response_timeout_s: silence until the answer starts; then 502, and the function goes on.
        function_timeout_s: longest run of a function; it is cancelled then (the Azure host even recycles its worker).
    """

    max_body_bytes: int = 100 * 1024 * 1024
    response_timeout_s: float = 230.0
    function_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """The keys of functions that are not anonymous.

    Without any key configured none is asked for, as with Azure Functions Core Tools.
    """

    function: str = ""
    master: str = ""

    def admit(self, auth_level: str, scope: Scope) -> bool:
        """Whether the request carries a key of its function's level, as `x-functions-key` or `?code=`."""
        if auth_level == "anonymous" or not (self.function or self.master):
            return True
        accepted = [self.master] if auth_level == "admin" else [self.master, self.function]
        given = _given_key(scope).encode()
        return any(key and hmac.compare_digest(given, key.encode()) for key in accepted)


class FunctionsFront:
    """The ASGI application.

    Args:
        routes: where each request goes.
        limits: the platform's bounds.
        keys: what non-anonymous functions ask for.
        status: facts for `GET /admin/host/status`, besides the uptime.
    """

    def __init__(
        self, routes: RouteTable[HttpFunction], limits: HttpLimits, keys: AccessKeys, status: Mapping[str, str]
    ) -> None:
        self._routes = routes
        self._limits = limits
        self._keys = keys
        self._status = status
        self._started_at = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3, `http` scopes only)."""
        path = scope["path"]
        if path[:7].lower() == "/admin/":
            await self._admin(scope, receive, send)
            return
        match = self._routes.match(scope["method"], path, scope["raw_path"])
        if match is None:
            await Response(status_code=404)(scope, receive, send)
            return
        function = match.target
        if function.auth_level != "anonymous" and not self._keys.admit(function.auth_level, scope):
            await Response(status_code=401)(scope, receive, send)
            return
        body = _BoundedBody(receive, self._limits.max_body_bytes)
        framing = _body_framing(scope)
        if framing is not None and framing > self._limits.max_body_bytes:
            await _too_large()(scope, receive, send)
            return
        scope["path_params"] = match.path_params
        deadline = _Deadline(self._limits, send)
        request = Request(scope, body if framing is None else receive)
        try:
            response = await self._run(function, request, deadline)
        finally:
            deadline.cancel()
        if body.exceeded:
            response = _too_large()
        if deadline.reply is None:
            await response(scope, receive, send)
        else:
            await deadline.reply

    async def _run(self, function: HttpFunction, request: Request, deadline: "_Deadline") -> Response:
        """Invoke, and turn every outcome into a response."""
        try:
            result = await function.invoke(request)
            if isinstance(result, Response):
                return result
            if result is None:
                logger.error("Function %s returned None; an HTTP function must return a response", function.name)
                return Response(status_code=500)
            return JSONResponse(jsonable_encoder(result))
        except HTTPException as error:
            if error.status_code in _BODYLESS_STATUS:
                return Response(status_code=error.status_code, headers=error.headers)
            return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)
        except ClientDisconnect:
            return Response(status_code=499)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not deadline.function_timed_out or task is None:
                raise
            task.uncancel()
            logger.exception("Function %s ran longer than functionTimeout and was cancelled", function.name)
            return Response(status_code=500)
        except Exception:
            logger.exception("Function %s failed", function.name)
            return Response(status_code=500)

    async def _admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`/admin/*` belongs to the host; functions never see it."""
        if scope["path"].rstrip("/").lower() != "/admin/host/status" or scope["method"] != "GET":
            response = Response(status_code=404)
        elif not self._keys.admit("admin", scope):
            response = Response(status_code=401)
        else:
            uptime_ms = int((time.monotonic() - self._started_at) * 1000)
            document = {**self._status, "state": "Running", "processUptime": uptime_ms}
            response = Response(json.dumps(document), media_type="application/json")
        await response(scope, receive, send)


class _BoundedBody:
    """`receive` for a body of undeclared length: stops reading once it is too long."""

    __slots__ = ("_left", "_receive", "exceeded")

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._left = max_bytes
        self.exceeded = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.exceeded = True
                raise HTTPException(413)
        return message


class _Deadline:
    """Answers 502 when the function is silent for too long, and later cancels the function itself."""

    __slots__ = ("_cancel_after_s", "_handle", "_loop", "_send", "_task", "function_timed_out", "reply")

    def __init__(self, limits: HttpLimits, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._send = send
        self.reply: asyncio.Task[None] | None = None
        self.function_timed_out = False
        longest_s = limits.function_timeout_s
        if longest_s is not None and longest_s <= limits.response_timeout_s:
            self._cancel_after_s: float | None = None
            self._handle = self._call_later(longest_s, self._stop_function)
        else:
            self._cancel_after_s = None if longest_s is None else longest_s - limits.response_timeout_s
            self._handle = self._call_later(limits.response_timeout_s, self._answer)

    def cancel(self) -> None:
        """The function is done."""
        self._handle.cancel()

    def _call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, call)

    def _answer(self) -> None:
        self.reply = self._loop.create_task(self._bad_gateway())
        if self._cancel_after_s is not None:
            self._handle = self._call_later(self._cancel_after_s, self._stop_function)

    def _stop_function(self) -> None:
        self.function_timed_out = True
        if self._task is not None:
            self._task.cancel()

    async def _bad_gateway(self) -> None:
        await self._send({"type": "http.response.start", "status": 502, "headers": [(b"content-length", b"0")]})
        await self._send({"type": "http.response.body", "body": b""})


def _too_large() -> Response:
    # The body is not read to its end, so the connection cannot be used again.
    return Response(status_code=413, headers={"connection": "close"})


def _body_framing(scope: Scope) -> int | None:
    """The declared length of the body in bytes, 0 without a body; None when it comes in chunks."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            return None
    return 0


def _given_key(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-functions-key":
            return str(value, "latin-1")
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("code", [""])[0]
