"""A working in-memory twin of every stateful port, for tests: one contract suite runs on these and on the real ones.

A twin that has an `away` switch behaves, while it is set, like a dependency that does not answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.domain.errors import DependencyUnavailable
from shared.domain.record_bounds import storable
from shared.domain.record_codec import MAX_DOCUMENT_BYTES, decode, encode_within
from shared.domain.records import RequestRecord, RequestStatus
from shared.ports import Clock
from shared.stores.memory_receipts import MemoryReceiptStore

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """`Clock` that moves only when it is told to.

    Args:
        start: what `now` says first; `monotonic` starts at 0.
    """

    def __init__(self, start: datetime = _EPOCH) -> None:
        self._start = start
        self._elapsed = timedelta()

    def now(self) -> datetime:
        """The current instant, aware, UTC."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._elapsed.total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._elapsed += timedelta(seconds=seconds)


class SequentialIds:
    """`Ids` that are the same in every run: UUIDv7 of a fixed instant, counting up."""

    def __init__(self) -> None:
        self._count = 0

    def request_id(self) -> str:
        """The next id; its last digits are its number, from 1."""
        self._count += 1
        milliseconds = int(_EPOCH.timestamp() * 1000)
        return str(UUID(int=(milliseconds << 80) | (0x7 << 76) | (0b10 << 62) | self._count))


class MemoryRecordStore:
    """`RecordStore` and `LedgerMaintenance` in a dictionary, `by_id`; receipts are chained in `receipts`."""

    def __init__(self) -> None:
        self.by_id: dict[str, RequestRecord] = {}
        self.receipts = MemoryReceiptStore()
        self.away = False

    async def insert(self, records: Sequence[RequestRecord]) -> int:
        """Keep records; ids that are there already are left alone.

        Raises:
            DependencyUnavailable: while `away`.
            ValueError: a record is not well made.
        """
        mended = [storable(record) for record in records]
        _answer(self.away)
        # The first of each id, as in the ledger.
        new = {record.id: record for record in reversed(mended) if record.id not in self.by_id}
        self.receipts.append(list(new.values()))
        self.by_id |= {key: replace(new[key], receipt=None) for key in reversed(new)}
        return len(new)

    async def get(self, request_id: str, *, tenant_id: str) -> RequestRecord | None:
        """One record of a tenant, or None.

        Raises:
            DependencyUnavailable: while `away`.
        """
        _answer(self.away)
        record = self.by_id.get(request_id)
        return record if record is not None and record.tenant_id == tenant_id else None

    async def prepare_partitions(self) -> None:
        """Nothing to prepare.

        Raises:
            DependencyUnavailable: while `away`.
        """
        _answer(self.away)


class MemorySpill:
    """`RecordSpill` in a list of messages, `messages`, each a document as in the queue.

    Args:
        max_bytes: of a message.
    """

    def __init__(self, max_bytes: int = MAX_DOCUMENT_BYTES) -> None:
        self.messages: list[str] = []
        self.away = False
        self._max_bytes = max_bytes

    async def put(self, records: Sequence[RequestRecord]) -> None:
        """Keep records.

        Raises:
            DependencyUnavailable: while `away`.
            ValueError: a record is not well made, or longer than a message.
        """
        documents = encode_within([storable(record) for record in records], self._max_bytes)
        _answer(self.away)
        self.messages += documents

    def take(self) -> tuple[RequestRecord, ...]:
        """Empty the queue, as its consumer does."""
        messages, self.messages = self.messages, []
        return tuple(record for message in messages for record in decode(message))


@dataclass
class _Pages:
    """What one process wrote."""

    opened: dict[str, RequestRecord] = field(default_factory=dict)
    finished: dict[str, RequestRecord] = field(default_factory=dict)
    last_sign_of_life: datetime = _EPOCH
    owner: "MemoryJournal | None" = None


class MemoryMachine:
    """What the journals of one machine share; it outlives the processes, which `MemoryJournal.die` ends.

    Args:
        clock: says when a process gave its last sign of life.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.pages: list[_Pages] = []


class MemoryJournal:
    """`RecordJournal` of one process on a `MemoryMachine`; its own machine when none is given."""

    def __init__(self, machine: MemoryMachine | None = None) -> None:
        self._machine = machine or MemoryMachine()
        self._own = _Pages(owner=self)
        self._machine.pages.append(self._own)

    def opened(self, record: RequestRecord) -> None:
        """Note an admitted request; may be repeated."""
        self._own.opened[record.id] = record
        self._own.last_sign_of_life = self._machine.clock.now()

    def finished(self, record: RequestRecord) -> None:
        """Note the final record."""
        self._own.opened.pop(record.id, None)
        self._own.finished[record.id] = record
        self._own.last_sign_of_life = self._machine.clock.now()

    def stored(self, request_ids: Sequence[str]) -> None:
        """Forget requests that are stored."""
        for request_id in request_ids:
            self._own.opened.pop(request_id, None)
            self._own.finished.pop(request_id, None)

    def recover(self) -> Sequence[RequestRecord]:
        """Claim the pages of dead processes and read them."""
        records: list[RequestRecord] = []
        for pages in self._machine.pages:
            if pages.owner is None:
                pages.owner = self
                records += pages.finished.values()
                for record in pages.opened.values():
                    end = max(record.start_time, pages.last_sign_of_life)
                    records.append(replace(record, status=RequestStatus.ABANDONED, end_time=end))
        return records

    def discard(self) -> None:
        """Tear the claimed pages out."""
        pages = self._machine.pages
        self._machine.pages = [page for page in pages if page is self._own or page.owner is not self]

    def die(self) -> None:
        """End this process as ``kill -9`` does: what it owned, its claims included, is anybody's."""
        for pages in self._machine.pages:
            if pages.owner is self:
                pages.owner = None


def _answer(away: bool) -> None:
    if away:
        raise DependencyUnavailable("switched away")
