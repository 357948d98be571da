"""The quality factor with a forecast, what an unknown task does to the weights, and the laws that hold all the same."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.decisions import Decision
from shared.domain.features import Category
from shared.domain.forecasts import FORECAST_SCALE, QualityForecast
from shared.domain.models import Registry
from shared.domain.policy import Policy, Preset, QualityRules, RoutingConstraints, ServicePolicy, UnknownTask, Weights
from shared.domain.rules import Actions, Condition, Rule
from shared.domain.security import SecurityLevel
from shared.scoring.engine import NothingEligible, Question, decide
from tests.receipt_strategies import forecasts
from tests.unit.routing_builders import PRESETS, deployment, features, model, no_limit, policy, registry, snapshot

laws = settings(deadline=None, derandomize=True, max_examples=200)
CHEAP, MIDDLE, STRONG = (
    model("cheap", price="0.1", quality=0.6),
    model("middle", price="1", quality=0.8),
    model("strong", price="10", quality=0.95),
)
SHELF = registry((STRONG, deployment("strong")), (CHEAP, deployment("cheap")), (MIDDLE, deployment("middle")))
WARY = policy(quality=QualityRules(caution=1.0, unknown_by=frozenset(UnknownTask)))


def foreseen(familiarity: float, *figures: tuple[float, float]) -> QualityForecast:
    """A forecast by (mean, standard deviation), in the order of the models' ids."""
    scaled = [(round(mean * FORECAST_SCALE), round(std * FORECAST_SCALE)) for mean, std in figures]
    return QualityForecast("v", round(familiarity * FORECAST_SCALE), *map(tuple, zip(*scaled, strict=True)))  # type: ignore[arg-type]  # two columns of integers


SURE = foreseen(1.0, (0.7, 0.1), (0.8, 0.1), (0.9, 0.1))


def choose(
    forecast: QualityForecast | None,
    *,
    shelf: Registry = SHELF,
    rules: Policy = WARY,
    category: Category = Category.MATH,
    service: str = "svc",
    **asked: object,
) -> Decision:
    read = features(category=category, complexity=0.2)
    question = Question(read, RoutingConstraints(**asked), service, forecast=forecast)  # type: ignore[arg-type]  # any field
    return decide(question, snapshot(shelf, rules), 0.0, no_limit)


def qualities(decision: Decision) -> dict[str, float]:
    return {c.profile.id: c.factors.quality for c in decision.candidates}


def test_quality_is_the_lower_bound_and_the_references_the_mean():
    decision = choose(SURE)
    assert qualities(decision) == pytest.approx({"cheap": 0.6, "middle": 0.7, "strong": 0.9})
    shown = {c.profile.id: (c.quality_mean, c.quality_std) for c in decision.candidates}
    assert shown == {"cheap": (0.7, 0.1), "middle": (0.8, 0.1), "strong": (0.9, 0.1)}
    assert decision.forecast is SURE


def test_no_bound_falls_below_zero():
    assert qualities(choose(foreseen(1.0, (0.1, 0.9), (0.1, 0.0), (0.1, 0.9)))) == {
        "cheap": 0.0, "middle": 0.1, "strong": 0.1,
    }  # fmt: skip


def test_the_reference_is_the_best_of_the_eligible():
    decision = choose(SURE, deny_models=frozenset({"strong"}))
    assert qualities(decision) == pytest.approx({"cheap": 0.6, "middle": 0.8})


def test_of_equally_good_references_the_cheapest_is_not_doubted():
    dear = model("dear", price="20", quality=0.95)
    shelf = registry((dear, deployment("dear")), (STRONG, deployment("strong")))
    decision = choose(foreseen(1.0, (0.9, 0.1), (0.9, 0.1)), shelf=shelf)
    assert qualities(decision) == pytest.approx({"dear": 0.8, "strong": 0.9})


