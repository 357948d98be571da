"""Documents in memory: the twin of `shared.stores.postgres.documents`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.domain.documents import (
    Chunk,
    CollectionFacts,
    Document,
    DocumentSource,
    DocumentStatus,
    SearchScope,
    Vectors,
)
from shared.domain.errors import DependencyUnavailable, InvalidRequest
from shared.domain.security import SecurityLevel
from shared.ports import Clock, DocumentPage, VectorTable
from shared.rag.terms import text_terms
from shared.rag.vectors import as_halves, as_singles

_UNDER_WAY = frozenset({DocumentStatus.QUEUED, DocumentStatus.PARSING, DocumentStatus.EMBEDDING})
_ENDS = frozenset({DocumentStatus.FAILED, DocumentStatus.NEEDS_OCR, DocumentStatus.QUEUED})
_NOBODY = frozenset({""})


@dataclass(slots=True)
class Entry:
    """A document with what belongs to it; `live` is what searches see of it.

    Attributes:
        declared: title and label as they were sent.
        place: grows with every change.
        embedded: vectors that are not published yet, by model and `Chunk.sha`.
    """

    document: Document
    declared: tuple[str, SecurityLevel]
    place: int
    worker: str | None = None
    lease_until: datetime | None = None
    live: Document | None = None
    chunks: tuple[Chunk, ...] = ()
    vectors: dict[str, list[bytes]] = field(default_factory=dict)
    embedded: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def vector(self, model: str, place: int) -> bytes:
        """A chunk's vector; empty where the model has none of it yet."""
        return self.vectors[model][place] if model in self.vectors else b""


