"""What the documents hold of a person, as a `PersonalStore`: what they sent, and what metadata mark as theirs."""

import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from psycopg.rows import TupleRow

from shared.domain.errors import InvalidRequest
from shared.domain.privacy import DataSubject, ErasedStep, ErasureOrder, SubjectKind
from shared.ports import BlobStore, ExportPage
from shared.stores.postgres import document_rows as rows
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.tenancy import TenantConnection, TenantTransactions

_AT_ONCE: Final = 200
"""Documents that a step looks at, whoever's they are: so the same step again looks at the same."""
_CHUNKS_AT_ONCE: Final = 500
"""In one transaction: their words are counted out of the collection under its lock, which ingestion needs too."""
_UNTOLD: Final = -2
"""Place in an export: nothing of the document was given."""
_TOLD: Final = -1
"""The document, but none of its chunks."""

_NEWEST_OF: Final = {
    SubjectKind.PRINCIPAL: "documents.principal = %(value)s",
    SubjectKind.SERVICE: "documents.service = %(value)s",
    SubjectKind.TAG: "documents.metadata ->> %(tag)s = %(value)s",
}
_LIVE_OF: Final = {
    SubjectKind.PRINCIPAL: "live_version IS NOT NULL AND live_principal = %(value)s",
    SubjectKind.SERVICE: "live_version IS NOT NULL AND live_service = %(value)s",
    SubjectKind.TAG: "live_version IS NOT NULL AND live_metadata ->> %(tag)s = %(value)s",
}
_RENAMED: Final = {
    SubjectKind.PRINCIPAL: "principal = %(name)s",
    SubjectKind.SERVICE: "principal = %(name)s, service = %(name)s",
    SubjectKind.TAG: "principal = %(name)s",
}
_EXPORT: Final = {
    kind: f"""
        SELECT documents.number, coalesce({_LIVE_OF[kind]}, false), jsonb_build_object(
            'id', id, 'collection', collections.name, 'source', source, 'name', documents.name, 'title', title,
            'media_type', media_type, 'sha256', sha, 'size_bytes', size_bytes, 'status', status, 'version', version,
            'live_version', live_version, 'label', label, 'acl', to_jsonb(acl), 'metadata', metadata,
            'service', service, 'principal_id', principal, 'submitted_at', submitted_at, 'created_at', created_at,
            'bytes', CASE WHEN blob <> '' AND status NOT IN ('ready', 'deleted') THEN blob END)
        FROM documents JOIN collections ON collections.number = documents.collection
        WHERE documents.tenant = %(tenant)s AND documents.number >= %(number)s
            AND ({_NEWEST_OF[kind]} OR {_LIVE_OF[kind]})
        ORDER BY documents.number LIMIT %(limit)s""".encode()  # noqa: S608 - constants above
    for kind in SubjectKind
}
_CURSOR: Final = re.compile(r"[0-9]{1,18} (-[12]|[0-9]{1,9})")
_CHUNKS: Final = b"""
    SELECT ordinal, jsonb_build_object('prefix', prefix, 'text', text, 'page', page, 'start', start_offset,
        'end', end_offset, 'label', label)
    FROM chunks WHERE document = %(number)s AND ordinal > %(ordinal)s ORDER BY ordinal LIMIT %(limit)s"""
_STEP: Final = f"""
    SELECT count(*), max(number) FROM (
        SELECT number FROM documents WHERE tenant = %(tenant)s AND number > %(number)s
        ORDER BY number LIMIT {_AT_ONCE}) AS step""".encode()  # noqa: S608 - likewise
