"""The shape of the registry and policy files: strict, no unknown keys, money as strings.

A field says here what it may hold on its own; what must hold between fields is in `shared.stores.registry_checks`.
Documents are validated in JSON mode, so a TOML file and a JSON body of the configuration API obey the same rules.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from shared.domain.chat import Modality
from shared.domain.features import Category
from shared.domain.limits import Priority
from shared.domain.models import (
    Capabilities,
    Deployment,
    EndpointFormat,
    Lifecycle,
    ModelProfile,
    PricePeriod,
    PriceTier,
    ProviderKind,
    QualityPrior,
    Rates,
)
from shared.domain.policy import Balancing, Policy, Preset, QualityRules, ServicePolicy, UnknownTask
from shared.domain.security import SecurityLevel
from shared.domain.security_events import DEFAULT_THREAT_RULES
from shared.stores.cache_schema import CacheTable
from shared.stores.channel_schema import MAX_CHANNELS, ChannelTable
from shared.stores.content_schema import ContentTable
from shared.stores.guard_schema import DetectionTable, GuardTable
from shared.stores.health_schema import HealthTable
from shared.stores.judging_schema import JudgingTable
from shared.stores.limits_schema import MAX_LIMITS, BudgetTable, RateLimitTable
from shared.stores.oversight_schema import MAX_THREATS, RetentionTable, ThreatTable
from shared.stores.registry_fields import (
    Alias,
    DeploymentId,
    Factor,
    Level,
    ModelId,
    Region,
    Table,
    Text,
    Tokens,
    Usd,
    Zone,
    money,
)
from shared.stores.resilience_schema import CascadeTable, HedgingTable, RetriesTable
from shared.stores.retrieval_schema import RetrievalTable
from shared.stores.rules_schema import MAX_RULES, LimitsTable, RuleTable, WeightsTable

OVERALL = "overall"
"""The quality key that every model has."""

_QUALITY_KEYS = {OVERALL} | {category.value for category in Category if category is not Category.UNKNOWN}


def _quality_key(value: str) -> str:
    if value not in _QUALITY_KEYS:
        raise ValueError(f"must be one of {', '.join(sorted(_QUALITY_KEYS))}")
    return value


class TierTable(Table):
    """One row of rates: USD per one million tokens."""

    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write: Usd | None = None
    cache_write_long: Usd | None = None
    input_audio: Usd | None = None
    above_prompt_tokens: Annotated[int, Field(ge=0)] = 0

    def to_domain(self) -> PriceTier:
        """The domain's tier."""
        return PriceTier(Rates(**self.model_dump(exclude={"above_prompt_tokens"})), self.above_prompt_tokens)


class PriceTable(Table):
    """``[[model.price]]``: rates in force from a day on, and where they were read."""

    effective_from: date
    source: Text
    tiers: Annotated[list[TierTable], Field(min_length=1, max_length=8)]
    region_multipliers: dict[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9-]*)$")], Factor] = Field(
        default_factory=dict
    )

    def to_domain(self) -> PricePeriod:
        """The domain's period."""
        return PricePeriod(self.effective_from, tuple(t.to_domain() for t in self.tiers), self.region_multipliers)


class QualityTable(Table):
    """``[[model.quality]]``: one prior for several categories."""

    categories: Annotated[list[Annotated[str, AfterValidator(_quality_key)]], Field(min_length=1)]
    mean: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    weight: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
    source: Text


class LatencyTable(Table):
    """``[model.latency]``: what to expect before anything was observed here."""

    ttft_ms: Annotated[float, Field(gt=0, le=600_000, allow_inf_nan=False)]
    tokens_per_s: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
    source: Text


class LifecycleTable(Table):
    """``[model.lifecycle]``: from when on, and until when, the router may call the model."""

    available_from: date
    deprecated_on: date | None = None
    retires_on: date | None = None

    def to_domain(self) -> Lifecycle:
        """The domain's dates."""
        return Lifecycle(self.available_from, self.deprecated_on, self.retires_on)


