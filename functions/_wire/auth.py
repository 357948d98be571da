"""Bodies of the sign-in endpoints. Secrets come in and go out here, and appear in no error and no log."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from functions._wire.parsing import Body
from shared.domain.identity import Principal
from shared.services.sessions import Grant

_Id = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class LoginBody(Body):
    """Client credentials, or an Entra access token."""

    grant_type: Literal["client_credentials", "entra_token"] = "client_credentials"
    client_id: _Id | None = None
    client_secret: Annotated[str | None, Field(min_length=1, max_length=512, repr=False)] = None
    token: Annotated[str | None, Field(min_length=1, max_length=16384, repr=False)] = None

    @model_validator(mode="after")
    def _complete(self) -> "LoginBody":
        if self.grant_type == "client_credentials":
            if self.client_id is None or self.client_secret is None or self.token is not None:
                raise ValueError("client_credentials takes client_id and client_secret")
        elif self.token is None or self.client_id is not None or self.client_secret is not None:
            raise ValueError("entra_token takes token")
        return self


class RefreshBody(Body):
    """A refresh token."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=512, repr=False)]


def grant_body(grant: Grant, now: datetime) -> dict[str, Any]:
    """The answer of a sign-in, as RFC 6749, section 5.1, names it."""
    return {
        "token_type": "Bearer",
        "access_token": grant.token,
        "expires_in": max(0, int((grant.expires_at - now).total_seconds())),
        "refresh_token": grant.refresh_token,
        "session_expires_in": max(0, int((grant.session_expires_at - now).total_seconds())),
        "principal": principal_body(grant.principal),
    }


def validation_body(principal: Principal) -> dict[str, Any]:
    """What the proof that came with a call is worth."""
    expires_at = principal.expires_at
    return {
        "active": True,
        "proof": principal.proof.value,
        "expires_at": None if expires_at is None else expires_at.isoformat(),
        "session_id": principal.session_id,
        "principal": principal_body(principal),
    }


def principal_body(principal: Principal) -> dict[str, Any]:
    """A caller and what it may do."""
    return {
        "id": principal.id,
        "tenant_id": principal.tenant_id,
        "service": principal.service,
        "roles": sorted(role.value for role in principal.roles),
        "permissions": sorted(permission.value for permission in principal.permissions),
        "development": principal.development,
    }