class MemoryDocumentStore:
    """`DocumentStore` in dictionaries; `shared.stores.memory_passages` searches it.

    Args:
        clock: leases end by it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self.tables: dict[str, VectorTable] = {}
        self._places = 0
        self.away = False

    async def register(self, source: DocumentSource, *, document_id: str) -> tuple[Document, bool]:
        """Enter a document as queued, or a new version of the one with that source; see `DocumentStore`."""
        entry = next((e for e in self._of(source.tenant_id) if _is_source(e.document, source)), None)
        declared = (source.title, source.label)
        if entry is None:
            entry = Entry(_new(source, document_id, self._clock.now()), declared, 0)
            self._entries[document_id] = entry
            return self._changed(entry), True
        known = entry.document
        if (
            (known.sha, entry.declared, known.acl, known.metadata)
            == (source.sha, declared, source.acl, source.metadata)
        ) and (known.status in _UNDER_WAY or known.status is DocumentStatus.READY):
            return known, False
        entry.document = replace(
            _new(source, known.id, known.created_at),
            version=known.version + 1,
            live_version=known.live_version,
            chunks=known.chunks,
        )
        entry.declared, entry.worker, entry.lease_until = declared, None, None
        if entry.live is not None:
            entry.live = replace(
                entry.live,
                label=max(entry.live.label, source.label),
                acl=_narrowed(entry.live.acl, source.acl),
            )
        return self._changed(entry), True

    async def claim(
        self, tenant_id: str, document_id: str, version: int, *, worker: str, lease_s: float
    ) -> Document | None:
        """Take a version to work on; None when it has ended, newer ones came, or another worker holds its lease."""
        entry = self._entry(tenant_id, document_id)
        if entry is None or entry.document.version != version or entry.document.status not in _UNDER_WAY:
            return None
        if entry.worker not in {None, worker} and self._is_held(entry):
            return None
        entry.worker, entry.lease_until = worker, self._clock.now() + timedelta(seconds=lease_s)
        entry.document = replace(entry.document, attempts=entry.document.attempts + 1)
        return self._changed(entry)

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
        """Note progress or the end; False when the lease was lost."""
        entry = self._worked_on(document, worker)
        if entry is None:
            return False
        known = entry.document
        entry.document = replace(
            known,
            status=status,
            reason=reason,
            pages=known.pages if pages is None else pages,
            warnings=tuple(warnings),
        )
        ends = status in _ENDS
        entry.worker = None if ends else worker
        entry.lease_until = None if ends else self._clock.now() + timedelta(seconds=lease_s)
        self._changed(entry)
        return True

    async def known_vectors(self, tenant_id: str, model: str, shas: Sequence[str]) -> Mapping[str, bytes]:
        """Vectors of the tenant's chunks by `Chunk.sha`."""
        wanted = set(shas)
        return {
            chunk.sha: vector
            for entry in self._of(tenant_id)
            for chunk, vector in zip(entry.chunks, entry.vectors.get(model, ()), strict=False)
            if chunk.sha in wanted and vector
        } | {
            sha: vector
            for entry in self._of(tenant_id)
            for (by, sha), vector in entry.embedded.items()
            if by == model and sha in wanted
        }

    async def keep_vectors(self, document: Document, vectors: Mapping[str, bytes], *, model: str, worker: str) -> bool:
        """Keep vectors of a version that is worked on; False when its lease was lost."""
        entry = self._worked_on(document, worker)
        if entry is None:
            return False
        entry.embedded |= {(model, sha): vector for sha, vector in vectors.items()}
        return True

    async def publish(
        self, document: Document, chunks: Sequence[Chunk], vectors: Vectors, *, model: str, worker: str
    ) -> bool:
        """Make a version the one that is searched."""
        if len(vectors) != len(chunks):
            raise InvalidRequest("there must be one vector for each chunk", param="vectors")
        try:
            halves = as_halves(vectors)
        except ValueError as error:
            raise InvalidRequest(str(error), param="vectors") from None
        entry = self._worked_on(document, worker)
        if entry is None:
            return False
        if chunks:
            self.ensure_table(model, halves.shape[1])
        entry.chunks, entry.vectors = tuple(chunks), {model: as_singles(halves)}
        entry.document = replace(
            entry.document,
            status=DocumentStatus.READY,
            title=document.title,
            label=document.label,
            pages=document.pages,
            warnings=document.warnings,
            reason="",
            live_version=document.version,
            chunks=len(chunks),
        )
        entry.live = replace(entry.document, label=entry.declared[1])
        entry.worker = entry.lease_until = None
        entry.embedded = {}
        self._changed(entry)
        return True

    async def get(self, tenant_id: str, document_id: str) -> Document | None:
        """A document, also a deleted one while its tombstone is kept."""
        entry = self._entry(tenant_id, document_id)
        return None if entry is None else entry.document

    async def list(
        self,
        tenant_id: str,
        *,
        collection: str | None = None,
        status: DocumentStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> DocumentPage:
        """Documents, the last changed first; deleted ones only when they are asked for."""
        if cursor is not None and not cursor.isdecimal():
            raise InvalidRequest("the cursor is none that this list gave", param="cursor")
        found = sorted(
            (
                entry
                for entry in self._of(tenant_id)
                if collection in {None, entry.document.collection}
                and (
                    entry.document.status is not DocumentStatus.DELETED
                    if status is None
                    else entry.document.status is status
                )
                and (cursor is None or entry.place < int(cursor))
            ),
            key=lambda entry: -entry.place,
        )
        page = [entry.document for entry in found[:limit]]
        return DocumentPage(page, str(found[limit - 1].place) if len(found) > limit else None)

    async def requeue(self, tenant_id: str, document_id: str) -> Document | None:
        """Queue a version again that failed, needs OCR or lost its worker; None when there is none to queue."""
        entry = self._entry(tenant_id, document_id)
        if entry is None:
            return None
        status = entry.document.status
        if status not in {DocumentStatus.FAILED, DocumentStatus.NEEDS_OCR} and (
            status not in _UNDER_WAY or self._is_held(entry)
        ):
            return None
        entry.document = replace(entry.document, status=DocumentStatus.QUEUED, attempts=0, reason="")
        entry.worker = entry.lease_until = None
        return self._changed(entry)

    async def delete(self, tenant_id: str, document_id: str) -> Document | None:
        """Take a document with all its chunks and vectors away; a tombstone without content stays."""
        entry = self._entry(tenant_id, document_id)
        if entry is None or entry.document.status is DocumentStatus.DELETED:
            return None
        was = entry.document
        entry.document = replace(
            was,
            status=DocumentStatus.DELETED,
            title="", name="", blob="", sha="", size_bytes=0, acl=frozenset(), metadata={}, pages=None, reason="",
            warnings=(), attempts=0, live_version=None, chunks=0,
        )  # fmt: skip
        entry.live, entry.chunks, entry.vectors, entry.worker, entry.lease_until = None, (), {}, None, None
        entry.embedded = {}
        self._changed(entry)
        return was

    async def erase(
        self, tenant_id: str, *, collection: str | None = None, service: str | None = None
    ) -> Sequence[str]:
        """Take away all documents of a tenant, a collection or whoever sent them, tombstones included."""
        gone = [
            entry.document
            for entry in self._of(tenant_id)
            if collection in {None, entry.document.collection} and service in {None, entry.document.service}
        ]
        for document in gone:
            del self._entries[document.id]
        return [document.blob for document in gone if document.blob]

    async def collections(self, tenant_id: str) -> Sequence[CollectionFacts]:
        """What the tenant's collections hold, by name."""
        facts: dict[str, CollectionFacts] = {}
        for entry in sorted(self._of(tenant_id), key=lambda entry: entry.document.collection):
            document = entry.document
            known = facts.get(document.collection) or CollectionFacts(document.collection, 0, 0, 0, {})
            if document.status is DocumentStatus.DELETED:
                facts[document.collection] = known
                continue
            facts[document.collection] = CollectionFacts(
                known.name,
                known.documents + 1,
                known.chunks + len(entry.chunks),
                known.bytes + document.size_bytes,
                {**known.by_status, document.status: known.by_status.get(document.status, 0) + 1},
            )
        return tuple(facts.values())

    async def stuck(self, *, older_than_s: float, waiting_s: float = 0.0, limit: int = 100) -> Sequence[Document]:
        """Versions of all tenants that nobody works on though they have not ended, unchanged for so many seconds."""
        self._answer()
        now = self._clock.now()
        latest, earliest = now - timedelta(seconds=older_than_s), now - timedelta(seconds=waiting_s)
        found = [
            entry.document
            for entry in sorted(self._entries.values(), key=lambda entry: entry.place)
            if entry.document.status in _UNDER_WAY
            and not self._is_held(entry)
            and entry.document.updated_at <= latest
            and (entry.document.attempts > 0 or entry.document.updated_at <= earliest)
        ]
        return found[:limit]

    def visible(self, scope: SearchScope) -> Iterator[tuple[Entry, Chunk, int]]:
        """The chunks that a scope holds, each with its document and its place there."""
        for entry in self._of(scope.tenant_id):
            live = entry.live
            if (
                live is None
                or live.collection != scope.collection
                or live.label > scope.max_level
                or (live.acl and not live.acl & (scope.groups - _NOBODY))
                or (scope.documents and live.id not in scope.documents)
                or any(live.metadata.get(key) != value for key, value in scope.metadata.items())
            ):
                continue
            for place, chunk in enumerate(entry.chunks):
                if chunk.label <= scope.max_level:
                    yield entry, chunk, place

    def counted(self, tenant_id: str, collection: str) -> Sequence[Mapping[str, int]]:
        """The words of all chunks of a collection."""
        return [
            text_terms(chunk.text, chunk.prefix)
            for entry in self._of(tenant_id)
            if entry.document.collection == collection
            for chunk in entry.chunks
        ]

    def ensure_table(self, model: str, dimensions: int) -> None:
        """Make a model's table of vectors if there is none; the first is the active one.

        Raises:
            InvalidRequest: there is one for vectors of another length.
        """
        status = "building" if any(table.status == "active" for table in self.tables.values()) else "active"
        if self.tables.setdefault(model, VectorTable(model, dimensions, status)).dimensions != dimensions:
            raise InvalidRequest("the vectors are not as long as this model's", param="vectors")

    def tenants(self) -> Sequence[str]:
        """All tenants that have a document."""
        self._answer()
        return list(dict.fromkeys(entry.document.tenant_id for entry in self._entries.values()))

    def entries(self, tenant_id: str) -> Sequence[Entry]:
        """A tenant's documents in the order of their coming."""
        return self._of(tenant_id)

    def sizes(self) -> Mapping[tuple[str, str], int]:
        """Chunks by tenant and collection, where there are some."""
        self._answer()
        sizes: dict[tuple[str, str], int] = {}
        for entry in self._entries.values():
            place = entry.document.tenant_id, entry.document.collection
            if entry.chunks:
                sizes[place] = sizes.get(place, 0) + len(entry.chunks)
        return sizes

    def _of(self, tenant_id: str) -> Sequence[Entry]:
        self._answer()
        return [entry for entry in self._entries.values() if entry.document.tenant_id == tenant_id]

    def _entry(self, tenant_id: str, document_id: str) -> Entry | None:
        self._answer()
        entry = self._entries.get(document_id)
        return entry if entry is not None and entry.document.tenant_id == tenant_id else None

    def _worked_on(self, document: Document, worker: str) -> Entry | None:
        entry = self._entry(document.tenant_id, document.id)
        if entry is None or entry.worker != worker or entry.document.version != document.version:
            return None
        return entry if entry.document.status in _UNDER_WAY else None

    def _is_held(self, entry: Entry) -> bool:
        return entry.lease_until is not None and entry.lease_until > self._clock.now()

    def _changed(self, entry: Entry) -> Document:
        self._places += 1
        entry.place = self._places
        entry.document = replace(entry.document, updated_at=self._clock.now())
        return entry.document

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("the database does not answer")


def _new(source: DocumentSource, document_id: str, created_at: datetime) -> Document:
    return Document(
        id=document_id,
        tenant_id=source.tenant_id,
        collection=source.collection,
        source=source.source,
        title=source.title,
        media_type=source.media_type,
        sha=source.sha,
        size_bytes=source.size_bytes,
        status=DocumentStatus.QUEUED,
        version=1,
        label=source.label,
        acl=source.acl,
        metadata=dict(source.metadata),
        created_at=created_at,
        updated_at=created_at,
        service=source.service,
        blob=source.blob,
        name=source.name,
    )


def _is_source(document: Document, source: DocumentSource) -> bool:
    return (document.collection, document.source) == (source.collection, source.source)


def _narrowed(live: frozenset[str], wanted: frozenset[str]) -> frozenset[str]:
    """Who may read until the new version is there: whoever may read both."""
    if not live or not wanted:
        return live or wanted
    return live & wanted or _NOBODY
