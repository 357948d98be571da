"""The nearest change: it turns the choice, a little less does not, and nothing smaller was missed."""

from collections.abc import Mapping
from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.features import Category
from shared.domain.forecasts import FORECAST_SCALE, QualityForecast
from shared.domain.models import Registry
from shared.domain.policy import (
    CallerLimits,
    Policy,
    Preset,
    QualityRules,
    RoutingConstraints,
    ServicePolicy,
    UnknownTask,
    Weights,
)
from shared.scoring.counterfactual import Change, turning_changes
from shared.scoring.engine import Question
from shared.scoring.receipt import Deliberation, deliberate
from shared.scoring.snapshot import Signals
from tests.receipt_strategies import deliberations, forecasts
from tests.unit.routing_builders import deployment, features, model, no_limit, policy, registry, snapshot

laws = settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
CHEAP, STRONG = model("cheap", price="0.1", quality=0.7), model("strong", price="4", quality=0.9)
BOTH = registry((CHEAP, deployment("cheap")), (STRONG, deployment("strong")))
CERTAIN = policy()


def made(
    shelf: Registry = BOTH,
    *,
    rules: Policy = CERTAIN,
    seen: Mapping[str, Signals] | None = None,
    draw: float = 0.0,
    complexity: float = 0.5,
    forecast: QualityForecast | None = None,
    category: Category = Category.MATH,
    **asked: object,
) -> Deliberation:
    read = features(complexity=complexity, category=category)
    question = Question(read, RoutingConstraints(**asked), "svc", forecast=forecast)
    return deliberate(question, snapshot(shelf, rules, signals=seen), draw, no_limit)


def winner(deliberation: Deliberation) -> str:
    assert deliberation.decision is not None
    return deliberation.decision.chosen.deployment.id


def change_of(deliberation: Deliberation, quantity: str | None = None) -> Change:
    """The nearest change, of all or of one quantity."""
    return next(c for c in turning_changes(deliberation) if quantity in {None, c.quantity})


def with_share(weights: Weights, factor: str, share: float) -> Weights:
    """The weights with one share set and the others in their proportions."""
    was = getattr(weights, factor)
    rest = (1 - share) / (1 - was)
    return replace(Weights(*(getattr(weights, f.name) * rest for f in fields(Weights))), **{factor: share})


def applied(deliberation: Deliberation, change: Change, part: float) -> str | None:
    """Who wins when a part of the change is made."""
    assert deliberation.decision is not None
    value = change.was + part * (change.becomes - change.was)
    question, world = deliberation.question, deliberation.snapshot
    policy = world.policy
    if change.quantity == "complexity":
        question = replace(question, features=replace(question.features, complexity=value))
    elif change.quantity == "familiarity":
        assert question.forecast is not None
        familiarity = round(value * FORECAST_SCALE)
        question = replace(question, forecast=replace(question.forecast, familiarity=familiarity))
    elif change.quantity == "forecast":
        question = question if part < 1 else replace(question, forecast=None)
    elif change.quantity == "category":
        # A policy that does not mind an unknown category decides as if it were known, all else equal.
        signs = policy.quality.unknown_by - ({UnknownTask.CATEGORY} if part == 1 else set())
        policy = replace(policy, quality=replace(policy.quality, unknown_by=signs))
    else:
        factor = change.quantity.removeprefix("weight.")
        weights = with_share(deliberation.decision.weights, factor, value)
        question = replace(question, constraints=replace(question.constraints, weights=weights))
    certain = replace(world, policy=replace(policy, temperature=0.0, exploration=0.0))
    limits = dict(deliberation.limits)
    again = deliberate(question, certain, 0.0, lambda _profile, where: limits.get(where.id))
    return None if again.decision is None else again.decision.chosen.deployment.id


def rivals(deliberation: Deliberation) -> set[str]:
    """Deployments that are no peers of the chosen one."""
    assert deliberation.decision is not None
    models = {d.id: d.model_id for d in deliberation.snapshot.registry.deployments}
    return {d for d, model_id in models.items() if model_id != models[winner(deliberation)]}


@laws
@given(deliberations())
def test_a_change_of_the_request_turns_the_choice_and_a_little_less_does_not(deliberation: Deliberation) -> None:
    changes = turning_changes(deliberation)
    assert [c.size for c in changes] == sorted(c.size for c in changes)
    assert len({c.quantity for c in changes}) == len(changes)
    for change in changes:
        assert 0.0 <= change.size <= 1.0
        assert change.winner != winner(deliberation)
        if change.deployment is None:
            assert applied(deliberation, change, 1.0) == change.winner
            if change.size > 1e-6 and change.winner in rivals(deliberation):
                assert applied(deliberation, change, 0.99) not in {None, *rivals(deliberation)}


