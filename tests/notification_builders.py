"""Notifications for tests, every field set."""

from datetime import UTC, datetime, timedelta

from shared.domain.channels import Channel, ChannelKind
from shared.domain.deliveries import Delivery, DeliveryState
from shared.domain.notifications import Notification, Occasion, Severity

NOW = datetime(2026, 11, 23, 16, 40, tzinfo=UTC)
URL_SECRET = "hook-url"
SIGNING = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")


def notification(number=1, **fields):
    values = {
        "id": f"n-{number}",
        "tenant_id": "tenant-a",
        "channel": "ops",
        "occasion": Occasion.FIRING,
        "severity": Severity.CRITICAL,
        "rule_id": "r-1",
        "rule_name": "Too many errors",
        "incident_id": f"i-{number}",
        "summary": "The error rate of gemini-flash is 12% (threshold 5%).",
        "started_at": NOW - timedelta(minutes=5),
        "created_at": NOW,
        "group": {"model": "gemini-flash"},
        "value": 0.12,
        "threshold": 0.05,
        "unit": "ratio",
        "runbook_url": "https://wiki.example/errors",
        "resolved_at": None,
    }
    return Notification(**values | fields)


def delivery(told=None, **fields):
    values = {"state": DeliveryState.WAITING, "attempts": 1, "attempts_before": 0, "queued_at": NOW, "due_at": NOW}
    return Delivery(told or notification(), **values | fields)


def channel(kind=ChannelKind.WEBHOOK, **fields):
    values = {"name": "ops", "kind": kind, "tenants": frozenset({"tenant-a"})}
    if kind is ChannelKind.EMAIL:
        values |= {"sender": "router@alerts.example", "to": ("ops@example.com",), "connection_secret": "acs"}
    else:
        values["url_secret"] = URL_SECRET
    if kind is ChannelKind.WEBHOOK:
        values["signing_secrets"] = ("key-new", "key-old")
    return Channel(**values | fields)


class StaticSecrets:
    """`Secrets` in a dictionary."""

    def __init__(self, **known):
        self.known = {name.replace("_", "-"): value for name, value in known.items()}

    async def get(self, name):
        return self.known.get(name)
