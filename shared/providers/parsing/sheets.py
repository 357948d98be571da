"""Spreadsheets and CSV: each sheet is a table; rows stay whole."""

import csv
import datetime as dt
import io
from itertools import islice
from typing import Final

from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum, ZipError

from shared.domain.documents import BlockKind, DocumentUnreadable
from shared.providers.parsing.draft import Draft, table_text
from shared.providers.parsing.encodings import decoded

MAX_CELLS: Final = 2_000_000
_DELIMITERS: Final = ",;\t|"
_SAMPLE_LINES: Final = 20
_MAX_FIELD_CHARS: Final = 1_000_000
_DAMAGED: Final = "The workbook is damaged. Open it, save it again and send that."
_TOO_MANY: Final = f"It has more than {MAX_CELLS:,} cells. Send it in parts, or only the sheets that matter."

Cell = int | float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta


def read_workbook(content: bytes, draft: Draft) -> int:
    """Read XLSX, XLS or ODS; hidden sheets are left out. Returns how many sheets were read.

    Raises:
        DocumentUnreadable: it is damaged, protected or too large.
    """
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
        sheets = [sheet for sheet in workbook.sheets_metadata if sheet.typ is SheetTypeEnum.WorkSheet]
        seen = 0
        cells = 0
        for place, sheet in enumerate(sheets, 1):
            if sheet.visible is not SheetVisibleEnum.Visible:
                draft.hide()
                continue
            rows = workbook.get_sheet_by_name(sheet.name).to_python(skip_empty_area=True)
            cells += sum(map(len, rows))
            if cells > MAX_CELLS:
                raise DocumentUnreadable(_TOO_MANY)
            seen += 1
            _add_sheet(draft, sheet.name, [[_shown(cell) for cell in row] for row in rows], place)
    except PasswordError:
        raise DocumentUnreadable("It is protected with a password. Send it without one.") from None
    except (CalamineError, ZipError, ValueError, OSError):
        raise DocumentUnreadable(_DAMAGED) from None
    return seen


def read_csv(content: bytes, draft: Draft) -> None:
    """Read separated values.

    Raises:
        DocumentUnreadable: it is no text, or too large.
    """
    text, warning = decoded(content)
    if warning:
        draft.warn(warning)
    csv.field_size_limit(_MAX_FIELD_CHARS)
    rows: list[list[str]] = []
    cells = 0
    try:
        for row in csv.reader(io.StringIO(text.replace("\0", ""), newline=""), delimiter=_delimiter(text)):
            cells += len(row)
            if cells > MAX_CELLS:
                raise DocumentUnreadable(_TOO_MANY)
            rows.append(row)
    except csv.Error:
        raise DocumentUnreadable(
            "It is no valid CSV: a quotation mark is missing. Save it again and send that."
        ) from None
    _add_sheet(draft, "", rows, None)


def _add_sheet(draft: Draft, name: str, rows: list[list[str]], page: int | None) -> None:
    if text := table_text(rows):
        draft.add(BlockKind.HEADING, name, page=page, level=1)
        draft.add(BlockKind.TABLE, text, page=page)


def _shown(cell: Cell) -> str:
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:  # noqa: PLR2004 - exact as an integer
        return str(int(cell))
    return str(cell)


def _delimiter(text: str) -> str:
    """The character that cuts the first lines into the most equal numbers of fields."""
    lines = [line for line in islice(io.StringIO(text), _SAMPLE_LINES) if line.strip()]

    def fit(delimiter: str) -> tuple[bool, int]:
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        except csv.Error:
            return False, 0
        return len(set(counts)) == 1 and counts[0] > 1, min(counts, default=0)

    return max(_DELIMITERS, key=fit)
