"""The labelled table of routing cases: what the words of the specification demand of a decision, without exception.

Every line of `routing_cases/*.jsonl` is a request against a small registry and policy (TOML files beside it, read by the
real loader) with what must come of it. Deployments are named by patterns (`small@*`, `*@eu`, `!large@us` takes away).
"""

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shared.domain.chat import Modality
from shared.domain.decisions import Decision
from shared.domain.errors import InvalidRequest
from shared.domain.features import Category, ComplexityLevel, RequestFeatures
from shared.domain.forecasts import FORECAST_SCALE, QualityForecast
from shared.domain.models import Registry
from shared.domain.policy import Policy, Preset, RoutingConstraints, Weights
from shared.domain.security import SecurityLevel
from shared.scoring.engine import NothingEligible, Question, decide
from shared.scoring.rules import Applied, apply
from shared.scoring.snapshot import Signals, Snapshot
from shared.stores.registry_files import parse_policy, parse_registry

CASES = Path(__file__).parent / "routing_cases"
NOON = "2026-11-23T12:00:00Z"
LEAST_CASES = 150
KEYS = {
    "id", "kind", "why", "registry", "policy", "features", "constraints", "service", "stream", "tags", "now", "signals",
    "limit", "forecast", "draw", "expect",
}  # fmt: skip


@cache
def registry(name: str) -> Registry:
    return parse_registry({name: tomllib.loads((CASES / "registries" / f"{name}.toml").read_text())})


@cache
def policy(name: str, shelf: str) -> Policy:
    text = (CASES / "policies" / f"{name}.toml").read_text()
    return parse_policy(tomllib.loads(text), registry(shelf), name=name)


def all_cases() -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(CASES.glob("*.jsonl")) for line in path.read_text().splitlines()]


def features(given: Mapping[str, Any]) -> RequestFeatures:
    read: dict[str, Any] = {
        "category": Category,
        "complexity_level": ComplexityLevel,
        "security_level": SecurityLevel.from_label,
        "modalities": lambda names: frozenset(map(Modality, names)),
    }
    plain = RequestFeatures(
        content_type="prose",
        category=Category.QUESTION_ANSWERING,
        category_confidence=0.9,
        language="en",
        prompt_tokens=1000,
        expected_output_tokens=200,
        complexity=0.5,
        complexity_level=ComplexityLevel.MEDIUM,
        security_level=SecurityLevel.PUBLIC,
        modalities=frozenset({Modality.TEXT}),
    )
    return replace(plain, **{key: read[key](value) if key in read else value for key, value in given.items()})


def forecast(given: Mapping[str, Any], shelf: Registry) -> QualityForecast:
    """By model: expected quality and standard deviation."""
    mean, std = zip(*(given["quality"][model_id] for model_id in sorted(shelf.models)), strict=True)
    figures = [tuple(round(value * FORECAST_SCALE) for value in column) for column in (mean, std)]
    return QualityForecast("case", round(given["familiarity"] * FORECAST_SCALE), *figures)


def constraints(given: Mapping[str, Any]) -> RoutingConstraints:
    read: dict[str, Any] = {
        "preset": Preset,
        "weights": lambda weights: Weights(**weights),
        "max_cost_usd": Decimal,
        "allow_models": frozenset,
        "deny_models": frozenset,
        "residency": frozenset,
    }
    return RoutingConstraints(**{key: read[key](value) if key in read else value for key, value in given.items()})


@dataclass(frozen=True)
class Outcome:
    """What came of a case: a decision or a refusal, and what the rules made of the request."""

    applied: Applied
    decision: Decision | None = None
    rejected: Mapping[str, str] | None = None

    @property
    def eligible(self) -> set[str]:
        return {c.deployment.id for c in self.decision.candidates} if self.decision else set()


def run(case: Mapping[str, Any]) -> Outcome:
    shelf, rules = registry(case["registry"]), policy(case["policy"], case["registry"])
    now = datetime.fromisoformat(case.get("now", NOON)).astimezone(UTC)  # as the shelf hands it out
    signals = {name: Signals(**seen) for name, seen in case.get("signals", {}).items()}
    limits: dict[str, str] = case.get("limit", {})
    question = Question(
        features=features(case.get("features", {})),
        constraints=constraints(case.get("constraints", {})),
        service=case.get("service", "svc"),
        stream=case.get("stream", False),
        tags=tuple(sorted(case.get("tags", {}).items())),
        forecast=forecast(case["forecast"], shelf) if "forecast" in case else None,
    )
    applied = apply(rules.rules, question, now)
    try:
        decision = decide(
            question,
            Snapshot(shelf, rules, now, signals),
            case.get("draw", 0.5),
            lambda profile, deployment: limits.get(profile.id),
        )
    except NothingEligible as refusal:
        return Outcome(applied, None, {r.deployment_id: r.reason.value for r in refusal.rejections})
    return Outcome(applied, decision, {r.deployment_id: r.reason.value for r in decision.rejections})


