import random
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.decisions import RejectionReason
from shared.domain.models import Lifecycle
from shared.domain.policy import Preset, RoutingConstraints, ServicePolicy, Weights
from shared.domain.security import SecurityLevel
from shared.scoring.engine import NothingEligible, Question, decide
from shared.scoring.snapshot import Signals
from tests.unit.routing_builders import deployment, features, model, no_limit, policy, registry, snapshot

CHEAP, STRONG = model("cheap", price="0.1", quality=0.6), model("strong", price="10", quality=0.95)
SHELF = registry(
    (CHEAP, deployment("cheap")),
    (STRONG, deployment("strong")),
    (STRONG, deployment("strong", "us-central1", residency=frozenset({"us"}))),
)


def choose(shelf=SHELF, wanted=None, request=None, rules=None, seed=1, service="svc", signals=None):
    question = Question(request or features(), wanted or RoutingConstraints(), service)
    return decide(question, snapshot(shelf, rules, signals=signals), random.Random(seed).random(), no_limit)


def test_easy_work_goes_to_the_cheap_model_and_hard_work_to_the_strong_one():
    assert choose(request=features(complexity=0.05)).chosen.profile.id == "cheap"
    hard = features(complexity=1.0, expected_output_tokens=100)
    assert choose(request=hard).chosen.profile.id == "strong"


def test_presets_pull_the_choice():
    assert choose(wanted=RoutingConstraints(preset=Preset.QUALITY)).chosen.profile.id == "strong"
    assert choose(wanted=RoutingConstraints(preset=Preset.COST)).chosen.profile.id == "cheap"


def test_request_weights_beat_its_preset_and_the_service_preset():
    quality_only = Weights(1, 0, 0, 0, 0)
    rules = policy(services={"svc": ServicePolicy(preset=Preset.COST)})
    assert choose(rules=rules).chosen.profile.id == "cheap"
    wanted = RoutingConstraints(preset=Preset.COST, weights=quality_only)
    assert choose(wanted=wanted, rules=rules).chosen.profile.id == "strong"


def test_fallbacks_try_the_same_models_other_deployments_first():
    decision = choose(wanted=RoutingConstraints(preset=Preset.QUALITY))
    assert [c.profile.id for c in decision.fallbacks] == ["strong", "cheap"]


def test_named_model_is_chosen_and_others_stand_by_only_when_allowed():
    alone = choose(wanted=RoutingConstraints(model="cheap"))
    assert [c.profile.id for c in alone.candidates] == ["cheap"]
    assert {r.reason for r in alone.rejections} == {RejectionReason.NOT_REQUESTED}
    backed = choose(wanted=RoutingConstraints(model="cheap", allow_fallback=True, preset=Preset.QUALITY))
    assert backed.chosen.profile.id == "cheap"
    assert backed.chosen.propensity == 1.0
    assert {c.profile.id for c in backed.fallbacks} == {"strong"}


def test_failing_and_loaded_deployments_lose_to_their_twins():
    twins = registry(
        (STRONG, deployment("strong")), (STRONG, deployment("strong", "us-central1", residency=frozenset({"us"})))
    )
    failing = {"strong@europe-west4": Signals(success_rate=0.2)}
    assert choose(twins, signals=failing).chosen.deployment.region == "us-central1"
    busy = {"strong@us-central1": Signals(in_flight=50)}
    assert choose(twins, signals=busy).chosen.deployment.region == "europe-west4"


def test_observed_latency_replaces_the_prior():
    seen = {"cheap@europe-west4": Signals(ttft_ms=9_000.0)}
    by_id = {c.deployment.id: c for c in choose(signals=seen).candidates}
    assert by_id["cheap@europe-west4"].expected_latency_ms == 9_000.0 + 2_000.0
    assert by_id["strong@europe-west4"].expected_latency_ms == 300.0 + 2_000.0


def test_nothing_eligible_says_why_for_each():
    with pytest.raises(NothingEligible) as caught:
        choose(request=features(security_level=SecurityLevel.RESTRICTED))
    assert [r.reason for r in caught.value.rejections] == [RejectionReason.CLEARANCE] * 3


