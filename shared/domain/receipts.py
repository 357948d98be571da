"""Receipts in their chain: what is hashed, how rows hang together, and how a break is found.

A row's body is canonical JSON that names its place (chain and sequence), the request, the decision's receipt and how
the request ended; its hash is ``SHA-256(previous hash || SHA-256(body))``. A chain belongs to one writer and one month
of request starts, so a month that leaves by retention takes whole chains with it. Sequences count from 1 without gaps;
the first row follows 32 zero bytes. The chain's head is kept apart, so a row that is missing at the end shows too. A
row that was erased keeps its hashes and has a tombstone for a body (`shared.domain.tombstones`).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shared.domain.canonical import canonical
from shared.domain.records import RequestRecord
from shared.domain.tombstones import Tombstone, body_digest, link_holds, tombstone_of

GENESIS = bytes(32)
"""What the first row of a chain follows."""


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt as it is stored. The columns beside `body` and the hashes repeat what the body says."""

    chain: str
    sequence: int
    request_id: str
    tenant_id: str
    start_time: datetime
    previous_hash: bytes
    hash: bytes
    body: str


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of a chain, as its writer left it."""

    chain: str
    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class ChainSection:
    """Consecutive rows of one chain, by sequence, and the chain's head."""

    rows: tuple[ReceiptRow, ...]
    head: ChainHead | None


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What a section shows: `broken_at` is the first sequence that does not hold; `reasons` say why.

    `erased` are the sequences whose bodies were erased and whose hashes hold.
    """

    first: int
    last: int
    broken_at: int | None = None
    reasons: tuple[str, ...] = ()
    erased: tuple[int, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether nothing was altered between `first` and `last`."""
        return not self.reasons


def chain_of(writer: str, start_time: datetime) -> str:
    """The chain of a writer's receipts for the month (UTC) in which a request started."""
    return f"{writer}/{month_of(start_time)}"


def month_of(instant: datetime) -> str:
    """The month (UTC) at the end of a chain's name; as texts, later ones are greater."""
    return f"{instant.astimezone(UTC):%Y-%m}"


def unplaced_body(record: RequestRecord, dump: Callable[[Any], bytes] = canonical) -> str:
    """A row's body but for its place: the request, its receipt and its outcome.

    Args:
        record: with its receipt.
        dump: writes canonical JSON, perhaps faster.

    Raises:
        ValueError: the record has no receipt.
    """
    if record.receipt is None:
        raise ValueError(f"record {record.id} has no receipt")
    outcome = {
        "attempts": [[a.deployment_id, a.outcome, str(a.cost_usd)] for a in record.attempts],
        "cost_usd": str(record.cost_usd),
        "deployment": record.deployment_used,
        "status": record.status.value,
    }
    request = {"id": record.id, "start": _instant(record.start_time), "tenant": record.tenant_id}
    # The receipt is canonical already: it stands between its neighbours in the order of their keys.
    return f'{{"decision":{record.receipt},"outcome":{dump(outcome).decode()},"request":{dump(request).decode()}}}'


def placed_body(chain: str, sequence: int, unplaced: str) -> str:
    """The whole body; ``chain`` and ``chain_sequence`` sort before the keys of `unplaced_body`."""
    return f'{{"chain":{_text(chain)},"chain_sequence":{sequence},{unplaced[1:]}'


def erased_row(row: ReceiptRow, erasure_id: str) -> ReceiptRow:
    """The row with a tombstone for a body; one that has a tombstone stays as it is."""
    if tombstone_of(row.body) is not None:
        return row
    values = {"chain": row.chain, "chain_sequence": row.sequence, "request": _request(row)}
    body = canonical(values | Tombstone(erasure_id, body_digest(row.body)).field()).decode()
    return replace(row, body=body)


def row_faults(row: ReceiptRow) -> list[str]:
    """What shows, from the row alone, that it was altered."""
    faults = []
    try:
        if not link_holds(row.previous_hash, row.body, row.hash):
            faults.append("its content does not match its hash")
        body: Any = json.loads(row.body)
        said = (body["chain"], body["chain_sequence"], body["request"])
    except (ValueError, KeyError, TypeError):
        return [*faults, "its body cannot be read"]
    if said != (row.chain, row.sequence, _request(row)):
        faults.append("its columns do not match its body")
    return faults


def check_section(row: ReceiptRow, section: ChainSection, *, first: int, last: int) -> ChainCheck:
    """Check a row and its neighbours.

    Args:
        row: the receipt in question.
        section: the rows of its chain from `first` to `last`, as far as there are any, and the chain's head.
        first: the first sequence asked for, at least 1.
        last: the last one.
    """
    head = section.head
    last = min(last, max(row.sequence, 0 if head is None else head.sequence))
    faults = [(row.sequence, fault) for fault in row_faults(row)]
    faults += _link_faults(section.rows, first, last)
    if head is None:
        faults.append((row.sequence, "the chain has no head"))
    else:
        if head.sequence < row.sequence:
            faults.append((row.sequence, "it stands beyond the chain's head"))
        if any(other.sequence == head.sequence and other.hash != head.hash for other in section.rows):
            faults.append((head.sequence, "the chain's head has another hash"))
    faults.sort(key=lambda fault: fault[0])
    reasons = tuple(dict.fromkeys(f"row {sequence}: {fault}" for sequence, fault in faults))
    erased = tuple(other.sequence for other in section.rows if tombstone_of(other.body) is not None)
    return ChainCheck(first, last, faults[0][0] if faults else None, reasons, erased)


def _link_faults(rows: Sequence[ReceiptRow], first: int, last: int) -> list[tuple[int, str]]:
    faults: list[tuple[int, str]] = []
    expected = first
    before: ReceiptRow | None = None
    for row in rows:
        if row.sequence < expected:
            faults.append((row.sequence, "its place is taken twice"))
            continue
        if row.sequence > expected:
            faults.append((expected, "it is missing"))
        elif before is not None and row.previous_hash != before.hash:
            faults.append((row.sequence, "it does not follow the row before it"))
        if row.sequence == 1 and row.previous_hash != GENESIS:
            faults.append((1, "it follows something, and is the first"))
        faults += [(row.sequence, fault) for fault in row_faults(row)]
        before, expected = row, row.sequence + 1
    if expected <= last:
        faults.append((expected, "it is missing"))
    return faults


def _request(row: ReceiptRow) -> dict[str, str]:
    return {"id": row.request_id, "start": _instant(row.start_time), "tenant": row.tenant_id}


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _text(value: Any) -> str:
    return canonical(value).decode()
