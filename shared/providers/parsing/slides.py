"""PowerPoint presentations: titles, text, tables, speaker's notes and alternative texts, slide by slide."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Final

from lxml.etree import LxmlError
from pptx import Presentation
from pptx.enum.shapes import MSO_SHAPE_TYPE
from pptx.exc import PythonPptxError

from shared.domain.documents import BlockKind, DocumentUnreadable
from shared.providers.parsing import archives
from shared.providers.parsing.draft import Draft, table_text
from shared.providers.parsing.xml_parts import parsed

MAX_SLIDES: Final = 3000
_MAX_DEPTH: Final = 20
_LEAST_CENTIPOINTS: Final = 150
"""Sizes are in hundredths of a point; nobody reads below this."""
_MIN_ALT_CHARS: Final = 4
_A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_DAMAGED: Final = "The presentation is damaged. Open it in PowerPoint, save it again and send that."
_BROKEN: Final = (
    PythonPptxError, LxmlError, zipfile.BadZipFile, zlib.error, ValueError, LookupError, EOFError, AttributeError,
    TypeError, OSError, AssertionError, NotImplementedError, RecursionError,
)  # fmt: skip
"""What python-pptx raises for broken files; not all of it is its own."""


def read_pptx(content: bytes, draft: Draft) -> int:
    """Read a presentation; hidden slides and what lies beside the slide are left out. Returns how many slides it has.

    Raises:
        DocumentUnreadable: it is damaged, protected or too large.
    """
    with archives.opened(content) as archive:
        for name in archive.namelist():
            if name.endswith((".xml", ".rels")) and (part := archives.part(archive, name)):
                parsed(part)  # no entities anywhere
    try:
        presentation = Presentation(io.BytesIO(content))
        slides = list(presentation.slides)
        if len(slides) > MAX_SLIDES:
            raise DocumentUnreadable(f"It has more than {MAX_SLIDES:,} slides. Send it in parts.")
        draft.title = presentation.core_properties.title or ""
        area = (presentation.slide_width or 0, presentation.slide_height or 0)
        for number, slide in enumerate(slides, 1):
            if slide.element.get("show") == "0":
                draft.hide()
            else:
                _Slide(draft, number, area).read(slide)
    except _BROKEN:
        raise DocumentUnreadable(_DAMAGED) from None
    return len(slides)


class _Slide:
    """Reads one slide."""

    def __init__(self, draft: Draft, number: int, area: tuple[int, int]) -> None:
        self._draft = draft
        self._number = number
        self._width, self._height = area

    def read(self, slide: Any) -> None:
        """All of a slide, its title first."""
        title = slide.shapes.title
        if title is not None and not self._is_off(title):
            self._draft.add(BlockKind.HEADING, self._paragraphs(title.text_frame), page=self._number, level=1)
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                self._shape(shape, 0)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            self._draft.add(BlockKind.NOTE, slide.notes_slide.notes_text_frame.text, page=self._number)

    def _shape(self, shape: Any, depth: int) -> None:
        properties = shape.element.find(".//{*}cNvPr")
        if depth == 0 and self._is_off(shape):
            self._draft.hide()
            return
        if properties is not None and properties.get("hidden") in {"1", "true"}:
            self._draft.hide()
            return
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            for inner in shape.shapes if depth < _MAX_DEPTH else ():
                self._shape(inner, depth + 1)
        elif getattr(shape, "has_table", False):
            self._draft.add(BlockKind.TABLE, table_text(_rows(shape.table)), page=self._number)
        elif getattr(shape, "has_chart", False):
            self._chart(shape.chart)
        elif shape.has_text_frame:
            self._draft.add(self._kind(shape), self._paragraphs(shape.text_frame), page=self._number)
        alternative = "" if properties is None else " ".join((properties.get("descr") or "").split())
        if len(alternative) >= _MIN_ALT_CHARS:
            self._draft.add(BlockKind.NOTE, alternative, page=self._number)

    def _chart(self, chart: Any) -> None:
        if chart.has_title and chart.chart_title.has_text_frame:
            self._draft.add(BlockKind.PARAGRAPH, chart.chart_title.text_frame.text, page=self._number)
        for plot in chart.plots:
            names = ["", *(str(series.name) for series in plot.series)]
            values = [list(series.values) for series in plot.series]
            rows = [
                [str(category), *(str(value[at]) if at < len(value) else "" for value in values)]
                for at, category in enumerate(plot.categories)
            ]
            self._draft.add(BlockKind.TABLE, table_text([names, *rows]), page=self._number)

    def _kind(self, shape: Any) -> BlockKind:
        is_list = len(shape.text_frame.paragraphs) > 1 and shape.is_placeholder
        return BlockKind.LIST if is_list else BlockKind.PARAGRAPH

    def _paragraphs(self, frame: Any) -> str:
        return "\n".join("".join(self._runs(paragraph)) for paragraph in frame.paragraphs)

    def _runs(self, paragraph: Any) -> Iterator[str]:
        for child in paragraph._p:  # noqa: SLF001 - line breaks and fields are in no public list
            if child.tag == f"{_A}br":
                yield "\n"
            elif child.tag in {f"{_A}r", f"{_A}fld"}:
                style = child.find(f"{_A}rPr")
                text = "".join(found.text or "" for found in child.iter(f"{_A}t"))
                size = "" if style is None else style.get("sz", "")
                if size.isdecimal() and int(size) < _LEAST_CENTIPOINTS:
                    self._draft.hide(bool(text.strip()))
                else:
                    yield text

    def _is_off(self, shape: Any) -> bool:
        if None in {shape.left, shape.top, shape.width, shape.height} or not self._width:
            return False  # placed by the layout
        return bool(
            shape.left >= self._width
            or shape.top >= self._height
            or shape.left + shape.width <= 0
            or shape.top + shape.height <= 0
        )


def _rows(table: Any) -> list[list[str]]:
    """A table's cells; what is written once over several cells stands in each of them."""
    rows = [[cell.text for cell in row.cells] for row in table.rows]
    for at, row in enumerate(table.rows):
        for place, cell in enumerate(row.cells):
            if cell.is_merge_origin:
                for down in range(at, min(len(rows), at + cell.span_height)):
                    for right in range(place, min(len(rows[down]), place + cell.span_width)):
                        rows[down][right] = cell.text
    return rows
