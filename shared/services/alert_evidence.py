"""What alert rules are held against: the rollups' answers, put together by group."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from shared.analytics.alerting import Evidence, windows
from shared.analytics.alerting_series import Reading, Series, needs_sketches, reader, spans
from shared.domain.alerts import AlertRule, Group, RuleKind
from shared.domain.analytics import AnalyticsQuery, Dimension, Freshness
from shared.domain.budgets import Budget, Period
from shared.domain.pricing import PER_MILLION
from shared.domain.scopes import Per
from shared.domain.slo import BUILT_IN, Slo
from shared.ports import AnalyticsStore

MOST_ROWS = 20_000
"""For a live evaluation; a rule that would need more groups by too much."""
_BUCKETS_AT_ONCE = 120
"""Of one question: reading the answer holds up everything else in the process for some 50 ms at most."""
TEAM_TAG = "team"
SLOS = {slo.name: slo for slo in BUILT_IN if slo.indicator.has_burn_alerts}
"""Objectives whose burn rates can be watched, by name."""


class RuleUnfit(Exception):
    """What a rule names is not there (any more), or it asks for too much; the text says what."""


@dataclass(frozen=True, slots=True)
class _Selection:
    """Whose requests are read, and what their groups are called.

    Attributes:
        labels: put before the group's own.
        names: of `group_by`, in order.
        limit_usd: of a budget.
    """

    group_by: tuple[Dimension, ...]
    filters: dict[Dimension, tuple[str, ...]]
    tag_key: str
    names: tuple[str, ...]
    labels: Group = ()
    limit_usd: float | None = None


class EvidenceReader:
    """Asks the rollups what a rule needs to know.

    Args:
        store: has the rollups.
        budgets: of the policy in force.
        tag_keys: tags that requests are counted by.
    """

    def __init__(self, store: AnalyticsStore, budgets: Callable[[], Sequence[Budget]], tag_keys: Sequence[str]) -> None:
        self._store = store
        self._budgets = budgets
        self.tag_keys = tuple(tag_keys)

    async def freshness(self) -> Freshness:
        """Up to when the rollups are complete.

        Raises:
            DependencyUnavailable: they are away.
        """
        return await self._store.freshness()

    async def gather(
        self,
        rule: AlertRule,
        instants: Sequence[datetime],
        as_of: datetime,
        *,
        is_hourly: bool = False,
        most_rows: int = MOST_ROWS,
    ) -> Evidence:
        """All that a rule looks at when it is evaluated at some instants.

        Raises:
            DependencyUnavailable: the rollups are away.
            RuleUnfit: it cannot be evaluated.
        """
        slo = self._slo(rule)
        asked = spans(window for at in instants for window in windows(rule, at, is_hourly=is_hourly))
        buckets = defaultdict[Group, list[tuple[datetime, datetime, Reading]]](list)
        limits_usd = dict[Group, float]()
        if not asked:
            return Evidence({}, as_of, slo, is_hourly=is_hourly)
        read, left = reader(rule, slo), most_rows
        for selection in self._selections(rule):
            for edges in _parts(asked):
                query = AnalyticsQuery(
                    rule.tenant_id,
                    edges,
                    group_by=selection.group_by,
                    filters=selection.filters,
                    tag_key=selection.tag_key,
                    subject=rule.subject,
                    sketches=needs_sketches(rule, slo),
                    limit=left,
                )
                ends = dict(pairwise(edges))
                rows = await self._store.rows(query)
                left -= len(rows)
                if left < 0:
                    raise RuleUnfit(f"group_by: more than {most_rows} rows would have to be read at once")
                for row in rows:
                    group = (*selection.labels, *zip(selection.names, row.group, strict=True))
                    buckets[group].append((row.start, ends[row.start], read(row)))
                    if selection.limit_usd is not None:
                        limits_usd[group] = selection.limit_usd
        return Evidence({group: Series(found) for group, found in buckets.items()}, as_of, slo, limits_usd, is_hourly)

    def check(self, rule: AlertRule) -> None:
        """Whether what a rule names is there.

        Raises:
            RuleUnfit: it is not.
        """
        self._slo(rule)
        for _ in self._selections(rule):
            pass

    def _slo(self, rule: AlertRule) -> Slo | None:
        if rule.kind is not RuleKind.SLO_BURN_RATE:
            return None
        if rule.slo not in SLOS:
            raise RuleUnfit(f"slo: must be one of {', '.join(sorted(SLOS))}")
        return SLOS[rule.slo]

    def _selections(self, rule: AlertRule) -> Iterator[_Selection]:
        if rule.kind is not RuleKind.BUDGET_PROJECTION:
            names = tuple(f"tag:{rule.tag_key}" if one is Dimension.TAG else one.value for one in rule.group_by)
            filters = {one.dimension: one.values for one in rule.filters}
            yield _Selection(rule.group_by, filters, rule.tag_key, names)
            return
        monthly = [one for one in self._budgets() if one.period is Period.MONTH and _limit_usd(one) is not None]
        named = [one for one in monthly if rule.budget in ("", one.name)]
        if rule.budget and not named:
            raise RuleUnfit(f"budget: no monthly budget of the policy is called {rule.budget}")
        for budget in named:
            selection = self._of_budget(budget, rule.tenant_id)
            if selection is not None:
                yield selection
            elif rule.budget:
                raise RuleUnfit("budget: it is not this tenant's, or its tag is none that requests are counted by")

    def _of_budget(self, budget: Budget, tenant_id: str) -> _Selection | None:
        """Whose spend counts for a budget; None where rollups do not say that."""
        scope = budget.scope
        if scope.tenants and tenant_id not in scope.tenants:
            return None
        if scope.per is Per.TENANT and scope.values and tenant_id not in scope.values:
            return None
        tag_key = {Per.TEAM: TEAM_TAG, Per.TAG: scope.tag or ""}.get(scope.per, "")
        dimension = {Per.SERVICE: Dimension.SERVICE, Per.TENANT: None}.get(scope.per, Dimension.TAG)
        if dimension is Dimension.TAG and tag_key not in self.tag_keys:
            return None
        filters = dict[Dimension, tuple[str, ...]]()
        if scope.services:
            filters[Dimension.SERVICE] = tuple(sorted(scope.services))
        if scope.values and dimension is not None:
            allowed = scope.values & scope.services if dimension in filters else scope.values
            filters[dimension] = tuple(sorted(allowed))
        return _Selection(
            () if dimension is None else (dimension,),
            filters,
            tag_key,
            () if dimension is None else (f"tag:{tag_key}" if tag_key else dimension.value,),
            (("budget", budget.name),),
            _limit_usd(budget),
        )


def _parts(runs: Sequence[tuple[datetime, ...]]) -> Iterator[tuple[datetime, ...]]:
    """Runs of buckets, cut where they are long."""
    for run in runs:
        for start in range(0, len(run) - 1, _BUCKETS_AT_ONCE):
            yield run[start : start + _BUCKETS_AT_ONCE + 1]


def _limit_usd(budget: Budget) -> float | None:
    """What must not be passed: the hard limit, or the soft one where there is no hard one."""
    limit = budget.hard_micro_usd or budget.soft_micro_usd
    return None if not limit else float(limit / PER_MILLION)
