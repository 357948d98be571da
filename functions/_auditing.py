"""From a call to the audit trail: deeds before they are answered, refusals behind the answer."""

from collections.abc import Mapping

from functions._headers import caller_address
from shared.container import Container
from shared.domain import errors
from shared.domain.audit import AuditEvent, AuditOutcome, network_of, user_agent_digest
from shared.domain.identity import Principal

ANONYMOUS = "anonymous"
REFUSAL = "access"
"""The action's name of a refusal at the door, where the endpoint has none."""


def event_of(
    container: Container,
    headers: Mapping[str, str],
    *,
    request_id: str,
    actor: Principal | None,
    action: str,
    resource: str,
    outcome: AuditOutcome,
    error: errors.RouterError | None = None,
    before: str = "",
    after: str = "",
) -> AuditEvent:
    """The event of a call. Nobody's refusals belong to no tenant's trail but to the settings' one."""
    return AuditEvent(
        id=container.ids.request_id(),
        at=container.clock.now(),
        tenant_id=actor.tenant_id if actor is not None else container.settings.tenant_id or ANONYMOUS,
        actor=actor.id if actor is not None else ANONYMOUS,
        service=actor.service if actor is not None else ANONYMOUS,
        action=action,
        resource=resource,
        outcome=outcome,
        request_id=request_id,
        network=network_of(caller_address(headers)),
        user_agent=user_agent_digest(headers.get("user-agent", "")),
        code="" if error is None else error.code,
        before=before,
        after=after,
    )


def outcome_of(error: errors.RouterError | None) -> AuditOutcome:
    """How a deed ended."""
    if error is None:
        return AuditOutcome.SUCCEEDED
    return AuditOutcome.DENIED if isinstance(error, errors.AccessRefused) else AuditOutcome.FAILED
