"""Duration of sound and film, and a film's picture size, from headers alone. Bounded work, no decoding, any bytes.

Compressed sound without a length in its header is taken as of constant bit rate, from its first frame.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from shared.analysis.byte_reader import NOTHING, MediaFacts, number, picture, seconds

_MOST_BOXES: Final = 256
_SEARCH_BYTES: Final = 1 << 16
_TAG_BYTES: Final = 10
_MPEG1: Final = 3
_MPEG_KBIT: Final = {  # ISO/IEC 11172-3 and 13818-3: by (version 1, layer), bit rate index 1 to 14
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""The layer's two bits: 3 is layer I, 2 layer II, 1 layer III."""
_MPEG_HZ: Final = (44_100, 48_000, 32_000)
_EBML_SEGMENT, _EBML_INFO, _EBML_SCALE, _EBML_DURATION = 0x18538067, 0x1549A966, 0x2AD7B1, 0x4489


def sound_facts(mime_type: str, data: bytes) -> MediaFacts:
    """Duration (and picture size) of a file of that detected type, or nothing."""
    read = _READERS.get(mime_type)
    return NOTHING if read is None else read(data)


def _wav(data: bytes) -> MediaFacts:
    rate, at = 0, 12
    for _ in range(_MOST_BOXES):
        name, size = data[at : at + 4], number(data, at + 4, 4, "little")
        if name == b"fmt ":
            rate = number(data, at + 16, 4, "little")
        elif name == b"data":
            # A streamed file claims the largest size; what is there is the better witness.
            return MediaFacts(duration_s=seconds(min(size, max(0, len(data) - at - 8)), rate))
        elif not name:
            break
        at += 8 + size + size % 2
    return NOTHING


