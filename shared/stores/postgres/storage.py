"""How large tables are, how much of them is waste, and indexes that are built anew when most of them is."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from shared.domain.storage import TableStorage
from shared.stores.postgres.pool import Connection, PostgresPool

_LOCK = 7_003_715_215_926_321_003
"""Any number that nothing else locks."""
_LEAST_BYTES = 16 * 2**20
_LEAST_WASTE = 0.5
"""An index is built anew from this size on, when this share of it is waste."""

# Tables with the ordinary ones as their own single part. Widths are those of ANALYZE: the expected size is that of all
# rows with their headers (23 bytes, padded, and 4 of the line pointer), in pages of which 24 bytes are the page's own.
# https://www.postgresql.org/docs/current/storage-page-layout.html
_LEAVES = """
    leaves AS (
        SELECT root.relname AS name, root.relkind = 'p' AS is_partitioned, leaf.oid, leaf.relname AS leaf,
               leaf.reltuples, leaf.relpages
        FROM pg_class AS root
        CROSS JOIN LATERAL (
            SELECT relid FROM pg_partition_tree(root.oid) WHERE isleaf
            UNION SELECT root.oid WHERE root.relkind = 'r') AS tree
        JOIN pg_class AS leaf ON leaf.oid = tree.relid
        WHERE root.relnamespace = current_schema()::regnamespace AND root.relkind IN ('r', 'p')
          AND NOT root.relispartition
    ), widths AS (
        SELECT tablename, sum((1 - null_frac) * avg_width) AS width FROM pg_stats
        WHERE schemaname = current_schema() GROUP BY tablename
    )
"""
_TABLES = f"""
    WITH {_LEAVES}
    SELECT name,
           CASE WHEN is_partitioned THEN count(*) ELSE 0 END::int AS partitions,
           min(leaf) FILTER (WHERE leaf ~ '_[0-9]{{4}}_[0-9]{{2}}$') AS oldest,
           max(leaf) FILTER (WHERE leaf ~ '_[0-9]{{4}}_[0-9]{{2}}$') AS newest,
           sum(pg_total_relation_size(leaves.oid))::bigint AS total_bytes,
           sum(pg_relation_size(leaves.oid))::bigint AS table_bytes,
           sum(pg_indexes_size(leaves.oid))::bigint AS index_bytes,
           coalesce(sum(n_live_tup), 0)::bigint AS rows,
           coalesce(sum(n_dead_tup), 0)::bigint AS dead_rows,
           sum(CASE WHEN reltuples > 0 AND width IS NOT NULL THEN greatest(
               0, relpages - ceil(reltuples * (28 + width) / (current_setting('block_size')::int - 24)))
               * current_setting('block_size')::int END)::bigint AS bloat_bytes,
           nullif(min(coalesce(greatest(last_vacuum, last_autovacuum), '-infinity'))
               FILTER (WHERE n_live_tup + n_dead_tup > 0), '-infinity') AS vacuumed_at,
           nullif(min(coalesce(greatest(last_analyze, last_autoanalyze), '-infinity'))
               FILTER (WHERE n_live_tup + n_dead_tup > 0), '-infinity') AS analyzed_at
    FROM leaves
    LEFT JOIN widths ON tablename = leaf
    LEFT JOIN pg_stat_user_tables AS stats ON stats.relid = leaves.oid
    GROUP BY name, is_partitioned
    ORDER BY total_bytes DESC, name
