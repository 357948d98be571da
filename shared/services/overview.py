"""The first page of the dashboard, and the last minutes."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from shared.analytics.cards import Card, Compared, Span, cards_of, change_of, compared_spans
from shared.analytics.periods import edges_of, usual_granularity
from shared.analytics.totals import add_up
from shared.domain.analytics import MINUTES_KEPT, Aggregate, AnalyticsQuery, Dimension, Subject
from shared.domain.errors import ModelNotFound
from shared.domain.health import BreakerState
from shared.domain.models import Deployment, Registry
from shared.ports import AnalyticsStore, Clock
from shared.services.analytics import Analytics, SavingsReport
from shared.services.budget_outlook import BudgetOutlook, BudgetStanding
from shared.services.deployment_health import DeploymentHealth
from shared.services.rollup_sums import MOST_GROUPS, summed
from shared.services.slos import SloReport, Slos

MOST_MINUTES = 120
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_TOP = 5
_FIRST = (Dimension.MODEL, Dimension.SERVICE)
"""Of which the first few are shown."""
_RANKED = frozenset({"count", "succeeded", "abandoned", "error_codes", "cost_usd"})
_WATCHED = _RANKED | {"hits", "usage", "latency"}
_SCORES = {"ratings", "rating_sum", "rating_squares", "judged", "judged_sum", "judged_squares"}
_CARDS = _RANKED | _SCORES | {"hits", "latency", "overhead"}
"""What is shown, or made to be shown."""
_Compared = tuple[Span, Span]
OpenMatters = Callable[[str], Awaitable[Mapping[str, int]]]
"""How many matters of a tenant wait for somebody, by severity or state."""


@dataclass(frozen=True, slots=True)
class DeploymentStrip:
    """How a deployment does.

    Attributes:
        state: of its breaker, which all tenants share.
        returns_in_s: until it may be called again; None: it may be.
        last_hour: the tenant's own calls to it in the hour before the figures end; None: there were none.
    """

    deployment: Deployment
    state: BreakerState
    returns_in_s: float | None
    last_hour: Aggregate | None


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The first page.

    Attributes:
        as_of: a whole minute up to which all figures are complete.
        is_stale: whether that is long ago.
        compared: the hours that changes are about, and those before that they are held against; None: no hour of the
            span is complete.
        models_by_cost, services_by_cost, models_by_errors, services_by_errors: the first few.
        open: matters that wait for somebody, by what they are and their severity or state.
    """

    edges: Sequence[datetime]
    as_of: datetime
    is_stale: bool
    compared: _Compared | None
    cards: Sequence[Card]
    slos: SloReport
    budgets: Sequence[BudgetStanding]
    models_by_cost: Sequence[Aggregate]
    services_by_cost: Sequence[Aggregate]
    models_by_errors: Sequence[Aggregate]
    services_by_errors: Sequence[Aggregate]
    deployments: Sequence[DeploymentStrip]
    open: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class RealTime:
    """The last minutes.

    Attributes:
        edges: starts of the minutes, and the end of the last.
        minutes: those in which something happened.
        models: the same by model.
    """

    edges: Sequence[datetime]
    as_of: datetime
    is_stale: bool
    minutes: Sequence[Aggregate]
    models: Sequence[Aggregate]


