"""What the router costs and saves: the view for those who pay."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal

from shared.analytics.cards import Span, compared_spans
from shared.analytics.economics import (
    MONTH,
    Opportunity,
    Retention,
    SavingsState,
    SpendAnomaly,
    UnitCosts,
    opportunities,
    retention,
    savings_state,
    spend_anomalies,
    unit_costs,
)
from shared.analytics.periods import hour_after
from shared.analytics.projection import Projection, project
from shared.analytics.totals import add_up
from shared.domain.analytics import Aggregate, AnalyticsQuery, Dimension
from shared.domain.budgets import Period
from shared.domain.models import Registry
from shared.domain.policy import Policy
from shared.ports import AnalyticsStore, Clock
from shared.services.analytics import BEST, FORMER, Analytics, Change, SavingsReport
from shared.services.budget_outlook import BudgetOutlook, BudgetStanding, Daily, added
from shared.services.rollup_sums import summed

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_MOST_SHOWN = 20
"""Opportunities and anomalies."""
_SHOWN = (Dimension.SERVICE, Dimension.MODEL, Dimension.CATEGORY)
_SCORES = {f"{by}{part}" for by in ("rating", "judged", "signalled") for part in ("_sum", "_squares")}
_FIGURES = frozenset({"count", "succeeded", "error_codes", "usage", "cost_usd", "saved_usd"})
_UNITS = _FIGURES | _SCORES | {"ratings", "judged", "signalled"}
_SHARES = frozenset({"count", "cost_usd"})
"""Of services now and before, of models, and of the others: what is shown of them, or made to be shown."""
_PRICED = frozenset({"count", "succeeded", "usage", "cost_usd"})
_RECENT = timedelta(days=2)
"""Whole days before the last one, which opportunities are looked for in besides it: rollups by three things at once are
the dearest to read."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        since: a whole UTC hour.
        until: a later one.
        previous_since: where the period to compare with begins.
        tag_key: a tag by which costs are shown too; empty: by none.
        running_usd_per_month: what running the router costs besides models; None: not known.
    """

    tenant_id: str
    since: datetime
    until: datetime
    previous_since: datetime
    tag_key: str = ""
    running_usd_per_month: Decimal | None = None


@dataclass(frozen=True, slots=True)
class SavingsView:
    """Savings against one baseline, with what is expected of their quality.

    Attributes:
        previous: over the period before.
        retention: against the baseline's model; None where each service has one of its own, or there were no answers.
    """

    report: SavingsReport
    previous: SavingsReport | None
    retention: Retention | None
    state: SavingsState


@dataclass(frozen=True, slots=True)
class Return:
    """What the router brings in beside what it costs to run, over the part of the span that is over.

    Attributes:
        saved_usd: against the best single model.
        running_usd: in proportion to the time.
        ratio: net saving for each dollar of running; None when it costs nothing.
    """

    saved_usd: Decimal
    running_usd: Decimal
    ratio: float | None

    @property
    def net_usd(self) -> Decimal:
        """Negative: the router costs more than it saves."""
        return self.saved_usd - self.running_usd


@dataclass(frozen=True, slots=True)
class BusinessReport:
    """The whole view.

    Attributes:
        as_of: a whole minute up to which figures are complete.
        compared: hours of the span and of the period before. Where the span goes on, the period before is cut after as
            many whole hours, while sums of the span hold the hour that runs besides.
        changes: costs by ``service``, ``model``, ``category`` and the tag, dearest first; with them what `total`,
            `previous` and unit costs are made of.
        savings: against the best single model; `former`: against what services used before, where that is set.
        month: spend of the calendar month (UTC), projected to its end.
        services: unit costs of each; `models` likewise.
        opportunities_span: the last days of the span, which these are of.
    """

    as_of: datetime
    is_stale: bool
    compared: tuple[Span, Span] | None
    total: Aggregate
    previous: Aggregate
    changes: Mapping[str, Sequence[Change]]
    units: UnitCosts
    services: Sequence[tuple[str, UnitCosts]]
    models: Sequence[tuple[str, UnitCosts]]
    savings: SavingsView
    former: SavingsView | None
    roi: Return | None
    budgets: Sequence[BudgetStanding]
    month: Projection
    month_by_service: Mapping[str, Projection]
    anomalies: Sequence[SpendAnomaly]
    opportunities_span: Span
    opportunities: Sequence[Opportunity]


class Business:
    """Puts the view together.

    Args:
        store: has the rollups.
        analytics: knows savings.
        outlook: knows budgets.
        registry: has prices and what is expected of models.
        policy: has the services' rules.
        clock: what time it is.
        has_former: whether some service's former model is set.
    """

    def __init__(
        self,
        store: AnalyticsStore,
        analytics: Analytics,
        outlook: BudgetOutlook,
        registry: Callable[[], Registry],
        policy: Callable[[], Policy],
        clock: Clock,
        *,
        has_former: bool,
    ) -> None:
        self._store = store
        self._analytics = analytics
        self._outlook = outlook
        self._registry = registry
        self._policy = policy
        self._clock = clock
        self._has_former = has_former

    async def report(self, asked: Question) -> BusinessReport:
        """All of it.

        Raises:
            DependencyUnavailable: rollups or ledger are away.
            ModelNotFound: no model of the registry can be the baseline.
        """
        freshness = await self._store.freshness()
        now = self._clock.now()
        as_of = freshness.complete_until(now)
        compared = compared_spans(asked.since, asked.until, asked.previous_since, as_of)
        previous = None if compared is None else compared[1]
        query = AnalyticsQuery(asked.tenant_id, (asked.since, asked.until), only=_SHARES)
        recent = max(asked.since, _midnight(min(asked.until, as_of)) - _RECENT), min(asked.until, hour_after(as_of))
        # Independent of one another: as many at once as the store has connections for.
        changes, savings, former, facts, (daily, budgets), spent = await asyncio.gather(
            self._all_changes(query, asked.tag_key, previous),
            self._savings(asked, BEST, previous),
            self._former(asked, previous),
            self._facts(query, recent),
            self._days(asked.tenant_id, as_of),
            self._spent(asked.tenant_id, as_of),
        )
        services = changes[Dimension.SERVICE.value]
        total = add_up([one.current for one in services if one.current is not None], start=asked.since)
        before = add_up([one.previous for one in services if one.previous is not None], start=asked.previous_since)
        costs = {group[0]: days for group, days in daily.items()}
        month = _months(as_of, costs, spent)
        rules = self._policy().for_service
        return BusinessReport(
            as_of=as_of,
            is_stale=freshness.is_stale(now),
            total=total,
            compared=compared,
            previous=before,
            changes=changes,
            units=unit_costs(total),
            services=_units(changes["service"]),
            models=_units(changes["model"]),
            savings=savings,
            former=former,
            roi=_return(savings, asked, as_of),
            budgets=budgets,
            month=month.pop(""),
            month_by_service=month,
            anomalies=spend_anomalies(costs, first=asked.since.date(), last=min(asked.until, as_of - _DAY).date())[
                :_MOST_SHOWN
            ],
            opportunities_span=recent,
            opportunities=opportunities(facts, self._registry(), rules, at=min(asked.until, as_of), most=_MOST_SHOWN),
        )

    async def _all_changes(
        self, query: AnalyticsQuery, tag_key: str, previous: Span | None
    ) -> Mapping[str, Sequence[Change]]:
        """By each dimension that is shown, and by the tag."""
        asked = {dimension.value: replace(query, group_by=(dimension,)) for dimension in _SHOWN}
        if tag_key:
            asked[f"tag:{tag_key}"] = replace(query, group_by=(Dimension.TAG,), tag_key=tag_key)
        by_service, by_model = Dimension.SERVICE.value, Dimension.MODEL.value
        asked[by_service] = replace(asked[by_service], only=_UNITS)
        asked[by_model] = replace(asked[by_model], only=_UNITS)
        found = await asyncio.gather(
            *(self._changes(one, previous, _FIGURES if name == by_service else _SHARES) for name, one in asked.items())
        )
        return dict(zip(asked, found, strict=True))

    async def _changes(
        self, query: AnalyticsQuery, previous: Span | None, of_previous: frozenset[str]
    ) -> Sequence[Change]:
        """Groups of one dimension, dearest first, with as much of the period before as is asked for."""
        queries = [query] if previous is None else [query, replace(query, edges=previous, only=of_previous)]
        rows = await asyncio.gather(*(summed(self._store, one) for one in queries))
        now, before = ({row.group: row for row in found} for found in (*rows, ())[:2])
        found = [Change(group, now.get(group), before.get(group)) for group in now.keys() | before.keys()]

        def order(change: Change) -> tuple[Decimal, tuple[str, ...]]:
            return -(Decimal(0) if change.current is None else change.current.cost_usd), change.group

        return sorted(found, key=order)

    async def _savings(self, asked: Question, baseline: str, previous: Span | None) -> SavingsView:
        registry, spans = self._registry(), [(asked.since, asked.until), *([] if previous is None else [previous])]
        query = AnalyticsQuery(
            asked.tenant_id, spans[0], (Dimension.MODEL, Dimension.CATEGORY), only=frozenset({"succeeded"})
        )
        # Where each service has a baseline of its own, there is no quality to hold the answers' against.
        answers, (found, *before) = await asyncio.gather(
            summed(self._store, query) if baseline == BEST else _nothing(),
            asyncio.gather(*(self._analytics.savings(asked.tenant_id, *span, baseline=baseline) for span in spans)),
        )
        kept = retention(answers, registry, registry.models[found.models[""]]) if baseline == BEST else None
        return SavingsView(found, before[0] if before else None, kept, savings_state(found.total, kept))

    async def _former(self, asked: Question, previous: Span | None) -> SavingsView | None:
        return await self._savings(asked, FORMER, previous) if self._has_former else None

    async def _facts(self, query: AnalyticsQuery, recent: Span) -> Sequence[Aggregate]:
        """What opportunities are looked for in."""
        if recent[0] >= recent[1]:
            return ()
        return await summed(self._store, replace(query, edges=recent, group_by=_SHOWN, only=_PRICED))

    async def _days(self, tenant_id: str, as_of: datetime) -> tuple[Daily, Sequence[BudgetStanding]]:
        """What each day cost by service, and how budgets stand, which are projected from it."""
        histories = await self._outlook.histories(tenant_id, as_of)
        return histories[""], await self._outlook.standings(tenant_id, as_of, histories=histories)

    async def _spent(self, tenant_id: str, as_of: datetime) -> Mapping[str, float]:
        """Spend of the calendar month so far, by service."""
        start = Period.MONTH.start_of(as_of)
        edges = start, hour_after(max(as_of, start + _HOUR))
        query = AnalyticsQuery(tenant_id, edges, (Dimension.SERVICE,), only=frozenset({"cost_usd"}))
        return {row.group[0]: float(row.cost_usd) for row in await summed(self._store, query)}


async def _nothing() -> Sequence[Aggregate]:
    """Where there is nothing to ask."""
    return ()


def _months(
    as_of: datetime, costs: Mapping[str, Mapping[date, float]], spent: Mapping[str, float]
) -> dict[str, Projection]:
    """Spend of the month to its end, by service; under the empty text that of all."""
    end = Period.MONTH.end_of(as_of) or as_of
    found = {"": project(list(added(costs.values()).items()), spent_usd=sum(spent.values()), now=as_of, end=end)}
    for service in spent.keys() | costs.keys():
        days = list(costs.get(service, {}).items())
        found[service] = project(days, spent_usd=spent.get(service, 0.0), now=as_of, end=end)
    return found


def _units(changes: Sequence[Change]) -> Sequence[tuple[str, UnitCosts]]:
    return [(change.group[0], unit_costs(change.current)) for change in changes if change.current is not None]


def _return(savings: SavingsView, asked: Question, as_of: datetime) -> Return | None:
    if asked.running_usd_per_month is None:
        return None
    lasted = max(timedelta(), min(asked.until, as_of) - asked.since)
    running = asked.running_usd_per_month * Decimal(lasted / MONTH)
    net = savings.report.total.saved_usd - running
    return Return(savings.report.total.saved_usd, running, float(net / running) if running else None)


def _midnight(instant: datetime) -> datetime:
    """The UTC midnight before an instant, or it."""
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)
