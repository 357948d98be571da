"""Projected spend: what is certain stays so, little data says little, and intervals hold what they promise."""

import math
import random
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.projection import LEAST_DAYS, MOST_DAYS, project

END = datetime(2026, 12, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
TODAY = NOW.date()


def history(days, cost=lambda _: 10.0):
    return [(day, cost(day)) for day in (TODAY - timedelta(days=number) for number in range(days, 0, -1))]


def spend_of_a_month(rng, days, *, drift, noise, weekend):
    """Days of the past, what was spent in the month until now, and what will have been at its end."""
    level, daily, spent, rest = 100.0, [], 0.0, 0.0
    day = TODAY - timedelta(days=days)
    while day < END.date():
        level *= math.exp(rng.gauss(0, drift))
        cost = level * (weekend if day.weekday() > 4 else 1.2) * rng.lognormvariate(-noise * noise / 2, noise)
        if day < TODAY:
            daily.append((day, cost))
        until_now = 1.0 if day < TODAY else 0.5 if day == TODAY else 0.0
        spent += cost * until_now * (day >= date(2026, 11, 1))
        rest += cost * (1 - until_now)
        day += timedelta(days=1)
    return daily, spent, spent + rest


@pytest.mark.parametrize(
    ("days", "drift", "least", "widest"),
    [(56, 0.0, 0.93, 0.25), (28, 0.0, 0.93, 0.35), (28, 0.03, 0.90, 0.45), (14, 0.03, 0.93, 0.7), (8, 0.03, 0.95, 2.0)],
)
def test_the_month_ends_within_the_interval_about_as_often_as_it_says(days, drift, least, widest):
    rng, held, width, error = random.Random(11), 0, 0.0, 0.0
    runs = 200
    for _ in range(runs):
        daily, spent, truth = spend_of_a_month(rng, days, drift=drift, noise=0.15, weekend=0.4)
        found = project(daily, spent_usd=spent, now=NOW, end=END)
        held += found.interval.low <= truth <= found.interval.high
        width += (found.interval.high - found.interval.low) / truth / runs
        error += (found.expected_usd / truth - 1) / runs
    assert least <= held / runs <= 1
    # An interval that holds everything because it is endless would be no help.
    assert width <= widest
    assert abs(error) < 0.06


def test_weekends_are_told_from_working_days():
    daily = history(28, lambda day: 2.0 if day.weekday() > 4 else 10.0)
    found = project(daily, spent_usd=60.0, now=NOW, end=END)
    days = [TODAY + timedelta(days=number) for number in range((END.date() - TODAY).days)]
    truth = 60.0 + sum((2.0 if day.weekday() > 4 else 10.0) * (0.5 if day == TODAY else 1) for day in days)
    assert found.knows_weekdays
    assert found.expected_usd == pytest.approx(truth, rel=0.03)
    assert found.interval.low <= truth <= found.interval.high


def test_little_is_said_of_little():
    nothing = project([], spent_usd=3.0, now=NOW, end=END)
    assert (nothing.expected_usd, nothing.interval, nothing.days_seen) == (None, None, 0)
    assert nothing.chance_word(2.0) == "exceeded"
    assert nothing.chance_word(4.0) == "unknown"
    few = project(history(LEAST_DAYS - 1), spent_usd=70.0, now=NOW, end=END)
    assert few.expected_usd == pytest.approx(70 + 10 * 20.5)
    assert few.interval is None
    assert not few.knows_weekdays


def test_an_even_spend_is_certain_and_says_when_a_limit_is_passed():
    found = project(history(30), spent_usd=95.0, now=NOW, end=END)
    assert found.expected_usd == pytest.approx(300.0)
    assert found.interval.high - found.interval.low < 1e-6
    assert found.passes_on(100.5) == date(2026, 11, 11)
    assert found.passes_on(301.0) is None
    assert [found.chance_word(limit) for limit in (94.0, 299.0, 301.0)] == ["exceeded", "likely", "unlikely"]
    noisy = project(history(30, lambda day: 5.0 + day.day % 11), spent_usd=95.0, now=NOW, end=END)
    assert noisy.chance_word(noisy.expected_usd) == "possible"


def test_a_period_that_is_over_is_known():
    found = project(history(30), spent_usd=300.0, now=END, end=END)
    assert (found.expected_usd, found.interval.low, found.interval.high) == (300.0, 300.0, 300.0)


def test_a_job_on_one_quiet_day_does_not_look_like_a_flood():
    daily = history(56, lambda day: 0.0 if day.weekday() > 4 else 10.0)
    usual = project(daily, spent_usd=60.0, now=NOW, end=END).expected_usd
    with_job = [(day, 10.0 if day == date(2026, 11, 8) else cost) for day, cost in daily]
    assert project(with_job, spent_usd=70.0, now=NOW, end=END).expected_usd < usual + 10 + 35


@given(
    st.lists(st.tuples(st.integers(0, 90), st.floats(0, 1e6)), max_size=70),
    st.floats(0, 1e6),
    st.integers(0, 20 * 24 * 60),
)
def test_what_is_spent_is_never_taken_back(costs, spent, minutes_left):
    now = END - timedelta(minutes=minutes_left)
    daily = [(now.date() - timedelta(days=ago), cost) for ago, cost in costs]
    found = project(daily, spent_usd=spent, now=now, end=END)
    assert found.days_seen <= MOST_DAYS
    if found.expected_usd is not None:
        assert found.expected_usd >= spent
    if found.interval is not None:
        assert spent <= found.interval.low <= found.expected_usd * (1 + 1e-9) + 1e-9
        assert found.expected_usd <= found.interval.high * (1 + 1e-9) + 1e-9
    shown = [one.expected_usd for one in found.path]
    assert shown == sorted(shown)
