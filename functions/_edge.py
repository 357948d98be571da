"""The door: one path for every endpoint, from the wire to a handler and back.

`Route` declares an endpoint; `entry` turns it into the function that Azure Functions indexes. In between stand, in
this order: request id and trace, size limit, identity, permission, the handler, and the ONE table that maps errors
to statuses. Handlers never build an error response and never see an unproven caller.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from azurefunctions.extensions.http.fastapi import Request, Response
from starlette.requests import ClientDisconnect

from functions import _auditing as auditing
from functions import _watching as watching
from functions._failures import JSON, failure
from functions._headers import SECURITY_HEADERS, common_headers, limit_headers
from functions._streams import EventStream
from shared import container as containers
from shared.container import Container
from shared.domain import errors
from shared.domain.audit import AuditOutcome
from shared.domain.identity import Permission, Principal, SignedIn
from shared.domain.limits import EndpointClass
from shared.ports import Span
from shared.services.limits import Ticket

_EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class AuditDetail:
    """What the audit trail says of a deed beside what the door knows.

    Attributes:
        actor: who did it, where the caller proved himself only by doing it.
        resource: what it was about; the route's path where it is empty.
        before, after: SHA-256 of what was changed, in hex.
    """

    actor: Principal | None = None
    resource: str = ""
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers: a JSON value, bytes, or a stream, of server-sent events unless it names a media type."""

    body: Any = None
    events: AsyncIterator[bytes] | None = None
    on_close: Callable[[], Awaitable[None]] | None = None
    """Runs when a stream's response is over, also when its first event was never asked for."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    audit: AuditDetail = AuditDetail()
    media_type: str | None = None
    """Of bytes; None: the body is a JSON value, and a stream has server-sent events."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler is given."""

    container: Container
    route: str
    """The route's name."""
    request_id: str
    started_s: float
    path_params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    span: Span
    principal: Principal | None
    ticket: Ticket | None = None
    """A proven caller's way through the rate limits."""

    @property
    def caller(self) -> Principal:
        """The proven caller of a guarded route.

        Raises:
            Unauthenticated: the route is open, and its handler asked nevertheless.
        """
        if self.principal is None:
            raise errors.Unauthenticated("this needs a signed-in caller")
        return self.principal


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. `permission` None says that it is open, on purpose; `SignedIn.ANYBODY` takes any proven caller."""

    name: str
    method: str
    path: str
    permission: Permission | SignedIn | None
    handler: Handler
    summary: str
    audited: str | None = None
    """The action's name in the audit trail; what has one is written there before it is answered."""
    limits: EndpointClass = EndpointClass.READ
    """What its callers are limited by; those of an open route are not."""
    is_metered_inside: bool = False
    """Whether the service behind it admits, as for all routes of some classes (`EndpointClass.is_metered_inside`)."""


def entry(route: Route) -> Callable[[Request], Awaitable[Response]]:
    """The function that the Functions runtime calls for a route."""

    async def handle(req: Request) -> Response:
        return await _serve(route, req)

    handle.__name__ = handle.__qualname__ = route.name
    handle.__doc__ = route.summary
    return handle


@contextlib.asynccontextmanager
async def job(name: str) -> AsyncIterator[Container]:
    """The door of queue and timer functions: the container, a span, and a log line for what fails.

    Errors go on to the host, which retries: queue messages by their dequeue count, timers at their next time.
    """
    container = await containers.get()
    with container.telemetry.request(name, request_id=container.ids.request_id(), traceparent=None) as span:
        try:
            yield container
        except Exception as error:
            code = error.code if isinstance(error, errors.RouterError) else type(error).__name__
            span.fail(code, error)
            container.telemetry.log(logging.ERROR, "job_failed", job=name, error=code)
            raise


