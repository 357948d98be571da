"""What a routing decision must obey and prefer: the policy in force and what one request asks of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from shared.domain.budgets import Budget
from shared.domain.caching import CachePolicy
from shared.domain.channels import Channel
from shared.domain.health import HealthRules
from shared.domain.identity import Principal
from shared.domain.judging import JudgingRules
from shared.domain.kept_content import ContentRules
from shared.domain.limits import Priority, RateLimit
from shared.domain.resilience import CascadePolicy, HedgePolicy, RetryPolicy
from shared.domain.retention import RetentionRules
from shared.domain.retrieval_rules import RetrievalRules
from shared.domain.rules import Rule
from shared.domain.scopes import Subject
from shared.domain.security import DetectionRules, GuardRules, SecurityLevel
from shared.domain.security_events import DEFAULT_THREAT_RULES, ThreatRule
from shared.domain.weights import Preset, Weights

__all__ = [
    "NOTHING",
    "Balancing",
    "CallerLimits",
    "Policy",
    "Preset",
    "QualityRules",
    "RoutingConstraints",
    "ServicePolicy",
    "UnknownTask",
    "Weights",
]

NOTHING = frozenset({"(nothing)"})
"""What two restrictions leave that exclude each other: a set that no model and no zone is in.

An empty set would mean that nothing is restricted. The parentheses keep it apart from every id a registry may hold.
"""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What callers may ask for themselves; rules and presets of the policy are not bound by it.

    Attributes:
        presets: presets that a request may name.
        weights: whether a request may bring weights of its own.
        weight_ranges: least and most share of each factor in such weights, after they were normalised to sum 1.
        pin: whether a request may name a model.
    """

    presets: frozenset[Preset] = frozenset(Preset)
    weights: bool = True
    weight_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    pin: bool = True


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """Rules for one calling service. Empty sets do not restrict.

    Attributes:
        max_level: content above this level is refused for the service altogether.
        residency: zones in which its content must stay; a deployment must lie wholly in one of them.
        limits: what its requests may ask for; None leaves it at the policy's.
        cache: how its answers are reused; None: never, nothing of them is kept.
        content: how long its prompts and answers are kept, for people to look at; None: they are not.
        team: whose limits and budgets its requests count for; None leaves it to their tag ``team``.
        priority: of its requests in rate limits, unless they ask for less.
        guard: what is done about sensitive content, attacks, and answers that tell too much.
    """

    allow_models: frozenset[str] = frozenset()
    deny_models: frozenset[str] = frozenset()
    residency: frozenset[str] = frozenset()
    max_level: SecurityLevel = SecurityLevel.RESTRICTED
    max_cost_usd: Decimal | None = None
    preset: Preset | None = None
    limits: CallerLimits | None = None
    cache: CachePolicy | None = None
    team: str | None = None
    priority: Priority = Priority.NORMAL
    guard: GuardRules = field(default_factory=GuardRules)
    content: ContentRules | None = None


class UnknownTask(StrEnum):
    """What makes a task an unknown one."""

    CATEGORY = "category"
    """The evidence was too thin to put it into a category."""
    FAMILIARITY = "familiarity"
    """It resembles little of what the predictor of quality was trained on."""


@dataclass(frozen=True, slots=True)
class QualityRules:
    """How expected quality is had and how far it is trusted (docs/routing-quality.md).

    Attributes:
        learned: whether the learned predictor is asked; without it the registry's priors count alone.
        caution: standard deviations taken off the expected quality of every model but the reference.
        guarded: presets under which cost and latency fade out of the weights when the task is unknown, so that the best
            model serves and not the cheapest. Weights, and presets that are not listed, stand as they are.
        unknown_by: what makes a task unknown.
        familiar_from: familiarity in [0, 1) up to which a task is wholly unknown; from there to 1 cost and latency
            fade in.
    """

    learned: bool = True
    caution: float = 0.25
    guarded: frozenset[Preset] = frozenset({Preset.BALANCED, Preset.QUALITY})
    unknown_by: frozenset[UnknownTask] = frozenset({UnknownTask.CATEGORY})
    familiar_from: float = 0.8


@dataclass(frozen=True, slots=True)
class Balancing:
    """How requests are spread over equal deployments of the model that was chosen.

    Attributes:
        enabled: whether they are; otherwise the best score takes all.
        tolerance: how far below the best score, in [0, 1], a deployment of the same model at the same cost still counts
            as its equal.
    """

    enabled: bool = True
    tolerance: float = 0.02


@dataclass(frozen=True, slots=True)
class Policy:
    """The routing policy at one version.

    Attributes:
        version: SHA-256 of the canonical content.
        exploration: epsilon in [0, 1): the share of uniform choice among eligible deployments.
        temperature: softmax temperature over scores; 0 means: always the highest score.
        max_attempts: attempts per request, the first included.
        rules: task-routing rules in the order in which they are looked at, whatever order they were given in.
        limits: what callers may ask for.
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
    rules: tuple[Rule, ...] = ()
    limits: CallerLimits = field(default_factory=CallerLimits)
    quality: QualityRules = QualityRules()
    balancing: Balancing = Balancing()
    rate_limits: tuple[RateLimit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    hedging: HedgePolicy = field(default_factory=HedgePolicy)
    cascade: CascadePolicy = field(default_factory=CascadePolicy)
    health: HealthRules = field(default_factory=HealthRules)
    threats: tuple[ThreatRule, ...] = DEFAULT_THREAT_RULES
    retention: RetentionRules = field(default_factory=RetentionRules)
    retrieval: RetrievalRules = field(default_factory=RetrievalRules)
    judging: JudgingRules = field(default_factory=JudgingRules)
    detection: DetectionRules = field(default_factory=DetectionRules)
    """What is looked for beside what is known, for all services."""
    channels: Mapping[str, Channel] = field(default_factory=dict)
    """Where people are told of alerts, by name."""
    document: str = field(default="", repr=False)
    """The canonical content that `version` is the hash of, so that a receipt of this version can always be repeated."""

    def __post_init__(self) -> None:
        # A stable sort: rules of equal priority keep the order of the file.
        object.__setattr__(self, "rules", tuple(sorted(self.rules, key=lambda rule: -rule.priority)))

    def for_service(self, service: str) -> ServicePolicy:
        """The rules of a service, or the default ones."""
        return self.services.get(service, self.default_service)

    def limits_for(self, service: str) -> CallerLimits:
        """What requests of a service may ask for."""
        return self.for_service(service).limits or self.limits

    def subject_of(self, principal: Principal, tags: tuple[tuple[str, str], ...] = ()) -> Subject:
        """For whose limits and budgets a principal's requests count."""
        team = self.for_service(principal.service).team or dict(tags).get("team")
        return Subject(principal.tenant_id, principal.service, team, tags)


@dataclass(frozen=True, slots=True)
class RoutingConstraints:
    """What one request asks of the choice, beside its content.

    Attributes:
        model: a pinned model id; None lets the router choose.
        allow_fallback: whether a pinned model may be replaced by another when it fails.
        max_cost_usd: most that the worst case of this request may cost.
        label: level declared by the caller; it can raise the level that was found, never lower it.
        deployment: the one deployment that may serve; set by rules only.
        max_level: content above this level is refused; set by rules only.
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
    deployment: str | None = None
    max_level: SecurityLevel = SecurityLevel.RESTRICTED
