"""Evidence on answers in PostgreSQL, and the scores that come of it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import orjson
from psycopg.rows import TupleRow

from shared.analytics.quality import combined
from shared.domain.quality_signals import WAITING, Evidence, QualityScore, Sign, read, written
from shared.stores.postgres.pool import PostgresPool

_LOCK = 7_003_715_215_926_321_011
"""Any number that nothing else locks."""
_A_STEP = 500
_NOTE = b"""
    INSERT INTO quality_evidence (tenant_id, request_id, request_start_time, kind, score, judge_model,
                                  judge_request_id, rubric, noted_at)
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS found(
        tenant_id text, request_id uuid, request_start_time timestamptz, kind text, score double precision,
        judge_model text, judge_request_id uuid, rubric text, noted_at timestamptz)
    ORDER BY request_id, tenant_id, kind
    ON CONFLICT (request_id, tenant_id, kind) DO NOTHING
"""
_FORGET = b"DELETE FROM quality_pending WHERE noted_at < %s"
# Those whose record has arrived, the oldest first; the others wait, each for the price of one look at an index. A
# lateral query with a limit is never a join over the whole ledger.
_CLAIM = b"""
    WITH due AS (
        SELECT noted.tenant_id, request_id, request_start_time FROM quality_pending AS noted
        CROSS JOIN LATERAL (
            SELECT id FROM requests WHERE id = noted.request_id AND start_time = noted.request_start_time
                                      AND requests.tenant_id = noted.tenant_id LIMIT 1) AS record
        ORDER BY noted_at LIMIT %s
    )
    DELETE FROM quality_pending AS pending USING (SELECT DISTINCT * FROM due) AS due
    WHERE pending.request_id = due.request_id AND pending.tenant_id = due.tenant_id
      AND pending.request_start_time = due.request_start_time
    RETURNING pending.request_id, pending.request_start_time, pending.tenant_id
"""
# A statement of its own after the claim, so that it sees all that the claimed notes were written with.
_KNOWN = b"""
    SELECT id, start_time, quality_signs, quality_score, quality_source,
           (SELECT avg(feedback.score) FROM feedback
            WHERE feedback.request_id = id AND feedback.tenant_id = of_tenant
              AND feedback.request_start_time = start_time),
           (SELECT max(evidence.score) FROM quality_evidence AS evidence
            WHERE evidence.request_id = id AND evidence.tenant_id = of_tenant AND evidence.kind = 'judge'),
           (SELECT string_agg(evidence.kind, ',') FROM quality_evidence AS evidence
            WHERE evidence.request_id = id AND evidence.tenant_id = of_tenant AND evidence.kind <> 'judge')
    FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[]) AS due(request_id, request_start_time, of_tenant)
    CROSS JOIN LATERAL (
        SELECT * FROM requests WHERE id = request_id AND start_time = request_start_time AND tenant_id = of_tenant
        LIMIT 1) AS record
"""
_UPDATE = b"""
    UPDATE requests SET quality_score = made.score, quality_source = made.source, quality_signs = made.signs
    FROM unnest(%s::uuid[], %s::timestamptz[], %s::double precision[], %s::text[], %s::text[])
        AS made(request_id, request_start_time, score, source, signs)
    WHERE id = request_id AND start_time = request_start_time
"""


class PostgresQuality:
    """`QualityStore`.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def note(self, found: Sequence[Evidence]) -> None:
        """Keep evidence; a request has each kind once, the first stays.

        Raises:
            DependencyUnavailable: nothing was kept, as far as can be known; noting again is safe.
        """
        if not found:
            return
        # Of two of a kind in one statement the first counts, too.
        unique = {(one.request_id, one.tenant_id, one.kind): one for one in reversed(found)}
        rows = [
            {
                "tenant_id": one.tenant_id,
                "request_id": one.request_id,
                "request_start_time": one.start_time,
                "kind": one.kind,
                "score": one.score,
                "judge_model": one.judge_model,
                "judge_request_id": one.judge_request_id,
                "rubric": one.rubric,
                "noted_at": one.noted_at,
            }
            for one in unique.values()
        ]
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            await connection.execute(_NOTE, (orjson.dumps(rows).decode(),))

    async def settle(self, now: datetime) -> int:
        """Combine what is new on up to 500 requests into their scores; returns how many were looked at.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            # Two at a time could each miss what the other has claimed, and the later write would be the older score.
            row = await (await connection.execute(b"SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))).fetchone()
            if row is None or not row[0]:
                return 0
            await connection.execute(_FORGET, (now - WAITING,))
            claimed = {tuple(key) for key in await (await connection.execute(_CLAIM, (_A_STEP,))).fetchall()}
            if not claimed:
                return 0
            # In one order for all that change requests, so that they do not lock each other out.
            ids, starts, tenants = (list(part) for part in zip(*sorted(claimed), strict=True))
            known = await (await connection.execute(_KNOWN, (ids, starts, tenants))).fetchall()
            changed = [made for made in map(_settled, known) if made is not None]
            if changed:
                parts = [list(part) for part in zip(*changed, strict=True)]
                await connection.execute(_UPDATE, parts)
            return len(claimed)


def _settled(row: TupleRow) -> tuple[UUID, datetime, float | None, str | None, str] | None:
    """What a request's row is to say; None: it says so already."""
    request_id, start, noted, score, source, feedback, verdict, late = row
    signs: frozenset[Sign] = read(noted) | read(late or "")
    made: QualityScore | None = combined(feedback, verdict, signs)
    said = (None, None) if made is None else (made.value, made.source.value)
    # A score that came from elsewhere stays where nothing better is known.
    if made is None and source is None:
        said = (score, None)
    text = written(signs)
    return None if (*said, text) == (score, source, noted) else (request_id, start, *said, text)
