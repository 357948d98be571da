"""``[health]`` of the policy and the quotas of a deployment, as files bring them."""

import tomllib

import pytest

from shared.config import REGISTRY_DIRECTORY
from shared.domain.health import HealthRules
from shared.stores.health_schema import HealthTable, health_problems
from shared.stores.registry_files import RegistryError, load_policy, load_registry, parse_policy, parse_registry
from tests.unit.test_registry_files import POLICY, documents


def test_the_shipped_policy_states_the_defaults() -> None:
    policy = load_policy(REGISTRY_DIRECTORY, registry=load_registry(REGISTRY_DIRECTORY))
    assert policy.health == HealthRules() == HealthTable().to_domain()
    assert '"health":' in policy.document


def policy_with(**health: object) -> HealthRules:
    return parse_policy({**tomllib.loads(POLICY), "health": health}, parse_registry(documents())).health


def test_every_rule_reaches_the_domain() -> None:
    given = {
        "window_s": 60,
        "minimum_calls": 50,
        "failure_rate": 0.25,
        "slow_rate": 0.9,
        "slow_ttft_ms": 1,
        "slow_call_ms": 2,
        "fair_timeout_ms": 3,
        "open_s": 4,
        "max_open_s": 5,
        "max_cooldown_s": 6,
        "assumed_workers": 7,
    }
    assert policy_with(**given) == HealthRules(**given)


@pytest.mark.parametrize(
    ("health", "message"),
    [
        ({"minimum_calls": 1}, "health.minimum_calls"),
        ({"failure_rate": 0}, "health.failure_rate"),
        ({"failure_rate": 1.1}, "health.failure_rate"),
        ({"open_s": 301}, "health.open_s: is above max_open_s"),
        ({"minimum_calls": 20, "failure_rate": 0.05}, "health.failure_rate: with this minimum_calls"),
        ({"minimum_calls": 10, "slow_rate": 0.1}, "health.slow_rate: with this minimum_calls"),
        ({"windows": 5}, "health.windows"),
    ],
)
def test_a_rule_that_does_not_fit_is_named(health: dict[str, object], message: str) -> None:
    with pytest.raises(RegistryError) as refused:
        policy_with(**health)
    assert message in str(refused.value)


def test_two_failures_are_enough_where_the_rules_say_so() -> None:
    assert not list(health_problems(HealthTable(minimum_calls=3, failure_rate=0.5, slow_rate=0.5)))


def test_a_deployments_quotas_reach_the_domain_and_change_the_version() -> None:
    plain = documents()
    limited = documents()
    limited["a.toml"]["deployment"][0] |= {"requests_per_minute": 60, "tokens_per_minute": 100_000}
    first = parse_registry(limited).deployments[0]
    assert (first.requests_per_minute, first.tokens_per_minute) == (60, 100_000)
    other = parse_registry(plain)
    assert (other.deployments[0].requests_per_minute, other.deployments[0].tokens_per_minute) == (None, None)
    assert other.version != parse_registry(limited).version


@pytest.mark.parametrize("limit", [0, -1, 1.5, "60", True])
def test_a_quota_that_is_no_count_is_refused(limit: object) -> None:
    limited = documents()
    limited["a.toml"]["deployment"][0]["requests_per_minute"] = limit
    with pytest.raises(RegistryError, match=r"requests_per_minute"):
        parse_registry(limited)
