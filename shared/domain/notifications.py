"""What people are told when an alert begins, goes on or ends, before anybody knows how it travels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is, worst first."""

    CRITICAL = "critical"
    """Somebody has to look now."""
    WARNING = "warning"
    INFO = "info"


class Occasion(StrEnum):
    """Why somebody is told."""

    FIRING = "firing"
    REMINDER = "reminder"
    """It still fires."""
    ESCALATION = "escalation"
    """It still fires, and nobody of those told first has ended it."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one channel.

    Attributes:
        id: says which message it is: made from the incident, the occasion, its number and the channel, so that writing
            it twice is writing it once, and receivers can tell a repeated delivery.
        tenant_id: whose alert it is.
        channel: name of the channel it goes to.
        rule_id, rule_name: of the rule.
        incident_id: the same from firing to resolved.
        group: what the incident is about, such as the model or the service; empty: all of it.
        value, threshold: what was measured and what it was held against, in `unit`; None where there is none.
        summary: one sentence for people.
        runbook_url: where it says what to do; empty: nowhere.
        started_at: when the condition began to hold.
        resolved_at: when it ended; None while it fires.
        created_at: when this message was decided on.
    """

    id: str
    tenant_id: str
    channel: str
    occasion: Occasion
    severity: Severity
    rule_id: str
    rule_name: str
    incident_id: str
    summary: str
    started_at: datetime
    created_at: datetime
    group: Mapping[str, str] = field(default_factory=dict)
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    runbook_url: str = ""
    resolved_at: datetime | None = None