class CapabilityTable(Table):
    """``[model.capabilities]``."""

    modalities: Annotated[list[Modality], Field(min_length=1)]
    tools: bool = False
    parallel_tools: bool = False
    json_object: bool = False
    json_schema: bool = False
    thinking: bool = False
    streaming: bool = True
    system: bool = True
    sampling: bool = True
    media_uris: bool = False

    def to_domain(self) -> Capabilities:
        """The domain's capabilities."""
        flags: dict[str, Any] = self.model_dump(exclude={"modalities"})
        return Capabilities(modalities=frozenset(self.modalities), **flags)


class ModelTable(Table):
    """``[[model]]``."""

    id: ModelId
    publisher: ModelId
    display_name: Text
    aliases: list[Alias] = Field(default_factory=list)
    context_window_tokens: Tokens
    max_output_tokens: Tokens
    chars_per_token: Annotated[float, Field(ge=0.5, le=20, allow_inf_nan=False)] = 4.0
    lifecycle: LifecycleTable
    capabilities: CapabilityTable
    latency: LatencyTable
    price: Annotated[list[PriceTable], Field(min_length=1, max_length=100)]
    quality: Annotated[list[QualityTable], Field(min_length=1)]

    def to_domain(self) -> ModelProfile:
        """The domain's profile."""
        return ModelProfile(
            id=self.id,
            publisher=self.publisher,
            display_name=self.display_name,
            context_window_tokens=self.context_window_tokens,
            max_output_tokens=self.max_output_tokens,
            capabilities=self.capabilities.to_domain(),
            prices=tuple(period.to_domain() for period in self.price),
            quality={
                key: QualityPrior(row.mean, row.weight, row.source) for row in self.quality for key in row.categories
            },
            ttft_ms=self.latency.ttft_ms,
            tokens_per_s=self.latency.tokens_per_s,
            lifecycle=self.lifecycle.to_domain(),
            price_source="; ".join(dict.fromkeys(period.source for period in self.price)),
            chars_per_token=self.chars_per_token,
        )


class DeploymentTable(Table):
    """``[[deployment]]``."""

    id: DeploymentId
    model: ModelId
    provider: ProviderKind
    target: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@/-]{0,199}$")]
    region: Region
    residency: Annotated[list[Zone], Field(min_length=1)]
    clearance: Level
    weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    enabled: bool = True
    endpoint_format: EndpointFormat | None = None
    dedicated_host: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,252}$")] | None = None
    project: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9:.-]{0,62}$")] | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = None

    def to_domain(self) -> Deployment:
        """The domain's deployment."""
        return Deployment(
            id=self.id,
            model_id=self.model,
            provider=self.provider,
            target=self.target,
            region=self.region,
            residency=frozenset(self.residency),
            clearance=self.clearance,
            weight=self.weight,
            enabled=self.enabled,
            endpoint_format=self.endpoint_format,
            dedicated_host=self.dedicated_host,
            project=self.project,
            options=self.options,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
        )


class ServiceTable(Table):
    """``[default_service]`` and ``[services.*]``: the rules of a calling service."""

    allow_models: list[Alias] = Field(default_factory=list)
    deny_models: list[Alias] = Field(default_factory=list)
    residency: list[Zone] = Field(default_factory=list)
    max_level: Level = SecurityLevel.RESTRICTED
    max_cost_usd: Annotated[Decimal, BeforeValidator(money), Field(gt=0, le=1_000_000)] | None = None
    preset: Preset | None = None
    limits: LimitsTable | None = None
    cache: CacheTable | None = None
    content: ContentTable | None = None
    team: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    priority: Priority = Priority.NORMAL
    guard: GuardTable = GuardTable()

    def to_domain(self, canonical: dict[str, str]) -> ServicePolicy:
        """The domain's rules; model names become the registry's ids."""
        return ServicePolicy(
            allow_models=frozenset(canonical.get(name, name) for name in self.allow_models),
            deny_models=frozenset(canonical.get(name, name) for name in self.deny_models),
            residency=frozenset(self.residency),
            max_level=self.max_level,
            max_cost_usd=self.max_cost_usd,
            preset=self.preset,
            limits=None if self.limits is None else self.limits.to_domain(),
            cache=None if self.cache is None else self.cache.to_domain(),
            content=None if self.content is None else self.content.to_domain(),
            team=self.team,
            priority=self.priority,
            guard=self.guard.to_domain(),
        )


