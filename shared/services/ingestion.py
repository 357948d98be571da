"""Documents at the desk: taken in, listed, tried again and taken away. The work on them is `ingestion_work`'s."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from shared.domain.documents import CollectionFacts, Document, DocumentSource, DocumentStatus, IngestionTask
from shared.domain.errors import Conflict, DependencyUnavailable, InvalidRequest, NotFound, RequestTooLarge
from shared.domain.identity import Principal
from shared.domain.security import SecurityLevel
from shared.ports import BlobStore, DocumentPage, DocumentStore, Ids, IngestionQueue, Telemetry

MAX_DOCUMENT_BYTES: Final = 50 * 2**20
MAX_BATCH_BYTES: Final = 100 * 2**20
"""Of all blobs that one request refers to: they are read while its caller waits."""
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Submission:
    """One document as a caller sends it: its bytes, or the name of a blob in the caller's folder of the inbox.

    Attributes:
        source, title, label, acl, metadata: as in `DocumentSource`.
    """

    collection: str
    source: str
    name: str
    media_type: str
    content: bytes | None = None
    blob: str | None = None
    title: str = ""
    label: SecurityLevel = SecurityLevel.INTERNAL
    acl: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that was taken in; `is_new` is False when it is known as it is, so that there is nothing to do."""

    document: Document
    is_new: bool


def may_know(principal: Principal, document: Document) -> bool:
    """Whether a caller of the document's tenant may know of it: its access list hides titles and names too.

    Whoever sent it may, whatever list it gave.
    """
    return not document.acl or bool(document.acl & principal.reader_groups) or document.service == principal.service


def task_for(document: Document) -> IngestionTask:
    """The claim check of a document's newest version."""
    return IngestionTask(document.tenant_id, document.id, document.version, document.blob)


