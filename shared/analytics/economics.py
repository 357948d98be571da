"""What answers cost, whether the savings are worth having, and where money would be saved next.

Expected quality is the registry's prior of a model in a category: an estimate from public benchmarks, not something
that was seen here.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from shared.analytics.anomalies import Deviation, deviation
from shared.analytics.cards import rated
from shared.analytics.intervals import Interval
from shared.analytics.savings import Savings, baseline_of
from shared.domain.analytics import Aggregate
from shared.domain.models import ModelProfile, PriceTier, Registry
from shared.domain.policy import ServicePolicy
from shared.domain.pricing import cost_at, tier_rates
from shared.domain.replies import Usage

TARGET_SHARE = Interval(0.20, 0.30, 1.0)
"""Of the baseline's cost that is to be saved; more is welcome."""
LEAST_RETENTION = 0.95
"""Of the baseline's expected quality that must be kept for a saving to count, and for a cheaper model to be named."""
MONTH = timedelta(days=365) / 12
_ROOM = 10
"""A model is only named where its context window holds so many requests of average length."""
_SCORE = 3.5
"""Deviations from which on a day is shown: Iglewicz, Hoaglin, "How to Detect and Handle Outliers" (1993)."""
_LEAST_EXCESS = 0.02
"""Of all services' usual day: what is less is not worth a look."""
_WEEK, _WEEKS, _DAYS = timedelta(days=7), 8, 14


class SavingsState(StrEnum):
    """How the savings stand to their target."""

    MET = "met"
    """At least the lower target, also at the lower end of the interval, with the quality kept."""
    NOT_MET = "not_met"
    """The whole interval is below the lower target."""
    QUALITY_NOT_KEPT = "quality_not_kept"
    """Enough is saved, by models of which less is expected than may be."""
    NOT_ENOUGH_DATA = "not_enough_data"


@dataclass(frozen=True, slots=True)
class Retention:
    """Expected quality of the models that served beside that of the baseline, over the same answers.

    Attributes:
        left_out: answers of models that the registry no longer has.
    """

    served: float
    baseline: float
    answers: int
    left_out: int

    @property
    def share(self) -> float:
        """Above 1: the router chose better models than the baseline."""
        return self.served / self.baseline if self.baseline else 1.0


@dataclass(frozen=True, slots=True)
class UnitCosts:
    """What one of each cost; None: there were none.

    Attributes:
        per_1k_tokens_usd: of tokens that models read and wrote; those of the answer cache are not in it.
        per_good_answer_usd: per answer that succeeded, over the mean score of those that were rated or judged; with its
            interval from that of the scores.
    """

    per_request_usd: Decimal | None
    per_answer_usd: Decimal | None
    per_1k_tokens_usd: Decimal | None
    per_good_answer_usd: float | None
    per_good_answer_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Opportunity:
    """A service's requests of a category that a cheaper model is expected to answer nearly as well.

    Attributes:
        saving_usd: of what they cost in the span, at the prices of its last day.
        quality, suggested_quality: expected of either model in the category.
    """

    service: str
    model_id: str
    category: str
    suggested_model_id: str
    requests: int
    cost_usd: Decimal
    saving_usd: float
    quality: float
    suggested_quality: float


@dataclass(frozen=True, slots=True)
class SpendAnomaly:
    """A day on which a service spent unusually much or little.

    Attributes:
        score: deviations from the usual one.
    """

    service: str
    day: date
    cost_usd: float
    usual_usd: float
    score: float


def quality_of(profile: ModelProfile, category: str) -> float:
    """Expected quality of a model in a category, by the registry."""
    return profile.quality.get(category, profile.quality["overall"]).mean


def retention(rows: Iterable[Aggregate], registry: Registry, baseline: ModelProfile) -> Retention | None:
    """How much of the baseline's expected quality is kept; None: no answers.

    Args:
        rows: by model and category, in this order.
        registry: has what is expected of models.
        baseline: the model to compare with.
    """
    answers, left_out, served, best = 0, 0, 0.0, 0.0
    for row in rows:
        model_id, category = row.group
        profile = registry.models.get(model_id)
        if profile is None:
            left_out += row.succeeded
            continue
        answers += row.succeeded
        served += row.succeeded * quality_of(profile, category)
        best += row.succeeded * quality_of(baseline, category)
    return Retention(served / answers, best / answers, answers, left_out) if answers else None


