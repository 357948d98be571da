"""The sieve: hard constraints, over all deployments at once.

A candidate passes all of them or is dropped with the first reason that holds, in the order of `RejectionReason`. The
same sieve serves the first choice, every fallback and every retry, so nothing can slip past it later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from shared.domain.chat import Modality
from shared.domain.decisions import Rejection, RejectionReason
from shared.domain.features import REFERENCE_CHARS_PER_TOKEN, RequestFeatures
from shared.domain.models import Deployment, ModelProfile
from shared.domain.policy import Policy, RoutingConstraints, ServicePolicy
from shared.domain.security import SecurityLevel
from shared.scoring.lazy import Columns
from shared.scoring.snapshot import Snapshot
from shared.scoring.table import FAMILIES, PICO_PER_USD, Bools, CandidateTable, Floats, Ints

WORST_CASE_PROMPT_FACTOR = 1.25
"""Token estimates are within about 15% of real tokenizers; the worst case allows a quarter."""

ProviderLimit = Callable[[ModelProfile, Deployment], str | None]
"""Says what the deployment's wire form cannot carry of the request, or None."""

_REASONS = tuple(RejectionReason)
_CODES = {reason: code for code, reason in enumerate(_REASONS, start=1)}
_MOST_PICO = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Loads:
    """What a request would put on each deployment: tokens in and out, money and time, expected and at worst."""

    prompt_tokens: Ints
    max_output_tokens: Ints
    expected_cost_pico: Ints
    worst_case_cost_pico: Ints
    expected_latency_ms: Floats


@dataclass(frozen=True, slots=True)
class Ask:
    """The request's side of the sieve.

    Attributes:
        service: the rules of the calling service.
        provider_limit: what wire forms cannot carry.
    """

    features: RequestFeatures
    constraints: RoutingConstraints
    service: ServicePolicy
    stream: bool
    provider_limit: ProviderLimit


