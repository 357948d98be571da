"""Documents in PostgreSQL: their lives from queued to deleted, and the transaction that makes a version the live one.

Whatever changes a document locks its row first and counts words last (triggers on ``chunks``), so ingestion,
re-ingestion and deletion of one document take turns, and those of others cannot wait for each other in a circle.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg import errors
from psycopg.types.json import Jsonb

from shared.domain.documents import (
    Chunk,
    CollectionFacts,
    Document,
    DocumentSource,
    DocumentStatus,
    Vectors,
)
from shared.domain.errors import InvalidRequest
from shared.ports import DocumentPage
from shared.stores.postgres import document_rows as rows
from shared.stores.postgres.chunk_rows import chunk_columns, halves_of, singles_of, vector_literals
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.tenancy import TenantConnection, TenantTransactions

_ENDS: Final = frozenset({DocumentStatus.FAILED, DocumentStatus.NEEDS_OCR, DocumentStatus.QUEUED})
"""Statuses that `advance` gives the lease back with."""
_BATCH: Final = 200
"""Chunks in one statement."""
_PUBLISH_S_PER_CHUNK: Final = 0.02
_ERASE_AT_ONCE: Final = 50
_ONE: Final = "collections.tenant = %s AND documents.id = %s"
_STUCK: Final = (
    "collections.tenant = %s AND status IN ('queued', 'parsing', 'embedding') "
    "AND documents.updated_at <= clock_timestamp() - make_interval(secs => %s) "
    "AND (attempts > 0 OR documents.updated_at <= clock_timestamp() - make_interval(secs => %s)) "
    "AND (lease_until IS NULL OR lease_until <= clock_timestamp()) ORDER BY documents.updated_at LIMIT %s"
)
_PAGE: Final = (
    "collections.tenant = %(tenant)s AND (%(collection)s::text IS NULL OR collections.name = %(collection)s) "
    "AND CASE WHEN %(status)s::text IS NULL THEN status <> 'deleted' ELSE status = %(status)s END "
    "AND (%(instant)s::timestamptz IS NULL OR (updated_at, documents.number) < (%(instant)s, %(number)s::bigint)) "
    "ORDER BY updated_at DESC, documents.number DESC LIMIT %(limit)s"
)


class PostgresDocumentStore:
    """`DocumentStore` on the tables of migration ``documents``.

    Args:
        pool: where the tables are; its role owns them.
        deadline_s: seconds within which a call is done or fails; publishing takes longer by the chunk.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 10.0) -> None:
        self._transactions = TenantTransactions(pool)
        self._deadline_s = deadline_s

    async def register(self, source: DocumentSource, *, document_id: str) -> tuple[Document, bool]:
        """Enter a document as queued, or a new version of the one with that source; see `DocumentStore`.

        Raises:
            DependencyUnavailable: it was not entered, as far as can be known; doing it again is safe.
            InvalidRequest: `document_id` is no UUID.
        """
        key = rows.key_of(document_id)
        if key is None:
            raise InvalidRequest("a document's id is a UUID", param="document_id")
        values = _values(source) | {"id": key}
        async with self._transactions.writing(source.tenant_id, timeout_s=self._deadline_s) as connection:
            collection = await _collection(connection, rows.storable_text(source.collection))
            values |= {"tenant": connection.tenant, "collection": collection}
            is_new = bool((await connection.sql.execute(rows.NEW_DOCUMENT, values)).rowcount)
            same = (values["sha"], values["declared"], values["acl"], values["metadata"])
            cursor = await connection.sql.execute(rows.LOCK_SOURCE, (*same, collection, values["source_key"]))
            found = await cursor.fetchone()
            if found is None:
                raise InvalidRequest("that id is another document's", param="document_id")
            values["id"], status, is_same = found
            is_left_alone = is_same and status in ("queued", "parsing", "embedding", "ready") and not is_new
            if not is_new and not is_left_alone:
                await connection.sql.execute(rows.NEW_VERSION, values)
            if source.acl and not is_left_alone:
                await connection.sql.execute(rows.RESTRICTED, (collection,))
            document = await _one(connection, source.tenant_id, values["id"])
        assert document is not None  # noqa: S101 - its row is locked
        return document, not is_left_alone

    async def claim(
        self, tenant_id: str, document_id: str, version: int, *, worker: str, lease_s: float
    ) -> Document | None:
        """Take a version to work on; None when it has ended, newer ones came, or another worker holds its lease.

        Raises:
            DependencyUnavailable: no answer in time; it may have been taken.
        """
        key = rows.key_of(document_id)
        if key is None:
            return None
        async with self._transactions.writing(tenant_id, timeout_s=self._deadline_s) as connection:
            taken = await connection.sql.execute(rows.CLAIM, (worker, lease_s, key, version, worker))
            return await _one(connection, tenant_id, key) if taken.rowcount else None

    async def advance(
        self,
        document: Document,
        *,
        worker: str,
        status: DocumentStatus,
        reason: str = "",
        pages: int | None = None,
        warnings: Sequence[str] = (),
        lease_s: float = 60.0,
    ) -> bool:
        """Note progress or the end; False when the lease was lost.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        values = {
            "status": status.value,
            "reason": rows.storable_text(reason),
            "pages": pages,
            "warnings": [rows.storable_text(warning) for warning in warnings],
            "holds": status not in _ENDS,
            "lease_s": lease_s,
            "id": rows.key_of(document.id),
            "version": document.version,
            "worker": worker,
        }
        async with self._transactions.writing(document.tenant_id, timeout_s=self._deadline_s) as connection:
            return bool((await connection.sql.execute(rows.ADVANCE, values)).rowcount)

    async def known_vectors(self, tenant_id: str, model: str, shas: Sequence[str]) -> Mapping[str, bytes]:
        """Vectors of the tenant's chunks by `Chunk.sha`, as precise as they are stored, and those of `keep_vectors`.

        Raises:
            DependencyUnavailable: the store is away.
        """
        if not shas:
            return {}
        async with self._transactions.reading(tenant_id, timeout_s=self._deadline_s) as connection:
            if connection is None:
                return {}
            keys = [bytes.fromhex(sha) for sha in set(shas)]
            cursor = await connection.sql.execute(rows.EMBEDDED, (connection.tenant, model, keys))
            vectors = {str(sha): bytes(vector) for sha, vector in await cursor.fetchall()}
            number = await (await connection.sql.execute(rows.MODEL, (model,))).fetchone()
            if number is not None:
                statement = rows.KNOWN_VECTORS.format(rows.vectors_table(number[0])).encode()
                cursor = await connection.sql.execute(statement, (connection.tenant, keys, connection.tenant))
                vectors |= {str(sha): singles_of(vector) for sha, vector in await cursor.fetchall()}
            return vectors

    async def keep_vectors(self, document: Document, vectors: Mapping[str, bytes], *, model: str, worker: str) -> bool:
        """Keep vectors of a version that is worked on; False when its lease was lost.

        Raises:
            DependencyUnavailable: they were not kept, as far as can be known; doing it again is safe.
        """
        async with self._transactions.writing(document.tenant_id, timeout_s=self._deadline_s) as connection:
            cursor = await connection.sql.execute(
                rows.LOCK_VERSION, (rows.key_of(document.id), document.version, worker)
            )
            found = await cursor.fetchone()
            if found is None:
                return False
            keys = [bytes.fromhex(sha) for sha in vectors]
            values = (connection.tenant, found[0], model, keys, list(vectors.values()))
            await connection.sql.execute(rows.KEEP_EMBEDDED, values)
            return True

    async def publish(
        self, document: Document, chunks: Sequence[Chunk], vectors: Vectors, *, model: str, worker: str
    ) -> bool:
        """Make a version the one that is searched, in one transaction that takes the one before away.

        Raises:
            DependencyUnavailable: nothing was published, as far as can be known; doing it again is safe.
            InvalidRequest: the vectors do not fit the chunks or the model's vectors that are there.
        """
        halves = halves_of(chunks, vectors)
        timeout_s = self._deadline_s + _PUBLISH_S_PER_CHUNK * len(chunks)
        async with self._transactions.writing(document.tenant_id, timeout_s=timeout_s) as connection:
            cursor = await connection.sql.execute(
                rows.LOCK_VERSION, (rows.key_of(document.id), document.version, worker)
            )
            found = await cursor.fetchone()
            if found is None:
                return False
            number, collection = found
            ids = [row[0] for row in await (await connection.sql.execute(rows.CHUNK_IDS, (len(chunks),))).fetchall()]
            if chunks:
                table = rows.vectors_table(await _ensured(connection, model, halves.shape[1]))
                statement = rows.INSERT_VECTORS.format(table).encode()
                for start in range(0, len(ids), _BATCH):
                    batch = slice(start, start + _BATCH)
                    literals = vector_literals(halves[batch])
                    await connection.sql.execute(statement, (connection.tenant, collection, ids[batch], literals))
            await connection.sql.execute(rows.REMOVE_CHUNKS, (number,))
            for start in range(0, len(ids), _BATCH):
                batch = slice(start, start + _BATCH)
                place = (connection.tenant, collection, number, ids[batch])
                await connection.sql.execute(rows.INSERT_CHUNKS, (*place, *chunk_columns(chunks[batch])))
            await connection.sql.execute(rows.FORGET_EMBEDDED, (number,))
            await connection.sql.execute(rows.PUBLISHED, _published(document, number, len(chunks)))
            return True

    async def get(self, tenant_id: str, document_id: str) -> Document | None:
        """A document, also a deleted one while its tombstone is kept.

        Raises:
            DependencyUnavailable: the store is away.
        """
        key = rows.key_of(document_id)
        async with self._transactions.reading(tenant_id, timeout_s=self._deadline_s) as connection:
            return None if connection is None or key is None else await _one(connection, tenant_id, key)

    async def list(
        self,
        tenant_id: str,
        *,
        collection: str | None = None,
        status: DocumentStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> DocumentPage:
        """Documents, the last changed first; deleted ones only when they are asked for.

        Raises:
            DependencyUnavailable: the store is away.
            InvalidRequest: the cursor is none of this store's.
        """
        instant, number = rows.place_of(cursor) if cursor else (None, None)
        async with self._transactions.reading(tenant_id, timeout_s=self._deadline_s) as connection:
            if connection is None:
                return DocumentPage(())
            values = {
                "tenant": connection.tenant,
                "collection": collection,
                "status": status.value if status else None,
                "instant": instant,
                "number": number,
                "limit": limit + 1,
            }
            found = await (await connection.sql.execute(rows.select_documents(_PAGE), values)).fetchall()
        documents = [rows.document_of(tenant_id, row) for row in found[:limit]]
        return DocumentPage(
            documents, rows.cursor_after(documents[-1], found[limit - 1][-1]) if len(found) > limit else None
        )

    async def requeue(self, tenant_id: str, document_id: str) -> Document | None:
        """Queue a version again that failed, needs OCR or lost its worker; None when there is none to queue.

        Raises:
            DependencyUnavailable: the store is away.
        """
        key = rows.key_of(document_id)
        async with self._transactions.writing(tenant_id, timeout_s=self._deadline_s) as connection:
            changed = await connection.sql.execute(rows.REQUEUE, (key,))
            return await _one(connection, tenant_id, key) if changed.rowcount and key else None

    async def delete(self, tenant_id: str, document_id: str) -> Document | None:
        """Take a document with all its chunks and vectors away; a tombstone without content stays.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        key = rows.key_of(document_id)
        async with self._transactions.writing(tenant_id, timeout_s=self._deadline_s) as connection:
            found = await (await connection.sql.execute(rows.LOCK, (key,))).fetchone()
            if found is None or key is None:
                return None
            document = await _one(connection, tenant_id, key)
            await connection.sql.execute(rows.REMOVE_CHUNKS, found)
            await connection.sql.execute(rows.FORGET_EMBEDDED, found)
            await connection.sql.execute(rows.TOMBSTONE, found)
            return document

    async def erase(
        self, tenant_id: str, *, collection: str | None = None, service: str | None = None
    ) -> Sequence[str]:
        """Take away all documents of a tenant, a collection or whoever sent them, tombstones included.

        Raises:
            DependencyUnavailable: some may be left; doing it again is safe.
        """
        blobs: list[str] = []
        values: dict[str, Any] = {"collection": collection, "service": service, "limit": _ERASE_AT_ONCE}
        while True:
            # Some at a time: a transaction that took all would hold up every ingestion of the tenant.
            async with self._transactions.writing(tenant_id, timeout_s=self._deadline_s) as connection:
                values["tenant"] = connection.tenant
                gone = await (await connection.sql.execute(rows.ERASE, values)).fetchall()
                if not gone:
                    await connection.sql.execute(rows.ERASE_COLLECTIONS, values)
                    return blobs
            blobs += [blob for (blob,) in gone if blob]

    async def collections(self, tenant_id: str) -> Sequence[CollectionFacts]:
        """What the tenant's collections hold, by name.

        Raises:
            DependencyUnavailable: the store is away.
        """
        async with self._transactions.reading(tenant_id, timeout_s=self._deadline_s) as connection:
            if connection is None:
                return ()
            found = await (await connection.sql.execute(rows.FACTS, (connection.tenant,))).fetchall()
        facts: dict[str, CollectionFacts] = {}
        for name, chunks, status, documents, size_bytes in found:
            known = facts.get(name) or CollectionFacts(name, 0, chunks, 0, {})
            by_status = {**known.by_status, **({DocumentStatus(status): documents} if status else {})}
            facts[name] = CollectionFacts(
                name, known.documents + documents, chunks, known.bytes + int(size_bytes), by_status
            )
        return tuple(facts.values())

    async def stuck(self, *, older_than_s: float, waiting_s: float = 0.0, limit: int = 100) -> Sequence[Document]:
        """Versions of all tenants that nobody works on though they have not ended, unchanged for so many seconds.

        Raises:
            DependencyUnavailable: the store is away.
        """
        documents: list[Document] = []
        statement = rows.select_documents(_STUCK)
        for tenant_id in await self._transactions.tenants(timeout_s=self._deadline_s):
            if len(documents) >= limit:
                break
            async with self._transactions.reading(tenant_id, timeout_s=self._deadline_s) as connection:
                if connection is not None:
                    values = (connection.tenant, older_than_s, waiting_s, limit - len(documents))
                    found = await (await connection.sql.execute(statement, values)).fetchall()
                    documents += [rows.document_of(tenant_id, row) for row in found]
        return documents


