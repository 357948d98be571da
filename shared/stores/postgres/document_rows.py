"""What the document store asks the database, and how it reads the answers."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from psycopg.rows import TupleRow

from shared.domain.documents import Document, DocumentStatus
from shared.domain.errors import InvalidRequest
from shared.domain.security import SecurityLevel

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")

_COLUMNS: Final = (
    "documents.id, collections.name, source, title, media_type, sha, size_bytes, status, version, label, acl, "
    "metadata, created_at, updated_at, live_version, documents.chunks, pages, reason, warnings, attempts, service, "
    "blob, documents.name, documents.number"
)
_FROM: Final = "FROM documents JOIN collections ON collections.number = documents.collection"

COLLECTION: Final = b"SELECT number FROM collections WHERE tenant = %s AND name = %s"
NEW_COLLECTION: Final = b"INSERT INTO collections (tenant, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
NEW_DOCUMENT: Final = b"""
    INSERT INTO documents (tenant, collection, id, source, source_key, title, declared, media_type, name, blob, service,
        principal, sha, size_bytes, label, acl, metadata)
    VALUES (%(tenant)s, %(collection)s, %(id)s, %(source)s, %(source_key)s, %(title)s, %(declared)s, %(media_type)s,
        %(name)s, %(blob)s, %(service)s, %(principal)s, %(sha)s, %(size_bytes)s, %(label)s, %(acl)s, %(metadata)s)
    ON CONFLICT DO NOTHING"""
LOCK_SOURCE: Final = (
    b"SELECT id, status, sha = %s AND declared = %s AND acl = %s::text[] AND metadata = %s AS is_same "
    b"FROM documents WHERE collection = %s AND source_key = %s FOR UPDATE"
)
NEW_VERSION: Final = b"""
    UPDATE documents SET version = version + 1, status = 'queued', title = %(title)s, declared = %(declared)s,
        media_type = %(media_type)s, name = %(name)s, blob = %(blob)s, service = %(service)s, sha = %(sha)s,
        principal = %(principal)s, submitted_at = clock_timestamp(),
        size_bytes = %(size_bytes)s, label = %(label)s, acl = %(acl)s::text[], metadata = %(metadata)s, pages = NULL,
        reason = '', warnings = '{}', attempts = 0, worker = NULL, lease_until = NULL, updated_at = clock_timestamp(),
        live_label = greatest(live_label, %(label)s::smallint),
        live_acl = CASE
            WHEN live_version IS NULL OR %(acl)s::text[] = '{}' THEN live_acl
            WHEN live_acl = '{}' THEN %(acl)s::text[]
            -- Nobody is in the group without a name.
            ELSE coalesce(
                nullif(ARRAY(SELECT unnest(live_acl) INTERSECT SELECT unnest(%(acl)s::text[]) ORDER BY 1), '{}'),
                ARRAY[''])
        END
    WHERE id = %(id)s"""
RESTRICTED: Final = b"UPDATE collections SET restricted = true WHERE number = %s AND NOT restricted"
CLAIM: Final = b"""
    UPDATE documents SET worker = %s, lease_until = clock_timestamp() + make_interval(secs => %s),
        attempts = attempts + 1, updated_at = clock_timestamp()
    WHERE id = %s AND version = %s AND status IN ('queued', 'parsing', 'embedding')
        AND (worker IS NULL OR worker = %s OR lease_until <= clock_timestamp())"""
ADVANCE: Final = b"""
    UPDATE documents SET status = %(status)s, reason = %(reason)s, pages = coalesce(%(pages)s, pages),
        warnings = %(warnings)s, updated_at = clock_timestamp(),
        worker = CASE WHEN %(holds)s THEN worker END,
        lease_until = CASE WHEN %(holds)s THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END
    WHERE id = %(id)s AND version = %(version)s AND worker = %(worker)s
        AND status IN ('queued', 'parsing', 'embedding')"""
LOCK_VERSION: Final = b"""
    SELECT number, collection FROM documents
    WHERE id = %s AND version = %s AND worker = %s AND status IN ('queued', 'parsing', 'embedding') FOR UPDATE"""
PUBLISHED: Final = b"""
    UPDATE documents SET status = 'ready', title = %(title)s, label = %(label)s, pages = %(pages)s, reason = '',
        warnings = %(warnings)s, worker = NULL, lease_until = NULL, updated_at = clock_timestamp(),
        live_version = version, live_title = %(title)s, live_label = (declared->>'label')::smallint, live_acl = acl,
        live_metadata = metadata, chunks = %(chunks)s, live_service = service, live_principal = principal,
        live_submitted_at = submitted_at
    WHERE number = %(number)s"""
REQUEUE: Final = b"""
    UPDATE documents SET status = 'queued', attempts = 0, reason = '', worker = NULL, lease_until = NULL,
        updated_at = clock_timestamp()
    WHERE id = %s AND (status IN ('failed', 'needs_ocr') OR (status IN ('queued', 'parsing', 'embedding')
        AND (lease_until IS NULL OR lease_until <= clock_timestamp())))"""
LOCK: Final = b"SELECT number FROM documents WHERE id = %s AND status <> 'deleted' FOR UPDATE"
EMBEDDED: Final = b"""
    SELECT DISTINCT ON (sha) encode(sha, 'hex'), vector FROM embedded_chunks
    WHERE tenant = %s AND model = %s AND sha = ANY(%s)"""
KEEP_EMBEDDED: Final = b"""
    INSERT INTO embedded_chunks (tenant, document, model, sha, vector)
    SELECT %s, %s, %s, sha, vector FROM unnest(%s::bytea[], %s::bytea[]) AS given (sha, vector)
    ON CONFLICT DO NOTHING"""
FORGET_EMBEDDED: Final = b"DELETE FROM embedded_chunks WHERE document = %s"
REMOVE_CHUNKS: Final = b"DELETE FROM chunks WHERE document = %s"
TOMBSTONE: Final = b"""
    UPDATE documents SET status = 'deleted', title = '', declared = '{}', name = '', blob = '', sha = '',
        size_bytes = 0, acl = '{}', metadata = '{}', pages = NULL, reason = '', warnings = '{}', attempts = 0,
        worker = NULL, lease_until = NULL, updated_at = clock_timestamp(), live_version = NULL, live_title = '',
        live_label = 0, live_acl = '{}', live_metadata = '{}', chunks = 0, live_service = '', live_principal = '',
        live_submitted_at = NULL
    WHERE number = %s"""
ERASE: Final = b"""
    DELETE FROM documents WHERE number IN (
        SELECT number FROM documents WHERE tenant = %(tenant)s
            AND (%(collection)s::text IS NULL
                 OR collection = (SELECT number FROM collections WHERE tenant = %(tenant)s AND name = %(collection)s))
            AND (%(service)s::text IS NULL OR service = %(service)s)
        ORDER BY number LIMIT %(limit)s FOR UPDATE)
    RETURNING blob"""
ERASE_COLLECTIONS: Final = b"""
    DELETE FROM collections WHERE tenant = %(tenant)s AND (%(collection)s::text IS NULL OR name = %(collection)s)
        AND NOT EXISTS (SELECT FROM documents WHERE documents.collection = collections.number)"""
FACTS: Final = b"""
    SELECT collections.name, collections.chunks, documents.status, count(documents.number),
        coalesce(sum(documents.size_bytes), 0)
    FROM collections LEFT JOIN documents
        ON documents.collection = collections.number AND documents.status <> 'deleted'
    WHERE collections.tenant = %s GROUP BY collections.number, documents.status ORDER BY collections.name"""
KNOWN_VECTORS: Final = (
    "SELECT DISTINCT ON (chunks.sha) encode(chunks.sha, 'hex'), halfvec_send(embedding) "
    "FROM chunks JOIN {} AS vectors ON vectors.tenant = chunks.tenant AND vectors.chunk = chunks.id "
    "WHERE chunks.tenant = %s AND chunks.sha = ANY(%s) AND vectors.tenant = %s"
)
MODEL: Final = b"SELECT number, dimensions FROM embedding_models WHERE name = %s"
ENSURE_MODEL: Final = b"SELECT ensure_embedding_model(%s, %s)"
CHUNK_IDS: Final = b"SELECT nextval('chunk_ids') FROM generate_series(1, %s)"
INSERT_VECTORS: Final = (
    "INSERT INTO {} (tenant, chunk, collection, embedding) "
    "SELECT %s, id, %s, embedding::halfvec FROM unnest(%s::bigint[], %s::text[]) AS given (id, embedding)"
)
INSERT_CHUNKS: Final = b"""
    INSERT INTO chunks (id, tenant, collection, document, ordinal, page, start_offset, end_offset, tokens, label,
        length, sha, prefix, text, lexemes, counts)
    SELECT id, %s, %s, %s, ordinal, page, start_offset, end_offset, tokens, label, length, sha, prefix, text,
        lexemes::integer[], counts::smallint[]
    FROM unnest(%s::bigint[], %s::integer[], %s::integer[], %s::integer[], %s::integer[], %s::integer[],
        %s::smallint[], %s::smallint[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[]) AS given
        (id, ordinal, page, start_offset, end_offset, tokens, label, length, sha, prefix, text, lexemes, counts)"""


def select_documents(condition: str) -> bytes:
    """The statement that reads documents for `document_of`; the condition is written in this package."""
    return f"SELECT {_COLUMNS} {_FROM} WHERE {condition}".encode()


def document_of(tenant_id: str, row: TupleRow) -> Document:
    """A row of `select_documents`, whose last column is the document's number."""
    (
        id_, collection, source, title, media_type, sha, size_bytes, status, version, label, acl, metadata, created_at,
        updated_at, live_version, chunks, pages, reason, warnings, attempts, service, blob, name, _,
    ) = row  # fmt: skip
    return Document(
        id=str(id_),
        tenant_id=tenant_id,
        collection=collection,
        source=source,
        title=title,
        media_type=media_type,
        sha=sha,
        size_bytes=size_bytes,
        status=DocumentStatus(status),
        version=version,
        label=SecurityLevel(label),
        acl=frozenset(acl),
        metadata=metadata,
        created_at=created_at.astimezone(UTC),
        updated_at=updated_at.astimezone(UTC),
        live_version=live_version,
        chunks=chunks,
        pages=pages,
        reason=reason,
        warnings=tuple(warnings),
        attempts=attempts,
        service=service,
        blob=blob,
        name=name,
    )


def vectors_table(number: int) -> str:
    """Of an embedding model."""
    return f"vectors_{int(number)}"


@lru_cache(maxsize=65_536)
def lexeme(term: str) -> int:
    """A term's number: 32 bits of BLAKE2b, signed.

    In a vocabulary of a million terms, one in four thousand shares its number with another: what that does to a ranking
    is far below what anybody could see, and no dictionary is to be kept, locked or asked.
    """
    return int.from_bytes(
        hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big", signed=True
    )


def key_of(document_id: str) -> UUID | None:
    """A document's key, or None for what is no id."""
    try:
        return UUID(document_id)
    except ValueError:
        return None


def cursor_after(document: Document, number: int) -> str:
    """Where the page after this document begins."""
    return base64.urlsafe_b64encode(f"{document.updated_at.isoformat()}|{number}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[datetime, int]:
    """What `cursor_after` said.

    Raises:
        InvalidRequest: it said nothing of the kind.
    """
    try:
        instant, _, number = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("|")
        # One that says no zone is none of ours; as UTC it still names a place.
        return datetime.fromisoformat(instant).astimezone(UTC), int(number)
    except (ValueError, OverflowError, binascii.Error):
        raise InvalidRequest("the cursor is none that this list gave", param="cursor") from None


def storable_text(text: str) -> str:
    """A text as PostgreSQL can hold it: without NUL and lone surrogates; every character keeps its place."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def array_literal(numbers: Sequence[int]) -> str:
    """Of a row's own array: arrays of arrays cannot be taken apart by row."""
    return "{" + ",".join(map(str, numbers)) + "}"
