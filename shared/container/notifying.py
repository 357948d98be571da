"""The part that delivers notifications."""

import contextlib
import ipaddress
from collections.abc import Callable

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError

from shared.config import Settings
from shared.domain.channels import ChannelKind
from shared.domain.errors import DependencyUnavailable
from shared.domain.policy import Policy
from shared.ports import ChannelSender, Clock, RandomSource, Secrets, Telemetry
from shared.providers.notifying.addresses import AddressGuard
from shared.providers.notifying.chat import ChatSender, slack_message, teams_message
from shared.providers.notifying.email import EmailSender
from shared.providers.notifying.outbound import Outbound
from shared.providers.notifying.webhook import WebhookSender
from shared.security.secrets import FileSecrets, KeyVaultSecrets
from shared.services.notifying import DeliveryDesk, Dispatcher, Notifying
from shared.stores.postgres.notifications import PostgresDeliveries
from shared.stores.postgres.pool import PostgresPool

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


def build_notifying(
    settings: Settings,
    entra: AsyncTokenCredential | None,
    pool: PostgresPool,
    policy: Callable[[], Policy],
    clock: Clock,
    telemetry: Telemetry,
    rng: RandomSource,
    closing: contextlib.AsyncExitStack,
) -> Notifying:
    """What sends notifications that wait in the database, and what shows them."""
    is_local = settings.environment == "local"
    networks = [ipaddress.ip_network(network) for network in settings.notify_networks]
    outbound = Outbound(clock, AddressGuard(networks, permits_all=is_local), permits_plain=is_local)
    closing.push_async_callback(outbound.aclose)
    secrets = _secrets(settings, entra, clock, closing)
    store = PostgresDeliveries(pool)
    senders: dict[ChannelKind, ChannelSender] = {
        ChannelKind.WEBHOOK: WebhookSender(outbound, secrets, clock),
        ChannelKind.TEAMS: ChatSender(outbound, secrets, teams_message),
        ChannelKind.SLACK: ChatSender(outbound, secrets, slack_message),
        ChannelKind.EMAIL: EmailSender(outbound, secrets, clock, None if entra is None else EntraTokens(entra)),
    }
    return Notifying(Dispatcher(store, senders, policy, clock, telemetry, rng), DeliveryDesk(store, clock))


def _secrets(
    settings: Settings, entra: AsyncTokenCredential | None, clock: Clock, closing: contextlib.AsyncExitStack
) -> Secrets:
    if settings.key_vault_url is None or entra is None:
        return FileSecrets(settings.secrets_file)
    from azure.keyvault.secrets.aio import SecretClient  # noqa: PLC0415 - 0.1 s of CPU where no vault is used

    client = SecretClient(settings.key_vault_url, entra, retry_total=0)
    closing.push_async_callback(client.close)
    return KeyVaultSecrets(client, clock)
