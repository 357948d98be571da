"""Messages to Teams and Slack: JSON to an address that is a secret. Neither can tell a repeated message."""

import re
from collections.abc import Callable
from typing import Any

import orjson

from shared.domain.channels import Channel
from shared.domain.deliveries import Delivery, Outcome, OutcomeKind
from shared.domain.notifications import Notification, Occasion, Severity
from shared.ports import Secrets
from shared.providers.notifying.outbound import Outbound, address
from shared.providers.notifying.wording import facts, runbook, summary, title

_MOST_FACTS = 10
"""Fields of a section of Slack."""
_COLOURS = {Severity.CRITICAL: "attention", Severity.WARNING: "warning", Severity.INFO: "accent"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>])")


class ChatSender:
    """`ChannelSender` of a chat.

    Args:
        outbound: sends.
        secrets: has the channel's address.
        compose: the message as the chat takes it: `teams_message` or `slack_message`.
    """

    def __init__(self, outbound: Outbound, secrets: Secrets, compose: Callable[[Notification], dict[str, Any]]) -> None:
        self._outbound = outbound
        self._secrets = secrets
        self._compose = compose

    async def send(self, channel: Channel, delivery: Delivery) -> Outcome:
        """Make one attempt.

        Raises:
            DependencyUnavailable: the vault is away.
        """
        secret = await self._secrets.get(channel.url_secret)
        if secret is None:
            return Outcome(OutcomeKind.FAILED, "secret_missing")
        url = address(secret)
        if url is None:
            return Outcome(OutcomeKind.FAILED, "secret_unusable")
        body = orjson.dumps(self._compose(delivery.notification))
        headers = {"content-type": "application/json"}
        answer = await self._outbound.send("POST", url, headers=headers, body=body)
        return answer if isinstance(answer, Outcome) else answer.outcome


def teams_message(notification: Notification) -> dict[str, Any]:
    """An Adaptive Card 1.4 for a Teams workflow with the trigger "When a Teams webhook request is received".

    https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using. The older
    message cards of Microsoft 365 connectors are retired and not understood there.
    """
    is_resolved = notification.occasion is Occasion.RESOLVED
    url = runbook(notification)
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": [
            {
                "type": "TextBlock",
                "size": "medium",
                "weight": "bolder",
                "wrap": True,
                "color": "good" if is_resolved else _COLOURS[notification.severity],
                "text": _without_markdown(title(notification)),
            },
            {
                "type": "TextBlock",
                "wrap": True,
                "text": _without_markdown(summary(notification)),
            },
            {
                "type": "FactSet",
                "facts": [
                    {"title": _without_markdown(name), "value": _without_markdown(value)}
                    for name, value in facts(notification)[-_MOST_FACTS:]
                ],
            },
        ],
    }
    if url is not None:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Runbook", "url": url}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def slack_message(notification: Notification) -> dict[str, Any]:
    """Blocks for an incoming webhook of Slack, with a text for where blocks are not shown.

    https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and
    https://docs.slack.dev/messaging/formatting-message-text (what is escaped).
    """
    url = runbook(notification)
    text = _escaped(summary(notification)) + ("" if url is None else f"\n<{_escaped(url)}|Runbook>")
    fields = [
        {"type": "mrkdwn", "text": f"*{_escaped(name)}*\n{_escaped(value)}"}
        for name, value in facts(notification)[-_MOST_FACTS:]
    ]
    return {
        "text": _escaped(f"{title(notification)}: {summary(notification)}"),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": title(notification), "emoji": False}},
            # `verbatim`: names of people and channels in a summary call nobody.
            {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}},
            {"type": "section", "fields": fields},
        ],
    }


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _without_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
