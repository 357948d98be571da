"""Power of two choices, worked out: against the formula, against real draws, and in decisions."""

import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.policy import Balancing, Preset, RoutingConstraints, Weights
from shared.scoring.balancing import pressure, spread, two_choices
from shared.scoring.engine import Question, decide
from shared.scoring.snapshot import Signals
from tests.unit.routing_builders import deployment, features, model, no_limit, policy, registry, snapshot

pressures = st.lists(st.floats(0, 1e6), min_size=1, max_size=8)
sized = pressures.flatmap(
    lambda given: st.tuples(st.just(given), st.lists(st.floats(0.01, 100), min_size=len(given), max_size=len(given)))
)


@pytest.mark.parametrize("count", range(1, 9))
def test_equal_weights_follow_the_formula(count):
    expected = [Fraction((count - r + 1) ** 2 - (count - r) ** 2, count**2) for r in range(1, count + 1)]
    assert two_choices(list(range(count)), [1.0] * count) == pytest.approx([float(share) for share in expected])


@given(sized)
def test_shares_are_probabilities(given_):
    load, weights = given_
    served = two_choices(load, weights)
    assert min(served) >= 0.0
    assert sum(served) == pytest.approx(1.0)


@given(sized)
def test_they_are_what_two_draws_come_to(given_):
    load, weights = given_
    total, served = sum(weights), [0.0] * len(load)
    for first, its_weight in enumerate(weights):
        for second, other_weight in enumerate(weights):
            served[second if load[second] < load[first] else first] += its_weight * other_weight / total**2
    assert two_choices(load, weights) == pytest.approx(served)


@given(pressures)
def test_less_pressure_never_means_fewer_requests(load):
    served = two_choices(load, [1.0] * len(load))
    for one, its_share in zip(load, served, strict=True):
        for other, other_share in zip(load, served, strict=True):
            assert one > other or its_share >= other_share - 1e-12


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8))
def test_equals_share_by_weight(weights):
    assert two_choices([7.0] * len(weights), weights) == pytest.approx([w / sum(weights) for w in weights])


def test_pressure_is_time_until_an_answer_succeeds():
    waits = pressure(np.array([100.0, 100.0, 100.0, 100.0]), np.array([0.0, 3.0, 3.0, 0.0]),
                     np.array([1.0, 1.0, 3.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.5]))  # fmt: skip
    assert waits.tolist() == [100.0, 400.0, 200.0, 200.0]


@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(0, 0.2))
@settings(max_examples=100, deadline=None)
def test_spreading_moves_probability_within_a_model_only(seed, count, tolerance):
    rng = np.random.default_rng(seed)
    models, cost = rng.integers(0, 3, count), rng.integers(0, 2, count)
    score = np.sort(rng.random(count))[::-1]
    probability = rng.random(count) * (rng.random(count) < 0.7)
    spread_out = spread(
        probability, model=models, cost=cost, score=score, pressures=rng.random(count), weights=rng.random(count) + 0.1,
        tolerance=tolerance,
    )  # fmt: skip
    for group in {(m, c) for m, c in zip(models, cost, strict=True)}:
        own = (models == group[0]) & (cost == group[1])
        assert spread_out[own].sum() == pytest.approx(probability[own].sum())
    assert (spread_out >= 0.0).all()


STRONG = model("strong", price="4", quality=0.95)
REGIONS = ("europe-west1", "europe-west4", "us-central1", "us-east5")
TWINS = registry(*((STRONG, deployment("strong", region)) for region in REGIONS))


def shares(shelf=TWINS, *, rules=None, **signals):
    asked = Question(features(), RoutingConstraints(preset=Preset.QUALITY), "svc")
    seen = {f"strong@{region.replace('_', '-')}": given for region, given in signals.items()}
    decision = decide(asked, snapshot(shelf, rules, signals=seen), 0.0, no_limit)
    return {c.deployment.region: c.propensity for c in decision.candidates}


def test_deployments_of_which_nothing_is_known_share_alike():
    assert shares() == pytest.approx(dict.fromkeys(REGIONS, 0.25))


def test_a_deployment_of_twice_the_weight_takes_twice_the_share():
    shelf = registry(*((STRONG, deployment("strong", r, weight=2.0 if r == "us-east5" else 1.0)) for r in REGIONS))
    assert shares(shelf)["us-east5"] == pytest.approx(0.4)


def test_the_busier_a_deployment_the_less_it_takes():
    busy = {r.replace("-", "_"): Signals(in_flight=n) for n, r in enumerate(REGIONS)}
    assert [shares(**busy)[region] for region in REGIONS] == pytest.approx([7 / 16, 5 / 16, 3 / 16, 1 / 16])


def test_one_that_fails_much_more_often_is_no_equal():
    served = shares(us_east5=Signals(success_rate=0.4))
    assert served["us-east5"] == 0.0
    assert served["us-central1"] == pytest.approx(1 / 3)


def test_one_that_cools_down_gets_nothing():
    assert "us-east5" not in shares(us_east5=Signals(cooling_down=True))


def test_a_dearer_region_of_the_model_is_no_equal():
    period = STRONG.prices[0]
    dear = {"us-east5": type(period.tiers[0].rates.input)("1.01")}
    priced = model("strong", quality=0.95, prices=(type(period)(period.effective_from, period.tiers, dear),))
    served = shares(registry(*((priced, deployment("strong", region)) for region in REGIONS)))
    assert served["us-east5"] == 0.0


def test_switched_off_the_first_takes_all():
    assert sorted(shares(rules=policy(balancing=Balancing(enabled=False))).values()) == [0.0, 0.0, 0.0, 1.0]


def test_one_draw_still_decides_and_follows_the_propensities():
    busy = {f"strong@{r}": Signals(in_flight=n) for n, r in enumerate(REGIONS)}
    world, rng = snapshot(TWINS, signals=busy), random.Random(5)
    asked = Question(features(), RoutingConstraints(weights=Weights(1, 0, 0, 0, 0)), "svc")
    draws = 4000
    counts = Counter(decide(asked, world, rng.random(), no_limit).chosen.deployment.region for _ in range(draws))
    for region, share in zip(REGIONS, (7 / 16, 5 / 16, 3 / 16, 1 / 16), strict=True):
        # five standard errors of a binomial share
        assert abs(counts[region] / draws - share) < 5 * (share * (1 - share) / draws) ** 0.5