class Sieve:
    """The verdict on every deployment of a snapshot.

    Args:
        ask: what is asked.
        snapshot: registry, policy, signals, time.
    """

    def __init__(self, ask: Ask, snapshot: Snapshot) -> None:
        self._ask = ask
        self._table = snapshot.table
        self._limits: dict[int, str] = {}
        self._codes: Ints = np.zeros(len(self._table), np.int64)
        self.loads = _loads(ask.features, self._table, snapshot)
        self._by_request()
        self._by_content()
        self._by_state(snapshot)
        self._by_capability()
        self._by_wire_form()
        self._by_size()
        self._by_price_and_time()
        self.eligible: Ints = np.flatnonzero(self._codes == 0)
        self.rejected: Ints = np.flatnonzero(self._codes)

    def rejection(self, row: int) -> Rejection:
        """Why a dropped deployment was dropped; the detail names the two values that clash."""
        reason = _REASONS[int(self._codes[row]) - 1]
        deployment = self._table.deployments[row]
        return Rejection(deployment.id, deployment.model_id, reason, self._detail(reason, row))

    def rejected_columns(self) -> Columns:
        """Deployment and reason of everything that was dropped; the reason and the request give the details."""
        deployments, codes = self._table.deployments, self._codes[self.rejected].tolist()
        return {
            "deployment": [deployments[row].id for row in self.rejected.tolist()],
            "reason": [_REASONS[code - 1].value for code in codes],
        }

    def _drop(self, reason: RejectionReason, rows: Bools) -> None:
        self._codes[(self._codes == 0) & rows] = _CODES[reason]

    def _by_request(self) -> None:
        table, wanted, service = self._table, self._ask.constraints, self._ask.service
        self._drop(RejectionReason.DISABLED, ~table.enabled)
        if wanted.model is not None and not wanted.allow_fallback:
            self._drop(RejectionReason.NOT_REQUESTED, ~table.rows_of_models({wanted.model}))
        for allowed in (service.allow_models, wanted.allow_models):
            if allowed:
                self._drop(RejectionReason.NOT_ALLOWED, ~table.rows_of_models(allowed))
        if wanted.deployment is not None:
            self._drop(RejectionReason.NOT_ALLOWED, ~table.is_row(wanted.deployment))
        denied = service.deny_models | wanted.deny_models
        if denied:
            self._drop(RejectionReason.DENIED, table.rows_of_models(denied))

    def _by_content(self) -> None:
        table, level = self._table, int(self._ask.features.security_level)
        self._drop(RejectionReason.CLEARANCE, np.minimum(table.clearance, self._most_level()) < level)
        for zones in (self._ask.service.residency, self._ask.constraints.residency):
            if zones:
                self._drop(RejectionReason.RESIDENCY, ~table.within(zones))

    def _most_level(self) -> int:
        return int(min(self._ask.service.max_level, self._ask.constraints.max_level))

    def _by_state(self, snapshot: Snapshot) -> None:
        self._drop(RejectionReason.LIFECYCLE, ~self._table.usable)
        for deployment_id, signals in snapshot.signals.items():
            row = self._table.row_of.get(deployment_id)
            if signals.cooling_down and row is not None and self._codes[row] == 0:
                self._codes[row] = _CODES[RejectionReason.COOLDOWN]

    def _by_capability(self) -> None:
        table, need = self._table, self._ask.features
        self._drop(RejectionReason.MODALITY, ~table.takes(need.modalities))
        if need.needs_tools:
            self._drop(RejectionReason.TOOLS, ~table.tools)
        if need.needs_json_schema:
            self._drop(RejectionReason.JSON, ~table.json_schema)
        if need.needs_json_object:
            self._drop(RejectionReason.JSON, ~(table.json_object | table.json_schema))
        if need.needs_system:
            self._drop(RejectionReason.SYSTEM, ~table.system)
        if need.needs_media_uris:
            self._drop(RejectionReason.MEDIA_URI, ~table.media_uris)
        if self._ask.stream:
            self._drop(RejectionReason.STREAMING, ~table.streaming)

    def _by_wire_form(self) -> None:
        """Ask once for each wire form of a model that is still in the race."""
        table = self._table
        for group in sorted(set(table.wire_group[self._codes == 0].tolist())):
            row = table.wire_groups[group]
            limit = self._ask.provider_limit(table.profiles[row], table.deployments[row])
            if limit is not None:
                self._limits[group] = limit
        if self._limits:
            self._drop(RejectionReason.PROVIDER_LIMIT, np.isin(table.wire_group, list(self._limits)))

    def _by_size(self) -> None:
        table, asked = self._table, self._ask.features.max_output_tokens
        self._drop(RejectionReason.CONTEXT_WINDOW, self.loads.prompt_tokens + (asked or 1) > table.context_window)
        if asked is not None:
            self._drop(RejectionReason.OUTPUT_LIMIT, table.max_output < asked)

    def _by_price_and_time(self) -> None:
        wanted = self._ask.constraints
        for cap in (self._ask.service.max_cost_usd, wanted.max_cost_usd):
            if cap is not None:
                pico = min(int(cap * PICO_PER_USD), _MOST_PICO)
                self._drop(RejectionReason.COST_CAP, self.loads.worst_case_cost_pico > pico)
        if wanted.max_latency_ms is not None:
            self._drop(RejectionReason.LATENCY_CAP, self.loads.expected_latency_ms > wanted.max_latency_ms)

    def _detail(self, reason: RejectionReason, row: int) -> str:  # noqa: PLR0911 - one sentence for each reason
        ask, deployment, profile = self._ask, self._table.deployments[row], self._table.profiles[row]
        match reason:
            case RejectionReason.NOT_REQUESTED:
                return f"the request names {ask.constraints.model}"
            case RejectionReason.CLEARANCE:
                limit = SecurityLevel(min(int(deployment.clearance), self._most_level()))
                return f"content is {ask.features.security_level.label}, cleared up to {limit.label}"
            case RejectionReason.RESIDENCY:
                zones = [z for z in (ask.service.residency, ask.constraints.residency) if z]
                must = " and in ".join(" or ".join(sorted(z)) for z in zones)
                lies = ", ".join(sorted(deployment.residency)) or "nowhere known"
                return f"content must stay in {must}, the deployment lies in {lies}"
            case RejectionReason.MODALITY:
                missing = sorted(m.value for m in ask.features.modalities - profile.capabilities.modalities)
                return f"takes no {', '.join(missing)}"
            case RejectionReason.PROVIDER_LIMIT:
                return self._limits[int(self._table.wire_group[row])]
            case RejectionReason.OUTPUT_LIMIT:
                return f"answers hold at most {profile.max_output_tokens} tokens"
            case RejectionReason.CONTEXT_WINDOW:
                prompt = int(self.loads.prompt_tokens[row])
                return f"about {prompt} prompt tokens, the window holds {profile.context_window_tokens}"
            case RejectionReason.COST_CAP:
                caps = [c for c in (ask.service.max_cost_usd, ask.constraints.max_cost_usd) if c is not None]
                return f"may cost {usd(self.loads.worst_case_cost_pico[row]):f} USD, the cap is {min(caps):f}"
            case RejectionReason.LATENCY_CAP:
                expected = float(self.loads.expected_latency_ms[row])
                return f"expected {expected:.0f} ms, the cap is {ask.constraints.max_latency_ms:.0f} ms"
            case _:
                return _CONSTANT_DETAILS[reason]


