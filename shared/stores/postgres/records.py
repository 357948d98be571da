"""The ledger in PostgreSQL: a batch of records with their attempts is one statement, so one round trip and atomic."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import orjson
from psycopg import sql
from psycopg.rows import TupleRow, tuple_row

from shared.domain.receipts import unplaced_body
from shared.domain.record_bounds import storable
from shared.domain.records import AttemptRecord, RequestRecord, RequestStatus
from shared.domain.replies import Usage
from shared.stores.postgres.pool import PostgresPool

_SQL_TYPES: Mapping[Any, str] = {
    str: "text",
    str | None: "text",
    int: "bigint",
    float: "double precision",
    float | None: "double precision",
    bool: "boolean",
    datetime: "timestamptz",
    Decimal: "numeric",
    RequestStatus: "text",
}
"""Field types that are one column each; usage, tags and attempts are taken apart."""
_USAGE = tuple(field.name for field in fields(Usage))
_RECEIPT = "receipt"
"""The field that goes to a table of its own."""
_canonical = partial(orjson.dumps, option=orjson.OPT_SORT_KEYS)
"""The bytes of `shared.domain.canonical`; a test holds the two together."""
_COLUMN_NAMES = {"cost_usd": "cost_exact", "estimated": "usage_estimated"}
"""Fields whose column is called otherwise."""


class PostgresRecordStore:
    """`RecordStore` on the tables ``requests`` and ``attempts``; receipts go to ``receipts``, chained.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails.
        writer: names this process's chains of receipts; made up when not given.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0, writer: str | None = None) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._writer = writer or str(uuid4())

    async def insert(self, records: Sequence[RequestRecord]) -> int:
        """Write records with their attempts and receipts in one transaction; ids that are there already are left alone.

        Texts and numbers that PostgreSQL could not hold are mended (`storable`). Measured: up to 500 records at a time
        is a good size.

        Raises:
            DependencyUnavailable: nothing was written, as far as can be known: when only the answer was lost, inserting
                again changes nothing.
            InternalError: the database refused a value; nothing was written.
            ValueError: a record is not well made (`storable`).
        """
        if not records:
            return 0
        # The first of each id, in order: two writers with the same ids in another order would lock each other out.
        unique = {record.id: _with_body(storable(record)) for record in reversed(records)}
        payload = orjson.dumps([unique[request_id] for request_id in sorted(unique)], default=str).decode()
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            cursor = await connection.execute(_INSERT, (payload, self._writer), prepare=True)
            row = await cursor.fetchone()
        return int(row[0]) if row is not None else 0

    async def get(self, request_id: str, *, tenant_id: str) -> RequestRecord | None:
        """One record of a tenant, or None.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        try:
            key = UUID(request_id)
        except ValueError:
            return None
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(_SELECT_REQUEST, (key, tenant_id))
            row = await cursor.fetchone()
            if row is None:
                return None
            record = _values(RequestRecord, row)
            await cursor.execute(_SELECT_ATTEMPTS, (key, record["start_time"]))
            attempts = [AttemptRecord(**_values(AttemptRecord, attempt)) for attempt in await cursor.fetchall()]
        record["id"] = str(record["id"])
        record["status"] = RequestStatus(record["status"])
        record["budget_accounts"] = tuple(row[-2])
        return RequestRecord(**record, tags=tuple(sorted(row[-1].items())), attempts=tuple(attempts))


def _with_body(record: RequestRecord) -> RequestRecord:
    """The record with its receipt as the row's body."""
    return record if record.receipt is None else replace(record, receipt=unplaced_body(record, _canonical))


def _plain_fields(cls: type[RequestRecord | AttemptRecord]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls) if field.type in _SQL_TYPES and field.name != _RECEIPT)


def _columns(cls: type[RequestRecord | AttemptRecord]) -> tuple[str, ...]:
    return tuple(_COLUMN_NAMES.get(name, name) for name in _plain_fields(cls) + _USAGE)


