"""The part that exports."""

import contextlib

from azure.core.credentials_async import AsyncTokenCredential

from shared.config import Settings
from shared.container.contents import Exports
from shared.container.storage import storage_access
from shared.ports import Clock, Ids, Telemetry
from shared.services.export_work import ExportShop, ExportWork
from shared.services.exporting import ExportDesk
from shared.stores.blobs import open_container
from shared.stores.export_blobs import EXPORTS_CONTAINER, AzureExportFiles
from shared.stores.export_files import file_of
from shared.stores.ingestion_queue import EXPORT_QUEUE, StorageExportQueue
from shared.stores.postgres.export_jobs import PostgresExportJobs
from shared.stores.postgres.export_rows import PostgresExportRows
from shared.stores.postgres.pool import PasswordSource, PostgresPool
from shared.stores.queue_spill import open_queue


def build_exports(
    settings: Settings,
    entra: AsyncTokenCredential | None,
    password: PasswordSource | None,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> Exports:
    """Exports, on connections of their own."""
    # A pool of its own, and a small one: exports wait for each other, never the ledger for them.
    pool = PostgresPool(
        settings.postgres_dsn,
        password_source=password,
        application_name="llm-router-exports",
        max_size=3,
        statement_timeout_s=30.0,
    )
    closing.push_async_callback(pool.aclose)
    storage = storage_access(settings, entra)
    files = AzureExportFiles(
        open_container(EXPORTS_CONTAINER, **storage),
        None if settings.storage_connection_string else entra,
        https_only=settings.environment == "production",
    )
    closing.push_async_callback(files.aclose)
    queue = StorageExportQueue(open_queue(EXPORT_QUEUE, **storage))
    closing.push_async_callback(queue.aclose)
    shop = ExportShop(PostgresExportRows(pool), file_of, PostgresExportJobs(pool), files, queue)
    desk = ExportDesk(shop.rows, file_of, shop.jobs, files, queue, clock, ids, telemetry)
    return Exports(desk, ExportWork(shop, clock, ids, telemetry))