@laws
@given(deliberations())
def test_no_smaller_change_of_a_weight_or_of_complexity_is_missed(deliberation: Deliberation) -> None:
    changes = turning_changes(deliberation)
    if not changes or deliberation.decision is None or changes[0].winner not in rivals(deliberation):
        return
    weights, least = deliberation.decision.weights, changes[0].size
    tried = [(f"weight.{f.name}", getattr(weights, f.name)) for f in fields(Weights)]
    for quantity, was in [*tried, ("complexity", deliberation.question.features.complexity)]:
        for becomes in (was - 0.95 * least, was + 0.95 * least):
            if least > 1e-4 and 0 <= becomes <= 1 and was < 1:
                held = applied(deliberation, Change(quantity, None, was, becomes, 0, ""), 1.0)
                assert held not in {None, *rivals(deliberation)}


WARY = policy(quality=QualityRules(unknown_by=frozenset(UnknownTask)))


@laws
@given(forecasts(2), st.sampled_from(Preset), st.sampled_from([Category.MATH, Category.UNKNOWN]), st.floats(0, 1))
def test_what_is_said_of_forecast_familiarity_and_category_is_so(
    forecast: QualityForecast, preset: Preset, category: Category, complexity: float
) -> None:
    deliberation = made(rules=WARY, forecast=forecast, preset=preset, category=category, complexity=complexity)
    told = {c.quantity: c for c in turning_changes(deliberation)}
    for quantity in ("forecast", "familiarity", "category"):
        if quantity in told:
            assert applied(deliberation, told[quantity], 1.0) == told[quantity].winner
        else:
            ends = {"forecast": [(1.0, 0.0)], "familiarity": [(0.0, 0.0), (0.0, 1.0)], "category": [(0.0, 1.0)]}
            for was, becomes in ends[quantity]:
                untold = Change(quantity, None, was, becomes, 0.0, "")
                assert applied(deliberation, untold, 1.0) == winner(deliberation)


def test_a_strange_request_goes_to_the_best_model_until_it_is_familiar_enough() -> None:
    forecast = QualityForecast("v", 1000, (8000, 9000), (500, 500))
    deliberation = made(rules=WARY, forecast=forecast, preset=Preset.BALANCED)
    assert winner(deliberation).startswith("strong")

    change = change_of(deliberation, "familiarity")

    assert (change.was, change.deployment) == (0.1, None)
    assert 0.8 < change.becomes < 1.0
    assert change.winner.startswith("cheap")
    assert applied(deliberation, change, 0.99) == winner(deliberation)


def test_a_forecast_that_made_the_choice_is_named() -> None:
    forecast = QualityForecast("v", 10_000, (9500, 3000), (0, 0))
    deliberation = made(forecast=forecast, preset=Preset.QUALITY, complexity=1.0)
    assert winner(deliberation).startswith("cheap")
    assert change_of(deliberation, "forecast") == Change("forecast", None, 1.0, 0.0, 1.0, "strong@europe-west4")


def test_an_unknown_category_that_made_the_choice_is_named() -> None:
    deliberation = made(category=Category.UNKNOWN, complexity=0.2)
    assert winner(deliberation).startswith("strong")
    assert change_of(deliberation, "category").winner.startswith("cheap")
    assert not [c for c in turning_changes(made(complexity=0.2)) if c.quantity == "category"]


def test_limits_on_callers_do_not_hide_what_other_weights_would_do() -> None:
    strict = CallerLimits(presets=frozenset(), weights=False)
    for rules in (policy(limits=strict), policy(services={"svc": ServicePolicy(limits=strict)})):
        assert turning_changes(made(rules=rules)) == turning_changes(made())


def test_balancing_among_equals_is_no_chance_that_hides_the_reasons() -> None:
    shelf = registry(
        (STRONG, deployment("strong")), (STRONG, deployment("strong", "us-central1")), (CHEAP, deployment("cheap"))
    )
    asked = Weights(0.9, 0.1, 0, 0, 0)
    first, second = made(shelf, weights=asked, draw=0.0), made(shelf, weights=asked, draw=0.99)
    assert winner(first) != winner(second)
    assert turning_changes(first) == turning_changes(second) != ()


def test_the_cheaper_models_rival_needs_more_weight_on_quality() -> None:
    deliberation = made(weights=Weights(0.3, 0.7, 0, 0, 0))
    assert winner(deliberation).startswith("cheap")

    change = change_of(deliberation, "weight.quality")

    assert change.becomes > 0.3
    assert change.winner.startswith("strong")
    assert applied(deliberation, change, 1.0) == change.winner


