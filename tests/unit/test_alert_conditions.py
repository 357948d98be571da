"""The kinds of alert rules over hand-made readings, and the buckets that windows are put together from."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.alerting import Evidence, evaluate, instants, windows
from shared.analytics.alerting_series import Reading, Series, reader, spans, value_of
from shared.analytics.alerting_words import figure, span_words
from shared.analytics.sketches import sketch_of
from shared.domain.alert_metrics import Metric
from shared.domain.alerts import Baseline, Comparison, RuleKind, Season
from shared.domain.analytics import Aggregate, AnalyticsQuery, Dimension, Granularity, Subject
from shared.domain.slo import BUILT_IN
from tests.alert_world import NOON, rule

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SLOS = {slo.name: slo for slo in BUILT_IN}


def found(made, buckets, at=NOON, *, as_of=None, group=(), **more):
    """What a rule finds over buckets: (minutes before `at`, minutes long, reading)."""
    series = Series((at - ago * MINUTE, at - (ago - long) * MINUTE, reading) for ago, long, reading in buckets)
    return evaluate(made, Evidence({group: series}, as_of or at, **more), at)


def count(number):
    return Reading(number, number)


def share(top, bottom):
    return Reading(bottom, top, bottom)


@pytest.mark.parametrize(
    ("more", "buckets", "holds", "value"),
    [
        ({}, [(5, 5, share(2, 10))], True, 0.2),
        ({}, [(5, 5, share(1, 10))], False, 0.1),
        ({}, [(5, 4, share(0, 10)), (1, 1, share(3, 10))], True, 0.15),
        ({}, [(6, 1, share(9, 9)), (5, 5, share(0, 10))], False, 0.0),
        ({}, [(5, 5, Reading())], False, None),
        ({"at_least": 11}, [(5, 5, share(9, 10))], False, None),
        ({"comparison": Comparison.BELOW, "threshold": 0.5}, [(5, 5, share(2, 10))], True, 0.2),
        ({"metric": Metric.REQUESTS, "threshold": 9.0}, [(5, 5, count(10))], True, 10.0),
        ({"metric": Metric.REQUESTS, "threshold": 5.0, "comparison": Comparison.BELOW}, [], True, 0.0),
        (
            {"metric": Metric.LATENCY_P95_MS, "threshold": 900.0},
            [(5, 5, Reading(20, sketch=sketch_of([100.0] * 18 + [1000.0] * 2)))],
            True,
            1000.0,
        ),
        (
            {"kind": RuleKind.RATIO, "metric": Metric.CANCELLED, "of_metric": Metric.REQUESTS, "threshold": 0.3},
            [(5, 5, share(4, 10))],
            True,
            0.4,
        ),
    ],
)
def test_thresholds_and_ratios(more, buckets, holds, value):
    (one,) = found(rule(**more), buckets)
    assert one.holds is holds
    assert one.value == (value if value is None else pytest.approx(value, rel=0.01))


@pytest.mark.parametrize(
    ("more", "earlier", "now", "holds", "change"),
    [
        ({}, 10, 16, True, 0.6),
        ({}, 10, 15, False, 0.5),
        ({}, 10, 2, False, -0.8),
        ({"comparison": Comparison.BOTH}, 10, 2, True, -0.8),
        ({"comparison": Comparison.BELOW, "threshold": -0.5}, 10, 2, True, -0.8),
        ({"comparison": Comparison.BELOW, "threshold": -0.5}, 10, 0, True, -1.0),
        ({}, 0, 16, False, None),
        ({"at_least": 20}, 10, 16, False, None),
    ],
)
@pytest.mark.parametrize("baseline", Baseline)
def test_rates_of_change(more, earlier, now, holds, change, baseline):
    made = rule(kind=RuleKind.RATE_OF_CHANGE, metric=Metric.REQUESTS, baseline=baseline, **{"threshold": 0.5} | more)
    ago = 10 if baseline is Baseline.PREVIOUS else 24 * 60 + 5
    (one,) = found(made, [(ago, 5, count(earlier)), (5, 5, count(now))])
    assert one.holds is holds
    assert one.value == (change if change is None else pytest.approx(change))


def anomalous(usual, now, **more):
    whole = {"window_s": 3600, "threshold": 4.0, "comparison": Comparison.BOTH} | more
    made = rule(kind=RuleKind.ANOMALY, metric=Metric.REQUESTS, **whole)
    step = 24 * 60 if made.season is Season.DAY else 7 * 24 * 60
    past = [(60 + number * step, 60, count(value)) for number, value in enumerate(usual, start=1) if value is not None]
    (one,) = found(made, [*past, (60, 60, count(now))])
    return one


@pytest.mark.parametrize("season", Season)
@pytest.mark.parametrize(
    ("usual", "now", "holds"),
    [
        ([100, 102, 98, 101, 99, 100, 103], 100, False),
        ([100, 102, 98, 101, 99, 100, 103], 130, True),
        ([100, 102, 98, 101, 99, 100, 103], 70, True),
        ([100, 102, 98, 101, 99, 100, 9_000], 130, True),
        ([100, 100, 100, 100, 100, 100, 100], 101, False),
        ([100, 100, 100, 100], 900, False),
        ([0, 0, 0, 0, 0, 0, 0], 5, False),
        ([100, None, 98, 101, 99, 100, 103], 100, False),
    ],
)
def test_anomalies_stand_out_from_the_same_hour_of_earlier_days(season, usual, now, holds):
    assert anomalous(usual, now, season=season).holds is holds


def test_an_anomaly_has_the_side_that_is_asked_for():
    usual = [100, 102, 98, 101, 99, 100, 103]
    assert [anomalous(usual, now, comparison=Comparison.ABOVE).holds for now in (130, 70)] == [True, False]
    assert [anomalous(usual, now, comparison=Comparison.BELOW).holds for now in (130, 70)] == [False, True]


def burning(five_minutes, hour, three_days, name="availability"):
    """Bad shares in each part; what is asked for is the burn rates of the whole windows."""
    made = rule(kind=RuleKind.SLO_BURN_RATE, metric=Metric.REQUESTS, slo=name)
    parts = [(5, 5, five_minutes), (60, 55, hour), (72 * 60, 71 * 60, three_days)]
    buckets = [(ago, long, share(round(bad * 100_000), 100_000)) for ago, long, bad in parts]
    return {dict(one.group)["burn"]: one for one in found(made, buckets, slo=SLOS[name])}


def test_a_fast_burn_needs_both_its_windows():
    assert burning(0.02, 0.02, 0.0)["fast"].holds
    assert not burning(0.0, 0.02, 0.0)["fast"].holds
    assert not burning(0.02, 0.0, 0.0)["fast"].value >= 14.4
    both = burning(0.02, 0.02, 0.002)
    assert (both["fast"].holds, both["slow"].holds) == (True, True)
    assert (both["fast"].severity, both["fast"].threshold) == (None, pytest.approx(14.4))


@pytest.mark.parametrize(
    ("spent_a_day", "limit", "holds"), [(10.0, 250.0, True), (10.0, 400.0, False), (0.0, 400.0, None)]
)
def test_a_budget_is_held_against_what_the_month_will_have_cost(spent_a_day, limit, holds):
    made = rule(kind=RuleKind.BUDGET_PROJECTION, metric=Metric.REQUESTS, threshold=1.0)
    at = datetime(2026, 11, 15, tzinfo=UTC)
    days = [(n * 24 * 60, 24 * 60, Reading(1, spent_a_day)) for n in range(1, 30) if spent_a_day]
    (one,) = found(made, days, at, group=(("budget", "b"),), limits_usd={(("budget", "b"),): limit})
    assert one.holds is holds
    if holds is not None:
        assert one.value == pytest.approx(300 / limit, rel=0.02)


def test_rollups_that_do_not_reach_the_window_say_nothing():
    assert found(rule(), [(5, 5, share(9, 10))], as_of=NOON - MINUTE) == []


def test_the_age_of_rollups_is_a_metric():
    made = rule(metric=Metric.ROLLUP_AGE_S, threshold=600.0)
    assert [found(made, [], as_of=NOON - n * MINUTE)[0].holds for n in (0, 10, 11)] == [False, False, True]


@pytest.mark.parametrize(
    ("ago", "as_of", "holds"),
    [(3, 0, False), (8, 0, True), (8, 2, None), (8, 5, True), (3, 5, True)],
)
def test_missing_data_knows_what_it_does_not_know(ago, as_of, holds):
    made = rule(kind=RuleKind.MISSING_DATA, metric=Metric.REQUESTS)
    (one,) = found(made, [(ago, 1, count(1))], as_of=NOON - as_of * MINUTE)
    assert one.holds is holds


@pytest.mark.parametrize("metric", [one for one in Metric if one is not Metric.ROLLUP_AGE_S])
def test_every_metric_is_read_from_a_row(metric):
    row = Aggregate(
        NOON,
        count=10,
        succeeded=8,
        error_codes={"x": 2},
        hits=1,
        duration_ms=800.0,
        latency=sketch_of([100.0]),
        ttft=sketch_of([10.0]),
        overhead=sketch_of([1.0]),
        ratings=2,
        rating_sum=1.0,
        generated_tokens=100,
        generation_ms=1000.0,
    )
    made = rule(metric=metric, subject=Subject.ATTEMPTS if metric is Metric.TOKENS_PER_S else Subject.REQUESTS)
    assert value_of(made, reader(made)(row)) is not None
    assert value_of(made, reader(made)(Aggregate(NOON))) == (0 if metric.is_count else None)


# --- windows and buckets

KINDS = st.sampled_from(
    [
        {},
        {"window_s": 86_400},
        {"window_s": 7 * 86_400},
        {"kind": RuleKind.RATE_OF_CHANGE},
        {"kind": RuleKind.RATE_OF_CHANGE, "window_s": 46_800},
        {"kind": RuleKind.RATE_OF_CHANGE, "window_s": 79_200, "baseline": Baseline.DAY},
        {"kind": RuleKind.MISSING_DATA, "metric": Metric.REQUESTS, "group_by": (Dimension.MODEL,)},
        {"kind": RuleKind.SLO_BURN_RATE, "metric": Metric.REQUESTS, "slo": "availability"},
        {"kind": RuleKind.ANOMALY, "window_s": 3600, "season": Season.WEEK},
        {"kind": RuleKind.BUDGET_PROJECTION, "metric": Metric.REQUESTS},
    ]
)


@given(KINDS, st.integers(0, 3 * 24 * 60), st.integers(1, 20))
def test_buckets_make_up_every_window_exactly(more, minute, steps):
    made, start = rule(**more), NOON + minute * MINUTE
    asked = [window for step in range(steps) for window in windows(made, start + step * MINUTE)]
    buckets = [bucket for run in spans(asked) for bucket in pairwise(run)]
    assert len(set(buckets)) == len(buckets)
    for since, until in asked:
        inside = sorted(bucket for bucket in buckets if bucket[0] < until and bucket[1] > since)
        edges = [since, *(end for _, end in inside)]
        assert [begin for begin, _ in inside] == edges[:-1]
        assert edges[-1] == until or since >= until


@given(KINDS, st.integers(0, 3 * 24 * 60))
def test_minutes_are_asked_for_only_where_there_are_some(more, minute):
    made, at = rule(**more), NOON + minute * MINUTE
    for run in spans(windows(made, at)):
        if AnalyticsQuery("t", run).granularity is Granularity.MINUTE:
            # An hour is left for steps that are made up for.
            assert at - run[0] <= 47 * HOUR
    hour = at.replace(minute=0)
    for run in spans(windows(made, hour, is_hourly=True)):
        assert AnalyticsQuery("t", run).granularity is not Granularity.MINUTE


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), max_size=8))
def test_spans_cover_what_is_asked_for_and_nothing_else(pairs):
    asked = [(NOON + since * MINUTE, NOON + (since + long) * MINUTE) for since, long in pairs]
    covered = sum((run[-1] - run[0] for run in spans(asked)), timedelta())
    minutes = {since + n for since, long in pairs for n in range(long)}
    assert covered == len(minutes) * MINUTE


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(1, 60))
def test_instants_are_the_newest_ones_of_the_span(first, length, most):
    after, until = NOON + first * MINUTE, NOON + (first + length) * MINUTE
    got = list(instants(rule(), after, until, most=most))
    assert got == [after + n * MINUTE for n in range(1, length + 1)][-most:]


def test_slow_rules_are_looked_at_every_five_minutes():
    made = rule(kind=RuleKind.ANOMALY, window_s=3600)
    got = instants(made, NOON, NOON + 17 * MINUTE, most=9)
    assert [(at - NOON) / MINUTE for at in got] == [5, 10, 15]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.125, "share", "12.5%"),
        (3.2, "usd", "$3.20"),
        (0.00412, "usd", "$0.00412"),
        (1234.5, "usd", "$1,234.50"),
        (840.0, "ms", "840 ms"),
        (12.0, "", "12"),
        (31.5, "tokens_per_s", "31.5 tokens/s"),
    ],
)
def test_figures_read_as_people_write_them(value, unit, text):
    assert figure(value, unit) == text


@pytest.mark.parametrize(("seconds", "text"), [(30, "30 s"), (300, "5 min"), (5400, "1.5 h"), (259_200, "3 d")])
def test_spans_have_their_largest_unit(seconds, text):
    assert span_words(seconds) == text
