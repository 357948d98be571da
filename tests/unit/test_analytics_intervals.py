"""Intervals: published values, and that they hold what they promise on data whose truth is known."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.intervals import LEAST_PERIODS, ratio_interval, student_t, wilson


@pytest.mark.parametrize(
    ("total", "count", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_as_published(total, count, low, high):
    found = wilson(total, count)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_wilson_holds_the_mean_and_stays_within_the_scale(ratings):
    found, mean = wilson(sum(ratings), len(ratings)), sum(ratings) / len(ratings)
    assert 0 <= found.low <= mean + 1e-9
    assert mean - 1e-9 <= found.high <= 1


def test_nothing_rated_has_no_interval():
    assert wilson(0.0, 0) is None


@pytest.mark.parametrize(("freedom", "quantile"), [(7, 2.3646), (10, 2.2281), (30, 2.0423), (1000, 1.9623)])
def test_student_t_is_as_tabled(freedom, quantile):
    assert student_t(0.975, freedom) == pytest.approx(quantile, rel=1e-3)


def test_a_ratio_of_few_periods_has_no_interval():
    assert ratio_interval([(1.0, 2.0)] * (LEAST_PERIODS - 1)) is None
    assert ratio_interval([(1.0, 2.0)] * (LEAST_PERIODS - 1) + [(0.0, 0.0)] * 9) is None
    sure = ratio_interval([(1.0, 2.0)] * LEAST_PERIODS)
    assert (sure.low, sure.high) == (0.5, 0.5)


def test_a_ratio_lies_in_its_interval_as_often_as_it_says():
    rng = random.Random(7)
    held = 0
    for _ in range(2_000):
        sizes = [rng.lognormvariate(0, 0.5) for _ in range(20)]
        pairs = [(size * (0.7 + rng.gauss(0, 0.1)), size) for size in sizes]
        found = ratio_interval(pairs)
        held += found.low <= 0.7 <= found.high
    assert 0.92 <= held / 2_000 <= 0.97
