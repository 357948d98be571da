"""Feedback in PostgreSQL, and what it holds of persons."""

from typing import Any
from uuid import UUID

from shared.domain.errors import NotFound
from shared.domain.feedback import Feedback, FeedbackState
from shared.domain.privacy import DataSubject, ErasedStep, ErasureOrder, SubjectKind
from shared.ports import ExportPage
from shared.stores.postgres.offsets import following, offset_of
from shared.stores.postgres.pool import PostgresPool

# The record is found by its key. With a record of another service nothing is written.
_PUT = b"""
    WITH record AS MATERIALIZED (
        SELECT start_time, service_name FROM requests
        WHERE id = %(request_id)s AND tenant_id = %(tenant_id)s LIMIT 1
    )
    INSERT INTO feedback AS known (tenant_id, request_id, principal_id, service_name, score, form, tags, comment,
                                   redacted, given_at, request_start_time)
    SELECT %(tenant_id)s, %(request_id)s, %(principal_id)s, %(service)s, %(score)s, %(form)s, %(tags)s,
           %(comment)s, %(redacted)s, %(given_at)s, (SELECT start_time FROM record)
    WHERE NOT EXISTS (SELECT FROM record WHERE service_name <> %(service)s)
    ON CONFLICT (request_id, tenant_id, principal_id) DO UPDATE
    SET service_name = excluded.service_name, score = excluded.score, form = excluded.form, tags = excluded.tags,
        comment = excluded.comment, redacted = excluded.redacted, given_at = excluded.given_at,
        request_start_time = excluded.request_start_time
    RETURNING request_start_time
"""
_TAGGED = """EXISTS (
    SELECT FROM requests WHERE requests.id = request_id AND requests.start_time = request_start_time
                           AND requests.tags ->> %(tag)s = %({value})s)"""
_OF = {
    SubjectKind.PRINCIPAL: "principal_id = %({value})s",
    SubjectKind.SERVICE: "service_name = %({value})s",
    SubjectKind.TAG: _TAGGED,
}
_RENAMED = {
    SubjectKind.PRINCIPAL: "principal_id = %(name)s, ",
    SubjectKind.SERVICE: "service_name = %(name)s, ",
    SubjectKind.TAG: "",
}
# The ledger is erased first: by now the requests with the tag bear the pseudonym.
_FOUND_BY = {SubjectKind.PRINCIPAL: "value", SubjectKind.SERVICE: "value", SubjectKind.TAG: "name"}
_EXPORT = {
    kind: f"""
        SELECT to_jsonb(feedback) FROM feedback WHERE tenant_id = %(tenant_id)s AND {theirs.format(value="value")}
        ORDER BY request_id, principal_id LIMIT %(limit)s OFFSET %(offset)s
    """.encode()  # noqa: S608 - constants above
    for kind, theirs in _OF.items()
}
_ERASE = {
    kind: f"""
        UPDATE feedback SET {_RENAMED[kind]} comment = '', tags = '{{}}', redacted = '{{}}'
        WHERE tenant_id = %(tenant_id)s AND {theirs.format(value=_FOUND_BY[kind])} AND given_at <= %(until)s
    """.encode()  # noqa: S608 - constants above
    for kind, theirs in _OF.items()
}
_ERASED = {
    kind: f"SELECT count(*) FROM feedback WHERE tenant_id = %(tenant_id)s AND {theirs.format(value='name')}".encode()  # noqa: S608 - constants above
    for kind, theirs in _OF.items()
}


class PostgresFeedback:
    """`FeedbackStore`.

    Args:
        pool: where the table is.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def put(self, feedback: Feedback) -> FeedbackState:
        """Keep feedback in place of what the same principal said of the same request.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; putting again is safe.
            NotFound: the request is another service's.
        """
        values: dict[str, Any] = {
            "tenant_id": feedback.tenant_id,
            "request_id": UUID(feedback.request_id),
            "principal_id": feedback.principal_id,
            "service": feedback.service,
            "score": feedback.score,
            "form": feedback.form.value,
            "tags": list(feedback.tags),
            "comment": feedback.comment,
            "redacted": list(feedback.redacted),
            "given_at": feedback.given_at,
        }
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            row = await (await connection.execute(_PUT, values)).fetchone()
        if row is None:
            raise NotFound("request_id: no request of this service", param="request_id")
        return FeedbackState.WAITING if row[0] is None else FeedbackState.COUNTED


class PostgresFeedbackOfPersons:
    """`PersonalStore`: feedback. To be erased after the ledger, whose pseudonyms it looks for.

    Args:
        pool: where the table is.
        deadline_s: seconds within which a call is done or fails.
    """

    name = "feedback"
    kept = "ratings under the pseudonym, without comment and tags, for the quality of models"

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """Feedback that they gave, or that was given on requests with their tag; the cursor counts rows.

        Raises:
            DependencyUnavailable: no answer in time.
            InvalidRequest: the cursor is none of this store's.
        """
        offset = offset_of(cursor)
        values = {
            "tenant_id": subject.tenant_id,
            "value": subject.value,
            "tag": subject.tag,
            "limit": limit,
            "offset": offset,
        }
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            rows = await (await connection.execute(_EXPORT[subject.kind], values)).fetchall()
        return ExportPage([{"feedback": row[0]} for row in rows], following(rows, offset=offset, limit=limit))

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """Take the subject and all words out of feedback; the rating stays.

        Raises:
            DependencyUnavailable: no answer in time; the step is to be taken again.
        """
        del cursor
        values = {
            "tenant_id": subject.tenant_id,
            "value": subject.value,
            "tag": subject.tag,
            "name": order.pseudonym,
            "until": order.requested_at,
        }
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.execute(_ERASE[subject.kind], values)
            row = await (await connection.execute(_ERASED[subject.kind], values)).fetchone()
        erased = 0 if row is None else int(row[0])
        return ErasedStep({"feedback": erased} if erased else {})
