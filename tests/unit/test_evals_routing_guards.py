import numpy as np
import pytest

from tests.evals import routing_guards as guards
from tests.evals.routing_metrics import Outcome
from tests.evals.routing_protocols import Guard, Predicted, Tried, routed
from tests.unit.learning_builders import made_up_corpus


def kept(ratio, low=None, high=None):
    return guards.Kept(ratio, ratio - 0.02 if low is None else low, ratio + 0.02 if high is None else high)


def result(saving, *ratios):
    outcome = Outcome(quality=0.7, retention=0.99, saving=saving, hit_rate=0.8, utility_share=0.3)
    return guards.GuardResult(Guard(1.0, 0.8), {"mixed4": outcome}, [kept(ratio) for ratio in ratios], [0.1])


def test_the_interval_holds_the_ratio_and_narrows_with_prompts():
    rng = np.random.default_rng(1)
    widths = []
    for count in (100, 10_000):
        incumbent = (rng.random(count) < 0.8).astype(float)
        chosen = np.where(rng.random(count) < 0.1, 0.0, incumbent)
        found = guards.kept_of(chosen, incumbent)
        assert found.low <= found.ratio <= found.high
        assert found.ratio == pytest.approx(chosen.mean() / incumbent.mean())
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 5


def test_a_choice_that_never_leaves_the_incumbent_keeps_all_of_it():
    scores = (np.arange(50) % 3 > 0).astype(float)
    assert guards.kept_of(scores, scores) == guards.Kept(1.0, 1.0, 1.0)


def test_a_miss_is_only_sure_when_the_whole_interval_is_below():
    assert kept(0.98).verdict == ""
    assert kept(0.96).verdict == "below, within noise"
    assert kept(0.90).verdict == "MISSED"


def test_the_summary_counts_each_case_once():
    said = guards.summary([kept(1.0), kept(0.98), kept(0.96), kept(0.9)])
    assert "on 2 of 4 (on 1 the whole" in said
    assert "1 below within noise, 1 surely below; worst 0.900" in said


def test_a_guard_is_chosen_by_the_benchmarks_that_may_be_looked_at():
    results = [result(0.45, 0.9, 0.99, 0.90), result(0.42, 0.99, 0.99, 0.90), result(0.41, 0.9, 0.9, 0.99)]
    assert guards.chosen_without(results, (0, 1)) == 1
    assert guards.chosen_without(results, (2,)) == 2


def test_a_guard_that_saves_too_little_is_not_chosen():
    results = [result(0.41, 0.9, 0.9), result(0.2, 1.0, 1.0)]
    assert guards.chosen_without(results, (0, 1)) == 0


def test_the_rate_of_a_fold_is_chosen_on_the_others():
    """Routing a fold must not change when the labels of that very fold do."""
    labelled, folds = made_up_corpus().sets[0], made_up_corpus().folds
    rng = np.random.default_rng(2)
    count = len(labelled.tasks)
    guess = Predicted(
        mean=np.clip(labelled.scores.mean(axis=0) + rng.normal(0, 0.1, (count, 3)), 0, 1),
        std=np.full((count, 3), 0.01),
        familiarity=np.ones(count),
        costs=labelled.costs / 5.0,
        reference=np.full(count, 2),
        caution=1.0,
    )
    before = routed(Tried.on(guess, labelled), folds)
    labelled.scores[folds == 0] = 1.0 - labelled.scores[folds == 0]
    after = routed(Tried.on(guess, labelled), folds)
    assert (before[folds == 0] == after[folds == 0]).all()
    assert (before != after).any()
