"""Router sessions: what a sign-in leaves behind, and the keys that session tokens are signed with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.domain.errors import RateLimited, Unauthenticated
from shared.domain.identity import Principal, RouterRole


class LoginFailed(Unauthenticated):
    """A sign-in was refused. The caller hears no more than that.

    Args:
        message: as the caller hears it.
        account: what the sign-in named, for security events; empty where it named nothing.
    """

    def __init__(self, message: str, *, account: str = "") -> None:
        super().__init__(message)
        self.account = account


class LoginLocked(RateLimited):
    """A sign-in was not tried: too many failed.

    Args:
        account: what the sign-in named.
        retry_after_s: seconds until it may be tried.
    """

    code = "login_locked"

    def __init__(self, *, account: str, retry_after_s: float) -> None:
        super().__init__("too many failed sign-ins", retry_after_s=retry_after_s)
        self.account = account


class RefreshTokenReused(Unauthenticated):
    """A spent refresh token was used, and its session ended. The caller hears what any bad token makes heard.

    Args:
        message: as the caller hears it.
        principal: whose session it was.
    """

    def __init__(self, message: str, *, principal: Principal) -> None:
        super().__init__(message)
        self.principal = principal


@dataclass(frozen=True, slots=True)
class SessionFamily:
    """All refresh tokens of one sign-in. Only the newest may be used, and none is stored: their SHA-256 are, in hex.

    Attributes:
        id: of the session.
        current: hash of the newest refresh token.
        spent: hashes of those before it, the newest last.
        rotated_at: when `current` was given out.
        expires_at: end of the session, whatever is refreshed.
        revoked: no token of it is good any more.
        groups: that the proof at sign-in named.
    """

    id: str
    tenant_id: str
    principal_id: str
    service: str
    roles: tuple[RouterRole, ...]
    current: str
    rotated_at: datetime
    expires_at: datetime
    spent: tuple[str, ...] = ()
    revoked: bool = False
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair for session tokens.

    Attributes:
        id: the ``kid``.
        private_pem: PKCS 8 in PEM, an elliptic-curve key on P-256.
        not_before: tokens are signed with it from then on; it is known to all workers before.
    """

    id: str
    private_pem: str
    not_before: datetime


def signing_key_at(keys: Sequence[SigningKey], now: datetime) -> SigningKey | None:
    """The newest key whose time has come."""
    ready = [key for key in keys if key.not_before <= now]
    return max(ready, key=lambda key: (key.not_before, key.id), default=None)
