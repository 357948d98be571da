"""``[quality]`` and ``[balancing]`` of the policy file: defaults, what reaches the domain, what is refused by name."""

import tomllib

import pytest

from shared.config import REGISTRY_DIRECTORY
from shared.domain.policy import Balancing, Policy, Preset, QualityRules, UnknownTask
from shared.stores.registry_files import RegistryError, load_policy, load_registry, parse_policy

PRESETS = """
[presets]
balanced = { quality = 1, cost = 1, latency = 1, reliability = 1, load = 1 }
cost = { quality = 0, cost = 1, latency = 0, reliability = 0, load = 0 }
quality = { quality = 1, cost = 0, latency = 0, reliability = 0, load = 0 }
latency = { quality = 0, cost = 0, latency = 1, reliability = 0, load = 0 }
"""
SHELF = load_registry(REGISTRY_DIRECTORY)


def read(text: str) -> Policy:
    return parse_policy(tomllib.loads(PRESETS + text), SHELF)


def test_what_is_not_given_is_as_in_the_domain():
    for text in ("", "[quality]\n[balancing]\n"):
        assert read(text).quality == QualityRules()
        assert read(text).balancing == Balancing()


def test_the_shipped_file_spells_the_defaults_out():
    shipped = load_policy(REGISTRY_DIRECTORY, registry=SHELF)
    assert (shipped.quality, shipped.balancing) == (QualityRules(), Balancing())


def test_every_field_reaches_the_domain():
    policy = read("""
    [quality]
    learned = false
    caution = 1.5
    guarded = ["quality"]
    unknown_by = ["familiarity"]
    familiar_from = 0.25
    [balancing]
    enabled = false
    tolerance = 0.1
    """)
    assert policy.quality == QualityRules(
        learned=False,
        caution=1.5,
        guarded=frozenset({Preset.QUALITY}),
        unknown_by=frozenset({UnknownTask.FAMILIARITY}),
        familiar_from=0.25,
    )
    assert policy.balancing == Balancing(enabled=False, tolerance=0.1)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[quality]\ncaution = -0.1", "quality.caution"),
        ("[quality]\ncaution = nan", "quality.caution"),
        ("[quality]\nfamiliar_from = 1.0", "quality.familiar_from"),
        ('[quality]\nguarded = ["best"]', "quality.guarded[0]"),
        ('[quality]\nguarded = ["cost"]', "quality.guarded: preset cost gives quality no weight"),
        ('[quality]\nunknown_by = ["length"]', "quality.unknown_by[0]"),
        ('[quality]\nlearned = "yes"', "quality.learned"),
        ("[quality]\nlearnt = true", "quality.learnt"),
        ("[balancing]\ntolerance = 1.1", "balancing.tolerance"),
        ("[balancing]\nenabled = 1", "balancing.enabled"),
    ],
)
def test_a_mistake_is_refused_with_its_key(text: str, key: str):
    with pytest.raises(RegistryError) as caught:
        read(text)
    assert len(caught.value.problems) == 1
    assert key in caught.value.problems[0]
