"""What attachments are, by their first bytes and not by their name, and what their headers tell of size and length.

Own readers, some 300 lines, and not a library: those at hand read files whole or decode them (Pillow), carry tag
parsers for a few numbers (tinytag, mutagen) or raise on broken input; here hostile bytes cost a bounded amount of work
and never an error.
"""

from dataclasses import replace
from typing import Final

from shared.analysis.byte_reader import NOTHING, MediaFacts
from shared.analysis.page_counts import page_facts
from shared.analysis.picture_headers import picture_facts
from shared.analysis.sound_headers import sound_facts
from shared.domain.chat import ChatRequest, MediaPart, Modality
from shared.domain.features import AttachmentFeatures

_PREFIXES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"\x1f\x8b", "application/gzip"),
    (b"{\\rtf", "application/rtf"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/x-executable"),
)
"""Signatures at offset 0 (https://mimesniff.spec.whatwg.org/, and the formats' own specifications)."""
_RIFF_FORMS: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_MP4_BRANDS: Final = {b"M4A ": "audio/mp4", b"qt  ": "video/quicktime", b"heic": "image/heic", b"avif": "image/avif"}
_OFFICE_FOLDERS: Final = (
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)
_CANONICAL: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/opus": "audio/ogg",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "video/avi": "video/x-msvideo",
    "video/mov": "video/quicktime",
    "image/heif": "image/heic",
    "application/x-zip-compressed": "application/zip",
    "application/x-pdf": "application/pdf",
}
_SAME_CONTAINER: Final = (
    frozenset({"audio/mp4", "video/mp4", "video/quicktime"}),
    frozenset({"audio/webm", "video/webm", "video/x-matroska"}),
    frozenset({"audio/ogg", "video/ogg", "application/ogg"}),
    frozenset({"application/x-ole-storage", "application/msword", "application/vnd.ms-excel"}),
    frozenset({"audio/mpeg", "video/mpeg"}),
)
"""Types whose files begin alike, so that the first bytes cannot tell them apart."""
_HAS_SIGNATURE: Final = {mime for _, mime in _PREFIXES} | set(_RIFF_FORMS.values()) | set(_MP4_BRANDS.values())
_EXTENSIONS: Final = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "bmp": "image/bmp", "tif": "image/tiff", "tiff": "image/tiff", "heic": "image/heic", "heif": "image/heic",
    "avif": "image/avif", "pdf": "application/pdf", "zip": "application/zip", "gz": "application/gzip",
    "rtf": "application/rtf", "doc": "application/msword", "xls": "application/vnd.ms-excel",
    "ppt": "application/x-ole-storage", "docx": _OFFICE_FOLDERS[0][1], "xlsx": _OFFICE_FOLDERS[1][1],
    "pptx": _OFFICE_FOLDERS[2][1], "mp3": "audio/mpeg", "ogg": "audio/ogg", "opus": "audio/ogg", "flac": "audio/flac",
    "wav": "audio/wav", "m4a": "audio/mp4", "aac": "audio/aac", "mp4": "video/mp4", "m4v": "video/mp4",
    "mov": "video/quicktime", "avi": "video/x-msvideo", "webm": "video/webm", "mkv": "video/webm", "mpg": "video/mpeg",
    "mpeg": "video/mpeg", "flv": "video/x-flv", "exe": "application/x-executable", "txt": "text/plain",
    "md": "text/markdown", "csv": "text/csv", "json": "application/json", "xml": "application/xml", "html": "text/html",
}  # fmt: skip
"""Types by a file name's extension: a table of our own, as `mimetypes` knows what the machine's files say."""
_FRAME_HEADER_BYTES: Final = 3
_SYNC: Final = 0xFFE000
_ADTS_MASK: Final = 0xFFF600
_ADTS: Final = 0xFFF000
_HEAD_BYTES: Final = 4096


def detect(data: bytes) -> str | None:
    """The MIME type that the first bytes show, or None (text has no signature)."""
    for prefix, mime_type in _PREFIXES:
        if data.startswith(prefix):
            return _inside_zip(data) if mime_type == "application/zip" else mime_type
    if data[:4] == b"RIFF":
        return _RIFF_FORMS.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _MP4_BRANDS.get(data[8:12], "video/mp4")
    return _mpeg_audio(data)


def attachment_features(request: ChatRequest) -> tuple[AttachmentFeatures, ...]:
    """Every attachment of a request, with what it declares and what it is."""
    return tuple(
        _features(part, f"messages[{turn}].parts[{position}]")
        for turn, message in enumerate(request.messages)
        for position, part in enumerate(message.parts)
        if isinstance(part, MediaPart)
    )


def _features(part: MediaPart, location: str) -> AttachmentFeatures:
    detected = None if part.data is None else detect(part.data)
    facts = NOTHING if part.data is None or detected is None else facts_of(detected, part.data)
    declared = part.mime_type.split(";", 1)[0].strip().lower()
    by_name = _EXTENSIONS.get((part.filename or "").rpartition(".")[2].lower())
    unlike_declared = _unlike(_CANONICAL.get(declared, declared), detected) or (
        detected is None and part.modality is Modality.IMAGE
    )
    return AttachmentFeatures(
        location=location,
        modality=part.modality,
        declared_mime_type=part.mime_type,
        detected_mime_type=detected,
        size_bytes=len(part.data or b""),
        mismatch=part.data is not None and unlike_declared,
        extension_mismatch=part.data is not None and by_name is not None and _unlike(by_name, detected),
        pages=facts.pages,
        width=facts.width,
        height=facts.height,
        duration_s=facts.duration_s,
    )


def facts_of(detected: str, data: bytes) -> MediaFacts:
    """What the header of a file of that detected type tells: pages, width and height, duration."""
    if detected.startswith("image/"):
        return picture_facts(detected, data)
    if detected.startswith(("audio/", "video/")):
        facts = sound_facts(detected, data)
        return replace(facts, width=None, height=None) if detected.startswith("audio/") else facts
    return page_facts(detected, data)


def _unlike(declared: str, detected: str | None) -> bool:
    if detected is None:
        return declared in _HAS_SIGNATURE
    if declared == detected:
        return False
    if detected == "application/zip" and declared.startswith("application/vnd."):
        return False  # office files of other vendors are zip files too
    return not any({declared, detected} <= alike for alike in _SAME_CONTAINER)


def _inside_zip(data: bytes) -> str:
    head = data[:_HEAD_BYTES] + data[-_HEAD_BYTES:]
    if b"[Content_Types].xml" in head:
        for folder, mime_type in _OFFICE_FOLDERS:
            if folder in head:
                return mime_type
    return "application/zip"


def _mpeg_audio(data: bytes) -> str | None:
    """MP3 and AAC without a tag: eleven set bits, then version, layer and bit rate that are not reserved."""
    if len(data) < _FRAME_HEADER_BYTES:
        return None
    header = int.from_bytes(data[:_FRAME_HEADER_BYTES])
    if header & _ADTS_MASK == _ADTS:
        return "audio/aac"
    version, layer, bit_rate = header >> 11 & 3, header >> 9 & 3, header >> 4 & 15
    is_frame = header & _SYNC == _SYNC and version != 1 and layer != 0 and bit_rate not in {0, 15}
    return "audio/mpeg" if is_frame else None
