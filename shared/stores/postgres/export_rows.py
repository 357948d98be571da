"""Rows for exports, written as text by PostgreSQL itself: a worker that answers requests only passes bytes on.

Pages begin after the key of the last row (keyset), each in a statement of its own: no transaction, lock or connection
is held while the reader is slow, and what was there before the export began is met exactly once. Of rollups a page
has whole buckets, because buckets are computed anew as a whole.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from shared.domain.exports import FILTERS, ExportColumn, ExportQuery, ExportSubject, LineForm, RowPage, ValueKind
from shared.stores.postgres.pool import PostgresPool

_LEVELS: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_ISO: Final = """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_QUOTED: Final = """'"' || replace({0}, '"', '""') || '"'"""
# https://owasp.org/www-community/attacks/CSV_Injection: spreadsheets calculate a cell that begins with one of these, or
# with its full-width form. One that begins with quotation marks and then with one of these gets one more, so that
# whoever takes one away has the text as it was.
_DEFUSED: Final = r"""regexp_replace({0}, '^(''*[=+@\t\r\n\uFF1D\uFF0B\uFF20\uFF0D-])', '''\1')"""


@dataclass(frozen=True, slots=True)
class _Source:
    """A table as exports read it.

    Attributes:
        key: what tells rows apart, in the order of the file, with types; the first is the time. Of rollups only that:
            a page ends with a bucket.
        means: what columns are that are not the table's own by the same name.
    """

    table: str
    key: tuple[tuple[str, str], ...]
    means: dict[str, str]


def _percentiles(*sketches: str) -> dict[str, str]:
    return {
        f"{sketch}_{name}_ms": f"sketch_quantile({sketch}, {level})"
        for sketch in sketches
        for name, level in _LEVELS.items()
    }


_SOURCES: Final = {
    ExportSubject.REQUESTS: _Source(
        "requests",
        (("start_time", "timestamptz"), ("id", "uuid")),
        {"attachment_bytes": "attachment_size", "cost_usd": "cost_exact"},
    ),
    ExportSubject.ATTEMPTS: _Source(
        "attempts",
        (("request_start_time", "timestamptz"), ("request_id", "uuid"), ("number", "integer")),
        {"cost_usd": "cost_exact"},
    ),
    ExportSubject.ANALYTICS: _Source(
        "analytics", (("bucket", "timestamptz"),), _percentiles("latency", "ttft", "overhead")
    ),
    ExportSubject.MODEL_PERFORMANCE: _Source(
        "model_performance", (("bucket", "timestamptz"),), _percentiles("latency", "ttft")
    ),
    ExportSubject.FEEDBACK: _Source(
        "feedback",
        (("given_at", "timestamptz"), ("request_id", "uuid"), ("principal_id", "text")),
        {"tags": "to_jsonb(tags)", "redacted": "to_jsonb(redacted)"},
    ),
}