class Overview:
    """Puts pages together.

    Args:
        store: has the rollups.
        analytics: knows savings.
        slos: know objectives.
        outlook: knows budgets.
        health: knows breakers.
        registry: has the deployments.
        clock: what time it is.
        matters: what may wait for somebody.
    """

    def __init__(
        self,
        store: AnalyticsStore,
        analytics: Analytics,
        slos: Slos,
        outlook: BudgetOutlook,
        health: DeploymentHealth,
        registry: Callable[[], Registry],
        clock: Clock,
        matters: Mapping[str, OpenMatters],
    ) -> None:
        self._store = store
        self._analytics = analytics
        self._slos = slos
        self._outlook = outlook
        self._health = health
        self._registry = registry
        self._clock = clock
        self._matters = matters

    async def dashboard(
        self, tenant_id: str, since: datetime, until: datetime, previous_since: datetime, zone: ZoneInfo
    ) -> Dashboard:
        """The first page.

        Args:
            tenant_id: whose.
            since: a whole UTC hour.
            until: a later one.
            previous_since: where the period to compare with begins.
            zone: of days, where the span is shown by day; their starts are whole UTC hours, or hours are shown.

        Raises:
            DependencyUnavailable: rollups or ledger are away.
        """
        now = self._clock.now()
        freshness = await self._store.freshness()
        as_of = freshness.complete_until(now)
        edges = _edges(since, until, zone)
        compared = compared_spans(since, until, previous_since, as_of)
        sums = AnalyticsQuery(tenant_id, (since, until), only=_RANKED)
        # Independent of one another: as many at once as the store has connections for.
        cards, (models, services), slos, budgets, deployments, open_matters = await asyncio.gather(
            self._cards(tenant_id, edges, compared, as_of),
            asyncio.gather(*(summed(self._store, replace(sums, group_by=(one,))) for one in _FIRST)),
            self._slos.report(tenant_id),
            self._outlook.standings(tenant_id, as_of),
            self._deployments(tenant_id, as_of),
            asyncio.gather(*(count(tenant_id) for count in self._matters.values())),
        )
        return Dashboard(
            edges=edges,
            as_of=as_of,
            is_stale=freshness.is_stale(now),
            compared=compared,
            cards=cards,
            slos=slos,
            budgets=budgets,
            models_by_cost=_top(models, lambda row: row.cost_usd),
            services_by_cost=_top(services, lambda row: row.cost_usd),
            models_by_errors=_top(models, lambda row: row.errors),
            services_by_errors=_top(services, lambda row: row.errors),
            deployments=deployments,
            open=dict(zip(self._matters, open_matters, strict=True)),
        )

    async def real_time(self, tenant_id: str, minutes: int) -> RealTime:
        """The last minutes that are complete.

        Args:
            tenant_id: whose.
            minutes: 1 to `MOST_MINUTES`.

        Raises:
            DependencyUnavailable: the rollups are away.
        """
        now = self._clock.now()
        freshness = await self._store.freshness()
        as_of = freshness.complete_until(now)
        edges = tuple(as_of - number * _MINUTE for number in range(minutes, -1, -1))
        query = AnalyticsQuery(tenant_id, edges, (Dimension.MODEL,), only=_WATCHED, limit=MOST_GROUPS)
        # Minutes that are that old are not kept any more; there is nothing to be had before rollups go on.
        is_kept = edges[0] > now - MINUTES_KEPT
        models = await self._store.rows(query) if is_kept else ()
        by_start = defaultdict[datetime, list[Aggregate]](list)
        for row in models:
            by_start[row.start].append(row)
        return RealTime(
            edges=edges,
            as_of=as_of,
            is_stale=freshness.is_stale(now),
            minutes=[add_up(rows, start=start) for start, rows in sorted(by_start.items())],
            models=models,
        )

    async def _cards(
        self,
        tenant_id: str,
        edges: tuple[datetime, ...],
        compared: _Compared | None,
        as_of: datetime,
    ) -> Sequence[Card]:
        since, until = edges[0], edges[-1]
        query = AnalyticsQuery(tenant_id, edges, only=_CARDS, limit=MOST_GROUPS)
        # The sum of the series where all of its hours are complete.
        spans = [] if compared is None else [span for span in compared if span != (since, until)]
        series, savings, wholes = await asyncio.gather(
            self._store.rows(query),
            self._savings_card(tenant_id, since, until, compared),
            asyncio.gather(*(self._whole(replace(query, edges=span)) for span in spans)),
        )
        whole, pair = add_up(series, start=since), None
        if compared is not None:
            now, before = (whole, *wholes)[-2:]
            pair = Compared(now, before, (compared[0][1] - since) / _HOUR)
        return [*cards_of(edges, series, whole, pair, as_of), savings]

    async def _whole(self, query: AnalyticsQuery) -> Aggregate:
        rows = await summed(self._store, query)
        return rows[0] if rows else Aggregate(query.edges[0])

    async def _savings_card(
        self,
        tenant_id: str,
        since: datetime,
        until: datetime,
        compared: _Compared | None,
    ) -> Card:
        async def share(start: datetime, end: datetime) -> SavingsReport | None:
            try:
                return await self._analytics.savings(tenant_id, start, end)
            except ModelNotFound:
                # A registry without one model that can be called has no best one.
                return None

        whole, *others = await asyncio.gather(share(since, until), *([] if compared is None else [share(*compared[1])]))
        before = others[0] if others else None
        value = None if whole is None else whole.total.share
        previous = None if before is None else before.total.share
        interval = None if whole is None else whole.total.interval
        return Card("savings_share", "share", value, previous, change_of(value, previous), interval=interval)

    async def _deployments(self, tenant_id: str, as_of: datetime) -> Sequence[DeploymentStrip]:
        query = AnalyticsQuery(
            tenant_id,
            (as_of - _HOUR, as_of),
            (Dimension.DEPLOYMENT,),
            subject=Subject.ATTEMPTS,
            only=frozenset({"count", "error_codes", "latency"}),
            limit=MOST_GROUPS,
        )
        is_kept = as_of - _HOUR > self._clock.now() - MINUTES_KEPT
        calls = {row.group[0]: row for row in await self._store.rows(query)} if is_kept else {}
        states, signals = self._health.breakers(), self._health.read()
        strips = []
        for deployment in self._registry().deployments:
            seen = signals.get(deployment.id)
            strips.append(
                DeploymentStrip(
                    deployment=deployment,
                    state=states.get(deployment.id, BreakerState.CLOSED),
                    returns_in_s=seen.returns_in_s if seen is not None and seen.cooling_down else None,
                    last_hour=calls.get(deployment.id),
                )
            )
        return strips


def _edges(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    try:
        return edges_of(since, until, usual_granularity(since, until), zone)
    except ValueError:  # days of the zone begin within a UTC hour
        return edges_of(since, until, usual_granularity(since, until), ZoneInfo("UTC"))


def _top(rows: Sequence[Aggregate], key: Callable[[Aggregate], object]) -> Sequence[Aggregate]:
    """The first few, of those that have any of it."""

    def order(row: Aggregate) -> tuple[float, str]:
        return -float(str(key(row))), row.group[0]

    return sorted((row for row in rows if key(row)), key=order)[:_TOP]
