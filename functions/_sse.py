"""One way for every surface to stream: heartbeats, backpressure, failures after the first word, callers who leave.

A surface brings an `EventWriter`, which knows its events and nothing of how they travel. The format is that of
https://html.spec.whatwg.org/multipage/server-sent-events.html; heartbeats are its comments, which clients ignore.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Final, Protocol

from functions._edge import Call, Reply, broken_stream
from functions._failures import status_of
from functions._orders import stream_headers
from functions._wire.replies import PING
from shared.domain.errors import DeadlineExceeded, RouterError
from shared.domain.replies import StreamEvent
from shared.services.walk import StreamedAnswer

MAX_WAITING_EVENTS: Final = 16
"""Events read ahead of a caller who reads slowly; then the model's stream is left unread, and its server waits."""
_PATIENCE_S: Final = 60.0
"""A caller who takes nothing for so long is taken to have left: the model's call must not be held for ever."""


class EventWriter(Protocol):
    """A surface's words for a stream. Each piece holds whole events; an empty one is not sent."""

    def opening(self) -> Iterable[bytes]:
        """Before the first event of the answer."""
        ...

    def event(self, event: StreamEvent) -> bytes:
        """For one event of the answer; empty for those that the surface does not show."""
        ...

    def closing(self, answer: StreamedAnswer) -> Iterable[bytes]:
        """After the last event of a whole answer."""
        ...

    def failure(self, error: RouterError, kind: str) -> Iterable[bytes]:
        """In place of the closing when the stream broke; `kind` is OpenAI's error type."""
        ...


def streamed(answer: StreamedAnswer, writer: EventWriter, call: Call) -> Reply:
    """The reply that tells an answer as it comes."""
    ahead = _ReadAhead(answer)
    events = _told(ahead, writer, call)
    return Reply(events=events, on_close=ahead.stop, headers=stream_headers(answer))


async def _told(ahead: "_ReadAhead", writer: EventWriter, call: Call) -> AsyncIterator[bytes]:
    for piece in writer.opening():
        yield piece
    try:
        async for event in ahead.events(call.container.settings.heartbeat_s):
            piece = PING if event is None else writer.event(event)
            if piece:
                yield piece
    except Exception as error:  # noqa: BLE001 - the answer has begun: only an event can still say that it failed
        told = broken_stream(error, call)
        for piece in writer.failure(told, status_of(told)[1]):
            yield piece
        return
    for piece in writer.closing(ahead.answer):
        yield piece


class _ReadAhead:
    """Reads an answer in a task of its own, a few events ahead of the caller.

    Silence can then be waited out with heartbeats: a time limit on the read itself would cancel it, and with it the
    model's call. Whoever starts to iterate must call `stop` in the end; it ends the model's call and settles its cost.
    """

    def __init__(self, answer: StreamedAnswer) -> None:
        self.answer = answer
        self._waiting: deque[StreamEvent] = deque()
        self._arrived, self._taken = asyncio.Event(), asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def events(self, heartbeat_s: float) -> AsyncIterator[StreamEvent | None]:
        """The answer's events; None whenever there was none for `heartbeat_s` seconds.

        Raises:
            ProviderError: the stream broke.
            DeadlineExceeded: the caller stopped reading for too long.
        """
        self._reading = reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._arrived.set())
        while True:
            while self._waiting:
                self._taken.set()
                yield self._waiting.popleft()
            if reading.done():
                break
            self._arrived.clear()
            try:
                async with asyncio.timeout(heartbeat_s):
                    await self._arrived.wait()
            except TimeoutError:
                yield None
        await reading

    async def stop(self) -> None:
        """End the read, wherever it is, and see that the answer is recorded."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            if not self._reading.cancelled():
                self._reading.exception()  # seen by the caller already, or there is none to tell
        await self.answer.abandon()

    async def _read(self) -> None:
        async with contextlib.aclosing(self.answer.events()) as events:
            async for event in events:
                self._waiting.append(event)
                self._arrived.set()
                if len(self._waiting) >= MAX_WAITING_EVENTS:
                    await self._until_taken()

    async def _until_taken(self) -> None:
        self._taken.clear()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._taken.wait()
        except TimeoutError:
            raise DeadlineExceeded("the answer was not read in time", code="answer_not_read") from None
