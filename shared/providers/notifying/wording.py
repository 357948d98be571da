"""A notification in words, the same by every channel that people read."""

from shared.domain.notifications import Notification, Occasion

_LONGEST_TITLE = 150
"""What a header of Slack holds; the tightest of all."""
_LONGEST_FACT = 150
_LONGEST_RUNBOOK = 400
_LONGEST_SUMMARY = 500
"""Escaping makes a text at most five times as long: a section of Slack takes 3,000 characters, a field of one 2,000."""
_VERBS = {
    Occasion.FIRING: "firing",
    Occasion.REMINDER: "still firing",
    Occasion.ESCALATION: "escalated",
    Occasion.RESOLVED: "resolved",
}


def title(notification: Notification) -> str:
    """One line."""
    words = f"[{notification.severity.value}] {notification.rule_name} {_VERBS[notification.occasion]}"
    return cut(" ".join(words.split()), _LONGEST_TITLE)


def facts(notification: Notification) -> list[tuple[str, str]]:
    """What is known, by name. All of it is text that came from elsewhere: to be escaped by whoever shows it."""
    found = [(name, value) for name, value in sorted(notification.group.items())]
    if notification.value is not None:
        found.append(("value", _figure(notification.value, notification.unit)))
    if notification.threshold is not None:
        found.append(("threshold", _figure(notification.threshold, notification.unit)))
    found.append(("since", notification.started_at.isoformat(timespec="seconds")))
    if notification.resolved_at is not None:
        found.append(("until", notification.resolved_at.isoformat(timespec="seconds")))
    found.append(("incident", notification.incident_id))
    return [(cut(name, _LONGEST_FACT), cut(value, _LONGEST_FACT)) for name, value in found]


def runbook(notification: Notification) -> str | None:
    """The runbook's address, where it is one that a person may be sent to."""
    url = notification.runbook_url
    is_plain = url.isascii() and url.isprintable() and not set(url) & set(" <>|\"'`\\")
    is_short = len(url) <= _LONGEST_RUNBOOK
    return url if url.startswith(("https://", "http://")) and is_plain and is_short else None


def summary(notification: Notification) -> str:
    """What happened; never empty."""
    return cut(notification.summary.strip(), _LONGEST_SUMMARY) or title(notification)


def cut(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _figure(value: float, unit: str) -> str:
    return f"{value:.6g} {unit}".rstrip()
