"""How long what is kept, by class. Months are calendar months, UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class RetentionClass(StrEnum):
    """What is kept for the same time."""

    RECORDS = "records"
    """Request records, their attempts and receipts, and sums of budgets whose period is over."""
    AUDIT = "audit"
    """The audit trail and the certificates of erasures."""
    EVENTS = "events"
    """Security events, sightings of principals, resolved findings."""


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """Attributes: whole months for which each class is kept after the one it belongs to; and whether it is enforced."""

    records_months: int = 13
    audit_months: int = 24
    events_months: int = 13
    enforced: bool = True

    def cutoff(self, kind: RetentionClass, now: datetime) -> datetime:
        """The start of the oldest month of a class that is kept."""
        months = {
            RetentionClass.RECORDS: self.records_months,
            RetentionClass.AUDIT: self.audit_months,
            RetentionClass.EVENTS: self.events_months,
        }[kind]
        return month_start(now, -months)


@dataclass(frozen=True, slots=True)
class RetentionDue:
    """What of a store is older than its class is kept.

    Attributes:
        what: a partition, or a table and what of it.
        rows: how many; None: not counted, a partition leaves as a whole.
    """

    kind: RetentionClass
    what: str
    rows: int | None = None


def month_start(instant: datetime, months: int = 0) -> datetime:
    """The first instant (UTC) of a month, so many months from that of `instant`."""
    here = instant.astimezone(UTC)
    years, month = divmod(here.year * 12 + here.month - 1 + months, 12)
    return datetime(years, month + 1, 1, tzinfo=UTC)
