"""Notifications that wait for delivery, in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from psycopg.rows import TupleRow

from shared.domain.deliveries import Delivery, DeliveryQuery, DeliveryState
from shared.domain.errors import Conflict
from shared.domain.notifications import Notification, Occasion, Severity
from shared.stores.postgres.pool import Connection, PostgresPool

_NAMES = tuple(field.name for field in fields(Notification))
_TEXT = ", ".join(f'"{name}"' for name in _NAMES)
_COLUMNS = f"{_TEXT}, state, attempts, attempts_before, queued_at, due_at, ended_at, last_error"
_INSERT = f"""
    INSERT INTO notifications ({_TEXT}, queued_at, due_at)
    SELECT {_TEXT}, created_at, created_at FROM jsonb_to_recordset(%s::jsonb) AS told(
        number integer, id text, tenant_id text, channel text, occasion text, severity text, rule_id text,
        rule_name text, incident_id text, summary text, started_at timestamptz, created_at timestamptz, "group" jsonb,
        value double precision, threshold double precision, unit text, runbook_url text, resolved_at timestamptz)
    ORDER BY number
    ON CONFLICT (id) DO NOTHING
""".encode()  # noqa: S608 - the names of a dataclass's fields
# Of one incident and channel only the first that waits is taken, so none overtakes another. Rows that another process
# takes at this moment are passed over; once it has, their lease keeps them from being due.
_CLAIM = f"""
    UPDATE notifications SET attempts = attempts + 1, due_at = %(lease_until)s
    WHERE id IN (
        SELECT id FROM notifications AS mine
        WHERE tenant_id = %(tenant_id)s AND channel = %(channel)s AND state = 'waiting' AND due_at <= %(now)s
          AND NOT EXISTS (
              SELECT FROM notifications AS ahead
              WHERE ahead.tenant_id = mine.tenant_id AND ahead.channel = mine.channel
                AND ahead.incident_id = mine.incident_id AND ahead.position < mine.position AND ahead.state = 'waiting')
        ORDER BY due_at, position LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}
""".encode()  # noqa: S608 - likewise
_CHANNELS = b"SELECT DISTINCT tenant_id, channel FROM notifications WHERE state = 'waiting' AND due_at <= %s"
_REPORT = b"""
    UPDATE notifications
    SET state = %(state)s, due_at = coalesce(%(due_at)s, due_at), ended_at = %(ended_at)s,
        last_error = coalesce(%(error)s, last_error)
    WHERE id = %(id)s AND attempts = %(attempts)s AND state = 'waiting'
"""
# Each filter is left out by its null, so that one statement serves all queries.
_PAGE = f"""
    SELECT {_COLUMNS} FROM notifications
    WHERE tenant_id = %(tenant_id)s AND created_at >= %(since)s AND created_at < %(until)s
      AND (%(state)s::text IS NULL OR state = %(state)s)
      AND (%(channel)s::text IS NULL OR channel = %(channel)s)
      AND (%(incident_id)s::text IS NULL OR incident_id = %(incident_id)s)
      AND (%(before_at)s::timestamptz IS NULL OR (created_at, id) < (%(before_at)s, %(before_id)s::text))
    ORDER BY created_at DESC, id DESC LIMIT %(limit)s
""".encode()  # noqa: S608 - likewise
# All of the incident are locked, so that none of them is taken by a dispatcher while this one comes back.
_LOCKED = b"""
    SELECT other.id = this.id, other.state, other.position > this.position AND other.attempts > 0
    FROM notifications AS this
    JOIN notifications AS other USING (tenant_id, channel, incident_id)
    WHERE this.id = %s AND this.tenant_id = %s FOR UPDATE OF other
"""
_REVIVE = f"""
    UPDATE notifications
    SET state = 'waiting', due_at = %(now)s, queued_at = %(now)s, attempts_before = attempts, ended_at = NULL
    WHERE id = %(id)s RETURNING {_COLUMNS}
