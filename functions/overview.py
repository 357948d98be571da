"""GET /admin/dashboard, /admin/real-time and /admin/slos: what administrators look at, of their own tenant."""

import hashlib

import orjson

from functions._edge import Call, Reply
from functions._failures import JSON
from functions._wire.overview import dashboard_asked, dashboard_body, minutes_asked, real_time_body
from functions._wire.slos import slos_body, slos_by_service

_NOT_MODIFIED = 304


async def dashboard(call: Call) -> Reply:
    """The first page."""
    asked = dashboard_asked(call.query, call.container.clock.now())
    page = await call.container.administration.overview.dashboard(
        call.caller.tenant_id, asked.since, asked.until, asked.previous_since, asked.zone
    )
    return Reply(dashboard_body(page, asked))


async def real_time(call: Call) -> Reply:
    """The last minutes; whoever has them already is only told so."""
    minutes = minutes_asked(call.query)
    found = await call.container.administration.overview.real_time(call.caller.tenant_id, minutes)
    body = orjson.dumps(real_time_body(found))
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if _is_known(call.headers.get("if-none-match", ""), etag):
        return Reply(b"", status=_NOT_MODIFIED, headers={"etag": etag}, media_type=JSON)
    return Reply(body, headers={"etag": etag}, media_type=JSON)


async def slos(call: Call) -> Reply:
    """How the objectives stand."""
    by_service = slos_by_service(call.query)
    return Reply(
        slos_body(await call.container.administration.slos.report(call.caller.tenant_id, by_service=by_service))
    )


def _is_known(header: str, etag: str) -> bool:
    """RFC 9110, section 13.1.2: any of a list, compared weakly, or an asterisk."""
    known = [one.strip().removeprefix("W/") for one in header.split(",")]
    return etag in known or known == ["*"]