_THEIRS: Final = {
    kind: f"""
        SELECT number, blob, coalesce({_NEWEST_OF[kind]} AND submitted_at <= %(end)s, false)
        FROM documents
        WHERE tenant = %(tenant)s AND number > %(number)s AND number <= %(last)s
            AND (({_NEWEST_OF[kind]} AND submitted_at <= %(end)s)
                OR ({_LIVE_OF[kind]} AND live_submitted_at <= %(end)s))
        ORDER BY number""".encode()  # noqa: S608 - likewise
    for kind in SubjectKind
}
_LOCKED: Final = {
    kind: f"""
        SELECT coalesce({_NEWEST_OF[kind]} AND submitted_at <= %(end)s, false),
            coalesce({_LIVE_OF[kind]} AND live_submitted_at <= %(end)s, false)
        FROM documents WHERE number = %(document)s FOR UPDATE""".encode()  # noqa: S608 - likewise
    for kind in SubjectKind
}
_HIDE: Final = b"UPDATE documents SET live_acl = ARRAY[''] WHERE number = %(document)s"
"""Nobody is in the group without a name: it is found no more while its chunks go."""
_RESTRICT: Final = b"""
    UPDATE collections SET restricted = true
    WHERE NOT restricted AND number = (SELECT collection FROM documents WHERE number = %(document)s)"""
_SOME_CHUNKS: Final = f"""
    DELETE FROM chunks WHERE document = %(document)s AND (tenant, id) IN (
        SELECT tenant, id FROM chunks WHERE document = %(document)s LIMIT {_CHUNKS_AT_ONCE})""".encode()  # noqa: S608 - likewise
_BURY: Final = {
    kind: f"""
        UPDATE documents SET {renamed}, source = %(name)s || '/' || number,
            source_key = sha256(convert_to(%(name)s || '/' || number, 'UTF8'))
        WHERE number = %(document)s""".encode()  # noqa: S608 - likewise
    for kind, renamed in _RENAMED.items()
}
_TAKE_LIVE: Final = b"""
    UPDATE documents SET live_version = NULL, chunks = 0, live_title = %(name)s, live_label = 0, live_acl = '{}',
        live_metadata = '{}', live_service = '', live_principal = '', live_submitted_at = NULL
    WHERE number = %(document)s"""
_ERASED: Final = b"""
    SELECT count(*) FROM documents
    WHERE tenant = %(tenant)s AND number > %(number)s AND number <= %(last)s
        AND (source = %(name)s || '/' || number OR (live_version IS NULL AND live_title = %(name)s))"""


