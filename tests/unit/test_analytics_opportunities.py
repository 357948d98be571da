"""The largest opportunities are those of all, and the cheapest region is the cheapest for whatever was used."""

from datetime import UTC, date, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.economics import opportunities
from shared.analytics.savings import baseline_of
from shared.config import REGISTRY_DIRECTORY
from shared.domain.analytics import Aggregate, Spend
from shared.domain.policy import ServicePolicy
from shared.domain.pricing import cost_at, rates_for
from shared.domain.replies import Usage
from shared.stores.registry_files import load_registry

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
REGISTRY = load_registry(REGISTRY_DIRECTORY)
MODELS = sorted(REGISTRY.models)
_TOKENS = st.integers(0, 3_000_000)
_USAGE = st.builds(
    Usage,
    input_tokens=_TOKENS,
    cache_read_tokens=_TOKENS,
    cache_write_tokens=_TOKENS,
    cache_write_long_tokens=_TOKENS,
    output_tokens=_TOKENS,
)
_ROWS = st.lists(
    st.builds(
        lambda service, model, category, count, usage, cost: Aggregate(
            AT, (service, model, category), count=count, succeeded=count, usage=usage, cost_usd=cost
        ),
        st.sampled_from("abc"),
        st.sampled_from([*MODELS, "gone"]),
        st.sampled_from(("math", "translation", "unheard-of")),
        st.integers(1, 9),
        _USAGE,
        st.sampled_from((Decimal(0), Decimal(1), Decimal("1.5"), Decimal(40))),
    ),
    max_size=12,
    unique_by=lambda row: row.group,
)


@given(_ROWS, st.integers(1, 4))
def test_the_largest_opportunities_are_the_first_of_all(rows: list[Aggregate], most: int) -> None:
    def rules(service: str) -> ServicePolicy:
        return ServicePolicy(deny_models=frozenset(MODELS[::2])) if service == "a" else ServicePolicy()

    every = opportunities(rows, REGISTRY, rules, at=AT)
    assert opportunities(reversed(rows), REGISTRY, rules, at=AT, most=most) == every[:most]
    assert [-one.saving_usd for one in every] == sorted(-one.saving_usd for one in every)
    assert all(0 < one.saving_usd <= one.cost_usd for one in every)
    assert not [one for one in every if one.service == "a" and one.suggested_model_id in MODELS[::2]]


@given(st.sampled_from(MODELS), _USAGE, st.sampled_from((0, 128_000, 200_000)), st.dates(date(2026, 9, 1)))
def test_a_baseline_costs_what_its_cheapest_region_does(model: str, usage: Usage, above: int, day: date) -> None:
    baseline = baseline_of(REGISTRY, model)
    assert baseline is not None
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    cost = baseline.cost_usd(
        Spend(start, "a", model, reused=False, prompt_above_tokens=above, requests=1, usage=usage, cost_usd=Decimal(0))
    )
    has_price = any(period.effective_from <= day for period in baseline.profile.prices)
    assert cost == (
        min(
            cost_at(rates_for(baseline.profile, day=day, prompt_tokens=above + 1, region=region), usage).total_usd
            for region in baseline.regions
        )
        if has_price
        else None
    )
