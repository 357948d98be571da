"""The work on documents: read, cut, labelled, embedded and published by whoever takes a task from the queue.

Each step can be repeated: a worker that dies leaves the version before it searchable and a lease that ends by itself,
and whoever comes next begins anew, but does not pay again for chunks that some version has already, nor for batches
of vectors that the dead worker got.
"""

import asyncio
import contextlib
import hashlib
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from shared.analysis.security import Scanner, level_of
from shared.analysis.tokens import estimate_tokens
from shared.domain.documents import (
    Chunk,
    Document,
    DocumentStatus,
    DocumentUnreadable,
    IngestionTask,
    NeedsOcr,
    ParsedDocument,
)
from shared.domain.errors import (
    AccessRefused,
    BudgetExceeded,
    DependencyUnavailable,
    NoEligibleModel,
    NotFound,
    ProviderRejected,
    RequestRejected,
    RequestTooLarge,
    RouterError,
)
from shared.domain.security import DetectionRules
from shared.ports import BlobStore, Clock, DocumentParser, DocumentStore, Ids, IngestionQueue, Telemetry
from shared.rag.chunking import cut
from shared.services.ingestion import MAX_DOCUMENT_BYTES, task_for
from shared.services.ingestion_vectors import ChunkEmbedder, LeaseLost
from shared.services.routing import RoutingService

LEASE_S: Final = 60.0
MAX_ATTEMPTS: Final = 5
DELAYS_S: Final = (10, 40, 160, 640)
"""Before the second attempt and later ones: about a quarter of an hour in all."""
_PATIENCE_S: Final = 600.0
"""For a version that nobody took yet: it is more likely to wait for its turn than to have lost its message."""
_FINAL: Final = (RequestRejected, AccessRefused, BudgetExceeded, ProviderRejected)
"""What trying again does not mend by itself."""
_DEFECT: Final = (
    "Something went wrong here. Try again (POST /rag/documents/{id}/retry); if it fails again, report its id."
)


