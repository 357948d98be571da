from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.training.term_fit import count_terms, directions, fit_terms
from shared.learning.term_projection import TermProjection, term_keys

PIECES = 12
TOPIC_A, TOPIC_B, RARE, UNUSED = (1, 2, 3), (5, 6, 7), 9, 11


def prompts(count=200, seed=1):
    """Half of the prompts speak of one topic, half of another; a rare piece stands in three of them."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(TOPIC_A if number % 2 == 0 else TOPIC_B, 8).astype(np.int64) for number in range(count)]
    return [np.append(row, RARE) if number < 3 else row for number, row in enumerate(rows)]


@pytest.fixture(scope="module")
def counted():
    return count_terms(prompts(), PIECES)


@pytest.fixture(scope="module")
def terms(counted):
    return fit_terms(counted, np.ones(200, np.bool_))


def test_prompts_of_a_topic_point_the_same_way(terms):
    one, other, apart = (terms.direction(np.array(rows)) for rows in ((1, 2, 3, 1), (3, 1, 1, 2), (5, 6, 6, 7)))
    assert one @ other > 0.7
    assert abs(one @ apart) < 0.2


def test_training_and_requests_read_alike(terms, counted):
    alone = np.stack([terms.direction(rows) for rows in prompts()])
    np.testing.assert_allclose(directions(terms, counted), alone, atol=1e-5)


def test_rare_terms_are_not_kept(terms):
    assert RARE not in terms.keys
    assert not terms.direction(np.array([RARE])).any()


def test_what_was_left_out_leaves_no_trace(counted):
    even = np.arange(200) % 2 == 0
    terms = fit_terms(counted, even)
    assert set(TOPIC_B).isdisjoint(terms.keys.tolist())
    assert not directions(terms, counted)[~even][3:].any()


@pytest.mark.parametrize("rows", [[], [UNUSED], [UNUSED, RARE]])
def test_a_text_without_known_terms_points_nowhere(terms, rows):
    assert not terms.direction(np.array(rows, np.int64)).any()


@given(st.lists(st.integers(0, PIECES - 1), min_size=1, max_size=30))
def test_no_two_terms_share_a_key(rows):
    keys = term_keys(np.array(rows, np.int64), PIECES)
    pairs = {(key // PIECES - 1, key % PIECES) if key >= PIECES else key for key in keys.tolist()}
    assert pairs == set(rows) | set(pairwise(rows))


def test_scale_and_frequency_weigh_a_term():
    terms = TermProjection(np.array([1, 2]), np.eye(2, dtype=np.int8), np.array([1.0, 2.0], np.float32), pieces=PIECES)
    np.testing.assert_allclose(terms.direction(np.array([1, 2])), np.array([1, 2]) / 5**0.5, rtol=1e-6)
    heavier = terms.direction(np.array([1, 1, 1, 2]))
    np.testing.assert_allclose(heavier[0] / heavier[1], (1 + np.log(3)) / 2, rtol=1e-6)
