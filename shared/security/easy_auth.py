"""Who calls, as App Service authentication ("Easy Auth") or Static Web Apps proved it and says so in a header.

The platform checks the token and then tells the app by `X-MS-CLIENT-PRINCIPAL`, base64 of JSON
(https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities). The header is worth something
only while the platform sets it itself and removes the callers' own: with authentication turned off anybody can send it.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from shared.domain.errors import Unauthenticated
from shared.domain.identity import Principal
from shared.security.claims import IDENTIFIER, router_roles

HEADER = "x-ms-client-principal"
MAX_HEADER_CHARACTERS = 64 * 1024
_MAX_CLAIMS = 1000
_ENTRA = "aad"

# The platform's claim mapping turns some of the token's short names into URIs; which of the two arrives depends on it.
_OBJECT_ID = ("oid", "http://schemas.microsoft.com/identity/claims/objectidentifier")
_TENANT_ID = ("tid", "http://schemas.microsoft.com/identity/claims/tenantid")
_APPLICATION_ID = ("azp", "appid")  # of version 2 and version 1 tokens
_ROLES = frozenset({"roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"})

_GROUPS = "groups"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class EasyAuthAuthenticator:
    """Implements `shared.ports.Authenticator` on the platform's header.

    Args:
        enabled: whether the platform says that authentication is on (`WEBSITE_AUTH_ENABLED=True`). When it is not,
            every call is refused, with or without the header.
        tenant_id: the Entra tenant whose principals are accepted; None only while `enabled` is False.
        service_names: names by application id; an application that is not in it goes by its id. Never taken from the
            token's display name, which its owner may choose to be another service's.
        swa_enabled: accept the shape of Static Web Apps too. Its header names no tenant, so the site's sign-in must be
            an app registration of `tenant_id`, and each of its API routes must ask for a role: on open routes a
            caller's own header passes through.
        swa_service: what a user of the site counts as.

    Raises:
        ValueError: authentication is on, but no tenant is given.
    """

    def __init__(
        self,
        *,
        enabled: bool,
        tenant_id: str | None,
        service_names: Mapping[str, str] | None = None,
        swa_enabled: bool = False,
        swa_service: str = "dashboard",
    ) -> None:
        if enabled and not IDENTIFIER.fullmatch(tenant_id or ""):
            raise ValueError("tenant_id: the Entra tenant id is needed while Easy Auth is on")
        self._enabled = enabled
        self._tenant_id = (tenant_id or "").lower()
        self._service_names = {application.lower(): name for application, name in (service_names or {}).items()}
        self._swa_enabled = swa_enabled
        self._swa_service = swa_service

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The principal that the platform proved.

        Raises:
            Unauthenticated: authentication is off, the header is absent or cannot be read, or names another tenant.
        """
        if not self._enabled:
            raise Unauthenticated(
                "App Service authentication is off (WEBSITE_AUTH_ENABLED is not True), so that no caller can be proven"
            )
        header = headers.get(HEADER)
        if not header:
            raise Unauthenticated("no proof of who calls: send an Entra access token as Authorization: Bearer")
        document = _decode(header)
        is_app_service, is_swa = "claims" in document, "identityProvider" in document
        if is_app_service == is_swa or (is_swa and not self._swa_enabled):
            _refuse("is of a shape that is not accepted here")
        return self._from_claims(document) if is_app_service else self._from_static_web_app(document)

    def _from_claims(self, document: Mapping[str, Any]) -> Principal:
        if document.get("auth_typ") != _ENTRA:
            _refuse("was not issued by Entra")
        claims = _claims(document["claims"])
        tenant_id = _single(claims, _TENANT_ID)
        if tenant_id is None:
            _refuse("names no tenant")
        if tenant_id != self._tenant_id:
            raise Unauthenticated("the caller belongs to another tenant")
        application_id = _single(claims, _APPLICATION_ID)
        if application_id is None:
            _refuse("names no application (azp or appid): use an access token")
        roles = (value for name, value in claims if name in _ROLES)
        return Principal(
            id=_single(claims, _OBJECT_ID) or application_id,
            tenant_id=tenant_id,
            service=self._service_names.get(application_id, application_id),
            roles=router_roles(roles),
            groups=frozenset(value for name, value in claims if name == _GROUPS and value),
        )

    def _from_static_web_app(self, document: Mapping[str, Any]) -> Principal:
        if document["identityProvider"] != _ENTRA:
            _refuse("was not issued by Entra")
        user_id, roles = document.get("userId"), document.get("userRoles")
        if not isinstance(user_id, str) or not IDENTIFIER.fullmatch(user_id):
            _refuse("names no user")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            _refuse("holds no list of roles")
        if "authenticated" not in roles:
            _refuse("is of an anonymous user")
        return Principal(id=user_id, tenant_id=self._tenant_id, service=self._swa_service, roles=router_roles(roles))


def _refuse(what: str) -> NoReturn:
    raise Unauthenticated(f"{HEADER} {what}")


def _decode(header: str) -> dict[str, Any]:
    if len(header) > MAX_HEADER_CHARACTERS:
        _refuse("is too long")
    try:
        document = json.loads(base64.b64decode(header, validate=True).decode(), object_pairs_hook=_unique)
    except (binascii.Error, ValueError, RecursionError):
        # One answer for all of them; the cause is not chained, because its text quotes the header.
        document = None
    if not isinstance(document, dict):
        _refuse("is not base64 of a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that names a field twice says two things; readers differ in which they hear."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _claims(listed: object) -> list[tuple[str, str]]:
    if not isinstance(listed, list) or len(listed) > _MAX_CLAIMS:
        _refuse("holds no list of claims")
    claims: list[tuple[str, str]] = []
    for claim in listed:
        name, value = (claim.get("typ"), claim.get("val")) if isinstance(claim, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str):
            _refuse("holds a claim that is no pair of typ and val")
        if _CONTROL.search(name) or _CONTROL.search(value):
            _refuse("holds a claim with control characters")
        claims.append((name, value))
    return claims


def _single(claims: Iterable[tuple[str, str]], names: tuple[str, ...]) -> str | None:
    """The value of a claim that can be there once; under two of its names only with one value."""
    found = [(name, value) for name, value in claims if name in names]
    if not found:
        return None
    values = {value for _, value in found}
    if len({name for name, _ in found}) != len(found) or len(values) != 1:
        _refuse(f"holds the claim {names[0]} more than once")
    (value,) = values
    if not IDENTIFIER.fullmatch(value):
        _refuse(f"holds a claim {names[0]} that is no identifier")
    return value.lower()
