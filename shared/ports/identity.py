"""Who calls, and sessions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from shared.domain.identity import Principal
from shared.domain.sessions import SessionFamily, SigningKey


class Authenticator(Protocol):
    """Proves who calls from the request's headers."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The proven principal; header names are lower case.

        Raises:
            Unauthenticated: no proof, or one that does not hold.
            DependencyUnavailable: keys to check it could not be had.
        """
        ...


class CredentialCheck(Protocol):
    """Asks the identity provider whether credentials hold."""

    async def with_secret(self, client_id: str, client_secret: str) -> Principal:
        """The application that has this id and secret.

        Raises:
            Unauthenticated: they do not belong together, or the application has no access here.
            DependencyUnavailable: the identity provider does not answer.
        """
        ...

    async def with_token(self, token: str) -> Principal:
        """The principal of an access token.

        Raises:
            Unauthenticated: it does not hold.
            DependencyUnavailable: the issuer's keys cannot be had.
        """
        ...


class SigningKeys(Protocol):
    """The key pairs of session tokens."""

    async def all(self) -> Sequence[SigningKey]:
        """All keys that sign now, will soon, or signed tokens that may still be good; at least one.

        Raises:
            DependencyUnavailable: they cannot be had.
        """
        ...

    async def rotate(self) -> bool:
        """Make a new key if the newest has served its time; one caller at a time. Returns whether keys changed.

        Raises:
            DependencyUnavailable: where they are kept is away.
        """
        ...


class SessionSigner(Protocol):
    """Makes session tokens."""

    async def sign(self, principal: Principal, session_id: str, *, ends: datetime) -> tuple[str, datetime]:
        """A token and when it expires, no later than `ends`.

        Raises:
            DependencyUnavailable: no key can be had.
        """
        ...


class SessionFamilies(Protocol):
    """Where sessions are kept; of their refresh tokens only hashes."""

    async def create(self, family: SessionFamily) -> None:
        """Keep a new session.

        Raises:
            DependencyUnavailable: it was not stored, as far as can be known.
        """
        ...

    async def get(self, session_id: str) -> tuple[SessionFamily, str] | None:
        """A session with its version tag, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...

    async def replace(self, family: SessionFamily, etag: str) -> None:
        """Store a session over the version that the tag names.

        Raises:
            Conflict: somebody stored another version meanwhile.
            DependencyUnavailable: it was not stored, as far as can be known.
        """
        ...

    async def sweep(self, now: datetime) -> int:
        """Delete sessions that ended before `now`; returns how many.

        Raises:
            DependencyUnavailable: the store is away; what was deleted stays so.
        """
        ...

    async def all_of(self, tenant_id: str) -> Sequence[tuple[SessionFamily, str]]:
        """Every session of a tenant, with its version tag.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class LoginGuard(Protocol):
    """Counts failed sign-ins by key, for all workers. Away, it counts for this worker alone: it never raises."""

    async def locked_s(self, keys: Sequence[str]) -> float:
        """Seconds until a sign-in may be tried again; 0 when it may now."""
        ...

    async def failed(self, keys: Sequence[str]) -> None:
        """Note a failure; from some number of them on, each locks for longer."""
        ...

    async def succeeded(self, keys: Sequence[str]) -> None:
        """Forget the failures of the first key, the most particular one."""
        ...