_CONSTANT_DETAILS = {
    RejectionReason.DISABLED: "switched off in the registry",
    RejectionReason.NOT_ALLOWED: "not among the allowed models",
    RejectionReason.DENIED: "among the denied models",
    RejectionReason.LIFECYCLE: "not yet available, or retired",
    RejectionReason.COOLDOWN: "suspended after failures",
    RejectionReason.TOOLS: "cannot call tools",
    RejectionReason.JSON: "cannot be held to the JSON that is asked for",
    RejectionReason.SYSTEM: "takes no system message",
    RejectionReason.MEDIA_URI: "takes media as data only, not by URI",
    RejectionReason.STREAMING: "cannot stream",
}


def usd(pico: int) -> Decimal:
    """Pico-USD as exact USD."""
    return Decimal(int(pico)).scaleb(-12)


def _loads(features: RequestFeatures, table: CandidateTable, snapshot: Snapshot) -> Loads:
    policy: Policy = snapshot.policy
    # The same arithmetic as RequestFeatures.prompt_tokens_at.
    estimates = [features.estimate_in(family) for family in FAMILIES]
    text = np.array([estimate.text for estimate in estimates])[table.tokenizer]
    media = np.array([estimate.media for estimate in estimates])[table.tokenizer]
    prompt = np.ceil(text * REFERENCE_CHARS_PER_TOKEN / table.chars_per_token).astype(np.int64) + media
    if features.max_output_tokens is None:
        room = table.context_window - prompt
        most_output = np.minimum(np.minimum(table.max_output, policy.default_max_output_tokens), room)
        most_output = np.maximum(most_output, 1)
    else:
        most_output = np.full(len(table), features.max_output_tokens, np.int64)
    output = np.minimum(most_output, features.expected_output_tokens)
    most_prompt = (prompt * WORST_CASE_PROMPT_FACTOR).astype(np.int64) + 1
    prices = table.prices
    tier, dear_tier = prices.reached(prompt), prices.reached(most_prompt)
    # Video carries its sound.
    has_sound = not features.modalities.isdisjoint({Modality.AUDIO, Modality.VIDEO})
    dearest = prices.dearest_audio if has_sound else prices.dearest_input
    ttft_ms = table.ttft_ms
    seen = [(table.row_of[i], s.ttft_ms) for i, s in snapshot.signals.items() if i in table.row_of]
    if any(ms is not None for _, ms in seen):
        ttft_ms = ttft_ms.copy()
        for row, ms in seen:
            if ms is not None:
                ttft_ms[row] = ms
    return Loads(
        prompt_tokens=prompt,
        max_output_tokens=most_output,
        expected_cost_pico=prompt * prices.input[tier] + output * prices.output[tier],
        worst_case_cost_pico=most_prompt * dearest[dear_tier] + most_output * prices.output[dear_tier],
        expected_latency_ms=ttft_ms + 1000.0 * output / table.tokens_per_s,
    )
