"""From a vendor's bytes to stream events: the one reading loop of the JSON wire forms, plain and streamed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol, cast

import orjson

from shared.domain.errors import ProviderError
from shared.domain.replies import StreamEvent
from shared.providers.errors import unreadable
from shared.providers.sse import SseParser

_DRAIN_S: Final = 1.0
"""How long the vendor may take to end a stream it declared done, so that the connection can be used again."""


class ChunkReader(Protocol):
    """Maps the messages of one answer, plain or streamed, to events. Made per call; keeps what spans messages."""

    @property
    def vendor(self) -> str:
        """How to call the vendor in errors."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the vendor said that the answer is whole; only usage may still come."""
        ...

    def events_of(self, payload: Any) -> Sequence[StreamEvent]:
        """The events of one decoded message.

        Raises:
            ProviderError: the message reports a failure, or is not of the vendor's shape.
        """
        ...

    def end(self, *, declared: bool) -> Sequence[StreamEvent]:
        """The events still owed when nothing more comes.

        Args:
            declared: whether the vendor said that this is the end (a plain answer, ``[DONE]``).

        Raises:
            ProviderUnavailable: the stream was cut.
            ProviderBadResponse: the vendor declared an end, but not of an answer.
        """
        ...


def read_plain(body: bytes, reader: ChunkReader) -> list[StreamEvent]:
    """The events of a plain answer.

    Raises:
        ProviderError: the answer cannot be read, reports a failure or is incomplete.
    """
    return [*reader.events_of(decode(body, reader.vendor)), *reader.end(declared=True)]


async def read_sse(chunks: AsyncIterator[bytes], reader: ChunkReader) -> AsyncIterator[StreamEvent]:
    """The events of a streamed answer. Closing it closes `chunks`, which must be an async generator.

    A failure after the vendor finished costs the exact usage, not the answer.

    Raises:
        ProviderError: from the transport, or because a message cannot be read or reports a failure, or because none
            is left before the answer is whole.
    """
    parser = SseParser(reader.vendor)
    async with aclosing(cast("AsyncGenerator[bytes, None]", chunks)) as pieces:
        try:
            async for piece in pieces:
                for message in parser.feed(piece):
                    if message.data == "[DONE]":
                        for event in reader.end(declared=True):
                            yield event
                        await _drain(pieces)
                        return
                    for event in reader.events_of(decode(message.data, reader.vendor)):
                        yield event
        except ProviderError:
            if not reader.finished:
                raise
    for event in _last(parser, reader):
        yield event


def decode(body: bytes | str, vendor: str) -> Any:
    """JSON, whatever its shape.

    Raises:
        ProviderBadResponse: it is not JSON. The message never quotes it.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise unreadable(vendor, "an answer that is not JSON") from None


def _last(parser: SseParser, reader: ChunkReader) -> list[StreamEvent]:
    """What an end without ``[DONE]`` leaves; a server may omit the last blank line, and a cut may fall anywhere."""
    events: list[StreamEvent] = []
    for message in parser.close():
        if message.data == "[DONE]":
            break
        try:
            payload = orjson.loads(message.data)
        except orjson.JSONDecodeError:
            break
        events += reader.events_of(payload)
    return [*events, *reader.end(declared=False)]


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    with suppress(TimeoutError, ProviderError):  # the answer is whole already
        async with asyncio.timeout(_DRAIN_S):
            async for _ in chunks:
                pass
