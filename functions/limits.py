"""GET /limits: how the caller stands. The headers of the same facts, on every answer where a limit applies."""

import math
from typing import Any

from functions._edge import Call, Reply
from shared.domain.pricing import PER_MILLION
from shared.services.limits import Standing
from shared.services.till import AccountStanding


async def show(call: Call) -> Reply:
    """The caller's own limits and budgets, with what is left of them; those of tags are not known without a request."""
    container = call.container
    limits = await container.limits.standing(call.caller)
    budgets = await container.till.standing(call.caller)
    return Reply(
        {
            "service": call.caller.service,
            "limits": [_limit(standing) for standing in limits],
            "budgets": [_budget(standing) for standing in budgets],
        }
    )


def _limit(standing: Standing) -> dict[str, Any]:
    meter = standing.meter
    return {
        "name": meter.rule.name,
        "per": meter.rule.scope.per.value,
        "kind": meter.kind.value,
        "classes": sorted(c.value for c in meter.rule.classes),
        "limit": standing.limit,
        "remaining": standing.remaining,
        "reset_seconds": math.ceil(standing.reset_s * 1000) / 1000,
    }


def _budget(standing: AccountStanding) -> dict[str, Any]:
    account, balance = standing.account, standing.balance
    budget = account.budget
    settled = None if balance is None else balance.settled_micro_usd
    left = None
    if settled is not None and balance is not None and budget.hard_micro_usd is not None:
        left = max(0, budget.hard_micro_usd - balance.used_micro_usd)
    return {
        "name": budget.name,
        "per": budget.scope.per.value,
        "period": budget.period.value,
        "period_starts_at": account.started_at.isoformat(),
        "period_ends_at": None if account.ends_at is None else account.ends_at.isoformat(),
        "hard_usd": _usd(budget.hard_micro_usd),
        "soft_usd": _usd(budget.soft_micro_usd),
        "settled_usd": _usd(settled),
        "reserved_usd": _usd(None if balance is None else balance.reserved_micro_usd),
        "remaining_usd": _usd(left),
    }


def _usd(micro_usd: int | None) -> str | None:
    """Exact decimal text, as every amount of money that is not a price in a header."""
    return None if micro_usd is None else f"{micro_usd / PER_MILLION:f}"
