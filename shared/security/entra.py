"""Entra access tokens, checked by ourselves: for apps that no platform authentication stands before.

What is checked follows https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens and RFC 8725
(JSON Web Token Best Current Practices). PyJWT does the cryptography.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import jwt

from shared.domain.errors import Unauthenticated
from shared.domain.identity import Principal, Proof
from shared.ports import Clock
from shared.security.claims import IDENTIFIER, router_roles
from shared.security.jwks import JsonWebKeys
from shared.security.token_cache import TokenCache

ALGORITHM = "RS256"
AUTHORITY = "https://login.microsoftonline.com"
_V1_ISSUER = "https://sts.windows.net/{tenant}/"
MAX_TOKEN_CHARACTERS = 16 * 1024
"""Entra's longest tokens, with 200 groups, have some 9,000 characters."""
_LEEWAY_S = 60
_KEYS_IN_HEADER = frozenset({"jku", "jwk", "x5u", "x5c"})
"""Ways in which a token may bring its own key. Entra's tokens have none of them."""


class EntraTokenAuthenticator:
    """Turns an Entra access token into a principal.

    Args:
        keys: the tenant's signing keys.
        clock: ages what was checked.
        tenant_id: the one tenant whose tokens are accepted.
        audiences: this app's ids, as tokens name them: the application id and its ``api://`` URI.
        scopes: of which a token that acts for a user must hold one.
        service_names: names by application id; an application that is not in it goes by its id.
        authority: of the cloud.

    Raises:
        ValueError: no tenant, or no audience.
    """

    def __init__(
        self,
        keys: JsonWebKeys,
        clock: Clock,
        *,
        tenant_id: str,
        audiences: Collection[str],
        scopes: Collection[str],
        service_names: Mapping[str, str] | None = None,
        authority: str = AUTHORITY,
    ) -> None:
        if not IDENTIFIER.fullmatch(tenant_id) or not audiences:
            raise ValueError("Entra tokens need a tenant and an audience to be checked against")
        self._keys = keys
        self._clock = clock
        self._tenant_id = tenant_id.lower()
        self._audiences = list(audiences)
        self._scopes = frozenset(scopes)
        self._service_names = {application.lower(): name for application, name in (service_names or {}).items()}
        self._issuers = [
            f"{authority.rstrip('/')}/{self._tenant_id}/v2.0",
            _V1_ISSUER.format(tenant=self._tenant_id),
        ]
        self._cache = TokenCache()

    async def principal_of(self, token: str) -> Principal:
        """The principal that a token proves.

        Raises:
            Unauthenticated: the token does not hold; the message says in which respect, never the token's text.
            DependencyUnavailable: Entra's keys could not be had.
        """
        now = self._clock.now().timestamp()
        known = self._cache.get(token, now)
        if known is None:
            claims = await self._claims(token)
            known = self._principal(claims)
            self._cache.put(token, known, float(claims["exp"]), now)
        return known

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_CHARACTERS:
            _refuse("is too long")
        key = await self._keys.key(key_id_of(token, ALGORITHM))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audiences,
                issuer=self._issuers,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "nbf", "iss", "aud", "tid"]},
            )
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            # The class only: messages of the library may quote claims.
            _refuse(_FAULTS.get(type(error), "does not hold"))
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        tenant_id, application_id = claims["tid"], claims.get("azp") or claims.get("appid")
        if not isinstance(tenant_id, str) or tenant_id.lower() != self._tenant_id:
            _refuse("is of another tenant")
        if not isinstance(application_id, str) or not IDENTIFIER.fullmatch(application_id):
            _refuse("names no application (azp or appid): use an access token, not an id token")
        object_id, roles, scopes = claims.get("oid"), claims.get("roles", []), claims.get("scp")
        if not isinstance(object_id, str) or not IDENTIFIER.fullmatch(object_id):
            _refuse("names no principal (oid)")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            _refuse("holds roles that are no list of words")
        # Of a member of too many groups Entra names none: such a caller reads what no access list restricts.
        groups = claims.get("groups", [])
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            _refuse("holds groups that are no list of words")
        # An application's own token has no scopes and is about itself; any other acts for a user, who must have
        # consented to this app's use. Without that distinction an id token of a user would pass for an access token.
        acts_for_itself = scopes is None and (claims.get("idtyp") == "app" or claims.get("sub") == object_id)
        if not acts_for_itself and not (isinstance(scopes, str) and self._scopes.intersection(scopes.split())):
            _refuse("acts for a user without a scope of this app")
        application_id = application_id.lower()
        return Principal(
            id=object_id.lower(),
            tenant_id=self._tenant_id,
            service=self._service_names.get(application_id, application_id),
            roles=router_roles(roles),
            groups=frozenset(filter(None, groups)),
            proof=Proof.ENTRA_TOKEN,
            expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
        )


def key_id_of(token: str, algorithm: str) -> str:
    """The key id that a token's header names.

    Raises:
        Unauthenticated: the header cannot be read, names another algorithm (``none`` included), or brings a key.
    """
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        header = {}
    key_id = header.get("kid")
    if header.get("alg") != algorithm or not isinstance(key_id, str) or _KEYS_IN_HEADER.intersection(header):
        _refuse("has no header that is accepted here")
    return key_id


def algorithm_of(token: str) -> str | None:
    """What a token says that it is signed with; decides only who is asked to check it."""
    try:
        algorithm = jwt.get_unverified_header(token).get("alg")
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    return algorithm if isinstance(algorithm, str) else None


_FAULTS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "has expired",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidAudienceError: "is for another audience",
    jwt.InvalidIssuerError: "is of another issuer",
    jwt.InvalidSignatureError: "has a signature that does not hold",
    jwt.MissingRequiredClaimError: "lacks a claim",
}


def _refuse(what: str) -> NoReturn:
    raise Unauthenticated(f"the token {what}") from None
