"""What a call costs: exact decimal arithmetic over token usage and dated, tiered, regional prices.

Everything is exact: rates are decimals with at most a few digits, tokens are integers, the products stay far below the
28 digits of the default decimal context, and nothing is rounded until `to_micro_usd`. Fallbacks where a vendor
publishes no separate rate: cached input costs as input, writing to a cache as input, the long cache as twice the input
(Anthropic's published multiplier), audio as input. A cached audio token is billed as any cached token: `Usage` does
not tell them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, Decimal

from shared.domain.errors import InternalError
from shared.domain.models import ModelProfile, PricePeriod, PriceTier, Rates
from shared.domain.replies import Usage

PER_MILLION = Decimal(1_000_000)
ANY_REGION = "*"
"""Key of the factor for regions that no other key covers."""
_LONG_CACHE_FACTOR = Decimal(2)


@dataclass(frozen=True, slots=True)
class Cost:
    """USD by what was billed; `total_usd` is their exact sum."""

    input_usd: Decimal
    cache_usd: Decimal
    output_usd: Decimal

    @property
    def total_usd(self) -> Decimal:
        """The whole cost, unrounded."""
        return self.input_usd + self.cache_usd + self.output_usd


ZERO_COST = Cost(Decimal(0), Decimal(0), Decimal(0))


def period_on(profile: ModelProfile, day: date) -> PricePeriod:
    """The price period in force on a UTC day.

    Raises:
        InternalError: the profile has no price for that day; the registry loader refuses such files.
    """
    current = None
    for period in profile.prices:
        if period.effective_from <= day and (current is None or period.effective_from > current.effective_from):
            current = period
    if current is None:
        raise InternalError(f"model {profile.id} has no price on {day.isoformat()}")
    return current


def quoted_period(profile: ModelProfile, day: date) -> PricePeriod:
    """The period in force on a UTC day, or the first one where none is yet: a model may be listed before it comes."""
    started = [period for period in profile.prices if period.effective_from <= day]
    return max(started, key=_start) if started else min(profile.prices, key=_start)


def _start(period: PricePeriod) -> date:
    return period.effective_from


def rates_for(profile: ModelProfile, *, day: date, prompt_tokens: int, region: str) -> Rates:
    """The rates that apply to a request: period by date, tier by whole prompt length, factor by region.

    A region without a factor of its own takes that of the longest prefix that has one (``europe-west4`` takes
    ``europe``), else that of ``*``, else 1.
    """
    period = period_on(profile, day)
    return region_rates(tier_rates(period.tiers, prompt_tokens), period, region)


def tier_rates(tiers: Sequence[PriceTier], prompt_tokens: int) -> Rates:
    """The rates of the tier that a prompt length falls in."""
    tier = tiers[0]
    for candidate in tiers:
        if prompt_tokens > candidate.above_prompt_tokens:
            tier = candidate
    return tier.rates


def cheapest_tiers(profile: ModelProfile, *, day: date, regions: Sequence[str]) -> Sequence[PriceTier]:
    """A day's tiers in the cheapest of some regions, which is the same for all usage: a factor scales all rates alike.

    Raises:
        InternalError: the profile has no price for that day.
    """
    period = period_on(profile, day)
    factor = min(_region_factor(period, region) for region in regions)
    return period.tiers if factor == 1 else [replace(tier, rates=_scaled(tier.rates, factor)) for tier in period.tiers]


def region_rates(rates: Rates, period: PricePeriod, region: str) -> Rates:
    """Rates of a period with the region's factor applied."""
    factor = _region_factor(period, region)
    return rates if factor == 1 else _scaled(rates, factor)


def cost_of(profile: ModelProfile, usage: Usage, *, day: date, region: str) -> Cost:
    """Exact cost of a call from the vendor's own usage figures."""
    rates = rates_for(profile, day=day, prompt_tokens=usage.prompt_tokens, region=region)
    return cost_at(rates, usage)


def cost_at(rates: Rates, usage: Usage) -> Cost:
    """Exact cost at given rates."""
    read = rates.input if rates.cache_read is None else rates.cache_read
    write = rates.input if rates.cache_write is None else rates.cache_write
    long_write = rates.input * _LONG_CACHE_FACTOR if rates.cache_write_long is None else rates.cache_write_long
    audio = rates.input if rates.input_audio is None else rates.input_audio
    return Cost(
        input_usd=(usage.input_tokens * rates.input + usage.input_audio_tokens * audio) / PER_MILLION,
        cache_usd=(
            usage.cache_read_tokens * read
            + usage.cache_write_tokens * write
            + usage.cache_write_long_tokens * long_write
        )
        / PER_MILLION,
        output_usd=usage.completion_tokens * rates.output / PER_MILLION,
    )


def to_micro_usd(amount_usd: Decimal) -> int:
    """Whole micro-USD, rounded up: a budget is never charged less than was spent."""
    return int((amount_usd * PER_MILLION).to_integral_value(rounding=ROUND_CEILING))


def _region_factor(period: PricePeriod, region: str) -> Decimal:
    best, factor = 0, period.region_multipliers.get(ANY_REGION, Decimal(1))
    for prefix, value in period.region_multipliers.items():
        if region.startswith(prefix) and len(prefix) > best:
            best, factor = len(prefix), value
    return factor


def _scaled(rates: Rates, factor: Decimal) -> Rates:
    def times(rate: Decimal | None) -> Decimal | None:
        return None if rate is None else rate * factor

    return Rates(
        input=rates.input * factor,
        output=rates.output * factor,
        cache_read=times(rates.cache_read),
        cache_write=times(rates.cache_write),
        cache_write_long=times(rates.cache_write_long),
        input_audio=times(rates.input_audio),
    )
