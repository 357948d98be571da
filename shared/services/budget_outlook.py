"""How the tenant's budgets stand, and what will have been spent by the end of their periods."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from shared.analytics.projection import MOST_DAYS, Projection, project
from shared.domain.analytics import AnalyticsQuery, Dimension
from shared.domain.budgets import Balance, Budget
from shared.domain.errors import DependencyUnavailable
from shared.domain.policy import Policy
from shared.domain.pricing import PER_MILLION
from shared.domain.scopes import Per, key_part
from shared.ports import AnalyticsStore, BudgetLedger, BudgetStore

_DAY = timedelta(days=1)
_MOST_ROWS = 100_000
_TEAM = "team"

Daily = Mapping[tuple[str, ...], Mapping[date, float]]
"""Cost by day, by what was grouped by."""


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """A budget of somebody, in the period that runs.

    Attributes:
        account: ``budget/period/value``.
        value: whose it is, as accounts name it (`key_part`).
        settled_micro_usd: as the ledger has it.
        reserved_micro_usd: for requests under way; None: the memory that counts it is away.
        elapsed_share: of the period; None for a total.
        projection: to its end; None for a total, and where figures are not kept by what the budget is for.
    """

    budget: Budget
    account: str
    value: str
    started_at: datetime
    ends_at: datetime | None
    settled_micro_usd: int
    reserved_micro_usd: int | None
    elapsed_share: float | None
    projection: Projection | None

    @property
    def burn(self) -> float | None:
        """Share of the limit that is spent, over the share of the period that is over; above 1 it will not last."""
        limit = self.budget.hard_micro_usd or self.budget.soft_micro_usd
        if not limit or not self.elapsed_share:
            return None
        return self.settled_micro_usd / limit / self.elapsed_share


class BudgetOutlook:
    """Looks ahead.

    Args:
        store: has what each day cost.
        ledger: has what accounts were charged with.
        money: has what is reserved.
        policy: has the budgets.
        tag_keys: tags that rollups are kept by.
    """

    def __init__(
        self,
        store: AnalyticsStore,
        ledger: BudgetLedger,
        money: BudgetStore,
        policy: Callable[[], Policy],
        tag_keys: Sequence[str],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._money = money
        self._policy = policy
        self._tag_keys = frozenset(tag_keys)

    async def standings(
        self, tenant_id: str, as_of: datetime, *, histories: Mapping[str, Daily] | None = None
    ) -> Sequence[BudgetStanding]:
        """Every account that was charged in the period that runs, by budget and value.

        Args:
            tenant_id: whose.
            as_of: a whole minute, UTC, up to which rollups are complete.
            histories: what `histories` says, where it is at hand.

        Raises:
            DependencyUnavailable: the rollups or the ledger are away.
        """
        budgets = {f"{budget.name}/{budget.period.label(as_of)}/": budget for budget in self._policy().budgets}
        if not budgets:
            return ()
        settled, balances, known = await asyncio.gather(
            self._ledger.settled(tenant_id, tuple(budgets)),
            self._balances(tenant_id),
            self.histories(tenant_id, as_of) if histories is None else _at_hand(histories),
        )
        return [
            self._standing(budgets[prefix], account, micro_usd, balances, known, as_of)
            for account, micro_usd in sorted(settled.items())
            for prefix in [account[: account.rindex("/") + 1]]
        ]

    async def _balances(self, tenant_id: str) -> Mapping[str, Balance] | None:
        try:
            return (await self._money.read(tenant_id)).balances
        except DependencyUnavailable:
            return None

    async def histories(self, tenant_id: str, as_of: datetime) -> Mapping[str, Daily]:
        """What `daily` says by service under the empty text, and by service and value under each tag that has a budget.

        Raises:
            DependencyUnavailable: the rollups are away.
        """
        scopes = [budget.scope for budget in self._policy().budgets]
        keys = {scope.tag for scope in scopes if scope.per is Per.TAG and scope.tag}
        keys |= {_TEAM} if any(scope.per is Per.TEAM for scope in scopes) else set()
        kept = sorted(self._tag_keys & keys)
        found = await asyncio.gather(
            self.daily(tenant_id, as_of, (Dimension.SERVICE,)),
            *(self.daily(tenant_id, as_of, (Dimension.SERVICE, Dimension.TAG), tag_key=key) for key in kept),
        )
        return dict(zip(("", *kept), found, strict=True))

    async def daily(
        self, tenant_id: str, as_of: datetime, group_by: tuple[Dimension, ...], *, tag_key: str = ""
    ) -> Daily:
        """What each of the last complete days cost, by group.

        Raises:
            DependencyUnavailable: the rollups are away.
        """
        midnight = as_of.replace(hour=0, minute=0)
        edges = tuple(midnight - number * _DAY for number in range(MOST_DAYS, -1, -1))
        query = AnalyticsQuery(
            tenant_id, edges, group_by, tag_key=tag_key, only=frozenset({"cost_usd"}), limit=_MOST_ROWS
        )
        costs = defaultdict[tuple[str, ...], dict[date, float]](dict)
        for row in await self._store.rows(query):
            costs[row.group][row.start.date()] = float(row.cost_usd)
        return costs

    def _standing(
        self,
        budget: Budget,
        account: str,
        micro_usd: int,
        balances: Mapping[str, Balance] | None,
        histories: Mapping[str, Daily],
        as_of: datetime,
    ) -> BudgetStanding:
        start, end = budget.period.start_of(as_of), budget.period.end_of(as_of)
        value = account.rpartition("/")[2]
        history = self._history(budget, value, histories)
        projection = None
        if history is not None and end is not None:
            spent_usd = float(micro_usd / PER_MILLION)
            projection = project(list(history.items()), spent_usd=spent_usd, now=as_of, end=end)
        reserved = None
        if balances is not None:
            reserved = balances[account].reserved_micro_usd if account in balances else 0
        return BudgetStanding(
            budget=budget,
            account=account,
            value=value,
            started_at=start,
            ends_at=end,
            settled_micro_usd=micro_usd,
            reserved_micro_usd=reserved,
            elapsed_share=None if end is None else (as_of - start) / (end - start),
            projection=projection,
        )

    def _history(self, budget: Budget, value: str, histories: Mapping[str, Daily]) -> Mapping[date, float] | None:
        """What each day cost of what the account holds; None: figures are not kept by that."""
        scope, policy = budget.scope, self._policy()

        def is_held(service: str) -> bool:
            return not scope.services or service in scope.services

        def team(service: str) -> str | None:
            return policy.for_service(service).team

        by_service = {group[0]: days for group, days in histories[""].items() if is_held(group[0])}
        match scope.per:
            case Per.TENANT:
                return added(by_service.values())
            case Per.SERVICE:
                return added(days for service, days in by_service.items() if key_part(service) == value)
            case Per.TEAM:
                own = [days for service, days in by_service.items() if key_part(team(service) or "") == value]
                # As `Policy.subject_of` has it: the tag counts where the policy names no team.
                tagged = [
                    days
                    for (service, tag), days in histories.get(_TEAM, {}).items()
                    if is_held(service) and team(service) is None and key_part(tag) == value
                ]
                return added([*own, *tagged]) if own or _TEAM in histories else None
            case Per.TAG:
                tagged_days = histories.get(scope.tag or "") if scope.tag else None
                if tagged_days is None:
                    return None
                return added(
                    days for (service, tag), days in tagged_days.items() if is_held(service) and key_part(tag) == value
                )


async def _at_hand(histories: Mapping[str, Daily]) -> Mapping[str, Daily]:
    return histories


def added(histories: Iterable[Mapping[date, float]]) -> Mapping[date, float]:
    """Costs by day, of several together."""
    total = defaultdict[date, float](float)
    for days in histories:
        for day, cost in days.items():
            total[day] += cost
    return total
