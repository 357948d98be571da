"""The audit trail: who did what, when, from where, with what outcome; chained by hash, one chain per writer and day.

A row's body is canonical JSON that names its place and the event; its hash is ``SHA-256(previous hash ||
SHA-256(body))``, as in `shared.domain.receipts`. The head of a chain is kept apart, so a row missing at the end shows
too. No content, no secrets, no raw addresses: a network instead of an address, a hash instead of a user agent.

Of a person who was erased the deeds stay and the name goes: the row keeps its hashes, and its body becomes a tombstone
(`shared.domain.tombstones`) that tells the event under the erasure's pseudonym.
"""

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from shared.domain.canonical import canonical
from shared.domain.dataclass_json import from_values, to_values
from shared.domain.receipts import GENESIS
from shared.domain.tombstones import Tombstone, body_digest, link_hash, link_holds

UNKNOWN_NETWORK = "unknown"
_IPV4_BITS, _IPV6_BITS = 24, 48
_USER_AGENT_DIGITS = 16


class AuditOutcome(StrEnum):
    """How an action ended."""

    SUCCEEDED = "succeeded"
    DENIED = "denied"
    """Refused for who asked."""
    FAILED = "failed"
    """Refused or broken for another reason."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One action.

    Attributes:
        id: of the event, sortable by time.
        actor: the principal's id, or ``anonymous``.
        action: such as ``config.write``; a constant.
        resource: what it was about: a route, an id.
        network: the caller's, as `network_of` writes it.
        user_agent: the first digits of its SHA-256.
        code: the error's, for what did not succeed.
        before, after: SHA-256 of what was changed, in hex.
        suppressed: how many more refusals like this were not written one by one.
    """

    id: str
    at: datetime
    tenant_id: str
    actor: str
    service: str
    action: str
    resource: str
    outcome: AuditOutcome
    request_id: str
    network: str = UNKNOWN_NETWORK
    user_agent: str = ""
    code: str = ""
    before: str = ""
    after: str = ""
    suppressed: int = 0


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An event in its place. `body` is what the hash is taken of."""

    chain: str
    sequence: int
    previous_hash: bytes
    hash: bytes
    body: str

    @property
    def event(self) -> AuditEvent:
        """The event.

        Raises:
            ValueError: the body cannot be read.
        """
        return _read(self.body)[2]


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of a chain, as its writer left it."""

    chain: str
    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which events are wanted; None does not restrict. `before` is exclusive: (instant, event id)."""

    tenant_id: str
    since: datetime
    until: datetime
    actor: str | None = None
    action: str | None = None
    outcome: AuditOutcome | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 100

    def takes(self, event: AuditEvent) -> bool:
        """Whether an event is wanted."""
        return (
            event.tenant_id == self.tenant_id
            and self.since <= event.at < self.until
            and self.actor in (None, event.actor)
            and self.action in (None, event.action)
            and self.outcome in (None, event.outcome)
            and (self.before is None or (event.at, event.id) < self.before)
        )


@dataclass(frozen=True, slots=True)
class AuditFault:
    """The first place at which a chain does not hold."""

    chain: str
    sequence: int
    reason: str


def chain_name(writer: str, instant: datetime) -> str:
    """The chain of a writer's events of a day (UTC); sorts by day."""
    return f"{day_of(instant)}~{writer}"


def day_of(instant: datetime) -> str:
    """The day (UTC) at the beginning of a chain's name."""
    return f"{instant.astimezone(UTC):%Y-%m-%d}"


def placed(event: AuditEvent, head: AuditHead) -> AuditRow:
    """The event as the row that follows a head."""
    sequence = head.sequence + 1
    body = canonical({"chain": head.chain, "event": to_values(event), "sequence": sequence}).decode()
    return AuditRow(head.chain, sequence, head.hash, link_hash(head.hash, body), body)


def erased_row(row: AuditRow, erasure_id: str, told: AuditEvent) -> AuditRow:
    """The row with a tombstone for a body, in which the event is told without whom it was about.

    The hash of what was there first stays, however often a row is erased.
    """
    values = {"chain": row.chain, "event": to_values(told), "sequence": row.sequence}
    return replace(row, body=canonical(values | Tombstone(erasure_id, body_digest(row.body)).field()).decode())


def head_after(row: AuditRow) -> AuditHead:
    """The head once a row is written."""
    return AuditHead(row.chain, row.sequence, row.hash)


def empty_head(chain: str) -> AuditHead:
    """The head of a chain without rows."""
    return AuditHead(chain, 0, GENESIS)


def first_fault(chain: str, rows: Iterable[AuditRow], head: AuditHead | None) -> AuditFault | None:
    """Walk a whole chain in order; None when nothing was altered, added or taken away."""
    expected, previous = 1, GENESIS
    for row in rows:
        if reason := _row_fault(row, chain, expected, previous):
            return AuditFault(chain, expected, reason)
        expected, previous = expected + 1, row.hash
    if head is None:
        return AuditFault(chain, expected, "the chain has no head")
    if head.sequence != expected - 1:
        return AuditFault(chain, min(expected, head.sequence + 1), "rows are missing or were added at the end")
    if head.hash != previous:
        return AuditFault(chain, head.sequence, "the chain's head has another hash")
    return None


def network_of(address: str) -> str:
    """The network of an address, wide enough not to be a person: /24, or /48 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN_NETWORK
    bits = _IPV4_BITS if parsed.version == 4 else _IPV6_BITS  # noqa: PLR2004 - the protocol's version
    return str(ipaddress.ip_network((parsed, bits), strict=False))


def user_agent_digest(user_agent: str) -> str:
    """Enough of a hash to tell clients apart."""
    return hashlib.sha256(user_agent.encode(errors="replace")).hexdigest()[:_USER_AGENT_DIGITS] if user_agent else ""


def _row_fault(row: AuditRow, chain: str, sequence: int, previous: bytes) -> str | None:
    if row.sequence != sequence:
        return "it is missing"
    if row.previous_hash != previous:
        return "it does not follow the row before it"
    if not link_holds(row.previous_hash, row.body, row.hash):
        return "its content does not match its hash"
    try:
        said = _read(row.body)[:2]
    except ValueError:
        return "its body cannot be read"
    return None if said == (chain, sequence) else "its columns do not match its body"


def _read(body: str) -> tuple[str, int, AuditEvent]:
    try:
        values: Any = json.loads(body)
        return values["chain"], values["sequence"], from_values(AuditEvent, values["event"])
    except (KeyError, TypeError) as error:
        raise ValueError("no audit row") from error
