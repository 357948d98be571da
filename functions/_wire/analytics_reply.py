"""The answers of GET /analytics and GET /analytics/savings."""

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from functions._wire.analytics import Asked, SavingsAsked, page_cursor
from functions._wire.quality import interval_body, quality_body
from shared.analytics.cards import Span
from shared.analytics.savings import Savings
from shared.analytics.sketches import RELATIVE_ERROR, quantiles
from shared.domain.analytics import Aggregate, AnalyticsQuery, Dimension, Freshness
from shared.domain.replies import Usage
from shared.services.analytics import AnalyticsReport, Change, SavingsReport

_LEVELS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_TOKENS = tuple(field.name for field in fields(Usage) if field.name != "estimated")


def analytics_body(report: AnalyticsReport, asked: Asked) -> dict[str, Any]:
    """A page of rows, totals, what changed, and how fresh all of it is."""
    query, last = asked.query, report.rows[-1] if report.has_more else None
    return {
        "of": query.subject.value,
        **period_body(query.edges[0], query.edges[-1], asked.zone),
        "bucket": asked.granularity.value,
        "group_by": [_name(dimension, query) for dimension in query.group_by],
        **_freshness(report.freshness),
        "late_share": share_of(report.total.late, report.total.count) if report.total is not None else None,
        "relative_error": RELATIVE_ERROR,
        "rows": [
            {"start": row.start.astimezone(asked.zone).isoformat(), "group": _group(row.group, query)}
            | _metrics(row, asked.metrics)
            for row in report.rows
        ],
        "total": None if report.total is None else _metrics(report.total, asked.metrics),
        "previous": None
        if asked.previous is None
        else period_body(*asked.previous, asked.zone)
        | {"changes": [_change(change, asked) for change in report.changes]},
        "next_cursor": None if last is None else page_cursor(last.start, last.group),
    }


def savings_body(report: SavingsReport, asked: SavingsAsked) -> dict[str, Any]:
    """What was saved, in all and by group."""
    return {
        **period_body(asked.since, asked.until, asked.zone),
        **_freshness(report.freshness),
        "baseline": asked.baseline,
        "baseline_models": {service or "*": model for service, model in sorted(report.models.items())},
        "total": savings_figures(report.total),
        "group_by": None if asked.group_by is None else asked.group_by.value,
        "groups": [{"group": key, **savings_figures(found)} for key, found in report.groups.items()],
    }


def savings_figures(found: Savings) -> dict[str, Any]:
    """What was saved, in all or by one group."""
    return {
        "requests": found.requests,
        "left_out_requests": found.left_out,
        "actual_usd": float(found.actual_usd),
        "baseline_usd": float(found.baseline_usd),
        "saved_usd": float(found.saved_usd),
        "by_reuse_usd": float(found.by_reuse_usd),
        "by_choice_usd": float(found.saved_usd + found.own_usd - found.by_reuse_usd),
        "own_usd": float(found.own_usd),
        "saved_share": found.share,
        "interval": interval_body(found.interval),
        "periods": found.periods,
    }


def period_body(since: datetime, until: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """A span, in its time zone."""
    return {
        "from": since.astimezone(zone).isoformat(),
        "to": until.astimezone(zone).isoformat(),
        "timezone": zone.key,
    }


def compared_body(compared: tuple[Span, Span] | None, zone: ZoneInfo) -> dict[str, Any] | None:
    """The span that changes are about, and the one before that it is held against; None: there is none."""
    if compared is None:
        return None
    current, previous = compared
    return {"current": period_body(*current, zone), "previous": period_body(*previous, zone)}


def _freshness(freshness: Freshness) -> dict[str, Any]:
    return {"as_of": freshness.as_of.isoformat(), "pending_buckets": freshness.pending}


def _name(dimension: Dimension, query: AnalyticsQuery) -> str:
    return f"tag:{query.tag_key}" if dimension is Dimension.TAG else dimension.value


def _group(group: tuple[str, ...], query: AnalyticsQuery) -> dict[str, str]:
    return {_name(dimension, query): word for dimension, word in zip(query.group_by, group, strict=True)}


def _change(change: Change, asked: Asked) -> dict[str, Any]:
    current, previous = (
        {} if row is None else _metrics(row, asked.metrics) for row in (change.current, change.previous)
    )
    ratios = {
        metric: value / previous[metric] - 1
        for metric, value in current.items()
        if isinstance(value, int | float) and previous.get(metric)
    }
    return {
        "group": _group(change.group, asked.query),
        "current": current or None,
        "previous": previous or None,
        "relative_change": ratios,
    }


def _metrics(row: Aggregate, metrics: tuple[str, ...]) -> dict[str, Any]:
    return {metric: _METRICS[metric](row) for metric in metrics}


def share_of(part: float, whole: float) -> float | None:
    """None of nothing."""
    return part / whole if whole else None


def distribution(sketch: bytes) -> dict[str, float | None]:
    """The usual quantiles."""
    values = quantiles(sketch, tuple(_LEVELS.values()))
    return dict(zip(_LEVELS, values, strict=True))


def _tokens(row: Aggregate) -> dict[str, int]:
    return {name: getattr(row.usage, name) for name in _TOKENS} | {
        "total": row.usage.total_tokens,
        "estimated_records": row.usage_estimated,
    }


_METRICS: dict[str, Callable[[Aggregate], Any]] = {
    "requests": lambda row: row.count,
    "attempts": lambda row: row.count,
    "succeeded": lambda row: row.succeeded,
    "errors": lambda row: row.errors,
    "error_rate": lambda row: share_of(row.errors, row.count),
    "errors_by_class": lambda row: dict(sorted(row.error_codes.items())),
    "cancelled": lambda row: row.cancelled,
    "abandoned": lambda row: row.abandoned,
    "cache_hits": lambda row: row.hits,
    "late": lambda row: row.late,
    "tokens": _tokens,
    "cost_usd": lambda row: float(row.cost_usd),
    "saved_usd": lambda row: float(row.saved_usd),
    "latency_ms": lambda row: {"mean": share_of(row.duration_ms, row.succeeded), **distribution(row.latency)},
    "ttft_ms": lambda row: distribution(row.ttft),
    "overhead_ms": lambda row: distribution(row.overhead),
    "quality": quality_body,
    "tokens_per_s": lambda row: share_of(row.generated_tokens * 1000.0, row.generation_ms),
}
