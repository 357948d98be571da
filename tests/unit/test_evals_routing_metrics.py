import numpy as np
import pytest

from tests.evals import routing_metrics as metrics

SCORES = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
COSTS = np.tile([10.0, 1.0], (4, 1))
ALWAYS_BEST, ORACLE = np.array([0, 0, 0, 0]), np.array([1, 0, 1, 1])


def test_the_best_single_model_keeps_all_and_saves_nothing():
    got = metrics.outcome(ALWAYS_BEST, SCORES, COSTS)
    assert (got.retention, got.saving, got.hit_rate) == (1.0, 0.0, 1.0)


def test_the_oracle_takes_the_cheapest_of_the_best():
    assert metrics.oracle(SCORES, COSTS).tolist() == ORACLE.tolist()
    got = metrics.outcome(ORACLE, SCORES, COSTS)
    assert got.retention == 1.0
    assert got.saving == pytest.approx(1 - 13 / 40)
    assert got.utility_share == pytest.approx(1.0)


def test_a_random_choice_is_worth_no_utility_share():
    halves = [metrics.outcome(np.full(4, column), SCORES, COSTS).utility_share for column in (0, 1)]
    assert sum(halves) == pytest.approx(0.0)


def test_the_hull_drops_what_a_mixture_beats():
    points = [(1.0, 0.5), (2.0, 0.55), (3.0, 0.9), (4.0, 0.8)]
    assert metrics.hull(points) == [(1.0, 0.5), (3.0, 0.9)]


def test_aiq_is_the_mean_height_of_the_hull():
    assert metrics.average_improvement_in_quality([(0.0, 0.0), (1.0, 1.0)], 0.0, 1.0) == pytest.approx(0.5)


def test_a_blind_mixture_saves_along_the_line_between_models():
    assert metrics.blind_saving_at(5 / 6, SCORES, COSTS) == pytest.approx(0.45)
    assert metrics.blind_saving_at(1.0, SCORES, COSTS) == pytest.approx(0.0)


def test_saving_needs_a_point_that_keeps_the_quality():
    points = [(1.0, 0.5), (4.0, 0.74), (9.0, 0.75)]
    assert metrics.saving_at(points, 0.98, SCORES, COSTS) == pytest.approx(0.6)
    assert metrics.saving_at(points[:1], 0.98, SCORES, COSTS) is None


def test_a_perfect_preference_recovers_the_gap_at_once():
    rng = np.random.default_rng(0)
    strong, weak = np.array([1.0, 1, 1, 1]), np.array([0.0, 1, 1, 1])
    got = metrics.pair_curve(strong, weak, strong - weak, rng)
    assert (got.apgr, got.cpt50, got.cpt80) == (0.875, 0.25, 0.25)


def test_a_blind_preference_recovers_half():
    rng = np.random.default_rng(0)
    strong, weak = np.ones(20_000), (np.arange(20_000) % 4 > 0).astype(float)
    assert metrics.pair_curve(strong, weak, np.zeros(20_000), rng).apgr == pytest.approx(0.5, abs=0.02)


def test_calibration_error_is_the_distance_from_the_diagonal():
    assert metrics.expected_calibration_error(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == 0.0
    assert metrics.expected_calibration_error(np.array([1.0, 1.0]), np.array([0.7, 1.0])) == pytest.approx(0.15)


def test_the_interval_holds_the_retention():
    rng = np.random.default_rng(0)
    low, high = metrics.retention_interval(ORACLE, SCORES, rng=rng)
    assert low <= 1.0 <= high
