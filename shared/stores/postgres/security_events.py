"""Security events and sightings of principals in PostgreSQL."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import TupleRow

from shared.domain.security_events import EventQuery, SecurityEvent, SecurityEventKind, Sighting
from shared.stores.postgres.pool import PostgresPool

_COLUMNS = tuple(field.name for field in fields(SecurityEvent))
_TEXT = ", ".join(_COLUMNS)
_INSERT = f"""
    INSERT INTO security_events ({_TEXT})
    SELECT {_TEXT} FROM jsonb_to_recordset(%s::jsonb) AS event(
        id uuid, at timestamptz, tenant_id text, kind text, actor text, service text, resource text, request_id text,
        network text, user_agent text, code text, target text, count bigint)
    ON CONFLICT (id, at) DO NOTHING
""".encode()  # noqa: S608 - the names of a dataclass's fields
_SEEN = b"""
    INSERT INTO principal_sightings AS known
        (tenant_id, principal_id, service, network, day, roles, first_at, last_at, requests)
    SELECT tenant_id, principal_id, service, network, (last_at AT TIME ZONE 'UTC')::date, roles, first_at, last_at,
           requests
    FROM jsonb_to_recordset(%s::jsonb) AS seen(
        tenant_id text, principal_id text, service text, network text, roles text[], first_at timestamptz,
        last_at timestamptz, requests bigint)
    ORDER BY tenant_id, principal_id, service, network, last_at
    ON CONFLICT (tenant_id, principal_id, service, network, day) DO UPDATE
    SET roles = excluded.roles,
        first_at = least(known.first_at, excluded.first_at),
        last_at = greatest(known.last_at, excluded.last_at),
        requests = known.requests + excluded.requests
"""
# Each filter is left out by its null, so that one statement serves all queries.
_TAKEN = """
    FROM security_events
    WHERE tenant_id = %(tenant_id)s AND at >= %(since)s AND at < %(until)s
      AND (%(kind)s::text IS NULL OR kind = %(kind)s)
      AND (%(actor)s::text IS NULL OR actor = %(actor)s)
"""
_PAGE = f"""
    SELECT {_TEXT} {_TAKEN}
      AND (%(before_at)s::timestamptz IS NULL OR (at, id) < (%(before_at)s, %(before_id)s::uuid))
    ORDER BY at DESC, id DESC LIMIT %(limit)s
""".encode()
_COUNTS = f"SELECT kind, sum(count) {_TAKEN} GROUP BY kind".encode()
_PRINCIPALS = b"""
    SELECT tenant_id, principal_id, service, count(DISTINCT network)::text,
           (array_agg(to_jsonb(roles) ORDER BY last_at DESC))[1], min(first_at), max(last_at), sum(requests)::bigint
    FROM principal_sightings
    WHERE tenant_id = %s AND last_at >= %s
    GROUP BY tenant_id, principal_id, service
    ORDER BY max(last_at) DESC, principal_id LIMIT %s
"""


class PostgresSecurityEvents:
    """`SecurityEventStore` on ``security_events`` and ``principal_sightings``.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def insert(self, events: Sequence[SecurityEvent], sightings: Sequence[Sighting]) -> None:
        """Write both in one transaction.

        Raises:
            DependencyUnavailable: nothing was written, as far as can be known.
            InternalError: the database refused a value.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            if events:
                await connection.execute(_INSERT, (_json(events),))
            if sightings:
                await connection.execute(_SEEN, (_json(sightings),))

    async def events(self, query: EventQuery) -> Sequence[SecurityEvent]:
        """The newest events that a query takes.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            rows = await (await connection.execute(_PAGE, _filters(query))).fetchall()
        return [event_of(row) for row in rows]

    async def counts(self, query: EventQuery) -> Mapping[str, int]:
        """How many events of each kind a query takes.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            rows = await (await connection.execute(_COUNTS, _filters(query))).fetchall()
        return {kind: int(count) for kind, count in rows}

    async def sightings(self, tenant_id: str, *, since: datetime, limit: int) -> Sequence[Sighting]:
        """Principals of a tenant, all networks and days together, newest first.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            rows = await (await connection.execute(_PRINCIPALS, (tenant_id, since, limit))).fetchall()
        return [
            Sighting(
                tenant,
                principal,
                service,
                networks,
                tuple(roles),
                first.astimezone(UTC),
                last.astimezone(UTC),
                requests,
            )
            for tenant, principal, service, networks, roles, first, last, requests in rows
        ]


def event_of(row: TupleRow) -> SecurityEvent:
    """An event from all columns, in the order of the dataclass's fields."""
    values = dict(zip(_COLUMNS, row, strict=True))
    values |= {"id": str(values["id"]), "at": values["at"].astimezone(UTC), "kind": SecurityEventKind(values["kind"])}
    return SecurityEvent(**values)


def _json(rows: Sequence[Any]) -> str:
    # PostgreSQL holds no NUL, and no half of a surrogate pair: a hostile name must not hold up the batch around it.
    clean = [{name: _clean(getattr(row, name)) for name in row.__slots__} for row in rows]
    return orjson.dumps(clean).decode()


def _clean(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")[:256]


def _filters(query: EventQuery) -> dict[str, Any]:
    at, event_id = query.before or (None, None)
    return {
        "tenant_id": query.tenant_id,
        "since": query.since,
        "until": query.until,
        "kind": None if query.kind is None else query.kind.value,
        "actor": query.actor,
        "before_at": at,
        "before_id": None if event_id is None else UUID(event_id),
        "limit": query.limit,
    }
