"""Rows as files: what is read back from CSV, JSON lines and Parquet is what the tables hold, each row once."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from shared.analytics.sketches import quantiles, sketch_of
from shared.domain.analytics import Granularity
from shared.domain.exports import COLUMNS, FILTERS, ExportFormat, ExportQuery, ExportSubject, LineForm, ValueKind
from shared.domain.replies import Usage
from shared.stores.export_files import ParquetFile, file_of
from shared.stores.postgres.export_rows import PostgresExportRows, page_statement
from shared.stores.postgres.pool import PostgresPool
from tests.rollup_world import RollupWorld, feedback
from tests.stores_builders import IDS, START, attempt, bare_record, record

TENANT = "tenant-a"
DAY = START.replace(hour=0, minute=0, second=0, microsecond=0)
TRIGGERS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
# What a table can hold: no NUL and no half of a surrogate pair.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.builds(
    lambda quotes, trigger, rest: "'" * quotes + trigger + rest,
    st.integers(0, 3),
    st.sampled_from(TRIGGERS),
    st.sampled_from(["", "cmd|' /C calc'!A0", '1+1"', ',;"\r\n"']),
)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[RollupWorld]:
    pool = PostgresPool(postgres_dsn)
    made = RollupWorld(pool, START + timedelta(hours=3))
    await made.clear()
    yield made
    await pool.aclose()


def query(subject, **fields):
    values = {
        "tenant_id": TENANT,
        "subject": subject,
        "since": DAY,
        "until": DAY + timedelta(days=1),
        "columns": tuple(column.name for column in COLUMNS[subject]),
    }
    return ExportQuery(**values | fields)


async def exported(world, asked, form, *, page_rows=3):
    """The file's bytes, written in pages of some rows."""
    rows = PostgresExportRows(world.pool, page_rows=page_rows)
    file = ParquetFile(asked.shape, group_rows=4) if form is ExportFormat.PARQUET else file_of(form, asked.shape)
    added = [await file.add(page) async for page in rows.pages(asked, form.lines)]
    return b"".join([file.head(), *added, await file.tail()])


def from_text(kind, text):
    """A cell of CSV as a value; the defusing quotation mark is taken away."""
    if kind is ValueKind.TEXT:
        return text[1:] if text.startswith("'") and text.lstrip("'")[:1] in set(TRIGGERS) else text
    return {
        ValueKind.INTEGER: int,
        ValueKind.REAL: float,
        ValueKind.DECIMAL: Decimal,
        ValueKind.BOOLEAN: {"true": True, "false": False}.get,
        ValueKind.INSTANT: datetime.fromisoformat,
        ValueKind.JSON: json.loads,
    }[kind](text)


def cells(content):
    """Rows of cells as RFC 4180 has them, null where nothing stands, not even quotation marks."""
    rows, row, place = [], [], 0
    text = content.decode()
    while place < len(text):
        if text[place] == '"':
            cell, place = "", place + 1
            while text[place] != '"' or text[place : place + 2] == '""':
                cell += text[place]
                place += 2 if text[place] == '"' else 1
            place += 1
        else:
            end = min(found for found in (text.find(",", place), text.find("\r\n", place)) if found >= 0)
            cell, place = text[place:end] or None, end
        row.append(cell)
        if text[place] == ",":
            place += 1
        else:
            assert text[place : place + 2] == "\r\n"
            rows, row, place = [*rows, row], [], place + 2
    return rows


def read_back(content, asked, form):
    """The rows of a file as dictionaries of values."""
    if form is ExportFormat.PARQUET:
        from pyarrow import parquet  # noqa: PLC0415 - as in the adapter

        table = parquet.read_table(io.BytesIO(content))
        return [
            {
                column.name: json.loads(row[column.name])
                if column.kind is ValueKind.JSON and row[column.name] is not None
                else row[column.name]
                for column in asked.shape
            }
            for row in table.to_pylist()
        ]
    if form is ExportFormat.JSONL:
        lines = [json.loads(line, parse_float=str) for line in content.decode().split("\n")[:-1]]
        return [
            {
                column.name: from_text(column.kind, str(line[column.name]))
                if column.kind in {ValueKind.REAL, ValueKind.DECIMAL, ValueKind.INSTANT}
                and line[column.name] is not None
                else line[column.name]
                for column in asked.shape
            }
            for line in lines
        ]
    header, *rows = cells(content)
    assert header == list(asked.columns)
    return [
        {
            column.name: None if cell is None else from_text(column.kind, cell)
            for column, cell in zip(asked.shape, row, strict=True)
        }
        for row in rows
    ]


RENAMED = {"attachment_bytes": "attachment_size", "cost_usd": "cost_exact"}


def in_tables(dsn, asked, order):
    """The rows as psycopg reads them."""
    with psycopg.connect(dsn, row_factory=dict_row, options="-c timezone=UTC") as connection:
        rows = connection.execute(
            f"SELECT * FROM {asked.subject.value} WHERE tenant_id = %s ORDER BY {order}",  # noqa: S608 - the tests' own words
            [TENANT],
        )
        return [
            {
                name: str(value) if kind is ValueKind.TEXT and value is not None else value
                for name, kind, value in (
                    (column.name, column.kind, row[RENAMED.get(column.name, column.name)]) for column in asked.shape
                )
            }
            for row in rows.fetchall()
        ]


