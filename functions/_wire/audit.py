"""The query and the answer of GET /audit."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from functions._wire.query import before, cursor_of, limit_of, only, span_of, word
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
    only(parameters, _PARAMETERS)
    since, until = span_of(parameters, now, default=_DEFAULT_SPAN, longest=_LONGEST_SPAN)
    return AuditQuery(
        tenant_id=tenant_id,
        since=since,
        until=until,
        actor=parameters.get("actor"),
        action=parameters.get("action"),
        outcome=word(parameters, "outcome", AuditOutcome),
        before=before(parameters),
        limit=limit_of(parameters, _MOST),
    )


def wants_verification(parameters: Mapping[str, str]) -> bool:
    """Whether the chains are to be walked.

    Raises:
        InvalidRequest: ``verify`` is neither true nor false.
    """
    wanted = parameters.get("verify", "false").lower()
    if wanted not in ("true", "false"):
        raise InvalidRequest("verify: must be true or false", param="verify")
    return wanted == "true"


def audit_body(page: AuditPage) -> dict[str, Any]:
    """A page of events, the newest first."""
    last = page.events[-1] if page.has_more else None
    return {
        "events": [_event(event) for event in page.events],
        "next_cursor": None if last is None else cursor_of(last.at, last.id),
    }


def verification_body(verification: AuditVerification) -> dict[str, Any]:
    """What walking the chains showed."""
    return {
        "intact": verification.intact,
        "chains": verification.chains,
        "rows": verification.rows,
        "erased": verification.erased,
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
