"""Analytics: rollups with their totals, the period before, how fresh they are, and what was saved."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from shared.analytics.periods import edges_of
from shared.analytics.savings import Baseline, Savings, baseline_of, best_single, compare
from shared.domain.analytics import (
    SPENT_BY,
    Aggregate,
    AnalyticsQuery,
    Dimension,
    Freshness,
    Granularity,
    Spend,
    SpendQuery,
)
from shared.domain.errors import InvalidRequest, ModelNotFound
from shared.domain.judging import JUDGE_SERVICE
from shared.domain.models import Registry
from shared.ports import AnalyticsStore

_UTC = ZoneInfo("UTC")
BEST, FORMER = "best", "former"
"""Baselines that are no model's name."""
_MOST_COMPARED = 1_000
_BY_DAY_FROM = timedelta(days=14)
"""Spans that are compared day by day; shorter ones hour by hour, though neighbouring hours are not independent."""


@dataclass(frozen=True, slots=True)
class Change:
    """One group in the period asked for and in the one before; None: it had nothing there."""

    group: tuple[str, ...]
    current: Aggregate | None
    previous: Aggregate | None


@dataclass(frozen=True, slots=True)
class AnalyticsReport:
    """What a query is answered with.

    Attributes:
        rows: a page of them.
        has_more: whether another page follows.
        total: of the whole span, over all groups; None: nothing happened.
        changes: by group, when the period before was asked for.
    """

    rows: Sequence[Aggregate]
    has_more: bool
    total: Aggregate | None
    freshness: Freshness
    changes: Sequence[Change] = ()


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """What was saved, in all and by service or model.

    Attributes:
        models: the baselines' models, by service; under the empty text the one of all others.
    """

    models: Mapping[str, str]
    total: Savings
    groups: Mapping[str, Savings]
    freshness: Freshness


class Analytics:
    """Answers questions about what happened.

    Args:
        store: has the rollups.
        registry: has the prices.
        former_models: the model that a service used before it came to the router.
    """

    def __init__(
        self, store: AnalyticsStore, registry: Callable[[], Registry], former_models: Mapping[str, str]
    ) -> None:
        self._store = store
        self._registry = registry
        self._former_models = former_models

    @property
    def store(self) -> AnalyticsStore:
        """Has the rollups."""
        return self._store

    async def report(
        self, query: AnalyticsQuery, *, previous: tuple[datetime, datetime] | None = None
    ) -> AnalyticsReport:
        """A page of rows, with totals and, when `previous` names a period, how things changed since.

        Raises:
            DependencyUnavailable: the rollups are away.
        """
        # Asked first: what is computed meanwhile makes the answer fresher than it says, never staler.
        freshness = await self._store.freshness()
        rows = await self._store.rows(query)
        whole = replace(query, edges=(query.edges[0], query.edges[-1]), after=None, limit=_MOST_COMPARED)
        total = await self._store.rows(replace(whole, group_by=()))
        changes: Sequence[Change] = ()
        if previous is not None:
            now = {row.group: row for row in await self._store.rows(whole)}
            before = {row.group: row for row in await self._store.rows(replace(whole, edges=previous))}
            changes = [Change(key, now.get(key), before.get(key)) for key in sorted(now.keys() | before.keys())]
        return AnalyticsReport(
            rows=rows[: query.limit],
            has_more=len(rows) > query.limit,
            total=total[0] if total else None,
            freshness=freshness,
            changes=changes,
        )

    async def savings(
        self,
        tenant_id: str,
        since: datetime,
        until: datetime,
        *,
        baseline: str = BEST,
        services: Sequence[str] | None = None,
        group_by: Dimension | None = None,
    ) -> SavingsReport:
        """What requests for answers cost beside what a baseline would have cost; vectors are left out.

        Args:
            tenant_id: whose.
            since: a whole UTC hour.
            until: a later one. The best single model is that of then.
            baseline: `BEST` for the best single model, `FORMER` for each service's former one, or a model's name.
            services: only these; None: all.
            group_by: service or model (that served).

        Raises:
            DependencyUnavailable: the rollups are away.
            ModelNotFound: the registry does not have the baseline.
        """
        registry = self._registry()
        models = self._baselines(registry, baseline, until)
        # Asked first: what is computed meanwhile makes the answer fresher than it says, never staler.
        freshness = await self._store.freshness()
        chosen, own = await self._spent(tenant_id, since, until, services, group_by, by_service=baseline == FORMER)

        def choose(spend: Spend) -> Baseline | None:
            return models.get(spend.service, models.get(""))

        groups = defaultdict[str, list[Spend]](list)
        for spend in chosen if group_by is not None else ():
            groups[spend.service if group_by is Dimension.SERVICE else spend.model_id].append(spend)
        return SavingsReport(
            models={service: found.profile.id for service, found in models.items()},
            total=compare(chosen, choose, own),
            groups={key: compare(found, choose) for key, found in sorted(groups.items())},
            freshness=freshness,
        )

    async def _spent(
        self,
        tenant_id: str,
        since: datetime,
        until: datetime,
        services: Sequence[str] | None,
        group_by: Dimension | None,
        *,
        by_service: bool,
    ) -> tuple[Sequence[Spend], Sequence[Spend]]:
        """What callers' requests for answers cost, told apart as far as need be, and what the judge's own did."""
        registry = self._registry()
        apart = {name for part in (registry.embeddings, registry.rankings) if part is not None for name in part.models}
        granularity = Granularity.DAY if until - since >= _BY_DAY_FROM else Granularity.HOUR
        query = SpendQuery(
            tenant_id,
            edges_of(since, until, granularity, _UTC),
            tuple(one for one in SPENT_BY if one is group_by or (by_service and one is Dimension.SERVICE)),
            services=None if services is None else tuple(services),
            without_services=(JUDGE_SERVICE,),
            without_models=tuple(sorted(apart)),
        )
        chosen = self._store.spend(query)
        if services is not None and JUDGE_SERVICE not in services:
            return await chosen, ()
        own = replace(query, group_by=(), services=(JUDGE_SERVICE,), without_services=(), without_models=())
        found = await asyncio.gather(chosen, self._store.spend(own))
        return found[0], found[1]

    def _baselines(self, registry: Registry, baseline: str, until: datetime) -> dict[str, Baseline]:
        """By service; under the empty text the one of all others."""
        if baseline == FORMER:
            found = {service: baseline_of(registry, model) for service, model in self._former_models.items()}
            if not found:
                raise InvalidRequest("baseline: no service's former model is set", param="baseline")
            return {service: one for service, one in found.items() if one is not None}
        one = best_single(registry, until.date()) if baseline == BEST else baseline_of(registry, baseline)
        if one is None:
            raise ModelNotFound("baseline: best, former, or a model of the registry", param="baseline")
        return {"": one}
