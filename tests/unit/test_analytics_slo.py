"""Error budgets and burn rates against what the requests themselves say, one by one."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.sketches import RELATIVE_ERROR, count_up_to, sketch_of
from shared.analytics.slo import (
    BURN_WINDOWS,
    SPANS,
    Tally,
    burn_rate,
    burning,
    error_budget,
    tally,
    tally_all,
    value_of,
)
from shared.domain.analytics import Aggregate
from shared.domain.slo import BUILT_IN, Indicator

AVAILABILITY, ERROR_RATE, MEAN, P95, OVERHEAD, CAPACITY = BUILT_IN
START = datetime(2026, 11, 5, tzinfo=UTC)
ENDS = ("success", "cancelled", "abandoned", "provider_timeout", "internal_error", "rate_limit_exceeded",
        "context_window_exceeded", "content_blocked")  # fmt: skip
FAULTS = {"abandoned", "provider_timeout", "internal_error"}
# Durations away from the thresholds by more than sketches are wrong.
REQUESTS = st.lists(
    st.tuples(st.sampled_from(ENDS), st.sampled_from((3.0, 400.0, 4_900.0, 5_100.0, 90_000.0)), st.sampled_from((1.0, 14.8, 15.2))),
    max_size=60,
)  # fmt: skip


def aggregate(requests):
    done = [ms for end, ms, _ in requests if end == "success"]
    return Aggregate(
        START,
        count=len(requests),
        succeeded=len(done),
        cancelled=sum(end == "cancelled" for end, _, _ in requests),
        abandoned=sum(end == "abandoned" for end, _, _ in requests),
        error_codes=Counter(end for end, _, _ in requests if end not in {"success", "cancelled", "abandoned"}),
        duration_ms=sum(done),
        latency=sketch_of(done),
        overhead=sketch_of(ms for end, _, ms in requests if end != "abandoned"),
    )


@given(st.lists(REQUESTS, max_size=4))
def test_budgets_and_burn_rates_are_what_counting_requests_gives(parts):
    requests = [request for part in parts for request in part]
    done = [ms for end, ms, _ in requests if end == "success"]
    faults = sum(end in FAULTS for end, _, _ in requests)
    doubts = sum(end == "context_window_exceeded" for end, _, _ in requests)
    ours = [ms for end, _, ms in requests if end != "abandoned"]
    expected = {
        AVAILABILITY: (len(done) + faults, faults, 0.001),
        ERROR_RATE: (len(done) + faults + doubts, faults + doubts, 0.01),
        MEAN: (len(done), sum(done), 2_000.0),
        P95: (len(done), sum(ms > 5_000 for ms in done), 0.05),
        OVERHEAD: (len(ours), sum(ms > 15 for ms in ours), 0.01),
    }
    for slo, (valid, bad, allowed_each) in expected.items():
        found = tally_all(slo, [aggregate(part) for part in parts])
        assert (found.valid, found.bad) == (valid, pytest.approx(bad))
        if not valid:
            assert value_of(slo, found) is burn_rate(slo, found) is error_budget(slo, found) is None
            continue
        rate, budget = burn_rate(slo, found), error_budget(slo, found)
        assert rate == pytest.approx(bad / (allowed_each * valid))
        assert (budget.total, budget.spent) == (pytest.approx(allowed_each * valid), pytest.approx(bad))
        assert budget.left_share == pytest.approx(1 - rate)
        # The objective is met exactly as long as some of the budget is left.
        value = value_of(slo, found)
        meets = value <= slo.objective if slo is MEAN else value >= slo.objective
        assert meets == (budget.left_share >= 0) or abs(budget.left_share) < 1e-9


@given(st.lists(st.floats(0.1, 1e6), max_size=50), st.floats(0.1, 1e6))
def test_values_up_to_one_are_counted_but_for_those_beside_it(values, bound):
    certain = sum(value <= bound * (1 - 2 * RELATIVE_ERROR) for value in values)
    possible = sum(value <= bound * (1 + 2 * RELATIVE_ERROR) for value in values)
    assert certain <= count_up_to(sketch_of(values), bound) <= possible


def test_the_factors_are_those_of_the_workbook_for_thirty_days():
    assert [round(row.factor(AVAILABILITY.window), 9) for row in BURN_WINDOWS] == [14.4, 6.0, 1.0]
    # Burning at the factor for as long as the long window spends the share that the table names.
    for row in BURN_WINDOWS:
        assert row.factor(AVAILABILITY.window) * row.long / AVAILABILITY.window == pytest.approx(row.budget_share)
    assert [span / timedelta(minutes=1) for span in SPANS] == [5, 30, 60, 360, 4320]


@given(st.fixed_dictionaries({span: st.none() | st.floats(0, 50) for span in SPANS}))
def test_both_windows_must_burn(rates):
    found = burning(AVAILABILITY, rates)
    for row in BURN_WINDOWS:
        factor = row.factor(AVAILABILITY.window)
        assert (row in found) == all((rates[span] or 0) >= factor for span in (row.long, row.short))
    assert burning(MEAN, rates) == burning(CAPACITY, rates) == ()


def test_an_outage_that_is_over_burns_no_more_by_its_short_window():
    rates = dict.fromkeys(SPANS, 100.0)
    assert len(burning(AVAILABILITY, rates)) == 3
    assert [row.long for row in burning(AVAILABILITY, rates | {timedelta(minutes=5): 0.0})] == [
        timedelta(hours=6),
        timedelta(days=3),
    ]
    assert burning(AVAILABILITY, {}) == ()


def test_a_capacity_has_no_events():
    with pytest.raises(ValueError, match="capacity"):
        tally(CAPACITY, Aggregate(START))
    assert CAPACITY.indicator is Indicator.CAPACITY
    assert burn_rate(AVAILABILITY, Tally()) is None
