"""The part that writes down what happened: the ledger of requests, what it costs, and security events."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from shared.container.counting import Counting, build_counting
from shared.container.ground import Ground
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.erased_on_arrival import ErasedOnArrival
from shared.services.recording import RecordWriter
from shared.services.security_events import SecurityEventLog
from shared.services.shelf import Shelf
from shared.stores.journal import FileJournal
from shared.stores.postgres.erasures import PostgresErasures
from shared.stores.postgres.receipts import PostgresConfigurationArchive
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.security_events import PostgresSecurityEvents
from shared.stores.queue_spill import REQUEST_LOG_QUEUE, StorageQueueSpill, open_queue


@dataclass(frozen=True, slots=True)
class Ledger:
    """What writes down.

    Attributes:
        records: the ledger's writer; not yet at work.
        keeper: writes the configurations that records name to `archive`; not yet at work.
        spill: where records wait while the database is away.
        erasures: whom the ledger must not name any more.
        counts: what counts requests and money; at work.
        log: where security events are noted.
    """

    records: RecordWriter
    keeper: ConfigurationKeeper
    archive: PostgresConfigurationArchive
    spill: StorageQueueSpill
    erasures: PostgresErasures
    counts: Counting
    log: SecurityEventLog


def build_ledger(ground: Ground, shelf: Shelf) -> Ledger:
    """The ledger, on the connections that all parts share.

    Raises:
        OSError: the journal's directory cannot be created or written.
    """
    clock, telemetry, pool = ground.clock, ground.telemetry, ground.pool
    spill = ground.closes(StorageQueueSpill(open_queue(REQUEST_LOG_QUEUE, **ground.storage)))
    journal = FileJournal(ground.settings.journal_directory or Path(tempfile.gettempdir()) / "llm-router-journal")
    ground.closing.callback(journal.close)
    counts = build_counting(ground, shelf)
    erasures = PostgresErasures(pool)
    store = ErasedOnArrival(PostgresRecordStore(pool, writer=ground.ids.request_id()), erasures, clock, telemetry)
    log = ground.closes(SecurityEventLog(PostgresSecurityEvents(pool), clock, telemetry))
    archive = PostgresConfigurationArchive(pool)
    return Ledger(
        records=RecordWriter(store, spill, journal, telemetry, counts.books, log),
        keeper=ConfigurationKeeper(archive, telemetry),
        archive=archive,
        spill=spill,
        erasures=erasures,
        counts=counts,
        log=log,
    )
