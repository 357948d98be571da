"""The part that proves callers, gives sessions, and writes down what callers did."""

from dataclasses import dataclass

from shared.config import Settings
from shared.container.contents import Identity
from shared.container.ground import Ground
from shared.ports import Authenticator, SessionFamilies
from shared.security.chain import ChainAuthenticator
from shared.security.development import DevelopmentAuthenticator
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.security.entra import EntraTokenAuthenticator
from shared.security.entra_login import EntraCredentialCheck
from shared.security.jwks import JsonWebKeys
from shared.security.session_tokens import SessionTokens
from shared.security.signing_keys import FileSigningKeys, KeyVaultSigningKeys
from shared.services.audit import AuditTrail
from shared.services.sessions import SessionService
from shared.stores.audit import AUDIT_TABLE, TableAuditStore
from shared.stores.login_guard import RedisLoginGuard
from shared.stores.session_families import SESSIONS_TABLE, TableSessionFamilies
from shared.stores.tables import open_table


@dataclass(frozen=True, slots=True)
class Callers:
    """Who calls, and what of it is written down.

    Attributes:
        trails: where the audit trail is kept.
        families: sessions that were given.
        audit: writes the audit trail.
        identity: sign-in.
        authenticator: says who a caller is.
    """

    trails: TableAuditStore
    families: TableSessionFamilies
    audit: AuditTrail
    identity: Identity
    authenticator: Authenticator


def build_callers(ground: Ground) -> Callers:
    """Who is believed, by the settings, and the trail of what they do."""
    trails = ground.closes(TableAuditStore(open_table(AUDIT_TABLE, **ground.storage)))
    families = ground.closes(TableSessionFamilies(open_table(SESSIONS_TABLE, **ground.storage)))
    audit = ground.closes(AuditTrail(trails, ground.clock, ground.telemetry, writer=ground.ids.request_id()))
    tokens = _session_tokens(ground, families)
    entra = _entra_tokens(ground)
    sessions = _sessions(ground, tokens, entra, families)
    return Callers(trails, families, audit, Identity(tokens, sessions), _authenticator(ground.settings, entra, tokens))


def _session_tokens(ground: Ground, families: SessionFamilies) -> SessionTokens | None:
    """What signs and checks session tokens, where a key vault or a file of keys is set."""
    keys_file, clock = ground.settings.signing_keys_file, ground.clock
    if keys_file is not None:
        return SessionTokens(FileSigningKeys(keys_file, clock), clock, families)
    client = ground.key_vault_client()
    return None if client is None else SessionTokens(KeyVaultSigningKeys(client, clock), clock, families)


def _sessions(
    ground: Ground, tokens: SessionTokens | None, entra: EntraTokenAuthenticator | None, families: SessionFamilies
) -> SessionService | None:
    """Sign-in, where keys and audiences are set."""
    if tokens is None or entra is None:
        return None
    settings = ground.settings
    check = EntraCredentialCheck(
        entra,
        tenant_id=settings.tenant_id or "",
        audience=settings.token_audiences[0],
        authority=settings.entra_authority,
    )
    guard = RedisLoginGuard(ground.redis, ground.clock)
    return SessionService(check, tokens, families, guard, ground.clock, ground.telemetry)


def _entra_tokens(ground: Ground) -> EntraTokenAuthenticator | None:
    """What checks Entra access tokens, where a tenant and audiences are set."""
    settings, clock = ground.settings, ground.clock
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


def _authenticator(
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
