"""Jobs that write files of rows, in PostgreSQL: a lease says who works on one."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from shared.domain.analytics import Granularity
from shared.domain.exports import ExportFormat, ExportJob, ExportQuery, ExportState, ExportSubject, ExportTask
from shared.stores.postgres.pool import PostgresPool

_COLUMNS = (
    b"id, tenant_id, requested_by, query, format, state, rows_written, rows_expected, size_bytes, sha256, attempts, "
    b"code, created_at, finished_at, expires_at"
)
_OPEN = b"state IN ('queued', 'running')"
# Orders of one tenant are counted one after the other, so that many at once do not pass the bound together.
_ONE_AT_A_TIME = b"SELECT pg_advisory_xact_lock(hashtextextended('exports ' || %s, 0))"
_ADD = (
    b"""
    INSERT INTO exports (id, tenant_id, requested_by, query, format, state, created_at, expires_at)
    SELECT %(id)s, %(tenant_id)s, %(requested_by)s, %(query)s, %(format)s, 'queued', %(created_at)s, %(expires_at)s
    WHERE (SELECT count(*) FROM exports WHERE tenant_id = %(tenant_id)s AND """
    + _OPEN
    + b") < %(most_open)s"
)
_ONE = b"SELECT " + _COLUMNS + b" FROM exports WHERE tenant_id = %s AND id = %s"
_PAGE = (
    b"SELECT "
    + _COLUMNS
    + b""" FROM exports WHERE tenant_id = %(tenant_id)s
        AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(id)s::uuid))
    ORDER BY created_at DESC, id DESC LIMIT %(limit)s"""
)
_CLAIM = (
    b"""
    UPDATE exports SET state = 'running', worker = %s, lease_until = clock_timestamp() + make_interval(secs => %s),
        attempts = attempts + 1, rows_written = 0, updated_at = clock_timestamp()
    WHERE tenant_id = %s AND id = %s AND """
    + _OPEN
    + b""" AND (worker IS NULL OR lease_until <= clock_timestamp())
    RETURNING """
    + _COLUMNS
)
_ADVANCE = b"""
    UPDATE exports SET rows_written = %(rows_written)s, rows_expected = %(rows_expected)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s), updated_at = clock_timestamp()
    WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND worker = %(worker)s AND state = 'running'"""
_END = b"""
    UPDATE exports SET state = %(state)s, rows_written = %(rows_written)s, size_bytes = %(size_bytes)s,
        sha256 = %(sha256)s, code = %(code)s, finished_at = %(finished_at)s, worker = NULL, lease_until = NULL,
        updated_at = clock_timestamp()
    WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND worker = %(worker)s AND state = 'running'"""
_CANCEL = (
    b"""
    UPDATE exports SET state = 'cancelled', worker = NULL, lease_until = NULL, updated_at = clock_timestamp(),
        finished_at = coalesce(finished_at, clock_timestamp()), expires_at = least(expires_at, clock_timestamp())
    WHERE tenant_id = %s AND id = %s RETURNING """
    + _COLUMNS
)
_STUCK = (
    b"SELECT tenant_id, id FROM exports WHERE "
    + _OPEN
    + b" AND (worker IS NULL OR lease_until <= clock_timestamp())"
    + b" AND updated_at < clock_timestamp() - make_interval(secs => %s) ORDER BY updated_at LIMIT %s"
)
_DUE = b"SELECT " + _COLUMNS + b" FROM exports WHERE expires_at <= %s AND NOT cleared ORDER BY expires_at LIMIT %s"
# Whoever still works on it loses it: the file would outlive its job.
_CLEAR = b"""
    UPDATE exports SET cleared = true, worker = NULL, lease_until = NULL, updated_at = clock_timestamp(),
        state = CASE WHEN state IN ('queued', 'running', 'ready') THEN 'expired' ELSE state END
    WHERE tenant_id = %s AND id = %s AND attempts = %s"""
_FORGET = b"DELETE FROM exports WHERE cleared AND expires_at < %s"


class PostgresExportJobs:
    """`ExportJobs`.

    Args:
        pool: where the table is.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def add(self, job: ExportJob, *, most_open: int) -> bool:
        """Keep a new job; False when the tenant has so many that are still to be done.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known.
        """
        values = {
            "id": UUID(job.id),
            "tenant_id": job.tenant_id,
            "requested_by": job.requested_by,
            "query": Jsonb(_query_values(job.query)),
            "format": job.format.value,
            "created_at": job.created_at,
            "expires_at": job.expires_at,
            "most_open": most_open,
        }
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.execute(_ONE_AT_A_TIME, (job.tenant_id,))
            return (await connection.execute(_ADD, values)).rowcount > 0

    async def get(self, tenant_id: str, export_id: str) -> ExportJob | None:
        """A job of a tenant.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return await self._one(_ONE, tenant_id, export_id)

    async def page(
        self, tenant_id: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
    ) -> Sequence[ExportJob]:
        """Jobs of a tenant, the newest first.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        at, export_id = before or (None, None)
        return await self._jobs(_PAGE, {"tenant_id": tenant_id, "at": at, "id": export_id, "limit": limit})

    async def claim(self, task: ExportTask, *, worker: str, lease_s: float) -> ExportJob | None:
        """Take a job to work on, as a new attempt; None when it is over, or another worker holds its lease.

        Raises:
            DependencyUnavailable: no answer in time; it may have been taken.
        """
        key = _key_of(task.export_id)
        found = [] if key is None else await self._jobs(_CLAIM, (worker, lease_s, task.tenant_id, key))
        return found[0] if found else None

    async def advance(self, job: ExportJob, *, worker: str, lease_s: float) -> bool:
        """Note how far it is, and hold the lease for longer; False when the job is somebody else's now, or over.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        values = {"rows_written": job.rows_written, "rows_expected": job.rows_expected, "lease_s": lease_s}
        return await self._changed(_ADVANCE, values | _mine(job, worker))

    async def end(self, job: ExportJob, *, worker: str) -> bool:
        """Note that it is over, or put off when its state is open, and let go of it; False as in `advance`.

        Raises:
            DependencyUnavailable: no answer in time; it may have been noted.
        """
        values = {
            "state": job.state.value,
            "rows_written": job.rows_written,
            "size_bytes": job.size_bytes,
            "sha256": job.sha256,
            "code": job.code,
            "finished_at": job.finished_at,
        }
        return await self._changed(_END, values | _mine(job, worker))

    async def cancel(self, tenant_id: str, export_id: str) -> ExportJob | None:
        """Let it be done no more, or let its file be read no more; None when there is none.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return await self._one(_CANCEL, tenant_id, export_id)

    async def stuck(self, *, older_than_s: float, limit: int = 100) -> Sequence[ExportTask]:
        """Jobs of all tenants that are still to be done and that nobody has worked on for so many seconds.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            rows = await (await connection.execute(_STUCK, (older_than_s, limit))).fetchall()
        return [ExportTask(tenant_id, str(key)) for tenant_id, key in rows]

    async def due(self, now: datetime, *, limit: int = 100) -> Sequence[ExportJob]:
        """Jobs of all tenants whose file's time is over and that were not cleared yet.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return await self._jobs(_DUE, (now, limit))

    async def clear(self, job: ExportJob) -> None:
        """Note that its files are gone, unless another attempt began meanwhile.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        await self._changed(_CLEAR, (job.tenant_id, UUID(job.id), job.attempts))

    async def forget(self, before: datetime) -> int:
        """Delete cleared jobs that expired before an instant; returns how many.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return (await connection.execute(_FORGET, (before,))).rowcount

    async def _one(self, statement: bytes, tenant_id: str, export_id: str) -> ExportJob | None:
        key = _key_of(export_id)
        found = [] if key is None else await self._jobs(statement, (tenant_id, key))
        return found[0] if found else None

    async def _jobs(self, statement: bytes, values: Any) -> list[ExportJob]:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return [_job_of(row) for row in await (await cursor.execute(statement, values)).fetchall()]

    async def _changed(self, statement: bytes, values: Any) -> bool:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return (await connection.execute(statement, values)).rowcount > 0


