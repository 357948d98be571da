"""From a refusal to a security event, and from a proven call to a sighting: behind the answer, without waiting."""

import functools
from collections.abc import Mapping

from functions._auditing import ANONYMOUS
from functions._headers import caller_address
from shared.container import Container
from shared.domain import errors
from shared.domain.audit import network_of, user_agent_digest
from shared.domain.identity import Principal
from shared.domain.security_events import SecurityEvent, SecurityEventKind, target_digest
from shared.domain.sessions import LoginFailed, LoginLocked, RefreshTokenReused

EVENT_KINDS: Mapping[type[errors.RouterError], SecurityEventKind] = {
    LoginFailed: SecurityEventKind.LOGIN_FAILED,
    LoginLocked: SecurityEventKind.LOGIN_LOCKED,
    RefreshTokenReused: SecurityEventKind.REFRESH_TOKEN_REUSED,
    errors.Unauthenticated: SecurityEventKind.UNAUTHENTICATED,
    errors.Forbidden: SecurityEventKind.PERMISSION_DENIED,
    errors.ClearanceRefused: SecurityEventKind.CLEARANCE_BLOCKED,
    errors.SensitiveContent: SecurityEventKind.CONTENT_BLOCKED,
    errors.InjectionSuspected: SecurityEventKind.INJECTION,
}
"""Errors that are security events; one that is not listed takes its nearest parent's row, or is none."""


@functools.lru_cache(maxsize=4096)
def _network(forwarded_for: str) -> str:
    """The caller's network; callers have few addresses, and parsing one costs more than all the rest here."""
    return network_of(caller_address({"x-forwarded-for": forwarded_for}))


def notice(
    container: Container,
    headers: Mapping[str, str],
    error: errors.RouterError,
    *,
    resource: str,
    request_id: str,
    principal: Principal | None,
) -> None:
    """Note a refusal that is a security event. Nobody's belong to the settings' tenant."""
    kind = next((EVENT_KINDS[cls] for cls in type(error).__mro__ if cls in EVENT_KINDS), None)
    if kind is None:
        return
    who = error.principal if isinstance(error, RefreshTokenReused) else principal
    account = error.account if isinstance(error, LoginFailed | LoginLocked) else ""
    event = SecurityEvent(
        id=container.ids.request_id(),
        at=container.clock.now(),
        tenant_id=who.tenant_id if who is not None else container.settings.tenant_id or ANONYMOUS,
        kind=kind,
        actor=who.id if who is not None else ANONYMOUS,
        service=who.service if who is not None else ANONYMOUS,
        resource=resource,
        request_id=request_id,
        network=_network(headers.get("x-forwarded-for", "")),
        user_agent=user_agent_digest(headers.get("user-agent", "")),
        code=error.code,
        target=target_digest(account) if account else "",
    )
    container.oversight.events.note(event)


def sight(container: Container, headers: Mapping[str, str], principal: Principal) -> None:
    """Note that a principal was let in, and from where."""
    container.oversight.events.saw(principal, _network(headers.get("x-forwarded-for", "")))
