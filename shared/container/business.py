"""The part that administrators look at: objectives, the first page, and what it all costs."""

from collections.abc import Mapping

from shared.container.ground import Ground
from shared.domain.security_events import FindingState
from shared.ports import AlertStore, ThreatStore
from shared.services.administration import Administration
from shared.services.analytics import Analytics
from shared.services.budget_outlook import BudgetOutlook
from shared.services.business import Business
from shared.services.deployment_health import DeploymentHealth
from shared.services.overview import OpenMatters, Overview
from shared.services.shelf import Shelf
from shared.services.slos import Slos
from shared.stores.postgres.alerts import PostgresAlerts
from shared.stores.postgres.budgets import PostgresBudgetLedger
from shared.stores.postgres.threats import PostgresThreats
from shared.stores.redis_budgets import RedisBudgetStore


def build_administration(
    ground: Ground, analytics: Analytics, shelf: Shelf, health: DeploymentHealth
) -> Administration:
    """All that administrators read of what happened."""
    settings, clock, store = ground.settings, ground.clock, analytics.store
    outlook = BudgetOutlook(
        store,
        PostgresBudgetLedger(ground.pool),
        RedisBudgetStore(ground.redis, clock),
        lambda: shelf.policy,
        settings.analytics_tags,
    )
    slos = Slos(store, clock)
    matters: Mapping[str, OpenMatters] = {
        "findings": open_findings(PostgresThreats(ground.pool)),
        "incidents": open_incidents(PostgresAlerts(ground.pool)),
    }
    return Administration(
        slos=slos,
        overview=Overview(store, analytics, slos, outlook, health, lambda: shelf.registry, clock, matters),
        business=Business(
            store,
            analytics,
            outlook,
            lambda: shelf.registry,
            lambda: shelf.policy,
            clock,
            has_former=bool(settings.former_models),
        ),
    )


def open_findings(threats: ThreatStore) -> OpenMatters:
    """How many findings of the watch over threats nobody has acknowledged."""

    async def count(tenant_id: str) -> Mapping[str, int]:
        counts = await threats.finding_counts(tenant_id)
        return {severity: number for (state, severity), number in counts.items() if state == FindingState.OPEN.value}

    return count


def open_incidents(alerts: AlertStore) -> OpenMatters:
    """How many incidents of alerts fire."""

    async def count(tenant_id: str) -> Mapping[str, int]:
        return {"firing": sum(firing for _, _, firing, _ in await alerts.standing(tenant_id))}

    return count