def _values(source: DocumentSource) -> dict[str, Any]:
    text = rows.storable_text
    return {
        "source": text(source.source),
        "source_key": hashlib.sha256(source.source.encode("utf-8", "surrogatepass")).digest(),
        "title": text(source.title),
        "declared": Jsonb({"title": text(source.title), "label": int(source.label)}),
        "media_type": text(source.media_type),
        "name": text(source.name),
        "blob": source.blob,
        "service": text(source.service),
        "principal": text(source.principal),
        "sha": source.sha,
        "size_bytes": source.size_bytes,
        "label": int(source.label),
        "acl": sorted(map(text, source.acl)),
        "metadata": Jsonb({text(key): text(value) for key, value in source.metadata.items()}),
    }


def _published(document: Document, number: int, chunks: int) -> dict[str, Any]:
    return {
        "title": rows.storable_text(document.title),
        "label": int(document.label),
        "pages": document.pages,
        "warnings": [rows.storable_text(warning) for warning in document.warnings],
        "chunks": chunks,
        "number": number,
    }


async def _collection(connection: TenantConnection, name: str) -> int:
    place = (connection.tenant, name)
    found = await (await connection.sql.execute(rows.COLLECTION, place)).fetchone()
    if found is None:
        await connection.sql.execute(rows.NEW_COLLECTION, place)
        found = await (await connection.sql.execute(rows.COLLECTION, place)).fetchone()
    assert found is not None  # noqa: S101 - it was there or has just been inserted
    return int(found[0])


async def _one(connection: TenantConnection, tenant_id: str, key: object) -> Document | None:
    cursor = await connection.sql.execute(rows.select_documents(_ONE), (connection.tenant, key))
    found = await cursor.fetchone()
    return None if found is None else rows.document_of(tenant_id, found)


async def _ensured(connection: TenantConnection, model: str, dimensions: int) -> int:
    """The number of a model's table of vectors."""
    try:
        found = await (await connection.sql.execute(rows.ENSURE_MODEL, (model, dimensions))).fetchone()
    except errors.InvalidParameterValue:
        raise InvalidRequest("the vectors are not as long as this model's", param="vectors") from None
    assert found is not None  # noqa: S101 - a function returns
    return int(found[0])
