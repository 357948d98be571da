"""The laws of the money arithmetic, over generated prices and usage."""

from dataclasses import fields, replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import InternalError
from shared.domain.models import Capabilities, ModelProfile, PricePeriod, PriceTier, QualityPrior, Rates
from shared.domain.pricing import ZERO_COST, Cost, cost_at, cost_of, period_on, rates_for, to_micro_usd
from shared.domain.replies import Usage

DAY = date(2026, 11, 23)
KINDS = [f.name for f in fields(Usage) if f.name.endswith("_tokens")]

usd = st.decimals(min_value=0, max_value=1000, places=4, allow_nan=False, allow_infinity=False)
optional_usd = st.none() | usd
rates = st.builds(Rates, usd, usd, optional_usd, optional_usd, optional_usd, optional_usd)
usage = st.builds(Usage, **{kind: st.integers(0, 10_000_000) for kind in KINDS})


def profile(*periods: PricePeriod) -> ModelProfile:
    return ModelProfile(
        id="m",
        publisher="acme",
        display_name="M",
        context_window_tokens=1000,
        max_output_tokens=100,
        capabilities=Capabilities(),
        prices=periods,
        quality={"overall": QualityPrior(0.5, 1, "assumption")},
        ttft_ms=1,
        tokens_per_s=1,
    )


def period(*tiers: PriceTier, start: date = DAY, **multipliers: str) -> PricePeriod:
    return PricePeriod(start, tiers, {key: Decimal(value) for key, value in multipliers.items()})


def flat(rate: str) -> PriceTier:
    return PriceTier(Rates(Decimal(rate), Decimal(rate)))


def plus(one: Usage, other: Usage) -> Usage:
    return Usage(**{kind: getattr(one, kind) + getattr(other, kind) for kind in KINDS})


@given(rates, usage, usage)
def test_cost_is_additive(price: Rates, one: Usage, other: Usage):
    parts = [cost_at(price, one), cost_at(price, other)]
    together = cost_at(price, plus(one, other))
    assert together.total_usd == sum(part.total_usd for part in parts)
    assert together.cache_usd == sum(part.cache_usd for part in parts)


@given(rates, usage, st.sampled_from(KINDS), st.integers(1, 1_000_000))
def test_cost_never_falls_when_any_kind_of_token_is_added(price: Rates, used: Usage, kind: str, more: int):
    assert (
        cost_at(price, replace(used, **{kind: getattr(used, kind) + more})).total_usd >= cost_at(price, used).total_usd
    )


@given(rates, usage, st.sampled_from(KINDS), st.integers(1, 2_000_000))
def test_cost_never_falls_across_a_tier(price: Rates, used: Usage, kind: str, more: int):
    doubled = Rates(*(None if rate is None else rate * 2 for rate in (getattr(price, f.name) for f in fields(Rates))))
    model = profile(period(PriceTier(price), PriceTier(doubled, 200_000)))
    longer = replace(used, **{kind: getattr(used, kind) + more})
    assert (
        cost_of(model, longer, day=DAY, region="eu").total_usd >= cost_of(model, used, day=DAY, region="eu").total_usd
    )


@given(rates, usage)
def test_cost_is_never_negative_and_parts_make_the_whole(price: Rates, used: Usage):
    cost = cost_at(price, used)
    assert min(cost.input_usd, cost.cache_usd, cost.output_usd) >= 0
    assert cost.total_usd == cost.input_usd + cost.cache_usd + cost.output_usd
    assert cost_at(price, Usage()) == ZERO_COST


@given(rates, usage, st.decimals(min_value="0.1", max_value=5, places=3))
def test_a_region_scales_every_part_alike(price: Rates, used: Usage, factor: Decimal):
    model = profile(period(PriceTier(price), eu=str(factor)))
    assert (
        cost_of(model, used, day=DAY, region="eu").total_usd
        == cost_of(model, used, day=DAY, region="global").total_usd * factor
    )


@given(st.decimals(min_value=0, max_value=1_000_000, places=12))
def test_micro_usd_rounds_up_by_less_than_one(amount: Decimal):
    micro = to_micro_usd(amount)
    assert 0 <= micro - amount * 1_000_000 < 1