class _Progress:
    """Where the work on a version stands, noted with the lease that it is done under.

    Args:
        documents: where it is noted.
        document: the version.
        worker: whose lease it is.
        lease_s: for which it is held from each note on.
    """

    def __init__(self, documents: DocumentStore, document: Document, worker: str, lease_s: float) -> None:
        self.worker = worker
        self._documents = documents
        self._document = document
        self._lease_s = lease_s
        self._status = DocumentStatus.PARSING
        self._pages: int | None = None
        self._warnings: Sequence[str] = ()

    async def note(self, status: DocumentStatus, *, pages: int | None = None, warnings: Sequence[str] = ()) -> None:
        """Go on to another step.

        Raises:
            LeaseLost: the work is somebody else's now.
            DependencyUnavailable: the store is away.
        """
        self._status, self._pages, self._warnings = status, pages, warnings
        await self.hold()

    async def hold(self) -> None:
        """Hold the lease for longer.

        Raises:
            LeaseLost: it was lost.
            DependencyUnavailable: the store is away.
        """
        if not await self._documents.advance(
            self._document,
            worker=self.worker,
            status=self._status,
            pages=self._pages,
            warnings=self._warnings,
            lease_s=self._lease_s,
        ):
            raise LeaseLost


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the work is done with.

    Attributes:
        parser: makes text of bytes.
        ocr: makes text of pictures; None where no model that reads pictures is configured.
        embeddings: makes vectors, each call in the ledger.
        model: the embedding model's id, as the registry has it now.
        detection: what the policy looks for beside the usual.
    """

    documents: DocumentStore
    blobs: BlobStore
    queue: IngestionQueue
    parser: DocumentParser
    embeddings: RoutingService
    model: Callable[[], str]
    detection: Callable[[], DetectionRules]
    ocr: DocumentParser | None = None


class IngestionWork:
    """Does the queue's tasks.

    Args:
        shop: stores, parser and model.
        clock: time.
        ids: of workers and of requests for vectors.
        telemetry: counts and logs.
        delays_s: before later attempts; one fewer than there are attempts.
        lease_s: for which a version is held, and held again while work goes on.
        at_once: most documents at the same time: each is in memory as a whole.
    """

    def __init__(
        self,
        shop: Workshop,
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
        *,
        delays_s: Sequence[int] = DELAYS_S,
        lease_s: float = LEASE_S,
        at_once: int = 4,
    ) -> None:
        self._shop = shop
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry
        self._delays_s = delays_s
        self._lease_s = lease_s
        self._scanner = (DetectionRules(), Scanner())
        self._gate = asyncio.Semaphore(at_once)
        self._requeued: dict[tuple[str, int, int], float] = {}
        self._embedder = ChunkEmbedder(shop.documents, shop.embeddings, clock, ids, telemetry)

    async def do(self, task: IngestionTask) -> None:
        """Work on a version until it is ready, failed, or queued again for later.

        Raises:
            DependencyUnavailable: not even that could be noted; the queue gives the task out again.
        """
        # Waited for before the version is claimed: a lease is for work.
        async with self._gate:
            await self._do(task)

    async def _do(self, task: IngestionTask) -> None:
        worker = self._ids.request_id()
        documents = self._shop.documents
        document = await documents.claim(
            task.tenant_id, task.document_id, task.version, worker=worker, lease_s=self._lease_s
        )
        if document is None:
            await self._clear(task)
            return
        if document.attempts > MAX_ATTEMPTS:
            # Every worker that took it died before it could say why.
            await self._end(document, worker, DocumentStatus.FAILED, _DEFECT.replace("{id}", document.id))
            return
        try:
            progress = _Progress(documents, document, worker, self._lease_s)
            await self._held(progress, self._ingest(document, progress))
        except LeaseLost:
            self._telemetry.count("documents_ingested", outcome="superseded")
            await self._clear(task)
        except NeedsOcr as error:
            await self._end(document, worker, DocumentStatus.NEEDS_OCR, error.reason, pages=error.pages)
        except DocumentUnreadable as error:
            await self._end(document, worker, DocumentStatus.FAILED, error.reason)
        except _FINAL as error:
            await self._end(document, worker, DocumentStatus.FAILED, _reason(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the document must not stay where it is
            await self._again(document, worker, error)

    async def bury(self, task: IngestionTask) -> None:
        """Take back a task that the queue gave up: it failed again and again before anything could be noted.

        Raises:
            DependencyUnavailable: it is still so.
        """
        document = await self._shop.documents.get(task.tenant_id, task.document_id)
        if document is None or document.version != task.version:
            await self._clear(task)
        elif document.status in {DocumentStatus.QUEUED, DocumentStatus.PARSING, DocumentStatus.EMBEDDING}:
            # Attempts are counted where the document is: one that is hopeless ends in `do`.
            await self._shop.queue.put([task], delay_s=max(self._delays_s, default=0))

    async def requeue_stuck(self) -> int:
        """Queue versions again whose task or worker was lost; returns how many.

        Raises:
            DependencyUnavailable: a store is away; the next time will do.
        """
        found = await self._shop.documents.stuck(older_than_s=2 * self._lease_s, waiting_s=_PATIENCE_S)
        now, now_s = self._clock.now(), self._clock.monotonic()
        self._requeued = {key: until_s for key, until_s in self._requeued.items() if until_s > now_s}
        lost = [
            document
            for document in found
            if _loss(document) not in self._requeued
            # One that was put off is not lost before its time.
            and (
                document.status is not DocumentStatus.QUEUED
                or (now - document.updated_at).total_seconds() > self._delay_s(document) + 2 * self._lease_s
            )
        ]
        if lost:
            await self._shop.queue.put([task_for(document) for document in lost])
            # Their messages wait behind those of others: more of them would only make the queue longer.
            self._requeued |= {_loss(document): now_s + self._again_s(document) for document in lost}
            self._telemetry.log(logging.WARNING, "documents_requeued", documents=len(lost))
        return len(lost)

    async def _ingest(self, document: Document, progress: _Progress) -> None:
        """From bytes to a version that is searched."""
        content = await self._content(document)
        await progress.note(DocumentStatus.PARSING)
        parsed = await self._parsed(content, document)
        await progress.note(DocumentStatus.EMBEDDING, pages=parsed.pages, warnings=parsed.warnings)
        title = document.title or parsed.title
        chunks = await asyncio.to_thread(self._chunks, parsed, title or document.name or document.source, document)
        model = self._shop.model()
        vectors = await self._embedder.vectors(document, chunks, model, progress.worker)
        ready = replace(
            document,
            title=title,
            label=max((document.label, *(chunk.label for chunk in chunks))),
            pages=parsed.pages,
            warnings=parsed.warnings,
        )
        if not await self._shop.documents.publish(
            ready, chunks, [vectors[chunk.sha] for chunk in chunks], model=model, worker=progress.worker
        ):
            raise LeaseLost
        self._telemetry.count("documents_ingested", outcome="ready")
        self._telemetry.count("chunks_published", len(chunks))
        await self._forget(document.blob)

    async def _content(self, document: Document) -> bytes:
        try:
            content = await self._shop.blobs.get(document.blob, max_bytes=MAX_DOCUMENT_BYTES)
        except (NotFound, RequestTooLarge):
            raise DocumentUnreadable("Its bytes are not here any more. Send it again.") from None
        if await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest()) != document.sha:
            raise DocumentUnreadable("Its bytes were changed after it was sent. Send it again.")
        return content

    async def _parsed(self, content: bytes, document: Document) -> ParsedDocument:
        try:
            return await self._shop.parser.parse(content, media_type=document.media_type, name=document.name)
        except NeedsOcr:
            if self._shop.ocr is None:
                raise
        return await self._shop.ocr.parse(content, media_type=document.media_type, name=document.name)

    def _chunks(self, parsed: ParsedDocument, title: str, document: Document) -> list[Chunk]:
        """Chunks with their labels. Takes a while for long documents: runs in a thread."""
        scanner = self._scanner_for(self._shop.detection())
        return [
            replace(chunk, label=level_of(scanner.scan(chunk.full_text, "chunk"), document.label))
            for chunk in cut(parsed, title=title, count_tokens=estimate_tokens)
        ]

    def _scanner_for(self, rules: DetectionRules) -> Scanner:
        if self._scanner[0] != rules:
            self._scanner = (rules, Scanner(rules))
        return self._scanner[1]

    async def _held(self, progress: _Progress, work: Coroutine[Any, Any, None]) -> None:
        """Do the work while the lease is held, and stop when it is lost."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=self._lease_s / 3))[0]:
                # The lease is longer than two of these: one that fails does not lose it.
                with contextlib.suppress(DependencyUnavailable):
                    await progress.hold()
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _end(
        self, document: Document, worker: str, status: DocumentStatus, reason: str, *, pages: int | None = None
    ) -> None:
        """Note why it ends here. Its bytes stay, so that it can be tried again."""
        await self._shop.documents.advance(document, worker=worker, status=status, reason=reason, pages=pages)
        self._telemetry.count("documents_ingested", outcome=status.value)

    async def _again(self, document: Document, worker: str, error: Exception) -> None:
        """Put it off, or give it up after so many attempts."""
        code = error.code if isinstance(error, RouterError) else type(error).__name__
        self._telemetry.log(
            logging.WARNING, "ingestion_failed", document=document.id, attempt=document.attempts, error=code
        )
        reason = _reason(error) if isinstance(error, RouterError) else _DEFECT.replace("{id}", document.id)
        if document.attempts >= MAX_ATTEMPTS:
            await self._end(document, worker, DocumentStatus.FAILED, reason)
            return
        held = await self._shop.documents.advance(
            document, worker=worker, status=DocumentStatus.QUEUED, reason=f"It is tried again. {reason}"
        )
        if held:
            asked_s = error.retry_after_s if isinstance(error, RouterError) else None
            delay_s = max(self._delay_s(document), min(math.ceil(asked_s or 0), max(DELAYS_S)))
            await self._shop.queue.put([task_for(document)], delay_s=delay_s)
            self._telemetry.count("documents_ingested", outcome="put_off")

    def _again_s(self, document: Document) -> float:
        """For how long this process announces one loss no second time."""
        return 10 * self._lease_s if document.attempts else _PATIENCE_S

    def _delay_s(self, document: Document) -> int:
        """How long a version waits that was tried so often."""
        return self._delays_s[min(document.attempts, len(self._delays_s)) - 1] if document.attempts else 0

    async def _clear(self, task: IngestionTask) -> None:
        """Delete the bytes of a version that is done or replaced."""
        document = await self._shop.documents.get(task.tenant_id, task.document_id)
        is_over = document is None or document.status in {DocumentStatus.READY, DocumentStatus.DELETED}
        if is_over or (document is not None and document.blob != task.blob):
            await self._forget(task.blob)

    async def _forget(self, blob: str) -> None:
        try:
            if blob:
                await self._shop.blobs.delete(blob)
        except DependencyUnavailable:
            self._telemetry.count("ingestion_blobs_left")


def _loss(document: Document) -> tuple[str, int, int]:
    """Tells one loss of a version from the next."""
    return document.id, document.version, document.attempts


def _reason(error: RouterError) -> str:
    """What stands in the way, in words for the document's owner."""
    if isinstance(error, NoEligibleModel):
        return (
            "No embedding model may see all of it: it holds content of a level, or is for a region, that none is "
            f"cleared for. Take that out, or have a model cleared. ({error.message})"
        )
    if isinstance(error, BudgetExceeded):
        return f"The budget for its vectors is spent: {error.message}. Try again when there is money."
    return f"Its vectors could not be made: {error.message}."
