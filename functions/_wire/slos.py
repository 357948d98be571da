"""The query and the answer of GET /admin/slos, and how objectives are shown elsewhere."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from functions._wire.query import only
from shared.analytics.slo import BURN_WINDOWS, SPANS
from shared.domain.errors import InvalidRequest
from shared.services.slos import Peak, SloReport, SloStatus

_NAMES = {
    timedelta(minutes=5): "5m",
    timedelta(minutes=30): "30m",
    timedelta(hours=1): "1h",
    timedelta(hours=6): "6h",
    timedelta(days=3): "3d",
}


def slos_by_service(parameters: Mapping[str, str]) -> bool:
    """Whether the URL asks for each service too.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, frozenset({"group_by"}))
    if parameters.get("group_by", "service") != "service":
        raise InvalidRequest("group_by: must be service", param="group_by")
    return "group_by" in parameters


def slos_body(report: SloReport) -> dict[str, Any]:
    """All objectives, of the tenant and, when asked for, of each service."""
    return {
        "from": report.since.isoformat(),
        "as_of": report.as_of.isoformat(),
        "stale": report.is_stale,
        "slos": [slo_body(status) for status in report.total],
        "services": [
            {"service": service, "slos": [slo_body(status) for status in found]}
            for service, found in report.services.items()
        ],
    }


def slo_body(status: SloStatus) -> dict[str, Any]:
    """One objective."""
    slo, budget = status.slo, status.budget
    return {
        "name": slo.name,
        "title": slo.title,
        "indicator": slo.indicator.value,
        "objective": slo.objective,
        "unit": slo.unit,
        "threshold_ms": slo.threshold_ms,
        "window_days": slo.window / timedelta(days=1),
        "state": status.state.value,
        "value": status.value,
        "quantile_ms": status.quantile_ms,
        "events": status.events,
        "error_budget": None
        if budget is None
        else {"total": budget.total, "spent": budget.spent, "left_share": budget.left_share},
        "burn_rates": {_NAMES[span]: status.rates.get(span) for span in SPANS},
        "burning": [
            {
                "long": _NAMES[row.long],
                "short": _NAMES[row.short],
                "factor": row.factor(slo.window),
                "page": row.is_page,
            }
            for row in BURN_WINDOWS
            if row in status.burning
        ],
        "peak": _peak_body(status.peak),
    }


def _peak_body(peak: Peak | None) -> dict[str, Any] | None:
    if peak is None:
        return None
    return {
        "minute": peak.minute.isoformat(),
        "served_per_s": peak.served_per_s,
        "fault_share": peak.fault_share,
    }
