"""The in-memory twins of the receipts' stores."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from shared.domain.errors import DependencyUnavailable, InternalError
from shared.domain.receipts import (
    GENESIS,
    ChainHead,
    ChainSection,
    ReceiptRow,
    chain_of,
    month_of,
    placed_body,
    unplaced_body,
)
from shared.domain.records import RequestRecord
from shared.domain.tombstones import link_hash


class MemoryReceiptStore:
    """`ReceiptStore` in lists by chain, `rows`, and their `heads_by_chain`.

    Args:
        writer: names the chains that `append` writes.
    """

    def __init__(self, writer: str = "memory") -> None:
        self.rows: dict[str, list[ReceiptRow]] = {}
        self.heads_by_chain: dict[str, ChainHead] = {}
        self.away = False
        self._writer = writer

    def append(self, records: Sequence[RequestRecord]) -> None:
        """Chain the receipts of records that are new to the ledger."""
        for record in sorted(records, key=lambda r: (chain_of(self._writer, r.start_time), r.id)):
            if record.receipt is not None:
                self._append(record)

    def _append(self, record: RequestRecord) -> None:
        chain = chain_of(self._writer, record.start_time)
        head = self.heads_by_chain.get(chain, ChainHead(chain, 0, GENESIS))
        sequence = head.sequence + 1
        body = placed_body(chain, sequence, unplaced_body(record))
        own_hash = link_hash(head.hash, body)
        start = record.start_time.astimezone(UTC)
        row = ReceiptRow(chain, sequence, record.id, record.tenant_id, start, head.hash, own_hash, body)
        self.rows.setdefault(chain, []).append(row)
        self.heads_by_chain[chain] = ChainHead(chain, sequence, own_hash)

    async def receipt(self, request_id: str, *, tenant_id: str) -> ReceiptRow | None:
        """The receipt of a tenant's request, or None.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        wanted = (request_id, tenant_id)
        rows = (row for rows in self.rows.values() for row in rows)
        return next((row for row in rows if (row.request_id, row.tenant_id) == wanted), None)

    async def section(self, chain: str, *, first: int, last: int) -> ChainSection:
        """The rows of a chain from one sequence to another, and its head.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        rows = tuple(row for row in self.rows.get(chain, ()) if first <= row.sequence <= last)
        return ChainSection(rows, self.heads_by_chain.get(chain))

    async def heads(self, *, since: datetime) -> Sequence[ChainHead]:
        """The heads of all chains of the month (UTC) of `since` and later ones.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return [head for chain, head in sorted(self.heads_by_chain.items()) if chain[-7:] >= month_of(since)]

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("switched away")


class MemoryConfigurationArchive:
    """`ConfigurationArchive` in a dictionary, `documents`."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], str] = {}
        self.away = False

    async def keep(self, kind: str, version: str, document: str) -> None:
        """Keep a document; one that is there already is left alone.

        Raises:
            DependencyUnavailable: while `away`.
            InternalError: the version is not the document's.
        """
        self._answer()
        if hashlib.sha256(document.encode()).hexdigest() != version:
            raise InternalError("a document of another version")
        self.documents.setdefault((kind, version), document)

    async def document(self, kind: str, version: str) -> str | None:
        """The document of that version, or None.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return self.documents.get((kind, version))

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("switched away")
