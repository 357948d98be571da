"""Files of exported rows, made piece by piece: CSV and JSON lines as they come, Parquet by pyarrow."""

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from shared.domain.exports import ExportColumn, ExportFormat, RowPage, ValueKind

_GROUP_ROWS: Final = 10_000
"""Of a row group: some megabytes, which are in memory until it is written."""
_THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="parquet")
"""One for all files: the allocator keeps tens of megabytes for each thread that ever made a row group."""
_DECIMAL_DIGITS: Final = 38
_DECIMAL_PLACES: Final = 18


class TextFile:
    """`ExportFile` of lines.

    Args:
        header: the first line, with its end; empty: none.
    """

    def __init__(self, header: bytes) -> None:
        self._header = header

    def head(self) -> bytes:
        """How it begins."""
        return self._header

    async def add(self, page: RowPage) -> bytes:
        """What can be written: the page, as it is."""
        return page.text

    async def tail(self) -> bytes:
        """Nothing: the last line has an end like all others."""
        return b""


class _Drain(io.RawIOBase):
    """What is written to it can be taken away; places go on to be counted from the first byte ever written."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self._written += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class ParquetFile:
    """`ExportFile` of row groups with a footer, without which nobody can read it. The work is done in a thread.

    Args:
        columns: of its schema.
        group_rows: of a row group.
    """

    def __init__(self, columns: Sequence[ExportColumn], *, group_rows: int = _GROUP_ROWS) -> None:
        self._columns = columns
        self._group_rows = group_rows
        self._drain = _Drain()
        self._waiting: list[RowPage] = []
        self._writer: Any = None

    def head(self) -> bytes:
        """Nothing: the first bytes come with the first row group."""
        return b""

    async def add(self, page: RowPage) -> bytes:
        """What can be written once this page is in; nothing until there is enough for a row group."""
        self._waiting.append(page)
        if sum(waiting.rows for waiting in self._waiting) < self._group_rows:
            return b""
        return await self._in_thread(is_last=False)

    async def tail(self) -> bytes:
        """The last row group and the footer."""
        return await self._in_thread(is_last=True)

    async def _in_thread(self, *, is_last: bool) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(_THREAD, partial(self._written, is_last=is_last))

    def _written(self, *, is_last: bool) -> bytes:
        # Imported where it is needed: it takes a third of a second and 50 MB.
        from pyarrow import csv, parquet  # noqa: PLC0415

        schema = _schema(self._columns)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._drain, schema, compression="zstd")
        if self._waiting:
            text = b"".join(page.text for page in self._waiting)
            self._waiting.clear()
            table = csv.read_csv(
                io.BytesIO(text),
                csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=schema.names),
                # A line is a row also when its only value is null.
                csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                csv.ConvertOptions(
                    column_types=schema,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    true_values=["true"],
                    false_values=["false"],
                ),
            )
            self._writer.write_table(table.cast(schema))
        if is_last:
            self._writer.close()
        return self._drain.take()


def _schema(columns: Sequence[ExportColumn]) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above

    kinds = {
        ValueKind.TEXT: pa.string(),
        ValueKind.INTEGER: pa.int64(),
        ValueKind.DECIMAL: pa.decimal128(_DECIMAL_DIGITS, _DECIMAL_PLACES),
        ValueKind.REAL: pa.float64(),
        ValueKind.BOOLEAN: pa.bool_(),
        ValueKind.INSTANT: pa.timestamp("us", tz="UTC"),
        ValueKind.JSON: pa.string(),
    }
    return pa.schema([(column.name, kinds[column.kind]) for column in columns])


def file_of(form: ExportFormat, columns: Sequence[ExportColumn]) -> TextFile | ParquetFile:
    """A new, empty file of a format."""
    if form is ExportFormat.PARQUET:
        return ParquetFile(columns)
    header = ",".join(column.name for column in columns) + "\r\n" if form is ExportFormat.CSV else ""
    return TextFile(header.encode())
