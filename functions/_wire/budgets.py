"""Budgets with what is ahead of them, as administrators see them."""

from typing import Any

from functions._wire.quality import interval_body
from shared.analytics.projection import Projection
from shared.domain.pricing import PER_MILLION
from shared.services.budget_outlook import BudgetStanding


def budget_body(standing: BudgetStanding) -> dict[str, Any]:
    """One account. Text is exact; numbers are estimates."""
    budget, projection = standing.budget, standing.projection
    limit = budget.hard_micro_usd if budget.hard_micro_usd is not None else budget.soft_micro_usd
    limit_usd = None if limit is None else float(limit / PER_MILLION)
    passed_on = None if projection is None or limit_usd is None else projection.passes_on(limit_usd)
    return {
        "name": budget.name,
        "per": budget.scope.per.value,
        "value": standing.value,
        "period": budget.period.value,
        "period_starts_at": standing.started_at.isoformat(),
        "period_ends_at": None if standing.ends_at is None else standing.ends_at.isoformat(),
        "hard_usd": micro_text(budget.hard_micro_usd),
        "soft_usd": micro_text(budget.soft_micro_usd),
        "settled_usd": micro_text(standing.settled_micro_usd),
        "reserved_usd": micro_text(standing.reserved_micro_usd),
        "used_share": standing.settled_micro_usd / limit if limit else None,
        "elapsed_share": standing.elapsed_share,
        "burn": standing.burn,
        "projected": None if projection is None else projection_body(projection),
        "exceeds": None if projection is None or limit_usd is None else projection.chance_word(limit_usd),
        "exceeds_on": None if passed_on is None else passed_on.isoformat(),
    }


def projection_body(projection: Projection) -> dict[str, Any]:
    """What will have been spent by the end of a period: an estimate."""
    return {
        "spent_usd": projection.spent_usd,
        "expected_usd": projection.expected_usd,
        "interval": interval_body(projection.interval),
        "days_seen": projection.days_seen,
        "knows_weekdays": projection.knows_weekdays,
    }


def micro_text(micro_usd: int | None) -> str | None:
    """Exact decimal text."""
    return None if micro_usd is None else f"{micro_usd / PER_MILLION:f}"
