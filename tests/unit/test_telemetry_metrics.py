import math
import statistics
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.metrics import MetricAggregator


@given(st.lists(st.floats(min_value=-1e9, max_value=1e9), min_size=1, max_size=50))
def test_an_aggregate_is_what_statistics_says(values):
    metrics = MetricAggregator()
    for value in values:
        metrics.add("latency_ms", value, {})
    (aggregate,) = metrics.drain()
    assert aggregate.value_count == len(values)
    assert aggregate.total == pytest.approx(math.fsum(values), abs=1e-3)
    assert (aggregate.minimum, aggregate.maximum) == (min(values), max(values))
    assert aggregate.deviation == pytest.approx(statistics.pstdev(values), abs=1e-3)


def test_series_differ_by_dimensions_whatever_their_order():
    metrics = MetricAggregator()
    metrics.add("requests", 1, {"model": "a", "outcome": "ok"})
    metrics.add("requests", 1, {"outcome": "ok", "model": "a"})
    metrics.add("requests", 1, {"model": "b", "outcome": "ok"})
    totals = {one.dimensions["model"]: one.total for one in metrics.drain()}
    assert totals == {"a": 2, "b": 1}


def test_draining_starts_over():
    metrics = MetricAggregator()
    metrics.add("requests", 1, {})
    assert len(metrics.drain()) == 1
    assert metrics.drain() == []


def test_series_beyond_the_bound_are_folded_and_nothing_is_lost():
    metrics = MetricAggregator(max_series=3)
    for index in range(100):
        metrics.add("requests", 1, {"caller": str(index)})
    drained = metrics.drain()
    assert len(drained) == 4
    assert sum(one.total for one in drained) == 100
    assert [one.total for one in drained if one.dimensions == {"overflow": "true"}] == [97]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_left_out(value):
    metrics = MetricAggregator()
    metrics.add("latency_ms", value, {})
    assert metrics.drain() == []


def test_adding_from_threads_while_draining_loses_nothing():
    metrics = MetricAggregator()

    def add():
        for _ in range(2000):
            metrics.add("requests", 1, {})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    total = 0.0
    while any(thread.is_alive() for thread in threads):
        total += sum(one.total for one in metrics.drain())
    for thread in threads:
        thread.join()
    total += sum(one.total for one in metrics.drain())
    assert total == 8000