@pytest.mark.parametrize(
    ("amount", "micro"), [("0", 0), ("0.000001", 1), ("0.0000001", 1), ("0.0000010000001", 2), ("1.5", 1_500_000)]
)
def test_micro_usd(amount: str, micro: int):
    assert to_micro_usd(Decimal(amount)) == micro


def test_thinking_costs_as_output():
    price = Rates(Decimal(1), Decimal(8))
    assert cost_at(price, Usage(thinking_tokens=1_000_000)) == Cost(Decimal(0), Decimal(0), Decimal(8))


def test_rates_that_no_vendor_publishes_fall_back():
    price = Rates(input=Decimal(3), output=Decimal(9))
    million = 1_000_000
    assert cost_at(price, Usage(cache_read_tokens=million)).cache_usd == 3
    assert cost_at(price, Usage(cache_write_tokens=million)).cache_usd == 3
    assert cost_at(price, Usage(cache_write_long_tokens=million)).cache_usd == 6
    assert cost_at(price, Usage(input_audio_tokens=million)).input_usd == 3


def test_a_rate_of_zero_is_free_and_no_fallback():
    price = Rates(Decimal(3), Decimal(9), Decimal(0), Decimal(0), Decimal(0), Decimal(0))
    used = Usage(cache_read_tokens=5, cache_write_tokens=5, cache_write_long_tokens=5, input_audio_tokens=5)
    assert cost_at(price, used).total_usd == 0


def test_prices_change_on_the_day_itself():
    new_year = date(2027, 1, 1)
    model = profile(period(flat("1")), period(flat("2"), start=new_year))
    eve = new_year - timedelta(days=1)
    assert rates_for(model, day=eve, prompt_tokens=1, region="global").input == 1
    assert rates_for(model, day=new_year, prompt_tokens=1, region="global").input == 2
    assert period_on(model, date(2030, 1, 1)) is model.prices[1]


def test_the_order_of_periods_does_not_matter():
    model = profile(period(flat("2"), start=date(2027, 1, 1)), period(flat("1")))
    assert rates_for(model, day=DAY, prompt_tokens=1, region="global").input == 1
    assert rates_for(model, day=date(2027, 6, 1), prompt_tokens=1, region="global").input == 2


def test_a_day_without_a_price_is_a_defect():
    with pytest.raises(InternalError, match="model m has no price on 2026-11-22"):
        period_on(profile(period(flat("1"))), DAY - timedelta(days=1))


@pytest.mark.parametrize(("prompt", "rate"), [(0, 1), (1, 1), (100, 1), (101, 2), (200, 2), (201, 3)])
def test_the_tier_starts_above_its_bound(prompt: int, rate: int):
    tiers = [flat("1"), replace(flat("2"), above_prompt_tokens=100), replace(flat("3"), above_prompt_tokens=200)]
    assert rates_for(profile(period(*tiers)), day=DAY, prompt_tokens=prompt, region="eu").input == rate


@pytest.mark.parametrize(
    ("region", "factor"),
    [("global", "1"), ("us", "1.1"), ("us-east5", "1.2"), ("europe-west4", "1.3"), ("europe-west9", "1.05"), ("asia-south1", "1.5")],
)  # fmt: skip
def test_the_longest_matching_region_wins_and_a_star_covers_the_rest(region: str, factor: str):
    multipliers = {"global": "1", "us": "1.1", "us-east5": "1.2", "eu": "1.05", "europe-west4": "1.3", "*": "1.5"}
    price = Rates(*(Decimal(n) for n in range(1, 7)))
    scaled = rates_for(profile(period(PriceTier(price), **multipliers)), day=DAY, prompt_tokens=1, region=region)
    for f in fields(Rates):
        assert getattr(scaled, f.name) == getattr(price, f.name) * Decimal(factor)


def test_without_a_star_other_regions_cost_the_same():
    model = profile(period(flat("1"), eu="1.1"))
    assert rates_for(model, day=DAY, prompt_tokens=1, region="asia-south1").input == 1
    scaled = rates_for(model, day=DAY, prompt_tokens=1, region="eu")
    assert scaled.cache_read is None
