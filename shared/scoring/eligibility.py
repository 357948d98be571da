"""The sieve: hard constraints. A candidate passes all of them or is dropped with the first reason that holds.

The same sieve serves the first choice, every fallback and every retry, so nothing can slip past it later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from shared.domain.chat import Modality
from shared.domain.decisions import Rejection, RejectionReason
from shared.domain.features import RequestFeatures
from shared.domain.models import Deployment, ModelProfile
from shared.domain.policy import RoutingConstraints, ServicePolicy
from shared.domain.pricing import PER_MILLION, rates_for
from shared.domain.security import SecurityLevel
from shared.scoring.snapshot import Snapshot

WORST_CASE_PROMPT_FACTOR = Decimal("1.25")
"""Token estimates are within about 15% of real tokenizers; the worst case allows a quarter."""

ProviderLimit = Callable[[ModelProfile, Deployment], str | None]
"""Says what the deployment's wire form cannot carry of the request, or None."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a request would put on one deployment: tokens in and out, money and time, expected and at worst."""

    prompt_tokens: int
    max_output_tokens: int
    expected_cost_usd: Decimal
    worst_case_cost_usd: Decimal
    expected_latency_ms: float


@dataclass(frozen=True, slots=True)
class Sieve:
    """The constraints of one request against one snapshot.

    Args:
        features: what the content is.
        constraints: what the caller asks for.
        service: the rules of the calling service.
        snapshot: registry, policy, signals, time.
        stream: whether the answer is streamed.
        provider_limit: what wire forms cannot carry.
    """

    features: RequestFeatures
    constraints: RoutingConstraints
    service: ServicePolicy
    snapshot: Snapshot
    stream: bool
    provider_limit: ProviderLimit

    def examine(self, deployment: Deployment, profile: ModelProfile) -> Load | Rejection:
        """The load on an eligible deployment, or why it is dropped."""
        refusal = (
            self._by_request(deployment, profile)
            or self._by_content(deployment)
            or self._by_state(deployment, profile)
            or self._by_capability(profile)
            or self._by_wire_form(deployment, profile)
        )
        if refusal is not None:
            return Rejection(deployment.id, profile.id, *refusal)
        load = self._load(deployment, profile)
        refusal = self._by_size(profile, load) or self._by_price(load) or self._by_latency(load)
        if refusal is not None:
            return Rejection(deployment.id, profile.id, *refusal)
        return load

    def _by_request(self, deployment: Deployment, profile: ModelProfile) -> tuple[RejectionReason, str] | None:
        wanted, model = self.constraints, profile.id
        if not deployment.enabled:
            return RejectionReason.DISABLED, "switched off in the registry"
        if wanted.model is not None and wanted.model != model and not wanted.allow_fallback:
            return RejectionReason.NOT_REQUESTED, f"the request names {wanted.model}"
        for allowed in (self.service.allow_models, wanted.allow_models):
            if allowed and model not in allowed:
                return RejectionReason.NOT_ALLOWED, "not among the allowed models"
        if model in self.service.deny_models or model in wanted.deny_models:
            return RejectionReason.DENIED, "among the denied models"
        return None

    def _by_content(self, deployment: Deployment) -> tuple[RejectionReason, str] | None:
        level = self.features.security_level
        if level > deployment.clearance or level > self.service.max_level:
            limit = min(deployment.clearance, self.service.max_level)
            return RejectionReason.CLEARANCE, f"content is {level.label}, cleared up to {SecurityLevel(limit).label}"
        for zones in (self.service.residency, self.constraints.residency):
            if zones and not (deployment.residency and deployment.residency <= zones):
                lies, must = ", ".join(sorted(deployment.residency)) or "nowhere", ", ".join(sorted(zones))
                return RejectionReason.RESIDENCY, f"content must stay in {must}, the deployment lies in {lies}"
        return None

    def _by_state(self, deployment: Deployment, profile: ModelProfile) -> tuple[RejectionReason, str] | None:
        if not profile.lifecycle.usable_on(self.snapshot.now.date()):
            return RejectionReason.LIFECYCLE, "not yet available, or retired"
        if self.snapshot.signals_of(deployment.id).cooling_down:
            return RejectionReason.COOLDOWN, "suspended after failures"
        return None

    def _by_capability(self, profile: ModelProfile) -> tuple[RejectionReason, str] | None:
        need, can = self.features, profile.capabilities
        missing = need.modalities - can.modalities - {Modality.TEXT}
        if missing:
            return RejectionReason.MODALITY, f"takes no {', '.join(sorted(missing))}"
        if need.needs_tools and not can.tools:
            return RejectionReason.TOOLS, "cannot call tools"
        if need.needs_json_schema and not can.json_schema:
            return RejectionReason.JSON, "cannot be held to a JSON schema"
        if need.needs_json_object and not (can.json_object or can.json_schema):
            return RejectionReason.JSON, "cannot be held to JSON"
        if need.needs_media_uris and not can.media_uris:
            return RejectionReason.MEDIA_URI, "takes media as data only, not by URI"
        if self.stream and not can.streaming:
            return RejectionReason.STREAMING, "cannot stream"
        return None

    def _by_wire_form(self, deployment: Deployment, profile: ModelProfile) -> tuple[RejectionReason, str] | None:
        limit = self.provider_limit(profile, deployment)
        return None if limit is None else (RejectionReason.PROVIDER_LIMIT, limit)

    def _by_size(self, profile: ModelProfile, load: Load) -> tuple[RejectionReason, str] | None:
        asked = self.features.max_output_tokens
        if asked is not None and asked > profile.max_output_tokens:
            return RejectionReason.OUTPUT_LIMIT, f"answers hold at most {profile.max_output_tokens} tokens"
        if load.prompt_tokens + (asked or 1) > profile.context_window_tokens:
            return (
                RejectionReason.CONTEXT_WINDOW,
                f"about {load.prompt_tokens} prompt tokens, the window holds {profile.context_window_tokens}",
            )
        return None

    def _by_price(self, load: Load) -> tuple[RejectionReason, str] | None:
        for cap in (self.service.max_cost_usd, self.constraints.max_cost_usd):
            if cap is not None and load.worst_case_cost_usd > cap:
                return RejectionReason.COST_CAP, f"may cost {load.worst_case_cost_usd:.6f} USD, the cap is {cap}"
        return None

    def _by_latency(self, load: Load) -> tuple[RejectionReason, str] | None:
        cap = self.constraints.max_latency_ms
        if cap is not None and load.expected_latency_ms > cap:
            return RejectionReason.LATENCY_CAP, f"expected {load.expected_latency_ms:.0f} ms, the cap is {cap:.0f} ms"
        return None

    def _load(self, deployment: Deployment, profile: ModelProfile) -> Load:
        features, policy = self.features, self.snapshot.policy
        prompt = features.prompt_tokens_at(profile.chars_per_token)
        most_output = features.max_output_tokens
        if most_output is None:
            room = profile.context_window_tokens - prompt
            most_output = max(1, min(policy.default_max_output_tokens, profile.max_output_tokens, room))
        output = min(features.expected_output_tokens, most_output)
        day, region = self.snapshot.now.date(), deployment.region
        rates = rates_for(profile, day=day, prompt_tokens=prompt, region=region)
        most_prompt = int(prompt * WORST_CASE_PROMPT_FACTOR) + 1
        dear = rates_for(profile, day=day, prompt_tokens=most_prompt, region=region)
        dear_input = max(dear.input, dear.input_audio or dear.input, dear.cache_write or dear.input)
        seen_ttft_ms = self.snapshot.signals_of(deployment.id).ttft_ms
        ttft_ms = profile.ttft_ms if seen_ttft_ms is None else seen_ttft_ms
        return Load(
            prompt_tokens=prompt,
            max_output_tokens=most_output,
            expected_cost_usd=(prompt * rates.input + output * rates.output) / PER_MILLION,
            worst_case_cost_usd=(most_prompt * dear_input + most_output * dear.output) / PER_MILLION,
            expected_latency_ms=ttft_ms + 1000.0 * output / profile.tokens_per_s,
        )
