"""A decision as callers read it: what was forecast stands with the decision and with each candidate."""

from functions._wire.replies import decision_body
from shared.domain.forecasts import QualityForecast
from shared.domain.policy import RoutingConstraints
from shared.scoring.engine import Question, decide
from tests.unit.routing_builders import deployment, features, model, no_limit, registry, snapshot

SHELF = registry((model("a"), deployment("a")), (model("b"), deployment("b")))


def body(forecast: QualityForecast | None) -> dict[str, object]:
    question = Question(features(), RoutingConstraints(), "svc", forecast=forecast)
    return decision_body(decide(question, snapshot(SHELF), 0.0, no_limit))


def test_a_forecast_is_shown_with_its_version_and_familiarity_and_by_candidate():
    shown = body(QualityForecast("quality-7", 8125, (7012, 4000), (1500, 250)))
    assert shown["forecast"] == {"version": "quality-7", "familiarity": 0.8125}
    candidates = {c["model"]: c["expected_quality"] for c in shown["candidates"]}  # type: ignore[attr-defined]  # a list
    assert candidates == {"a": {"mean": 0.7012, "std": 0.15}, "b": {"mean": 0.4, "std": 0.025}}
    assert shown["chosen"]["expected_quality"] == candidates["a"]  # type: ignore[index]  # an object


def test_where_nothing_was_forecast_nothing_is_claimed():
    shown = body(None)
    assert shown["forecast"] is None
    assert {c["expected_quality"] for c in shown["candidates"]} == {None}  # type: ignore[attr-defined]  # a list