""".encode()  # noqa: S608 - constants
# B-tree entries have 8 bytes of their own and 4 of their pointer; pages are filled to nine tenths. Equal keys are kept
# once (deduplication), so an index may well be smaller: then nothing is thought to be waste.
# https://www.postgresql.org/docs/current/btree.html
_BLOATED = b"""
    SELECT index.relname, index.relpages
    FROM pg_index
    JOIN pg_class AS index ON index.oid = indexrelid
    JOIN pg_class AS leaf ON leaf.oid = indrelid
    JOIN pg_am ON pg_am.oid = index.relam AND amname = 'btree'
    CROSS JOIN LATERAL (
        SELECT sum((1 - null_frac) * avg_width) AS width, count(*) AS known
        FROM pg_attribute JOIN pg_stats ON pg_stats.attname = pg_attribute.attname
        WHERE attrelid = leaf.oid AND attnum = ANY(indkey)
          AND tablename = leaf.relname AND schemaname = current_schema()
    ) AS key
    WHERE leaf.relnamespace = current_schema()::regnamespace AND index.relkind = 'i' AND indisvalid
      AND indexprs IS NULL AND indpred IS NULL AND key.known = indnatts AND index.reltuples > 0
      AND index.relpages * current_setting('block_size')::bigint >= %(least_bytes)s
      AND ceil(index.reltuples * (12 + key.width) / (0.9 * current_setting('block_size')::int))
          <= index.relpages * (1 - %(least_waste)s::float8)
    ORDER BY index.relpages DESC
"""
_LEFT_OVER = b"""
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace AND relname ~ '_cc(new|old)[0-9]*$'
"""


class PostgresStorage:
    """`StorageUpkeep`.

    Args:
        pool: where the tables are; its role must own them.
        deadline_s: seconds within which reading is done or fails.
        rebuild_s: seconds within which one index is built anew, or left as it is.
        least_bytes: indexes below this size are left alone.
    """

    def __init__(
        self,
        pool: PostgresPool,
        *,
        deadline_s: float = 10.0,
        rebuild_s: float = 120.0,
        least_bytes: int = _LEAST_BYTES,
    ) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._rebuild_s = rebuild_s
        self._least_bytes = least_bytes

    async def tables(self) -> Sequence[TableStorage]:
        """All tables, the largest first. Reads catalogues and statistics, no rows.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            cursor = connection.cursor(row_factory=class_row(TableStorage))
            return await (await cursor.execute(_TABLES)).fetchall()

    async def rebuild_index(self) -> str | None:
        """Build the largest index that is mostly waste anew, while it is used; returns its name, or None.

        What an interrupted run left behind is dropped first. Another process that is at it is left alone.

        Raises:
            DependencyUnavailable: no answer in time; the old index is as it was.
        """
        async with (
            self._pool.connection(timeout_s=self._rebuild_s + self._deadline_s) as connection,
            _alone(connection) as is_alone,
        ):
            if not is_alone:
                return None
            await self._limit(connection)
            for (name,) in await (await connection.execute(_LEFT_OVER)).fetchall():
                await _on_index(connection, "DROP INDEX CONCURRENTLY IF EXISTS {}", name)
            values = {"least_bytes": self._least_bytes, "least_waste": _LEAST_WASTE}
            row = await (await connection.execute(_BLOATED, values)).fetchone()
            if row is None:
                return None
            is_done = await _on_index(connection, "REINDEX INDEX CONCURRENTLY {}", row[0])
            return str(row[0]) if is_done else None

    async def _limit(self, connection: Connection) -> None:
        """A rebuild waits for old transactions; it must not wait for ever, nor hold up what comes after it."""
        limit_ms = int(self._rebuild_s * 1000)
        await connection.execute(f"SET statement_timeout = {limit_ms}".encode())
        await connection.execute(b"SET lock_timeout = '5s'")


@contextlib.asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[bool]:
    """A lock of the session: an index cannot be built anew within a transaction. Its settings are put back too."""
    row: Any = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))).fetchone()
    if not row[0]:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(psycopg.Error):  # a connection that is gone has let go of both
            await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
            await connection.execute(b"RESET statement_timeout")
            await connection.execute(b"RESET lock_timeout")


async def _on_index(connection: Connection, statement: str, name: str) -> bool:
    """Whether it was done in time; otherwise the next run tries again."""
    try:
        await connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        return False
    return True
