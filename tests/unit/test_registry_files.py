"""The loader: what it accepts, and that it refuses everything else by name, all at once."""

import copy
import tomllib
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shared.domain.chat import Modality
from shared.domain.models import EndpointFormat, ProviderKind
from shared.domain.policy import Preset
from shared.domain.security import SecurityLevel
from shared.stores.registry_files import RegistryError, load_policy, load_registry, parse_policy, parse_registry

MODEL = """
[[model]]
id = "small"
publisher = "acme"
display_name = "Small"
aliases = ["small@001"]
context_window_tokens = 1_000
max_output_tokens = 500
lifecycle = { available_from = 2026-10-01, deprecated_on = 2027-01-01, retires_on = 2027-06-01 }
[model.capabilities]
modalities = ["text", "image"]
tools = true
[model.latency]
ttft_ms = 300
tokens_per_s = 80.5
source = "measured"
[[model.price]]
effective_from = 2026-10-01
source = "https://example.com/prices"
region_multipliers = { global = "1", "*" = "1.1" }
tiers = [{ input = "0.10", output = "0.50" }, { input = "0.5", output = "2.5", above_prompt_tokens = 100 }]
[[model.price]]
effective_from = 2027-01-01
source = "https://example.com/next"
tiers = [{ input = "0.2", output = "1", cache_read = "0.02" }]
[[model.quality]]
categories = ["overall", "math"]
mean = 0.7
weight = 5
source = "assumption"
"""
DEPLOYMENT = """
[[deployment]]
id = "small@eu"
model = "small"
provider = "gemini"
target = "small"
region = "eu"
residency = ["eu"]
clearance = "confidential"
"""
ENDPOINT = """
[[deployment]]
id = "own"
model = "small"
provider = "custom"
target = "1001"
region = "europe-west4"
residency = ["eu"]
clearance = "restricted"
endpoint_format = "predict"
dedicated_host = "1001.europe-west4.prediction.example.com"
project = "acme-prod"
weight = 2
options = { answer = ["predictions", 0, "text"] }
"""
POLICY = """
default_preset = "cost"
exploration = 0.05
[presets]
balanced = { quality = 1, cost = 1, latency = 1, reliability = 1, load = 1 }
cost = { quality = 0, cost = 1, latency = 0, reliability = 0, load = 0 }
quality = { quality = 1, cost = 0, latency = 0, reliability = 0, load = 0 }
latency = { quality = 0, cost = 0, latency = 1, reliability = 0, load = 0 }
[services.claims]
allow_models = ["small@001"]
residency = ["eu"]
max_level = "internal"
max_cost_usd = "0.05"
preset = "quality"
"""

Change = Callable[[dict[str, Any]], object]


def documents(text: str = MODEL + DEPLOYMENT + ENDPOINT) -> dict[str, Any]:
    return {"a.toml": tomllib.loads(text)}


def problems_after(change: Change) -> tuple[str, ...]:
    changed = copy.deepcopy(documents())
    change(changed["a.toml"])
    with pytest.raises(RegistryError) as caught:
        parse_registry(changed)
    return caught.value.problems


def policy_problems_after(change: Change) -> tuple[str, ...]:
    document = tomllib.loads(POLICY)
    change(document)
    with pytest.raises(RegistryError) as caught:
        parse_policy(document, parse_registry(documents()))
    return caught.value.problems


def test_every_field_reaches_the_domain():
    registry = parse_registry(documents())
    model = registry.models["small"]
    assert (model.publisher, model.display_name, model.context_window_tokens, model.max_output_tokens) == (
        "acme", "Small", 1000, 500,
    )  # fmt: skip
    assert model.capabilities.modalities == {Modality.TEXT, Modality.IMAGE}
    assert model.capabilities.tools
    assert not model.capabilities.thinking
    assert model.lifecycle.retires_on == date(2027, 6, 1)
    assert model.lifecycle.deprecated_on == date(2027, 1, 1)
    assert (model.ttft_ms, model.tokens_per_s, model.chars_per_token) == (300, 80.5, 4.0)
    first, second = model.prices
    assert first.region_multipliers == {"global": Decimal(1), "*": Decimal("1.1")}
    assert [tier.above_prompt_tokens for tier in first.tiers] == [0, 100]
    assert first.tiers[1].rates.output == Decimal("2.5")
    assert second.tiers[0].rates.cache_read == Decimal("0.02")
    assert model.price_source == "https://example.com/prices; https://example.com/next"
    assert model.quality["math"].mean == 0.7
    assert model.quality["overall"].source == "assumption"
    assert registry.resolve("small@001") is model
    own = registry.deployments[1]
    assert (own.id, own.model_id, own.provider, own.target) == ("own", "small", ProviderKind.CUSTOM, "1001")
    assert own.endpoint_format is EndpointFormat.PREDICT
    assert own.clearance is SecurityLevel.RESTRICTED
    assert own.residency == {"eu"}
    assert own.options == {"answer": ["predictions", 0, "text"]}
    assert (own.dedicated_host, own.project, own.weight) == (
        "1001.europe-west4.prediction.example.com", "acme-prod", 2.0,
    )  # fmt: skip


