"""What must hold between the fields of the registry and policy files. Each check yields plain sentences."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from shared.domain.chat import Modality
from shared.domain.models import EndpointFormat, ProviderKind
from shared.domain.policy import Preset
from shared.stores.channel_schema import channel_problems
from shared.stores.guard_schema import detection_problems, guard_problems
from shared.stores.health_schema import health_problems
from shared.stores.judging_schema import judging_problems
from shared.stores.limits_schema import limit_problems
from shared.stores.oversight_schema import threat_problems
from shared.stores.registry_fields import price_start_problems
from shared.stores.registry_schema import (
    OVERALL,
    DeploymentTable,
    ModelTable,
    PolicyDocument,
    PriceTable,
    ServiceTable,
)
from shared.stores.resilience_schema import resilience_problems
from shared.stores.rules_checks import limits_problems

_ENDPOINT_PROVIDERS = {ProviderKind.HUGGING_FACE, ProviderKind.CUSTOM}
_FORMATS_OF = {
    ProviderKind.HUGGING_FACE: {EndpointFormat.TGI, EndpointFormat.VLLM, EndpointFormat.OPENAI_CHAT},
    ProviderKind.CUSTOM: {EndpointFormat.PREDICT, EndpointFormat.RAW_PREDICT},
}
_EUROPE_OUTSIDE_EU = {"europe-west2", "europe-west6"}
"""London and Zürich: Google names them ``europe-*``, but they lie outside the European Union
(https://cloud.google.com/about/locations)."""


def model_problems(model: ModelTable) -> Iterator[str]:
    """What is wrong with one model."""
    yield from _price_problems(model)
    yield from _quality_problems(model)
    dates = model.lifecycle
    known = [day for day in (dates.available_from, dates.deprecated_on, dates.retires_on) if day is not None]
    if known != sorted(known):
        yield "lifecycle: available_from, deprecated_on and retires_on must follow each other"
    can = model.capabilities
    if Modality.TEXT not in can.modalities:
        yield "capabilities.modalities: every chat model takes text"
    if can.parallel_tools and not can.tools:
        yield "capabilities.parallel_tools: true without tools"
    if model.max_output_tokens > model.context_window_tokens:
        yield "max_output_tokens: larger than context_window_tokens"


def _price_problems(model: ModelTable) -> Iterator[str]:
    yield from price_start_problems([period.effective_from for period in model.price], model.lifecycle.available_from)
    for index, period in enumerate(model.price):
        yield from (f"price[{index}].{problem}" for problem in _period_problems(period))


def _period_problems(period: PriceTable) -> Iterator[str]:
    bounds = [tier.above_prompt_tokens for tier in period.tiers]
    if bounds[0] != 0:
        yield "tiers: the first tier must apply above 0 prompt tokens"
    if any(later <= earlier for earlier, later in pairwise(bounds)):
        yield "tiers: above_prompt_tokens must ascend"
    for lower, upper in pairwise(period.tiers):
        if upper.input < lower.input or upper.output < lower.output:
            yield f"tiers: the tier above {upper.above_prompt_tokens} tokens is cheaper than the one below it"


def _quality_problems(model: ModelTable) -> Iterator[str]:
    counts = Counter(key for row in model.quality for key in row.categories)
    if OVERALL not in counts:
        yield f"quality: the category {OVERALL!r} is missing"
    for key in _repeated(counts):
        yield f"quality: the category {key!r} is given more than once"


def deployment_problems(deployment: DeploymentTable) -> Iterator[str]:
    """What is wrong with one deployment."""
    yield from _residency_problems(deployment)
    if deployment.provider not in _ENDPOINT_PROVIDERS:
        if deployment.endpoint_format is not None:
            yield f"endpoint_format: has no meaning for provider {deployment.provider}"
        return
    allowed = _FORMATS_OF[deployment.provider]
    if deployment.endpoint_format not in allowed:
        yield f"endpoint_format: provider {deployment.provider} needs one of {', '.join(sorted(allowed))}"
    if not deployment.target.isdecimal():
        yield "target: must be the endpoint's numeric id"
    if deployment.region == "global":
        yield "region: an endpoint of one's own lies in a region, not in global"


def _residency_problems(deployment: DeploymentTable) -> Iterator[str]:
    region, zones = deployment.region, set(deployment.residency)
    if region == "global" and zones != {"global"}:
        yield 'residency: a global endpoint may process anywhere, so it satisfies no zone but "global"'
    if region != "global" and "global" in zones:
        yield 'residency: "global" belongs to the global endpoint only'
    if "us" in zones and not (region == "us" or region.startswith("us-")):
        yield f'residency: {region} does not lie in "us"'
    in_eu = region == "eu" or (region.startswith("europe-") and region not in _EUROPE_OUTSIDE_EU)
    if "eu" in zones and not in_eu:
        yield f'residency: {region} does not lie in "eu"'


def naming_problems(models: Iterable[str], deployments: Iterable[str], aliases: Iterable[str]) -> Iterator[str]:
    """Ids and aliases that occur more than once, or clash with each other."""
    model_counts, alias_counts = Counter(models), Counter(aliases)
    for name in _repeated(model_counts):
        yield f"model[{name}].id: occurs more than once"
    for name in _repeated(Counter(deployments)):
        yield f"deployment[{name}].id: occurs more than once"
    for name in _repeated(alias_counts):
        yield f"alias {name!r}: given to more than one model"
    for name in sorted(alias_counts.keys() & model_counts.keys()):
        yield f"alias {name!r}: is also the id of a model"


def policy_problems(document: PolicyDocument, names: Mapping[str, str], zones: frozenset[str]) -> Iterator[str]:
    """What is wrong with a policy against the registry.

    Args:
        document: the policy.
        names: every model id and alias, with the model id it stands for.
        zones: residency zones that some deployment lies in.
    """
    for preset in Preset:
        if preset not in document.presets:
            yield f"presets.{preset}: is missing"
    for preset, weights in document.presets.items():
        if not any(weights.model_dump().values()):
            yield f"presets.{preset}: all weights are zero"
    for preset in document.quality.guarded if "guarded" in document.quality.model_fields_set else ():
        if preset in document.presets and not document.presets[preset].quality:
            yield f"quality.guarded: preset {preset} gives quality no weight, so nothing is left to choose by"
    yield from (f"limits.{problem}" for problem in limits_problems(document.limits))
    yield from limit_problems(document.rate_limits, document.budgets)
    yield from resilience_problems(document.retries, document.cascade, names)
    yield from health_problems(document.health)
    yield from judging_problems(document.judging, document.budgets, names)
    yield from detection_problems(document.detection)
    guarded = {"default_service": document.default_service} | {f"services.{n}": t for n, t in document.services.items()}
    for where, table in guarded.items():
        yield from (f"{where}.guard.{problem}" for problem in guard_problems(table.guard, document.detection))
    yield from threat_problems(document.threats or ())
    yield from channel_problems(document.channels)
    yield from (f"default_service.{p}" for p in _service_problems(document.default_service, names, zones))
    for service, table in document.services.items():
        yield from (f"services.{service}.{problem}" for problem in _service_problems(table, names, zones))


def _service_problems(table: ServiceTable, names: Mapping[str, str], zones: frozenset[str]) -> Iterator[str]:
    for key, listed in (("allow_models", table.allow_models), ("deny_models", table.deny_models)):
        for name in listed:
            if name not in names:
                yield f"{key}: no model {name!r} in the registry"
    both = {names.get(name, name) for name in table.allow_models} & {
        names.get(name, name) for name in table.deny_models
    }
    for name in sorted(both):
        yield f"deny_models: {name!r} is also allowed"
    for zone in table.residency:
        if zone not in zones:
            yield f"residency: no deployment lies in {zone!r}"
    if table.limits is not None:
        yield from (f"limits.{problem}" for problem in limits_problems(table.limits))


def _repeated(counts: Counter[str]) -> list[str]:
    return sorted(name for name, count in counts.items() if count > 1)
