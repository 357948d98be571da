"""The ledger's writer: off the response path, in batches, and nothing is lost when PostgreSQL or the worker dies.

A request is noted in the local journal when it is admitted and again when it ends; a background task writes ended
requests to the ledger in batches and, when the ledger is away, to the spill queue. What neither takes stays in the
journal and in memory, and is tried again. After a crash the next process recovers the journals of the dead.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from shared.domain.errors import DependencyUnavailable, InternalError
from shared.domain.records import RequestRecord
from shared.domain.security_events import events_of
from shared.ports import RecordJournal, RecordSpill, RecordStore, SecurityEvents, Telemetry
from shared.services.background import BackgroundWork
from shared.services.bookkeeping import Bookkeeper

_BATCH = 200
_LINGER_S = 0.02
"""How long the writer waits for company before it writes: bounds both the delay and the number of transactions."""
_RETRY_S = 1.0
_MOST_PENDING = 20_000
"""Records kept in memory while nothing takes them; from then on no request is admitted that could not be recorded."""
_LEDGER_BACK_OFF_S = 5.0
"""After a failed insert the spill is used directly for this long, so that a dead ledger costs no waiting."""


class RecordWriter(BackgroundWork):
    """Writes request records behind the response.

    Args:
        store: the ledger.
        spill: where records wait while the ledger is away.
        journal: survives the process.
        telemetry: counts what was written where.
        books: is told what the ledger holds, so that budgets are charged with it.
        events: is told what looked wrong about a request.
    """

    def __init__(
        self,
        store: RecordStore,
        spill: RecordSpill,
        journal: RecordJournal,
        telemetry: Telemetry,
        books: Bookkeeper | None = None,
        events: SecurityEvents | None = None,
    ) -> None:
        super().__init__("record-writer")
        self._store = store
        self._books = books
        self._events = events
        self._spill = spill
        self._journal = journal
        self._telemetry = telemetry
        self._pending: deque[RequestRecord] = deque()
        self._spill_until = 0.0

    def ensure_room(self) -> None:
        """Refuse a request that could not be recorded, before it is admitted.

        Raises:
            DependencyUnavailable: neither ledger nor queue has taken records for so long that no more can be kept.
        """
        if len(self._pending) >= _MOST_PENDING:
            raise DependencyUnavailable("requests cannot be recorded at the moment", retry_after_s=_LEDGER_BACK_OFF_S)

    def opened(self, record: RequestRecord) -> None:
        """Note an admitted request, as it is to be recorded if the process dies now; may be repeated as it goes on."""
        self._journal.opened(record)

    def finished(self, record: RequestRecord) -> None:
        """Take the final record of a request."""
        self._journal.finished(record)
        self._pending.append(record)
        if self._events is not None and record.tags:
            for event in events_of(record):
                self._events.note(event)
        self._wake.set()

    async def recover(self) -> int:
        """Write what dead processes left in their journals; returns how many records that were.

        Raises:
            DependencyUnavailable: neither ledger nor spill took them; they stay in the journals.
        """
        # Journals are files: claiming and reading them would stall the event loop.
        records = await asyncio.to_thread(self._journal.recover)
        for start in range(0, len(records), _BATCH):
            await self._write(records[start : start + _BATCH])
        await asyncio.to_thread(self._journal.discard)
        if records:
            self._telemetry.log(logging.WARNING, "records_recovered", count=len(records))
        return len(records)

    async def insert(self, records: Sequence[RequestRecord]) -> int:
        """Insert records that waited in the spill; returns how many were new.

        Raises:
            DependencyUnavailable: the ledger is away; the queue keeps them.
        """
        inserted = await self._store.insert(records)
        if self._books is not None:
            self._books.stored(records)
        return inserted

    async def take_back(self, records: Sequence[RequestRecord]) -> None:
        """Insert records that the spill's queue gave up, or put them there again while the ledger is still away.

        Raises:
            DependencyUnavailable: neither ledger nor spill took them; the queue keeps them.
            InternalError: the ledger is there and refuses some of them; all others are in it.
        """
        try:
            await self.insert(records)
        except DependencyUnavailable:
            # The queue counts deliveries, and an outage may last for more of them than it allows.
            await self._spill.put(records)
            self._telemetry.log(logging.WARNING, "records_queued_again", count=len(records))
        except Exception:  # noqa: BLE001 - whatever it is, the records beside the refused one are to be kept
            if not await self._insert_singly(records):
                raise InternalError("the ledger refused a record") from None

    async def _insert_singly(self, records: Sequence[RequestRecord]) -> bool:
        """Insert records one by one, and report each that is refused; whether none was."""
        all_in = True
        for record in records:
            try:
                await self.insert([record])
            except DependencyUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - see above
                self._telemetry.log(logging.ERROR, "record_refused", request_id=record.id, error=type(error).__name__)
                all_in = False
        return all_in

    async def _run(self) -> None:
        while self._pending or not self._closing:
            if not self._pending:
                self._wake.clear()
                await self._wake.wait()
                if not self._closing:
                    await asyncio.sleep(_LINGER_S)
                continue
            batch = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
            try:
                await self._write(batch)
            except DependencyUnavailable:
                self._pending.extendleft(reversed(batch))
                self._telemetry.count("records_delayed", len(batch))
                if self._closing:
                    return
                await asyncio.sleep(_RETRY_S)
            except Exception:  # noqa: BLE001 - one record that no store takes must not stop the ledger
                await self._write_singly(batch)
            else:
                self._journal.stored([record.id for record in batch])

    async def _write_singly(self, batch: Sequence[RequestRecord]) -> None:
        """Write a refused batch one by one; what is refused alone stays in the journal and is reported."""
        for record in batch:
            try:
                await self._write([record])
            except Exception as error:  # noqa: BLE001 - see above
                self._telemetry.log(logging.ERROR, "record_refused", request_id=record.id, error=type(error).__name__)
            else:
                self._journal.stored([record.id])

    async def _write(self, batch: Sequence[RequestRecord]) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._spill_until:
            try:
                await self._store.insert(batch)
            except DependencyUnavailable:
                self._spill_until = now + _LEDGER_BACK_OFF_S
                self._telemetry.log(logging.WARNING, "ledger_unavailable", count=len(batch))
            else:
                self._telemetry.count("records_stored", len(batch))
                if self._books is not None:
                    self._books.stored(batch)
                return
        await self._spill.put(batch)
        if self._books is not None:
            self._books.spilled(batch)
        self._telemetry.count("records_spilled", len(batch))
