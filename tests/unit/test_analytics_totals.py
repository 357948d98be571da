"""Sums of aggregates, coarse spans, key figures, and what is unusual: small things that pages are made of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.anomalies import LEAST_USUAL, deviation
from shared.analytics.cards import change_of, compared_spans
from shared.analytics.sketches import compact, quantiles, sketch_of
from shared.analytics.totals import add_up, coarse_spans, parts_of
from shared.domain.analytics import Aggregate, AnalyticsQuery, Freshness, Granularity
from shared.domain.replies import Usage

DAY = datetime(2026, 11, 5, tzinfo=UTC)
HOURS = st.integers(0, 24 * 40).map(lambda hours: DAY + timedelta(hours=hours))


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(1, 1e5), st.sampled_from(("a", "b"))), max_size=8))
def test_a_sum_is_what_its_parts_are(parts):
    rows = [
        Aggregate(
            DAY + timedelta(hours=number), count=count, error_codes={code: count}, cost_usd=Decimal(count) / 7,
            usage=Usage(input_tokens=count, thinking_tokens=1), latency=sketch_of([ms] * count), rating_squares=ms,
        )
        for number, (count, ms, code) in enumerate(parts)
    ]  # fmt: skip
    whole = add_up(rows, start=DAY, group=("g",))
    assert (whole.start, whole.group, whole.count) == (DAY, ("g",), sum(count for count, _, _ in parts))
    assert whole.errors == whole.count == whole.usage.input_tokens
    assert whole.usage.thinking_tokens == len(parts)
    assert whole.cost_usd == sum((row.cost_usd for row in rows), Decimal(0))
    assert whole.rating_squares == pytest.approx(sum(ms for _, ms, _ in parts))
    assert compact(whole.latency) == sketch_of([ms for count, ms, _ in parts for _ in range(count)])


def test_a_sum_of_nothing_is_nothing():
    assert replace(add_up([], start=DAY), error_codes={}) == Aggregate(DAY)
    assert quantiles(add_up([], start=DAY).latency, (0.5,)) == (None,)


@given(HOURS, HOURS)
def test_coarse_spans_cover_a_span_once_with_as_many_days_as_it_has(one, other):
    since, until = sorted((one, other + timedelta(hours=1)))
    if since == until:
        return
    found = coarse_spans(since, until)
    assert (found[0][0], found[-1][1]) == (since, until)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    grains = [AnalyticsQuery("t", edges).granularity for edges in found]
    # Hours before the first midnight and after the last one, never more.
    for edges, grain in zip(found, grains, strict=True):
        assert grain is Granularity.DAY or edges[1] - edges[0] < timedelta(days=2)
    assert grains.count(Granularity.DAY) <= 1
    if until - since >= timedelta(days=2):
        assert Granularity.DAY in grains


@given(st.lists(HOURS, min_size=2, max_size=9, unique=True).map(sorted))
def test_parts_cover_all_buckets_once_and_days_lie_within_one(edges):
    found = parts_of(edges)
    assert (found[0][1], found[-1][2]) == (edges[0], edges[-1])
    assert all(before[2] == after[1] for before, after in pairwise(found))
    assert all(before[0] is not after[0] for before, after in pairwise(found))
    for grain, since, until in found:
        if grain is Granularity.DAY:
            assert since.hour == until.hour == 0
            assert not [edge for edge in edges if since < edge < until and edge.hour]


def test_parts_are_the_coarsest_unless_they_are_too_many():
    later = [DAY + timedelta(days=number) for number in range(40)]
    hour = timedelta(hours=1)
    assert parts_of(later) == [(Granularity.DAY, DAY, later[-1])]
    assert parts_of([DAY, DAY + hour, DAY + 2 * hour]) == [(Granularity.HOUR, DAY, DAY + 2 * hour)]
    assert [grain for grain, _, _ in parts_of([DAY + hour, *later[1:], later[-1] + hour])] == [
        Granularity.HOUR, Granularity.DAY, Granularity.HOUR,
    ]  # fmt: skip
    # Days of Berlin hold no whole UTC day; weeks of it do, but each would be three questions.
    assert parts_of([day - hour for day in later]) == [(Granularity.HOUR, DAY - hour, later[-1] - hour)]
    weeks = [day - hour for day in later[::7]]
    assert parts_of(weeks) == [(Granularity.HOUR, weeks[0], weeks[-1])]


def test_only_complete_hours_are_compared():
    until = DAY + timedelta(days=1)
    before = DAY - timedelta(days=1)
    hours = timedelta(hours=5)
    running = compared_spans(DAY, until, before, DAY + timedelta(hours=5, minutes=59))
    assert running == ((DAY, DAY + hours), (before, before + hours))
    assert compared_spans(DAY, until, before, until + hours) == ((DAY, until), (before, DAY))
    assert compared_spans(DAY, until, before, DAY + timedelta(minutes=59)) is None
    assert compared_spans(DAY, until, before, DAY - hours) is None


def test_a_change_needs_something_to_change_from():
    assert change_of(3.0, 2.0) == 0.5
    assert change_of(3.0, 0.0) is change_of(None, 2.0) is change_of(3.0, None) is None


def test_what_is_unusual_is_measured_by_what_is_usual():
    calm = [10.0, 11.0, 9.0, 10.0, 12.0, 8.0]
    found = deviation(20.0, calm)
    assert found.usual == 10.0
    assert found.score == pytest.approx(10 / 1.4826)
    # One wild day does not make the next one usual.
    assert deviation(20.0, [*calm, 500.0]).score > 5
    assert deviation(10.4, [10.0] * 6).score == pytest.approx(0.8)
    assert deviation(1.0, [0.0] * 6) is None
    assert deviation(1.0, calm[: LEAST_USUAL - 1]) is None


def test_figures_end_with_the_last_whole_minute_that_is_complete():
    now = DAY + timedelta(hours=1, seconds=30)
    assert Freshness(now, 0).complete_until(now) == DAY + timedelta(hours=1)
    # The database's clock may be ahead.
    assert Freshness(now + timedelta(hours=1), 0).complete_until(now) == DAY + timedelta(hours=1)
    behind = Freshness(now - timedelta(minutes=6), 4)
    assert behind.complete_until(now) == DAY + timedelta(minutes=54)
    assert (behind.is_stale(now), Freshness(now, 0).is_stale(now)) == (True, False)
