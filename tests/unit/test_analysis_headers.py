"""Pages, sizes and durations from headers: right on well-formed files, silent on others, and never at any price."""

import io
import struct
import wave
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.analysis.byte_reader import NOTHING, MediaFacts
from shared.analysis.media import attachment_features, detect, facts_of
from shared.domain.chat import ChatRequest, MediaPart, Message, Modality, Role

# --- builders of small files, by the formats' specifications ---------------------------------------------------------


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0)


def jpeg(width: int, height: int) -> bytes:
    thumbnail = b"\xff\xe1" + struct.pack(">H", 40) + b"Exif\0\0" + b"\xff\xc0\x00\x0b\x08\x00\x01\x00\x01" + bytes(23)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + thumbnail + b"\xff\xff\xdb" + struct.pack(">H", 4) + bytes(2) + frame


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, height) + bytes(20)


def webp(form: bytes, width: int, height: int) -> bytes:
    match form:
        case b"VP8X":
            body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        case b"VP8L":
            body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
        case _:
            body = b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + bytes(4) + b"WEBP" + form + struct.pack("<I", len(body)) + body


def tiff(order: str, width: int, height: int) -> bytes:
    entries = struct.pack(f"{order}HHIHH", 256, 3, 1, width, 0) + struct.pack(f"{order}HHII", 257, 4, 1, height)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 16) + bytes(8) + struct.pack(f"{order}H", 2) + entries


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def heif(brand: bytes, *sizes: tuple[int, int]) -> bytes:
    properties = b"".join(box(b"ispe", bytes(4) + struct.pack(">II", *size)) for size in sizes)
    return box(b"ftyp", brand + bytes(4)) + box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", properties)))


def mp4(seconds: float, size: tuple[int, int] | None = None, *, wide: bool = False, moov_last: bool = True) -> bytes:
    scale = 600
    mvhd = (
        struct.pack(">B3xQQIQ", 1, 0, 0, scale, int(seconds * scale))
        if wide
        else struct.pack(">B3xIIII", 0, 0, 0, scale, int(seconds * scale))
    )
    sound = box(b"trak", box(b"tkhd", bytes(84)))
    film = box(b"trak", box(b"tkhd", bytes(76) + struct.pack(">HHHH", size[0], 0, size[1], 0))) if size else b""
    moov, mdat = box(b"moov", box(b"mvhd", mvhd) + sound + film), box(b"mdat", bytes(500))
    return box(b"ftyp", b"isom" + bytes(4)) + (mdat + moov if moov_last else moov + mdat)


def wav(seconds: float, *, claimed: int | None = None) -> bytes:
    held = io.BytesIO()
    with wave.open(held, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(int(16_000 * seconds)))
    data = held.getvalue()
    return data if claimed is None else data[:40] + struct.pack("<I", claimed) + data[44:]


def mp3(frames: int, *, tag: int = 0, vbr: bytes = b"") -> bytes:
    frame = b"\xff\xfb\x90\x00" + bytes(413)  # MPEG 1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes, 1,152 samples
    first = b"\xff\xfb\x90\x00" + bytes(32) + vbr
    head = b"ID3\x04\0\0" + bytes((0, 0, tag >> 7 & 127, tag & 127)) + bytes(tag) if tag else b""
    return head + first + bytes(417 - len(first)) + frame * (frames - 1)


def flac(seconds: int, rate: int) -> bytes:
    packed = rate << 44 | 1 << 41 | 15 << 36 | seconds * rate
    return b"fLaC\x00\x00\x00\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(16)


def ogg(codec: bytes, granules: int) -> bytes:
    first = b"OggS\0\x02" + bytes(22) + codec
    return first + bytes(5000) + b"OggS\0\x04" + struct.pack("<Q", granules) + bytes(40)


