"""The router's own tokens: short-lived, signed with ES256 (RFC 7518), checked without asking anybody."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.domain.errors import DependencyUnavailable, Unauthenticated
from shared.domain.identity import Principal, Proof
from shared.domain.sessions import SigningKey, signing_key_at
from shared.ports import Clock, SessionFamilies, SigningKeys
from shared.security.claims import IDENTIFIER, router_roles
from shared.security.entra import key_id_of
from shared.security.token_cache import TokenCache

ALGORITHM = "ES256"
ISSUER = "llm-router"
LIFETIME_S = 900
_MAX_CHARACTERS = 4096
_LEEWAY_S = 60
_MOST_GROUPS = 50
_MOST_GROUP_CHARACTERS = 1_900
"""In a token, which stands in every request; 50 object ids are 1,800."""
_GROUPS, _MORE_GROUPS = "groups", "hasgroups"
"""As Entra calls the claims: the groups, or that there are too many to name."""


class SessionTokens:
    """Signs and checks session tokens.

    Args:
        keys: where the key pairs come from.
        clock: validity.
        families: where the groups of sessions are that have too many for a token; None: such sessions have none.
    """

    def __init__(self, keys: SigningKeys, clock: Clock, families: SessionFamilies | None = None) -> None:
        self._keys = keys
        self._families = families
        self._clock = clock
        self._cache = TokenCache()
        self._parsed: dict[str, EllipticCurvePrivateKey] = {}

    async def sign(self, principal: Principal, session_id: str, *, ends: datetime) -> tuple[str, datetime]:
        """A token for a principal, and when it expires: after `LIFETIME_S`, or when its session ends.

        Raises:
            DependencyUnavailable: no signing key can be had.
        """
        now = self._clock.now().astimezone(UTC)
        key = signing_key_at(await self._keys.all(), now)
        if key is None:
            raise DependencyUnavailable("there is no key to sign session tokens with")
        expires_at = min(now + timedelta(seconds=LIFETIME_S), ends)
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": principal.id,
            "tid": principal.tenant_id,
            "svc": principal.service,
            "roles": sorted(role.value for role in principal.roles),
            "sid": session_id,
            **_group_claims(principal.groups),
            "jti": str(uuid.uuid4()),
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode(claims, self._private(key), algorithm=ALGORITHM, headers={"kid": key.id}), expires_at

    async def principal_of(self, token: str) -> Principal:
        """The principal that a token proves.

        Raises:
            Unauthenticated: it does not hold.
            DependencyUnavailable: the keys to check it cannot be had, or the groups that it is too short for.
        """
        now = self._clock.now().timestamp()
        known = self._cache.get(token, now)
        if known is None:
            claims = await self._claims(token)
            known = _principal(claims)
            if claims.get(_MORE_GROUPS) is True:
                # Once for each token and worker: what was found is remembered with the token.
                known = replace(known, groups=await self._groups_of(known))
            self._cache.put(token, known, float(claims["exp"]), now)
        return known

    async def _groups_of(self, principal: Principal) -> frozenset[str]:
        """The groups of a session, from where it is kept; none when it is over.

        Raises:
            DependencyUnavailable: it cannot be read. To go on without groups would hide documents and not say so.
        """
        if self._families is None or principal.session_id is None:
            return frozenset()
        found = await self._families.get(principal.session_id)
        if found is None or (found[0].principal_id, found[0].tenant_id) != (principal.id, principal.tenant_id):
            return frozenset()
        return frozenset(found[0].groups)

    async def rotate(self) -> bool:
        """Make a new key if the newest has served its time; one caller at a time. Returns whether keys changed.

        Raises:
            DependencyUnavailable: where keys are kept is away.
        """
        return await self._keys.rotate()

    async def public_keys(self) -> dict[str, list[dict[str, Any]]]:
        """The public halves of all keys as a JWKS (RFC 7517), so that others can check our tokens too.

        Raises:
            DependencyUnavailable: the keys cannot be had.
        """
        return {"keys": [self._public(key) for key in await self._keys.all()]}

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > _MAX_CHARACTERS:
            _refuse("is too long")
        key = _find(await self._keys.all(), key_id_of(token, ALGORITHM))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._private(key).public_key(),
                algorithms=[ALGORITHM],
                audience=ISSUER,
                issuer=ISSUER,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "nbf", "iss", "aud", "sub", "tid", "svc", "roles", "sid"]},
            )
        except jwt.ExpiredSignatureError:
            _refuse("has expired")
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            _refuse("does not hold")
        return claims

    def _private(self, key: SigningKey) -> EllipticCurvePrivateKey:
        known = self._parsed.get(key.id)
        if known is None:
            known = self._parsed[key.id] = parse_private_key(key.private_pem)
        return known

    def _public(self, key: SigningKey) -> dict[str, Any]:
        public: dict[str, Any] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._private(key).public_key()))
        return public | {"kid": key.id, "use": "sig", "alg": ALGORITHM}


def parse_private_key(pem: str) -> EllipticCurvePrivateKey:
    """A P-256 key from PEM.

    Raises:
        ValueError: it is no such key.
    """
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("session tokens are signed with a P-256 key")  # noqa: TRY004 - the value, read from a store
    return key


def _find(keys: Sequence[SigningKey], key_id: str) -> SigningKey:
    key = next((key for key in keys if key.id == key_id), None)
    if key is None:
        _refuse("is signed with a key that is not the router's")
    return key


def _principal(claims: Mapping[str, Any]) -> Principal:
    names = [claims["sub"], claims["tid"], claims["svc"], claims["sid"]]
    if not all(isinstance(name, str) and IDENTIFIER.fullmatch(name) for name in names):
        _refuse("does not hold")
    groups = claims.get(_GROUPS, [])
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        _refuse("does not hold")
    return Principal(
        id=claims["sub"],
        tenant_id=claims["tid"],
        service=claims["svc"],
        roles=router_roles(claims["roles"]),
        proof=Proof.SESSION_TOKEN,
        expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
        session_id=claims["sid"],
        groups=frozenset(filter(None, groups)),
    )


def _group_claims(groups: frozenset[str]) -> dict[str, Any]:
    """The groups, or that there are too many for a token."""
    if not groups:
        return {}
    if len(groups) <= _MOST_GROUPS and sum(len(json.dumps(group)) for group in groups) <= _MOST_GROUP_CHARACTERS:
        return {_GROUPS: sorted(groups)}
    return {_MORE_GROUPS: True}


def _refuse(what: str) -> NoReturn:
    raise Unauthenticated(f"the session token {what}") from None