def test_quality_that_the_runner_up_lacks() -> None:
    deliberation = made(weights=Weights(0.95, 0.05, 0, 0, 0), complexity=1.0)
    assert winner(deliberation).startswith("strong")
    change = change_of(deliberation)
    assert (change.quantity, change.deployment) == ("quality", "cheap@europe-west4")
    assert change.size == pytest.approx(change.becomes - 0.7)

    # At complexity 1 the expected quality is the prior itself.
    for beyond, wins in ((1e-6, "cheap"), (-1e-6, "strong")):
        better = replace(CHEAP, quality={"overall": replace(CHEAP.quality["overall"], mean=change.becomes + beyond)})
        shelf = registry((better, deployment("cheap")), (STRONG, deployment("strong")))
        assert winner(made(shelf, weights=Weights(0.95, 0.05, 0, 0, 0), complexity=1.0)).startswith(wins)


def test_latency_that_the_runner_up_has_too_much_of() -> None:
    slow, fast = "strong@europe-west4", "cheap@europe-west4"
    asked = Weights(0, 0, 1, 0, 0)
    seen = {slow: Signals(ttft_ms=500.0)}
    deliberation = made(seen=seen, weights=asked)
    assert winner(deliberation) == fast

    change = change_of(deliberation)

    # Both produce 200 tokens at 100 a second; the priors wait 300 ms for the first.
    assert (change.quantity, change.deployment, change.was) == ("expected_latency_ms", slow, 2500.0)
    assert change.becomes == pytest.approx(2300.0)
    assert change.size == pytest.approx(200 / 2500)
    faster = {slow: Signals(ttft_ms=500.0 - (change.was - change.becomes) - 0.001)}
    assert winner(made(seen=faster, weights=asked)) == slow


def test_a_cost_that_the_runner_up_would_have_to_halve() -> None:
    dear = model("dear", price="1", quality=0.7)
    shelf = registry((model("fair", price="0.5", quality=0.7), deployment("fair")), (dear, deployment("dear")))
    deliberation = made(shelf, weights=Weights(0, 1, 0, 0, 0))

    change = change_of(deliberation)

    assert (change.quantity, change.winner) == ("expected_cost_usd", "dear@europe-west4")
    assert change.size == pytest.approx(0.5)
    assert change.becomes == pytest.approx(change.was / 2)


def test_a_harder_request_goes_to_the_stronger_model() -> None:
    shelf = registry(
        (replace(CHEAP, quality={"overall": replace(CHEAP.quality["overall"], mean=0.2)}), deployment("cheap")),
        (STRONG, deployment("strong")),
    )
    deliberation = made(shelf, weights=Weights(0.45, 0.55, 0, 0, 0), complexity=0.05)
    assert winner(deliberation).startswith("cheap")

    change = change_of(deliberation, "complexity")

    assert change.becomes > 0.05
    assert applied(deliberation, change, 1.0) == change.winner
    assert change.winner.startswith("strong")


def test_equal_deployments_of_the_model_are_no_rivals_of_each_other() -> None:
    shelf = registry(
        (STRONG, deployment("strong")), (STRONG, deployment("strong", "us-central1")), (CHEAP, deployment("cheap"))
    )
    change = change_of(made(shelf, weights=Weights(0.9, 0.1, 0, 0, 0)))
    assert change.winner.startswith("cheap")
    assert change.size > 0.01


def test_where_there_is_one_model_only_its_deployments_are_rivals() -> None:
    shelf = registry((STRONG, deployment("strong")), (STRONG, deployment("strong", "us-central1")))
    busy = {"strong@europe-west4": Signals(in_flight=10)}
    change = change_of(made(shelf, seen=busy, weights=Weights(0, 0, 0.9, 0, 0.1)))
    assert change.winner == "strong@europe-west4"
    assert change.quantity == "expected_latency_ms"


def test_what_exploration_drew_has_no_nearest_change() -> None:
    adventurous = policy(exploration=0.5)
    best = made(rules=adventurous, draw=0.0)
    drawn = made(rules=adventurous, draw=0.99)
    assert winner(best) != winner(drawn)
    assert turning_changes(best)
    assert not turning_changes(drawn)


def test_nobody_else_nothing_eligible_and_a_named_model_have_none() -> None:
    alone = registry((CHEAP, deployment("cheap")))
    assert not turning_changes(made(alone))
    assert not turning_changes(made(allow_models=frozenset({"nobody"})))
    assert not turning_changes(made(model="cheap", allow_fallback=True))


def test_a_model_better_in_everything_cannot_be_beaten_by_weights() -> None:
    best = model("best", price="0.1", quality=0.99)
    shelf = registry((best, deployment("best")), (model("worst", price="9", quality=0.1), deployment("worst")))
    assert not any(change.quantity.startswith("weight") for change in turning_changes(made(shelf)))
