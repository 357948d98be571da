"""Which rules match and what they make of a request. The labelled routing cases show the same through a decision."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.chat import Modality, ReasoningEffort
from shared.domain.errors import InvalidRequest
from shared.domain.features import Category
from shared.domain.policy import CallerLimits, Preset, RoutingConstraints, Weights
from shared.domain.rules import (
    Actions,
    Between,
    Condition,
    During,
    EveryOf,
    OneOf,
    Rule,
    ServiceLike,
    SomeOf,
    Streamed,
    Tagged,
)
from shared.domain.security import SecurityLevel
from shared.scoring.engine import NothingEligible, Question, decide
from shared.scoring.rules import Applied, apply, require_within_limits
from tests.unit.routing_builders import NOW, deployment, features, model, no_limit, policy, registry, snapshot

QUALITY_ONLY = Weights(1, 0, 0, 0, 0)


def question(wanted=None, service="svc", stream=False, tags=(), **changes):
    return Question(features(**changes), wanted or RoutingConstraints(), service, stream, tags)


def rule(name="r", priority=0, when=None, **actions):
    return Rule(name, priority, when or Condition(), Actions(**actions))


def applied(*rules, wanted=None, now=NOW, **asked) -> Applied:
    return apply(policy(rules=rules).rules, question(wanted, **asked), now)


def holds(*clauses, now=NOW, **asked):
    return applied(Rule("r", 0, Condition(clauses)), now=now, **asked).matched == ("r",)


CLAUSES = [
    ("category", OneOf("category", frozenset({"math"})), {"category": Category.MATH}, {}),
    ("language", OneOf("language", frozenset({"de", "fr"})), {"language": "fr"}, {"language": "en"}),
    ("complexity", Between("complexity", 0.7), {"complexity": 0.7}, {"complexity": 0.69}),
    ("tokens", Between("prompt_tokens", maximum=100), {"prompt_tokens": 100}, {"prompt_tokens": 101}),
    (
        "level",
        Between("security_level", 2),
        {"security_level": SecurityLevel.RESTRICTED},
        {"security_level": SecurityLevel.INTERNAL},
    ),
    (
        "some modality",
        SomeOf("modality", frozenset({"audio", "video"})),
        {"modalities": frozenset({Modality.TEXT, Modality.VIDEO})},
        {"modalities": frozenset({Modality.TEXT, Modality.IMAGE})},
    ),
    (
        "every modality",
        EveryOf("modality", frozenset({"text", "image"})),
        {"modalities": frozenset(Modality)},
        {"modalities": frozenset({Modality.IMAGE})},
    ),
    ("JSON by schema", EveryOf("needs", frozenset({"json"})), {"needs_json_schema": True}, {"needs_tools": True}),
    ("schema", EveryOf("needs", frozenset({"json_schema"})), {"needs_json_schema": True}, {"needs_json_object": True}),
    ("system", EveryOf("needs", frozenset({"system"})), {"needs_system": True}, {}),
    ("addresses", EveryOf("needs", frozenset({"media_uris"})), {"needs_media_uris": True}, {}),
    ("service", ServiceLike(frozenset({"a"})), {"service": "a"}, {"service": "ab"}),
    ("service pattern", ServiceLike(patterns=("a-?-*",)), {"service": "a-1-x"}, {"service": "a-12-x"}),
    ("dots are dots", ServiceLike(patterns=("a.*",)), {"service": "a.b"}, {"service": "axb"}),
    ("tag", Tagged("team", frozenset({"x", "y"})), {"tags": (("team", "y"),)}, {"tags": (("squad", "y"),)}),
    ("stream", Streamed(wanted=True), {"stream": True}, {}),
    ("no stream", Streamed(wanted=False), {}, {"stream": True}),
]


@pytest.mark.parametrize(("case", "clause", "met", "unmet"), CLAUSES, ids=[row[0] for row in CLAUSES])
def test_clause(case, clause, met, unmet):
    assert holds(clause, **met)
    assert not holds(clause, **unmet)


def test_window_over_midnight_belongs_to_the_day_it_opens_on():
    friday = During(frozenset({4}), 22 * 60, 6 * 60, timezone(timedelta(hours=2)))
    for instant, inside in [
        ("2026-11-27T19:59:59", False),
        ("2026-11-27T20:00:00", True),
        ("2026-11-28T03:59:59", True),
        ("2026-11-28T04:00:00", False),
        ("2026-11-28T20:30:00", False),
        ("2026-11-27T02:00:00", False),
    ]:
        assert holds(friday, now=datetime.fromisoformat(instant).replace(tzinfo=UTC)) is inside, instant


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        applied(rule(), now=datetime(2026, 1, 1))


def test_no_match_leaves_the_request_as_it_is():
    wanted = RoutingConstraints(max_cost_usd=Decimal(1))
    nobody = rule(when=Condition((ServiceLike(frozenset({"other"})),)), deny_models=frozenset({"m"}))
    assert applied(nobody, wanted=wanted) == Applied(wanted)


def test_restrictions_add_up_and_settings_are_the_first_ones():
    got = applied(
        rule("late", 1, deny_models=frozenset({"x"}), cap_cost_usd=Decimal(2), preset=Preset.COST, prefer={"m": 0.5}),
        rule(
            "early",
            2,
            allow_models=frozenset({"m", "n"}),
            cap_cost_usd=Decimal(3),
            weights=QUALITY_ONLY,
            max_level=SecurityLevel.INTERNAL,
            prefer={"m": 0.1, "n": 0.2},
            effort=ReasoningEffort.LOW,
        ),
        rule("last", 0, effort=ReasoningEffort.HIGH, residency=frozenset({"eu"}), max_level=SecurityLevel.RESTRICTED),
        wanted=RoutingConstraints(deny_models=frozenset({"y"}), residency=frozenset({"eu", "us"})),
    )
    assert got.matched == ("early", "late", "last")
    assert got.constraints == RoutingConstraints(
        allow_models=frozenset({"m", "n"}),
        deny_models=frozenset({"x", "y"}),
        residency=frozenset({"eu"}),
        max_cost_usd=Decimal(2),
        max_level=SecurityLevel.INTERNAL,
        weights=QUALITY_ONLY,
    )
    assert got.prefer == {"m": 0.1, "n": 0.2}
    assert got.effort is ReasoningEffort.LOW
    assert ("max_level", "early") in got.sources
    assert got.overruled == (("weights", "late"), ("prefer.m", "late"), ("effort", "last"))


def test_first_pin_counts():
    got = applied(rule("a", 1, pin_model="m"), rule("b", 0, pin_deployment="n@eu"))
    assert got.constraints.allow_models == {"m"}
    assert got.constraints.deployment is None
    assert got.overruled == (("pin", "b"),)
    assert applied(rule("b", pin_deployment="n@eu")).constraints.deployment == "n@eu"


def test_restrictions_that_exclude_each_other_leave_nothing_rather_than_everything():
    wanted = RoutingConstraints(allow_models=frozenset({"m"}), residency=frozenset({"us"}))
    got = applied(rule(allow_models=frozenset({"n"}), residency=frozenset({"eu"})), wanted=wanted).constraints
    shelf = registry((model("m"), deployment("m")), (model("n"), deployment("n")))
    for left in (RoutingConstraints(allow_models=got.allow_models), RoutingConstraints(residency=got.residency)):
        with pytest.raises(NothingEligible):
            decide(Question(features(), left, "svc"), snapshot(shelf), 0.5, no_limit)


def test_equal_priorities_keep_the_order_of_the_file_and_stop_ends_it():
    rules = [rule("a", 1), rule("b", 1, stop=True), rule("c", 1), rule("d", 2)]
    assert applied(*rules).matched == ("d", "a", "b")


def test_order_of_the_file_does_not_matter_between_priorities():
    rules = [
        rule("a", 3, pin_model="m", prefer={"m": 0.1}),
        rule("b", 2, pin_model="n", preset=Preset.COST),
        rule("c", 1, preset=Preset.QUALITY, stop=True),
        rule("d", 0, deny_models=frozenset({"m"})),
    ]
    assert len({str(applied(*order)) for order in permutations(rules)}) == 1


def test_the_requests_own_weights_stand():
    for own in (RoutingConstraints(preset=Preset.COST), RoutingConstraints(weights=QUALITY_ONLY)):
        got = applied(rule("r", preset=Preset.LATENCY), wanted=own)
        assert got.constraints == own
        assert got.overruled == (("weights", "r"),)


def test_preferences_keep_scores_in_bounds_and_add_up_in_order():
    got = applied(rule(prefer={"m": 0.5, "n": 0.2}))
    assert Applied(RoutingConstraints()).score(0.7, "m") == 0.7
    scores = {base: {m: got.score(base, m) for m in ("m", "n", "o")} for base in (0.0, 0.3, 0.5, 1.0)}
    assert all(0.0 <= score <= 1.0 for row in scores.values() for score in row.values())
    assert scores[0.0]["m"] == pytest.approx(scores[0.5]["o"])
    assert scores[0.3]["n"] == pytest.approx(scores[0.5]["o"])


@pytest.mark.parametrize(
    ("wanted", "limits", "param"),
    [
        (RoutingConstraints(model="m"), CallerLimits(pin=False), "model"),
        (RoutingConstraints(preset=Preset.COST), CallerLimits(presets=frozenset()), "preset"),
        (RoutingConstraints(weights=QUALITY_ONLY), CallerLimits(weights=False), "weights"),
        (
            RoutingConstraints(weights=Weights(6, 4, 0, 0, 0)),
            CallerLimits(weight_ranges={"cost": (0.5, 1.0)}),
            "weights.cost",
        ),
    ],
)
def test_what_callers_may_not_ask_for_is_refused_with_its_field(wanted, limits, param):
    with pytest.raises(InvalidRequest) as caught:
        require_within_limits(wanted, limits)
    assert (caught.value.code, caught.value.param) == ("policy_limit", param)
    require_within_limits(wanted, CallerLimits())
    require_within_limits(RoutingConstraints(), limits)


# --- properties, through the decision itself --------------------------------------------------------------------------

MODELS = ("m0", "m1", "m2")
SHELF = registry(
    *(
        (
            model(name, price=str(index + 1), quality=0.6 + index / 10),
            deployment(name, region, residency=frozenset({zone}), clearance=level),
        )
        for index, name in enumerate(MODELS)
        for region, zone, level in (
            ("europe-west4", "eu", SecurityLevel.RESTRICTED),
            ("us-central1", "us", SecurityLevel.CONFIDENTIAL),
            ("global", "global", SecurityLevel.PUBLIC),
        )
    )
)
some_models = st.frozensets(st.sampled_from(MODELS), min_size=1)
caps = st.decimals("0.001", "0.1", places=3)
zones = st.frozensets(st.sampled_from(["eu", "us", "global"]), min_size=1)
actions = st.builds(
    Actions,
    allow_models=st.none() | some_models,
    deny_models=st.frozensets(st.sampled_from(MODELS)),
    prefer=st.dictionaries(st.sampled_from(MODELS), st.floats(0.01, 0.5)),
    pin_model=st.none() | st.sampled_from(MODELS),
    pin_deployment=st.none() | st.sampled_from([d.id for d in SHELF.deployments]),
    preset=st.none() | st.sampled_from(Preset),
    effort=st.none() | st.sampled_from(ReasoningEffort),
    cap_cost_usd=st.none() | caps,
    max_level=st.none() | st.sampled_from(SecurityLevel),
    residency=st.none() | zones,
    stop=st.booleans(),
)
conditions = st.sampled_from(
    [
        Condition(),
        Condition((OneOf("category", frozenset({"question_answering"})),)),
        Condition((OneOf("category", frozenset({"math"})),)),
        Condition((Between("security_level", 1),)),
        Condition(none_of=((Between("security_level", 2),),)),
    ]
)
rule_lists = st.lists(st.tuples(st.integers(0, 3), conditions, actions), max_size=5).map(
    lambda rows: tuple(Rule(f"r{i}", *row) for i, row in enumerate(rows))
)
requests = st.builds(
    RoutingConstraints,
    allow_models=st.just(frozenset()) | some_models,
    residency=st.just(frozenset()) | zones,
    max_cost_usd=st.none() | caps,
)
levels = st.sampled_from(SecurityLevel)


def eligible(rules, wanted, level):
    asked = Question(features(security_level=level), wanted, "svc")
    try:
        decision = decide(asked, snapshot(SHELF, policy(rules=rules)), 0.5, no_limit)
    except NothingEligible:
        return set()
    return {c.deployment.id for c in decision.candidates}


@given(rules=rule_lists, wanted=requests, level=levels)
@settings(max_examples=150, deadline=None)
def test_rules_never_widen_what_a_request_may_reach(rules, wanted, level):
    assert eligible(rules, wanted, level) <= eligible((), wanted, level)


@given(rules=rule_lists, wanted=requests, level=levels, denied=some_models, priority=st.integers(0, 3), when=conditions)
@settings(max_examples=150, deadline=None)
def test_one_more_denial_never_adds_a_candidate(rules, wanted, level, denied, priority, when):
    more = (*rules, Rule("deny", priority, when, Actions(deny_models=denied)))
    assert eligible(more, wanted, level) <= eligible(rules, wanted, level)


@given(rules=rule_lists, wanted=requests, level=levels)
@settings(max_examples=150, deadline=None)
def test_rules_only_tighten_and_say_the_same_twice(rules, wanted, level):
    book = policy(rules=rules).rules
    asked = Question(features(security_level=level), wanted, "svc")
    got = apply(book, asked, NOW)
    assert apply(book, asked, NOW) == got
    now = got.constraints
    for before, after in ((wanted.allow_models, now.allow_models), (wanted.residency, now.residency)):
        real = after & {*MODELS, "eu", "us", "global"}
        assert not before or real <= before
        assert after or not before
    assert now.deny_models >= wanted.deny_models
    assert now.max_level <= wanted.max_level
    assert wanted.max_cost_usd is None or (now.max_cost_usd is not None and now.max_cost_usd <= wanted.max_cost_usd)
    untouched = {f.name for f in fields(wanted)} - {
        "allow_models", "deny_models", "residency", "max_cost_usd", "max_level", "preset", "weights", "deployment",
    }  # fmt: skip
    assert all(getattr(now, name) == getattr(wanted, name) for name in untouched)
    assert set(got.matched) >= {name for _, name in (*got.sources, *got.overruled)}


@given(rules=rule_lists, seed=st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_only_the_order_within_a_priority_matters(rules, seed):
    apart = [replace(each, priority=index) for index, each in enumerate(rules)]
    shuffled = list(apart)
    seed.shuffle(shuffled)
    assert applied(*apart) == applied(*shuffled)
