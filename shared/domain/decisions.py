"""A routing decision, whole enough to be explained: who was dropped and why, who was scored and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from shared.domain.chat import ReasoningEffort
from shared.domain.features import RequestFeatures
from shared.domain.forecasts import QualityForecast
from shared.domain.models import Deployment, ModelProfile
from shared.domain.policy import Weights


class RejectionReason(StrEnum):
    """Why a candidate may not or cannot take a request. The order is the order of the checks."""

    DISABLED = "disabled"
    NOT_REQUESTED = "not_requested"
    NOT_ALLOWED = "not_allowed"
    DENIED = "denied"
    CLEARANCE = "clearance"
    RESIDENCY = "residency"
    LIFECYCLE = "lifecycle"
    COOLDOWN = "cooldown"
    MODALITY = "modality"
    TOOLS = "tools"
    JSON = "json"
    SYSTEM = "system"
    MEDIA_URI = "media_uri"
    STREAMING = "streaming"
    PROVIDER_LIMIT = "provider_limit"
    CONTEXT_WINDOW = "context_window"
    OUTPUT_LIMIT = "output_limit"
    COST_CAP = "cost_cap"
    LATENCY_CAP = "latency_cap"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A dropped candidate; `detail` names the two values that clash."""

    deployment_id: str
    model_id: str
    reason: RejectionReason
    detail: str


@dataclass(frozen=True, slots=True)
class FactorScores:
    """Each factor in [0, 1], higher is better."""

    quality: float
    cost: float
    latency: float
    reliability: float
    load: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An eligible deployment with its score and its exact probability of having been chosen.

    `quality_mean` and `quality_std` are what was forecast of its model; None where nothing was.
    """

    deployment: Deployment
    profile: ModelProfile
    factors: FactorScores
    score: float
    propensity: float
    expected_cost_usd: Decimal
    worst_case_cost_usd: Decimal
    expected_latency_ms: float
    prompt_tokens: int
    max_output_tokens: int
    quality_mean: float | None = None
    quality_std: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The choice: `candidates` best first, the chosen one apart, fallbacks in the order they are tried.

    The fallbacks are eligible by construction: they went through the same sieve as the choice.
    """

    chosen: Candidate
    fallbacks: Sequence[Candidate]
    candidates: Sequence[Candidate]
    rejections: Sequence[Rejection]
    weights: Weights
    features: RequestFeatures
    registry_version: str
    policy_version: str
    rules: tuple[str, ...] = ()
    """Names of the task-routing rules that matched, in the order of evaluation."""
    effort: ReasoningEffort | None = None
    """Reasoning effort that a rule sets, for requests that set none and models that take one."""
    forecast: QualityForecast | None = None

    @property
    def margin(self) -> float:
        """Score of the best minus score of the second best; 0 with one candidate."""
        return self.candidates[0].score - self.candidates[1].score if len(self.candidates) > 1 else 0.0
