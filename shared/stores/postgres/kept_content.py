"""Kept content in PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from shared.domain.kept_content import SealedContent
from shared.domain.privacy import DataSubject, SubjectKind
from shared.stores.postgres.pool import PostgresPool

_COLUMNS = "tenant_id, request_id, service_name, principal_id, tags, started_at, expires_at, key_id, sealed"
_PUT = f"""
    INSERT INTO kept_content ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
""".encode()  # noqa: S608 - constants above
_GET = f"""
    SELECT {_COLUMNS} FROM kept_content
    WHERE tenant_id = %(tenant_id)s AND request_id = %(request_id)s AND expires_at > %(now)s
""".encode()  # noqa: S608 - constants above
_MOST_A_PURGE = 10_000
_PURGE = b"""
    DELETE FROM kept_content WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM kept_content WHERE expires_at <= %(now)s LIMIT %(most)s))
"""
_THEIRS = {
    SubjectKind.PRINCIPAL: "principal_id = %(value)s",
    SubjectKind.SERVICE: "service_name = %(value)s",
    SubjectKind.TAG: "tags ->> %(tag)s = %(value)s",
}
_OF = {
    kind: f"""
        SELECT {_COLUMNS} FROM kept_content
        WHERE tenant_id = %(tenant_id)s AND {theirs} AND request_id > %(after)s AND expires_at > %(now)s
        ORDER BY request_id LIMIT %(limit)s
    """.encode()  # noqa: S608 - constants above
    for kind, theirs in _THEIRS.items()
}
_FORGET = {
    kind: f"DELETE FROM kept_content WHERE tenant_id = %(tenant_id)s AND {theirs} AND started_at <= %(until)s".encode()  # noqa: S608 - constants above
    for kind, theirs in _THEIRS.items()
}


class PostgresContent:
    """`ContentStore`.

    Args:
        pool: where the table is.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def put(self, contents: Sequence[SealedContent]) -> None:
        """Keep contents; what is there already stays as it is.

        Raises:
            DependencyUnavailable: none were kept, as far as can be known; putting again is safe.
        """
        rows = [
            (
                content.tenant_id,
                UUID(content.request_id),
                content.service,
                content.principal_id,
                Jsonb(dict(content.tags)),
                content.started_at,
                content.expires_at,
                content.key_id,
                content.sealed,
            )
            for content in contents
        ]
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.cursor().executemany(_PUT, rows)

    async def get(self, tenant_id: str, request_id: str, now: datetime) -> SealedContent | None:
        """What was kept of a request, until it expires.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        values = {"tenant_id": tenant_id, "request_id": UUID(request_id), "now": now}
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            row = await (await connection.execute(_GET, values)).fetchone()
        return None if row is None else _content(row)

    async def purge(self, now: datetime) -> int:
        """Delete what has expired, some thousands a call; returns how many.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return (await connection.execute(_PURGE, {"now": now, "most": _MOST_A_PURGE})).rowcount

    async def of(self, subject: DataSubject, after: str, limit: int, now: datetime) -> Sequence[SealedContent]:
        """A person's contents by request id, those after one.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        values = _values(subject) | {"after": UUID(after) if after else UUID(int=0), "limit": limit, "now": now}
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            rows = await (await connection.execute(_OF[subject.kind], values)).fetchall()
        return [_content(row) for row in rows]

    async def forget(self, subject: DataSubject, until: datetime) -> None:
        """Delete a person's contents of requests that began until then.

        Raises:
            DependencyUnavailable: some may be left; doing it again is safe.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            await connection.execute(_FORGET[subject.kind], _values(subject) | {"until": until})


def _values(subject: DataSubject) -> dict[str, Any]:
    return {"tenant_id": subject.tenant_id, "value": subject.value, "tag": subject.tag}


def _content(row: TupleRow) -> SealedContent:
    tenant_id, request_id, service, principal_id, tags, started_at, expires_at, key_id, sealed = row
    return SealedContent(
        tenant_id=tenant_id,
        request_id=str(request_id),
        service=service,
        principal_id=principal_id,
        tags=tuple(tags.items()),
        started_at=started_at.astimezone(UTC),
        expires_at=expires_at.astimezone(UTC),
        key_id=key_id,
        sealed=bytes(sealed),
    )