def test_without_a_forecast_the_registrys_priors_count_and_easy_requests_fail_less():
    assert qualities(choose(None))["strong"] == pytest.approx(1 - 0.05 * (0.35 + 0.65 * 0.2))
    assert all(c.quality_mean is c.quality_std is None for c in choose(None).candidates)


def test_a_forecast_for_another_registry_is_refused():
    with pytest.raises(ValueError, match="a forecast for 2 models, the registry has 3"):
        choose(foreseen(1.0, (0.5, 0.1), (0.5, 0.1)))


@pytest.mark.parametrize("preset", [Preset.BALANCED, Preset.QUALITY])
def test_on_an_unknown_task_the_best_model_serves(preset):
    flat = foreseen(0.1, (0.9, 0.0), (0.9, 0.0), (0.9, 0.0))
    assert choose(replace(flat, familiarity=FORECAST_SCALE), preset=preset).chosen.profile.id == "cheap"
    doubted = foreseen(0.1, (0.9, 0.2), (0.9, 0.2), (0.9, 0.2))
    strange = choose(doubted, preset=preset)
    assert strange.chosen.profile.id == "strong"
    assert (strange.weights.cost, strange.weights.latency) == (0.0, 0.0)
    unknown = choose(None, preset=preset, category=Category.UNKNOWN)
    assert unknown.chosen.profile.id == "strong"
    assert sum(getattr(unknown.weights, name) for name in ("quality", "reliability", "load")) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "asked",
    [
        {"preset": Preset.COST},
        {"preset": Preset.LATENCY},
        {"weights": Weights(0.3, 0.7, 0, 0, 0)},
    ],
)
def test_what_the_caller_asked_for_stands_on_any_task(asked):
    known = choose(foreseen(1.0, (0.5, 0.1), (0.6, 0.1), (0.7, 0.1)), **asked)
    strange = choose(foreseen(0.0, (0.5, 0.1), (0.6, 0.1), (0.7, 0.1)), category=Category.UNKNOWN, **asked)
    assert strange.weights == known.weights
    assert strange.chosen == known.chosen


def test_a_preset_of_the_service_or_of_a_rule_is_guarded_like_the_requests_own():
    balanced = replace(WARY, default_preset=Preset.COST)
    by_service = replace(balanced, services={"svc": ServicePolicy(preset=Preset.BALANCED)})
    by_rule = replace(balanced, rules=(Rule("r", 0, Condition(), Actions(preset=Preset.BALANCED)),))
    for rules, guarded in ((balanced, False), (by_service, True), (by_rule, True)):
        decision = choose(None, rules=rules, category=Category.UNKNOWN)
        assert (decision.weights.cost == 0.0) is guarded


@pytest.mark.parametrize(("familiarity", "share"), [(0.0, 0.0), (0.5, 0.0), (0.75, 0.5), (1.0, 1.0)])
def test_cost_and_latency_fade_in_with_familiarity(familiarity, share):
    rules = policy(quality=QualityRules(unknown_by=frozenset({UnknownTask.FAMILIARITY}), familiar_from=0.5))
    weights = choose(replace(SURE, familiarity=round(familiarity * FORECAST_SCALE)), rules=rules).weights
    asked = PRESETS[Preset.BALANCED]
    assert weights.cost / weights.quality == pytest.approx(share * asked.cost / asked.quality)
    assert weights.latency / weights.quality == pytest.approx(share * asked.latency / asked.quality)


def test_each_sign_of_an_unknown_task_can_be_left_out():
    strange = replace(SURE, familiarity=0)
    by_category = policy(quality=QualityRules(unknown_by=frozenset({UnknownTask.CATEGORY})))
    assert choose(strange, rules=by_category).weights.cost > 0
    assert choose(strange, rules=by_category, category=Category.UNKNOWN).weights.cost == 0
    by_familiarity = policy(quality=QualityRules(unknown_by=frozenset({UnknownTask.FAMILIARITY})))
    assert choose(SURE, rules=by_familiarity, category=Category.UNKNOWN).weights.cost > 0
    off = policy(quality=QualityRules(guarded=frozenset()))
    assert choose(strange, rules=off, category=Category.UNKNOWN).weights.cost > 0


