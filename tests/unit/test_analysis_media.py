"""Attachments by their first bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis.media import attachment_features, detect
from shared.domain.chat import ChatRequest, MediaPart, Message, Modality, Role, TextPart

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
DOCX = b"PK\x03\x04\x14\x00" + bytes(20) + b"[Content_Types].xml" + bytes(20) + b"word/document.xml"

KNOWN = [
    (PNG, "image/png"),
    (JPEG, "image/jpeg"),
    (b"GIF89a" + bytes(10), "image/gif"),
    (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
    (b"BM" + bytes(30), "image/bmp"),
    (b"II*\x00" + bytes(10), "image/tiff"),
    (b"\x00\x00\x00\x18ftypheic", "image/heic"),
    (b"\x00\x00\x00\x18ftypavif", "image/avif"),
    (b"%PDF-1.7\n", "application/pdf"),
    (b"PK\x03\x04" + bytes(40), "application/zip"),
    (DOCX, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"PK\x03\x04[Content_Types].xml xl/workbook.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"PK\x03\x04[Content_Types].xml ppt/slides", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(8), "application/x-ole-storage"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"{\\rtf1", "application/rtf"),
    (b"ID3\x04" + bytes(10), "audio/mpeg"),
    (b"\xff\xfb\x90\x44" + bytes(10), "audio/mpeg"),
    (b"\xff\xf1\x50\x80" + bytes(10), "audio/aac"),
    (b"RIFF\x10\x00\x00\x00WAVEfmt ", "audio/wav"),
    (b"OggS" + bytes(10), "audio/ogg"),
    (b"fLaC" + bytes(10), "audio/flac"),
    (b"\x00\x00\x00\x18ftypM4A ", "audio/mp4"),
    (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
    (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
    (b"\x1aE\xdf\xa3" + bytes(10), "video/webm"),
    (b"RIFF\x10\x00\x00\x00AVI LIST", "video/x-msvideo"),
    (b"\x7fELF\x02", "application/x-executable"),
    (b"plain words", None),
    (b"RIFF\x10\x00\x00\x00XXXX", None),
    (b"\xff\xff\xff\xff", None),
    (b"\xff", None),
    (b"", None),
]  # fmt: skip


@pytest.mark.parametrize(("data", "mime_type"), KNOWN, ids=[str(case[1]) + str(i) for i, case in enumerate(KNOWN)])
def test_detected(data: bytes, mime_type: str | None):
    assert detect(data) == mime_type


@pytest.mark.parametrize(
    ("modality", "declared", "data", "mismatch"),
    [
        (Modality.IMAGE, "image/png", PNG, False),
        (Modality.IMAGE, "image/jpeg", PNG, True),
        (Modality.IMAGE, "image/jpg", JPEG, False),
        (Modality.IMAGE, "IMAGE/PNG; q=1", PNG, False),
        (Modality.IMAGE, "image/png", b"not an image", True),
        (Modality.IMAGE, "image/svg+xml", b"<svg/>", True),
        (Modality.DOCUMENT, "application/pdf", b"\x7fELF", True),
        (Modality.DOCUMENT, "application/pdf", b"%PDF-1.4", False),
        (Modality.DOCUMENT, "text/plain", b"hello", False),
        (Modality.DOCUMENT, "text/plain", PNG, True),
        (Modality.DOCUMENT, KNOWN[10][1], DOCX, False),
        (Modality.DOCUMENT, "application/vnd.oasis.opendocument.text", b"PK\x03\x04" + bytes(30), False),
        (Modality.DOCUMENT, "application/msword", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", False),
        (Modality.AUDIO, "audio/mp3", b"ID3\x04" + bytes(10), False),
        (Modality.AUDIO, "audio/x-wav", b"RIFF\x10\x00\x00\x00WAVEfmt ", False),
        (Modality.AUDIO, "audio/webm", b"\x1aE\xdf\xa3", False),
        (Modality.AUDIO, "audio/mp4", b"\x00\x00\x00\x18ftypisom", False),
        (Modality.VIDEO, "video/mp4", b"\x1aE\xdf\xa3", True),
    ],
)
def test_mismatch_with_what_is_declared(modality: Modality, declared: str, data: bytes, mismatch: bool):
    request = ChatRequest((Message(Role.USER, (TextPart("look"), MediaPart(modality, declared, data))),))
    (found,) = attachment_features(request)
    assert found.mismatch is mismatch
    assert found.location == "messages[0].parts[1]"
    assert found.size_bytes == len(data)
    assert found.declared_mime_type == declared


def test_what_is_only_named_by_uri_is_not_judged():
    part = MediaPart(Modality.VIDEO, "video/mp4", uri="gs://bucket/film.mp4")
    (found,) = attachment_features(ChatRequest((Message(Role.USER, (part,)),)))
    assert (found.detected_mime_type, found.mismatch, found.size_bytes) == (None, False, 0)


@given(st.binary(max_size=200))
def test_detect_takes_any_bytes(data: bytes):
    assert detect(data) is None or "/" in str(detect(data))
