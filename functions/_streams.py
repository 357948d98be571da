"""The streamed response."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from azurefunctions.extensions.http.fastapi import StreamingResponse
from starlette.requests import ClientDisconnect

from shared.ports import Span


class EventStream(StreamingResponse):  # type: ignore[misc]  # the extension ships no types
    """A streamed response that always tells its source that it is over.

    An async generator that was never started cannot clean up after itself: without this, a caller who leaves between
    the headers and the first event would leave a request without a record.
    """

    on_close: Callable[[], Awaitable[None]] | None = None
    span: Span | None = None
    spans: contextlib.ExitStack | None = None
    _is_whole = False

    async def stream_response(self, send: Any) -> None:
        """Send the body; returns only when all of it was sent."""
        await super().stream_response(send)
        self._is_whole = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self.spans or contextlib.ExitStack(), self.span.activate() if self.span else contextlib.nullcontext():
            try:
                with contextlib.suppress(ClientDisconnect):  # servers differ in how they say that the caller left
                    await super().__call__(scope, receive, send)
            finally:
                if self.span is not None and not self._is_whole:
                    self.span.fail("cancelled")
                if self.on_close is not None:
                    await asyncio.shield(self.on_close())
