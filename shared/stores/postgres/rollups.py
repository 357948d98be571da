"""Rollups computed in PostgreSQL: whole buckets, in transactions under a lock that one process holds at a time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from psycopg import sql
from psycopg.rows import TupleRow

from shared.analytics.sketches import compact_all
from shared.domain.analytics import LATE, MINUTES_KEPT, MOST_TAG_VALUES, Granularity
from shared.domain.feedback import WAITING
from shared.stores.postgres.pool import Connection, PostgresPool
from shared.stores.postgres.rollup_slices import COLUMNS, FOLD, PLAIN, SLICES, STATEMENT
from shared.stores.postgres.rollup_tables import ANALYTICS, TABLES, RollupTable

_LOCK = 7_003_715_215_926_321_002
"""Any number that nothing else locks."""
_MINUTES_A_STEP = 15
_FEEDBACK_A_STEP = 500
_HOUR = timedelta(hours=1)
_UPON = {Granularity.HOUR: Granularity.MINUTE, Granularity.DAY: Granularity.HOUR}
_ABOVE = {Granularity.MINUTE: Granularity.HOUR, Granularity.HOUR: Granularity.DAY}

_OLDEST = b"SELECT min(bucket) FROM rollup_pending WHERE granularity = %(granularity)s"
_CLAIM = b"""
    DELETE FROM rollup_pending
    WHERE granularity = %(granularity)s AND bucket = ANY(ARRAY(
        SELECT DISTINCT bucket FROM rollup_pending
        WHERE granularity = %(granularity)s AND bucket >= %(since)s AND bucket < %(until)s
        ORDER BY bucket LIMIT %(most)s))
    RETURNING bucket, noted_at
"""
_NO_NESTED_LOOPS = b"SET LOCAL enable_nestloop = off"
"""Buckets that were just written have no statistics: the planner would take thousands of rows for one, and join them by
going through the other side once for each."""
_NOTE = b"INSERT INTO rollup_pending (granularity, bucket, noted_at) VALUES (%s, %s, %s)"
_PURGE = """
    DELETE FROM {} WHERE granularity = 'minute' AND bucket < %(before)s AND NOT EXISTS (
        SELECT FROM rollup_pending AS due
        WHERE due.granularity IN ('minute', 'hour') AND due.bucket < %(before)s)
"""
# The record by its key, feedback by feedback: never a scan.
_JOIN_FEEDBACK = b"""
    UPDATE feedback SET request_start_time = found.start_time
    FROM (
        SELECT request_id, tenant_id, principal_id, record.start_time
        FROM (SELECT * FROM feedback WHERE request_start_time IS NULL AND given_at >= %(oldest)s
              ORDER BY given_at, request_id LIMIT %(most)s OFFSET %(skipped)s) AS waiting
        CROSS JOIN LATERAL (
            SELECT start_time FROM requests
            WHERE id = waiting.request_id AND requests.tenant_id = waiting.tenant_id
              AND requests.service_name = waiting.service_name LIMIT 1) AS record
    ) AS found
    WHERE feedback.request_id = found.request_id AND feedback.tenant_id = found.tenant_id
      AND feedback.principal_id = found.principal_id
