"""The registry that ships: what its users may count on."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from shared.domain.features import Category
from shared.domain.models import EndpointFormat, ModelProfile, ProviderKind, Registry
from shared.domain.policy import Policy, Preset
from shared.domain.pricing import rates_for
from shared.domain.security import SecurityLevel
from shared.providers.endpoints_options import validate_options
from shared.stores.registry_files import load_policy, load_registry

DIRECTORY = Path(__file__).parents[2] / "shared" / "registry"
EXAMPLES = Path(__file__).parents[2] / "infra" / "local" / "registry"
TODAY = date(2026, 11, 23)
ENDPOINTS = {ProviderKind.HUGGING_FACE, ProviderKind.CUSTOM}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(DIRECTORY)


@pytest.fixture(scope="module")
def local_registry() -> Registry:
    """The shipped registry with the examples of endpoints of one's own, as the local stack loads it."""
    return load_registry(DIRECTORY, EXAMPLES)


@pytest.fixture(scope="module")
def policy(registry: Registry) -> Policy:
    return load_policy(DIRECTORY, registry=registry)


def _live_vendor_models(registry: Registry) -> list[ModelProfile]:
    return [m for m in registry.models.values() if m.lifecycle.usable_on(TODAY)]


def test_at_least_sixteen_living_vendor_models_each_deployed(registry: Registry):
    living = _live_vendor_models(registry)
    assert len(living) >= 16
    for model in living:
        assert any(d.enabled for d in registry.deployments_of(model.id)), model.id


def test_retired_models_stay_in_the_file_but_are_not_usable(registry: Registry):
    retired = registry.models["claude-haiku-4-5"]
    assert retired.lifecycle.retires_on == date(2026, 10, 15)
    assert not retired.lifecycle.usable_on(TODAY)
    assert retired.lifecycle.usable_on(date(2026, 10, 14))


def _price_class(model: ModelProfile) -> int:
    rates = rates_for(model, day=TODAY, prompt_tokens=1000, region="global")
    blended = (3 * rates.input + rates.output) / 4
    return sum(blended >= bound for bound in map(Decimal, ("0.25", "0.75", "2", "5")))


@pytest.mark.parametrize("zone", ["eu", "us"])
def test_each_zone_has_several_price_classes_for_confidential_content(registry: Registry, zone: str):
    reachable = {
        d.model_id
        for d in registry.deployments
        if d.residency == {zone} and d.clearance >= SecurityLevel.CONFIDENTIAL and d.enabled
    }
    classes = {_price_class(m) for m in _live_vendor_models(registry) if m.id in reachable}
    assert len(classes) >= 4


@pytest.mark.parametrize("zone", ["eu", "us"])
def test_each_zone_has_a_streaming_deployment_cleared_for_restricted_content(local_registry: Registry, zone: str):
    assert any(
        d.residency == {zone}
        and d.clearance is SecurityLevel.RESTRICTED
        and local_registry.models[d.model_id].capabilities.streaming
        for d in local_registry.deployments
    )


def test_only_endpoints_of_ones_own_are_cleared_for_restricted_and_global_takes_internal_at_most(
    local_registry: Registry,
):
    for deployment in local_registry.deployments:
        if deployment.clearance is SecurityLevel.RESTRICTED:
            assert deployment.provider in ENDPOINTS, deployment.id
        if deployment.region == "global":
            assert deployment.clearance <= SecurityLevel.INTERNAL, deployment.id
            assert deployment.residency == {"global"}, deployment.id


def test_one_example_per_endpoint_format(local_registry: Registry):
    examples = [d for d in local_registry.deployments if d.provider in ENDPOINTS]
    assert {d.endpoint_format for d in examples} == set(EndpointFormat)
    assert sorted(d.target for d in examples) == ["1001", "1002", "1003", "1004", "1005"]


def test_vendor_names_resolve(registry: Registry):
    for name, model_id in {
        "claude-haiku-4-5@20251001": "claude-haiku-4-5",
        "openai/gpt-oss-120b-maas": "gpt-oss-120b",
        "meta/llama-4-maverick-17b-128e-instruct-maas": "llama-4-maverick",
        "gemini-3.8-flash": "gemini-3.8-flash",
        "codestral-2@001": "codestral-2",
    }.items():
        model = registry.resolve(name)
        assert model is not None
        assert model.id == model_id


def test_mistral_deployments_name_their_publisher(registry: Registry):
    mistral = [d for d in registry.deployments if registry.models[d.model_id].publisher == "mistralai"]
    assert mistral
    assert all(d.options == {"publisher": "mistralai"} for d in mistral)


def test_what_is_shipped_for_production_names_no_endpoint_of_anybodys(registry: Registry):
    assert not [d.id for d in registry.deployments if d.provider in ENDPOINTS]


def test_adapters_accept_every_deployment(local_registry: Registry):
    for deployment in local_registry.deployments:
        validate_options(deployment)


def test_every_figure_names_its_source(registry: Registry):
    for model in registry.models.values():
        assert model.price_source.startswith(("https://", "assumption")), model.id
        for prior in model.quality.values():
            assert prior.source.startswith(("https://", "assumption")), model.id
            assert prior.weight <= 5, "assumptions must give way to observations quickly"


def test_categories_of_every_vendor_model_differ_where_tasks_are_hard(registry: Registry):
    for model in _live_vendor_models(registry):
        assert model.quality[Category.MATH.value].mean < model.quality[Category.CLASSIFICATION.value].mean, model.id


def test_every_model_has_a_price_on_every_day_it_may_be_called(registry: Registry):
    for model in registry.models.values():
        first = model.lifecycle.available_from
        assert first is not None
        assert rates_for(model, day=first, prompt_tokens=1, region="global").input >= 0


def test_policy_has_sane_defaults(policy: Policy):
    assert set(policy.presets) == set(Preset)
    assert (policy.exploration, policy.temperature) == (0.0, 0.0)
    assert policy.max_attempts >= 2
    assert policy.services == {}
    for preset, weights in policy.presets.items():
        factors = {"quality": weights.quality, "cost": weights.cost, "latency": weights.latency}
        if preset is not Preset.BALANCED:
            assert max(factors, key=factors.__getitem__) == preset.value
        assert sum((*factors.values(), weights.reliability, weights.load)) == pytest.approx(1)
