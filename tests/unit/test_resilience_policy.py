"""`[retries]`, `[hedging]` and `[cascade]` of the policy file reach the domain, or are refused by name."""

import tomllib

import pytest

from shared.config import REGISTRY_DIRECTORY
from shared.domain.policy import Preset
from shared.domain.resilience import CascadePolicy, HedgePolicy, RetryPolicy
from shared.stores.registry_files import RegistryError, load_registry, parse_policy

SHIPPED = load_registry(REGISTRY_DIRECTORY)
BASE = tomllib.loads((REGISTRY_DIRECTORY / "policy.toml").read_text())


def parsed(**sections):
    return parse_policy({**BASE, **sections}, SHIPPED)


def test_without_a_section_its_defaults_hold():
    bare = {key: value for key, value in BASE.items() if key not in {"retries", "hedging", "cascade"}}
    policy = parse_policy(bare, SHIPPED)
    assert (policy.retries, policy.hedging, policy.cascade) == (RetryPolicy(), HedgePolicy(), CascadePolicy())


def test_the_shipped_file_says_the_defaults():
    policy = parsed()
    assert (policy.retries, policy.hedging, policy.cascade) == (RetryPolicy(), HedgePolicy(), CascadePolicy())


def test_sections_reach_the_domain_with_aliases_resolved():
    alias, model_id = next(iter(SHIPPED.aliases.items()))
    policy = parsed(
        retries={"share": 0.1, "content_filter_fallback": True},
        hedging={"presets": ["latency"], "services": ["checkout"], "share": 0.02},
        cascade={"presets": ["cost"], "judge": alias, "samples": 3},
    )
    assert policy.retries == RetryPolicy(share=0.1, content_filter_fallback=True)
    assert policy.hedging.presets == {Preset.LATENCY}
    assert (policy.hedging.services, policy.hedging.share) == ({"checkout"}, 0.02)
    assert (policy.cascade.judge, policy.cascade.samples) == (model_id, 3)


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"retries": {"backoff_first_s": 9.0, "backoff_most_s": 1.0}}, "retries.backoff_first_s"),
        ({"retries": {"attempt_share": 0}}, "retries.attempt_share"),
        ({"retries": {"idle_timeout_s": float("inf")}}, "retries.idle_timeout_s"),
        ({"retries": {"shares": 1}}, "retries.shares"),
        ({"hedging": {"share": 1.5}}, "hedging.share"),
        ({"hedging": {"presets": ["fast"]}}, "hedging.presets[0]"),
        ({"cascade": {"judge": "no-such-model"}}, "cascade.judge"),
        ({"cascade": {"samples": 0}}, "cascade.samples"),
        ({"cascade": {"samples": 50}}, "cascade.samples"),
    ],
)
def test_what_does_not_fit_is_named(sections, named):
    with pytest.raises(RegistryError) as caught:
        parsed(**sections)
    assert any(named in problem for problem in caught.value.problems)
