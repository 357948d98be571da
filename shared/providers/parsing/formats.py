"""What a file is, by its bytes; its name and declared type decide only between kinds of text."""

import re
from enum import StrEnum
from typing import Final

from shared.analysis.media import detect
from shared.domain.documents import DocumentUnreadable, NeedsOcr
from shared.providers.parsing import archives


class Format(StrEnum):
    """A family of files with a reader of its own; the value is how people call it."""

    PDF = "PDF"
    DOCX = "Word document"
    PPTX = "PowerPoint presentation"
    XLSX = "Excel workbook"
    XLS = "old Excel workbook"
    ODT = "OpenDocument text"
    ODS = "OpenDocument spreadsheet"
    EPUB = "EPUB book"
    HTML = "web page"
    MARKDOWN = "Markdown"
    CSV = "CSV table"
    JSON = "JSON"
    JSON_LINES = "JSON lines"
    NOTEBOOK = "notebook"
    EMAIL = "e-mail"
    TEXT = "text"


_BY_EXTENSION: Final = {
    "pdf": Format.PDF, "docx": Format.DOCX, "docm": Format.DOCX, "pptx": Format.PPTX, "pptm": Format.PPTX,
    "xlsx": Format.XLSX, "xlsm": Format.XLSX, "xls": Format.XLS, "odt": Format.ODT, "ods": Format.ODS,
    "epub": Format.EPUB, "html": Format.HTML, "htm": Format.HTML, "xhtml": Format.HTML, "md": Format.MARKDOWN,
    "markdown": Format.MARKDOWN, "csv": Format.CSV, "tsv": Format.CSV, "json": Format.JSON,
    "jsonl": Format.JSON_LINES, "ndjson": Format.JSON_LINES, "ipynb": Format.NOTEBOOK, "eml": Format.EMAIL,
    "txt": Format.TEXT,
}  # fmt: skip
_BY_MEDIA_TYPE: Final = {
    "text/html": Format.HTML, "application/xhtml+xml": Format.HTML, "text/markdown": Format.MARKDOWN,
    "text/csv": Format.CSV, "text/tab-separated-values": Format.CSV, "application/json": Format.JSON,
    "application/jsonl": Format.JSON_LINES, "application/x-ndjson": Format.JSON_LINES,
    "application/x-ipynb+json": Format.NOTEBOOK, "message/rfc822": Format.EMAIL, "text/plain": Format.TEXT,
    "application/pdf": Format.PDF,
}  # fmt: skip
_TEXTUAL: Final = frozenset(
    {
        Format.HTML, Format.MARKDOWN, Format.CSV, Format.JSON, Format.JSON_LINES, Format.NOTEBOOK, Format.EMAIL,
        Format.TEXT,
    }
)  # fmt: skip
_OFFICE: Final = {
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": Format.DOCX,
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": Format.PPTX,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": Format.XLSX,
}
_ZIPPED: Final = (("word/", Format.DOCX), ("ppt/", Format.PPTX), ("xl/", Format.XLSX))
_MIMETYPE_PART: Final = {
    b"application/vnd.oasis.opendocument.text": Format.ODT,
    b"application/vnd.oasis.opendocument.spreadsheet": Format.ODS,
    b"application/epub+zip": Format.EPUB,
}
_BY_STREAM: Final = (
    ("EncryptedPackage", "It is protected with a password. Send it without one."),
    ("WordDocument", "It is in Word's old format. Save it as .docx or PDF and send that."),
    ("PowerPoint Document", "It is in PowerPoint's old format. Save it as .pptx or PDF and send that."),
    ("__substg1.0_", "It is an Outlook message. Save it as .eml and send that."),
)
"""Names of streams in OLE files ([MS-CFB], section 2.6)."""
_REFUSED: Final = {
    "application/gzip": "It is an archive. Unpack it and send the files in it.",
    "application/rtf": "It is an RTF file. Save it as .docx or PDF and send that.",
    "application/x-executable": "It is a program.",
}
_WEAK: Final = frozenset({"image/bmp", "application/x-executable", "audio/mpeg", "audio/aac"})
_LOOKED_AT: Final = 4096
_BOMS: Final = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
_HTML: Final = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
_PDF_WITHIN: Final = 1024
"""Readers take a header that begins this late (ISO 32000-1, annex H, note 13)."""


def format_of(content: bytes, *, media_type: str, name: str) -> tuple[Format, str | None]:
    """What a file is, and a warning when it is not what it is called.

    Raises:
        NeedsOcr: it is a picture.
        DocumentUnreadable: it is of a kind that is not read here.
    """
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    called = _BY_EXTENSION.get(extension) or _BY_MEDIA_TYPE.get(media_type.partition(";")[0].strip().lower())
    found = _by_content(content)
    if found is None:
        if called is not None and called not in _TEXTUAL:
            raise DocumentUnreadable(
                f"It is called a {called}, but is none or is damaged. Open it, save it again and send that."
            )
        found = called or Format.TEXT
        if found is Format.TEXT and _HTML.match(content):
            found = Format.HTML
    warning = None
    if called is not None and found is not called:
        warning = f"It is called a {called}, but is a {found}, and was read as that."
    return found, warning


def _by_content(content: bytes) -> Format | None:
    """What the bytes show; None for text."""
    if content.startswith(_BOMS):
        return None
    if b"%PDF-" in content[:_PDF_WITHIN]:
        return Format.PDF
    detected = detect(content)
    if detected is None or _may_be_text(detected, content):
        return None
    if detected in _OFFICE or detected == "application/zip":
        return _zipped(content)
    if detected == "application/x-ole-storage":
        return _ole(content)
    if detected.startswith("image/"):
        raise NeedsOcr("It is a picture. Send its text, or have a model that reads pictures configured.", pages=1)
    if detected.startswith(("audio/", "video/")):
        raise DocumentUnreadable("It is sound or video. Send a transcript.")
    raise DocumentUnreadable(_REFUSED.get(detected, "It is of a kind that is not read here. Send it as PDF."))


def _may_be_text(detected: str, content: bytes) -> bool:
    """Whether a signature is so short that text may begin with it: BM, MZ, the eleven bits of an MP3 frame."""
    return detected in _WEAK and b"\0" not in content[:_LOOKED_AT]


def _zipped(content: bytes) -> Format:
    with archives.opened(content) as archive:
        names = archive.namelist()
        declared = archives.part(archive, "mimetype") if "mimetype" in names else None
        known = _MIMETYPE_PART.get((declared or b"").strip())
        if known is not None:
            return known
        if "[Content_Types].xml" in names:
            for folder, found in _ZIPPED:
                if any(name.startswith(folder) for name in names):
                    return found
    raise DocumentUnreadable("It is an archive of files. Unpack it and send the files in it.")


def _ole(content: bytes) -> Format:
    for stream, reason in _BY_STREAM:
        if stream.encode("utf-16-le") in content:
            raise DocumentUnreadable(reason)
    if any(name.encode("utf-16-le") in content for name in ("Workbook", "Book")):
        return Format.XLS
    raise DocumentUnreadable("It is in an old Office format. Save it as .docx, .xlsx, .pptx or PDF and send that.")
