"""E-mail by Azure Communication Services, its REST API 2023-03-31.

https://learn.microsoft.com/rest/api/communication/email/email/send. Sending is a long-running operation whose id the
caller may choose: it is made from the notification's, so that an attempt after the first asks what became of the one
before instead of sending again.
"""

import base64
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha256
from html import escape
from typing import Any, Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
from yarl import URL

from shared.domain.channels import Channel
from shared.domain.deliveries import TAKEN, Delivery, Outcome, OutcomeKind
from shared.domain.notifications import Notification
from shared.ports import Clock, Secrets
from shared.providers.notifying.outbound import Answer, Outbound, address
from shared.providers.notifying.wording import facts, runbook, summary, title

_API = "api-version=2023-03-31"
_NOT_FOUND = 404
_UNDER_WAY = frozenset({"NotStarted", "Running"})
_ASK_AGAIN_S = 5.0


class BearerTokens(Protocol):
    """Access tokens for Azure Communication Services."""

    async def token(self) -> str:
        """A valid token.

        Raises:
            DependencyUnavailable: none can be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Resource:
    """Where and as whom: `key` None: with a token."""

    endpoint: URL
    key: bytes | None


class EmailSender:
    """`ChannelSender` of e-mail.

    Args:
        outbound: sends.
        secrets: has connection strings.
        clock: signatures hold the time.
        tokens: for channels that name an endpoint instead; None: there is no managed identity here.
    """

    def __init__(self, outbound: Outbound, secrets: Secrets, clock: Clock, tokens: BearerTokens | None) -> None:
        self._outbound = outbound
        self._secrets = secrets
        self._clock = clock
        self._tokens = tokens

    async def send(self, channel: Channel, delivery: Delivery) -> Outcome:
        """Make one attempt: hand it in, or ask what became of it. It is taken when the service says that it was sent.

        Raises:
            DependencyUnavailable: the vault is away, or no token can be had.
        """
        resource = await self._resource(channel)
        if isinstance(resource, Outcome):
            return resource
        operation = _operation(delivery)
        if delivery.tries > 1:
            answer = await self._request(resource, "GET", f"/emails/operations/{operation}?{_API}")
            if isinstance(answer, Outcome) or answer.status != _NOT_FOUND:
                return _outcome(answer)
        message = orjson.dumps(email_message(channel, delivery.notification))
        return _outcome(await self._request(resource, "POST", f"/emails:send?{_API}", message, operation))

    async def _resource(self, channel: Channel) -> _Resource | Outcome:
        if channel.endpoint:
            return _Resource(URL(channel.endpoint), None)
        secret = await self._secrets.get(channel.connection_secret)
        if secret is None:
            return Outcome(OutcomeKind.FAILED, "secret_missing")
        try:
            return _connection(secret)
        except ValueError:
            return Outcome(OutcomeKind.FAILED, "secret_unusable")

    async def _request(
        self, resource: _Resource, method: str, target: str, body: bytes = b"", operation: UUID | None = None
    ) -> Answer | Outcome:
        url = URL(f"{str(resource.endpoint).rstrip('/')}{target}", encoded=True)
        headers = {"content-type": "application/json"}
        if operation is not None:
            headers["operation-id"] = str(operation)
        if resource.key is not None:
            headers |= signed_headers(resource.key, method, url, body, self._clock.now())
        elif self._tokens is not None:
            headers["authorization"] = f"Bearer {await self._tokens.token()}"
        else:
            return Outcome(OutcomeKind.FAILED, "no_identity")
        return await self._outbound.send(method, url, headers=headers, body=body or None)


def email_message(channel: Channel, notification: Notification) -> dict[str, Any]:
    """The message as the service takes it, in text and HTML."""
    known = facts(notification)
    url = runbook(notification)
    known += [] if url is None else [("runbook", url)]
    lines = "\n".join(f"{name}: {value}" for name, value in known)
    rows = "".join(f"<tr><th align=left>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in known)
    return {
        "senderAddress": channel.sender,
        "recipients": {"to": [{"address": address} for address in channel.to]},
        "content": {
            "subject": title(notification),
            "plainText": f"{summary(notification)}\n\n{lines}\n",
            "html": f"<html><body><p>{escape(summary(notification))}</p><table>{rows}</table></body></html>",
        },
        "userEngagementTrackingDisabled": True,
    }


def signed_headers(key: bytes, method: str, url: URL, body: bytes, now: datetime) -> dict[str, str]:
    """HMAC authentication of Azure Communication Services.

    https://learn.microsoft.com/azure/communication-services/tutorials/hmac-header-tutorial
    """
    date, digest = format_datetime(now.astimezone(UTC), usegmt=True), base64.b64encode(sha256(body).digest()).decode()
    text = f"{method}\n{url.raw_path_qs}\n{date};{url.host_port_subcomponent};{digest}"
    signature = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
    return {
        "x-ms-date": date,
        "x-ms-content-sha256": digest,
        "authorization": f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}",
    }


def _operation(delivery: Delivery) -> UUID:
    """The operation's id: another one after an admin's retry, because an operation that failed stays so."""
    return uuid5(NAMESPACE_URL, f"llm-router/notifications/{delivery.notification.id}/{delivery.attempts_before}")


def _connection(text: str) -> _Resource:
    """What a connection string says.

    Raises:
        ValueError: it is none; the message quotes nothing.
    """
    parts = dict(part.partition("=")[::2] for part in text.strip().split(";") if part)
    parts = {name.strip().lower(): value.strip() for name, value in parts.items()}
    endpoint, key = address(parts.get("endpoint", "")), parts.get("accesskey", "")
    if endpoint is None or not endpoint.host or not key:
        raise ValueError("no connection string")
    return _Resource(endpoint.origin(), base64.b64decode(key, validate=True))


def _outcome(answer: Answer | Outcome) -> Outcome:
    if isinstance(answer, Outcome):
        return answer
    if answer.outcome is not TAKEN:
        return answer.outcome
    try:
        status = str(orjson.loads(answer.body)["status"])
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return Outcome(OutcomeKind.FAILED, "answer_unreadable")
    if status == "Succeeded":
        return TAKEN
    if status in _UNDER_WAY:
        return Outcome(OutcomeKind.UNDER_WAY, "email_under_way", _ASK_AGAIN_S)
    return Outcome(OutcomeKind.REFUSED, "email_failed")
