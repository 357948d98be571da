"""Every hard constraint as a table row: what the request or policy says, and why the candidate falls."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from shared.domain.chat import Modality
from shared.domain.decisions import Rejection, RejectionReason
from shared.domain.models import Capabilities, Lifecycle
from shared.domain.policy import RoutingConstraints, ServicePolicy
from shared.domain.security import SecurityLevel
from shared.scoring.engine import NothingEligible, Question, decide
from shared.scoring.snapshot import Signals
from tests.unit.routing_builders import ABLE, deployment, features, model, no_limit, policy, registry, snapshot

BARE = Capabilities(streaming=False)


def examine(
    request=None,
    wanted=None,
    service=None,
    where=None,
    profile=None,
    *,
    stream=False,
    signals=None,
    limit=no_limit,
):
    """The only deployment of a registry: as a candidate, or as the rejection that it got."""
    profile, where = profile or model(), where or deployment()
    rules = policy(default_service=service or ServicePolicy())
    question = Question(request or features(), wanted or RoutingConstraints(), "svc", stream)
    try:
        return decide(question, snapshot(registry((profile, where)), rules, signals=signals), 0.5, limit).chosen
    except NothingEligible as error:
        (rejection,) = error.rejections
        return rejection


REJECTED = [
    ("switched off", {"where": deployment(enabled=False)}, RejectionReason.DISABLED),
    ("another model named", {"wanted": RoutingConstraints(model="other")}, RejectionReason.NOT_REQUESTED),
    ("service allows others", {"service": ServicePolicy(allow_models=frozenset({"x"}))}, RejectionReason.NOT_ALLOWED),
    (
        "request allows others",
        {"wanted": RoutingConstraints(allow_models=frozenset({"x"}))},
        RejectionReason.NOT_ALLOWED,
    ),
    ("service denies", {"service": ServicePolicy(deny_models=frozenset({"m"}))}, RejectionReason.DENIED),
    ("request denies", {"wanted": RoutingConstraints(deny_models=frozenset({"m"}))}, RejectionReason.DENIED),
    ("above clearance", {"request": features(security_level=SecurityLevel.RESTRICTED)}, RejectionReason.CLEARANCE),
    (
        "above what the service may send",
        {
            "request": features(security_level=SecurityLevel.INTERNAL),
            "service": ServicePolicy(max_level=SecurityLevel.PUBLIC),
        },
        RejectionReason.CLEARANCE,
    ),
    ("service stays in us", {"service": ServicePolicy(residency=frozenset({"us"}))}, RejectionReason.RESIDENCY),
    ("request stays in us", {"wanted": RoutingConstraints(residency=frozenset({"us"}))}, RejectionReason.RESIDENCY),
    (
        "both zones must hold, not one of them",
        {
            "service": ServicePolicy(residency=frozenset({"eu"})),
            "wanted": RoutingConstraints(residency=frozenset({"us"})),
        },
        RejectionReason.RESIDENCY,
    ),
    (
        "a deployment that reaches beyond the zone",
        {
            "where": deployment(residency=frozenset({"eu", "us"})),
            "wanted": RoutingConstraints(residency=frozenset({"eu"})),
        },
        RejectionReason.RESIDENCY,
    ),
    (
        "a deployment of unknown residency",
        {"where": deployment(residency=frozenset()), "wanted": RoutingConstraints(residency=frozenset({"eu"}))},
        RejectionReason.RESIDENCY,
    ),
    (
        "retires today",
        {"profile": model(lifecycle=Lifecycle(retires_on=date(2026, 11, 23)))},
        RejectionReason.LIFECYCLE,
    ),
    (
        "comes tomorrow",
        {"profile": model(lifecycle=Lifecycle(available_from=date(2026, 11, 24)))},
        RejectionReason.LIFECYCLE,
    ),
    (
        "cooling down",
        {"signals": {"m@europe-west4": Signals(cooling_down=True)}},
        RejectionReason.COOLDOWN,
    ),
    (
        "audio to a model without ears",
        {"request": features(modalities=frozenset({Modality.TEXT, Modality.AUDIO}))},
        RejectionReason.MODALITY,
    ),
    ("tools", {"request": features(needs_tools=True), "profile": model(capabilities=BARE)}, RejectionReason.TOOLS),
    (
        "schema",
        {"request": features(needs_json_schema=True), "profile": model(capabilities=BARE)},
        RejectionReason.JSON,
    ),
    ("JSON", {"request": features(needs_json_object=True), "profile": model(capabilities=BARE)}, RejectionReason.JSON),
    ("media by URI", {"request": features(needs_media_uris=True)}, RejectionReason.MEDIA_URI),
    ("stream", {"profile": model(capabilities=BARE), "stream": True}, RejectionReason.STREAMING),
    ("wire form", {"limit": lambda profile, where: "top_k: not taken"}, RejectionReason.PROVIDER_LIMIT),
    ("prompt too long", {"request": features(prompt_tokens=100_000)}, RejectionReason.CONTEXT_WINDOW),
    (
        "prompt and answer too long together",
        {"request": features(prompt_tokens=95_000, max_output_tokens=6_000)},
        RejectionReason.CONTEXT_WINDOW,
    ),
    ("answer too long", {"request": features(max_output_tokens=8_001)}, RejectionReason.OUTPUT_LIMIT),
    ("service's cap", {"service": ServicePolicy(max_cost_usd=Decimal("0.001"))}, RejectionReason.COST_CAP),
    ("request's cap", {"wanted": RoutingConstraints(max_cost_usd=Decimal("0.001"))}, RejectionReason.COST_CAP),
    ("too slow", {"wanted": RoutingConstraints(max_latency_ms=2_299.0)}, RejectionReason.LATENCY_CAP),
]


@pytest.mark.parametrize(("case", "arguments", "reason"), REJECTED, ids=[row[0] for row in REJECTED])
def test_each_hard_constraint_drops_the_candidate(case, arguments, reason):
    outcome = examine(**arguments)
    assert isinstance(outcome, Rejection)
    assert outcome.reason is reason
    assert outcome.detail


PASSED = [
    ("plain", {}),
    ("exactly the clearance", {"request": features(security_level=SecurityLevel.CONFIDENTIAL)}),
    ("named", {"wanted": RoutingConstraints(model="m")}),
    ("another named, fallback allowed", {"wanted": RoutingConstraints(model="x", allow_fallback=True)}),
    ("one of two zones", {"wanted": RoutingConstraints(residency=frozenset({"eu", "us"}))}),
    (
        "a schema model gives JSON",
        {
            "request": features(needs_json_object=True),
            "profile": model(capabilities=replace(ABLE, json_object=False)),
        },
    ),
    ("retires tomorrow", {"profile": model(lifecycle=Lifecycle(retires_on=date(2026, 11, 24)))}),
    ("exactly the output limit", {"request": features(max_output_tokens=8_000)}),
    ("exactly the latency cap", {"wanted": RoutingConstraints(max_latency_ms=2_300.0)}),
    ("text that fills the window", {"request": features(prompt_tokens=99_999)}),
]


@pytest.mark.parametrize(("case", "arguments"), PASSED, ids=[row[0] for row in PASSED])
def test_what_obeys_every_constraint_passes(case, arguments):
    assert not isinstance(examine(**arguments), Rejection)


def test_worst_case_is_longest_prompt_and_answer_at_full_price():
    load = examine(request=features(prompt_tokens=1_000, max_output_tokens=500))
    # 1,000 x 1.25 + 1 prompt tokens at 1 USD and 500 answer tokens at 4 USD per million
    assert load.worst_case_cost_usd == Decimal("0.003251")
    assert load.expected_cost_usd == Decimal("0.0018")


def test_a_denser_tokenizer_counts_more_prompt_tokens():
    load = examine(profile=model(chars_per_token=2.0), request=features(prompt_tokens=101))
    assert load.prompt_tokens == 202


def test_default_answer_length_shrinks_to_the_window():
    load = examine(request=features(prompt_tokens=99_990), service=ServicePolicy())
    assert load.max_output_tokens == 10
    assert policy().default_max_output_tokens > 10