def ebml(name: int, body: bytes, *, unknown: bool = False) -> bytes:
    encoded = name.to_bytes((name.bit_length() + 7) // 8, "big")
    return encoded + (b"\x01" + b"\xff" * 7 if unknown else (len(body) | 1 << 56).to_bytes(8, "big")) + body


def webm(milliseconds: float) -> bytes:
    info = ebml(
        0x1549A966, ebml(0x2AD7B1, (1_000_000).to_bytes(3, "big")) + ebml(0x4489, struct.pack(">d", milliseconds))
    )
    segment = ebml(0x18538067, ebml(0xEC, bytes(30)) + info + ebml(0x1F43B675, bytes(90)), unknown=True)
    return ebml(0x1A45DFA3, bytes(20)) + segment


def avi(frames: int, fps: int) -> bytes:
    header = struct.pack("<10I", 1_000_000 // fps, 0, 0, 0, frames, 0, 2, 0, 320, 240)
    return b"RIFF" + bytes(4) + b"AVI LIST" + bytes(4) + b"hdrlavih" + struct.pack("<I", 56) + header


PDF_CLEAR = b"""%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R /Outlines 9 0 R>> endobj
9 0 obj <</Type /Outlines /Count 40>> endobj
2 0 obj <</Type /Pages /Kids [3 0 R 4 0 R] /Count 3>> endobj
4 0 obj <</Count 2 /Parent 2 0 R /Type/Pages /Kids [5 0 R 6 0 R]>> endobj
"""
PDF_PAGES_ALONE = b"%PDF-1.4\n" + b"<</Type/Page>>\n<</Type /Page/Rotate 0>>\n<</Type /PageLabel>>\n"


def pdf_compressed(pages: int) -> bytes:
    packed = zlib.compress(b"2 0 3 50 <</Type/Catalog/Pages 3 0 R>><</Type/Pages/Count %d/Kids[4 0 R]>>" % pages)
    return (
        b"%PDF-1.5\n7 0 obj <</Type/ObjStm/N 2/First 9/Filter/FlateDecode>>\nstream\r\n"
        + packed
        + b"\nendstream endobj"
    )


def office(**files: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return held.getvalue()


DOCX = office(**{"word__document.xml": "<w/>", "docProps__app.xml": "<Properties><Pages>12</Pages></Properties>"})
PPTX = office(**{f"ppt__slides__slide{n}.xml": "<s/>" for n in range(1, 8)}, **{"ppt__slides___rels.xml": "x"})
XLSX = office(**{f"xl__worksheets__sheet{n}.xml": "<s/>" for n in (1, 2)}, **{"xl__workbook.xml": "<w/>"})

KNOWN = [
    ("png", png(640, 480), MediaFacts(width=640, height=480)),
    ("jpeg behind a thumbnail", jpeg(1200, 800), MediaFacts(width=1200, height=800)),
    ("gif", gif(10, 20), MediaFacts(width=10, height=20)),
    ("bmp", bmp(64, 32), MediaFacts(width=64, height=32)),
    ("bmp stored top down", bmp(64, -32), MediaFacts(width=64, height=32)),
    ("webp lossy", webp(b"VP8 ", 550, 368), MediaFacts(width=550, height=368)),
    ("webp lossless", webp(b"VP8L", 550, 368), MediaFacts(width=550, height=368)),
    ("webp extended", webp(b"VP8X", 5000, 3), MediaFacts(width=5000, height=3)),
    ("tiff little", tiff("<", 100, 70_000), MediaFacts(width=100, height=70_000)),
    ("tiff big", tiff(">", 100, 70_000), MediaFacts(width=100, height=70_000)),
    ("heic with tiles and thumbnail", heif(b"heic", (512, 512), (4032, 3024), (320, 240)), MediaFacts(None, 4032, 3024)),
    ("avif", heif(b"avif", (30, 20)), MediaFacts(None, 30, 20)),
    ("wav", wav(2.5), MediaFacts(duration_s=2.5)),
    ("wav of a stream that never knew its end", wav(2, claimed=0xFFFFFFFF), MediaFacts(duration_s=2.0)),
    ("mp3 of constant rate", mp3(100), MediaFacts(duration_s=2.606)),
    ("mp3 behind a tag", mp3(100, tag=300), MediaFacts(duration_s=2.606)),
    ("mp3 of variable rate", mp3(2, vbr=b"Xing" + struct.pack(">II", 1, 1000)), MediaFacts(duration_s=26.122)),
    ("flac", flac(90, 48_000), MediaFacts(duration_s=90.0)),
    ("opus", ogg(b"OpusHead\x01\x02" + struct.pack("<H", 312), 48_312), MediaFacts(duration_s=1.0)),
    ("vorbis", ogg(b"\x01vorbis" + bytes(5) + struct.pack("<I", 44_100), 88_200), MediaFacts(duration_s=2.0)),
    ("mp4", mp4(12.5, (1280, 720)), MediaFacts(None, 1280, 720, 12.5)),
    ("mp4 with its index first, in 64 bits", mp4(3, (64, 48), wide=True, moov_last=False), MediaFacts(None, 64, 48, 3.0)),
    ("webm of unknown size", webm(61_500.0), MediaFacts(duration_s=61.5)),
    ("avi", avi(250, 25), MediaFacts(None, 320, 240, 10.0)),
    ("pdf tree in the clear, outlines aside", PDF_CLEAR, MediaFacts(pages=3)),
    ("pdf tree in an object stream", pdf_compressed(321), MediaFacts(pages=321)),
    ("pdf for the web", b"%PDF-1.4\n1 0 obj <</Linearized 1/L 99/N 17/O 3>>", MediaFacts(pages=17)),
    ("pdf pages without a tree", PDF_PAGES_ALONE, MediaFacts(pages=2)),
    ("docx", DOCX, MediaFacts(pages=12)),
    ("pptx", PPTX, MediaFacts(pages=7)),
    ("xlsx", XLSX, MediaFacts(pages=2)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "facts"), [case[1:] for case in KNOWN], ids=[case[0] for case in KNOWN])
def test_a_header_tells(data: bytes, facts: MediaFacts):
    detected = detect(data)
    assert detected is not None
    assert facts_of(detected, data) == facts


@pytest.mark.parametrize("data", [case[1] for case in KNOWN], ids=[case[0] for case in KNOWN])
def test_a_file_cut_anywhere_is_read_without_a_word(data: bytes):
    detected = detect(data)
    assert detected is not None
    for end in range(min(len(data), 400)):
        facts_of(detected, data[:end])


@pytest.mark.parametrize(
    "data",
    [
        png(0, 10), png(1 << 31, 10), gif(0, 0), mp4(1e9, wide=True), webm(float("nan")), webm(float("inf")), webm(-5.0),
        flac(0, 48_000), ogg(b"OpusHead\x01\x02\x00\x00", 0), ogg(b"nothing known", 500),
        b"%PDF-1.5\n7 0 obj <</Type/ObjStm>>\nstream\nnot deflated", b"PK\x03\x04" + bytes(300),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_not_told(data: bytes):
    assert facts_of(detect(data) or "", data) == NOTHING


# --- hostile bytes ---------------------------------------------------------------------------------------------------

_TYPES = sorted({str(detect(case[1])) for case in KNOWN})


@given(st.sampled_from(KNOWN), st.data())
@settings(max_examples=400)
def test_damaged_files_never_raise(case: tuple[str, bytes, MediaFacts], data: Any):
    damaged = bytearray(case[1])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, min(len(damaged), 600) - 1))
        damaged[place : place + 1] = data.draw(st.binary(max_size=4))
    for mime_type in {detect(bytes(damaged)), detect(case[1])} - {None}:
        _sane(facts_of(str(mime_type), bytes(damaged)))


@given(st.sampled_from(_TYPES), st.binary(max_size=600))
@settings(max_examples=400)
def test_any_bytes_under_any_type_never_raise(mime_type: str, data: bytes):
    _sane(facts_of(mime_type, data))


def _sane(facts: MediaFacts) -> None:
    assert facts.pages is None or 1 <= facts.pages <= 100_000
    assert facts.duration_s is None or 0 <= facts.duration_s <= 360_000
    assert (facts.width is None) == (facts.height is None)
    assert all(side is None or 1 <= side <= 1 << 20 for side in (facts.width, facts.height))


class Watched(bytes):
    """Bytes that count what is taken out of them, and in how many steps."""

    taken = 0
    steps = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        type(self).steps += 1
        type(self).taken += len(found) if isinstance(found, bytes) else 1
        return found


_MEGABYTE = 1 << 20
HOSTILE = [
    ("jpeg of empty segments", b"\xff\xd8" + b"\xff\xe1\x00\x02" * (_MEGABYTE // 4)),
    ("jpeg of padding", b"\xff\xd8" + b"\xff" * _MEGABYTE),
    ("tiff of 65,535 entries", b"II*\0\x08\0\0\0\xff\xff" + bytes(_MEGABYTE)),
    ("heif of properties", box(b"ftyp", b"heic") + box(b"ispe", bytes(12)) * (_MEGABYTE // 20)),
    ("mp4 of empty boxes", box(b"ftyp", b"isom") + box(b"free", b"") * (_MEGABYTE // 8)),
    ("mp4 of tracks", box(b"ftyp", b"isom") + box(b"moov", box(b"trak", box(b"free", b"")) * (_MEGABYTE // 16))),
    ("wav of chunks", b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * (_MEGABYTE // 8)),
    ("mp3 of broken syncs", b"ID3\x04\0\0\0\0\0\0" + b"\xff\xe0\x00" * (_MEGABYTE // 3)),
    ("webm of void", ebml(0x1A45DFA3, b"") + ebml(0x18538067, b"\xec\x80" * (_MEGABYTE // 2))),
    ("webm that nests its segment", ebml(0x1A45DFA3, b"") + b"\x18\x53\x80\x67\x80" * (_MEGABYTE // 5)),
    ("ogg of pages", b"OggS" * (_MEGABYTE // 4)),
    ("avi without a header", b"RIFF\0\0\0\0AVI " + bytes(_MEGABYTE)),
]


@pytest.mark.parametrize("data", [case[1] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_work_on_hostile_pictures_sound_and_film_is_bounded(data: bytes):
    detected = detect(data)
    assert detected is not None
    watched = Watched(data)
    Watched.taken = Watched.steps = 0
    facts_of(detected, watched)
    assert Watched.steps < 20_000
    assert Watched.taken < 200_000


def test_a_zip_directory_that_claims_much_is_read_in_part(monkeypatch: pytest.MonkeyPatch):
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<HHH", 21, 0, 0) + bytes(12) + b"ppt/slides/slide1.xml"
    directory = entry * 60_000
    head = b"PK\x03\x04[Content_Types].xml ppt/"
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65_535, 65_535, len(directory), len(head), 0)
    data = head + directory + end
    assert facts_of(str(detect(data)), data).pages == 20_000


def test_bombs_are_inflated_in_part():
    bomb = zlib.compress(bytes(64 << 20), 9)
    streams = b"".join(b"<</Type/ObjStm>>stream\n" + bomb[:200_000] + b"endstream\n" for _ in range(40))
    seen: list[int] = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, *arguments: int) -> None:
            self._real = real(*arguments)

        def decompress(self, data: bytes, most: int) -> bytes:
            piece = self._real.decompress(data, most)
            seen.append(len(piece))
            return piece

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zlib, "decompressobj", Counting)
        assert facts_of("application/pdf", b"%PDF-1.5\n" + streams) == NOTHING
        docx = office(**{"word__document.xml": "<w/>", "docProps__app.xml": " " * (8 << 20) + "<Pages>3</Pages>"})
        assert facts_of(str(detect(docx)), docx) == NOTHING
    assert 0 < sum(seen) <= (1 << 20) + (1 << 16)


# --- what callers see ------------------------------------------------------------------------------------------------


def _features(part: MediaPart) -> Any:
    (found,) = attachment_features(ChatRequest((Message(Role.USER, (part,)),)))
    return found


@pytest.mark.parametrize(
    ("filename", "data", "mismatch"),
    [
        ("photo.png", png(3, 3), False),
        ("photo.PNG", png(3, 3), False),
        ("photo.jpg", png(3, 3), True),
        ("archive.tar.gz", b"\x1f\x8b\x08", False),
        ("letter.pdf", b"MZ\x90\x00", True),
        ("slides.docx", PPTX, True),
        ("slides.pptx", PPTX, False),
        ("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", False),
        ("notes.txt", b"just words", False),
        ("notes.txt", b"%PDF-1.4", True),
        ("film.mov", mp4(1, (4, 4)), False),
        ("data.unknown", png(3, 3), False),
        ("README", png(3, 3), False),
        (None, png(3, 3), False),
    ],
)
def test_a_wrong_extension_is_noted(filename: str | None, data: bytes, mismatch: bool):
    part = MediaPart(Modality.DOCUMENT, "application/octet-stream", data, filename=filename)
    assert _features(part).extension_mismatch is mismatch


def test_the_facts_are_told_and_the_name_is_not():
    found = _features(MediaPart(Modality.VIDEO, "video/mp4", mp4(4, (640, 360)), filename="jane-at-home.mp4"))
    assert (found.width, found.height, found.duration_s, found.pages) == (640, 360, 4.0, None)
    assert "jane" not in repr(found)
    sound = _features(
        MediaPart(Modality.AUDIO, "audio/mp4", b"\0\0\0\x18ftypM4A " + bytes(12) + mp4(4, (640, 360))[16:])
    )
    assert (sound.width, sound.duration_s) == (None, 4.0)
