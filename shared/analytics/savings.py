"""What the same tokens would have cost with one model for everything, at the prices of the day.

Tokens are taken as they were recorded. Another model would have cut the texts into other tokens and written answers of
another length; nobody knows which, so nothing is made up for it. What was recorded as read from a vendor's cache is
priced as read from a cache. Without the router there is no answer cache: what was served from it counts as asked again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal

from shared.analytics.intervals import Interval, ratio_interval
from shared.domain.analytics import Spend
from shared.domain.models import ModelProfile, PriceTier, Registry
from shared.domain.pricing import cheapest_tiers, cost_at, tier_rates
from shared.domain.replies import Usage

_TOKENS = tuple(field.name for field in fields(Usage) if field.name != "estimated")


@dataclass(frozen=True, slots=True)
class Baseline:
    """A model for everything, in the cheapest of the regions that it is deployed in: a saving is never made larger."""

    profile: ModelProfile
    regions: tuple[str, ...]

    def cost_usd(self, spend: Spend) -> Decimal | None:
        """What the tokens would have cost; None: the model had no price on that day."""
        tiers = self.tiers_on(spend.start.date())
        if tiers is None:
            return None
        return cost_at(tier_rates(tiers, spend.prompt_above_tokens + 1), spend.usage).total_usd

    def tiers_on(self, day: date) -> Sequence[PriceTier] | None:
        """Prices of the cheapest region; None: the model had no price on that day."""
        if all(period.effective_from > day for period in self.profile.prices):
            return None
        return cheapest_tiers(self.profile, day=day, regions=self.regions)


@dataclass(frozen=True, slots=True)
class Savings:
    """What was spent beside what would have been.

    Attributes:
        requests: what is compared.
        left_out: requests for which there is nothing to compare with: no baseline, or no price on their day.
        own_usd: of `actual_usd`, what the router asked on its own account; no baseline would have.
        by_reuse_usd: of `saved_usd`, what answers from the cache saved; the rest is the choice of models.
        share: of `baseline_usd` that was saved; None when that is 0.
        interval: of `share`, from its variation between periods; None for too few of them.
        periods: how many there are.
    """

    requests: int
    left_out: int
    actual_usd: Decimal
    baseline_usd: Decimal
    by_reuse_usd: Decimal
    share: float | None
    interval: Interval | None
    periods: int
    own_usd: Decimal = Decimal(0)

    @property
    def saved_usd(self) -> Decimal:
        """Negative when the baseline would have been cheaper."""
        return self.baseline_usd - self.actual_usd


def baseline_of(registry: Registry, model: str) -> Baseline | None:
    """A model of the registry by its id or another name of it, or None."""
    profile = registry.resolve(model)
    if profile is None:
        return None
    regions = {deployment.region for deployment in registry.deployments_of(profile.id)}
    return Baseline(profile, tuple(sorted(regions)) or ("",))


def best_single(registry: Registry, day: date) -> Baseline | None:
    """The model with the highest expected quality overall that could be called on a day; None: there is none."""
    usable = [
        profile
        for profile in registry.models.values()
        if profile.lifecycle.usable_on(day)
        and any(period.effective_from <= day for period in profile.prices)
        and any(deployment.enabled for deployment in registry.deployments_of(profile.id))
    ]
    best = max(usable, key=lambda profile: (profile.quality["overall"].mean, profile.id), default=None)
    return None if best is None else baseline_of(registry, best.id)


def compare(spends: Iterable[Spend], choose: Callable[[Spend], Baseline | None], own: Iterable[Spend] = ()) -> Savings:
    """Hold what was spent against baselines.

    Args:
        spends: of periods that vary independently as far as possible.
        choose: the baseline of a spend; None leaves it out.
        own: what the router asked on its own account, such as verdicts on answers: a cost that no baseline has.
    """
    requests, left_out = 0, 0
    by_reuse, own_usd = Decimal(0), Decimal(0)
    periods: dict[datetime, tuple[Decimal, Decimal]] = {}
    for spend in own:
        own_usd += spend.cost_usd
        actual, other = periods.get(spend.start, (Decimal(0), Decimal(0)))
        periods[spend.start] = actual + spend.cost_usd, other
    for baseline, spend in _priced_alike(spends, choose):
        would_be = None if baseline is None else baseline.cost_usd(spend)
        if would_be is None:
            left_out += spend.requests
            continue
        requests += spend.requests
        by_reuse += would_be - spend.cost_usd if spend.reused else Decimal(0)
        actual, other = periods.get(spend.start, (Decimal(0), Decimal(0)))
        periods[spend.start] = actual + spend.cost_usd, other + would_be
    actual_usd = sum((actual for actual, _ in periods.values()), Decimal(0))
    baseline_usd = sum((other for _, other in periods.values()), Decimal(0))
    kept = ratio_interval([(float(actual), float(other)) for actual, other in periods.values()])
    return Savings(
        requests=requests,
        left_out=left_out,
        actual_usd=actual_usd,
        baseline_usd=baseline_usd,
        by_reuse_usd=by_reuse,
        share=float((baseline_usd - actual_usd) / baseline_usd) if baseline_usd else None,
        interval=None if kept is None else Interval(1 - kept.high, 1 - kept.low, kept.level),
        periods=len(periods),
        own_usd=own_usd,
    )


def _priced_alike(
    spends: Iterable[Spend], choose: Callable[[Spend], Baseline | None]
) -> Iterator[tuple[Baseline | None, Spend]]:
    """Spends with the same price of the same baseline as one: costs are linear in tokens, and a month has thousands."""
    alike = defaultdict[tuple[datetime, str | None, int, bool], list[tuple[Baseline | None, Spend]]](list)
    for spend in spends:
        baseline = choose(spend)
        name = None if baseline is None else baseline.profile.id
        alike[spend.start, name, spend.prompt_above_tokens, spend.reused].append((baseline, spend))
    for found in alike.values():
        baseline, first = found[0]
        counts = {name: sum(getattr(spend.usage, name) for _, spend in found) for name in _TOKENS}
        yield (
            baseline,
            replace(
                first,
                requests=sum(spend.requests for _, spend in found),
                usage=Usage(**counts),
                cost_usd=sum((spend.cost_usd for _, spend in found), Decimal(0)),
            ),
        )
