"""The part that delivers notifications."""

import ipaddress
from collections.abc import Callable

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError

from shared.container.ground import Ground
from shared.domain.channels import ChannelKind
from shared.domain.errors import DependencyUnavailable
from shared.domain.policy import Policy
from shared.ports import ChannelSender, Secrets
from shared.providers.notifying.addresses import AddressGuard
from shared.providers.notifying.chat import ChatSender, slack_message, teams_message
from shared.providers.notifying.email import EmailSender
from shared.providers.notifying.outbound import Outbound
from shared.providers.notifying.webhook import WebhookSender
from shared.security.secrets import FileSecrets, KeyVaultSecrets
from shared.services.notifying import DeliveryDesk, Dispatcher, Notifying
from shared.stores.postgres.notifications import PostgresDeliveries

_EMAIL_SCOPE = "https://communication.azure.com/.default"


class EntraTokens:
    """Access tokens for Azure Communication Services.

    Args:
        credential: the app's identity, which caches tokens.
    """

    def __init__(self, credential: AsyncTokenCredential) -> None:
        self._credential = credential

    async def token(self) -> str:
        """A valid token.

        Raises:
            DependencyUnavailable: none can be had.
        """
        try:
            return (await self._credential.get_token(_EMAIL_SCOPE)).token
        except AzureError:
            raise DependencyUnavailable("no token for Azure Communication Services can be had") from None


def build_notifying(ground: Ground, policy: Callable[[], Policy]) -> Notifying:
    """What sends notifications that wait in the database, and what shows them."""
    clock, entra = ground.clock, ground.entra
    is_local = ground.settings.environment == "local"
    networks = [ipaddress.ip_network(network) for network in ground.settings.notify_networks]
    guard = AddressGuard(networks, permits_all=is_local)
    outbound = ground.closes(Outbound(clock, guard, permits_plain=is_local))
    secrets = _secrets(ground)
    store = PostgresDeliveries(ground.pool)
    senders: dict[ChannelKind, ChannelSender] = {
        ChannelKind.WEBHOOK: WebhookSender(outbound, secrets, clock),
        ChannelKind.TEAMS: ChatSender(outbound, secrets, teams_message),
        ChannelKind.SLACK: ChatSender(outbound, secrets, slack_message),
        ChannelKind.EMAIL: EmailSender(outbound, secrets, clock, None if entra is None else EntraTokens(entra)),
    }
    return Notifying(
        Dispatcher(store, senders, policy, clock, ground.telemetry, ground.rng), DeliveryDesk(store, clock)
    )


def _secrets(ground: Ground) -> Secrets:
    client = ground.key_vault_client()
    return FileSecrets(ground.settings.secrets_file) if client is None else KeyVaultSecrets(client, ground.clock)
