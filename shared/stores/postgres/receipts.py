"""Receipts as they lie in their chains, and the configurations that they name."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from psycopg.rows import TupleRow

from shared.domain.receipts import ChainHead, ChainSection, ReceiptRow, month_of
from shared.stores.postgres.pool import PostgresPool

_COLUMNS = b"SELECT chain, sequence, request_id, tenant_id, start_time, previous_hash, hash, body FROM receipts "
_OF_REQUEST = _COLUMNS + b"WHERE request_id = %s AND tenant_id = %s ORDER BY start_time LIMIT 1"
_SECTION = _COLUMNS + b"WHERE chain = %s AND sequence BETWEEN %s AND %s ORDER BY sequence, request_id"
_HEAD = b"SELECT chain, sequence, hash FROM receipt_chains WHERE chain = %s"
_HEADS = b"SELECT chain, sequence, hash FROM receipt_chains WHERE right(chain, 7) >= %s ORDER BY chain"


class PostgresReceiptStore:
    """`ReceiptStore` on the tables that `PostgresRecordStore` writes.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def receipt(self, request_id: str, *, tenant_id: str) -> ReceiptRow | None:
        """The receipt of a tenant's request, or None.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        try:
            key = UUID(request_id)
        except ValueError:
            return None
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            found = await (await connection.execute(_OF_REQUEST, (key, tenant_id))).fetchone()
        return None if found is None else _row(found)

    async def section(self, chain: str, *, first: int, last: int) -> ChainSection:
        """The rows of a chain from one sequence to another, and its head, as of one instant.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            # A row that is appended in between must not be missing from one and known to the other.
            await connection.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            rows = await (await connection.execute(_SECTION, (chain, first, last))).fetchall()
            head = await (await connection.execute(_HEAD, (chain,))).fetchone()
        return ChainSection(tuple(map(_row, rows)), None if head is None else ChainHead(*head))

    async def heads(self, *, since: datetime) -> Sequence[ChainHead]:
        """The heads of all chains of the month (UTC) of `since` and later ones.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            rows = await (await connection.execute(_HEADS, (month_of(since),))).fetchall()
        return [ChainHead(*row) for row in rows]


class PostgresConfigurationArchive:
    """`ConfigurationArchive` on ``config_documents``.

    Args:
        pool: where the table is.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def keep(self, kind: str, version: str, document: str) -> None:
        """Store a document under the hash of its content; one that is there already is left alone.

        Raises:
            DependencyUnavailable: it was not stored, as far as can be known; storing it again is safe.
            InternalError: the version is not the document's.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            await connection.execute(
                b"INSERT INTO config_documents (kind, version, body) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (kind, version, document),
            )

    async def document(self, kind: str, version: str) -> str | None:
        """The document of that version, or None.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            cursor = await connection.execute(
                b"SELECT body FROM config_documents WHERE kind = %s AND version = %s", (kind, version)
            )
            row = await cursor.fetchone()
        return None if row is None else str(row[0])


def _row(row: TupleRow) -> ReceiptRow:
    chain, sequence, request_id, tenant_id, start_time, previous_hash, own_hash, body = row
    return ReceiptRow(
        chain, sequence, str(request_id), tenant_id, start_time.astimezone(UTC), previous_hash, own_hash, body
    )
