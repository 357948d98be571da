"""Sign-in: an Entra proof becomes a short session token and a refresh token that works once.

Refresh tokens rotate (RFC 9700, section 4.14.2): each use gives a new one, and the use of a spent one means that
somebody copied it, so the whole session ends. Two uses within `_GRACE` are taken for one caller's retry: the second is
refused without ending the session.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from shared.domain.errors import Conflict, Unauthenticated
from shared.domain.identity import Principal
from shared.domain.sessions import LoginFailed, LoginLocked, RefreshTokenReused, SessionFamily
from shared.ports import Clock, CredentialCheck, LoginGuard, SessionFamilies, SessionSigner, Telemetry

_SESSION_LIFETIME = timedelta(hours=12)
"""Roles and groups are read at sign-in: one taken away in Entra is gone from sessions after this long at the latest."""
_GRACE = timedelta(seconds=10)
_MOST_SPENT = 200
_MOST_GROUPS = 200
"""Entra names no more in a token (https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference)."""
_MOST_GROUP_CHARACTERS = 10_000
"""Of all of them: an entity of the session store holds 32,000 characters, of which spent tokens take 14,000."""
_REFRESH_TOKEN = re.compile(r"rt1\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")
_REFUSED = "the refresh token does not hold"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a sign-in or a refresh gives. Tokens are secrets: never logged, never stored."""

    token: str
    expires_at: datetime
    refresh_token: str
    session_expires_at: datetime
    principal: Principal

    def __repr__(self) -> str:
        return f"Grant(principal={self.principal!r})"


