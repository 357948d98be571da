import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.scoring.utility import UtilityRule, utilities

MEAN, STD, COST = np.array([0.80, 0.78, 0.60]), np.array([0.1, 0.02, 0.0]), np.array([1.0, 0.1, 0.01])
SHARES = st.floats(0, 1)


def chosen(rule, *, familiarity=1.0, mean=MEAN, std=STD, cost=COST, latency=0.0):
    return int(utilities(mean, std, cost, reference=0, familiarity=familiarity, rule=rule, latency=latency).argmax())


def test_money_of_no_worth_leaves_the_choice_to_quality():
    assert chosen(UtilityRule(quality_per_cost=0.0)) == 0


def test_a_little_quality_is_given_for_much_money():
    assert chosen(UtilityRule(quality_per_cost=0.1)) == 1


def test_doubt_speaks_for_the_reference():
    assert chosen(UtilityRule(quality_per_cost=0.1, caution=20.0)) == 0


def test_the_reference_is_not_doubted():
    doubtful = np.array([0.5, 0.0, 0.0])
    assert chosen(UtilityRule(quality_per_cost=0.0, caution=3.0), std=doubtful) == 0


def test_on_a_strange_prompt_money_does_not_count():
    assert chosen(UtilityRule(quality_per_cost=10.0), familiarity=0.1) == 0
    assert chosen(UtilityRule(quality_per_cost=10.0), familiarity=1.0) == 2


def test_waiting_counts_like_money():
    rule = UtilityRule(quality_per_cost=0.0, quality_per_latency=0.1, caution=0.0)
    assert chosen(rule, latency=np.array([5.0, 1.0, 1.0])) == 1


def test_the_predictions_are_left_as_they_were():
    before = MEAN.copy()
    utilities(MEAN, STD, COST, reference=0, familiarity=1.0, rule=UtilityRule(quality_per_cost=1.0))
    np.testing.assert_array_equal(MEAN, before)


def test_prompts_in_rows_are_judged_one_by_one():
    rule = UtilityRule(quality_per_cost=10.0)
    both = utilities(
        np.stack([MEAN, MEAN]), np.stack([STD, STD]), np.stack([COST, COST]), reference=0,
        familiarity=np.array([0.1, 1.0]), rule=rule,
    )  # fmt: skip
    assert both.argmax(axis=1).tolist() == [0, 2]


@given(st.lists(SHARES, min_size=4, max_size=4), SHARES, st.floats(0, 5), st.floats(0, 5))
def test_dearer_money_never_chooses_a_dearer_model(quality, familiarity, rate, more):
    costs = np.array([4.0, 3.0, 2.0, 1.0])

    def pick(quality_per_cost):
        return chosen(
            UtilityRule(quality_per_cost), familiarity=familiarity, mean=np.array(quality), std=np.zeros(4), cost=costs
        )

    assert costs[pick(rate + more)] <= costs[pick(rate)]