FORMS = pytest.mark.parametrize("form", list(ExportFormat))
ORDERS = {
    ExportSubject.REQUESTS: "start_time, id",
    ExportSubject.ATTEMPTS: "request_start_time, request_id, number",
    ExportSubject.FEEDBACK: "given_at, request_id, principal_id",
}


async def lived(world):
    """Twenty requests, many of the same instant, some bare; feedback on some of them."""
    full = [
        record(
            start_time=START + timedelta(seconds=number // 4),
            end_time=START + timedelta(seconds=number // 4 + 2),
            cost_usd=Decimal("12345678901234567890.123456789012345678") if number == 3 else Decimal("0.000000000001"),
            tags=(("=note", '"a"\r\n'), ("team", "ü")),
        )
        for number in range(17)
    ]
    bare = [bare_record(start_time=START, end_time=START) for _ in range(3)]
    await world.ledger.insert(full + bare)
    await world.ledger.insert([record(tenant_id="other"), record(start_time=DAY - timedelta(microseconds=1))])
    for number, one in enumerate(full[:5]):
        for principal in ("p", "=q"):
            await world.feedback.put(
                feedback(one, principal_id=principal, comment="-1", tags=("a,b", '"'), given_at=START, score=number / 7)
            )
    return full, bare


@FORMS
@pytest.mark.parametrize("subject", list(ORDERS))
async def test_a_file_has_the_rows_of_its_table_in_order_each_once(world, postgres_dsn, subject, form):
    await lived(world)
    asked = query(subject, since=DAY - timedelta(days=1))
    found = read_back(await exported(world, asked, form), asked, form)
    expected = in_tables(postgres_dsn, asked, ORDERS[subject])
    assert len(expected) > 9
    assert found == expected


@FORMS
async def test_nothing_is_a_file_too(world, form):
    asked = query(ExportSubject.REQUESTS)
    content = await exported(world, asked, form)
    assert read_back(content, asked, form) == []
    assert (content == b"") == (form is ExportFormat.JSONL)


@pytest.mark.parametrize("form", list(ExportFormat))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    texts=st.lists(
        st.tuples(TEXTS, TEXTS | st.none(), st.dictionaries(TEXTS, TEXTS, max_size=2)), min_size=1, max_size=5
    )
)
async def test_hostile_texts_are_read_back_as_they_were(world, postgres_dsn, form, texts):
    await world.clear()
    # By the table itself: what the router bounds on its way in must not be what makes exports safe.
    await world.ledger.insert([bare_record() for _ in texts])
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM requests ORDER BY start_time, id")]
        for key, (text, maybe, tags) in zip(ids, texts, strict=True):
            connection.execute(
                "UPDATE requests SET service_name = %s, error_message = %s, tags = %s WHERE id = %s",
                (text, maybe, json.dumps(tags), key),
            )
    asked = query(ExportSubject.REQUESTS, columns=("error_message", "service_name", "tags"))
    content = await exported(world, asked, form)
    found = read_back(content, asked, form)
    assert [(row["service_name"], row["error_message"], row["tags"]) for row in found] == texts
    if form is ExportFormat.CSV:
        # Another reader's eyes, and what a spreadsheet would see.
        shown = list(csv.reader(io.StringIO(content.decode(), newline="")))
        assert len(shown) == len(texts) + 1
        assert not [cell for row in shown for cell in row if cell[:1] in set(TRIGGERS)]


async def test_a_column_of_nulls_alone_keeps_its_rows(world):
    await world.ledger.insert([bare_record() for _ in range(3)])
    for form in ExportFormat:
        asked = query(ExportSubject.REQUESTS, columns=("trace_id",))
        found = read_back(await exported(world, asked, form), asked, form) if form is not ExportFormat.CSV else None
        if found is not None:
            assert found == [{"trace_id": None}] * 3
    assert await exported(world, asked, ExportFormat.CSV) == b"trace_id\r\n" + b"\r\n" * 3


async def test_filters_spans_and_tenants_are_kept_apart(world):
    await lived(world)
    await world.ledger.insert(
        [record(service_name="s", model_used="m"), record(service_name="s"), record(service_name="t", model_used="m")]
    )
    rows = PostgresExportRows(world.pool)

    async def count(subject=ExportSubject.REQUESTS, **fields):
        asked = query(subject, **fields)
        pages = [page async for page in rows.pages(asked, LineForm.JSON)]
        found = sum(page.rows for page in pages)
        assert await rows.count(asked, most=10_000) == found
        return found

    assert await count() == 23
    assert await count(filters={"service": ("s",)}) == 2
    assert await count(filters={"service": ("s", "t"), "model": ("m",)}) == 2
    assert await count(filters={"service": ("s' OR '1'='1",)}) == 0
    assert await count(tenant_id="other") == 1
    assert await count(until=DAY) == 0
    assert await count(since=DAY - timedelta(hours=1), until=DAY) == 1
    assert await count(ExportSubject.ATTEMPTS, filters={"outcome": ("success",)}) == 20
    assert await rows.count(query(ExportSubject.REQUESTS), most=5) == 5


@pytest.mark.parametrize("subject", list(ExportSubject))
async def test_every_filter_and_column_is_known_to_the_database(world, subject):
    asked = query(subject, filters=dict.fromkeys(FILTERS[subject], ("x",)))
    for form in LineForm:
        assert [page async for page in PostgresExportRows(world.pool).pages(asked, form)] == []


@FORMS
@pytest.mark.parametrize("subject", [ExportSubject.ANALYTICS, ExportSubject.MODEL_PERFORMANCE])
async def test_rollups_come_in_whole_buckets_with_percentiles(world, form, subject):
    for hour in range(3):
        at = DAY + timedelta(hours=hour)
        await world.arrive(
            [
                record(start_time=at, end_time=at + timedelta(milliseconds=37 * n + 1), service_name=f"s{n % 5}")
                for n in range(25)
            ]
        )
    await world.roll_up()
    asked = query(subject)
    found = read_back(await exported(world, asked, form, page_rows=2), asked, form)
    with psycopg.connect(world.pool._pool.conninfo, row_factory=dict_row) as connection:
        tags = "AND tag_key = ''" if subject is ExportSubject.ANALYTICS else ""
        expected = connection.execute(
            f"SELECT * FROM {subject.value} WHERE granularity = 'hour' AND tenant_id = %s {tags}",  # noqa: S608 - the tests' own words
            [TENANT],
        ).fetchall()
    assert len(found) == len(expected) > 3

    def keyed(rows):
        return sorted(
            rows,
            key=lambda row: [
                str(row[name]) for name in ("bucket", "model_id", "outcome", "service_name") if name in row
            ],
        )

    for row, true in zip(keyed(found), keyed(expected), strict=True):
        for column in asked.shape:
            sketch, _, level = column.name.removesuffix("_ms").rpartition("_p")
            if level.isdecimal():
                (exact,) = quantiles(true[sketch], [int(level) / 100])
                assert row[column.name] == (exact if exact is None else pytest.approx(exact, rel=1e-12))
            else:
                assert row[column.name] == true[column.name]


async def test_tags_and_days_are_asked_for(world):
    await world.arrive([record(start_time=START, end_time=START + timedelta(seconds=1)) for _ in range(4)])
    await world.roll_up()
    asked = query(ExportSubject.ANALYTICS, granularity=Granularity.DAY, filters={"tag_key": ("team",)})
    (row,) = read_back(await exported(world, asked, ExportFormat.JSONL), asked, ExportFormat.JSONL)
    assert (row["bucket"], row["tag_key"], row["tag_value"], row["requests"]) == (DAY, "team", "payments", 4)


@given(st.lists(st.floats(0, 2e9), max_size=40), st.floats(0, 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_percentiles_in_sql_are_those_of_the_sketch(world, values, level):
    sketch = sketch_of(values) + sketch_of(values[:7])
    async with world.pool.connection(timeout_s=5) as connection:
        row = await (await connection.execute(b"SELECT sketch_quantile(%s, %s)", (sketch, level))).fetchone()
    (expected,) = quantiles(sketch, [level])
    assert row[0] == (None if expected is None else pytest.approx(expected, rel=1e-12))


async def test_pages_of_a_month_leave_other_months_alone(world):
    """Partition pruning: other months' tables are in no plan."""
    asked = query(ExportSubject.REQUESTS)
    for after in (None, (START, IDS.request_id())):
        statement, values = page_statement(asked, LineForm.CSV, after)
        async with world.pool.connection(timeout_s=5) as connection:
            await connection.execute(b"SELECT ensure_request_partitions(%s, 3)", (DAY - timedelta(days=70),))
            plan = await (await connection.execute(b"EXPLAIN " + statement, values | {"page_rows": 10})).fetchall()
        shown = "\n".join(line for (line,) in plan)
        assert "requests_2026_11" in shown
        assert "requests_2026_10" not in shown
        assert "requests_2026_09" not in shown


async def test_an_attempts_own_numbers_are_exact(world):
    large = Usage(input_tokens=2**62, output_tokens=1)
    await world.ledger.insert([record(attempts=(attempt(1, usage=large, cost_usd=Decimal("0.1")),))])
    asked = query(ExportSubject.ATTEMPTS, columns=("input_tokens", "cost_usd", "ttft_ms", "started_at"))
    for form in ExportFormat:
        (row,) = read_back(await exported(world, asked, form), asked, form)
        assert row == {
            "input_tokens": 2**62,
            "cost_usd": Decimal("0.1"),
            "ttft_ms": 312.5,
            "started_at": (START + timedelta(milliseconds=1)).astimezone(UTC),
        }
