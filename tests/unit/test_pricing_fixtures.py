"""Golden costs: vendor usage times the registry's dated price, to the last digit."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shared.domain.models import Registry
from shared.domain.pricing import cost_of, to_micro_usd
from shared.domain.replies import Usage
from shared.stores.registry_files import load_registry

HERE = Path(__file__).parent
FIXTURES = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "fixtures_usage").glob("*.json"))}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(HERE.parents[1] / "shared" / "registry")


@pytest.mark.parametrize("fixture", FIXTURES.values(), ids=FIXTURES.keys())
def test_cost_is_exact(fixture: dict[str, Any], registry: Registry):
    model = registry.resolve(fixture["model"])
    assert model is not None
    usage = Usage(**fixture["usage"])
    cost = cost_of(model, usage, day=date.fromisoformat(fixture["day"]), region=fixture["region"])
    assert cost.total_usd == Decimal(fixture["expected_cost_usd"])
    assert Decimal(fixture["arithmetic"][-1].split(" = ")[-1]) == cost.total_usd, "the arithmetic ends in the result"
    assert to_micro_usd(cost.total_usd) >= cost.total_usd * 1_000_000


@pytest.mark.parametrize("fixture", FIXTURES.values(), ids=FIXTURES.keys())
def test_fixture_agrees_with_itself(fixture: dict[str, Any], registry: Registry):
    """Its region is one where the model is deployed, and its usage adds up to the vendor's own total."""
    assert fixture["region"] in {d.region for d in registry.deployments_of(fixture["model"])}
    usage, payload = Usage(**fixture["usage"]), fixture["payload"]
    if fixture["vendor"] == "anthropic":
        counted = payload["usage"]
        total = sum(value for key, value in counted.items() if key.endswith("_tokens"))
    elif fixture["vendor"] == "gemini":
        total = payload["usageMetadata"]["totalTokenCount"]
    else:
        total = payload["usage"]["total_tokens"]
    assert usage.total_tokens == total


def test_every_wire_form_and_trap_is_covered():
    assert {f["vendor"] for f in FIXTURES.values()} == {"gemini", "anthropic", "openai_maas"}
    kinds = {kind for f in FIXTURES.values() for kind in f["usage"]}
    assert kinds == {
        "input_tokens", "input_audio_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_long_tokens",
        "output_tokens", "thinking_tokens",
    }  # fmt: skip
