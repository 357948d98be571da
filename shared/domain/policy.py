"""What a routing decision must obey and prefer: the policy in force and what one request asks of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from shared.domain.security import SecurityLevel


class Preset(StrEnum):
    """Named weightings; `auto` alone means balanced."""

    BALANCED = "balanced"
    COST = "cost"
    QUALITY = "quality"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Weights:
    """Importance of each factor; any non-negative numbers, normalised to sum 1 by `normalised`."""

    quality: float
    cost: float
    latency: float
    reliability: float
    load: float

    def normalised(self) -> "Weights":
        """The same proportions with sum 1.

        Raises:
            ValueError: a weight is negative, or all are zero.
        """
        values = (self.quality, self.cost, self.latency, self.reliability, self.load)
        total = sum(values)
        if min(values) < 0 or total <= 0:
            raise ValueError("weights must be non-negative and not all zero")
        return Weights(*(value / total for value in values))


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """Rules for one calling service. Empty sets do not restrict.

    Attributes:
        max_level: content above this level is refused for the service altogether.
        residency: zones in which its content must stay; a deployment must lie wholly in one of them.
    """

    allow_models: frozenset[str] = frozenset()
    deny_models: frozenset[str] = frozenset()
    residency: frozenset[str] = frozenset()
    max_level: SecurityLevel = SecurityLevel.RESTRICTED
    max_cost_usd: Decimal | None = None
    preset: Preset | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The routing policy at one version.

    Attributes:
        version: SHA-256 of the canonical content.
        exploration: epsilon in [0, 1): the share of uniform choice among eligible deployments.
        temperature: softmax temperature over scores; 0 means: always the highest score.
        max_attempts: attempts per request, the first included.
    """

    version: str
    presets: Mapping[Preset, Weights]
    default_preset: Preset = Preset.BALANCED
    services: Mapping[str, ServicePolicy] = field(default_factory=dict)
    default_service: ServicePolicy = ServicePolicy()
    exploration: float = 0.0
    temperature: float = 0.0
    max_attempts: int = 3
    default_max_output_tokens: int = 4096
    cost_reference_usd: float = 0.01
    """Expected cost at which the cost factor is one half."""
    latency_reference_ms: float = 4000.0
    """Expected latency at which the latency factor is one half."""

    def for_service(self, service: str) -> ServicePolicy:
        """The rules of a service, or the default ones."""
        return self.services.get(service, self.default_service)


@dataclass(frozen=True, slots=True)
class RoutingConstraints:
    """What one request asks of the choice, beside its content.

    Attributes:
        model: a pinned model id; None lets the router choose.
        allow_fallback: whether a pinned model may be replaced by another when it fails.
        max_cost_usd: most that the worst case of this request may cost.
        label: level declared by the caller; it can raise the level that was found, never lower it.
    """

    model: str | None = None
    allow_fallback: bool = False
    preset: Preset | None = None
    weights: Weights | None = None
    allow_models: frozenset[str] = frozenset()
    deny_models: frozenset[str] = frozenset()
    residency: frozenset[str] = frozenset()
    max_cost_usd: Decimal | None = None
    max_latency_ms: float | None = None
    label: SecurityLevel | None = None
