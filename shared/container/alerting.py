"""The part that decides whom to tell of what."""

from shared.container.ground import Ground
from shared.services.alert_desk import AlertDesk, Alerting
from shared.services.alert_evidence import EvidenceReader
from shared.services.alerting import AlertEvaluator, Channels
from shared.services.shelf import Shelf
from shared.services.threat_notices import ThreatNotices
from shared.stores.postgres.alerts import PostgresAlerts
from shared.stores.postgres.analytics import PostgresAnalytics


def channels_of(shelf: Shelf) -> Channels:
    """The channels of the policy in force, by tenant."""

    def channels(tenant_id: str) -> list[str]:
        return [name for name, channel in shelf.policy.channels.items() if channel.serves(tenant_id)]

    return channels


def build_threat_notices(ground: Ground, shelf: Shelf) -> ThreatNotices:
    """Grave findings of the threat rules, told as alerts are."""
    return ThreatNotices(PostgresAlerts(ground.pool), channels_of(shelf), ground.clock)


def build_alerting(ground: Ground, shelf: Shelf) -> Alerting:
    """Rules, their evaluation, and what is done about incidents."""
    # A pool of its own: a step holds a transaction open while it asks the rollups on another connection.
    pool = ground.pool_for("alerts", max_size=4)
    store = PostgresAlerts(pool)
    evidence = EvidenceReader(PostgresAnalytics(pool), lambda: shelf.policy.budgets, ground.settings.analytics_tags)
    channels = channels_of(shelf)
    return Alerting(
        AlertEvaluator(store, evidence, channels, ground.clock, ground.telemetry),
        AlertDesk(store, evidence, channels, ground.clock, ground.ids),
    )