class SessionService:
    """Signs in, refreshes and signs out.

    Args:
        check: asks Entra whether credentials hold.
        signer: makes session tokens.
        families: where refresh tokens' hashes are kept.
        guard: slows down guessing.
        clock: time.
        telemetry: counts what happened.
    """

    def __init__(
        self,
        check: CredentialCheck,
        signer: SessionSigner,
        families: SessionFamilies,
        guard: LoginGuard,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._check = check
        self._signer = signer
        self._families = families
        self._guard = guard
        self._clock = clock
        self._telemetry = telemetry

    async def login_with_secret(self, client_id: str, client_secret: str, *, address: str) -> Grant:
        """Sign in an application by its id and secret, which Entra checks.

        Raises:
            LoginFailed: Entra refuses them; the same answer whether the id or the secret is wrong.
            LoginLocked: too many failures of this application or address.
            DependencyUnavailable: Entra or the session store is away.
        """
        keys = (f"client:{client_id}:{address}", f"address:{address}", f"client:{client_id}")
        await self._admit(keys, client_id)
        try:
            principal = await self._check.with_secret(client_id, client_secret)
        except Unauthenticated as error:
            await self._failed(keys)
            raise LoginFailed(error.message, account=client_id) from None
        await self._guard.succeeded(keys)
        return await self._begin(principal)

    async def login_with_token(self, token: str, *, address: str) -> Grant:
        """Sign in by an Entra access token.

        Raises:
            LoginFailed: the token does not hold.
            LoginLocked: too many failures of this address.
            DependencyUnavailable: the issuer's keys or the session store are away.
        """
        keys = (f"address:{address}",)
        await self._admit(keys, "")
        try:
            principal = await self._check.with_token(token)
        except Unauthenticated as error:
            await self._failed(keys)
            raise LoginFailed(error.message) from None
        return await self._begin(principal)

    async def refresh(self, refresh_token: str) -> Grant:
        """A new session token and a new refresh token for an unspent one.

        Raises:
            Unauthenticated: unknown, spent, expired or revoked; `RefreshTokenReused` when that ended its session.
            DependencyUnavailable: the session store is away.
        """
        session_id, digest = _read(refresh_token)
        found = await self._families.get(session_id)
        now = self._clock.now().astimezone(UTC)
        if found is None:
            raise Unauthenticated(_REFUSED)
        family, etag = found
        if family.revoked or now >= family.expires_at:
            raise Unauthenticated(_REFUSED)
        if not hmac.compare_digest(digest, family.current):
            await self._spent(family, digest, now)
            raise Unauthenticated(_REFUSED)
        token, hashed = _new_token(family.id)
        spent = (*family.spent, family.current)[-_MOST_SPENT:]
        try:
            await self._families.replace(replace(family, current=hashed, spent=spent, rotated_at=now), etag)
        except Conflict:
            # Somebody used the same token at the same instant and was first.
            raise Unauthenticated(_REFUSED) from None
        return await self._grant(family, token)

    async def logout(self, principal: Principal) -> bool:
        """End the session that the principal came with; returns whether there was one.

        Session tokens given out before stay good until they expire, minutes later.

        Raises:
            DependencyUnavailable: the session store is away.
        """
        if principal.session_id is None:
            return False
        found = await self._families.get(principal.session_id)
        if found is None or found[0].principal_id != principal.id or found[0].tenant_id != principal.tenant_id:
            return False
        await self._revoke(found[0].id)
        return True

    async def sweep(self) -> int:
        """Forget sessions that have ended; returns how many.

        Raises:
            DependencyUnavailable: the session store is away.
        """
        return await self._families.sweep(self._clock.now())

    async def _admit(self, keys: tuple[str, ...], account: str) -> None:
        wait_s = await self._guard.locked_s(keys)
        if wait_s > 0:
            self._telemetry.count("logins_locked")
            raise LoginLocked(account=account, retry_after_s=wait_s)

    async def _failed(self, keys: tuple[str, ...]) -> None:
        self._telemetry.count("logins_failed")
        await self._guard.failed(keys)

    async def _begin(self, principal: Principal) -> Grant:
        now = self._clock.now().astimezone(UTC)
        session_id = secrets.token_hex(16)
        token, hashed = _new_token(session_id)
        family = SessionFamily(
            id=session_id,
            tenant_id=principal.tenant_id,
            principal_id=principal.id,
            service=principal.service,
            roles=tuple(sorted(principal.roles)),
            current=hashed,
            rotated_at=now,
            expires_at=now + _SESSION_LIFETIME,
            groups=self._groups_of(principal),
        )
        await self._families.create(family)
        self._telemetry.count("logins")
        return await self._grant(family, token)

    def _groups_of(self, principal: Principal) -> tuple[str, ...]:
        """What is kept of a caller's groups: all or, of too many, none, as Entra does. Some would look like all."""
        groups = tuple(sorted(principal.groups))
        if len(groups) <= _MOST_GROUPS and sum(map(len, groups)) <= _MOST_GROUP_CHARACTERS:
            return groups
        self._telemetry.count("sessions_without_groups")
        return ()

    async def _grant(self, family: SessionFamily, refresh_token: str) -> Grant:
        principal = _principal_of(family)
        token, expires_at = await self._signer.sign(principal, family.id, ends=family.expires_at)
        return Grant(token, expires_at, refresh_token, family.expires_at, principal)

    async def _spent(self, family: SessionFamily, digest: str, now: datetime) -> None:
        """A token that is not the newest: a guess, a retry, or a copy.

        Raises:
            RefreshTokenReused: a copy.
        """
        is_retry = family.spent[-1:] == (digest,) and now - family.rotated_at <= _GRACE
        if digest in family.spent and not is_retry:
            self._telemetry.count("refresh_tokens_reused")
            await self._revoke(family.id)
            raise RefreshTokenReused(_REFUSED, principal=_principal_of(family))

    async def _revoke(self, session_id: str) -> None:
        while (found := await self._families.get(session_id)) is not None and not found[0].revoked:
            try:
                await self._families.replace(replace(found[0], revoked=True), found[1])
            except Conflict:
                continue


def _principal_of(family: SessionFamily) -> Principal:
    groups = frozenset(family.groups)
    return Principal(family.principal_id, family.tenant_id, family.service, frozenset(family.roles), groups=groups)


def _new_token(session_id: str) -> tuple[str, str]:
    token = f"rt1.{session_id}.{secrets.token_urlsafe(32)}"
    return token, _hash(token)


def _read(refresh_token: str) -> tuple[str, str]:
    match = _REFRESH_TOKEN.fullmatch(refresh_token)
    if match is None:
        raise Unauthenticated(_REFUSED)
    return match[1], _hash(refresh_token)


def _hash(token: str) -> str:
    # A token has 256 random bits: nothing slower than SHA-256 is needed against guessing.
    return hashlib.sha256(token.encode()).hexdigest()
