"""PDF by PDFium, and by pypdf where that fails or where text runs from right to left."""

import ctypes
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from shared.domain.documents import BlockKind, DocumentUnreadable, NeedsOcr
from shared.providers.parsing.draft import Draft
from shared.providers.parsing.pdf_hidden import PageFinds, remove_hidden

MAX_PAGES: Final = 5000
_PASSWORD: Final = "It is protected with a password. Send it without one."  # noqa: S105 - a sentence, no secret
_DAMAGED: Final = "The PDF is damaged or incomplete. Open it, save or print it as PDF again and send that."
_SCANNED: Final = "It holds pictures of text only. Run text recognition (OCR) on it and send the result."
_RIGHT_TO_LEFT: Final = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_BROKEN_WORD: Final = re.compile(r"[\ufffe\u0002](?:\r?\n)?(?=(\w?))")
_LIST_ITEM: Final = re.compile(r"[\u2022\u25cf\u25aa\u25e6\uf0b7*\u2013-]\s+\S|\(?\d{1,2}[.)]\s+\S")
_GAP: Final = 0.7
"""Of a line's height, from which on white space between lines begins another paragraph."""
_LARGER: Final = 1.15
_HEADING_CHARS: Final = 160
_LEVELS: Final = 4
_PROGRAMMING_ERRORS: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    RecursionError,
)
"""What pypdf is known to raise for hostile files beside its own errors."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a page; `top` and `bottom` in points from the page's lower edge, `height` that of its letters."""

    text: str
    page: int
    top: float
    bottom: float
    left: float

    @property
    def height(self) -> float:
        return self.top - self.bottom


def read_pdf(content: bytes, draft: Draft) -> int:
    """Read a PDF; returns how many pages it has.

    Raises:
        NeedsOcr: no page holds text, and some hold pictures.
        DocumentUnreadable: it is protected, damaged, or too long.
    """
    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise DocumentUnreadable(_PASSWORD) from None
        return _salvaged(content, draft)
    try:
        return _read(document, content, draft)
    except pdfium.PdfiumError:
        raise DocumentUnreadable(_DAMAGED) from None


def _read(document: pdfium.PdfDocument, content: bytes, draft: Draft) -> int:
    pages = len(document)
    if pages > MAX_PAGES:
        raise DocumentUnreadable(f"It has more than {MAX_PAGES:,} pages. Send it in parts.")
    draft.title = _title(document)
    lines: list[_Line] = []
    pictures: list[int] = []
    damaged: list[int] = []
    for number in range(1, pages + 1):
        try:
            finds, found = _page(document, number, content)
        except pdfium.PdfiumError:
            damaged.append(number)
            continue
        lines += found
        draft.hide(finds.hidden)
        if finds.has_pictures and not found:
            pictures.append(number)
        if finds.is_recognised:
            draft.warn("Some pages are scans with recognised text, which may hold mistakes.")
    if not lines and (pictures or not damaged):
        raise NeedsOcr(_SCANNED, pages=pages)
    if not lines:
        raise DocumentUnreadable(_DAMAGED)
    _add_blocks(lines, draft)
    if pictures:
        draft.warn(f"{_named(pictures)} without text, only pictures.")
    if damaged:
        draft.warn(f"{_named(damaged)} damaged and left out.")
    return pages


def _page(document: pdfium.PdfDocument, number: int, content: bytes) -> tuple[PageFinds, list[_Line]]:
    page = document[number - 1]
    try:
        finds = remove_hidden(page)
        textpage = page.get_textpage()
        try:
            lines = list(_lines(textpage, number))
        finally:
            textpage.close()
    finally:
        page.close()
    # PDFium gives right-to-left text as it is drawn, from the left. What it hid must not come back.
    if not finds.hidden and any(_RIGHT_TO_LEFT.search(line.text) for line in lines):
        turned = _by_pypdf(content, number)
        if turned:
            lines = [_Line(line, number, 0, 0, 0) for line in turned.split("\n") if line.strip()]
    return finds, lines


def _lines(textpage: pdfium.PdfTextPage, number: int) -> Iterator[_Line]:
    text = textpage.get_text_range()
    # Words that a line's end broke are one again, so a line's first letter is found by counting what was left out.
    at = 0
    for line in re.split(r"(\r\n|\n|\r)", text):
        if line.strip():
            top, bottom, left = _place(textpage, at + len(line) - len(line.lstrip()))
            yield _Line(_BROKEN_WORD.sub(_rejoined, line), number, top, bottom, left)
        at += len(line)


