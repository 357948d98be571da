"""What one model for everything would have cost: exactly what its prices say of each request."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.savings import Baseline, baseline_of, best_single, compare
from shared.domain.analytics import Spend
from shared.domain.models import PricePeriod, PriceTier, Rates
from shared.domain.pricing import cost_of
from shared.domain.replies import Usage
from shared.services.rollups import prompt_tiers
from tests.unit.routing_builders import deployment, model, registry

DAY = datetime(2026, 11, 5, tzinfo=UTC)
CHEAP, DEAR = Rates(Decimal("0.1"), Decimal("0.4")), Rates(Decimal(3), Decimal(15), cache_read=Decimal("0.3"))
LONG = Rates(Decimal(6), Decimal("22.5"))
PRICES = (
    PricePeriod(date(2026, 10, 1), (PriceTier(DEAR), PriceTier(LONG, 200_000)), {"us": Decimal("1.1")}),
    PricePeriod(date(2026, 11, 10), (PriceTier(CHEAP),)),
)
PROFILE = replace(model("best", quality=0.9), prices=PRICES)
ONE = Baseline(PROFILE, ("global", "us-east1"))


def spend(**fields):
    values = {
        "start": DAY,
        "service": "s",
        "model_id": "m",
        "reused": False,
        "prompt_above_tokens": 0,
        "requests": 1,
        "usage": Usage(),
        "cost_usd": Decimal(0),
    }
    return Spend(**values | fields)


@given(
    st.lists(
        st.tuples(st.integers(0, 400_000), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 9)), min_size=1
    )
)
def test_sums_of_tokens_cost_what_the_requests_would_have(requests):
    exact, sums = Decimal(0), {}
    for prompt, cached, answer, day in requests:
        usage = Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=answer)
        start = DAY + timedelta(days=day)
        exact += cost_of(PROFILE, usage, day=start.date(), region="global").total_usd
        key = (start, 200_000 if usage.prompt_tokens > 200_000 else 0)
        known = sums.get(key, Usage())
        sums[key] = Usage(
            input_tokens=known.input_tokens + prompt,
            cache_read_tokens=known.cache_read_tokens + cached,
            output_tokens=known.output_tokens + answer,
        )
    spends = [spend(start=at, prompt_above_tokens=tier, usage=usage) for (at, tier), usage in sums.items()]
    found = compare(spends, lambda _: ONE)
    assert found.baseline_usd == exact
    assert found.saved_usd == exact


def test_days_before_the_first_price_are_left_out_and_said():
    early = spend(start=DAY - timedelta(days=90), requests=7, cost_usd=Decimal(5))
    found = compare([early, spend(usage=Usage(input_tokens=1_000_000), cost_usd=Decimal(1))], lambda _: ONE)
    assert (found.requests, found.left_out) == (1, 7)
    assert (found.actual_usd, found.baseline_usd, found.share) == (Decimal(1), Decimal(6) / 2, pytest.approx(2 / 3))


def test_what_the_cache_saved_is_told_apart_from_what_the_choice_saved():
    tokens = Usage(input_tokens=1_000_000)
    found = compare([spend(reused=True, usage=tokens), spend(usage=tokens, cost_usd=Decimal(1))], lambda _: ONE)
    assert (found.by_reuse_usd, found.saved_usd - found.by_reuse_usd) == (Decimal(3), Decimal(2))


def test_a_dearer_choice_is_a_negative_saving():
    found = compare([spend(usage=Usage(input_tokens=1_000_000), cost_usd=Decimal(6))], lambda _: ONE)
    assert found.share == -1.0
    assert found.interval is None


def test_nothing_has_no_share():
    found = compare([], lambda _: ONE)
    assert (found.share, found.interval, found.periods) == (None, None, 0)


def test_the_interval_is_about_the_share():
    spends = [
        spend(start=DAY + timedelta(hours=n), usage=Usage(input_tokens=1_000_000), cost_usd=Decimal(1 + n % 2))
        for n in range(24)
    ]
    found = compare(spends, lambda _: ONE)
    assert found.share == pytest.approx(0.5)
    assert found.interval.low < found.share < found.interval.high
    assert found.periods == 24


def test_the_best_single_model_is_the_best_that_could_be_called():
    gone = replace(model("gone", quality=0.99), lifecycle=replace(PROFILE.lifecycle, retires_on=date(2026, 11, 1)))
    unpriced = replace(model("later", quality=0.98), prices=(replace(PRICES[0], effective_from=date(2027, 1, 1)),))
    off = model("off", quality=0.97)
    shelf = registry(
        (PROFILE, deployment("best")),
        (gone, deployment("gone")),
        (unpriced, deployment("later")),
        (off, replace(deployment("off"), enabled=False)),
        (model("poor", quality=0.2), deployment("poor")),
    )
    assert best_single(shelf, date(2026, 11, 5)).profile.id == "best"
    assert baseline_of(shelf, "poor").profile.id == "poor"
    assert baseline_of(shelf, "nobody") is None
    assert best_single(registry(), date(2026, 11, 5)) is None
    assert prompt_tiers(shelf) == (200_000,)