def test_version_ignores_comments_spacing_key_order_and_file_boundaries():
    whole = parse_registry(documents())
    lines = MODEL.strip().splitlines()
    header, body = lines[:1], lines[1:8]
    reordered = "\n".join(header + body[::-1] + lines[8:])
    commented = "# a remark\n\n" + reordered.replace(" = ", "   =  ") + "\n# the end"
    split = parse_registry({"z.toml": tomllib.loads(commented), "y.toml": tomllib.loads(DEPLOYMENT + ENDPOINT)})
    assert split.version == whole.version
    assert len(whole.version) == 64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('input = "0.10"', 'input = "0.11"'),
        ("mean = 0.7", "mean = 0.71"),
        ('clearance = "confidential"', 'clearance = "internal"'),
    ],
)
def test_version_changes_with_any_figure(old, new):
    text = MODEL + DEPLOYMENT + ENDPOINT
    assert old in text
    assert parse_registry(documents(text.replace(old, new))).version != parse_registry(documents()).version


def _model(d: dict[str, Any]) -> dict[str, Any]:
    return d["model"][0]


REGISTRY_MISTAKES: list[tuple[str, Change, str]] = [
    ("unknown top-level key", lambda d: d.update(modle=[]), "a.toml: modle: unknown key"),
    ("not an array of tables", lambda d: d.update(model={}), "a.toml: model: must be an array"),
    ("entry is no table", lambda d: d.update(deployment=["x"]), "a.toml: deployment[0]: "),
    ("unknown key", lambda d: _model(d).update(prize=1), "a.toml: model[small].prize: Extra inputs"),
    ("float price", lambda d: _model(d)["price"][0]["tiers"][0].update(input=0.1), "model[small].price[0].tiers[0].input: Value error, write prices as text"),
    ("price is no number", lambda d: _model(d)["price"][0]["tiers"][0].update(input="cheap"), "tiers[0].input: Value error, not a decimal number"),
    ("price not finite", lambda d: _model(d)["price"][0]["tiers"][0].update(output="NaN"), "price[0].tiers[0].output: "),
    ("negative price", lambda d: _model(d)["price"][0]["tiers"][0].update(output="-1"), "tiers[0].output: Input should be greater than or equal to 0"),
    ("negative tokens", lambda d: _model(d).update(context_window_tokens=-1), "context_window_tokens: Input should be greater"),
    ("number as text", lambda d: _model(d).update(max_output_tokens="500"), "max_output_tokens: Input should be a valid integer"),
    ("quality above one", lambda d: _model(d)["quality"][0].update(mean=1.2), "quality[0].mean: Input should be less than or equal to 1"),
    ("quality not a number", lambda d: _model(d)["quality"][0].update(mean=float("nan")), "quality[0].mean: "),
    ("quality of an unknown category", lambda d: _model(d)["quality"][0].update(categories=["overall", "magic"]), "quality[0].categories[1]: Value error, must be one of"),
    ("overall missing", lambda d: _model(d)["quality"][0].update(categories=["math"]), "model[small].quality: the category 'overall' is missing"),
    ("category twice", lambda d: _model(d)["quality"][0].update(categories=["overall", "math", "math"]), "the category 'math' is given more than once"),
    ("price gap", lambda d: _model(d)["lifecycle"].update(available_from=date(2026, 9, 30)), "model[small].price: the first period starts on 2026-10-01"),
    ("periods out of order", lambda d: _model(d)["price"].reverse(), "price: periods must be in ascending order"),
    ("no price", lambda d: _model(d).update(price=[]), "model[small].price: List should have at least 1 item"),
    ("tiers not ascending", lambda d: _model(d)["price"][0]["tiers"][1].update(above_prompt_tokens=0), "price[0].tiers: above_prompt_tokens must ascend"),
    ("first tier above zero", lambda d: _model(d)["price"][1]["tiers"][0].update(above_prompt_tokens=5), "price[1].tiers: the first tier must apply above 0"),
    ("higher tier cheaper", lambda d: _model(d)["price"][0]["tiers"][1].update(input="0.01"), "the tier above 100 tokens is cheaper"),
    ("multiplier zero", lambda d: _model(d)["price"][0]["region_multipliers"].update(us="0"), "region_multipliers.us: Input should be greater than 0"),
    ("dates out of order", lambda d: _model(d)["lifecycle"].update(retires_on=date(2026, 12, 1)), "lifecycle: available_from, deprecated_on"),
    ("no text", lambda d: _model(d)["capabilities"].update(modalities=["image"]), "capabilities.modalities: every chat model takes text"),
    ("parallel tools without tools", lambda d: _model(d)["capabilities"].update(tools=False, parallel_tools=True), "capabilities.parallel_tools: true without tools"),
    ("output larger than window", lambda d: _model(d).update(max_output_tokens=2000), "max_output_tokens: larger than context_window_tokens"),
    ("model twice", lambda d: d["model"].append({**_model(d), "aliases": []}), "model[small].id: occurs more than once"),
    ("alias is a model id", lambda d: _model(d).update(aliases=["small"]), "alias 'small': is also the id of a model"),
    ("alias twice", lambda d: d["model"].append({**_model(d), "id": "other"}), "alias 'small@001': given to more than one model"),
    ("deployment twice", lambda d: d["deployment"].append(d["deployment"][0]), "deployment[small@eu].id: occurs more than once"),
    ("dangling model", lambda d: d["deployment"][0].update(model="gone"), "a.toml: deployment[small@eu].model: no model 'gone'"),
    ("unknown provider", lambda d: d["deployment"][0].update(provider="acme"), "deployment[small@eu].provider: Input should be"),
    ("unknown level", lambda d: d["deployment"][0].update(clearance="secret"), "clearance: Value error, must be one of public"),
    ("no residency", lambda d: d["deployment"][0].update(residency=[]), "residency: List should have at least 1 item"),
    ("global endpoint claims a zone", lambda d: d["deployment"][0].update(region="global"), "residency: a global endpoint may process anywhere"),
    ("region claims global", lambda d: d["deployment"][0].update(residency=["global"]), 'residency: "global" belongs to the global endpoint'),
    ("American region claims the EU", lambda d: d["deployment"][0].update(region="us-east5"), 'us-east5 does not lie in "eu"'),
    ("London claims the EU", lambda d: d["deployment"][0].update(region="europe-west2"), 'europe-west2 does not lie in "eu"'),
    ("European region claims the US", lambda d: d["deployment"][0].update(residency=["us"]), 'eu does not lie in "us"'),
    ("endpoint without format", lambda d: d["deployment"][1].pop("endpoint_format"), "deployment[own].endpoint_format: provider custom needs one of"),
    ("format of another provider", lambda d: d["deployment"][1].update(provider="hugging_face"), "provider hugging_face needs one of openai_chat, tgi, vllm"),
    ("format without endpoint", lambda d: d["deployment"][0].update(endpoint_format="tgi"), "endpoint_format: has no meaning for provider gemini"),
    ("endpoint id not numeric", lambda d: d["deployment"][1].update(target="mine"), "deployment[own].target: must be the endpoint's numeric id"),
    ("endpoint in global", lambda d: d["deployment"][1].update(region="global", residency=["global"]), "deployment[own].region: an endpoint of one's own lies in a region"),
    ("weight zero", lambda d: d["deployment"][0].update(weight=0), "deployment[small@eu].weight: "),
    ("no deployment", lambda d: d.update(deployment=[]), "registry: a registry needs at least one"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"), [m[1:] for m in REGISTRY_MISTAKES], ids=[m[0] for m in REGISTRY_MISTAKES]
)
def test_refused_with_file_table_and_key(change: Change, message: str):
    problems = problems_after(change)
    assert any(message in problem for problem in problems), problems


def test_all_problems_come_at_once_and_one_mistake_is_told_once():
    def change(d: dict[str, Any]) -> None:
        _model(d)["quality"][0]["mean"] = 7
        _model(d)["context_window_tokens"] = 0
        d["deployment"][0]["model"] = "gone"
        d["deployment"][1]["target"] = "mine"

    problems = problems_after(change)
    assert len(problems) == 4
    assert not any("own" in problem and "no model" in problem for problem in problems)


POLICY_MISTAKES: list[tuple[str, Change, str]] = [
    ("unknown key", lambda d: d.update(explorationn=1), "policy.toml: explorationn: Extra inputs"),
    ("preset missing", lambda d: d["presets"].pop("latency"), "policy.toml: presets.latency: is missing"),
    ("unknown preset", lambda d: d["presets"].update(cheap=d["presets"]["cost"]), "policy.toml: presets.cheap"),
    ("all weights zero", lambda d: d["presets"]["cost"].update(cost=0), "presets.cost: all weights are zero"),
    ("negative weight", lambda d: d["presets"]["cost"].update(cost=-1), "presets.cost.cost: "),
    ("exploration of one", lambda d: d.update(exploration=1), "exploration: Input should be less than 1"),
    ("negative temperature", lambda d: d.update(temperature=-0.1), "temperature: "),
    ("no attempts", lambda d: d.update(max_attempts=0), "max_attempts: "),
    ("unknown default preset", lambda d: d.update(default_preset="best"), "default_preset: "),
    ("unknown model allowed", lambda d: d["services"]["claims"].update(allow_models=["gone"]), "services.claims.allow_models: no model 'gone'"),
    ("unknown model denied", lambda d: d.update(default_service={"deny_models": ["gone"]}), "default_service.deny_models: no model 'gone'"),
    ("allowed and denied", lambda d: d["services"]["claims"].update(deny_models=["small"]), "services.claims.deny_models: 'small' is also allowed"),
    ("empty zone", lambda d: d["services"]["claims"].update(residency=["us"]), "services.claims.residency: no deployment lies in 'us'"),
    ("float money", lambda d: d["services"]["claims"].update(max_cost_usd=0.05), "services.claims.max_cost_usd: Value error, write prices as text"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [m[1:] for m in POLICY_MISTAKES], ids=[m[0] for m in POLICY_MISTAKES])
def test_policy_refused_with_key(change: Change, message: str):
    problems = policy_problems_after(change)
    assert any(message in problem for problem in problems), problems


def test_policy_reaches_the_domain_with_aliases_resolved():
    policy = parse_policy(tomllib.loads(POLICY), parse_registry(documents()))
    claims = policy.for_service("claims")
    assert claims.allow_models == {"small"}
    assert claims.max_level is SecurityLevel.INTERNAL
    assert claims.max_cost_usd == Decimal("0.05")
    assert claims.preset is Preset.QUALITY
    assert policy.for_service("someone else") == policy.default_service
    assert policy.default_preset is Preset.COST
    assert policy.exploration == 0.05
    assert policy.presets[Preset.COST].cost == 1


def test_directory_is_read_whole_and_bad_files_are_named(tmp_path: Path):
    (tmp_path / "models.toml").write_text(MODEL)
    (tmp_path / "where.toml").write_text(DEPLOYMENT)
    (tmp_path / "policy.toml").write_text(POLICY)
    registry = load_registry(tmp_path)
    assert [d.id for d in registry.deployments] == ["small@eu"]
    assert load_policy(tmp_path, registry=registry).max_attempts == 3

    (tmp_path / "broken.toml").write_text("[[model]\n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "where.toml").write_text(DEPLOYMENT.replace('"confidential"', '"secret"'))
    with pytest.raises(RegistryError) as caught:
        load_registry(tmp_path)
    assert [p.split(":")[0] for p in caught.value.problems] == ["binary.toml", "broken.toml", "where.toml"]


def test_missing_policy_and_empty_directory_are_refused(tmp_path: Path):
    with pytest.raises(RegistryError, match=r"policy.toml: cannot be read: No such file"):
        load_policy(tmp_path, registry=parse_registry(documents()))
    with pytest.raises(RegistryError, match="needs at least one"):
        load_registry(tmp_path)
