"""Writing and reading the audit trail.

What changes something is written before its caller is answered (`record`): a deed that cannot be audited is not done
silently. Refusals are noted behind the response (`note`), at most some per minute one by one: whoever knocks a million
times must not fill the trail.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.domain.audit import (
    AuditEvent,
    AuditFault,
    AuditHead,
    AuditQuery,
    chain_name,
    empty_head,
    first_fault,
    head_after,
    placed,
)
from shared.domain.errors import DependencyUnavailable
from shared.domain.tombstones import tombstone_of
from shared.ports import AuditStore, Clock, Telemetry
from shared.services.background import BackgroundWork

_BATCH = 90
"""Rows and head fit one transaction of Azure Tables, which takes 100."""
_DEADLINE_S = 5.0
_RETRY_S = 2.0
_MOST_WAITING = 5_000
_NOTES_PER_MINUTE = 120


@dataclass(slots=True)
class _Waiting:
    event: AuditEvent
    written: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Events, the newest first, and whether there are more."""

    events: tuple[AuditEvent, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class AuditVerification:
    """What walking all chains of some days showed."""

    chains: int
    rows: int
    faults: tuple[AuditFault, ...]
    erased: int = 0
    """Rows that were retold without whom they were about; their places in the chain hold."""

    @property
    def intact(self) -> bool:
        """Whether nothing was altered."""
        return not self.faults


class AuditTrail(BackgroundWork):
    """Writes to one chain of its own.

    Args:
        store: where chains are.
        clock: time.
        telemetry: hears of heads, of what could not be written, and of broken chains.
        writer: names this process's chains; never used twice.
    """

    def __init__(self, store: AuditStore, clock: Clock, telemetry: Telemetry, *, writer: str) -> None:
        super().__init__("audit-writer")
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._writer = writer
        self._waiting: list[_Waiting] = []
        self._head: AuditHead | None = None
        self._minute = -1
        self._noted = 0
        self._suppressed: Counter[tuple[str, str, str]] = Counter()

    async def record(self, event: AuditEvent) -> None:
        """Write an event, and return when it is written.

        Raises:
            DependencyUnavailable: it could not be written in time; it may be later.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise DependencyUnavailable("the audit trail takes nothing more at the moment", retry_after_s=_RETRY_S)
        written = asyncio.get_running_loop().create_future()
        self._put(_Waiting(event, written))
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await asyncio.shield(written)
        except TimeoutError:
            raise DependencyUnavailable("the audit trail cannot be written", retry_after_s=_RETRY_S) from None

    def note(self, event: AuditEvent) -> None:
        """Write an event behind the response. Beyond some per minute only their number is kept, by kind."""
        minute = int(self._clock.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._noted = minute, 0
        key = (event.tenant_id, event.action, event.code)
        if self._noted >= _NOTES_PER_MINUTE or len(self._waiting) >= _MOST_WAITING:
            self._suppressed[key] += 1
            return
        self._noted += 1
        self._put(_Waiting(replace(event, suppressed=self._suppressed.pop(key, 0))))

    async def page(self, query: AuditQuery) -> AuditPage:
        """Events of a tenant, the newest first.

        Raises:
            DependencyUnavailable: the store is away.
        """
        events = await self._store.events(replace(query, limit=query.limit + 1))
        return AuditPage(tuple(events[: query.limit]), has_more=len(events) > query.limit)

    async def verify(self, query: AuditQuery) -> AuditVerification:
        """Walk every chain of the days of a query, of all tenants: chains hold rows of several.

        Raises:
            DependencyUnavailable: the store is away.
        """
        chains, rows, erased, faults = 0, 0, 0, []
        async for chain, found, head in self._store.chains(query.since, query.until):
            chains, rows = chains + 1, rows + len(found)
            erased += sum(tombstone_of(row.body) is not None for row in found)
            if fault := first_fault(chain, found, head):
                faults.append(fault)
                self._telemetry.log(logging.ERROR, "audit_chain_broken", chain=chain, sequence=fault.sequence)
        return AuditVerification(chains, rows, tuple(faults), erased)

    def note_head(self) -> None:
        """Log where this process's chain ends, outside the store that holds it."""
        if self._head is not None and self._head.sequence:
            self._telemetry.log(
                logging.INFO,
                "audit_head",
                chain=self._head.chain,
                sequence=self._head.sequence,
                hash=self._head.hash.hex(),
            )

    def _put(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._wake.set()
        if self._task is None:
            self.start()

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._waiting[:_BATCH]
            try:
                await self._write([waiting.event for waiting in batch])
            except DependencyUnavailable:
                self._telemetry.count("audit_delayed", len(batch))
                if self._closing:
                    self._telemetry.log(logging.ERROR, "audit_lost", count=len(self._waiting))
                    return
                await asyncio.sleep(_RETRY_S)
                continue
            del self._waiting[: len(batch)]
            for waiting in batch:
                if waiting.written is not None and not waiting.written.done():
                    waiting.written.set_result(None)

    async def _write(self, events: Sequence[AuditEvent]) -> None:
        chain = chain_name(self._writer, self._clock.now())
        if self._head is None or self._head.chain != chain:
            self.note_head()
            self._head = empty_head(chain)
        head, rows = self._head, []
        for event in events:
            row = placed(event, head)
            rows.append(row)
            head = head_after(row)
        await self._store.append(rows, after=self._head)
        self._head = head
