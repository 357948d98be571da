"""The part that takes documents in."""

from shared.container.contents import Ingestion
from shared.container.ground import Ground
from shared.domain.errors import ModelNotFound
from shared.domain.models import Registry
from shared.providers.parsing.sandbox import SandboxedParser
from shared.services.ingestion import IngestionService
from shared.services.ingestion_work import IngestionWork, Workshop
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.stores.blobs import INBOX_CONTAINER, INGESTION_CONTAINER, AzureBlobStore, open_container
from shared.stores.ingestion_queue import INGESTION_QUEUE, StorageIngestionQueue
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.queue_spill import open_queue


def build_ingestion(ground: Ground, embeddings: RoutingService, vectors: Shelf) -> Ingestion:
    """Documents coming in, on connections of their own."""
    # A pool of its own: publishing a long document must not hold up the ledger.
    pool = ground.pool_for("ingestion", max_size=4, statement_timeout_s=60.0)
    blobs = waiting_bytes(ground)
    inbox = ground.closes(AzureBlobStore(open_container(INBOX_CONTAINER, **ground.storage)))
    queue = ground.closes(StorageIngestionQueue(open_queue(INGESTION_QUEUE, **ground.storage)))
    documents = PostgresDocumentStore(pool)
    shop = Workshop(
        documents=documents,
        blobs=blobs,
        queue=queue,
        parser=SandboxedParser(ground.telemetry),
        embeddings=embeddings,
        model=lambda: usual_model(vectors.registry),
        detection=lambda: vectors.policy.detection,
    )
    desk = IngestionService(documents, blobs, inbox, queue, ground.ids, ground.telemetry)
    return Ingestion(desk, IngestionWork(shop, ground.clock, ground.ids, ground.telemetry))


def waiting_bytes(ground: Ground) -> AzureBlobStore:
    """Where the bytes of documents wait to be ingested."""
    return ground.closes(AzureBlobStore(open_container(INGESTION_CONTAINER, **ground.storage)))


def usual_model(embeddings: Registry) -> str:
    """The embedding model that is used where none is named."""
    found = embeddings.resolve("auto")
    if found is None:
        raise ModelNotFound("the registry gives no embedding model the alias auto", param="model")
    return found.id
