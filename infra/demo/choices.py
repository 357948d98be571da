"""What may serve a request of the demo, and how probable each deployment is: by tier of price, quality and zone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import accumulate

from infra.demo.cast import DemoService
from infra.demo.story import Story
from shared.domain.features import Category, ComplexityLevel
from shared.domain.models import Deployment, ModelProfile, Registry
from shared.domain.pricing import rates_for

_TIERS = 3
_COMPLEXITY: Mapping[ComplexityLevel, tuple[float, float, float]] = {
    ComplexityLevel.LOW: (2.0, 1.0, 0.3),
    ComplexityLevel.MEDIUM: (1.0, 1.0, 1.0),
    ComplexityLevel.HIGH: (0.3, 1.0, 2.5),
}
"""By how much a tier is chosen more or less often."""
_HOME = 6.0
"""By how much a deployment in the service's zone, or the global one, is preferred to another region's."""
_PROMPT_PER_ANSWER = 3
"""Prompt tokens for each token of an answer, for the order of models by price."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A deployment that may be chosen, and with which probability."""

    profile: ModelProfile
    deployment: Deployment
    propensity: float


@dataclass(frozen=True, slots=True)
class Shortlist:
    """What may serve a request: `bounds` are the running sums of the probabilities."""

    choices: Sequence[Choice]
    bounds: Sequence[float]


class Choices:
    """Shortlists, by what a request is like. Each is made once.

    Args:
        registry: has models and deployments.
        story: has the prices.
    """

    def __init__(self, registry: Registry, story: Story) -> None:
        self._profiles = {model_id: story.priced(profile) for model_id, profile in registry.models.items()}
        self._deployments = registry.deployments
        self.shortlist = cache(self._shortlist)

    def _shortlist(self, service: DemoService, category: Category, complexity: ComplexityLevel, day: date) -> Shortlist:
        """What may serve a request, the most probable first."""
        tiers = self._tiers(day)
        weights = {
            deployment.id: wanted * lean * self._appeal(deployment, service, category) / len(tier)
            for tier, wanted, lean in zip(tiers, service.tiers, _COMPLEXITY[complexity], strict=True)
            for model_id in tier
            for deployment in self._deployments
            if deployment.model_id == model_id and _may_take(deployment, service)
        }
        total = sum(weights.values())
        chosen = sorted(
            (
                Choice(self._profiles[deployment.model_id], deployment, weights[deployment.id] / total)
                for deployment in self._deployments
                if deployment.id in weights
            ),
            key=lambda choice: -choice.propensity,
        )
        return Shortlist(chosen, list(accumulate(choice.propensity for choice in chosen)))

    @cache  # noqa: B019 - one object for the life of the command
    def _tiers(self, day: date) -> tuple[tuple[str, ...], ...]:
        """The models that can be called on a day, in three parts by what they cost in the end."""

        def price(model_id: str) -> float:
            rates = rates_for(self._profiles[model_id], day=date.max, prompt_tokens=0, region="global")
            return float(rates.input * _PROMPT_PER_ANSWER + rates.output)

        models = sorted((m for m, p in self._profiles.items() if p.lifecycle.usable_on(day)), key=price)
        size = -(-len(models) // _TIERS)
        return tuple(tuple(models[start : start + size]) for start in range(0, _TIERS * size, size))

    def _appeal(self, deployment: Deployment, service: DemoService, category: Category) -> float:
        """Better models of a tier are chosen more often, and deployments at home."""
        is_home = (service.zone or "global") in deployment.residency
        return quality_of(self._profiles[deployment.model_id], category) ** 8 * (_HOME if is_home else 1.0)


def quality_of(profile: ModelProfile, category: Category) -> float:
    """The quality that the registry expects of a model, 0 to 1."""
    return profile.quality.get(category.value, profile.quality["overall"]).mean


def _may_take(deployment: Deployment, service: DemoService) -> bool:
    return (
        deployment.enabled
        and deployment.clearance >= service.level
        and (not service.zone or service.zone in deployment.residency)
    )
