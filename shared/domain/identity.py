"""Who calls, and what they may do."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum


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
    COMPLIANCE_WRITE = "compliance.write"
    """Export and erasure of a person's data."""
    CONTENT_READ = "content.read"
    """Prompts and answers of services that have them kept."""


class SignedIn(Enum):
    """What an endpoint asks for that any proven caller may use."""

    ANYBODY = "anybody"


class Proof(StrEnum):
    """What proved a caller."""

    EASY_AUTH = "easy_auth"
    ENTRA_TOKEN = "entra_token"  # noqa: S105 - a name, no secret
    SESSION_TOKEN = "session_token"  # noqa: S105 - likewise
    DEVELOPMENT = "development"


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
        proof: what proved it.
        expires_at: when the proof ends, where it says so.
        session_id: the router session it came with.
        groups: that its proof names, as documents' access lists do; of a session, those that were named at sign-in.
    """

    id: str
    tenant_id: str
    service: str
    roles: frozenset[RouterRole]
    development: bool = False
    proof: Proof = Proof.EASY_AUTH
    expires_at: datetime | None = None
    session_id: str | None = None
    groups: frozenset[str] = frozenset()

    @property
    def reader_groups(self) -> frozenset[str]:
        """What an access list may name to let it read: its groups and its roles."""
        return self.groups | {role.value for role in self.roles}

    @property
    def permissions(self) -> frozenset[Permission]:
        """All that its roles grant."""
        return frozenset().union(*(PERMISSIONS[role] for role in self.roles))

    def may(self, permission: Permission | SignedIn) -> bool:
        """Whether some role grants the permission."""
        return permission is SignedIn.ANYBODY or any(permission in PERMISSIONS[role] for role in self.roles)
