"""Signed webhooks after the Standard Webhooks specification 1.0.0.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. The body is JSON, its schema
in docs/alerts.md; `webhook-id` is the same in every attempt, `webhook-timestamp` is the attempt's.
"""

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any

import orjson

from shared.domain.channels import Channel
from shared.domain.deliveries import Delivery, Outcome, OutcomeKind
from shared.domain.notifications import Notification
from shared.ports import Clock, Secrets
from shared.providers.notifying.outbound import Outbound, address

SCHEMA_VERSION = 1
_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class WebhookSender:
    """`ChannelSender` of webhooks.

    Args:
        outbound: sends.
        secrets: has addresses and keys.
        clock: the attempt's time.
    """

    def __init__(self, outbound: Outbound, secrets: Secrets, clock: Clock) -> None:
        self._outbound = outbound
        self._secrets = secrets
        self._clock = clock

    async def send(self, channel: Channel, delivery: Delivery) -> Outcome:
        """Make one attempt.

        Raises:
            DependencyUnavailable: the vault is away.
        """
        text = channel.url or await self._secrets.get(channel.url_secret)
        if text is None:
            return Outcome(OutcomeKind.FAILED, "secret_missing")
        url = address(text)
        if url is None:
            return Outcome(OutcomeKind.FAILED, "secret_unusable")
        keys = []
        for name in channel.signing_secrets:
            secret = await self._secrets.get(name)
            if secret is None:
                return Outcome(OutcomeKind.FAILED, "secret_missing")
            try:
                keys.append(signing_key(secret))
            except ValueError:
                return Outcome(OutcomeKind.FAILED, "secret_unusable")
        body = orjson.dumps(webhook_body(delivery.notification))
        message_id, timestamp_s = webhook_id(delivery.notification), int(self._clock.now().timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": " ".join(signature(key, message_id, timestamp_s, body) for key in keys),
        }
        answer = await self._outbound.send("POST", url, headers=headers, body=body)
        return answer if isinstance(answer, Outcome) else answer.outcome


def webhook_id(notification: Notification) -> str:
    """The message's id, or its digest where it holds more than letters, digits, ``_`` and ``-``.

    The full stop separates what is signed, and a header takes no line end.
    """
    if _PLAIN_ID.fullmatch(notification.id):
        return notification.id
    return f"msg_{hashlib.sha256(notification.id.encode(errors='replace')).hexdigest()}"


def webhook_body(notification: Notification) -> dict[str, Any]:
    """The body, version `SCHEMA_VERSION`: fields are added without a new version, never changed or taken away."""
    resolved_at = notification.resolved_at
    return {
        "type": f"alert.{notification.occasion.value}",
        "timestamp": notification.created_at.isoformat(),
        "version": SCHEMA_VERSION,
        "data": {
            "notification_id": notification.id,
            "incident_id": notification.incident_id,
            "tenant_id": notification.tenant_id,
            "rule_id": notification.rule_id,
            "rule_name": notification.rule_name,
            "severity": notification.severity.value,
            "summary": notification.summary,
            "group": dict(notification.group),
            "value": notification.value,
            "threshold": notification.threshold,
            "unit": notification.unit or None,
            "runbook_url": notification.runbook_url or None,
            "started_at": notification.started_at.isoformat(),
            "resolved_at": None if resolved_at is None else resolved_at.isoformat(),
        },
    }


def signing_key(secret: str) -> bytes:
    """The key of a secret: Base64 of 24 to 64 bytes, with or without ``whsec_``.

    Raises:
        ValueError: it is none; the message quotes nothing.
    """
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("not Base64") from None
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError(f"not {_LEAST_BYTES} to {_MOST_BYTES} bytes")
    return key


def signature(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """One entry of ``webhook-signature``: HMAC-SHA256 over id, time and body, joined by full stops."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
