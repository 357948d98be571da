"""Who calls, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """What an endpoint asks for. Every route names one, or says that it is open."""

    ROUTER_INVOKE = "router.invoke"
    RAG_READ = "rag.read"
    RAG_WRITE = "rag.write"
    ANALYTICS_READ = "analytics.read"
    FEEDBACK_WRITE = "feedback.write"
    AUDIT_READ = "audit.read"
    CONFIG_READ = "config.read"
    CONFIG_WRITE = "config.write"
    ADMIN_READ = "admin.read"
    ADMIN_WRITE = "admin.write"


class RouterRole(StrEnum):
    """App roles of the Entra application."""

    SERVICE = "Router.Service"
    ANALYST = "Router.Analyst"
    OPERATOR = "Router.Operator"
    ADMIN = "Router.Admin"


_SERVICE = frozenset({Permission.ROUTER_INVOKE, Permission.RAG_READ, Permission.RAG_WRITE, Permission.FEEDBACK_WRITE})
_ANALYST = frozenset({Permission.ANALYTICS_READ, Permission.ADMIN_READ, Permission.CONFIG_READ})
_OPERATOR = _ANALYST | {Permission.CONFIG_WRITE, Permission.ADMIN_WRITE, Permission.AUDIT_READ}

PERMISSIONS: dict[RouterRole, frozenset[Permission]] = {
    RouterRole.SERVICE: _SERVICE,
    RouterRole.ANALYST: _ANALYST,
    RouterRole.OPERATOR: _OPERATOR,
    RouterRole.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A proven caller.

    Attributes:
        id: stable id at the identity provider (object id or application id).
        tenant_id: the unit of isolation; a service belongs to one.
        service: the calling service's name; what rates, budgets and records are kept by.
        development: True only for the explicit local principal; every response then says so.
    """

    id: str
    tenant_id: str
    service: str
    roles: frozenset[RouterRole]
    development: bool = False

    def may(self, permission: Permission) -> bool:
        """Whether some role grants the permission."""
        return any(permission in PERMISSIONS[role] for role in self.roles)