class QualityRulesTable(Table):
    """``[quality]``; what is not given is as in the domain."""

    learned: bool = QualityRules().learned
    caution: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = QualityRules().caution
    guarded: list[Preset] = Field(default_factory=lambda: sorted(QualityRules().guarded))
    unknown_by: list[UnknownTask] = Field(default_factory=lambda: sorted(QualityRules().unknown_by))
    familiar_from: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = QualityRules().familiar_from

    def to_domain(self) -> QualityRules:
        """The domain's rules."""
        return QualityRules(
            learned=self.learned,
            caution=self.caution,
            guarded=frozenset(self.guarded),
            unknown_by=frozenset(self.unknown_by),
            familiar_from=self.familiar_from,
        )


class BalancingTable(Table):
    """``[balancing]``; likewise."""

    enabled: bool = Balancing().enabled
    tolerance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Balancing().tolerance

    def to_domain(self) -> Balancing:
        """The domain's form."""
        return Balancing(enabled=self.enabled, tolerance=self.tolerance)


class PolicyDocument(Table):
    """``policy.toml``."""

    presets: dict[Preset, WeightsTable]
    default_preset: Preset = Preset.BALANCED
    exploration: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    default_max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    cost_reference_usd: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 0.01
    latency_reference_ms: Annotated[float, Field(gt=0, le=600_000, allow_inf_nan=False)] = 4000.0
    default_service: ServiceTable = ServiceTable()
    services: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")], ServiceTable] = Field(
        default_factory=dict
    )
    rules: Annotated[list[RuleTable], Field(max_length=MAX_RULES)] = Field(default_factory=list)
    limits: LimitsTable = LimitsTable()
    quality: QualityRulesTable = QualityRulesTable()
    balancing: BalancingTable = BalancingTable()
    rate_limits: Annotated[list[RateLimitTable], Field(max_length=MAX_LIMITS)] = Field(default_factory=list)
    budgets: Annotated[list[BudgetTable], Field(max_length=MAX_LIMITS)] = Field(default_factory=list)
    retries: RetriesTable = RetriesTable()
    hedging: HedgingTable = HedgingTable()
    cascade: CascadeTable = CascadeTable()
    detection: DetectionTable = DetectionTable()
    health: HealthTable = HealthTable()
    threats: Annotated[list[ThreatTable], Field(max_length=MAX_THREATS)] | None = None
    retention: RetentionTable = RetentionTable()
    channels: Annotated[list[ChannelTable], Field(max_length=MAX_CHANNELS)] = Field(default_factory=list)
    retrieval: RetrievalTable = RetrievalTable()
    judging: JudgingTable = JudgingTable()

    def to_domain(self, version: str, canonical: dict[str, str]) -> Policy:
        """The domain's policy."""
        judging = self.judging.to_domain(canonical)
        return Policy(
            version=version,
            presets={preset: weights.to_domain() for preset, weights in self.presets.items()},
            default_preset=self.default_preset,
            services={name: table.to_domain(canonical) for name, table in self.services.items()},
            default_service=self.default_service.to_domain(canonical),
            exploration=self.exploration,
            temperature=self.temperature,
            max_attempts=self.max_attempts,
            default_max_output_tokens=self.default_max_output_tokens,
            cost_reference_usd=self.cost_reference_usd,
            latency_reference_ms=self.latency_reference_ms,
            rules=tuple(rule.to_domain(canonical) for rule in self.rules),
            limits=self.limits.to_domain(),
            retries=self.retries.to_domain(),
            hedging=self.hedging.to_domain(),
            cascade=self.cascade.to_domain(canonical),
            detection=self.detection.to_domain(),
            health=self.health.to_domain(),
            threats=DEFAULT_THREAT_RULES if self.threats is None else tuple(t.to_domain() for t in self.threats),
            retention=self.retention.to_domain(),
            channels={table.name: table.to_domain() for table in self.channels},
            retrieval=self.retrieval.to_domain(canonical),
            quality=self.quality.to_domain(),
            balancing=self.balancing.to_domain(),
            rate_limits=tuple(table.to_domain() for table in self.rate_limits),
            budgets=(*(table.to_domain() for table in self.budgets), *judging.budgets),
            judging=judging,
        )
