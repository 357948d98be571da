"""Rules that every tenant has without making them. A change of one is kept like any rule; it cannot be deleted."""

from shared.domain.alert_metrics import Metric
from shared.domain.alerts import AlertRule, RuleKind
from shared.domain.notifications import Severity
from shared.domain.slo import BUILT_IN

DEFAULT_CHANNEL = "default"
"""Where built-in rules tell, if the operators declared a channel of that name."""


def built_in_rules(tenant_id: str) -> tuple[AlertRule, ...]:
    """The built-in rules of a tenant, as they are until somebody changes them."""
    burning = (
        AlertRule(
            id=f"router-slo-{slo.name}",
            tenant_id=tenant_id,
            name=f"Error budget of {slo.name} burns",
            kind=RuleKind.SLO_BURN_RATE,
            slo=slo.name,
            at_least=20,
            severity=Severity.CRITICAL,
            channels=(DEFAULT_CHANNEL,),
        )
        for slo in BUILT_IN
        if slo.indicator.has_burn_alerts
    )
    return (
        *burning,
        AlertRule(
            id="router-budget-projection",
            tenant_id=tenant_id,
            name="A monthly budget will be exceeded",
            kind=RuleKind.BUDGET_PROJECTION,
            threshold=1.0,
            keep_firing_s=3_600,
            repeat_s=86_400,
            channels=(DEFAULT_CHANNEL,),
        ),
        AlertRule(
            id="router-rollups-stalled",
            tenant_id=tenant_id,
            name="Rollups stand still",
            kind=RuleKind.THRESHOLD,
            metric=Metric.ROLLUP_AGE_S,
            threshold=900.0,
            for_s=300,
            severity=Severity.CRITICAL,
            channels=(DEFAULT_CHANNEL,),
        ),
    )
