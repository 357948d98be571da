"""The query and the answer of GET /audit."""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.domain.audit import AuditEvent, AuditOutcome, AuditQuery
from shared.domain.errors import InvalidRequest
from shared.services.audit import AuditPage, AuditVerification

_PARAMETERS = frozenset({"since", "until", "actor", "action", "outcome", "cursor", "limit", "verify"})
_DEFAULT_SPAN = timedelta(days=7)
_LONGEST_SPAN = timedelta(days=92)
_MOST = 500


def audit_query(parameters: Mapping[str, str], *, tenant_id: str, now: datetime) -> AuditQuery:
    """What the URL asks for.

    Raises:
        InvalidRequest: naming the parameter.
    """
    for name in parameters:
        if name not in _PARAMETERS:
            raise InvalidRequest(f"{name}: unknown parameter", code="unknown_field", param=name)
    until = _instant(parameters, "until") or now + timedelta(seconds=1)
    since = _instant(parameters, "since") or until - _DEFAULT_SPAN
    if not timedelta() < until - since <= _LONGEST_SPAN:
        raise InvalidRequest(f"since: must be before until, by at most {_LONGEST_SPAN.days} days", param="since")
    limit = parameters.get("limit", "100")
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit) <= _MOST:
        raise InvalidRequest(f"limit: must be a number from 1 to {_MOST}", param="limit")
    try:
        outcome = AuditOutcome(parameters["outcome"]) if "outcome" in parameters else None
    except ValueError:
        words = ", ".join(AuditOutcome)
        raise InvalidRequest(f"outcome: must be one of {words}", param="outcome") from None
    return AuditQuery(
        tenant_id=tenant_id,
        since=since,
        until=until,
        actor=parameters.get("actor"),
        action=parameters.get("action"),
        outcome=outcome,
        before=_before(parameters.get("cursor")),
        limit=int(limit),
    )


def wants_verification(parameters: Mapping[str, str]) -> bool:
    """Whether the chains are to be walked.

    Raises:
        InvalidRequest: ``verify`` is neither true nor false.
    """
    word = parameters.get("verify", "false").lower()
    if word not in ("true", "false"):
        raise InvalidRequest("verify: must be true or false", param="verify")
    return word == "true"


def audit_body(page: AuditPage) -> dict[str, Any]:
    """A page of events, the newest first."""
    last = page.events[-1] if page.has_more else None
    return {"events": [_event(event) for event in page.events], "next_cursor": None if last is None else _cursor(last)}


def verification_body(verification: AuditVerification) -> dict[str, Any]:
    """What walking the chains showed."""
    return {
        "intact": verification.intact,
        "chains": verification.chains,
        "rows": verification.rows,
        "faults": [{"chain": f.chain, "sequence": f.sequence, "reason": f.reason} for f in verification.faults],
    }


def _event(event: AuditEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "actor": event.actor,
        "service": event.service,
        "action": event.action,
        "resource": event.resource,
        "outcome": event.outcome.value,
        "code": event.code or None,
        "request_id": event.request_id,
        "network": event.network,
        "user_agent": event.user_agent or None,
        "before": event.before or None,
        "after": event.after or None,
        "suppressed": event.suppressed,
    }


def _instant(parameters: Mapping[str, str], name: str) -> datetime | None:
    text = parameters.get(name)
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise InvalidRequest(f"{name}: must be an ISO 8601 instant with an offset", param=name)
    return instant.astimezone(UTC)


def _cursor(event: AuditEvent) -> str:
    return base64.urlsafe_b64encode(f"{event.at.isoformat()} {event.id}".encode()).decode()


def _before(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        instant, _, event_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition(" ")
        before = (datetime.fromisoformat(instant).astimezone(UTC), event_id)
    except (ValueError, binascii.Error):
        raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor") from None
    return before
