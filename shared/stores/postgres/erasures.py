"""Erasures in PostgreSQL: who asked, how far each is, what its steps found, and its certificate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from shared.domain.privacy import DataSubject, ErasedStep, ErasureOrder, ErasureState, SubjectKind
from shared.stores.postgres.pool import PostgresPool

_COLUMNS = (
    b"id, tenant_id, kind, tag, subject, digest, requested_by, requested_at, state, store, cursor, certificate, "
    b"completed_at"
)
_ORDER = (
    b"INSERT INTO erasures (id, tenant_id, kind, tag, subject, digest, requested_by, requested_at) "
    b"VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, digest) WHERE state <> 'completed' DO NOTHING"
)
_UNDER_WAY = b"SELECT " + _COLUMNS + b" FROM erasures WHERE tenant_id = %s AND digest = %s AND state <> 'completed'"
_ONE = b"SELECT " + _COLUMNS + b" FROM erasures WHERE id = %s AND tenant_id = %s"
_LATEST = b"SELECT " + _COLUMNS + b" FROM erasures WHERE tenant_id = %s ORDER BY requested_at DESC, id LIMIT %s"
_STANDING = (
    b"SELECT "
    + _COLUMNS
    + b" FROM erasures WHERE digest IS NOT NULL AND (standing_until IS NULL OR standing_until > %s)"
)
_CLAIM = (
    b"""
    UPDATE erasures SET lease_until = %(lease_until)s,
           state = CASE state WHEN 'requested' THEN 'running' ELSE state END
    WHERE id = (
        SELECT id FROM erasures
        WHERE state <> 'completed' AND requested_at <= %(asked_before)s
          AND (lease_until IS NULL OR lease_until <= %(now)s)
        ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING """
    + _COLUMNS
)
_STEP = (
    b"INSERT INTO erasure_steps (erasure_id, store, cursor, counts, digest) VALUES (%s, %s, %s, %s, %s) "
    b"ON CONFLICT (erasure_id, store, cursor) DO UPDATE SET counts = excluded.counts, digest = excluded.digest"
)
_PLACE = b"UPDATE erasures SET store = %s, cursor = %s, lease_until = %s WHERE id = %s"
_STEPS = b'SELECT store, counts, digest FROM erasure_steps WHERE erasure_id = %s ORDER BY store, cursor COLLATE "C"'
_CERTIFY = (
    b"UPDATE erasures SET state = 'certified', certificate = coalesce(certificate, %s) WHERE id = %s RETURNING "
    + _COLUMNS
)
_COMPLETE = (
    b"UPDATE erasures SET state = 'completed', subject = NULL, completed_at = %s, standing_until = %s, "
    b"lease_until = NULL WHERE id = %s AND state = 'certified'"
)
_FORGET = b"UPDATE erasures SET digest = NULL WHERE digest IS NOT NULL AND standing_until <= %s"


class PostgresErasures:
    """`ErasureStore` on ``erasures`` and ``erasure_steps``.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def order(self, order: ErasureOrder) -> ErasureOrder:
        """Keep an order with its subject; the one under way for the same subject, where there is one.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; ordering again is safe.
        """
        subject = None if order.subject is None else order.subject.value
        values = (order.tenant_id, order.kind.value, order.tag, subject, order.digest)
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.execute(_ORDER, (UUID(order.id), *values, order.requested_by, order.requested_at))
            row = await (await connection.execute(_UNDER_WAY, (order.tenant_id, order.digest))).fetchone()
        return order if row is None else _order(row)

    async def get(self, erasure_id: str, *, tenant_id: str) -> ErasureOrder | None:
        """An erasure of a tenant, or None.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        try:
            key = UUID(erasure_id)
        except ValueError:
            return None
        rows = await self._rows(_ONE, (key, tenant_id))
        return _order(rows[0]) if rows else None

    async def latest(self, tenant_id: str, *, limit: int) -> Sequence[ErasureOrder]:
        """The latest erasures of a tenant.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [_order(row) for row in await self._rows(_LATEST, (tenant_id, limit))]

    async def standing(self, now: datetime) -> Sequence[ErasureOrder]:
        """Erasures of all tenants whose late records are to be erased on arrival.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [_order(row) for row in await self._rows(_STANDING, (now,))]

    async def claim(self, now: datetime, *, asked_before: datetime, lease_s: float) -> ErasureOrder | None:
        """The oldest erasure that is not completed and that nobody works on.

        Raises:
            DependencyUnavailable: no answer in time; it may be claimed, until the lease ends.
        """
        values = {"now": now, "asked_before": asked_before, "lease_until": now + timedelta(seconds=lease_s)}
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            row = await (await connection.execute(_CLAIM, values)).fetchone()
            await connection.execute(_FORGET, (now,))
        return None if row is None else _order(row)

    async def save(self, order: ErasureOrder, step: ErasedStep, *, lease_until: datetime) -> ErasureOrder:
        """Keep what the step at the order's place found, and the place of the next one.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known.
        """
        following = (order.store + 1, "") if step.cursor is None else (order.store, step.cursor)
        found = (UUID(order.id), order.store, order.cursor, Jsonb(dict(step.counts)), step.digest)
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.execute(_STEP, found)
            await connection.execute(_PLACE, (*following, lease_until, UUID(order.id)))
        return replace(order, store=following[0], cursor=following[1])

    async def steps(self, erasure_id: str) -> Sequence[tuple[int, Mapping[str, int], str]]:
        """Store, counts and digest of all steps, in their order.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [(store, counts, digest) for store, counts, digest in await self._rows(_STEPS, (UUID(erasure_id),))]

    async def certify(self, order: ErasureOrder, certificate: str) -> ErasureOrder:
        """Keep the certificate; the one that is there stays.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known.
        """
        return _order((await self._rows(_CERTIFY, (certificate, UUID(order.id))))[0])

    async def complete(self, order: ErasureOrder, now: datetime, *, standing_until: datetime) -> None:
        """Forget whom it was about, but for the digest, which late records are recognised by until then.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            await connection.execute(_COMPLETE, (now, standing_until, UUID(order.id)))

    async def _rows(self, statement: bytes, values: Sequence[object]) -> list[TupleRow]:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return await (await connection.execute(statement, values)).fetchall()


def _order(row: TupleRow) -> ErasureOrder:
    key, tenant, kind, tag, subject, digest, by, at, state, store, cursor, certificate, completed_at = row
    return ErasureOrder(
        id=str(key),
        tenant_id=tenant,
        kind=SubjectKind(kind),
        tag=tag,
        digest=digest,
        requested_by=by,
        requested_at=at.astimezone(UTC),
        state=ErasureState(state),
        subject=None if subject is None else DataSubject(tenant, SubjectKind(kind), subject, tag),
        store=store,
        cursor=cursor,
        certificate=certificate,
        completed_at=None if completed_at is None else completed_at.astimezone(UTC),
    )
