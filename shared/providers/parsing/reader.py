"""From bytes to blocks: finds out what a document is and has the module for it read it."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from shared.domain.documents import DocumentUnreadable, ParsedDocument
from shared.providers.parsing.draft import Draft
from shared.providers.parsing.formats import Format, format_of

_READERS: Final[Mapping[Format, tuple[str, str]]] = {
    Format.PDF: ("pdf", "read_pdf"),
    Format.DOCX: ("word", "read_docx"),
    Format.PPTX: ("slides", "read_pptx"),
    Format.XLSX: ("sheets", "read_workbook"),
    Format.XLS: ("sheets", "read_workbook"),
    Format.ODS: ("sheets", "read_workbook"),
    Format.CSV: ("sheets", "read_csv"),
    Format.ODT: ("books", "read_odt"),
    Format.EPUB: ("books", "read_epub"),
    Format.HTML: ("markup", "read_html"),
    Format.MARKDOWN: ("plain", "read_markdown"),
    Format.TEXT: ("plain", "read_text"),
    Format.JSON: ("structured", "read_json"),
    Format.JSON_LINES: ("structured", "read_json_lines"),
    Format.NOTEBOOK: ("structured", "read_notebook"),
    Format.EMAIL: ("mail", "read_mail"),
}
"""Module and function by format. Imported on use: a process reads one document, and needs one of these."""


def read(content: bytes, *, media_type: str, name: str) -> ParsedDocument:
    """Read a document.

    Args:
        content: its bytes, of anybody's making.
        media_type: as declared.
        name: of the file.

    Raises:
        NeedsOcr: it holds pictures of text only.
        DocumentUnreadable: it cannot be taken; the reason says what a person can do.
    """
    if not content.strip():
        raise DocumentUnreadable("It is empty.")
    found, warning = format_of(content, media_type=media_type, name=name)
    draft = Draft()
    if warning:
        draft.warn(warning)
    module, function = _READERS[found]
    reader: Callable[[bytes, Draft], int | None] = getattr(import_module(f"{__package__}.{module}"), function)
    pages = reader(content, draft)
    if draft.is_empty:
        hidden = " All of it is hidden from readers." if draft.hidden else ""
        raise DocumentUnreadable(f"It holds no text.{hidden}")
    if draft.hidden:
        draft.warn(f"{draft.hidden} pieces of hidden text were left out.")
    return draft.finished(pages=pages)
