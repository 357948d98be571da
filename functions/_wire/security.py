"""The query, the bodies and the answers of /admin/security."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from functions._wire.parsing import Body
from functions._wire.query import before, cursor_of, limit_of, only, span_of, word
from shared.domain.security_events import (
    EventQuery,
    FindingQuery,
    FindingState,
    SecurityEvent,
    SecurityEventKind,
    Severity,
    ThreatFinding,
)
from shared.services.threats import SecurityOverview

_PARAMETERS = frozenset(
    {"since", "until", "kind", "actor", "state", "severity", "limit", "events_cursor", "findings_cursor"}
)
_DEFAULT_SPAN, _LONGEST_SPAN = timedelta(days=7), timedelta(days=92)
_MOST = 500


class FindingBody(Body):
    """What is to become of a finding."""

    state: Literal["acknowledged", "resolved"]
    note: Annotated[str, Field(max_length=500)] = ""


def security_queries(
    parameters: Mapping[str, str], *, tenant_id: str, now: datetime
) -> tuple[EventQuery, FindingQuery]:
    """What the URL asks for. Findings without a ``state`` are those that are not resolved.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, _PARAMETERS)
    since, until = span_of(parameters, now, default=_DEFAULT_SPAN, longest=_LONGEST_SPAN)
    limit, state = limit_of(parameters, _MOST), word(parameters, "state", FindingState)
    events = EventQuery(
        tenant_id,
        since,
        until,
        kind=word(parameters, "kind", SecurityEventKind),
        actor=parameters.get("actor"),
        before=before(parameters, "events_cursor", uuid=True),
        limit=limit,
    )
    findings = FindingQuery(
        tenant_id,
        (FindingState.OPEN, FindingState.ACKNOWLEDGED) if state is None else (state,),
        severity=word(parameters, "severity", Severity),
        before=before(parameters, "findings_cursor", uuid=True),
        limit=limit,
    )
    return events, findings


def security_body(overview: SecurityOverview) -> dict[str, Any]:
    """Events and findings, each a page of its own."""
    last_event = overview.events[-1] if overview.has_more_events else None
    last_finding = overview.findings[-1] if overview.has_more_findings else None
    return {
        "counts": {
            "events": dict(sorted(overview.event_counts.items())),
            "findings": counts_body(overview.finding_counts),
        },
        "findings": [finding_body(finding) for finding in overview.findings],
        "next_findings_cursor": None if last_finding is None else cursor_of(last_finding.last_at, last_finding.id),
        "events": [_event(event) for event in overview.events],
        "next_events_cursor": None if last_event is None else cursor_of(last_event.at, last_event.id),
    }


def counts_body(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Numbers of findings by state and, within it, by severity."""
    return {state.value: {s.value: counts.get((state.value, s.value), 0) for s in Severity} for state in FindingState}


def finding_body(finding: ThreatFinding) -> dict[str, Any]:
    """A finding."""
    return {
        "id": finding.id,
        "rule": finding.rule,
        "signal": finding.signal.value,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "state": finding.state.value,
        "first_at": finding.first_at.isoformat(),
        "last_at": finding.last_at.isoformat(),
        "value": finding.value,
        "threshold": finding.threshold,
        "baseline": finding.baseline,
        "changed_by": finding.changed_by,
        "changed_at": None if finding.changed_at is None else finding.changed_at.isoformat(),
        "note": finding.note or None,
    }


def _event(event: SecurityEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "kind": event.kind.value,
        "actor": event.actor,
        "service": event.service,
        "resource": event.resource,
        "request_id": event.request_id,
        "network": event.network,
        "user_agent": event.user_agent or None,
        "code": event.code or None,
        "target": event.target or None,
        "count": event.count,
    }
