"""The queries and the answers of GET /admin/dashboard and GET /admin/real-time."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from functions._wire.analytics import SPAN, span_asked
from functions._wire.analytics_reply import compared_body, distribution, period_body, share_of
from functions._wire.budgets import budget_body
from functions._wire.quality import interval_body
from functions._wire.query import number_of, only
from functions._wire.slos import slo_body
from shared.analytics.cards import Card, fault_share
from shared.analytics.periods import previous_period
from shared.domain.analytics import Aggregate
from shared.services.overview import MOST_MINUTES, Dashboard, DeploymentStrip, RealTime

_DEFAULT_MINUTES = 15
_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class DashboardAsked:
    """What the URL asks for."""

    since: datetime
    until: datetime
    previous_since: datetime
    zone: ZoneInfo


def dashboard_asked(parameters: Mapping[str, str], now: datetime) -> DashboardAsked:
    """Read the URL of GET /admin/dashboard.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, SPAN)
    since, until, zone = span_asked(parameters, now)
    return DashboardAsked(since, until, previous_period(since, until, zone)[0], zone)


def minutes_asked(parameters: Mapping[str, str]) -> int:
    """Read the URL of GET /admin/real-time.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, frozenset({"minutes"}))
    return number_of(parameters, "minutes", MOST_MINUTES, _DEFAULT_MINUTES)


def dashboard_body(page: Dashboard, asked: DashboardAsked) -> dict[str, Any]:
    """The first page."""
    zone = asked.zone
    return {
        **period_body(asked.since, asked.until, zone),
        "as_of": page.as_of.isoformat(),
        "stale": page.is_stale,
        "compared": compared_body(page.compared, zone),
        "cards": [_card_body(card, zone) for card in page.cards],
        "slos": [slo_body(status) for status in page.slos.total],
        "budgets": [budget_body(standing) for standing in page.budgets],
        "top": {
            "models_by_cost": [_top_body(row) for row in page.models_by_cost],
            "services_by_cost": [_top_body(row) for row in page.services_by_cost],
            "models_by_errors": [_top_body(row) for row in page.models_by_errors],
            "services_by_errors": [_top_body(row) for row in page.services_by_errors],
        },
        "deployments": [_deployment_body(strip) for strip in page.deployments],
        "open": page.open,
    }


def real_time_body(found: RealTime) -> dict[str, Any]:
    """The last minutes: all of them in all, and by model those in which something happened."""
    by_start = {row.start: row for row in found.minutes}
    models = defaultdict[str, list[Aggregate]](list)
    for row in found.models:
        models[row.group[0]].append(row)
    return {
        "from": found.edges[0].isoformat(),
        "to": found.edges[-1].isoformat(),
        "as_of": found.as_of.isoformat(),
        "stale": found.is_stale,
        "bucket_s": _MINUTE_S,
        "minutes": [_minute_body(by_start.get(start, Aggregate(start))) for start in found.edges[:-1]],
        "models": [
            {"model": model, "minutes": [_minute_body(row) for row in rows]} for model, rows in sorted(models.items())
        ],
    }


def _card_body(card: Card, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "name": card.name,
        "unit": card.unit,
        "value": card.value,
        "interval": interval_body(card.interval),
        "previous": card.previous,
        "relative_change": card.change,
        "series": [{"start": point.start.astimezone(zone).isoformat(), "value": point.value} for point in card.series],
    }


def _top_body(row: Aggregate) -> dict[str, Any]:
    return {
        "group": row.group[0],
        "requests": row.count,
        "errors": row.errors,
        "error_rate": share_of(row.errors, row.count),
        "fault_share": fault_share(row),
        "cost_usd": float(row.cost_usd),
    }


def _deployment_body(strip: DeploymentStrip) -> dict[str, Any]:
    deployment, calls = strip.deployment, strip.last_hour
    return {
        "deployment": deployment.id,
        "model": deployment.model_id,
        "provider": deployment.provider.value,
        "region": deployment.region,
        "enabled": deployment.enabled,
        "breaker": strip.state.value,
        "returns_in_s": strip.returns_in_s,
        "last_hour": None
        if calls is None
        else {
            "attempts": calls.count,
            "errors": calls.errors,
            "error_rate": share_of(calls.errors, calls.count),
            "latency_ms": distribution(calls.latency),
        },
    }


def _minute_body(row: Aggregate) -> dict[str, Any]:
    latency = distribution(row.latency)
    return {
        "start": row.start.isoformat(),
        "requests": row.count,
        "requests_per_s": row.count / _MINUTE_S,
        "errors": row.errors,
        "fault_share": fault_share(row),
        "latency_ms": {"p50": latency["p50"], "p95": latency["p95"]},
        "tokens_per_s": row.usage.total_tokens / _MINUTE_S,
        "cost_usd": float(row.cost_usd),
        "cost_usd_per_hour": float(row.cost_usd) * (timedelta(hours=1) / timedelta(minutes=1)),
        "cache_hits": row.hits,
    }
