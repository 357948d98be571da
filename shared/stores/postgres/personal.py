"""What PostgreSQL holds of a person: request records with their attempts and receipts, and security events.

Both stores go through time a day a step, so that no statement reads more of the ledger than a day of one tenant.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import TupleRow, dict_row

from shared.domain.errors import InvalidRequest
from shared.domain.privacy import DataSubject, ErasedStep, ErasureOrder, SubjectKind
from shared.domain.receipts import ReceiptRow, erased_row
from shared.domain.scopes import key_part
from shared.domain.tombstones import Tombstone, tombstone_of
from shared.ports import Clock, ExportPage
from shared.stores.postgres.offsets import following, offset_of
from shared.stores.postgres.pool import Connection, PostgresPool

_DAY = timedelta(days=1)
_EXPORT_DAYS = 400
"""Days that one page of an export looks through at most, when there is little to find."""

_REQUESTS_OF = {
    SubjectKind.PRINCIPAL: "principal_id = %(value)s",
    SubjectKind.SERVICE: "service_name = %(value)s",
    SubjectKind.TAG: "tags ->> %(tag)s = %(value)s",
}
_EVENTS_OF = {
    SubjectKind.PRINCIPAL: "actor = %(value)s",
    SubjectKind.SERVICE: "service = %(value)s",
    SubjectKind.TAG: "false",
}
_SEEN_OF = {
    SubjectKind.PRINCIPAL: "principal_id = %(value)s",
    SubjectKind.SERVICE: "service = %(value)s",
    SubjectKind.TAG: "false",
}
_ONLY_PRINCIPALS = {
    SubjectKind.PRINCIPAL: "%(value)s",
    SubjectKind.SERVICE: "NULL",
    SubjectKind.TAG: "NULL",
}
_DAY_OF = "tenant_id = %(tenant_id)s AND start_time >= %(since)s AND start_time < %(until)s"
_SET = {
    SubjectKind.PRINCIPAL: "principal_id = %(name)s",
    SubjectKind.SERVICE: "service_name = %(name)s",
    SubjectKind.TAG: "tags = jsonb_set(tags, ARRAY[%(tag)s], to_jsonb(%(name)s::text))",
}


def _ledger(kind: SubjectKind) -> dict[str, bytes]:
    """The statements for one kind of subject; all that is put together here are constants."""
    theirs, renamed = _REQUESTS_OF[kind], _REQUESTS_OF[kind].replace("%(value)s", "%(name)s")
    return {
        "export": f"""
            SELECT to_jsonb(requests) AS request, (
                SELECT coalesce(jsonb_agg(to_jsonb(attempts) ORDER BY number), '[]') FROM attempts
                WHERE request_id = requests.id AND request_start_time = requests.start_time) AS attempts, (
                SELECT body FROM receipts
                WHERE request_id = requests.id AND receipts.start_time = requests.start_time) AS receipt,
                start_time, id
            FROM requests
            WHERE {_DAY_OF} AND {theirs} AND (start_time, id) > (%(after)s, %(after_id)s)
            ORDER BY start_time, id LIMIT %(limit)s
        """.encode(),  # noqa: S608 - constants above
        "rename": f"""
            UPDATE requests SET {_SET[kind]}, error_message = NULL, trace_id = NULL,
                budget_accounts = (
                    SELECT coalesce(jsonb_agg(CASE WHEN split_part(account, '/', 3) = %(part)s
                        THEN split_part(account, '/', 1) || '/' || split_part(account, '/', 2) || '/' || %(name)s
                        ELSE account END ORDER BY place), '[]')
                    FROM jsonb_array_elements_text(budget_accounts) WITH ORDINALITY AS charged(account, place))
            WHERE {_DAY_OF} AND {theirs}
        """.encode(),  # noqa: S608 - constants above
        # Whatever bears the pseudonym was erased, in this try or in one that was killed.
        "erased": f"SELECT id, start_time FROM requests WHERE {_DAY_OF} AND {renamed}".encode(),  # noqa: S608 - likewise
    }


_LEDGER = {kind: _ledger(kind) for kind in SubjectKind}
_RECEIPTS = b"""
    SELECT chain, sequence, request_id::text, tenant_id, start_time, previous_hash, hash, body FROM receipts
    WHERE request_id = ANY(%(ids)s) AND start_time >= %(since)s AND start_time < %(until)s FOR UPDATE
"""
_BURY = b"""
    UPDATE receipts SET body = buried.body
    FROM unnest(%(ids)s::uuid[], %(bodies)s::text[]) AS buried(id, body)
    WHERE request_id = buried.id AND start_time >= %(since)s AND start_time < %(until)s
