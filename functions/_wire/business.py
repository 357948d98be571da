"""The query and the answer of GET /admin/business-intel. Money as text is exact, as a number it is an estimate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from functions._wire.analytics import SPAN, span_asked
from functions._wire.analytics_reply import compared_body, period_body, savings_figures, share_of
from functions._wire.budgets import budget_body, projection_body
from functions._wire.quality import interval_body, quality_body
from functions._wire.query import only
from shared.analytics.economics import LEAST_RETENTION, TARGET_SHARE, Opportunity, SpendAnomaly, UnitCosts
from shared.analytics.periods import previous_period
from shared.domain.analytics import Aggregate
from shared.domain.errors import InvalidRequest
from shared.services.analytics import Change
from shared.services.business import BusinessReport, Question, Return, SavingsView

_KNOWN = SPAN | {"tag", "running_cost_usd_per_month"}
_MOST_RUNNING_USD = Decimal(10_000_000)
_MOST_CHARS = 32
_USUAL_TAG = "team"


@dataclass(frozen=True, slots=True)
class BusinessAsked:
    """What the URL asks for."""

    question: Question
    zone: ZoneInfo


def business_asked(
    parameters: Mapping[str, str],
    *,
    tenant_id: str,
    now: datetime,
    tag_keys: Sequence[str],
    running_usd_per_month: Decimal | None,
) -> BusinessAsked:
    """Read the URL of GET /admin/business-intel.

    Args:
        parameters: of the URL.
        tenant_id: whose figures.
        now: where the usual span ends.
        tag_keys: tags that costs are kept by.
        running_usd_per_month: what running the router costs, where the URL does not say.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, _KNOWN)
    since, until, zone = span_asked(parameters, now)
    tag_key = parameters.get("tag", _USUAL_TAG if _USUAL_TAG in tag_keys else "")
    if tag_key and tag_key not in tag_keys:
        kept = ", ".join(tag_keys) or "none"
        raise InvalidRequest(f"tag: figures are kept for these tags: {kept}", param="tag")
    question = Question(
        tenant_id=tenant_id,
        since=since,
        until=until,
        previous_since=previous_period(since, until, zone)[0],
        tag_key=tag_key,
        running_usd_per_month=_running(parameters, running_usd_per_month),
    )
    return BusinessAsked(question, zone)


def business_body(report: BusinessReport, asked: BusinessAsked) -> dict[str, Any]:
    """The whole view."""
    question, zone = asked.question, asked.zone
    return {
        **period_body(question.since, question.until, zone),
        "as_of": report.as_of.isoformat(),
        "stale": report.is_stale,
        "compared": compared_body(report.compared, zone),
        "total": _figures(report.total),
        "previous_total": None if report.compared is None else _figures(report.previous),
        "costs": {name: [_change(change, report.total) for change in found] for name, found in report.changes.items()},
        "unit_costs": {
            "total": _units(report.units),
            "services": [{"service": name, **_units(found)} for name, found in report.services],
            "models": [{"model": name, **_units(found)} for name, found in report.models],
        },
        "quality": quality_body(report.total),
        "savings": _savings_view(report.savings),
        "savings_against_former": None if report.former is None else _savings_view(report.former),
        "roi": None if report.roi is None else _return(report.roi),
        "budgets": [budget_body(standing) for standing in report.budgets],
        "month": projection_body(report.month)
        | {
            "path": [
                {"day": one.day.isoformat(), "expected_usd": one.expected_usd, "interval": interval_body(one.interval)}
                for one in report.month.path
            ],
            "services": [
                {"service": service, **projection_body(found)}
                for service, found in sorted(report.month_by_service.items())
            ],
        },
        "anomalies": [_anomaly(one) for one in report.anomalies],
        "opportunities": {
            **period_body(*report.opportunities_span, zone),
            "found": [_opportunity(one) for one in report.opportunities],
        },
    }


def _running(parameters: Mapping[str, str], usual: Decimal | None) -> Decimal | None:
    text = parameters.get("running_cost_usd_per_month")
    if text is None:
        return usual
    try:
        found = Decimal(text) if len(text) <= _MOST_CHARS else Decimal(-1)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or not 0 <= found <= _MOST_RUNNING_USD:
        raise InvalidRequest(
            f"running_cost_usd_per_month: must be a number from 0 to {_MOST_RUNNING_USD}",
            param="running_cost_usd_per_month",
        )
    return found


def _text(amount: Decimal) -> str:
    return f"{amount:f}"


def _figures(row: Aggregate) -> dict[str, Any]:
    return {
        "requests": row.count,
        "succeeded": row.succeeded,
        "errors": row.errors,
        "tokens": row.usage.total_tokens,
        "cost_usd": _text(row.cost_usd),
        "saved_by_cache_usd": _text(row.saved_usd),
    }


def _change(change: Change, total: Aggregate) -> dict[str, Any]:
    current, previous = change.current, change.previous
    cost = Decimal(0) if current is None else current.cost_usd
    before = None if previous is None else previous.cost_usd
    return {
        "group": change.group[0],
        "requests": 0 if current is None else current.count,
        "cost_usd": _text(cost),
        "cost_share": share_of(float(cost), float(total.cost_usd)),
        "previous_cost_usd": None if before is None else _text(before),
        "relative_change": float(cost / before - 1) if before else None,
    }


def _units(found: UnitCosts) -> dict[str, Any]:
    exact = {
        "per_request_usd": found.per_request_usd,
        "per_answer_usd": found.per_answer_usd,
        "per_1k_tokens_usd": found.per_1k_tokens_usd,
    }
    return {name: None if amount is None else _text(amount) for name, amount in exact.items()} | {
        "per_good_answer_usd": found.per_good_answer_usd,
        "per_good_answer_interval": interval_body(found.per_good_answer_interval),
    }


def _savings_view(view: SavingsView) -> dict[str, Any]:
    found, kept = view.report.total, view.retention
    return {
        "baseline_models": {service or "*": model for service, model in sorted(view.report.models.items())},
        **savings_figures(found),
        "actual_usd": _text(found.actual_usd),
        "previous_saved_share": None if view.previous is None else view.previous.total.share,
        "target": {
            "from_share": TARGET_SHARE.low,
            "to_share": TARGET_SHARE.high,
            "least_quality_retention": LEAST_RETENTION,
            "state": view.state.value,
        },
        "expected_quality": None
        if kept is None
        else {
            "served": kept.served,
            "baseline": kept.baseline,
            "retention": kept.share,
            "answers": kept.answers,
            "left_out_answers": kept.left_out,
            "source": "registry",
        },
    }


def _return(found: Return) -> dict[str, Any]:
    return {
        "saved_usd": float(found.saved_usd),
        "running_usd": float(found.running_usd),
        "net_usd": float(found.net_usd),
        "ratio": found.ratio,
    }


def _anomaly(one: SpendAnomaly) -> dict[str, Any]:
    return {
        "service": one.service,
        "day": one.day.isoformat(),
        "cost_usd": one.cost_usd,
        "usual_usd": one.usual_usd,
        "deviations": one.score,
    }


def _opportunity(one: Opportunity) -> dict[str, Any]:
    return {
        "service": one.service,
        "model": one.model_id,
        "category": one.category,
        "suggested_model": one.suggested_model_id,
        "requests": one.requests,
        "cost_usd": _text(one.cost_usd),
        "saving_usd": one.saving_usd,
        "expected_quality": one.quality,
        "suggested_expected_quality": one.suggested_quality,
    }
