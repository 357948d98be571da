"""Sketches against exact quantiles: the error they promise, and that joining them is adding them up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analytics.sketches import (
    LEAST,
    MOST,
    RELATIVE_ERROR,
    bin_of,
    compact,
    compact_all,
    count_of,
    quantiles,
    sketch_of,
)

VALUES = st.lists(st.floats(LEAST, MOST, exclude_min=True), min_size=1, max_size=200)
LEVELS = st.floats(0, 1)


@given(VALUES, LEVELS)
def test_a_quantile_is_within_one_percent_of_the_value_of_its_rank(values, level):
    exact = sorted(values)[math.floor(level * (len(values) - 1))]
    (estimate,) = quantiles(sketch_of(values), [level])
    assert abs(estimate - exact) <= exact * RELATIVE_ERROR * (1 + 1e-9)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_sketches_end_to_end_are_their_sum(parts):
    joined = b"".join(sketch_of(part) for part in parts)
    whole = sketch_of([value for part in parts for value in part])
    assert compact(joined) == whole
    assert quantiles(joined, [0.5, 0.99]) == quantiles(whole, [0.5, 0.99])
    assert count_of(joined) == count_of(whole) == sum(map(len, parts))


@given(VALUES)
def test_a_compact_sketch_is_compact(values):
    sketch = sketch_of(values)
    assert compact(sketch) == sketch
    assert len(sketch) == 6 * len({bin_of(value) for value in values})


@given(st.lists(st.lists(VALUES, max_size=3), max_size=6))
def test_many_are_made_compact_like_one(many):
    sketches = [b"".join(sketch_of(part) for part in parts) for parts in many]
    assert compact_all(sketches) == [compact(sketch) for sketch in sketches]


@given(st.floats(LEAST, MOST), st.floats(LEAST, MOST))
def test_bins_keep_the_order_of_values(a, b):
    assert (bin_of(a) <= bin_of(b)) or a > b


@pytest.mark.parametrize(("value", "shown"), [(0.0, 0.0), (-3.0, 0.0), (LEAST, 0.0), (1e300, MOST)])
def test_what_is_out_of_range_counts_as_its_end(value, shown):
    (found,) = quantiles(sketch_of([value]), [0.5])
    assert found == pytest.approx(shown, rel=RELATIVE_ERROR)


def test_nothing_has_no_quantiles():
    assert quantiles(b"", [0.5, 1.0]) == (None, None)
    assert count_of(b"") == 0
    assert compact(b"") == b""


@pytest.mark.parametrize("level", [-0.1, 1.1, math.nan])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match="levels"):
        quantiles(b"", [level])


def test_bytes_that_are_no_sketch_are_refused():
    with pytest.raises(ValueError, match="whole pairs"):
        compact(b"12345")


def test_more_than_a_pair_can_count_is_refused():
    full = b"\x00\x01\xff\xff\xff\xff"
    assert count_of(full + full) == 2 * (2**32 - 1)
    with pytest.raises(OverflowError):
        compact(full + full)
