"""Width and height of pictures, from their headers alone. Bounded work, no decoding, any bytes."""

from collections.abc import Callable, Mapping
from typing import Final

from shared.analysis.byte_reader import NOTHING, MediaFacts, Order, number, picture

_MOST_SEGMENTS: Final = 512
_MOST_ENTRIES: Final = 256
_MOST_PROPERTIES: Final = 64
_HEAD_BYTES: Final = 1 << 16
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers (ITU-T T.81, table B.1), without tables, extensions and arithmetic conditioning."""
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xDA)})
"""Markers without a length; the last begins the picture's data."""
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SHORT = 256, 257, 3


def picture_facts(mime_type: str, data: bytes) -> MediaFacts:
    """Width and height of a picture of that detected type, or nothing."""
    read = _READERS.get(mime_type)
    return NOTHING if read is None else read(data)


def _png(data: bytes) -> MediaFacts:
    # https://www.w3.org/TR/png-3/#11IHDR
    return picture(number(data, 16, 4, "big"), number(data, 20, 4, "big")) if data[12:16] == b"IHDR" else NOTHING


def _gif(data: bytes) -> MediaFacts:
    return picture(number(data, 6, 2, "little"), number(data, 8, 2, "little"))


def _bmp(data: bytes) -> MediaFacts:
    height = int.from_bytes(data[22:26], "little", signed=True)  # negative: stored top down
    return picture(number(data, 18, 4, "little"), abs(height))


def _jpeg(data: bytes) -> MediaFacts:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if number(data, at, 1, "big") != 0xFF:  # noqa: PLR2004  # every marker begins so
            break
        marker = number(data, at + 1, 1, "big")
        if marker in _JPEG_FRAMES:
            return picture(number(data, at + 7, 2, "big"), number(data, at + 5, 2, "big"))
        if marker == 0xFF:  # noqa: PLR2004  # padding
            at += 1
        else:
            at += 2 if marker in _JPEG_BARE else 2 + max(2, number(data, at + 2, 2, "big"))
    return NOTHING


def _webp(data: bytes) -> MediaFacts:
    # https://developers.google.com/speed/webp/docs/riff_container
    match data[12:16]:
        case b"VP8X":
            return picture(1 + number(data, 24, 3, "little"), 1 + number(data, 27, 3, "little"))
        case b"VP8L":
            bits = number(data, 21, 4, "little")
            return picture(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        case b"VP8 ":
            return picture(number(data, 26, 2, "little") & 0x3FFF, number(data, 28, 2, "little") & 0x3FFF)
        case _:
            return NOTHING


def _tiff(data: bytes) -> MediaFacts:
    order: Order = "little" if data[:2] == b"II" else "big"
    directory = number(data, 4, 4, order)
    sides = {}
    for entry in range(min(_MOST_ENTRIES, number(data, directory, 2, order))):
        at = directory + 2 + 12 * entry
        tag, kind = number(data, at, 2, order), number(data, at + 2, 2, order)
        if tag in {_TIFF_WIDTH, _TIFF_HEIGHT}:
            sides[tag] = number(data, at + 8, 2 if kind == _TIFF_SHORT else 4, order)
    return picture(sides.get(_TIFF_WIDTH, 0), sides.get(_TIFF_HEIGHT, 0))


def _heif(data: bytes) -> MediaFacts:
    # ISO/IEC 23008-12: one `ispe` a picture; thumbnails and the tiles of a grid are smaller than the whole.
    head, found, at = data[:_HEAD_BYTES], NOTHING, 0
    for _ in range(_MOST_PROPERTIES):
        at = head.find(b"ispe", at)
        if at < 0:
            break
        at += 4
        facts = picture(number(head, at + 4, 4, "big"), number(head, at + 8, 4, "big"))
        if (facts.width or 0) * (facts.height or 0) > (found.width or 0) * (found.height or 0):
            found = facts
    return found


_READERS: Final[Mapping[str, Callable[[bytes], MediaFacts]]] = {
    "image/png": _png,
    "image/gif": _gif,
    "image/bmp": _bmp,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
    "image/tiff": _tiff,
    "image/heic": _heif,
    "image/avif": _heif,
}