class PostgresDocumentsOfPersons:
    """`PersonalStore`: documents with their chunks, vectors and waiting bytes.

    A subject's documents are those that they, or their service, sent; of a tag, those whose metadata hold the entry.

    Args:
        pool: where the tables are.
        blobs: where bytes wait to be ingested.
        deadline_s: seconds within which a transaction is done or fails.
    """

    name = "documents"
    kept = (
        "a tombstone under the pseudonym, without content, names and metadata; files in the inbox container, which are "
        "the tenant's own; bytes of versions that were replaced before they were read, for 30 days at most"
    )

    def __init__(self, pool: PostgresPool, blobs: BlobStore, *, deadline_s: float = 30.0) -> None:
        self._transactions = TenantTransactions(pool)
        self._blobs = blobs
        self._deadline_s = deadline_s

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """Each document, with the name of the blob where its bytes still wait, and then the chunks made of it.

        Raises:
            DependencyUnavailable: no answer in time.
            InvalidRequest: the cursor is none of this store's.
        """
        number, told = _place(cursor)
        found: list[Mapping[str, object]] = []
        async with self._transactions.reading(subject.tenant_id, timeout_s=self._deadline_s) as connection:
            if connection is None:
                return ExportPage(found)
            values = _values(subject, connection, number) | {"limit": limit + 1}
            documents = await (await connection.sql.execute(_EXPORT[subject.kind], values)).fetchall()
            for row in documents:
                place = told if row[0] == number else _UNTOLD
                if place == _UNTOLD:
                    found.append({"document": row[2]})
                    place = _TOLD
                chunks = await _chunks_of(connection, row, place, limit - len(found))
                found += [{"chunk": chunk, "document_id": row[2]["id"]} for _, chunk in chunks]
                if len(found) >= limit:
                    return ExportPage(found, f"{row[0]} {chunks[-1][0] if chunks else place}")
        return ExportPage(found)

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """Take some documents away: bytes first, so that a kill leaves the name under which they are found.

        Raises:
            DependencyUnavailable: no answer in time; the step is to be taken again.
        """
        number, _ = _place(cursor)
        async with self._transactions.reading(subject.tenant_id, timeout_s=self._deadline_s) as connection:
            if connection is None:
                return ErasedStep({})
            values = _values(subject, connection, number) | {"end": order.requested_at, "name": order.pseudonym}
            documents, last = await (await connection.sql.execute(_STEP, values)).fetchone() or (0, None)
            if last is None:
                return ErasedStep({})
            values["last"] = last
            theirs = await (await connection.sql.execute(_THEIRS[subject.kind], values)).fetchall()
        for document, blob, is_newest in theirs:
            if is_newest and blob:
                await self._blobs.delete(blob)
            await self._take(subject, values | {"document": document})
        async with self._transactions.reading(subject.tenant_id, timeout_s=self._deadline_s) as connection:
            if connection is None:
                return ErasedStep({})
            row = await (await connection.sql.execute(_ERASED, values)).fetchone()
        erased = 0 if row is None else int(row[0])
        following = f"{last} {_TOLD}" if documents == _AT_ONCE else None
        return ErasedStep({"documents": erased} if erased else {}, (), following)

    async def _take(self, subject: DataSubject, values: Mapping[str, Any]) -> None:
        """Take a document away; where the newest version is not theirs, only the one that is searched."""
        number = (values["document"],)
        async with self._writing(subject) as connection:
            await connection.sql.execute(_HIDE, values)
            await connection.sql.execute(_RESTRICT, values)
        gone = _CHUNKS_AT_ONCE
        while gone == _CHUNKS_AT_ONCE:
            async with self._writing(subject) as connection:
                gone = (await connection.sql.execute(_SOME_CHUNKS, values)).rowcount
        async with self._writing(subject) as connection:
            # Asked again under the lock: somebody else's version may have come since.
            state = await (await connection.sql.execute(_LOCKED[subject.kind], values)).fetchone()
            is_newest, is_live = state or (False, False)
            if is_newest or is_live:
                await connection.sql.execute(rows.REMOVE_CHUNKS, number)
            if is_newest:
                await connection.sql.execute(rows.FORGET_EMBEDDED, number)
                await connection.sql.execute(rows.TOMBSTONE, number)
                await connection.sql.execute(_BURY[subject.kind], values)
            elif is_live:
                await connection.sql.execute(_TAKE_LIVE, values)

    def _writing(self, subject: DataSubject) -> AbstractAsyncContextManager[TenantConnection]:
        return self._transactions.writing(subject.tenant_id, timeout_s=self._deadline_s)


async def _chunks_of(connection: TenantConnection, row: TupleRow, after: int, limit: int) -> list[TupleRow]:
    """The next chunks of a document, when the version that is searched is the subject's."""
    number, is_live, _ = row
    if not is_live or limit < 1:
        return []
    values = {"number": number, "ordinal": after, "limit": limit}
    return await (await connection.sql.execute(_CHUNKS, values)).fetchall()


def _values(subject: DataSubject, connection: TenantConnection, number: int) -> dict[str, Any]:
    return {"tenant": connection.tenant, "value": subject.value, "tag": subject.tag, "number": number}


def _place(cursor: str) -> tuple[int, int]:
    """A document's number and what of it was given.

    Raises:
        InvalidRequest: the cursor says nothing of the kind.
    """
    if not cursor:
        return 0, _UNTOLD
    number, _, told = cursor.partition(" ")
    if not _CURSOR.fullmatch(cursor):
        raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor")
    return int(number), int(told)
