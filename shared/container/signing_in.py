"""The part that proves callers and gives sessions."""

import contextlib

from azure.core.credentials_async import AsyncTokenCredential

from shared.config import Settings
from shared.ports import (
    Authenticator,
    Clock,
    LoginGuard,
    SessionFamilies,
    Telemetry,
)
from shared.security.chain import ChainAuthenticator
from shared.security.development import DevelopmentAuthenticator
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.security.entra import EntraTokenAuthenticator
from shared.security.entra_login import EntraCredentialCheck
from shared.security.jwks import JsonWebKeys
from shared.security.session_tokens import SessionTokens
from shared.security.signing_keys import FileSigningKeys, KeyVaultSigningKeys
from shared.services.sessions import SessionService


def build_session_tokens(
    settings: Settings,
    entra: AsyncTokenCredential | None,
    families: SessionFamilies,
    clock: Clock,
    closing: contextlib.AsyncExitStack,
) -> SessionTokens | None:
    """What signs and checks session tokens, where a key vault or a file of keys is set."""
    if settings.signing_keys_file is not None:
        return SessionTokens(FileSigningKeys(settings.signing_keys_file, clock), clock, families)
    if settings.key_vault_url is None or entra is None:
        return None
    from azure.keyvault.secrets.aio import SecretClient  # noqa: PLC0415 - 0.1 s of CPU where no vault is used

    client = SecretClient(settings.key_vault_url, entra, retry_total=0)
    closing.push_async_callback(client.close)
    return SessionTokens(KeyVaultSigningKeys(client, clock), clock, families)


def build_sessions(
    settings: Settings,
    tokens: SessionTokens | None,
    tenant_tokens: EntraTokenAuthenticator | None,
    families: SessionFamilies,
    guard: LoginGuard,
    clock: Clock,
    telemetry: Telemetry,
) -> SessionService | None:
    """Sign-in, where keys and audiences are set."""
    if tokens is None or tenant_tokens is None:
        return None
    check = EntraCredentialCheck(
        tenant_tokens,
        tenant_id=settings.tenant_id or "",
        audience=settings.token_audiences[0],
        authority=settings.entra_authority,
    )
    return SessionService(check, tokens, families, guard, clock, telemetry)


def build_entra_tokens(settings: Settings, clock: Clock) -> EntraTokenAuthenticator | None:
    """What checks Entra access tokens, where a tenant and audiences are set."""
    if settings.auth == "development" or not settings.token_audiences or settings.tenant_id is None:
        return None
    authority = settings.entra_authority.rstrip("/")
    return EntraTokenAuthenticator(
        JsonWebKeys(f"{authority}/{settings.tenant_id}/discovery/v2.0/keys", clock),
        clock,
        tenant_id=settings.tenant_id,
        audiences=settings.token_audiences,
        scopes=settings.token_scopes,
        service_names=settings.service_names,
        authority=authority,
    )


def build_authenticator(
    settings: Settings, entra: EntraTokenAuthenticator | None, sessions: SessionTokens | None
) -> Authenticator:
    """Who is believed, by the settings."""
    if settings.auth == "development":
        return DevelopmentAuthenticator(environment=settings.environment)
    platform = None
    if settings.auth == "easy_auth" and settings.easy_auth_enabled:
        platform = EasyAuthAuthenticator(
            enabled=True,
            tenant_id=settings.tenant_id,
            service_names=settings.service_names,
            swa_enabled=settings.swa_enabled,
        )
    return ChainAuthenticator(platform=platform, entra=entra, sessions=sessions)
