"""What threat rules measure in PostgreSQL, and their findings."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import TupleRow

from shared.domain.security_events import (
    EVENT_KINDS,
    FindingQuery,
    FindingState,
    Measurement,
    Severity,
    ThreatFinding,
    ThreatRule,
    ThreatSignal,
)
from shared.stores.postgres.pool import PostgresPool

_MOST_A_RULE = 500
"""Findings of one rule and run: whoever attacks from a million addresses must not fill the table."""
_LOOK_BACK = timedelta(hours=48)
_BASELINE = timedelta(days=7)
_LEAST_ACTIVE_HOURS = 12

# From the hour before the newest one that is known, at most two days: a timer that was away catches up.
_ADD_UP = b"""
    INSERT INTO usage_hours AS known
        (tenant_id, principal_id, hour, requests, output_tokens, attachment_bytes, last_at)
    SELECT tenant_id, principal_id, date_trunc('hour', start_time, 'UTC'), count(*),
           sum(output_tokens + thinking_tokens), sum(attachment_size), max(start_time)
    FROM requests
    WHERE start_time < %(now)s AND start_time >= (
        SELECT greatest(%(oldest)s, least(coalesce(max(hour), %(oldest)s), %(recent)s) - interval '1 hour')
        FROM usage_hours)
    GROUP BY 1, 2, 3
    ORDER BY 1, 2, 3
    ON CONFLICT (tenant_id, principal_id, hour) DO UPDATE
    SET requests = excluded.requests, output_tokens = excluded.output_tokens,
        attachment_bytes = excluded.attachment_bytes, last_at = excluded.last_at
"""
_MEASURED: Mapping[ThreatSignal, tuple[str, str]] = {
    ThreatSignal.FAILED_LOGINS: ("network", "sum(count)"),
    ThreatSignal.GUESSED_ACCOUNTS: ("network", "count(DISTINCT nullif(target, ''))"),
    ThreatSignal.UNAUTHENTICATED: ("network", "sum(count)"),
    ThreatSignal.DENIED_RESOURCES: ("actor", "count(DISTINCT resource)"),
    ThreatSignal.CLEARANCE_BLOCKS: ("actor", "sum(count)"),
    ThreatSignal.INJECTIONS: ("actor", "sum(count)"),
    ThreatSignal.REUSED_TOKENS: ("actor", "sum(count)"),
}
_EVENTS: Mapping[ThreatSignal, bytes] = {
    signal: f"""
        SELECT tenant_id, {subject}, {value}, max(at), NULL FROM security_events
        WHERE kind = ANY(%(kinds)s) AND at >= %(since)s AND at < %(until)s
        GROUP BY 1, 2 HAVING {value} >= %(threshold)s
        ORDER BY 3 DESC, 2 LIMIT %(limit)s
    """.encode()  # noqa: S608 - both from the table above
    for signal, (subject, value) in _MEASURED.items()
}
_NETWORKS = b"""
    SELECT tenant_id, principal_id, count(DISTINCT network), max(last_at), NULL FROM principal_sightings
    WHERE last_at >= %(since)s AND last_at < %(until)s
    GROUP BY 1, 2 HAVING count(DISTINCT network) >= %(threshold)s
    ORDER BY 3 DESC, 2 LIMIT %(limit)s
"""
_USAGE: Mapping[ThreatSignal, bytes] = {
    signal: f"""
        SELECT used.tenant_id, used.principal_id, used.value, used.last_at, before.mean * %(hours)s
        FROM (
            SELECT tenant_id, principal_id, sum({column}) AS value, max(last_at) AS last_at FROM usage_hours
            WHERE hour >= %(since)s AND hour < %(until)s
            GROUP BY 1, 2 HAVING sum({column}) >= %(threshold)s
        ) AS used
        LEFT JOIN LATERAL (
            SELECT avg({column})::double precision AS mean FROM usage_hours AS past
            WHERE past.tenant_id = used.tenant_id AND past.principal_id = used.principal_id
              AND past.hour >= %(baseline)s AND past.hour < %(since)s
            HAVING count(*) >= %(active)s
        ) AS before ON true
        ORDER BY 3 DESC, 2 LIMIT %(limit)s
    """.encode()  # noqa: S608 - the column is one of three constants
    for signal, column in (
        (ThreatSignal.OUTPUT_TOKENS, "output_tokens"),
        (ThreatSignal.ATTACHMENT_BYTES, "attachment_bytes"),
        (ThreatSignal.REQUESTS, "requests"),
    )
}
_REPORT = b"""
    INSERT INTO threat_findings AS known
        (tenant_id, rule, signal, severity, subject, first_at, last_at, value, threshold, baseline)
    SELECT %(tenant_id)s, %(rule)s, %(signal)s, %(severity)s, %(subject)s, %(last_at)s, %(last_at)s, %(value)s,
           %(threshold)s, %(baseline)s
    WHERE NOT EXISTS (
        SELECT FROM threat_findings
        WHERE tenant_id = %(tenant_id)s AND rule = %(rule)s AND subject = %(subject)s AND state = 'resolved'
          AND changed_at >= %(last_at)s)
    ON CONFLICT (tenant_id, rule, subject) WHERE state <> 'resolved' DO UPDATE
    SET last_at = greatest(known.last_at, excluded.last_at), value = greatest(known.value, excluded.value),
        baseline = coalesce(excluded.baseline, known.baseline)