def test_draws_follow_the_propensities():
    rules = policy(exploration=0.3, temperature=0.05)
    decision = choose(rules=rules)
    expected = {c.deployment.id: c.propensity for c in decision.candidates}
    draws = 4000
    counts = dict.fromkeys(expected, 0)
    for seed in range(draws):
        counts[choose(rules=rules, seed=seed).chosen.deployment.id] += 1
    for deployment_id, probability in expected.items():
        # five standard errors of a binomial share
        assert abs(counts[deployment_id] / draws - probability) < 5 * (probability * (1 - probability) / draws) ** 0.5


_scores = st.lists(st.tuples(st.floats(0.01, 20), st.floats(0, 1)), min_size=1, max_size=8)


@st.composite
def shelves(draw):
    pairs = []
    for index, (price, quality) in enumerate(draw(_scores)):
        profile = model(f"m{index}", price=f"{price:.4f}", quality=quality)
        level = draw(st.sampled_from(list(SecurityLevel)))
        zone = draw(st.sampled_from(["eu", "us", "global"]))
        pairs.append((profile, deployment(profile.id, clearance=level, residency=frozenset({zone}))))
    return registry(*pairs)


@given(
    shelf=shelves(),
    level=st.sampled_from(list(SecurityLevel)),
    zones=st.frozensets(st.sampled_from(["eu", "us", "global"])),
    cap=st.none() | st.decimals("0.0001", "1", places=4),
    exploration=st.floats(0, 0.9),
    temperature=st.floats(0, 2),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_no_choice_and_no_fallback_ever_breaks_a_hard_constraint(
    shelf, level, zones, cap, exploration, temperature, seed
):
    rules = policy(exploration=exploration, temperature=temperature)
    wanted = RoutingConstraints(residency=zones, max_cost_usd=cap)
    try:
        decision = choose(shelf, wanted, features(security_level=level), rules, seed)
    except NothingEligible as error:
        assert len(error.rejections) == len(shelf.deployments)
        return
    for candidate in (decision.chosen, *decision.fallbacks):
        assert candidate.deployment.clearance >= level
        assert not zones or candidate.deployment.residency <= zones
        assert cap is None or candidate.worst_case_cost_usd <= cap
        assert 0.0 <= candidate.score <= 1.0
    assert len(decision.candidates) + len(decision.rejections) == len(shelf.deployments)
    assert sum(c.propensity for c in decision.candidates) == pytest.approx(1.0)
    again = choose(shelf, wanted, features(security_level=level), rules, seed)
    assert again == decision


@given(shelf=shelves(), more=st.floats(0, 10))
@settings(max_examples=200, deadline=None)
def test_more_weight_on_cost_never_picks_a_dearer_model(shelf, more):
    base = Weights(1, 0.2, 0, 0, 0)
    request = features(security_level=SecurityLevel.PUBLIC)
    before = choose(shelf, RoutingConstraints(weights=base), request)
    after = choose(shelf, RoutingConstraints(weights=replace(base, cost=0.2 + more)), request)
    assert after.chosen.expected_cost_usd <= before.chosen.expected_cost_usd + Decimal("1e-12")


@given(shelf=shelves())
@settings(max_examples=200, deadline=None)
def test_removing_an_unchosen_candidate_changes_nobody_elses_score(shelf):
    decision = choose(shelf, request=features())
    if len(decision.candidates) == 1:
        return
    gone = decision.candidates[-1].deployment.id
    smaller = replace(shelf, deployments=tuple(d for d in shelf.deployments if d.id != gone))
    left = choose(smaller, request=features())
    assert left.chosen.deployment.id == decision.chosen.deployment.id
    scores = {c.deployment.id: c.score for c in decision.candidates}
    assert all(c.score == scores[c.deployment.id] for c in left.candidates)


def test_a_model_listed_ahead_of_its_first_price_stops_nobody():
    soon = model("soon", lifecycle=Lifecycle(available_from=date(2027, 1, 1)))
    soon = replace(soon, prices=(replace(soon.prices[0], effective_from=date(2027, 1, 1)),))
    decision = choose(registry((soon, deployment("soon")), (CHEAP, deployment("cheap"))))
    assert decision.chosen.profile.id == "cheap"
    assert [r.reason for r in decision.rejections] == [RejectionReason.LIFECYCLE]
