"""Documents, passages, and how they come in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.domain.documents import (
    Calibration,
    Candidates,
    Chunk,
    CollectionFacts,
    Document,
    DocumentSource,
    DocumentStatus,
    IngestionTask,
    ParsedDocument,
    SearchScope,
    Vectors,
)
from shared.domain.security import SecurityLevel


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """Some documents, the last changed first; `cursor` leads to the next ones, None when these were the last."""

    documents: Sequence[Document]
    cursor: str | None = None


class DocumentStore(Protocol):
    """Documents, their versions and chunks; every call is bound to one tenant, in the database by row-level security.

    A version is worked on by whoever holds its lease: `claim` takes it, `advance` extends it, `publish`, an `advance`
    to an end and `delete` give it back. The store's own clock counts, not the workers'. What restricts (a label that
    rises, a narrower access list) binds searches from `register` on; everything else of a version from `publish` on.
    """

    async def register(self, source: DocumentSource, *, document_id: str) -> tuple[Document, bool]:
        """Enter a document as queued, or a new version of the one with that source.

        One whose bytes, title, label, access list and metadata are unchanged is left alone when it is ready or under
        way; its blob is not taken over then. `document_id`, a UUID, is for a source that is new.

        Returns the document, and whether its version is to be worked on.

        Raises:
            DependencyUnavailable: it was not entered, as far as can be known; doing it again is safe.
        """
        ...

    async def claim(
        self, tenant_id: str, document_id: str, version: int, *, worker: str, lease_s: float
    ) -> Document | None:
        """Take a version to work on, for `lease_s` seconds; counts an attempt.

        None when it has ended (ready, failed, deleted), newer ones came, or another worker holds its lease.

        Raises:
            DependencyUnavailable: no answer in time; it may have been taken, and the same worker may claim it again.
        """
        ...

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
        """Note progress and hold the lease for longer, or note the end (failed, needs_ocr, or queued to try again).

        False when the lease was lost: whoever works on it is to stop.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def known_vectors(self, tenant_id: str, model: str, shas: Sequence[str]) -> Mapping[str, bytes]:
        """Vectors of the tenant's chunks by `Chunk.sha`, single precision: what is unchanged is not embedded again.

        Those of `keep_vectors` are among them.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def keep_vectors(self, document: Document, vectors: Mapping[str, bytes], *, model: str, worker: str) -> bool:
        """Keep vectors of a version that is worked on, by `Chunk.sha`, until it is published or the document deleted.

        Nothing is searched by them. They spare whoever works on the version next from paying for them again.

        Returns False when the lease was lost; nothing was kept.

        Raises:
            DependencyUnavailable: they were not kept, as far as can be known; doing it again is safe.
        """
        ...

    async def publish(
        self, document: Document, chunks: Sequence[Chunk], vectors: Vectors, *, model: str, worker: str
    ) -> bool:
        """Make a version the one that is searched, in one transaction that takes the one before away.

        The document's title, label, pages and warnings are stored as they are given here. There is one vector, by
        `model`, for each chunk; a document without chunks is ready and never found.

        Returns False when the lease was lost, a newer version came or the document was deleted; nothing was changed.

        Raises:
            DependencyUnavailable: nothing was published, as far as can be known; doing it again is safe.
            InvalidRequest: the vectors do not fit the chunks or the model's vectors that are there.
        """
        ...

    async def get(self, tenant_id: str, document_id: str) -> Document | None:
        """A document, also a deleted one while its tombstone is kept.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

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
        ...

    async def requeue(self, tenant_id: str, document_id: str) -> Document | None:
        """Queue a version again that failed, needs OCR or lost its worker; None when there is none to queue.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def delete(self, tenant_id: str, document_id: str) -> Document | None:
        """Take a document with all its chunks and vectors away; a tombstone without content stays.

        Returns the document as it was, or None when there was none or it was deleted before.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...

    async def erase(
        self, tenant_id: str, *, collection: str | None = None, service: str | None = None
    ) -> Sequence[str]:
        """Take away all documents of a tenant, a collection or whoever sent them, tombstones included.

        Returns the names of blobs that may still be there.

        Raises:
            DependencyUnavailable: some may be left; doing it again is safe.
        """
        ...

    async def collections(self, tenant_id: str) -> Sequence[CollectionFacts]:
        """What the tenant's collections hold, by name.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def stuck(self, *, older_than_s: float, waiting_s: float = 0.0, limit: int = 100) -> Sequence[Document]:
        """Versions of all tenants that nobody works on though they have not ended, unchanged for so many seconds.

        Those that nobody took yet are among them only when they are unchanged for `waiting_s` as well: they may be
        waiting for their turn, and thousands that do must not hide the few whose worker died.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class PassageIndex(Protocol):
    """Finds passages by meaning and by words, at one instant: both legs see the same version of every document."""

    async def search(
        self, scope: SearchScope, *, vector: bytes | None, terms: Mapping[str, float], model: str, candidates: int
    ) -> Candidates:
        """The best `candidates` of each leg, with their scores of each leg that they were found by.

        `Passage.score` is 0: fusion is `shared.rag.fusion`'s. Filters never starve a leg: it gives `candidates`
        passages of the scope when the scope has them. The vector is the query's, in single precision, by `model`; None
        leaves the leg out. `terms` are the query's with their weights (`shared.rag.terms`); none leave the leg out.

        Raises:
            DependencyUnavailable: no answer in time.
            InvalidRequest: the vector does not have the length of the model's vectors.
        """
        ...

    async def active_model(self) -> str | None:
        """The embedding model whose vectors are complete and searched; None before the first document.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def calibrate(self, tenant_id: str, collection: str, calibration: Calibration) -> None:
        """Keep what was measured; nothing when there is no such collection.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; doing it again is safe.
        """
        ...

    async def uncalibrated(self, model: str, *, limit: int) -> Sequence[tuple[str, str]]:
        """Tenant and name of collections whose calibration is missing, by another model, or of other times.

        Of other times is one that was made when the collection held less than half, or more than twice, as much.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