async def _serve(route: Route, req: Request) -> Response:
    try:
        container = await containers.get()
    except Exception as error:
        # No container, no telemetry: the plain logger is all there is. Settings errors hold names, never values.
        logging.getLogger("llm_router").exception("container_not_built: %s", type(error).__name__)
        unready = errors.DependencyUnavailable("the router is not ready: its configuration or a dependency failed")
        request_id = str(uuid.uuid4())
        return failure(unready, request_id, {**SECURITY_HEADERS, "x-request-id": request_id})
    started_s = container.clock.monotonic()
    request_id = container.ids.request_id()
    common = common_headers(req, container, request_id)
    name, traceparent = f"{route.method} {route.path}", req.headers.get("traceparent")
    with contextlib.ExitStack() as spans:
        span = spans.enter_context(container.telemetry.request(name, request_id=request_id, traceparent=traceparent))
        try:
            response = _success(await _handle(route, req, container, request_id, started_s, span, common), common)
        except errors.RouterError as error:
            response = failure(error, request_id, common)
            span.fail(error.code, error)
        except asyncio.CancelledError:
            span.fail("cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets the envelope
            response = failure(_defect(error, container, request_id, route.name, span), request_id, common)
        span.set(status=response.status_code)
        if isinstance(response, EventStream):
            # A stream's span ends with its body, which is produced after this function has returned.
            response.spans = spans.pop_all()
            response.span = span
        return response


async def _handle(
    route: Route,
    req: Request,
    container: Container,
    request_id: str,
    started_s: float,
    span: Span,
    common: dict[str, str],
) -> Reply:
    principal = await _principal(route, req, container, request_id)
    ticket = None
    if principal is not None and route.permission is not None:
        ticket = container.limits.ticket(principal, route.limits, request_id)
    async with _limited(ticket, route, container.settings.deadline_s, common):
        call = Call(
            container=container,
            route=route.name,
            request_id=request_id,
            started_s=started_s,
            path_params=req.path_params,
            query=req.query_params,
            headers=req.headers,
            body=await _body(req, container.settings.max_body_bytes) if route.method == "POST" else b"",
            span=span,
            principal=principal,
            ticket=ticket,
        )
        try:
            return await (route.handler(call) if route.audited is None else _audited(route.audited, route, call))
        except errors.RouterError as error:
            resource = f"{route.method} {route.path}"
            watching.notice(
                container, req.headers, error, resource=resource, request_id=request_id, principal=principal
            )
            raise


@contextlib.asynccontextmanager
async def _limited(ticket: Ticket | None, route: Route, lease_s: float, common: dict[str, str]) -> AsyncIterator[None]:
    """Pass the rate limits, and say on the answer how the caller stands with them, also when it is a refusal.

    What a model is called for is admitted further inside, where its tokens and tags are known.
    """
    if ticket is None:
        yield
        return
    try:
        ticket.knock()
        if route.is_metered_inside or ticket.endpoint.is_metered_inside:
            yield
            return
        await ticket.admit(lease_s=lease_s)
        try:
            yield
        finally:
            ticket.close(0)
    finally:
        common.update(limit_headers(ticket))


async def _principal(route: Route, req: Request, container: Container, request_id: str) -> Principal | None:
    """The proven caller; on an open route also nobody. A refusal is noted in the audit trail."""
    principal: Principal | None = None
    try:
        principal = await container.authenticator.authenticate(req.headers)
        if route.permission is not None and not principal.may(route.permission):
            raise errors.Forbidden(f"this needs the permission {route.permission.value}")
    except (errors.AccessRefused, errors.DependencyUnavailable) as error:
        if route.permission is None:
            return None
        if isinstance(error, errors.AccessRefused):
            refusal = auditing.event_of(
                container,
                req.headers,
                request_id=request_id,
                actor=principal,
                action=route.audited or auditing.REFUSAL,
                resource=f"{route.method} {route.path}",
                outcome=AuditOutcome.DENIED,
                error=error,
            )
            container.audit.note(refusal)
            watching.notice(
                container, req.headers, error, resource=refusal.resource, request_id=request_id, principal=principal
            )
        raise
    if route.permission is not None:
        watching.sight(container, req.headers, principal)
    return principal


async def _audited(action: str, route: Route, call: Call) -> Reply:
    """Handle a call, and write what came of it to the audit trail before the caller hears of it."""
    reply, failure = Reply(), None
    try:
        reply = await route.handler(call)
    except errors.RouterError as error:
        failure = error
    detail = reply.audit
    event = auditing.event_of(
        call.container,
        call.headers,
        request_id=call.request_id,
        actor=detail.actor or call.principal,
        action=action,
        resource=detail.resource or f"{route.method} {route.path}",
        outcome=auditing.outcome_of(failure),
        error=failure,
        before=detail.before,
        after=detail.after,
    )
    if failure is not None:
        # Nothing was done: the refusal need not wait for the trail, and must not fill it.
        call.container.audit.note(event)
        raise failure
    await call.container.audit.record(event)
    return reply


async def _body(req: Request, limit: int) -> bytes:
    """The body, read no further than the limit.

    Raises:
        InvalidRequest: the connection broke before its end.
        RequestTooLarge: it is longer, by its own word or by what came.
        UnsupportedMediaType: it does not say that it is JSON, or is compressed.
    """
    kind = req.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind != JSON:
        raise errors.UnsupportedMediaType("send content-type: application/json", param="content-type")
    if req.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise errors.UnsupportedMediaType("compressed bodies are not taken", param="content-encoding")
    declared = req.headers.get("content-length", "")
    too_large = errors.RequestTooLarge(f"the body is larger than {limit} bytes")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in req.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
    except ClientDisconnect:
        raise errors.InvalidRequest("the caller left before the body was complete", code="incomplete_body") from None
    return b"".join(chunks)


def broken_stream(error: Exception, call: Call) -> errors.RouterError:
    """What the caller is told of a stream that broke after it began; its span says so too."""
    if isinstance(error, errors.RouterError):
        call.span.fail(error.code, error)
        return error
    return _defect(error, call.container, call.request_id, call.route, call.span)


def _defect(error: Exception, container: Container, request_id: str, route: str, span: Span) -> errors.InternalError:
    container.telemetry.log(logging.ERROR, "defect", request_id=request_id, route=route, error=type(error).__name__)
    logging.getLogger("llm_router").debug("defect", exc_info=error)
    span.fail(errors.InternalError.code, error)
    return errors.InternalError("the router failed; quote the request id")


def _success(reply: Reply, common: Mapping[str, str]) -> Response:
    headers = {**common, **reply.headers}
    if reply.events is not None:
        # x-accel-buffering: proxies between us and the caller must not hold events back.
        headers["x-accel-buffering"] = "no"
        media_type = reply.media_type or _EVENTS
        stream = EventStream(reply.events, status_code=reply.status, media_type=media_type, headers=headers)
        stream.on_close = reply.on_close
        return stream
    body = orjson.dumps(reply.body) if reply.media_type is None else reply.body
    return Response(body, status_code=reply.status, media_type=reply.media_type or JSON, headers=headers)