def meant(patterns: Iterable[str], shelf: str) -> set[str]:
    """The deployments that patterns mean; a pattern that means none is a mistake in the case."""
    ids = {d.id for d in registry(shelf).deployments}
    found: set[str] = set()
    for pattern in patterns:
        hits = {i for i in ids if fnmatchcase(i, pattern.removeprefix("!"))}
        assert hits, f"{pattern} means nothing"
        found = found - hits if pattern.startswith("!") else found | hits
    return found


CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


@check
def eligible(wanted, got: Outcome, shelf):
    assert got.eligible == meant(wanted, shelf)


@check
def among(wanted, got: Outcome, shelf):
    assert meant(wanted, shelf) <= got.eligible


@check
def never(wanted, got: Outcome, shelf):
    assert not meant(wanted, shelf) & got.eligible


@check
def rejected(wanted, got: Outcome, shelf):
    expected = {i: reason for pattern, reason in wanted.items() for i in meant([pattern], shelf)}
    assert {i: (got.rejected or {}).get(i) for i in expected} == expected


@check
def refused(wanted, got: Outcome, shelf):
    assert wanted is (got.decision is None)
    assert len(got.rejected or {}) == len(registry(shelf).deployments)


@check
def chosen(wanted, got: Outcome, shelf):
    assert chosen_of(got).chosen.deployment.id in meant(wanted, shelf)


@check
def no_fallbacks(wanted, got: Outcome, shelf):
    assert wanted is not bool(chosen_of(got).fallbacks)


@check
def fallbacks_among(wanted, got: Outcome, shelf):
    assert fallbacks(got)
    assert set(fallbacks(got)) <= meant(wanted, shelf)


@check
def fallbacks_start(wanted, got: Outcome, shelf):
    for deployment_id, patterns in zip(fallbacks(got), wanted, strict=False):
        assert deployment_id in meant(patterns, shelf)
    assert len(fallbacks(got)) >= len(wanted)


@check
def same_model_first(wanted, got: Outcome, shelf):
    decision = chosen_of(got)
    own = [c.profile.id == decision.chosen.profile.id for c in decision.fallbacks]
    assert any(own), "the case should have such a fallback"
    assert own == sorted(own, reverse=wanted)


@check
def order(wanted, got: Outcome, shelf):
    ranked = [c.deployment.id for c in chosen_of(got).candidates]
    assert [ranked.index(i) for i in wanted] == sorted(ranked.index(i) for i in wanted)


@check
def cheaper(wanted, got: Outcome, shelf):
    costs = {c.deployment.id: c.expected_cost_usd for c in chosen_of(got).candidates}
    for less, more in pairwise(wanted):
        assert costs[less] < costs[more]


@check
def expected_cost_usd(wanted, got: Outcome, shelf):
    costs = {c.deployment.id: c.expected_cost_usd for c in chosen_of(got).candidates}
    assert {i: costs[i] for i in wanted} == {i: Decimal(usd) for i, usd in wanted.items()}


@check
def weights(wanted, got: Outcome, shelf):
    for factor, share in wanted.items():
        assert getattr(chosen_of(got).weights, factor) == pytest.approx(share)


@check
def chosen_propensity(wanted, got: Outcome, shelf):
    assert chosen_of(got).chosen.propensity == pytest.approx(wanted)


@check
def propensity_sum(wanted, got: Outcome, shelf):
    assert sum(c.propensity for c in chosen_of(got).candidates) == pytest.approx(wanted)


@check
def propensity_positive(wanted, got: Outcome, shelf):
    assert wanted is all(c.propensity > 0 for c in chosen_of(got).candidates)


@check
def matched(wanted, got: Outcome, shelf):
    assert list(got.applied.matched) == wanted


@check
def effort(wanted, got: Outcome, shelf):
    assert got.applied.effort == wanted


def chosen_of(got: Outcome) -> Decision:
    assert got.decision is not None, f"refused: {got.rejected}"
    return got.decision


def fallbacks(got: Outcome) -> list[str]:
    return [c.deployment.id for c in chosen_of(got).fallbacks]


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case["id"])
def test_case(case):
    assert case.keys() <= KEYS
    expect = dict(case["expect"])
    assert expect, "a case without expectation shows nothing"
    error = expect.pop("error", None)
    if error is not None:
        with pytest.raises(InvalidRequest) as caught:
            run(case)
        assert {"code": caught.value.code, "param": caught.value.param} == error
        return
    got = run(case)
    if "refused" not in expect:
        chosen_of(got)
    for name, wanted in expect.items():
        CHECKS[name](wanted, got, case["registry"])
    if got.decision is not None:
        again = run(case).decision
        assert again is not None
        assert again.chosen == got.decision.chosen


def test_table_is_large_and_every_case_has_a_name_of_its_own():
    cases = all_cases()
    assert len({case["id"] for case in cases}) == len(cases) >= LEAST_CASES
    assert not [case["id"] for case in cases if case["expect"].keys() - CHECKS.keys() - {"error"}]
    counts = Counter(case["kind"] for case in cases)
    print(f"\n{len(cases)} routing cases")
    for kind, count in sorted(counts.items()):
        print(f"  {kind:28} {count:4}")