"""
_FINDING = (
    b"SELECT id, tenant_id, rule, signal, severity, subject, state, first_at, last_at, value, threshold, baseline, "
    b"changed_by, changed_at, note FROM threat_findings "
)
_UNTOLD = _FINDING + b"WHERE alerted_at IS NULL ORDER BY first_at LIMIT 100"
_ONE = _FINDING + b"WHERE id = %s AND tenant_id = %s"
_PAGE = (
    _FINDING
    + b"""
    WHERE tenant_id = %(tenant_id)s
      AND (cardinality(%(states)s::text[]) = 0 OR state = ANY(%(states)s))
      AND (%(severity)s::text IS NULL OR severity = %(severity)s)
      AND (%(before_at)s::timestamptz IS NULL OR (last_at, id) < (%(before_at)s, %(before_id)s::uuid))
    ORDER BY last_at DESC, id DESC LIMIT %(limit)s
"""
)


class PostgresThreats:
    """`ThreatStore`.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails; adding up the ledger's last hours takes longest.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 15.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def add_up(self, now: datetime) -> None:
        """Add up the usage of the last hours from the ledger.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        hour = now.replace(minute=0, second=0, microsecond=0)
        await self._run(_ADD_UP, {"now": now, "oldest": hour - _LOOK_BACK, "recent": hour})

    async def measure(self, rule: ThreatRule, *, since: datetime, until: datetime) -> Sequence[Measurement]:
        """Who reaches a rule's threshold in a window, the highest first, at most 500.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        signal = rule.signal
        statement = _USAGE.get(signal) or _EVENTS.get(signal) or _NETWORKS
        values = {
            "kinds": [kind.value for kind in EVENT_KINDS.get(signal, ())],
            "since": since,
            "until": until,
            "threshold": rule.threshold,
            "limit": _MOST_A_RULE,
            "baseline": since - _BASELINE,
            "hours": max(1.0, (until - since) / timedelta(hours=1)),
            "active": _LEAST_ACTIVE_HOURS,
        }
        rows = await self._rows(statement, values)
        return [
            Measurement(tenant, subject, int(value), last_at.astimezone(UTC), baseline)
            for tenant, subject, value, last_at, baseline in rows
        ]

    async def report(self, rule: ThreatRule, found: Sequence[Measurement]) -> None:
        """Open findings, or let those that last grow.

        Raises:
            DependencyUnavailable: no answer in time; reporting again is safe.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            # In one order for all reporters, so that they do not lock each other out.
            for seen in sorted(found, key=lambda one: (one.tenant_id, one.subject)):
                values = {
                    "tenant_id": seen.tenant_id,
                    "rule": rule.name,
                    "signal": rule.signal.value,
                    "severity": rule.severity.value,
                    "subject": seen.subject,
                    "last_at": seen.last_at,
                    "value": seen.value,
                    "threshold": rule.threshold,
                    "baseline": seen.baseline,
                }
                await connection.execute(_REPORT, values)

    async def untold(self) -> Sequence[ThreatFinding]:
        """Findings that nobody was told of yet.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return [_finding(row) for row in await self._rows(_UNTOLD, {})]

    async def told(self, finding_ids: Sequence[str], now: datetime) -> None:
        """Somebody was.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        values = {"ids": [UUID(finding_id) for finding_id in finding_ids], "now": now}
        await self._run(b"UPDATE threat_findings SET alerted_at = %(now)s WHERE id = ANY(%(ids)s)", values)

    async def findings(self, query: FindingQuery) -> Sequence[ThreatFinding]:
        """The findings that a query takes.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        at, finding_id = query.before or (None, None)
        values = {
            "tenant_id": query.tenant_id,
            "states": [state.value for state in query.states],
            "severity": None if query.severity is None else query.severity.value,
            "before_at": at,
            "before_id": None if finding_id is None else UUID(finding_id),
            "limit": query.limit,
        }
        return [_finding(row) for row in await self._rows(_PAGE, values)]

    async def finding_counts(self, tenant_id: str) -> Mapping[tuple[str, str], int]:
        """How many findings a tenant has, by state and severity.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        statement = b"SELECT state, severity, count(*) FROM threat_findings WHERE tenant_id = %(tenant)s GROUP BY 1, 2"
        return {
            (state, severity): count for state, severity, count in await self._rows(statement, {"tenant": tenant_id})
        }

    async def finding(self, finding_id: str, *, tenant_id: str) -> ThreatFinding | None:
        """One finding of a tenant, or None.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        try:
            key = UUID(finding_id)
        except ValueError:
            return None
        rows = await self._rows(_ONE, (key, tenant_id))
        return _finding(rows[0]) if rows else None

    async def move(self, before: ThreatFinding, state: FindingState, *, by: str, at: datetime, note: str) -> bool:
        """Give a finding another state, unless its state was changed meanwhile.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            cursor = await connection.execute(
                b"UPDATE threat_findings SET state = %s, changed_by = %s, changed_at = %s, note = %s "
                b"WHERE id = %s AND tenant_id = %s AND state = %s",
                (state.value, by, at, note, UUID(before.id), before.tenant_id, before.state.value),
            )
        return cursor.rowcount == 1

    async def _run(self, statement: bytes, values: Mapping[str, Any]) -> None:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            await connection.execute(statement, values)

    async def _rows(self, statement: bytes, values: Mapping[str, Any] | Sequence[Any]) -> list[TupleRow]:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return await (await connection.execute(statement, values)).fetchall()


def _finding(row: TupleRow) -> ThreatFinding:
    key, tenant, rule, signal, severity, subject, state, first, last, value, threshold, baseline, by, at, note = row
    return ThreatFinding(
        id=str(key),
        tenant_id=tenant,
        rule=rule,
        signal=ThreatSignal(signal),
        severity=Severity(severity),
        subject=subject,
        state=FindingState(state),
        first_at=first.astimezone(UTC),
        last_at=last.astimezone(UTC),
        value=int(value),
        threshold=int(threshold),
        baseline=baseline,
        changed_by=by,
        changed_at=None if at is None else at.astimezone(UTC),
        note=note,
    )