def _values(cls: type[RequestRecord | AttemptRecord], row: TupleRow) -> dict[str, Any]:
    """The fields that `_columns` selected, from the start of a row."""
    plain = _plain_fields(cls)
    values: dict[str, Any] = {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value
        for name, value in zip(plain, row, strict=False)
    }
    values["usage"] = Usage(*row[len(plain) : len(plain) + len(_USAGE)])
    return values


def _names(names: Sequence[str], table: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(table, name) if table else sql.Identifier(name) for name in names)


def _incoming(cls: type[RequestRecord | AttemptRecord], extra: str) -> sql.Composed:
    """The columns of a JSON record set, as ``jsonb_to_recordset`` wants them declared."""
    types = {field.name: _SQL_TYPES.get(field.type, "") for field in fields(cls)} | {"id": "uuid"}
    declared = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(types[n])) for n in _plain_fields(cls)]
    return sql.SQL(", ").join([*declared, sql.SQL(extra)])


def _usage_of(table: str) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("({}->>{})::{}").format(
            sql.Identifier(table, "usage"), sql.Literal(field.name), sql.SQL(_SQL_TYPES[field.type])
        )
        for field in fields(Usage)
    )


_INSERT = (
    sql.SQL("""
        WITH incoming AS MATERIALIZED (
            SELECT * FROM jsonb_to_recordset(%s::jsonb) AS incoming({incoming})
        ), inserted AS (
            INSERT INTO requests ({columns}, budget_accounts, tags)
            SELECT {fields}, {usage}, coalesce(budget_accounts, '[]'),
                   (SELECT coalesce(jsonb_object_agg(tag->>0, tag->>1), '{{}}') FROM jsonb_array_elements(tags) AS tag)
            FROM incoming
            ON CONFLICT (id, start_time) DO NOTHING
            RETURNING id
        ), tried AS (
            INSERT INTO attempts (request_id, request_start_time, tenant_id, {attempt_columns})
            SELECT incoming.id, incoming.start_time, incoming.tenant_id, {attempt_fields}, {attempt_usage}
            FROM incoming
            JOIN inserted ON inserted.id = incoming.id
            CROSS JOIN LATERAL jsonb_to_recordset(incoming.attempts) AS attempt({attempt})
            ON CONFLICT (request_id, number, request_start_time) DO NOTHING
        ), decided AS (
            SELECT incoming.*, %s || to_char(incoming.start_time AT TIME ZONE 'UTC', '"/"YYYY-MM') AS chain
            FROM incoming
            JOIN inserted ON inserted.id = incoming.id
            WHERE incoming.receipt IS NOT NULL
        ), chained AS (
            SELECT append_receipts(
                array_agg(chain), array_agg(id), array_agg(start_time), array_agg(tenant_id), array_agg(receipt))
            FROM decided
            HAVING count(*) > 0
        )
        SELECT (SELECT count(*) FROM inserted), (SELECT * FROM chained)
    """)
    .format(
        incoming=_incoming(
            RequestRecord, "usage jsonb, tags jsonb, attempts jsonb, budget_accounts jsonb, receipt text"
        ),
        columns=_names(_columns(RequestRecord)),
        fields=_names(_plain_fields(RequestRecord), "incoming"),
        usage=_usage_of("incoming"),
        attempt_columns=_names(_columns(AttemptRecord)),
        attempt_fields=_names(_plain_fields(AttemptRecord), "attempt"),
        attempt_usage=_usage_of("attempt"),
        attempt=_incoming(AttemptRecord, "usage jsonb"),
    )
    .as_bytes()
)
"""Attempts and receipts follow only the requests that were new: those of the others are there already. Chains are
locked when all requests are in, so a writer that waits for another's request holds no chain."""
_SELECT_REQUEST = (
    sql.SQL("SELECT {}, budget_accounts, tags FROM requests WHERE id = %s AND tenant_id = %s")
    .format(_names(_columns(RequestRecord)))
    .as_bytes()
)
_SELECT_ATTEMPTS = (
    sql.SQL("SELECT {} FROM attempts WHERE request_id = %s AND request_start_time = %s ORDER BY number")
    .format(_names(_columns(AttemptRecord)))
    .as_bytes()
)