"""
_WAITING = b"SELECT count(*) FROM feedback WHERE request_start_time IS NULL"
_FORGET_FEEDBACK = b"DELETE FROM feedback WHERE request_start_time IS NULL AND given_at < %s"


class PostgresRollups:
    """`RollupStore`.

    Args:
        pool: where ledger and rollups are.
        tag_keys: tags that requests are also counted by.
        deadline_s: seconds within which a step is done or fails, also for the server.
    """

    def __init__(self, pool: PostgresPool, *, tag_keys: Sequence[str] = (), deadline_s: float = 120.0) -> None:
        self._pool = pool
        self._tag_keys = tuple(tag_keys)
        self._deadline_s = deadline_s

    async def fold(self, now: datetime, *, tiers: Sequence[int]) -> bool:
        """Compute up to 15 minutes of the oldest hour that is out of date from the ledger; False: there is none.

        Of an hour whose minutes are not kept any more all sixty are computed, for the hour is made of them.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        async with self._alone() as connection:
            oldest = None if connection is None else await _oldest(connection, Granularity.MINUTE)
            if connection is None or oldest is None:
                return False
            hour = oldest.replace(minute=0)
            is_whole = hour < now - MINUTES_KEPT
            most = 60 if is_whole else _MINUTES_A_STEP
            due, noted_at = await _claim(connection, Granularity.MINUTE, hour, hour + _HOUR, most)
            minutes = [hour + timedelta(minutes=minute) for minute in range(60)] if is_whole else due
            values = {
                "since": min(minutes),
                "until": max(minutes) + timedelta(minutes=1),
                "minutes": minutes,
                "tiers": list(tiers),
                "grace": LATE,
                "tag_keys": list(self._tag_keys),
                "most": MOST_TAG_VALUES,
            }
            await connection.execute(_NO_NESTED_LOOPS)
            for name, fold in (*((table.name, table.fold) for table in TABLES), (SLICES, FOLD)):
                await connection.execute(
                    sql.SQL("DELETE FROM {} WHERE granularity = 'minute' AND bucket = ANY(%s)").format(
                        sql.Identifier(name)
                    ),
                    (minutes,),
                )
                await connection.execute(fold, values)
            await connection.execute(_NOTE, (Granularity.HOUR.value, hour, noted_at))
            return True

    async def merge(self, granularity: Granularity) -> bool:
        """Add the oldest hour or day that is out of date up from its minutes or hours; False: there is none.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        async with self._alone() as connection:
            oldest = None if connection is None else await _oldest(connection, granularity)
            if connection is None or oldest is None:
                return False
            until = oldest + granularity.length
            _, noted_at = await _claim(connection, granularity, oldest, until, 1)
            await connection.execute(_NO_NESTED_LOOPS)
            for table in TABLES:
                await _merge(connection, table, granularity, oldest)
            await _slice(connection, granularity, oldest)
            above = _ABOVE.get(granularity)
            if above is not None:
                await connection.execute(_NOTE, (above.value, oldest.replace(hour=0), noted_at))
            return True

    async def purge_minutes(self, now: datetime) -> None:
        """Let go of minutes that are not kept any more, once their hours are up to date.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        # An hour more than `fold` allows for: another process's clock may be behind.
        before = (now - MINUTES_KEPT - _HOUR).replace(minute=0, second=0, microsecond=0)
        async with self._alone() as connection:
            if connection is not None:
                for name in (*(table.name for table in TABLES), SLICES):
                    await connection.execute(sql.SQL(_PURGE).format(sql.Identifier(name)), {"before": before})

    async def join_feedback(self, now: datetime) -> None:
        """Count feedback whose record has arrived by now, and forget what waited in vain.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        async with self._alone() as connection:
            if connection is None:
                return
            await connection.execute(_FORGET_FEEDBACK, (now - WAITING,))
            row = await (await connection.execute(_WAITING)).fetchone()
            waiting = 0 if row is None else int(row[0])
            # Those that wait in vain must not keep the others out: another part of them each minute.
            parts = max(1, -(-waiting // _FEEDBACK_A_STEP))
            skipped = int(now.timestamp() // 60) % parts * _FEEDBACK_A_STEP
            values = {"oldest": now - WAITING, "most": _FEEDBACK_A_STEP, "skipped": skipped}
            await connection.execute(_JOIN_FEEDBACK, values)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection | None]:
        """A transaction while no other process rolls up; None when one does."""
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = '{int(self._deadline_s)}s'".encode())
            row = await (await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))).fetchone()
            yield connection if row is not None and row[0] else None


async def _oldest(connection: Connection, granularity: Granularity) -> datetime | None:
    row = await (await connection.execute(_OLDEST, {"granularity": granularity.value})).fetchone()
    oldest: datetime | None = None if row is None else row[0]
    return None if oldest is None else oldest.astimezone(UTC)


async def _claim(
    connection: Connection, granularity: Granularity, since: datetime, until: datetime, most: int
) -> tuple[list[datetime], datetime]:
    """Take notes of buckets away; says of which, and when the first of the notes was made."""
    values = {"granularity": granularity.value, "since": since, "until": until, "most": most}
    rows = await (await connection.execute(_CLAIM, values)).fetchall()
    return sorted({row[0].astimezone(UTC) for row in rows}), min(row[1] for row in rows)


async def _merge(connection: Connection, table: RollupTable, granularity: Granularity, bucket: datetime) -> None:
    values = {
        "source": _UPON[granularity].value,
        "since": bucket,
        "until": bucket + granularity.length,
        "most": MOST_TAG_VALUES,
    }
    rows = await (await connection.execute(table.merge, values)).fetchall()
    await _replace(connection, table.name, table.columns, granularity, bucket, rows, len(table.sketches))


async def _slice(connection: Connection, granularity: Granularity, bucket: datetime) -> None:
    """Compute the slices of a bucket whose rollups were just written."""
    values = {"granularity": granularity.value, "bucket": bucket}
    rows = await (await connection.execute(STATEMENT, values)).fetchall()
    await _replace(connection, SLICES, COLUMNS, granularity, bucket, rows, len(ANALYTICS.sketches))
    await connection.execute(PLAIN, values)


async def _replace(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    granularity: Granularity,
    bucket: datetime,
    rows: Sequence[TupleRow],
    sketches: int,
) -> None:
    """Put rows in the place of a bucket's. They lack the first two columns; the last are sketches, made compact."""
    name = sql.Identifier(table)
    await connection.execute(
        sql.SQL("DELETE FROM {} WHERE granularity = %s AND bucket = %s").format(name), (granularity.value, bucket)
    )
    named = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    compacted = compact_all([sketch for row in rows for sketch in row[-sketches:]])
    async with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(name, named)) as copy,
    ):
        for number, row in enumerate(rows):
            await copy.write_row(
                (granularity.value, bucket, *row[:-sketches], *compacted[number * sketches : (number + 1) * sketches])
            )
