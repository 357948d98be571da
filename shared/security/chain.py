"""Who calls, by any proof that is switched on. Every proof that is sent must hold, and all must name one caller."""

from collections.abc import Mapping
from dataclasses import replace

from shared.domain.errors import Unauthenticated
from shared.domain.identity import Principal
from shared.security import easy_auth, session_tokens
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.security.entra import EntraTokenAuthenticator, algorithm_of
from shared.security.session_tokens import SessionTokens

SESSION_HEADER = "x-router-token"
_BEARER = "bearer"


class ChainAuthenticator:
    """Implements `shared.ports.Authenticator`.

    Args:
        platform: App Service authentication, where it is on. With it, the `Authorization` header is the platform's
            business: it checked the token there, or put one of its own.
        entra: checks Entra access tokens, where the router does so itself.
        sessions: checks the router's own tokens.
    """

    def __init__(
        self,
        *,
        platform: EasyAuthAuthenticator | None = None,
        entra: EntraTokenAuthenticator | None = None,
        sessions: SessionTokens | None = None,
    ) -> None:
        self._platform = platform
        self._entra = entra
        self._sessions = sessions

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The proven principal; with two proofs, what both of them grant.

        Raises:
            Unauthenticated: no proof, one that does not hold, or two of different callers.
            DependencyUnavailable: keys to check one could not be had.
        """
        proven: list[Principal] = []
        if easy_auth.HEADER in headers:
            if self._platform is None:
                # Nobody but the platform may set it, and the platform is not there.
                raise Unauthenticated(f"{easy_auth.HEADER} is not accepted: App Service authentication is off")
            proven.append(await self._platform.authenticate(headers))
        elif authorization := headers.get("authorization"):
            proven.append(await self._bearer(authorization))
        if token := headers.get(SESSION_HEADER):
            proven.append(await self._session(token))
        if not proven:
            raise Unauthenticated("no proof of who calls: send an Entra access token as Authorization: Bearer")
        return _agreed(proven)

    async def _bearer(self, authorization: str) -> Principal:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != _BEARER or not token.strip():
            raise Unauthenticated("send Authorization: Bearer and a token")
        token = token.strip()
        # The token's own word decides only who checks it: each checker accepts one algorithm and its own keys.
        if algorithm_of(token) == session_tokens.ALGORITHM:
            return await self._session(token)
        if self._entra is None:
            raise Unauthenticated("Entra tokens are not accepted here")
        return await self._entra.principal_of(token)

    async def _session(self, token: str) -> Principal:
        if self._sessions is None:
            raise Unauthenticated("session tokens are not accepted here")
        return await self._sessions.principal_of(token)


def _agreed(proven: list[Principal]) -> Principal:
    first, *others = proven
    for other in others:
        if (other.id, other.tenant_id, other.service) != (first.id, first.tenant_id, first.service):
            raise Unauthenticated("two proofs of different callers")
        # What both grant: neither an old session nor a broad token widens the other.
        first = replace(first, roles=first.roles & other.roles, session_id=other.session_id)
    return first
