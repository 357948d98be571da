"""Pages of PDF and office files from their directories, with bounded work whatever the file claims.

A PDF's page tree stands in the clear or in compressed object streams; of those a bounded share is inflated. Office
files are zip archives: only their directory is read, and of their properties at most `_MOST_PROPERTY_BYTES` inflated.
"""

import re
import zlib
from itertools import islice
from typing import Final

from shared.analysis.byte_reader import NOTHING, MediaFacts, number

_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_MOST_PAGES: Final = 100_000
_CLEAR_BYTES: Final = 1 << 21
"""Of each end of a PDF that is searched in the clear; page trees stand near an end."""
_LINEARIZED: Final = re.compile(rb"/Linearized\b[^>]{0,200}?/N\s{1,4}(\d{1,6})\b")
_TREE: Final = re.compile(rb"/Type\s{0,4}/Pages\b")
_COUNT: Final = re.compile(rb"/Count\s{1,4}(\d{1,6})\b")
_PAGE: Final = re.compile(rb"/Type\s{0,4}/Page(?![a-zA-Z])")
_MOST_TREES: Final = 256
_TREE_BYTES: Final = 4096
"""Of a tree node on either side of its type: its kids may stand between that and the count."""
_MOST_STREAMS: Final = 32
_MOST_STREAM_BYTES: Final = 1 << 18
_MOST_INFLATED_BYTES: Final = 1 << 20
_DIRECTORY_END: Final = b"PK\x05\x06"
_DIRECTORY_SEARCH: Final = 66_000
_MOST_FILES: Final = 20_000
_ENTRY_BYTES: Final = 46
_MOST_PROPERTY_BYTES: Final = 1 << 16
_SLIDE: Final = re.compile(rb"ppt/slides/slide\d{1,6}\.xml")
_SHEET: Final = re.compile(rb"xl/worksheets/sheet\d{1,6}\.xml")
_PROPERTIES: Final = b"docProps/app.xml"
_PROPERTY_PAGES: Final = re.compile(rb"<Pages>(\d{1,6})</Pages>")
_DEFLATED: Final = 8


def page_facts(mime_type: str, data: bytes) -> MediaFacts:
    """Pages, slides or sheets of a file of that detected type, or nothing."""
    if mime_type == "application/pdf":
        pages = _pdf_pages(data)
    elif mime_type.startswith(_OFFICE):
        pages = _office_pages(data)
    else:
        return NOTHING
    return MediaFacts(pages=min(pages, _MOST_PAGES)) if pages else NOTHING


def _pdf_pages(data: bytes) -> int:
    linearized = _LINEARIZED.search(data, 0, 2048)
    if linearized:
        return int(linearized[1])
    clear = data if len(data) <= 2 * _CLEAR_BYTES else data[:_CLEAR_BYTES] + data[-_CLEAR_BYTES:]
    return _tree_count(clear) or _tree_count(_object_streams(clear)) or sum(1 for _ in _PAGE.finditer(clear))


def _tree_count(text: bytes) -> int:
    """The largest count of a page tree's nodes: that of the root."""
    largest = 0
    for tree in islice(_TREE.finditer(text), _MOST_TREES):
        before = text[max(0, tree.start() - _TREE_BYTES) : tree.start()]
        after = text[tree.end() : tree.end() + _TREE_BYTES]
        # The node's own dictionary, or with what is nested in it; not its neighbours, as outlines have counts too.
        own = before.rpartition(b">>")[2] + after.partition(b">>")[0]
        nested = before.rpartition(b"obj")[2] + after.partition(b"endobj")[0]
        count = _COUNT.search(own) or _COUNT.search(nested)
        largest = max(largest, int(count[1]) if count else 0)
    return largest


def _object_streams(data: bytes) -> bytes:
    """The beginnings of the compressed object streams (ISO 32000-1, 7.5.7), inflated."""
    inflated, room, at = [], _MOST_INFLATED_BYTES, 0
    for _ in range(_MOST_STREAMS):
        at = data.find(b"/ObjStm", at)
        start = data.find(b"stream", at, at + 1024) if at >= 0 else -1
        if start < 0 or room <= 0:
            break
        start += len(b"stream")
        start += 2 if data[start : start + 2] == b"\r\n" else 1
        try:
            piece = zlib.decompressobj().decompress(data[start : start + _MOST_STREAM_BYTES], room)
        except zlib.error:  # encrypted or broken
            piece = b""
        inflated.append(piece)
        room -= len(piece)
        at = start
    return b"\n".join(inflated)


def _office_pages(data: bytes) -> int:
    end = data.rfind(_DIRECTORY_END, max(0, len(data) - _DIRECTORY_SEARCH))
    if end < 0:
        return 0
    files = min(_MOST_FILES, number(data, end + 10, 2, "little"))
    at, counted, properties = number(data, end + 16, 4, "little"), 0, None
    for _ in range(files):
        if data[at : at + 4] != b"PK\x01\x02":
            break
        name_bytes = number(data, at + 28, 2, "little")
        name = data[at + _ENTRY_BYTES : at + _ENTRY_BYTES + name_bytes]
        counted += _SLIDE.fullmatch(name) is not None or _SHEET.fullmatch(name) is not None
        if name == _PROPERTIES:
            properties = at
        at += _ENTRY_BYTES + name_bytes + number(data, at + 30, 2, "little") + number(data, at + 32, 2, "little")
    return counted or (_property_pages(data, properties) if properties is not None else 0)


def _property_pages(data: bytes, entry: int) -> int:
    """What a text document's properties say: as its writer counted when it was saved."""
    method, packed = number(data, entry + 10, 2, "little"), number(data, entry + 20, 4, "little")
    local = number(data, entry + 42, 4, "little")
    start = local + 30 + number(data, local + 26, 2, "little") + number(data, local + 28, 2, "little")
    text = data[start : start + min(packed, _MOST_PROPERTY_BYTES)]
    if method == _DEFLATED:
        try:
            text = zlib.decompressobj(-15).decompress(text, _MOST_PROPERTY_BYTES)
        except zlib.error:
            return 0
    pages = _PROPERTY_PAGES.search(text)
    return int(pages[1]) if pages else 0
