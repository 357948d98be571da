"""The part that keeps content for services that opted in."""

import contextlib

from azure.core.credentials_async import AsyncTokenCredential

from shared.config import Settings
from shared.domain.policy import Policy
from shared.ports import Clock, ContentKeys, Telemetry
from shared.security.content_keys import FileContentKeys, KeyVaultContentKeys
from shared.services.content_keeping import ContentKeeper
from shared.services.shelf import Shelf
from shared.stores.postgres.kept_content import PostgresContent
from shared.stores.postgres.pool import PostgresPool
from shared.stores.sealing import Seal


def build_content(
    settings: Settings,
    entra: AsyncTokenCredential | None,
    pool: PostgresPool,
    shelf: Shelf,
    clock: Clock,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> ContentKeeper:
    """What keeps content, at work.

    Raises:
        ValueError: the policy has content kept, and no key to seal it is configured.
    """
    keys = _keys(settings, entra, clock, closing)
    if keys is None and (service := _opted_in(shelf.policy)) is not None:
        raise ValueError(
            f"the policy has content of {service} kept: set ROUTER_KEY_VAULT_URL, or locally ROUTER_CONTENT_KEY_FILE"
        )
    keeper = ContentKeeper(PostgresContent(pool), keys, Seal, lambda: shelf.policy, clock, telemetry)
    keeper.start()
    closing.push_async_callback(keeper.aclose)
    return keeper


def _keys(
    settings: Settings, entra: AsyncTokenCredential | None, clock: Clock, closing: contextlib.AsyncExitStack
) -> ContentKeys | None:
    if settings.content_key_file is not None:
        return FileContentKeys(settings.content_key_file)
    if settings.key_vault_url is None or entra is None:
        return None
    from azure.keyvault.secrets.aio import SecretClient  # noqa: PLC0415 - 0.1 s of CPU where no vault is used

    client = SecretClient(settings.key_vault_url, entra, retry_total=0)
    closing.push_async_callback(client.close)
    return KeyVaultContentKeys(client, clock)


def _opted_in(policy: Policy) -> str | None:
    """A service whose content is to be kept."""
    if policy.default_service.content is not None:
        return "every service"
    return next((name for name, service in policy.services.items() if service.content is not None), None)