"""
_FIRST = b"SELECT min(start_time) FROM requests WHERE tenant_id = %(tenant_id)s AND start_time >= %(since)s"


class PostgresLedgerOfPersons:
    """`PersonalStore`: request records, attempts and receipts.

    Args:
        pool: where the tables are.
        clock: where exports end.
        deadline_s: seconds within which a step is done or fails.
    """

    name = "ledger"
    kept = (
        "request records without the subject (money, tokens, models, times), for accounting; attempts, which hold "
        "nothing of persons; sums of budgets (budget_spend), and accounts of running periods in Redis, under the tag's "
        "or service's name until the period is over and the retention of records has passed; receipts' hashes"
    )

    def __init__(self, pool: PostgresPool, clock: Clock, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._clock = clock
        self._deadline_s = deadline_s

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """Request records with their attempts and receipts, the oldest first.

        Raises:
            DependencyUnavailable: no answer in time.
            InvalidRequest: the cursor is none of this store's.
        """
        after, after_id = _position(cursor)
        end, rows = self._clock.now(), list[dict[str, object]]()
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            for _ in range(_EXPORT_DAYS):
                first = await _first_day(connection, subject.tenant_id, after, end)
                if first is None:
                    return ExportPage(rows)
                after = max(after, first)
                values = _values(subject, after, first + _DAY) | {
                    "after": after,
                    "after_id": after_id,
                    "limit": limit - len(rows),
                }
                found = await (await connection.execute(_LEDGER[subject.kind]["export"], values)).fetchall()
                rows += [{"request": r, "attempts": a, "receipt": body} for r, a, body, _, _ in found]
                if len(rows) >= limit:
                    return ExportPage(rows, f"{found[-1][3].astimezone(UTC).isoformat()} {found[-1][4]}")
                after, after_id = first + _DAY, UUID(int=0)
        return ExportPage(rows, f"{after.isoformat()} {after_id}")

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """Take the subject out of one day's records and bury their receipts, in one transaction.

        Raises:
            DependencyUnavailable: no answer in time; the step is to be taken again.
        """
        since, _ = _position(cursor)
        end = order.requested_at + timedelta(microseconds=1)
        statements = _LEDGER[subject.kind]
        async with self._transaction() as connection:
            first = await _first_day(connection, subject.tenant_id, since, end)
            if first is None:
                return ErasedStep({})
            values = _values(subject, first, min(first + _DAY, end)) | {"name": order.pseudonym}
            await connection.execute(statements["rename"], values | {"part": key_part(subject.value)})
            erased = await (await connection.execute(statements["erased"], values)).fetchall()
            places = await _bury(connection, order, [key for key, _ in erased], values)
        counts = {"requests": len(erased), "receipts": len(places)} if erased else {}
        return ErasedStep(counts, places, f"{(first + _DAY).isoformat()} {UUID(int=0)}")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            yield connection


class PostgresEventsOfPersons:
    """`PersonalStore`: security events, sightings, hours of usage and findings.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails.
    """

    name = "security_events"
    kept = "security events and findings under the pseudonym, without network and user agent, for the tenant's security"

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """Events, sightings and findings; the cursor counts rows.

        Raises:
            DependencyUnavailable: no answer in time.
            InvalidRequest: the cursor is none of this store's.
        """
        offset = offset_of(cursor)
        of_principal = _ONLY_PRINCIPALS[subject.kind]
        statement = f"""
            SELECT row FROM (
                SELECT 1 AS part, at AS at, to_jsonb(e) AS row FROM security_events AS e
                WHERE tenant_id = %(tenant_id)s AND {_EVENTS_OF[subject.kind]}
                UNION ALL
                SELECT 2, first_at, to_jsonb(s) FROM principal_sightings AS s
                WHERE tenant_id = %(tenant_id)s AND {_SEEN_OF[subject.kind]}
                UNION ALL
                SELECT 3, first_at, to_jsonb(f) FROM threat_findings AS f
                WHERE tenant_id = %(tenant_id)s AND subject = {of_principal}
            ) AS known ORDER BY part, at, row LIMIT %(limit)s OFFSET %(offset)s
        """.encode()  # noqa: S608 - constants only
        values = {"tenant_id": subject.tenant_id, "value": subject.value, "limit": limit, "offset": offset}
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            cursor_ = connection.cursor(row_factory=dict_row)
            rows = await (await cursor_.execute(statement, values)).fetchall()
        return ExportPage([{"event": row["row"]} for row in rows], following(rows, offset=offset, limit=limit))

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """Events and findings get the pseudonym, sightings and usage go; all in one transaction.

        Raises:
            DependencyUnavailable: no answer in time; the step is to be taken again.
        """
        del cursor
        if subject.kind is SubjectKind.TAG:
            return ErasedStep({})
        column = "actor" if subject.kind is SubjectKind.PRINCIPAL else "service"
        values = {
            "tenant_id": subject.tenant_id,
            "value": subject.value,
            "name": order.pseudonym,
            "end": order.requested_at,
        }
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.execute(
                f"""UPDATE security_events SET {column} = %(name)s, network = 'unknown', user_agent = '', target = ''
                    WHERE tenant_id = %(tenant_id)s AND {column} = %(value)s AND at <= %(end)s""".encode(),  # noqa: S608 - constants above
                values,
            )
            await connection.execute(
                f"""DELETE FROM principal_sightings
                    WHERE tenant_id = %(tenant_id)s AND {_SEEN_OF[subject.kind]} AND first_at <= %(end)s""".encode(),  # noqa: S608 - constants above
                values,
            )
            if subject.kind is SubjectKind.PRINCIPAL:
                await connection.execute(
                    b"DELETE FROM usage_hours WHERE tenant_id = %(tenant_id)s AND principal_id = %(value)s "
                    b"AND hour <= %(end)s",
                    values,
                )
                await connection.execute(
                    b"UPDATE threat_findings SET subject = %(name)s, state = 'resolved', note = '' "
                    b"WHERE tenant_id = %(tenant_id)s AND subject = %(value)s",
                    values,
                )
                for table, who in (("threat_findings", "changed_by"), ("erasures", "requested_by")):
                    await connection.execute(
                        f"UPDATE {table} SET {who} = %(name)s "  # noqa: S608 - constants above
                        f"WHERE tenant_id = %(tenant_id)s AND {who} = %(value)s".encode(),
                        values,
                    )
            counted = await (
                await connection.execute(
                    f"""SELECT (SELECT count(*) FROM security_events
                                WHERE tenant_id = %(tenant_id)s AND {column} = %(name)s),
                               (SELECT count(*) FROM threat_findings
                                WHERE tenant_id = %(tenant_id)s AND subject = %(name)s)""".encode(),  # noqa: S608 - constants above
                    values,
                )
            ).fetchone()
        events, findings = counted or (0, 0)
        return ErasedStep({"events": events, "findings": findings})


async def _bury(
    connection: Connection, order: ErasureOrder, ids: Sequence[UUID], values: dict[str, Any]
) -> tuple[str, ...]:
    """Tombstones for the receipts of requests; returns where they stand, with the hash of what was there."""
    rows = await (await connection.execute(_RECEIPTS, values | {"ids": list(ids)})).fetchall() if ids else []
    buried = [erased_row(_receipt(row), order.id) for row in rows]
    if buried:
        bodies = {"ids": [UUID(row.request_id) for row in buried], "bodies": [row.body for row in buried]}
        await connection.execute(_BURY, values | bodies)
    stones = [(row, tombstone_of(row.body)) for row in buried]
    return tuple(_place(row, stone) for row, stone in stones if stone is not None and stone.erasure_id == order.id)


def _place(row: ReceiptRow, stone: Tombstone) -> str:
    return f"{row.chain}/{row.sequence} {stone.body_sha256.hex()}"


def _receipt(row: TupleRow) -> ReceiptRow:
    chain, sequence, request_id, tenant_id, start, previous_hash, own_hash, body = row
    return ReceiptRow(chain, sequence, request_id, tenant_id, start.astimezone(UTC), previous_hash, own_hash, body)


async def _first_day(connection: Connection, tenant_id: str, since: datetime, end: datetime) -> datetime | None:
    """The start of the first day from `since` on that has records of a tenant, or None before `end`."""
    row = await (await connection.execute(_FIRST, {"tenant_id": tenant_id, "since": since})).fetchone()
    first: datetime | None = None if row is None else row[0]
    if first is None or first >= end:
        return None
    return first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _values(subject: DataSubject, since: datetime, until: datetime) -> dict[str, Any]:
    return {
        "tenant_id": subject.tenant_id,
        "value": subject.value,
        "tag": subject.tag,
        "since": since,
        "until": until,
    }


def _position(cursor: str) -> tuple[datetime, UUID]:
    if not cursor:
        return datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)
    try:
        instant, _, key = cursor.partition(" ")
        position = datetime.fromisoformat(instant), UUID(key)
    except ValueError:
        raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor") from None
    if position[0].tzinfo is None:
        raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor")
    return position