def savings_state(found: Savings, kept: Retention | None) -> SavingsState:
    """Whether the target of savings is met, as far as can be told."""
    if found.interval is None or kept is None:
        return SavingsState.NOT_ENOUGH_DATA
    if found.interval.high < TARGET_SHARE.low:
        return SavingsState.NOT_MET
    if found.interval.low < TARGET_SHARE.low:
        return SavingsState.NOT_ENOUGH_DATA
    return SavingsState.MET if kept.share >= LEAST_RETENTION else SavingsState.QUALITY_NOT_KEPT


def unit_costs(row: Aggregate) -> UnitCosts:
    """What one request, answer, thousand tokens and good answer cost."""
    tokens = row.usage.total_tokens
    good, interval = None, None
    scores = rated(row)
    mean, between = scores.mean, scores.interval()
    if mean and between is not None and row.succeeded:
        each = float(row.cost_usd) / row.succeeded
        good = each / mean
        interval = Interval(each / between.high, each / between.low, between.level) if between.low else None
    return UnitCosts(
        per_request_usd=row.cost_usd / row.count if row.count else None,
        per_answer_usd=row.cost_usd / row.succeeded if row.succeeded else None,
        per_1k_tokens_usd=row.cost_usd * 1000 / tokens if tokens else None,
        per_good_answer_usd=good,
        per_good_answer_interval=interval,
    )


def opportunities(
    rows: Iterable[Aggregate],
    registry: Registry,
    rules: Callable[[str], ServicePolicy],
    *,
    at: datetime,
    most: int | None = None,
) -> list[Opportunity]:
    """Where a cheaper model is expected to do nearly as well, the largest saving first.

    Whether a request needed what only the dear model can do is not in the rollups, so a model is named only where it
    takes all that the one in use takes, and where the service's rules let it.

    Args:
        rows: by service, model and category, in this order.
        registry: models, prices and what is expected of them.
        rules: of a service.
        at: whose prices count.
        most: so many at most, one at least; None: all.
    """
    market = _Market(registry, rules, at.date())
    found: list[Opportunity] = []
    largest: list[float] = []
    for row in sorted(rows, key=lambda row: -row.cost_usd):
        # Nobody saves more than was spent: what is left cannot be among the largest any more.
        if most is not None and len(largest) >= most and float(row.cost_usd) < largest[0]:
            break
        one = _opportunity(row, market) if row.cost_usd > 0 and row.succeeded else None
        if one is not None:
            found.append(one)
            heapq.heappush(largest, one.saving_usd)
            if most is not None and len(largest) > most:
                heapq.heappop(largest)
    return sorted(found, key=lambda one: (-one.saving_usd, one.service, one.model_id, one.category))[:most]


class _Market:
    """Models with their prices of a day, and which of them may take another's place. What was found out is kept.

    Args:
        registry: has the models.
        rules: of a service.
        day: whose prices count.
    """

    def __init__(self, registry: Registry, rules: Callable[[str], ServicePolicy], day: date) -> None:
        self.registry = registry
        self._rules, self._day = rules, day
        self._usable = [
            profile
            for profile in registry.models.values()
            if profile.lifecycle.usable_on(day) and any(where.enabled for where in registry.deployments_of(profile.id))
        ]
        self._tiers: dict[str, Sequence[PriceTier] | None] = {}
        self._instead: dict[tuple[str, str], Sequence[ModelProfile]] = {}

    def cost_usd(self, profile: ModelProfile, usage: Usage, prompt_tokens: int) -> Decimal | None:
        """What tokens cost with a model in its cheapest region; None: it has no price on that day."""
        if profile.id not in self._tiers:
            found = baseline_of(self.registry, profile.id)
            self._tiers[profile.id] = None if found is None else found.tiers_on(self._day)
        tiers = self._tiers[profile.id]
        return None if tiers is None else cost_at(tier_rates(tiers, prompt_tokens), usage).total_usd

    def instead_of(self, profile: ModelProfile, service: str) -> Sequence[ModelProfile]:
        """Models that take all that one takes, and that the rules let serve the service."""
        key = profile.id, service
        if key not in self._instead:
            rules = self._rules(service)
            self._instead[key] = [
                one for one in self._usable if _takes_all(one, profile) and _may_serve(one, self.registry, rules)
            ]
        return self._instead[key]