def _mine(job: ExportJob, worker: str) -> dict[str, Any]:
    return {"tenant_id": job.tenant_id, "id": UUID(job.id), "worker": worker}


def _key_of(export_id: str) -> UUID | None:
    try:
        return UUID(export_id)
    except ValueError:
        return None


def _query_values(query: ExportQuery) -> dict[str, Any]:
    values = asdict(query) | {"since": query.since.isoformat(), "until": query.until.isoformat()}
    del values["tenant_id"]
    return values


def _job_of(row: DictRow) -> ExportJob:
    asked = row["query"]
    query = ExportQuery(
        tenant_id=row["tenant_id"],
        subject=ExportSubject(asked["subject"]),
        since=datetime.fromisoformat(asked["since"]),
        until=datetime.fromisoformat(asked["until"]),
        columns=tuple(asked["columns"]),
        filters={name: tuple(values) for name, values in asked["filters"].items()},
        granularity=Granularity(asked["granularity"]),
    )
    return ExportJob(
        id=str(row["id"]),
        requested_by=row["requested_by"],
        query=query,
        format=ExportFormat(row["format"]),
        created_at=row["created_at"].astimezone(UTC),
        expires_at=row["expires_at"].astimezone(UTC),
        state=ExportState(row["state"]),
        rows_written=row["rows_written"],
        rows_expected=row["rows_expected"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        attempts=row["attempts"],
        code=row["code"],
        finished_at=None if row["finished_at"] is None else row["finished_at"].astimezone(UTC),
    )