def _rejoined(match: re.Match[str]) -> str:
    return "" if match[1].islower() or not match[1] else "-"


def _place(textpage: pdfium.PdfTextPage, index: int) -> tuple[float, float, float]:
    rectangle = pdfium_c.FS_RECTF()
    if index >= textpage.count_chars() or not pdfium_c.FPDFText_GetLooseCharBox(
        textpage, index, ctypes.byref(rectangle)
    ):
        return 0.0, 0.0, 0.0
    return rectangle.top, rectangle.bottom, rectangle.left


def _add_blocks(lines: list[_Line], draft: Draft) -> None:
    heights = [round(line.height, 1) for line in lines for _ in range(1 + len(line.text) // 40) if line.height > 0]
    usual = median(heights) if heights else 0.0
    larger = sorted({round(line.height) for line in lines if _is_heading(line, usual)}, reverse=True)
    level_of = {height: min(place, _LEVELS) for place, height in enumerate(larger, 1)}
    paragraph: list[_Line] = []

    def end() -> None:
        if paragraph:
            is_list = _LIST_ITEM.match(paragraph[0].text) is not None
            kind = BlockKind.LIST if is_list else BlockKind.PARAGRAPH
            draft.add(kind, "\n".join(line.text for line in paragraph), page=paragraph[0].page)
            paragraph.clear()

    heading: list[_Line] = []

    def end_heading() -> None:
        if heading:
            text = " ".join(line.text for line in heading)
            draft.add(BlockKind.HEADING, text, page=heading[0].page, level=level_of[round(heading[0].height)])
            heading.clear()

    for line in lines:
        if _is_heading(line, usual):
            end()
            if heading and (heading[-1].page != line.page or round(heading[-1].height) != round(line.height)):
                end_heading()
            heading.append(line)
            continue
        end_heading()
        if paragraph and _begins(line, paragraph[-1]):
            end()
        paragraph.append(line)
    end_heading()
    end()


def _is_heading(line: _Line, usual: float) -> bool:
    is_short = len(line.text) <= _HEADING_CHARS and any(char.isalpha() for char in line.text)
    return usual > 0 and is_short and line.height >= usual * _LARGER and len(line.text.strip()) > 1


def _begins(line: _Line, before: _Line) -> bool:
    """Whether a line begins another paragraph than the one before it."""
    if line.page != before.page:
        return True
    if line.height <= 0 or before.height <= 0:
        return False
    gap = before.bottom - line.top
    return gap > _GAP * min(line.height, before.height) or gap < -3 * before.height  # up again: another column


def _title(document: pdfium.PdfDocument) -> str:
    try:
        title = document.get_metadata_value("Title")
    except (pdfium.PdfiumError, ValueError):
        return ""
    # What word processors put there when nobody named the document.
    return (
        ""
        if re.fullmatch(r"(?i)(?:microsoft word - .*|untitled.*|\(anonymous\)|.*\.(?:docx?|pdf|tex|dvi|indd))", title)
        else title
    )


def _by_pypdf(content: bytes, number: int) -> str:
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        return PdfReader(io.BytesIO(content)).pages[number - 1].extract_text()
    except (PyPdfError, *_PROGRAMMING_ERRORS):
        return ""


def _salvaged(content: bytes, draft: Draft) -> int:
    """What pypdf still finds in a file that PDFium does not open."""
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    read = 0
    try:
        reader = PdfReader(io.BytesIO(content), strict=False)
        if reader.is_encrypted:
            raise DocumentUnreadable(_PASSWORD)
        pages = len(reader.pages)
        for number, page in enumerate(reader.pages, 1):
            before = draft.is_empty
            for line in re.split(r"\n\s*\n", page.extract_text()):
                draft.add(BlockKind.PARAGRAPH, line, page=number)
            read += before or not draft.is_empty
    except (PyPdfError, OSError, *_PROGRAMMING_ERRORS):
        pages = read
    if draft.is_empty:
        raise DocumentUnreadable(_DAMAGED)
    draft.warn("The PDF is damaged; what could still be read was taken.")
    return pages


def _named(pages: list[int]) -> str:
    shown = ", ".join(map(str, pages[:10])) + (", ..." if len(pages) > 10 else "")  # noqa: PLR2004 - enough to find them
    return f"Page {shown} is" if len(pages) == 1 else f"Pages {shown} are"
