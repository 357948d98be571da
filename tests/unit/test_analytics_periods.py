"""Buckets as people count time: zones, days of 23 and 25 hours, and zones that no rollup can serve."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.periods import edges_of, hour_after, hour_before, previous_period, usual_granularity
from shared.domain.analytics import AnalyticsQuery, Granularity

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
START = datetime(2026, 10, 23, 22, tzinfo=UTC)  # midnight in Berlin


def test_days_are_those_of_the_zone_also_when_clocks_change():
    edges = edges_of(START, START + timedelta(hours=97), Granularity.DAY, BERLIN)
    assert [edge.astimezone(BERLIN).strftime("%d %H") for edge in edges] == [
        "24 00",
        "25 00",
        "26 00",
        "27 00",
        "28 00",
    ]
    assert [(b - a) / timedelta(hours=1) for a, b in itertools.pairwise(edges)] == [24, 25, 24, 24]


def test_the_first_and_the_last_day_may_be_cut():
    edges = edges_of(START + timedelta(hours=5), START + timedelta(hours=30), Granularity.DAY, BERLIN)
    assert edges == (START + timedelta(hours=5), START + timedelta(hours=24), START + timedelta(hours=30))


def test_hours_are_utc_hours_in_every_zone():
    edges = edges_of(START, START + timedelta(hours=3), Granularity.HOUR, ZoneInfo("Asia/Kolkata"))
    assert edges == tuple(START + timedelta(hours=hour) for hour in range(4))


def test_days_that_begin_within_an_hour_are_refused():
    with pytest.raises(ValueError, match="Asia/Kolkata"):
        edges_of(START, START + timedelta(days=3), Granularity.DAY, ZoneInfo("Asia/Kolkata"))


def test_a_day_whose_midnight_is_skipped_begins_when_the_clocks_go_on():
    beirut = ZoneInfo("Asia/Beirut")  # 2026-03-29: 00:00 becomes 01:00
    since = datetime(2026, 3, 28, 10, tzinfo=UTC)
    edges = edges_of(since, since + timedelta(days=1), Granularity.DAY, beirut)
    assert edges[1].astimezone(beirut).isoformat() == "2026-03-29T01:00:00+03:00"


def test_an_empty_span_has_no_edges():
    with pytest.raises(ValueError, match="empty"):
        edges_of(START, START, Granularity.HOUR, BERLIN)


def test_three_days_are_shown_by_hour_and_more_by_day():
    assert usual_granularity(START, START + timedelta(days=3)) is Granularity.HOUR
    assert usual_granularity(START, START + timedelta(days=3, hours=1)) is Granularity.DAY


def test_the_week_before_is_a_week_on_the_wall():
    until = datetime(2026, 10, 30, 23, tzinfo=UTC)  # midnight in Berlin, now an hour later by UTC
    since = datetime(2026, 10, 23, 22, tzinfo=UTC)
    before = previous_period(since, until, BERLIN)
    assert [edge.astimezone(BERLIN).strftime("%m-%d %H") for edge in before] == ["10-17 00", "10-24 00"]


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.timezones()))
def test_hours_around_an_instant_hold_it(instant):
    before, after = hour_before(instant), hour_after(instant)
    assert before <= instant.astimezone(UTC) <= after
    assert after - before in (timedelta(0), timedelta(hours=1))


@given(st.integers(0, 24 * 400), st.integers(1, 24 * 60), st.sampled_from(("America/New_York", "Asia/Tokyo", "UTC")))
def test_edges_part_the_span(offset, length, zone):
    since = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=offset)
    until = since + timedelta(hours=length)
    edges = edges_of(since, until, Granularity.DAY, ZoneInfo(zone))
    assert (edges[0], edges[-1]) == (since, until)
    assert all(timedelta(0) < b - a <= timedelta(hours=25) for a, b in itertools.pairwise(edges))


def test_whole_utc_days_are_read_from_days():
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    whole = AnalyticsQuery("t", (midnight, midnight + timedelta(days=3)))
    assert whole.granularity is Granularity.DAY
    assert AnalyticsQuery("t", (midnight, midnight + timedelta(hours=23))).granularity is Granularity.HOUR