class IngestionService:
    """Takes documents in.

    Args:
        documents: where they are entered.
        blobs: where their bytes wait.
        inbox: where services put files themselves.
        queue: who is told.
        ids: new ids.
        telemetry: counts.
        max_document_bytes: most of one document.
    """

    def __init__(
        self,
        documents: DocumentStore,
        blobs: BlobStore,
        inbox: BlobStore,
        queue: IngestionQueue,
        ids: Ids,
        telemetry: Telemetry,
        *,
        max_document_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> None:
        self._documents = documents
        self._blobs = blobs
        self._inbox = inbox
        self._queue = queue
        self._ids = ids
        self._telemetry = telemetry
        self.max_document_bytes = max_document_bytes

    async def submit(self, principal: Principal, submissions: Sequence[Submission]) -> list[Taken]:
        """Enter documents and queue those that are new or changed.

        Everything is read and checked before anything is entered: a batch is refused as a whole.

        Raises:
            InvalidRequest: two name the same source, or a blob is not there; `param` names the place.
            RequestTooLarge: a document, or all blobs together, are over the limit.
            DependencyUnavailable: some may have been entered; sending all again is safe.
        """
        _require_different(submissions)
        contents = await self._contents(principal.tenant_id, submissions)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def enter(submission: Submission, content: bytes) -> Taken:
            async with gate:
                return await self._enter(principal, submission, content)

        # All are waited for, so that none goes on after a failure of another was reported.
        outcomes = await asyncio.gather(*map(enter, submissions, contents), return_exceptions=True)
        taken: list[Taken] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            taken.append(outcome)
        await self._announce([one.document for one in taken if one.is_new])
        return taken

    async def get(self, principal: Principal, document_id: str) -> Document:
        """A document.

        Raises:
            NotFound: there is none that the caller may know of.
            DependencyUnavailable: the store is away.
        """
        document = await self._documents.get(principal.tenant_id, document_id)
        if document is None or not may_know(principal, document):
            raise _none(document_id)
        return document

    async def page(
        self,
        principal: Principal,
        *,
        collection: str | None,
        status: DocumentStatus | None,
        limit: int,
        cursor: str | None,
    ) -> DocumentPage:
        """Documents, the last changed first. Those that the caller may not know of are left out, so pages may be short.

        Raises:
            InvalidRequest: the cursor is none of ours.
            DependencyUnavailable: the store is away.
        """
        found = await self._documents.list(
            principal.tenant_id, collection=collection, status=status, limit=limit, cursor=cursor
        )
        return DocumentPage([one for one in found.documents if may_know(principal, one)], found.cursor)

    async def collections(self, principal: Principal) -> Sequence[CollectionFacts]:
        """What the tenant's collections hold.

        Raises:
            DependencyUnavailable: the store is away.
        """
        return await self._documents.collections(principal.tenant_id)

    async def delete(self, principal: Principal, document_id: str) -> Document:
        """Take a document away, with all that was made of it. Returns it as it is now.

        Raises:
            NotFound: there is none that the caller may know of, or it was deleted before.
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        await self.get(principal, document_id)
        document = await self._documents.delete(principal.tenant_id, document_id)
        if document is None:
            raise _none(document_id)
        await self._forget(document.blob)
        self._telemetry.count("documents_deleted")
        return replace(document, status=DocumentStatus.DELETED, live_version=None, chunks=0)

    async def retry(self, principal: Principal, document_id: str) -> Document:
        """Queue a document again that failed or needed OCR.

        Raises:
            NotFound: there is none that the caller may know of.
            Conflict: there is nothing to try again.
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        document = await self.get(principal, document_id)
        queued = await self._documents.requeue(principal.tenant_id, document_id)
        if queued is None:
            raise Conflict(f"the document is {document.status.value}: there is nothing to try again")
        await self._announce([queued])
        return queued

    async def _contents(self, tenant_id: str, submissions: Sequence[Submission]) -> list[bytes]:
        """Bytes of all documents, in order; blobs one after the other, so that their sum stays bounded."""
        contents: list[bytes] = []
        room = MAX_BATCH_BYTES
        for place, submission in enumerate(submissions):
            content = submission.content
            if content is None:
                content = await self._from_inbox(tenant_id, submission.blob or "", place, room)
                room -= len(content)
            if len(content) > self.max_document_bytes:
                raise RequestTooLarge(
                    f"a document may have {self.max_document_bytes} bytes", param=f"documents[{place}]"
                )
            contents.append(content)
        return contents

    async def _from_inbox(self, tenant_id: str, blob: str, place: int, room: int) -> bytes:
        where = f"documents[{place}].blob"
        try:
            return await self._inbox.get(f"{tenant_id}/{blob}", max_bytes=min(self.max_document_bytes, max(room, 0)))
        except NotFound:
            raise InvalidRequest("there is no such blob in your folder of the inbox", param=where) from None
        except RequestTooLarge:
            raise RequestTooLarge(
                f"a document may have {self.max_document_bytes} bytes, all blobs of a request {MAX_BATCH_BYTES}",
                param=where,
            ) from None

    async def _enter(self, principal: Principal, submission: Submission, content: bytes) -> Taken:
        document_id = self._ids.request_id()
        blob = f"{principal.tenant_id}/{document_id}"
        sha = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
        await self._blobs.put(blob, content)
        source = DocumentSource(
            tenant_id=principal.tenant_id,
            collection=submission.collection,
            source=submission.source,
            media_type=submission.media_type,
            name=submission.name,
            blob=blob,
            sha=sha,
            size_bytes=len(content),
            title=submission.title,
            label=submission.label,
            acl=submission.acl,
            metadata=submission.metadata,
            service=principal.service,
            principal=principal.id,
        )
        document, is_new = await self._documents.register(source, document_id=document_id)
        if not is_new:
            await self._forget(blob)
        self._telemetry.count("documents_submitted", outcome="queued" if is_new else "unchanged")
        return Taken(document, is_new)

    async def _announce(self, documents: Sequence[Document]) -> None:
        """Tell the queue. They are entered: while it is away, `IngestionWork.requeue_stuck` finds them later."""
        if not documents:
            return
        try:
            await self._queue.put([task_for(document) for document in documents])
        except DependencyUnavailable:
            self._telemetry.log(logging.WARNING, "ingestion_not_announced", documents=len(documents))

    async def _forget(self, blob: str) -> None:
        """Delete a blob that nobody needs; one that stays is deleted by the container's own rule."""
        try:
            if blob:
                await self._blobs.delete(blob)
        except DependencyUnavailable:
            self._telemetry.count("ingestion_blobs_left")


def _require_different(submissions: Sequence[Submission]) -> None:
    seen: set[tuple[str, str]] = set()
    for place, submission in enumerate(submissions):
        key = (submission.collection, submission.source)
        if key in seen:
            raise InvalidRequest(
                "two documents of a request cannot have the same source in the same collection",
                param=f"documents[{place}].source",
            )
        seen.add(key)


def _none(document_id: str) -> NotFound:
    return NotFound(f"there is no document {document_id}")