""".encode()  # noqa: S608 - likewise


async def insert_notifications(connection: Connection, notifications: Sequence[Notification]) -> None:
    """Write notifications in the transaction of whoever decided on them, in their order; those that are there stay.

    Args:
        connection: in a transaction, so that the notifications are there exactly when what they tell of is.
        notifications: to be delivered from their `created_at` on.

    Raises:
        psycopg.Error: nothing was written; the transaction is to be rolled back.
    """
    if notifications:
        rows = [{"number": number, **_row(one)} for number, one in enumerate(notifications)]
        await connection.execute(_INSERT, (orjson.dumps(rows).decode(),))


class PostgresDeliveries:
    """`DeliveryStore` on ``notifications``.

    Args:
        pool: where the table is.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def insert(self, notifications: Sequence[Notification]) -> None:
        """Write notifications; those that are there stay.

        Raises:
            DependencyUnavailable: nothing was written, as far as can be known; writing again is safe.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            await insert_notifications(connection, notifications)

    async def due_channels(self, now: datetime) -> Sequence[tuple[str, str]]:
        """Tenant and channel of everything that is due.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [(tenant, channel) for tenant, channel in await self._rows(_CHANNELS, (now,))]

    async def claim(
        self, tenant_id: str, channel: str, now: datetime, *, lease_s: float, limit: int
    ) -> Sequence[Delivery]:
        """Begin an attempt for what is due of a channel, the longest waiting first.

        Raises:
            DependencyUnavailable: no answer in time. What was taken nevertheless is due again after its lease.
        """
        values = {
            "tenant_id": tenant_id,
            "channel": channel,
            "now": now,
            "lease_until": now + timedelta(seconds=lease_s),
            "limit": limit,
        }
        found = [_delivery(row) for row in await self._rows(_CLAIM, values)]
        return sorted(found, key=lambda one: (one.queued_at, one.notification.id))

    async def sent(self, delivery: Delivery, now: datetime) -> bool:
        """Its receiver took it. Returns whether this was still the newest attempt.

        Raises:
            DependencyUnavailable: not kept, as far as can be known; it may be sent once more.
        """
        return await self._report(delivery, DeliveryState.SENT, ended_at=now)

    async def failed(self, delivery: Delivery, error: str, *, due_at: datetime) -> bool:
        """The attempt failed; the next may begin at `due_at`. Returns whether this was still the newest attempt.

        Raises:
            DependencyUnavailable: not kept, as far as can be known; it is due again after its lease.
        """
        return await self._report(delivery, DeliveryState.WAITING, error=error, due_at=due_at)

    async def died(self, delivery: Delivery, error: str, now: datetime) -> bool:
        """The last attempt failed. Returns whether this was still the newest attempt.

        Raises:
            DependencyUnavailable: not kept, as far as can be known; it is due again after its lease.
        """
        return await self._report(delivery, DeliveryState.DEAD, error=error, ended_at=now)

    async def page(self, query: DeliveryQuery) -> Sequence[Delivery]:
        """The newest deliveries that a query takes.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        at, key = query.before or (None, None)
        values = {
            "tenant_id": query.tenant_id,
            "since": query.since,
            "until": query.until,
            "state": None if query.state is None else query.state.value,
            "channel": query.channel,
            "incident_id": query.incident_id,
            "before_at": at,
            "before_id": key,
            "limit": query.limit,
        }
        return [_delivery(row) for row in await self._rows(_PAGE, values)]

    async def revive(self, notification_id: str, now: datetime, *, tenant_id: str) -> Delivery | None:
        """Have a dead one tried again from `now`; None: the tenant has no such notification.

        Raises:
            Conflict: it is not dead, or a later one of its incident and channel was tried meanwhile.
            DependencyUnavailable: not done, as far as can be known; again is safe.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            around = await (await connection.execute(_LOCKED, (notification_id, tenant_id))).fetchall()
            if not around:
                return None
            if not any(is_this and state == DeliveryState.DEAD for is_this, state, _ in around):
                raise Conflict("only a dead delivery can be retried")
            if any(is_later for _, _, is_later in around):
                raise Conflict("a later notification of this incident was tried: this one would contradict it")
            row = await (await connection.execute(_REVIVE, {"id": notification_id, "now": now})).fetchone()
        return None if row is None else _delivery(row)

    async def _report(
        self,
        delivery: Delivery,
        state: DeliveryState,
        *,
        error: str | None = None,
        due_at: datetime | None = None,
        ended_at: datetime | None = None,
    ) -> bool:
        values = {
            "id": delivery.notification.id,
            "attempts": delivery.attempts,
            "state": state.value,
            "error": error,
            "due_at": due_at,
            "ended_at": ended_at,
        }
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return (await connection.execute(_REPORT, values)).rowcount == 1

    async def _rows(self, statement: bytes, values: Any) -> list[TupleRow]:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return await (await connection.execute(statement, values)).fetchall()


def _row(notification: Notification) -> dict[str, Any]:
    return {name: _clean(value) for name, value in asdict(notification).items()}


def _clean(value: Any) -> Any:
    # PostgreSQL holds no NUL, and no half of a surrogate pair: a hostile name must not hold up an evaluation.
    if isinstance(value, dict):
        return {_clean(name): _clean(one) for name, one in value.items()}
    if not isinstance(value, str):
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")


def _delivery(row: TupleRow) -> Delivery:
    values = {name: _utc(value) for name, value in zip(_NAMES, row[: len(_NAMES)], strict=True)}
    values |= {"occasion": Occasion(values["occasion"]), "severity": Severity(values["severity"])}
    state, attempts, attempts_before, queued_at, due_at, ended_at, last_error = row[len(_NAMES) :]
    return Delivery(
        Notification(**values),
        DeliveryState(state),
        attempts,
        attempts_before,
        _utc(queued_at),
        _utc(due_at),
        _utc(ended_at),
        last_error,
    )


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
