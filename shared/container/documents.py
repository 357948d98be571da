"""The part that takes documents in."""

import contextlib

from azure.core.credentials_async import AsyncTokenCredential

from shared.config import Settings
from shared.container.contents import Ingestion
from shared.container.storage import StorageAccess, storage_access
from shared.domain.errors import ModelNotFound
from shared.domain.models import Registry
from shared.ports import (
    Clock,
    Ids,
    Telemetry,
)
from shared.providers.parsing.sandbox import SandboxedParser
from shared.services.ingestion import IngestionService
from shared.services.ingestion_work import IngestionWork, Workshop
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.stores.blobs import INBOX_CONTAINER, INGESTION_CONTAINER, AzureBlobStore, open_container
from shared.stores.ingestion_queue import INGESTION_QUEUE, StorageIngestionQueue
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.pool import PasswordSource, PostgresPool
from shared.stores.queue_spill import open_queue


def build_ingestion(
    settings: Settings,
    entra: AsyncTokenCredential | None,
    password: PasswordSource | None,
    embeddings: RoutingService,
    vectors: Shelf,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> Ingestion:
    """Documents coming in, on connections of their own."""
    # A pool of its own: publishing a long document must not hold up the ledger.
    pool = PostgresPool(
        settings.postgres_dsn,
        password_source=password,
        application_name="llm-router-ingestion",
        max_size=4,
        statement_timeout_s=60.0,
    )
    closing.push_async_callback(pool.aclose)
    storage = storage_access(settings, entra)
    blobs = waiting_bytes(storage, closing)
    inbox = AzureBlobStore(open_container(INBOX_CONTAINER, **storage))
    closing.push_async_callback(inbox.aclose)
    queue = StorageIngestionQueue(open_queue(INGESTION_QUEUE, **storage))
    closing.push_async_callback(queue.aclose)
    documents = PostgresDocumentStore(pool)
    shop = Workshop(
        documents=documents,
        blobs=blobs,
        queue=queue,
        parser=SandboxedParser(telemetry),
        embeddings=embeddings,
        model=lambda: usual_model(vectors.registry),
        detection=lambda: vectors.policy.detection,
    )
    desk = IngestionService(documents, blobs, inbox, queue, ids, telemetry)
    return Ingestion(desk, IngestionWork(shop, clock, ids, telemetry))


def waiting_bytes(storage: StorageAccess, closing: contextlib.AsyncExitStack) -> AzureBlobStore:
    """Where the bytes of documents wait to be ingested."""
    blobs = AzureBlobStore(open_container(INGESTION_CONTAINER, **storage))
    closing.push_async_callback(blobs.aclose)
    return blobs


def usual_model(embeddings: Registry) -> str:
    """The embedding model that is used where none is named."""
    found = embeddings.resolve("auto")
    if found is None:
        raise ModelNotFound("the registry gives no embedding model the alias auto", param="model")
    return found.id
