"""Server-sent events (WHATWG HTML, section 9.2.6), from byte chunks that may break anywhere."""

from dataclasses import dataclass

from shared.providers.errors import unreadable

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Bytes of one event; a vendor's largest are some hundred KiB."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: its name (``message`` when the server gave none) and its data lines joined by newlines."""

    event: str
    data: str


class SseParser:
    """Cuts a byte stream into events.

    Takes any of the three line endings, comments, several data lines, and chunk boundaries anywhere, also inside a
    character or a line ending. Bytes that are not UTF-8 become U+FFFD, as the standard says.

    Args:
        vendor: how to call the sender in errors.
    """

    def __init__(self, vendor: str = "the vendor") -> None:
        self._vendor = vendor
        self._buffer = bytearray()
        self._searched = 0
        self._held_return = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that this chunk completes.

        Raises:
            ProviderBadResponse: an event is larger than `MAX_EVENT_BYTES`.
        """
        self._buffer += self._with_plain_newlines(chunk)
        if self._at_start and len(self._buffer) >= len(_BOM):
            self._at_start = False
            if self._buffer.startswith(_BOM):
                del self._buffer[: len(_BOM)]
        events: list[SseEvent] = []
        begin = 0
        while (end := self._buffer.find(b"\n\n", max(begin, self._searched))) >= 0:
            _append_event(events, bytes(self._buffer[begin:end]))
            begin = self._searched = end + 2
        del self._buffer[:begin]
        self._searched = max(0, len(self._buffer) - 1)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise unreadable(self._vendor, "a stream event over 8 MiB")
        return events

    def close(self) -> list[SseEvent]:
        """What is left when the stream ended without the blank line that closes the last event.

        The last event may be cut anywhere: the caller decides whether it is whole.
        """
        if self._held_return:
            self._held_return = False
            self._buffer += b"\n"
        events: list[SseEvent] = []
        for block in bytes(self._buffer).removeprefix(_BOM if self._at_start else b"").split(b"\n\n"):
            _append_event(events, block)
        self._buffer.clear()
        self._searched = 0
        return events

    def _with_plain_newlines(self, chunk: bytes) -> bytes:
        """CRLF and CR as LF; a CR at the end waits, since the LF that belongs to it may come next."""
        if not self._held_return and b"\r" not in chunk:
            return chunk
        if self._held_return:
            chunk = b"\r" + chunk
        self._held_return = chunk.endswith(b"\r")
        if self._held_return:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _append_event(events: list[SseEvent], block: bytes) -> None:
    name, data = "message", []
    for line in block.decode("utf-8", "replace").split("\n"):
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ") or "message"
    if data:
        events.append(SseEvent(name, "\n".join(data)))
