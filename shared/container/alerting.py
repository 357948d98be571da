"""The part that decides whom to tell of what."""

import contextlib

from shared.config import Settings
from shared.ports import Clock, Ids, Telemetry
from shared.services.alert_desk import AlertDesk, Alerting
from shared.services.alert_evidence import EvidenceReader
from shared.services.alerting import AlertEvaluator, Channels
from shared.services.shelf import Shelf
from shared.services.threat_notices import ThreatNotices
from shared.stores.postgres.alerts import PostgresAlerts
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.pool import PasswordSource, PostgresPool


def channels_of(shelf: Shelf) -> Channels:
    """The channels of the policy in force, by tenant."""

    def channels(tenant_id: str) -> list[str]:
        return [name for name, channel in shelf.policy.channels.items() if channel.serves(tenant_id)]

    return channels


def build_threat_notices(pool: PostgresPool, shelf: Shelf, clock: Clock) -> ThreatNotices:
    """Grave findings of the threat rules, told as alerts are."""
    return ThreatNotices(PostgresAlerts(pool), channels_of(shelf), clock)


def build_alerting(
    settings: Settings,
    password: PasswordSource | None,
    shelf: Shelf,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> Alerting:
    """Rules, their evaluation, and what is done about incidents."""
    # A pool of its own: a step holds a transaction open while it asks the rollups on another connection.
    pool = PostgresPool(
        settings.postgres_dsn, password_source=password, application_name="llm-router-alerts", max_size=4
    )
    closing.push_async_callback(pool.aclose)
    store = PostgresAlerts(pool)
    evidence = EvidenceReader(PostgresAnalytics(pool), lambda: shelf.policy.budgets, settings.analytics_tags)
    channels = channels_of(shelf)
    return Alerting(
        AlertEvaluator(store, evidence, channels, clock, telemetry),
        AlertDesk(store, evidence, channels, clock, ids),
    )
