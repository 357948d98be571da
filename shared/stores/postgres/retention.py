"""What PostgreSQL lets go of by age: whole months by dropping their partitions, never by deleting row by row."""

from collections.abc import Sequence
from datetime import datetime

from shared.domain.retention import RetentionClass, RetentionDue
from shared.stores.postgres.pool import Connection, PostgresPool

_PARTITIONED = {
    RetentionClass.RECORDS: ("requests", "attempts", "receipts"),
    RetentionClass.EVENTS: ("security_events",),
    RetentionClass.AUDIT: (),
}
_MOST_A_RUN = 50_000
"""Rows of a plain table that leave in one run, so that none takes long; the rest leaves the next time."""
_OLD = {
    RetentionClass.RECORDS: {
        # The default partition holds what no month was made for.
        "requests_default": "start_time < %(before)s",
        "attempts_default": "request_start_time < %(before)s",
        "receipts_default": "start_time < %(before)s",
        "receipt_chains": "right(chain, 7) < to_char(%(before)s AT TIME ZONE 'UTC', 'YYYY-MM')",
        "budget_spend": "split_part(account, '/', 2) ~ '^[0-9]{4}-[0-9]{2}' "
        "AND left(split_part(account, '/', 2), 7) < to_char(%(before)s AT TIME ZONE 'UTC', 'YYYY-MM')",
        "usage_hours": "hour < %(before)s",
        "feedback": "coalesce(request_start_time, given_at) < %(before)s",
        "quality_evidence": "request_start_time < %(before)s",
        "analytics_slices": "bucket < %(before)s",
        # Partition by partition: a row's ctid says where it is within one only.
        **{
            f"{table}_{granularity}": "bucket < %(before)s"
            for table in ("analytics", "model_performance")
            for granularity in ("minute", "hour", "day")
        },
    },
    RetentionClass.EVENTS: {
        "security_events_default": "at < %(before)s",
        "principal_sightings": "last_at < %(before)s",
        "threat_findings": "state = 'resolved' AND last_at < %(before)s",
        "notifications": "state <> 'waiting' AND created_at < %(before)s",
        "alert_incidents": "state = 'resolved' AND resolved_at < %(before)s",
        "alert_silences": "ends_at < %(before)s",
        "alert_rules": "deleted_at < %(before)s",
    },
    RetentionClass.AUDIT: {"erasures": "state = 'completed' AND completed_at < %(before)s"},
}


class PostgresRetention:
    """`RetentionStore`.

    Args:
        pool: where the tables are; its role must own them.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def due(self, kind: RetentionClass, before: datetime) -> Sequence[RetentionDue]:
        """What of a class is older than an instant.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        found = []
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            for table in _PARTITIONED[kind]:
                rows = await connection.execute(b"SELECT month_partitions_before(%s, %s)", (table, before))
                found += [RetentionDue(kind, name) for (name,) in await rows.fetchall()]
            for table, old in _OLD[kind].items():
                found += _counted(kind, table, await _count(connection, table, old, before))
        return found

    async def drop(self, kind: RetentionClass, before: datetime) -> Sequence[RetentionDue]:
        """Take it away. The chains' heads go after their rows, so no chain ever lacks its head.

        Raises:
            DependencyUnavailable: no answer in time, or a table was in use; what was dropped stays so.
        """
        dropped = []
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            for table in _PARTITIONED[kind]:
                rows = await connection.execute(b"SELECT unnest(drop_month_partitions(%s, %s))", (table, before))
                dropped += [RetentionDue(kind, name) for (name,) in await rows.fetchall()]
            for table, old in _OLD[kind].items():
                dropped += _counted(kind, table, await _delete(connection, table, old, before))
        return dropped


async def _count(connection: Connection, table: str, old: str, before: datetime) -> int:
    statement = f"SELECT count(*) FROM {table} WHERE {old}".encode()  # noqa: S608 - constants above
    row = await (await connection.execute(statement, {"before": before})).fetchone()
    return 0 if row is None else int(row[0])


async def _delete(connection: Connection, table: str, old: str, before: datetime) -> int:
    oldest = f"SELECT ctid FROM {table} WHERE {old} LIMIT {_MOST_A_RUN}"  # noqa: S608 - likewise
    statement = f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({oldest}))".encode()  # noqa: S608 - likewise
    return (await connection.execute(statement, {"before": before})).rowcount


def _counted(kind: RetentionClass, table: str, rows: int) -> list[RetentionDue]:
    return [RetentionDue(kind, table, rows)] if rows else []