@dataclass(frozen=True, slots=True)
class VectorTable:
    """Where the vectors of an embedding model are.

    Attributes:
        status: ``building``, ``active`` (searched) or ``retired``.
    """

    model: str
    dimensions: int
    status: str


@dataclass(frozen=True, slots=True)
class UnembeddedChunk:
    """A chunk that a model has no vector of. `service` sent its document."""

    id: int
    text: str
    label: SecurityLevel
    service: str


class VectorTables(Protocol):
    """The vectors of embedding models, one table each, so that one can be built while another is searched."""

    async def all(self) -> Sequence[VectorTable]:
        """All tables, the oldest first.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def ensure(self, model: str, dimensions: int) -> None:
        """Make a model's table if there is none; the first is the active one.

        Raises:
            DependencyUnavailable: the store is away.
            InvalidRequest: there is one for vectors of another length.
        """
        ...

    async def tenants(self) -> Sequence[str]:
        """All tenants that ever had a document.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def missing(self, tenant_id: str, model: str, *, after: int, limit: int) -> Sequence[UnembeddedChunk]:
        """Chunks of a tenant without a vector, by id, from the one after `after`.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def add(self, tenant_id: str, model: str, vectors: Mapping[int, bytes]) -> int:
        """Enter vectors by chunk; of chunks that are gone, or have one, nothing is entered. Returns how many were.

        Raises:
            DependencyUnavailable: nothing was entered, as far as can be known; doing it again is safe.
            InvalidRequest: the vectors are not as long as the model's.
        """
        ...

    async def activate(self, model: str) -> None:
        """Have a model's vectors searched from now on; the one before is retired.

        Raises:
            DependencyUnavailable: the store is away.
            NotFound: there is no such table.
        """
        ...

    async def drop(self, model: str) -> None:
        """Remove a table with all its vectors.

        Raises:
            Conflict: it is searched.
            DependencyUnavailable: the store is away.
            NotFound: there is no such table.
        """
        ...


class BlobStore(Protocol):
    """Bytes under names, in one container of our own."""

    async def put(self, name: str, content: bytes) -> None:
        """Keep bytes under a name; what is there is replaced.

        Raises:
            DependencyUnavailable: they were not kept, as far as can be known; putting again is safe.
        """
        ...

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        """The bytes under a name.

        Raises:
            NotFound: there are none.
            RequestTooLarge: there are more than `max_bytes`; they were not read.
            DependencyUnavailable: the store is away.
        """
        ...

    async def delete(self, name: str) -> None:
        """Forget a name; one that is not there is left alone.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class IngestionQueue(Protocol):
    """Documents that wait to be ingested. A task may be given out twice, late, or for a document that is gone."""

    async def put(self, tasks: Sequence[IngestionTask], *, delay_s: int = 0) -> None:
        """Enqueue tasks, to be given out no sooner than `delay_s` seconds from now; at least once.

        Raises:
            DependencyUnavailable: nothing, or only a part, was enqueued; putting again is safe.
        """
        ...


class DocumentParser(Protocol):
    """Makes text of a document's bytes, whatever they are."""

    async def parse(self, content: bytes, *, media_type: str, name: str) -> ParsedDocument:
        """The document's blocks. What the bytes are decides, not what they are called.

        Args:
            content: of anybody's making.
            media_type: as declared; a hint.
            name: of the file; its ending is a hint.

        Raises:
            NeedsOcr: it holds pictures of text only.
            DocumentUnreadable: it cannot be taken; the reason says what a person can do.
            DependencyUnavailable: parsing could not be tried; trying again may help.
        """
        ...