def _mp3(data: bytes) -> MediaFacts:
    start = 0
    if data[:3] == b"ID3":
        size = 0
        for place in range(6, 10):
            size = size << 7 | number(data, place, 1, "big") & 0x7F
        start = _TAG_BYTES + size
    for at in range(start, min(start + _SEARCH_BYTES // 16, len(data) - 4)):
        facts = _mp3_frame(data, at) if data[at] == 0xFF else None  # noqa: PLR2004  # a frame begins so
        if facts is not None:
            return facts
    return NOTHING


def _mp3_frame(data: bytes, at: int) -> MediaFacts | None:
    header = number(data, at, 4, "big")
    version, layer, kbit, hz = header >> 19 & 3, header >> 17 & 3, header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer == 0 or kbit in {0, 15} or hz == 3:  # noqa: PLR2004  # reserved
        return None
    rate = _MPEG_HZ[hz] >> (0 if version == _MPEG1 else 1 if version == 2 else 2)  # noqa: PLR2004  # MPEG 2, else 2.5
    samples = 384 if layer == 3 else 576 if layer == 1 and version != _MPEG1 else 1152  # noqa: PLR2004
    head = data[at : at + 256]
    for mark, offset in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        place = head.find(mark)
        if place >= 0 and (mark == b"VBRI" or number(head, place + 7, 1, "big") & 1):
            frames = number(head, place + offset, 4, "big")
            return MediaFacts(duration_s=seconds(frames * samples, rate))
    bytes_per_s = 125 * _MPEG_KBIT[version == _MPEG1, layer][kbit - 1]
    return MediaFacts(duration_s=seconds(len(data) - at, bytes_per_s))


def _flac(data: bytes) -> MediaFacts:
    # RFC 9639, section 8.2: 20 bits of rate, 3 of channels, 5 of depth, 36 of samples.
    packed = number(data, 18, 8, "big")
    return MediaFacts(duration_s=seconds(packed & (1 << 36) - 1, packed >> 44))


def _ogg(data: bytes) -> MediaFacts:
    last = data.rfind(b"OggS", max(0, len(data) - _SEARCH_BYTES))
    head = data[:256]
    opus, vorbis = head.find(b"OpusHead"), head.find(b"\x01vorbis")
    # RFC 7845: granules are samples at 48 kHz, after `pre-skip` of them.
    rate, skipped = 48_000, number(head, opus + 10, 2, "little")
    if opus < 0:
        rate, skipped = number(head, vorbis + 12, 4, "little") if vorbis >= 0 else 0, 0
    return MediaFacts(duration_s=seconds(number(data, last + 6, 8, "little") - skipped, rate)) if last >= 0 else NOTHING


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, first and last byte of what the boxes of a range hold (ISO/IEC 14496-12)."""
    at = start
    for _ in range(_MOST_BOXES):
        size, name, head = number(data, at, 4, "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = number(data, at + 8, 8, "big"), 16
        elif size == 0:
            size = end - at
        if size < head or at + head > end:
            return
        yield name, at + head, min(at + size, end)
        at += size


def _mp4(data: bytes) -> MediaFacts:
    duration, size = None, NOTHING
    moov = next((box for box in _boxes(data, 0, len(data)) if box[0] == b"moov"), None)
    for name, start, end in _boxes(data, *moov[1:]) if moov else ():
        if name == b"mvhd":
            wide = number(data, start, 1, "big") == 1
            scale = number(data, start + (20 if wide else 12), 4, "big")
            units = number(data, start + (24 if wide else 16), 8 if wide else 4, "big")
            duration = seconds(units, scale)
        elif name == b"trak" and size is NOTHING:
            size = _track_size(data, start, end)
    return MediaFacts(width=size.width, height=size.height, duration_s=duration)


def _track_size(data: bytes, start: int, end: int) -> MediaFacts:
    for name, _, last in _boxes(data, start, end):
        if name == b"tkhd":  # ends with width and height in 16.16; sound has none
            return picture(number(data, last - 8, 2, "big"), number(data, last - 4, 2, "big"))
    return NOTHING


def _avi(data: bytes) -> MediaFacts:
    at = data[:4096].find(b"avih")
    frame_us, frames = number(data, at + 8, 4, "little"), number(data, at + 24, 4, "little")
    size = picture(number(data, at + 40, 4, "little"), number(data, at + 44, 4, "little"))
    return MediaFacts(None, size.width, size.height, seconds(frame_us * frames, 1e6)) if at >= 0 else NOTHING


def _webm(data: bytes) -> MediaFacts:
    scale_ns, duration = 1_000_000, 0.0
    for name, start, end in _elements(data, 0, len(data), enter={_EBML_SEGMENT, _EBML_INFO}):
        if name == _EBML_SCALE:
            scale_ns = number(data, start, min(8, end - start), "big")
        elif name == _EBML_DURATION and end - start in {4, 8}:
            (duration,) = struct.unpack(">f" if end - start == 4 else ">d", data[start:end])  # noqa: PLR2004  # bytes
    if not math.isfinite(duration):
        return NOTHING
    return MediaFacts(duration_s=seconds(duration * scale_ns, 1e9))


def _elements(data: bytes, start: int, end: int, enter: set[int]) -> Iterator[tuple[int, int, int]]:
    """EBML elements (RFC 8794), those of `enter` opened; stops where media data begins."""
    at = start
    for _ in range(_MOST_BOXES):
        name, name_bytes = _varint(data, at, keep_mark=True)
        size, size_bytes = _varint(data, at + name_bytes, keep_mark=False)
        if not name_bytes or not size_bytes or at >= end:
            return
        inside = at + name_bytes + size_bytes
        if name in enter:
            at = inside
            continue
        if inside + size > len(data):
            return
        yield name, inside, inside + size
        at = inside + size


def _varint(data: bytes, at: int, *, keep_mark: bool) -> tuple[int, int]:
    first = number(data, at, 1, "big")
    length = 9 - first.bit_length()
    if not first or at + length > len(data):
        return 0, 0
    value = number(data, at, length, "big")
    return (value if keep_mark else value & (1 << 7 * length) - 1), length


_READERS: Final[Mapping[str, Callable[[bytes], MediaFacts]]] = {
    "audio/wav": _wav,
    "audio/mpeg": _mp3,
    "audio/flac": _flac,
    "audio/ogg": _ogg,
    "audio/mp4": _mp4,
    "video/mp4": _mp4,
    "video/quicktime": _mp4,
    "video/x-msvideo": _avi,
    "video/webm": _webm,
}
