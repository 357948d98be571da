"""Alert rules, incidents and silences in PostgreSQL. A step of evaluation is one transaction under a lock."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg.errors import UniqueViolation
from psycopg.rows import TupleRow

from shared.domain.alerts import (
    AlertRule,
    Incident,
    IncidentQuery,
    IncidentState,
    RuleProgress,
    Silence,
    Standing,
    StepState,
    group_key,
)
from shared.domain.dataclass_json import from_values, to_values
from shared.domain.errors import Conflict
from shared.domain.notifications import Notification
from shared.stores.postgres.notifications import insert_notifications
from shared.stores.postgres.pool import Connection, PostgresPool

_LOCK = 1_096_040_772
"""Any number that nothing else locks together with the hash of a tenant."""
_STEP_DEADLINE_S = 90.0

_TRY_LOCK = b"SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))"
_TENANTS = b"""
    SELECT tenant_id FROM alert_rules WHERE deleted_at IS NULL
    UNION SELECT tenant_id FROM alert_incidents WHERE state <> 'resolved'
    UNION SELECT tenant_id FROM analytics WHERE granularity = 'day' AND bucket >= date_trunc('day', %s, 'UTC')
    ORDER BY 1
"""
_RULES = b"SELECT body FROM alert_rules WHERE tenant_id = %s AND deleted_at IS NULL ORDER BY name, id"
_PROGRESS = b"SELECT rule_id, evaluated_at, standing, words FROM alert_progress WHERE tenant_id = %s"
_INCIDENT = b"SELECT body, acknowledged_at, acknowledged_by, note FROM alert_incidents "
_OPEN = _INCIDENT + b"WHERE tenant_id = %s AND state <> 'resolved' ORDER BY started_at, id"
_SILENCES = b"SELECT body FROM alert_silences WHERE tenant_id = %s AND ends_at > %s ORDER BY ends_at DESC, id"
_PUT_PROGRESS = b"""
    INSERT INTO alert_progress (tenant_id, rule_id, evaluated_at, standing, words)
    SELECT %(tenant_id)s, rule_id, evaluated_at, standing, words FROM jsonb_to_recordset(%(rows)s::jsonb)
        AS told(rule_id text, evaluated_at timestamptz, standing text, words text)
    ON CONFLICT (tenant_id, rule_id) DO UPDATE
    SET evaluated_at = excluded.evaluated_at, standing = excluded.standing, words = excluded.words
"""
_DROP = b"DELETE FROM alert_incidents WHERE tenant_id = %s AND id = ANY(%s) AND state = 'pending'"
# Who acknowledges it meanwhile must not be forgotten, so those columns are never written here.
_PUT_INCIDENTS = b"""
    INSERT INTO alert_incidents
        (id, tenant_id, rule_id, group_key, state, started_at, fired_at, resolved_at, body)
    SELECT id, %(tenant_id)s, rule_id, group_key, state, started_at, fired_at, resolved_at, body
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS told(id uuid, rule_id text, group_key text, state text,
        started_at timestamptz, fired_at timestamptz, resolved_at timestamptz, body jsonb)
    ON CONFLICT (id) DO UPDATE
    SET state = excluded.state, fired_at = excluded.fired_at, resolved_at = excluded.resolved_at, body = excluded.body
"""
_COUNT = b"SELECT count(*) FROM alert_rules WHERE tenant_id = %s AND deleted_at IS NULL"
_INSERT_RULE = b"""
    INSERT INTO alert_rules (tenant_id, id, name, version, body, changed_at)
    VALUES (%(tenant_id)s, %(id)s, %(name)s, %(version)s, %(body)s::jsonb, %(changed_at)s)
    ON CONFLICT (tenant_id, id) DO NOTHING
"""
_UPDATE_RULE = b"""
    UPDATE alert_rules
    SET name = %(name)s, version = %(version)s, body = %(body)s::jsonb, changed_at = %(changed_at)s
    WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND version = %(version)s - 1 AND deleted_at IS NULL
"""
_DELETE_RULE = b"""
    UPDATE alert_rules SET deleted_at = now()
    WHERE tenant_id = %s AND id = %s AND version = %s AND deleted_at IS NULL
"""
_STANDING = b"""
    SELECT rule_id, count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'firing'), max(fired_at)
    FROM alert_incidents WHERE tenant_id = %s GROUP BY rule_id
"""
_PAGE = (
    _INCIDENT
    + b"""
    WHERE tenant_id = %(tenant_id)s
      AND (%(rule_id)s::text IS NULL OR rule_id = %(rule_id)s)
      AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
      AND (%(before_at)s::timestamptz IS NULL OR (started_at, id) < (%(before_at)s, %(before_id)s::uuid))
    ORDER BY started_at DESC, id DESC LIMIT %(limit)s
