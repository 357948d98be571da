"""Records, receipts, the configurations they name, and where records wait."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from shared.domain.receipts import ChainHead, ChainSection, ReceiptRow
from shared.domain.records import RequestRecord
from shared.domain.storage import TableStorage


class RecordStore(Protocol):
    """The ledger."""

    async def insert(self, records: Sequence[RequestRecord]) -> int:
        """Write records with their attempts in one transaction; ids that are there already are left alone.

        Returns how many were new.

        Raises:
            DependencyUnavailable: nothing was written.
        """
        ...

    async def get(self, request_id: str, *, tenant_id: str) -> RequestRecord | None:
        """One record of a tenant, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class ReceiptStore(Protocol):
    """Decision receipts in their chains. They are written by `RecordStore.insert`, with their records."""

    async def receipt(self, request_id: str, *, tenant_id: str) -> ReceiptRow | None:
        """The receipt of a tenant's request, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def section(self, chain: str, *, first: int, last: int) -> ChainSection:
        """The rows of a chain from one sequence to another, of all tenants, and its head, as of one instant.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def heads(self, *, since: datetime) -> Sequence[ChainHead]:
        """The heads of all chains of the month (UTC) of `since` and later ones.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class ConfigurationArchive(Protocol):
    """Every registry and policy that was in force, by version: without them no old receipt could be repeated."""

    async def keep(self, kind: str, version: str, document: str) -> None:
        """Store a ``registry`` or ``policy`` under the SHA-256 of its document; one that is there is left alone.

        Raises:
            DependencyUnavailable: it was not stored, as far as can be known; storing it again is safe.
            InternalError: the version is not the document's.
        """
        ...

    async def document(self, kind: str, version: str) -> str | None:
        """The document of that version, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class LedgerMaintenance(Protocol):
    """Upkeep of the ledger's tables."""

    async def prepare_partitions(self) -> None:
        """Create the partitions of this month and the coming ones; those that exist are left alone.

        Raises:
            DependencyUnavailable: the ledger is away.
        """
        ...


class StorageUpkeep(Protocol):
    """What tables take up, and indexes that are mostly waste."""

    async def tables(self) -> Sequence[TableStorage]:
        """All tables, the largest first.

        Raises:
            DependencyUnavailable: the database is away.
        """
        ...

    async def rebuild_index(self) -> str | None:
        """Build one index that is mostly waste anew, while it is used; returns its name, or None when none was.

        Raises:
            DependencyUnavailable: the database is away; the old index is as it was.
        """
        ...


class RecordSpill(Protocol):
    """Where records wait while the ledger is away: a queue whose consumer inserts them."""

    async def put(self, records: Sequence[RequestRecord]) -> None:
        """Enqueue records; at least once.

        Raises:
            DependencyUnavailable: nothing, or only a prefix, was enqueued; putting again is safe.
        """
        ...


class RecordJournal(Protocol):
    """A local, append-only note of open and finished requests that outlives the process (not the machine).

    Appends are synchronous and take microseconds: they reach the kernel, not the disk.
    """

    def opened(self, record: RequestRecord) -> None:
        """Note an admitted request, as it would be recorded if the process died now."""
        ...

    def finished(self, record: RequestRecord) -> None:
        """Note the final record."""
        ...

    def stored(self, request_ids: Sequence[str]) -> None:
        """Forget requests that the ledger or the spill now holds."""
        ...

    def recover(self) -> Sequence[RequestRecord]:
        """Records left by dead processes: finished ones as they were, open ones as ABANDONED.

        Claims each dead process's journal exclusively: of N callers exactly one gets it. The claim is released only by
        `discard`, so a caller that dies in between loses nothing.
        """
        ...

    def discard(self) -> None:
        """Delete the journals that this process recovered, once their records are stored."""
        ...
