"""Receipts replay: what comes out of a receipt is what was decided, whatever was asked, in this process or another."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.config import REGISTRY_DIRECTORY
from shared.domain.canonical import canonical
from shared.domain.dataclass_json import from_values, to_values
from shared.domain.decisions import Candidate, Decision
from shared.domain.features import AttachmentFeatures, RequestFeatures
from shared.domain.forecasts import FORECAST_SCALE, QualityForecast
from shared.domain.models import Registry
from shared.domain.policy import Policy, RoutingConstraints
from shared.domain.record_bounds import MAX_RECEIPT_BYTES
from shared.domain.security import Finding, SecurityLevel
from shared.scoring.engine import Question
from shared.scoring.receipt import (
    TOO_LARGE,
    Deliberation,
    candidate_columns,
    deliberate,
    digest_of,
    explanation,
    read_receipt,
    receipt_text,
    rejection_columns,
    replay,
    within_bounds,
)
from shared.scoring.snapshot import Signals, Snapshot
from shared.services.receipts import fast_canonical
from shared.stores.registry_files import load_policy, load_registry, parse_kept
from tests.receipt_strategies import deliberations, forecasts, questions, request_features, signals
from tests.unit.routing_builders import features, no_limit

laws = settings(deadline=None, derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
ROOT = Path(__file__).resolve().parents[2]


@laws
@given(deliberations())
def test_a_receipt_gives_the_same_outcome_after_its_way_through_json(made: Deliberation) -> None:
    text = receipt_text(made, fast_canonical)

    receipt = read_receipt(json.loads(text))
    again = replay(receipt, made.snapshot.registry, made.snapshot.policy)

    assert receipt.question == made.question
    assert digest_of(again) == receipt.digest == digest_of(made)
    assert again.decision == made.decision
    assert again.rejections == made.rejections
    assert receipt.chosen == (made.decision.chosen.deployment.id if made.decision else None)


@laws
@given(deliberations())
def test_the_fast_writer_makes_the_same_receipt(made: Deliberation) -> None:
    assert receipt_text(made, fast_canonical) == receipt_text(made)
    assert canonical(json.loads(receipt_text(made))).decode() == receipt_text(made)


@laws
@given(deliberations())
def test_the_digest_is_taken_of_everything_that_the_decision_shows(made: Deliberation) -> None:
    explained = explanation(made)
    assert explained["rejections"] == rejection_columns(made.rejections)
    if made.decision is not None:
        candidates = tuple(made.decision.candidates)
        assert explained["candidates"] == candidate_columns(candidates)
        assert explained["fallbacks"] == [c.deployment.id for c in made.decision.fallbacks]
        assert explained["margin"] == made.decision.margin
        assert explained["rules"] == list(made.decision.rules)
        assert explained["weights"] == to_values(made.decision.weights)


def test_nothing_that_a_decision_depends_on_or_shows_is_left_out() -> None:
    """Whoever adds a field must decide whether receipts hold it, and then change this list."""
    assert {f.name for f in fields(Question)} == {
        "features", "constraints", "service", "stream", "tags", "forecast",
    }  # fmt: skip
    assert {f.name for f in fields(Snapshot)} == {"registry", "policy", "now", "signals", "columns"}
    assert {f.name for f in fields(Decision)} == {
        "chosen", "fallbacks", "candidates", "rejections", "weights", "features", "registry_version", "policy_version",
        "rules", "effort", "forecast",
    }  # fmt: skip
    assert {f.name for f in fields(Candidate)} == {
        "deployment", "profile", "factors", "score", "propensity", "expected_cost_usd", "worst_case_cost_usd",
        "expected_latency_ms", "prompt_tokens", "max_output_tokens", "quality_mean", "quality_std",
    }  # fmt: skip


def shipped() -> tuple[Registry, Policy]:
    registry = load_registry(REGISTRY_DIRECTORY)
    policy = load_policy(REGISTRY_DIRECTORY, registry=registry)
    return registry, replace(policy, exploration=0.2, temperature=0.03)


_OTHER_PROCESS = """
import json, sys
from dataclasses import replace
from shared.scoring.receipt import digest_of, read_receipt, replay
from shared.stores.registry_files import parse_kept
given = json.load(sys.stdin)
registry, policy = parse_kept(given["registry"], given["policy"])
policy = replace(policy, exploration=0.2, temperature=0.03)
receipts = [read_receipt(json.loads(text)) for text in given["receipts"]]
print(json.dumps([digest_of(replay(receipt, registry, policy)) for receipt in receipts]))
"""


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_another_process_with_the_kept_configuration_comes_to_the_same(hash_seed: str) -> None:
    registry, policy = shipped()
    ids = [d.id for d in registry.deployments]
    # One that surely finds a model, beside what is generated.
    worlds = [decided(Question(features(), RoutingConstraints(), "s"))]

    @settings(deadline=None, derandomize=True, max_examples=60, database=None)
    @given(
        questions,
        st.dictionaries(st.sampled_from(ids), signals, max_size=8),
        st.floats(0, 1, exclude_max=True),
        st.none() | forecasts(len(registry.models)),
    )
    def collect(question: Question, seen: dict[str, Signals], draw: float, forecast: QualityForecast | None) -> None:
        now = datetime(2026, 11, 23, 12, tzinfo=UTC)
        # The generated names are not the shipped models'.
        asked = replace(question.constraints, allow_models=frozenset(), model=None)
        question = replace(question, constraints=asked, forecast=forecast)
        worlds.append(deliberate(question, Snapshot(registry, policy, now, seen), draw, no_limit))

    collect()
    texts = [receipt_text(made) for made in worlds]
    request = {"registry": registry.document, "policy": policy.document, "receipts": texts}

    answer = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS],
        input=json.dumps(request),
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert json.loads(answer.stdout) == [json.loads(text)["digest"] for text in texts]
    assert any(made.decision is not None for made in worlds)


def test_the_kept_configuration_is_the_one_in_force() -> None:
    registry = load_registry(REGISTRY_DIRECTORY)
    policy = load_policy(REGISTRY_DIRECTORY, registry=registry)

    kept_registry, kept_policy = parse_kept(registry.document, policy.document)

    assert (kept_registry, kept_policy) == (registry, policy)
    assert (kept_registry.version, kept_policy.version) == (registry.version, policy.version)


@pytest.mark.parametrize("document", ["", "[]", "{", '{"model":[],"deployment":[]}'])
def test_a_kept_document_that_cannot_be_read_is_a_value_error(document: str) -> None:
    with pytest.raises(ValueError):
        parse_kept(document, "{}")


@laws
@given(deliberations())
def test_signals_of_deployments_whose_fate_was_sealed_without_them_are_left_out(made: Deliberation) -> None:
    receipt = read_receipt(json.loads(receipt_text(made)))
    kept = dict(receipt.signals)
    sealed = {r.deployment_id for r in made.rejections if r.reason not in {"cooldown", "latency_cap"}}
    for deployment_id, seen in made.snapshot.signals.items():
        assert (deployment_id in kept) == (seen != Signals() and deployment_id not in sealed)


def decided(question: Question) -> Deliberation:
    registry, policy = shipped()
    return deliberate(question, Snapshot(registry, policy, datetime(2026, 11, 23, 12, tzinfo=UTC)), 0.5, no_limit)


def test_an_ordinary_receipt_is_small_and_holds_no_defaults() -> None:
    text = receipt_text(decided(Question(features(), constraints=RoutingConstraints(), service="s")))
    assert len(text) < 1500
    assert '"constraints":{}' in text


def test_a_forecast_of_200_models_adds_two_kilobytes_at_most() -> None:
    question = Question(features(), constraints=RoutingConstraints(), service="s")
    figures = tuple(range(FORECAST_SCALE - 200, FORECAST_SCALE))
    foreseen = replace(question, forecast=QualityForecast("quality-v1", 9876, figures, figures))

    plain, added = (len(canonical(to_values(q))) for q in (question, foreseen))

    assert added - plain < 2100
    assert from_values(Question, to_values(foreseen)) == foreseen


def test_a_receipt_whose_forecast_was_altered_is_refused_or_cannot_be_decided() -> None:
    registry, _ = shipped()
    figures = (5000,) * len(registry.models)
    question = Question(features(), RoutingConstraints(), "s", forecast=QualityForecast("v", 9000, figures, figures))
    values = json.loads(receipt_text(decided(question)))
    values["question"]["forecast"]["mean"].pop()
    with pytest.raises(ValueError, match="standard deviations"):
        read_receipt(values)

    values["question"]["forecast"]["std"].pop()
    with pytest.raises(ValueError, match="the registry has"):
        replay(read_receipt(values), *shipped())


def test_a_question_too_large_for_the_stores_leaves_its_digest() -> None:
    tags = tuple((f"{number:02}", "\x01" * 512) for number in range(32))
    made = decided(Question(features(), constraints=RoutingConstraints(), service="s", tags=tags))

    receipt = read_receipt(json.loads(receipt_text(made)))

    assert (receipt.omitted, receipt.question, receipt.signals) == (TOO_LARGE, None, ())
    assert (receipt.digest, receipt.chosen) == (digest_of(made), made.decision and made.decision.chosen.deployment.id)
    assert len(json.dumps(receipt_text(made))) <= MAX_RECEIPT_BYTES
    with pytest.raises(ValueError, match="question"):
        replay(receipt, *shipped())


def test_thousands_of_findings_are_cut_to_the_first_of_each_kind_before_the_decision() -> None:
    many = tuple(Finding(f"kind-{n % 3}", SecurityLevel.INTERNAL, "messages[0]", n, n + 1) for n in range(5000))
    attached = AttachmentFeatures("messages[0]", next(iter(features().modalities)), "x" * 5000, None, 1)

    seen = within_bounds(features(findings=many, attachments=(attached,) * 50, security_level=SecurityLevel.INTERNAL))

    assert [f.start for f in seen.findings] == list(range(24))
    assert (len(seen.attachments), len(seen.attachments[0].declared_mime_type)) == (16, 100)
    assert seen.security_level is SecurityLevel.INTERNAL
    assert within_bounds(seen) is seen


@laws
@given(request_features())
def test_features_within_bounds_are_left_alone(request: RequestFeatures) -> None:
    assert within_bounds(request) is request


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "format None"),
        ([], "format None"),
        ({"v": 2}, "format 2 is unknown; this version reads 1"),
        ({"v": True}, "format True"),
        ({"v": 1, "surprise": 1}, "surprise: unknown field"),
        ({"v": 1, "draw": "x"}, "draw: not a number"),
        ({"v": 1, "signals": [["d"]]}, "signals: not 2 values"),
        ({"v": 1, "signals": [["d", {"in_flight": 1.5}]]}, "in_flight: not a int"),
        ({"v": 1, "question": {}}, "question: Question"),
        ({"v": 1, "question": {"service": 1}}, "question: Question.service: not a str"),
        ({"v": 1, "question": {"constraints": {"max_cost_usd": "much"}}}, "max_cost_usd: not an amount"),
        ({"v": 1, "question": {"constraints": {"preset": "best"}}}, "preset"),
        ({"v": 1, "question": {"features": {"findings": [[1] * 9]}}}, "findings: Finding: not an array of at most 6"),
        ({"v": 1, "question": {"features": {"findings": [["email"]]}}}, "findings: Finding"),
        ({"v": 1, "at": "noon"}, "at"),
    ],
)
def test_a_receipt_that_was_made_wrong_is_refused_by_name(values: object, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        read_receipt(values)
    assert message in str(refusal.value)


def test_a_receipt_without_a_time_zone_cannot_be_decided() -> None:
    made = decided(Question(features(), constraints=RoutingConstraints(), service="s"))
    receipt = replace(read_receipt(json.loads(receipt_text(made))), at=datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="offset"):
        replay(receipt, *shipped())
