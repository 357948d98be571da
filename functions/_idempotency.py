"""`Idempotency-Key`: a request that is sent twice is done once, and its answer given twice.

In the manner of https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/. Kept are answers, and
refusals by a model's provider (its 400s: the call was made); whatever else fails is let go, so that a repetition is
tried anew.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from functions._edge import Call, Handler, Reply
from functions._failures import status_of
from functions._wire.replies import error_body
from shared.domain import errors
from shared.services.idempotency import MAX_RESULT_BYTES, Turn, idempotency_key

HEADER = "idempotency-key"
REPLAYED = "idempotency-replayed"
UNPROTECTED = "x-router-idempotency"
"""Says ``unavailable`` when the request ran without the guarantee, ``not_kept`` when its answer could not be kept."""

_SYNTAX = re.compile(r"[\x21-\x7e]{1,255}")
_WHOLE = (b"data: [DONE]", b"event: done", b"event: response.completed", b"event: response.incomplete")
"""How the last event of a stream begins that was not cut, on the surfaces that stream."""
_REFUSED = 400
_MARGIN_S = 0.25
"""Left of the caller's deadline to tell it that the first request still runs."""


def once(handler: Handler) -> Handler:
    """The handler, run once for each idempotency key."""

    async def guarded(call: Call) -> Reply:
        key = call.headers.get(HEADER)
        if key is None:
            return await handler(call)
        if not _SYNTAX.fullmatch(key):
            raise errors.InvalidRequest("1 to 255 visible ASCII characters", param=HEADER)
        caller = call.caller
        work = idempotency_key(caller.tenant_id, caller.service, call.route, key=key, body=call.body)
        deadline_s = call.started_s + _patience_s(call) - _MARGIN_S
        turn = await call.container.idempotency.begin(work, call.request_id, deadline_s=deadline_s)
        if isinstance(turn, bytes):
            return _replayed(turn)
        if turn is None:
            reply = await handler(call)
            return replace(reply, headers={**reply.headers, UNPROTECTED: "unavailable"})
        return await _done(turn, handler, call)

    return guarded


async def _done(turn: Turn, handler: Handler, call: Call) -> Reply:
    try:
        reply = await handler(call)
        if reply.events is not None:
            recording = _Recording(turn, reply, reply.events)
            return replace(reply, events=recording.events(), on_close=recording.close)
        if await turn.finish(
            orjson.dumps({"status": reply.status, "headers": dict(reply.headers), "body": reply.body})
        ):
            return reply
        return replace(reply, headers={**reply.headers, UNPROTECTED: "not_kept"})
    except errors.ProviderError as error:
        status, kind = status_of(error)
        if status == _REFUSED:
            body = error_body(error, kind, call.request_id)
            await turn.finish(orjson.dumps({"status": status, "headers": {}, "body": body}))
        await turn.give_up()
        raise
    except BaseException:
        await turn.give_up()
        raise


class _Recording:
    """Listens to a stream on its way out."""

    def __init__(self, turn: Turn, reply: Reply, source: AsyncIterator[bytes]) -> None:
        self._turn = turn
        self._reply = reply
        self._source = source
        self._pieces: list[bytes] = []
        self._room = MAX_RESULT_BYTES

    async def events(self) -> AsyncIterator[bytes]:
        """The reply's events. The result is kept before the last of them is sent."""
        try:
            async for piece in self._source:
                if self._room > 0:
                    self._room -= len(piece)
                    self._pieces.append(piece)
                if _is_end(piece):
                    await self._keep()
                yield piece
        finally:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()

    async def close(self) -> None:
        """The response is over: a stream that did not get to its end leaves no result."""
        try:
            if self._reply.on_close is not None:
                await self._reply.on_close()
        finally:
            await self._turn.give_up()

    async def _keep(self) -> None:
        if self._room <= 0:
            return
        pieces = [piece.decode() for piece in self._pieces if not piece.startswith(b":")]
        headers = dict(self._reply.headers)
        await self._turn.finish(orjson.dumps({"status": self._reply.status, "headers": headers, "events": pieces}))


def _is_end(piece: bytes) -> bool:
    return piece.rstrip().rpartition(b"\n\n")[2].startswith(_WHOLE)


def _replayed(result: bytes) -> Reply:
    kept: dict[str, Any] = orjson.loads(result)
    headers: Mapping[str, str] = {**kept["headers"], REPLAYED: "true"}
    if "events" in kept:
        return Reply(events=_told_again(kept["events"]), status=kept["status"], headers=headers)
    return Reply(kept["body"], status=kept["status"], headers=headers)


async def _told_again(pieces: list[str]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece.encode()


def _patience_s(call: Call) -> float:
    """Seconds from the request's start until its answer is of no use: the body's own word, or the setting."""
    limit_s = call.container.settings.deadline_s
    try:
        body = orjson.loads(call.body)
        options = body.get("router", body)
        wanted = options.get("timeout_s", limit_s)
        return min(limit_s, wanted) if isinstance(wanted, int | float) and wanted > 0 else limit_s
    except (ValueError, AttributeError, TypeError):
        return limit_s
