"""Months, cutoffs, and the policy file's tables of threats and retention."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import REGISTRY_DIRECTORY
from shared.domain.retention import RetentionClass, RetentionRules, month_start
from shared.domain.security_events import (
    DEFAULT_THREAT_RULES,
    FindingState,
    Measurement,
    Severity,
    ThreatRule,
    ThreatSignal,
    fires,
    moves,
    window_of,
)
from shared.stores.registry_files import RegistryError, load_registry, parse_policy
from tests.security_builders import NOON, rule

SHELF = load_registry(REGISTRY_DIRECTORY)
WEIGHTS = {"quality": 0.5, "cost": 0.2, "latency": 0.1, "reliability": 0.1, "load": 0.1}
PRESETS = dict.fromkeys(("balanced", "cost", "quality", "latency"), WEIGHTS)


def loaded(**more):
    return parse_policy({"presets": PRESETS, **more}, SHELF)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.integers(0, 600))
def test_a_cutoff_is_a_months_start_and_so_many_months_back(now, months):
    cutoff = month_start(now, -months)
    assert (cutoff.day, cutoff.hour, cutoff.microsecond, cutoff.tzinfo) == (1, 0, 0, UTC)
    assert (now.year - cutoff.year) * 12 + now.month - cutoff.month == months


def test_a_month_is_one_in_utc():
    new_year_in_the_east = datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert month_start(new_year_in_the_east) == datetime(2026, 12, 1, tzinfo=UTC)


def test_classes_have_times_of_their_own():
    rules = RetentionRules()
    cutoffs = {kind.value: rules.cutoff(kind, NOON) for kind in RetentionClass}
    thirteen, twenty_four = datetime(2025, 10, 1, tzinfo=UTC), datetime(2024, 11, 1, tzinfo=UTC)
    assert cutoffs == {"records": thirteen, "audit": twenty_four, "events": thirteen}


def test_a_policy_that_says_nothing_has_the_defaults():
    policy = loaded()
    assert (policy.threats, policy.retention) == (DEFAULT_THREAT_RULES, RetentionRules())


def test_a_policy_may_have_rules_of_its_own_or_none():
    table = {
        "name": "mine",
        "signal": "output_tokens",
        "window_s": 7200,
        "threshold": 9,
        "severity": "low",
        "factor": 2.0,
    }
    policy = loaded(threats=[table], retention={"records_months": 6, "enforced": False})
    assert policy.threats == (ThreatRule("mine", ThreatSignal.OUTPUT_TOKENS, 7200, 9, Severity.LOW, 2.0),)
    assert policy.retention == RetentionRules(records_months=6, enforced=False)
    assert loaded(threats=[]).threats == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"signal": "telepathy"}, "signal"),
        ({"window_s": 59}, "window_s"),
        ({"window_s": 172_801}, "window_s"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": "9"}, "threshold"),
        ({"severity": "huge"}, "severity"),
        ({"factor": 1.0}, "factor"),
        ({"factor": 3.0}, "factor: only usage has a baseline"),
        ({"signal": "requests", "window_s": 5400}, "give whole hours"),
        ({"name": "Not a name"}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_rule_that_does_not_fit_is_named(changes, problem):
    table = {"name": "mine", "signal": "denied_resources", "window_s": 600, "threshold": 9, **changes}
    with pytest.raises(RegistryError, match=problem):
        loaded(threats=[table])


def test_two_rules_of_one_name_are_refused():
    table = {"name": "mine", "signal": "denied_resources", "window_s": 600, "threshold": 9}
    with pytest.raises(RegistryError, match="given more than once"):
        loaded(threats=[table, table])


@pytest.mark.parametrize("retention", [{"records_months": 0}, {"audit_months": 1.5}, {"forever": True}])
def test_a_retention_that_does_not_fit_is_refused(retention):
    with pytest.raises(RegistryError, match=r"retention\."):
        loaded(retention=retention)


@pytest.mark.parametrize(
    ("factor", "value", "baseline", "expected"),
    [
        (None, 10, None, True),
        (None, 9, None, False),
        (5.0, 50, 10.0, True),
        (5.0, 49, 10.0, False),
        (5.0, 9, 0.1, False),
        (5.0, 500, None, False),
        (5.0, 10, 0.0, True),
    ],
)
def test_a_rule_fires_at_its_threshold_and_its_factor(factor, value, baseline, expected):
    one = rule(ThreatSignal.OUTPUT_TOKENS, 10, 3_600, factor=factor)
    assert fires(one, Measurement("t", "p", value, NOON, baseline)) is expected


def test_windows_of_usage_begin_at_full_hours():
    assert window_of(rule(ThreatSignal.REQUESTS, 1, 3_600), NOON) == NOON.replace(hour=11, minute=0)
    assert window_of(rule(ThreatSignal.NETWORKS, 1, 600), NOON) == NOON - timedelta(minutes=10)


def test_findings_move_forwards_only():
    allowed = {(a.value, b.value) for a in FindingState for b in FindingState if moves(a, b)}
    assert allowed == {("open", "acknowledged"), ("open", "resolved"), ("acknowledged", "resolved")}


def test_the_default_rules_obey_what_the_file_demands():
    tables = [
        {
            "name": one.name,
            "signal": one.signal.value,
            "window_s": one.window_s,
            "threshold": one.threshold,
            "severity": one.severity.value,
            **({} if one.factor is None else {"factor": one.factor}),
        }
        for one in DEFAULT_THREAT_RULES
    ]
    assert loaded(threats=tables).threats == DEFAULT_THREAT_RULES
