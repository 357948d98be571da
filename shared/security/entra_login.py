"""Credentials of applications, checked by asking Entra for a token with them."""

import asyncio
from typing import Any

from azure.core.exceptions import AzureError, ClientAuthenticationError

from shared.domain.errors import DependencyUnavailable, Unauthenticated
from shared.domain.identity import Principal
from shared.security.entra import AUTHORITY, EntraTokenAuthenticator

_DEADLINE_S = 10.0
_THROTTLED = 429
_SERVER_ERRORS = 500


class EntraCredentialCheck:
    """`CredentialCheck` by the client credentials flow (RFC 6749, section 4.4).

    Args:
        tokens: checks the access tokens, those that Entra gives for a secret too: what makes a caller is always the
            token's claims.
        tenant_id: of the applications.
        audience: this app's ``api://`` URI.
        authority: of the cloud.
        transport: of azure-core, in place of its own.
    """

    def __init__(
        self,
        tokens: EntraTokenAuthenticator,
        *,
        tenant_id: str,
        audience: str,
        authority: str = AUTHORITY,
        transport: Any = None,
    ) -> None:
        self._tokens = tokens
        self._tenant_id = tenant_id
        self._scope = f"{audience.rstrip('/')}/.default"
        self._authority = authority
        self._options = {} if transport is None else {"transport": transport}

    async def with_token(self, token: str) -> Principal:
        """The principal of an access token.

        Raises:
            Unauthenticated: it does not hold.
            DependencyUnavailable: Entra's keys cannot be had.
        """
        return await self._tokens.principal_of(token)

    async def with_secret(self, client_id: str, client_secret: str) -> Principal:
        """The application that has this id and secret.

        Raises:
            Unauthenticated: Entra refuses them.
            DependencyUnavailable: Entra does not answer, or is busy.
        """
        # Imported only where it is used: azure.identity costs 0.2 s of CPU at start.
        from azure.identity.aio import ClientSecretCredential  # noqa: PLC0415

        credential = ClientSecretCredential(
            self._tenant_id,
            client_id,
            client_secret,
            authority=self._authority,
            disable_instance_discovery=True,
            retry_total=0,
            **self._options,
        )
        try:
            async with asyncio.timeout(_DEADLINE_S), credential:
                token = await credential.get_token(self._scope)
        except ClientAuthenticationError as error:
            status = getattr(error.response, "status_code", 0)
            if status == _THROTTLED or status >= _SERVER_ERRORS:
                raise DependencyUnavailable("Entra does not answer") from None
            raise Unauthenticated("the client id and secret do not hold") from None
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("Entra does not answer") from None
        return await self._tokens.principal_of(token.token)