class PostgresExportRows:
    """`ExportRows`.

    Args:
        pool: where the tables are; best one of its own.
        page_rows: of a page; of rollups a page is as long as its last bucket needs.
        deadline_s: seconds within which a page is read or fails.
    """

    def __init__(self, pool: PostgresPool, *, page_rows: int = 2_000, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._page_rows = page_rows
        self._deadline_s = deadline_s

    async def count(self, query: ExportQuery, *, most: int) -> int:
        """How many rows a query takes; what is above `most` is not counted.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        source = _SOURCES[query.subject]
        where, values = _where(query, source)
        statement = f"SELECT count(*) FROM (SELECT FROM {source.table} WHERE {where} LIMIT %(most)s) AS counted"  # noqa: S608 - constants of this module; all else are values
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            row = await (await connection.execute(statement.encode(), values | {"most": most})).fetchone()
        return 0 if row is None else int(row[0])

    async def pages(self, query: ExportQuery, form: LineForm) -> AsyncIterator[RowPage]:
        """The rows in the order of time, each once; nothing is held between two pages.

        Raises:
            DependencyUnavailable: no answer in time, at any page.
        """
        values: dict[str, Any] = {"page_rows": self._page_rows}
        after: tuple[Any, ...] | None = None
        while True:
            statement, wanted = page_statement(query, form, after)
            async with self._pool.connection(timeout_s=self._deadline_s) as connection:
                # Binary, so that text arrives as the bytes that it is.
                cursor = await connection.execute(statement, values | wanted, binary=True)
                row = await cursor.fetchone()
            if row is None or not row[0]:
                return
            count, text, after = row[0], row[1], row[2:]
            yield RowPage(text, count)
            if count < self._page_rows:
                return


def page_statement(query: ExportQuery, form: LineForm, after: tuple[Any, ...] | None) -> tuple[bytes, dict[str, Any]]:
    """The statement of a page: how many rows, their text, and the key of the last one.

    Args:
        query: which rows.
        form: of their text.
        after: the key of the last row of the page before.
    """
    source = _SOURCES[query.subject]
    where, values = _where(query, source)
    keys = [name for name, _ in source.key]
    if after is not None:
        bounds = ", ".join(f"%(after_{place})s::{kind}" for place, (_, kind) in enumerate(source.key))
        # The second half says nothing new: it lets partitions before that time be left out.
        where += f" AND ({', '.join(keys)}) > ({bounds}) AND {keys[0]} >= %(after_0)s::timestamptz"
        values |= {f"after_{place}": value for place, value in enumerate(after)}
    named = [f"{key} AS key_{place}" for place, key in enumerate(keys)]
    named += [f"{source.means.get(name, name)} AS {_quoted(name)}" for name in query.columns]
    ties = "FETCH FIRST %(page_rows)s ROWS WITH TIES" if query.subject.is_rollup else "LIMIT %(page_rows)s"
    order = ", ".join(f"key_{place}" for place in range(len(keys)))
    last = ", ".join(f"key_{place} DESC" for place in range(len(keys)))
    ends = [f"(array_agg(key_{place} ORDER BY {last}))[1]" for place in range(len(keys))]
    return (
        f"""
        WITH page AS MATERIALIZED (
            SELECT {", ".join(named)} FROM {source.table} WHERE {where} ORDER BY {", ".join(keys)} {ties}
        )
        SELECT count(*), convert_to(string_agg({_line(query.shape, form)}, '' ORDER BY {order}), 'UTF8'),
               {", ".join(ends)}
        FROM page
        """.encode(),  # noqa: S608 - constants of this module and of the domain; all else are values
        values,
    )


def _where(query: ExportQuery, source: _Source) -> tuple[str, dict[str, Any]]:
    time = source.key[0][0]
    where = [
        "tenant_id = %(tenant_id)s",
        f"{time} >= %(since)s::timestamptz",
        f"{time} < %(until)s::timestamptz",
    ]
    values: dict[str, Any] = {"tenant_id": query.tenant_id, "since": query.since, "until": query.until}
    filters = dict(query.filters)
    if query.subject.is_rollup:
        where.append("granularity = %(granularity)s")
        values["granularity"] = query.granularity.value
    if query.subject is ExportSubject.ANALYTICS:
        # Rows without a key count every request once; those of a tag count some of the same once more.
        filters.setdefault("tag_key", ("",))
    for place, (name, wanted) in enumerate(filters.items()):
        where.append(f"{FILTERS[query.subject][name]} = ANY(%(wanted_{place})s::text[])")
        values[f"wanted_{place}"] = list(wanted)
    return " AND ".join(where), values


def _line(columns: tuple[ExportColumn, ...], form: LineForm) -> str:
    """The expression of a row's text, with the end of its line."""
    if form is LineForm.JSON:
        cells = ", ".join(f"{_in_json(column)} AS {_quoted(column.name)}" for column in columns)
        return f"(SELECT row_to_json(line) FROM (SELECT {cells}) AS line)::text || E'\\n'"  # noqa: S608 - names of the domain's columns
    cells = " || ',' || ".join(f"coalesce({_in_csv(column, form)}, '')" for column in columns)
    return cells + " || E'\\r\\n'"


def _in_json(column: ExportColumn) -> str:
    name = f"page.{_quoted(column.name)}"
    return _ISO.format(name) if column.kind is ValueKind.INSTANT else name


def _in_csv(column: ExportColumn, form: LineForm) -> str:
    """A cell; null becomes nothing, which an empty text (two quotation marks) is not."""
    name = f"page.{_quoted(column.name)}"
    if column.kind is ValueKind.INSTANT:
        return _ISO.format(name)
    if column.kind is ValueKind.TEXT:
        text = f"{name}::text"
        return _QUOTED.format(_DEFUSED.format(text) if form is LineForm.CSV else text)
    return _QUOTED.format(f"{name}::text") if column.kind is ValueKind.JSON else f"{name}::text"


def _quoted(name: str) -> str:
    """A column's name as an identifier; names are those of the domain."""
    return f'"{name}"'
