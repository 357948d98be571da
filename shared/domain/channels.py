"""Where people are told of alerts: the policy's `[[channels]]`. Secrets are named here, never held."""

from dataclasses import dataclass
from enum import StrEnum

EVERY_TENANT = "*"


class ChannelKind(StrEnum):
    """How a notification travels."""

    WEBHOOK = "webhook"
    """Signed JSON to an address of the receiver's own."""
    TEAMS = "teams"
    SLACK = "slack"
    EMAIL = "email"


@dataclass(frozen=True, slots=True)
class Channel:
    """One place where people are told.

    Attributes:
        name: as alert rules call it.
        tenants: whose notifications may go there; `EVERY_TENANT` among them: anybody's.
        url: the address of a webhook that is no secret itself; empty: `url_secret` has it.
        url_secret: name of the secret that is the address. Of Teams and Slack whoever knows it can post.
        signing_secrets: names of the keys of a webhook, the current one first; each signs, so that a receiver can
            change over from one to the next.
        sender: an address of a domain that is verified with Azure Communication Services.
        to: whom e-mail goes to.
        connection_secret: name of the secret that is the connection string of Azure Communication Services.
        endpoint: of Azure Communication Services, where the app's managed identity is used instead.
    """

    name: str
    kind: ChannelKind
    tenants: frozenset[str]
    url: str = ""
    url_secret: str = ""
    signing_secrets: tuple[str, ...] = ()
    sender: str = ""
    to: tuple[str, ...] = ()
    connection_secret: str = ""
    endpoint: str = ""

    def serves(self, tenant_id: str) -> bool:
        """Whether notifications of a tenant may go there."""
        return EVERY_TENANT in self.tenants or tenant_id in self.tenants