def _opportunity(row: Aggregate, market: _Market) -> Opportunity | None:
    service, model_id, category = row.group
    profile = market.registry.models.get(model_id)
    if profile is None:
        return None
    room = _ROOM * (row.usage.total_tokens // row.count)
    # The tier of the average prompt: rollups by category do not keep tiers apart.
    prompt_tokens = row.usage.prompt_tokens // row.count + 1
    now = market.cost_usd(profile, row.usage, prompt_tokens)
    if not now:
        return None
    least = LEAST_RETENTION * quality_of(profile, category)
    best: tuple[Decimal, ModelProfile] | None = None
    for candidate in market.instead_of(profile, service):
        if candidate.context_window_tokens >= room and quality_of(candidate, category) >= least:
            then = market.cost_usd(candidate, row.usage, prompt_tokens)
            if then is not None and then < (now if best is None else best[0]):
                best = then, candidate
    if best is None:
        return None
    return Opportunity(
        service=service,
        model_id=model_id,
        category=category,
        suggested_model_id=best[1].id,
        requests=row.count,
        cost_usd=row.cost_usd,
        # As a share of what was paid, which also holds regions and failed attempts.
        saving_usd=float(row.cost_usd * (1 - best[0] / now)),
        quality=quality_of(profile, category),
        suggested_quality=quality_of(best[1], category),
    )


def _takes_all(candidate: ModelProfile, profile: ModelProfile) -> bool:
    able, needed = candidate.capabilities, profile.capabilities
    flags = ("tools", "parallel_tools", "json_object", "json_schema", "streaming", "system", "media_uris")
    return needed.modalities <= able.modalities and all(
        getattr(able, flag) or not getattr(needed, flag) for flag in flags
    )


def _may_serve(candidate: ModelProfile, registry: Registry, rules: ServicePolicy) -> bool:
    if candidate.id in rules.deny_models or (rules.allow_models and candidate.id not in rules.allow_models):
        return False
    return not rules.residency or any(
        where.enabled and where.residency & rules.residency for where in registry.deployments_of(candidate.id)
    )


def spend_anomalies(costs: Mapping[str, Mapping[date, float]], *, first: date, last: date) -> list[SpendAnomaly]:
    """Days of services that cost unusually much or little, the most unusual first.

    A day is held against the same day of the week in eight weeks before; where a service is too young, against the two
    weeks before.

    Args:
        costs: of complete days by service; days after a service's first that are not there cost nothing.
        first: of the days to look at.
        last: of them, inclusive.
    """
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    found = []
    for day in days:
        usual_of_all = sum(each.get(past, 0.0) for each in costs.values() for past in _recent(day)) / _DAYS
        for service, spent in costs.items():
            cost, seen = spent.get(day, 0.0), _unusual(spent, day)
            is_worth_a_look = seen is not None and abs(cost - seen.usual) >= _LEAST_EXCESS * usual_of_all
            if seen is not None and is_worth_a_look and abs(seen.score) >= _SCORE:
                found.append(SpendAnomaly(service, day, cost, seen.usual, seen.score))
    return sorted(found, key=lambda one: (-abs(one.score), one.day, one.service))


def _unusual(spent: Mapping[date, float], day: date) -> Deviation | None:
    begun = min(spent, default=day)
    for earlier in ([day - number * _WEEK for number in range(1, _WEEKS + 1)], _recent(day)):
        seen = deviation(spent.get(day, 0.0), [spent.get(past, 0.0) for past in earlier if past >= begun])
        if seen is not None:
            return seen
    return None


def _recent(day: date) -> list[date]:
    return [day - timedelta(days=number) for number in range(1, _DAYS + 1)]