"""
)
_LOCKED = _INCIDENT + b"WHERE id = %s AND tenant_id = %s FOR UPDATE"
_ACKNOWLEDGE = b"UPDATE alert_incidents SET acknowledged_at = %s, acknowledged_by = %s, note = %s WHERE id = %s"
_INSERT_SILENCE = b"""
    INSERT INTO alert_silences (id, tenant_id, starts_at, ends_at, body) VALUES (%s, %s, %s, %s, %s::jsonb)
"""
_COUNT_SILENCES = b"SELECT count(*) FROM alert_silences WHERE tenant_id = %s AND ends_at > %s"
_DELETE_SILENCE = b"DELETE FROM alert_silences WHERE tenant_id = %s AND id = %s"


class PostgresAlertStep:
    """`AlertStep` within a transaction."""

    def __init__(self, connection: Connection, tenant_id: str, state: StepState) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self.state = state

    async def write(
        self,
        *,
        progress: Sequence[RuleProgress],
        incidents: Sequence[Incident],
        dropped: Sequence[str],
        notifications: Sequence[Notification],
    ) -> None:
        """Write what came of the step; it is there once the step has ended."""
        if dropped:
            await self._connection.execute(_DROP, (self._tenant_id, [UUID(one) for one in dropped]))
        # Those that ended first: another one of their group may begin in the same step.
        for is_resolved in (True, False):
            rows = [_incident_row(one) for one in incidents if (one.state is IncidentState.RESOLVED) is is_resolved]
            if rows:
                await self._connection.execute(_PUT_INCIDENTS, {"tenant_id": self._tenant_id, "rows": _json(rows)})
        if progress:
            values = {"tenant_id": self._tenant_id, "rows": _json([_progress_row(one) for one in progress])}
            await self._connection.execute(_PUT_PROGRESS, values)
        await insert_notifications(self._connection, notifications)


class PostgresAlerts:
    """`AlertStore`.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails.
        step_deadline_s: the same for a step with all that is asked of the rollups meanwhile.
    """

    def __init__(
        self, pool: PostgresPool, *, deadline_s: float = 10.0, step_deadline_s: float = _STEP_DEADLINE_S
    ) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._step_deadline_s = step_deadline_s

    async def tenants(self, since: datetime) -> Sequence[str]:
        """Tenants that have rules or open incidents, or had requests since then.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [tenant for (tenant,) in await self._rows(_TENANTS, (since,))]

    @asynccontextmanager
    async def step(self, tenant_id: str, now: datetime) -> AsyncIterator[PostgresAlertStep | None]:
        """A step of a tenant that nobody else makes at the same time; None: somebody does.

        Raises:
            DependencyUnavailable: nothing was written.
        """
        async with self._pool.connection(timeout_s=self._step_deadline_s) as connection, connection.transaction():
            locked = await (await connection.execute(_TRY_LOCK, (_LOCK, tenant_id))).fetchone()
            if locked is None or not locked[0]:
                yield None
                return
            rules = await (await connection.execute(_RULES, (tenant_id,))).fetchall()
            incidents = await (await connection.execute(_OPEN, (tenant_id,))).fetchall()
            silences = await (await connection.execute(_SILENCES, (tenant_id, now))).fetchall()
            progress = await (await connection.execute(_PROGRESS, (tenant_id,))).fetchall()
            yield PostgresAlertStep(
                connection,
                tenant_id,
                StepState(
                    rules=tuple(from_values(AlertRule, body) for (body,) in rules),
                    incidents=tuple(_incident(row) for row in incidents),
                    silences=tuple(from_values(Silence, body) for (body,) in silences),
                    progress={one.rule_id: one for one in map(_progress, progress)},
                ),
            )

    async def rules(self, tenant_id: str) -> Sequence[AlertRule]:
        """A tenant's rules, by name.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [from_values(AlertRule, body) for (body,) in await self._rows(_RULES, (tenant_id,))]

    async def put_rule(self, rule: AlertRule, *, most: int) -> bool:
        """Keep a rule whose version is one above the kept one's, or 1 when there is none; False: it is not.

        Raises:
            Conflict: another rule of the tenant has the name, or the tenant has `most` rules already.
            DependencyUnavailable: not kept, as far as can be known.
        """
        values = {
            "tenant_id": rule.tenant_id,
            "id": rule.id,
            "name": rule.name,
            "version": rule.version,
            "body": _json(to_values(rule)),
            "changed_at": rule.changed_at,
        }
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            try:
                if rule.version > 1:
                    return (await connection.execute(_UPDATE_RULE, values)).rowcount == 1
                count = await (await connection.execute(_COUNT, (rule.tenant_id,))).fetchone()
                if count is not None and count[0] >= most:
                    raise Conflict(f"there are {most} rules already")
                return (await connection.execute(_INSERT_RULE, values)).rowcount == 1
            except UniqueViolation:
                raise Conflict("name: another rule has it", param="name") from None

    async def delete_rule(self, tenant_id: str, rule_id: str, version: int) -> bool:
        """Delete a rule of that version; False: it has another.

        Raises:
            DependencyUnavailable: not done, as far as can be known.
        """
        return await self._count(_DELETE_RULE, (tenant_id, rule_id, version)) == 1

    async def progress(self, tenant_id: str) -> Sequence[RuleProgress]:
        """How far a tenant's rules were evaluated.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [_progress(row) for row in await self._rows(_PROGRESS, (tenant_id,))]

    async def standing(self, tenant_id: str) -> Sequence[tuple[str, int, int, datetime | None]]:
        """By rule: how many incidents are pending, how many fire, and when one last began to.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        rows = await self._rows(_STANDING, (tenant_id,))
        return [(rule, pending, firing, _utc(last)) for rule, pending, firing, last in rows]

    async def incidents(self, query: IncidentQuery) -> Sequence[Incident]:
        """The newest incidents that a query takes.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        at, key = query.before or (None, None)
        values = {
            "tenant_id": query.tenant_id,
            "rule_id": query.rule_id,
            "states": None if query.states is None else [state.value for state in query.states],
            "before_at": at,
            "before_id": None if key is None else UUID(key),
            "limit": query.limit,
        }
        return [_incident(row) for row in await self._rows(_PAGE, values)]

    async def acknowledge(
        self, incident_id: str, *, tenant_id: str, by: str, note: str, at: datetime
    ) -> Incident | None:
        """Note that somebody looks after an open incident; None: the tenant has no such one.

        Raises:
            Conflict: it is acknowledged or resolved already.
            DependencyUnavailable: not noted, as far as can be known.
        """
        try:
            key = UUID(incident_id)
        except ValueError:
            return None
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            row = await (await connection.execute(_LOCKED, (key, tenant_id))).fetchone()
            if row is None:
                return None
            acknowledged = _incident(row).acknowledge(by=by, note=note, at=at)
            await connection.execute(_ACKNOWLEDGE, (at, by, note, key))
        return acknowledged

    async def silences(self, tenant_id: str, *, after: datetime) -> Sequence[Silence]:
        """Silences that end after an instant, the last to end first.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [from_values(Silence, body) for (body,) in await self._rows(_SILENCES, (tenant_id, after))]

    async def put_silence(self, silence: Silence, *, most: int, now: datetime) -> None:
        """Keep a new silence.

        Raises:
            Conflict: the tenant has `most` silences that have not ended.
            DependencyUnavailable: not kept, as far as can be known.
        """
        ((count,),) = await self._rows(_COUNT_SILENCES, (silence.tenant_id, now))
        if count >= most:
            raise Conflict(f"there are {most} silences already")
        body = _json(to_values(silence))
        values = (UUID(silence.id), silence.tenant_id, silence.starts_at, silence.ends_at, body)
        await self._count(_INSERT_SILENCE, values)

    async def delete_silence(self, tenant_id: str, silence_id: str) -> bool:
        """Forget a silence; False: there is none.

        Raises:
            DependencyUnavailable: not done, as far as can be known.
        """
        try:
            key = UUID(silence_id)
        except ValueError:
            return False
        return await self._count(_DELETE_SILENCE, (tenant_id, key)) == 1

    async def notify(self, notifications: Sequence[Notification]) -> None:
        """Have notifications delivered that belong to no step; those that are there stay.

        Raises:
            DependencyUnavailable: not kept, as far as can be known; calling again is safe.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            await insert_notifications(connection, notifications)

    async def _rows(self, statement: bytes, values: Any) -> list[TupleRow]:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return await (await connection.execute(statement, values)).fetchall()

    async def _count(self, statement: bytes, values: Any) -> int:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return (await connection.execute(statement, values)).rowcount


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _progress_row(one: RuleProgress) -> dict[str, Any]:
    return {"rule_id": one.rule_id, "evaluated_at": one.evaluated_at, "standing": one.standing, "words": one.words}


def _progress(row: TupleRow) -> RuleProgress:
    rule_id, evaluated_at, standing, words = row
    return RuleProgress(rule_id, _utc(evaluated_at), Standing(standing), words)


def _incident_row(one: Incident) -> dict[str, Any]:
    return {
        "id": one.id,
        "rule_id": one.rule_id,
        "group_key": group_key(one.group),
        "state": one.state.value,
        "started_at": one.started_at,
        "fired_at": one.fired_at,
        "resolved_at": one.resolved_at,
        "body": to_values(replace(one, acknowledged_at=None, acknowledged_by="", note="")),
    }


def _incident(row: TupleRow) -> Incident:
    body, acknowledged_at, acknowledged_by, note = row
    return replace(
        from_values(Incident, body), acknowledged_at=_utc(acknowledged_at), acknowledged_by=acknowledged_by, note=note
    )


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)
