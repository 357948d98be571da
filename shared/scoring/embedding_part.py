"""The parts of registry and policy that requests for vectors, and for rankings, are decided on. Pure."""

from dataclasses import replace

from shared.domain.models import Registry
from shared.domain.policy import Policy, ServicePolicy
from shared.domain.rules import Rule


def embedding_part(registry: Registry, policy: Policy) -> tuple[Registry, Policy]:
    """The embedding models, and the policy as it applies to them.

    What protects content and money applies unchanged: clearance, residency, highest level, allowed and denied models,
    cost caps. What steers the choice of a model for an answer does not: a rule's pin to a model that gives answers
    would only shut embeddings out, and naming a model is no privilege here, because vectors of two models cannot be
    compared.
    """
    return _part(registry.embeddings, registry, policy)


def ranking_part(registry: Registry, policy: Policy) -> tuple[Registry, Policy]:
    """The ranking models, and the policy as it applies to them: as to embedding models."""
    return _part(registry.rankings, registry, policy)


def _part(part: Registry | None, registry: Registry, policy: Policy) -> tuple[Registry, Policy]:
    part = part or Registry(registry.version, {}, (), document=registry.document)
    targets = {*part.models, *(deployment.id for deployment in part.deployments)}
    return part, replace(
        policy,
        rules=tuple(_without_foreign_pin(rule, targets) for rule in policy.rules),
        limits=replace(policy.limits, pin=True),
        default_service=_may_name(policy.default_service),
        services={name: _may_name(service) for name, service in policy.services.items()},
    )


def part_of(model_id: str | None, registry: Registry, policy: Policy) -> tuple[Registry, Policy]:
    """What a request that names `model_id` is decided on: the part that the model stands in, else the whole."""
    for part in (registry.embeddings, registry.rankings):
        if part is not None and model_id in part.models:
            return _part(part, registry, policy)
    return registry, policy


def _without_foreign_pin(rule: Rule, targets: set[str]) -> Rule:
    pins = {pin for pin in (rule.actions.pin_model, rule.actions.pin_deployment) if pin is not None}
    if pins <= targets:
        return rule
    return replace(rule, actions=replace(rule.actions, pin_model=None, pin_deployment=None))


def _may_name(service: ServicePolicy) -> ServicePolicy:
    return service if service.limits is None else replace(service, limits=replace(service.limits, pin=True))