def test_of_equally_good_models_the_cheaper_serves_an_unknown_task():
    dear = model("a-dear", price="20", quality=0.95)
    shelf = registry((dear, deployment("a-dear")), (STRONG, deployment("strong")))
    assert choose(None, shelf=shelf, category=Category.UNKNOWN).chosen.profile.id == "strong"


def test_a_preset_without_weight_on_quality_has_nothing_to_guard():
    presets = {**PRESETS, Preset.BALANCED: Weights(0, 1, 0, 0, 0)}
    assert choose(None, rules=replace(WARY, presets=presets), category=Category.UNKNOWN).weights.cost == 1.0


@laws
@given(forecasts(3), st.floats(0, 10))
def test_more_weight_on_cost_never_picks_a_dearer_model(forecast, more):
    base = Weights(1, 0.2, 0, 0, 0)
    before = choose(forecast, weights=base)
    after = choose(forecast, weights=replace(base, cost=0.2 + more))
    assert after.chosen.expected_cost_usd <= before.chosen.expected_cost_usd


@laws
@given(
    forecasts(3),
    st.sampled_from(Preset),
    st.sampled_from(Category),
    st.sampled_from(SecurityLevel),
    st.frozensets(st.sampled_from(["eu", "us"])),
    st.none() | st.decimals("0.0001", "0.02", places=4),
    st.floats(0, 1, exclude_max=True),
)
def test_no_forecast_leads_past_a_hard_constraint(forecast, preset, category, level, zones, cap, draw):
    places = (("eu", SecurityLevel.RESTRICTED), ("us", SecurityLevel.INTERNAL))
    shelf = registry(
        *(
            (profile, deployment(profile.id, zone, residency=frozenset({zone}), clearance=clearance))
            for profile in (CHEAP, MIDDLE, STRONG)
            for zone, clearance in places
        )
    )
    read = features(category=category, security_level=level)
    asked = RoutingConstraints(preset=preset, residency=zones, max_cost_usd=cap)
    question = Question(read, asked, "svc", forecast=forecast)
    try:
        decision = decide(question, snapshot(shelf, WARY), draw, no_limit)
    except NothingEligible:
        return
    for candidate in (decision.chosen, *decision.fallbacks):
        assert candidate.deployment.clearance >= level
        assert not zones or candidate.deployment.residency <= zones
        assert cap is None or candidate.worst_case_cost_usd <= cap
        assert 0.0 <= candidate.score <= 1.0
    assert sum(c.propensity for c in decision.candidates) == pytest.approx(1.0)
    assert decide(question, snapshot(shelf, WARY), draw, no_limit) == decision


@laws
@given(forecasts(3))
def test_removing_an_unchosen_candidate_but_the_reference_changes_nobodys_score(forecast):
    decision = choose(forecast)
    gone = next((c.profile.id for c in decision.candidates[1:] if c.profile.id != "strong"), None)
    if gone is None:
        return
    left = choose(forecast, deny_models=frozenset({gone}))
    assert left.chosen.deployment.id == decision.chosen.deployment.id
    scores = {c.deployment.id: c.score for c in decision.candidates}
    assert all(c.score == scores[c.deployment.id] for c in left.candidates)


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ((0, (1,), (1, 2)), "1 means, 2 standard deviations"),
        ((-1, (1,), (1,)), "outside of 0 to 10000"),
        ((0, (10_001,), (1,)), "outside of 0 to 10000"),
        ((0, (1,), (-1,)), "outside of 0 to 10000"),
    ],
)
def test_a_forecast_that_cannot_be_is_refused(figures, message):
    with pytest.raises(ValueError, match=message):
        QualityForecast("v", *figures)
