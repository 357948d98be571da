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

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        with self.spans or contextlib.ExitStack(), self.span.activate() if self.span else contextlib.nullcontext():
            try:
                await self._send_until_left(receive, send)
            finally:
                if self.span is not None and not self._is_whole:
                    self.span.fail("cancelled")
                if self.on_close is not None:
                    await asyncio.shield(self.on_close())

    async def _send_until_left(self, receive: Any, send: Any) -> None:
        """Send until the body or the caller's patience ends.

        Servers differ in how they say that the caller left: some by `receive`, some by a `send` that fails. The base
        class heeds one of the two, and would notice a caller who leaves between two distant events at the second one.
        """
        sending = asyncio.ensure_future(self.stream_response(send))
        leaving = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            ended = await asyncio.gather(sending, leaving, return_exceptions=True)
        error = ended[0]
        if isinstance(error, Exception) and not isinstance(error, OSError | ClientDisconnect):
            raise error
