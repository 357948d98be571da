"""Server-sent events come out the same however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import ProviderBadResponse
from shared.providers import sse
from shared.providers.sse import SseEvent, SseParser

names = st.sampled_from(["", "message_start", "ping", "content_block_delta"])
data_lines = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), min_size=1, max_size=3
)
blocks = st.lists(st.tuples(names, data_lines, st.booleans()), max_size=6)
endings = st.sampled_from(["\n", "\r\n", "\r"])


def parse(*chunks: bytes) -> list[SseEvent]:
    parser = SseParser("v")
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.close()


@given(blocks, endings, st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_chunking_and_line_endings_do_not_matter(
    written: list[tuple[str, list[str], bool]], ending: str, cuts: list[int], bom: bool
):
    lines: list[str] = []
    for name, data, commented in written:
        lines += [": a comment"] if commented else []
        lines += [f"event: {name}"] if name else []
        lines += [f"data: {line}" for line in data] + [""]
    body = (b"\xef\xbb\xbf" if bom else b"") + "".join(line + ending for line in lines).encode()
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    chunks = [body[begin:end] for begin, end in pairwise(edges)]

    expected = [SseEvent(name or "message", "\n".join(data)) for name, data, _ in written]

    assert parse(*chunks) == expected
    assert parse(*(body[i : i + 1] for i in range(len(body)))) == expected


def test_events_are_given_as_soon_as_they_are_whole():
    parser = SseParser("v")
    assert parser.feed(b"data: 1\n") == []
    assert parser.feed(b"\nda") == [SseEvent("message", "1")]
    assert parser.feed(b"ta: 2\r\n\r\n") == [SseEvent("message", "2")]
    assert parser.feed(b"data: 3\r\r") == []  # the last CR may be half of a pair until the next byte is seen
    assert parser.feed(b"data: 4") == [SseEvent("message", "3")]
    assert parser.close() == [SseEvent("message", "4")]
    assert parser.close() == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data:no space\n\n", [SseEvent("message", "no space")]),
        (b"data:  two\n\n", [SseEvent("message", " two")]),
        (b"data\n\n", [SseEvent("message", "")]),
        (b"event: ping\n\n", []),
        (b": heartbeat\n\n\n\n", []),
        (b"id: 7\nretry: 100\nunknown: x\ndata: x\n\n", [SseEvent("message", "x")]),
        (b"event: a\ndata: x\n\ndata: y\n\n", [SseEvent("a", "x"), SseEvent("message", "y")]),
        (b"data: caf\xc3\xa9 \xff\n\n", [SseEvent("message", "café �")]),
        (b"", []),
    ],
)
def test_fields(body: bytes, expected: list[SseEvent]):
    assert parse(body) == expected


def test_an_endless_event_is_refused():
    parser = SseParser("v")
    half = b"data: " + b"x" * (sse.MAX_EVENT_BYTES // 2)
    parser.feed(half)
    with pytest.raises(ProviderBadResponse):
        parser.feed(half)


def test_many_events_have_no_limit_together():
    parser = SseParser("v")
    chunk = (b"data: " + b"x" * 1_000_000 + b"\n\n") * 3
    assert sum(len(parser.feed(chunk)) for _ in range(4)) == 12
