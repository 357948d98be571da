"""The part that exports."""

from shared.container.contents import Exports
from shared.container.ground import Ground
from shared.services.export_work import ExportShop, ExportWork
from shared.services.exporting import ExportDesk
from shared.stores.blobs import open_container
from shared.stores.export_blobs import EXPORTS_CONTAINER, AzureExportFiles
from shared.stores.export_files import file_of
from shared.stores.ingestion_queue import EXPORT_QUEUE, StorageExportQueue
from shared.stores.postgres.export_jobs import PostgresExportJobs
from shared.stores.postgres.export_rows import PostgresExportRows
from shared.stores.queue_spill import open_queue


def build_exports(ground: Ground) -> Exports:
    """Exports, on connections of their own."""
    # A pool of its own, and a small one: exports wait for each other, never the ledger for them.
    pool = ground.pool_for("exports", max_size=3, statement_timeout_s=30.0)
    settings, clock, ids, telemetry = ground.settings, ground.clock, ground.ids, ground.telemetry
    files = ground.closes(
        AzureExportFiles(
            open_container(EXPORTS_CONTAINER, **ground.storage),
            None if settings.storage_connection_string else ground.entra,
            https_only=settings.environment == "production",
        )
    )
    queue = ground.closes(StorageExportQueue(open_queue(EXPORT_QUEUE, **ground.storage)))
    shop = ExportShop(PostgresExportRows(pool), file_of, PostgresExportJobs(pool), files, queue)
    desk = ExportDesk(shop.rows, file_of, shop.jobs, files, queue, clock, ids, telemetry)
    return Exports(desk, ExportWork(shop, clock, ids, telemetry))
