"""The part that keeps content for services that opted in."""

from shared.container.ground import Ground
from shared.domain.policy import Policy
from shared.ports import ContentKeys
from shared.security.content_keys import FileContentKeys, KeyVaultContentKeys
from shared.services.content_keeping import ContentKeeper
from shared.services.shelf import Shelf
from shared.stores.postgres.kept_content import PostgresContent
from shared.stores.sealing import Seal


def build_content(ground: Ground, shelf: Shelf) -> ContentKeeper:
    """What keeps content, at work.

    Raises:
        ValueError: the policy has content kept, and no key to seal it is configured.
    """
    keys = _keys(ground)
    if keys is None and (service := _opted_in(shelf.policy)) is not None:
        raise ValueError(
            f"the policy has content of {service} kept: set ROUTER_KEY_VAULT_URL, or locally ROUTER_CONTENT_KEY_FILE"
        )
    keeper = ContentKeeper(
        PostgresContent(ground.pool), keys, Seal, lambda: shelf.policy, ground.clock, ground.telemetry
    )
    keeper.start()
    return ground.closes(keeper)


def _keys(ground: Ground) -> ContentKeys | None:
    if ground.settings.content_key_file is not None:
        return FileContentKeys(ground.settings.content_key_file)
    client = ground.key_vault_client()
    return None if client is None else KeyVaultContentKeys(client, ground.clock)


def _opted_in(policy: Policy) -> str | None:
    """A service whose content is to be kept."""
    if policy.default_service.content is not None:
        return "every service"
    return next((name for name, service in policy.services.items() if service.content is not None), None)
