"""The scales: score what the sieve lets through and choose. Pure: snapshot and random draw are given.

Score = sum of weight x factor, every factor in [0, 1], so the score is in [0, 1]. Cost and latency factors are
``r / (r + x)`` with the policy's reference ``r``: absolute, so that a candidate's score never depends on who else
stands on the scales. The choice is drawn from ``(1 - e) * softmax(score / T) + e * uniform`` over the candidates, so
every decision has an exact propensity; with ``T = 0`` and ``e = 0`` the highest score wins outright.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.domain.decisions import Candidate, Decision, FactorScores, Rejection
from shared.domain.errors import NoEligibleModel
from shared.domain.features import RequestFeatures
from shared.domain.models import Deployment, ModelProfile
from shared.domain.policy import Policy, RoutingConstraints, ServicePolicy, Weights
from shared.scoring.eligibility import Load, ProviderLimit, Sieve
from shared.scoring.snapshot import Snapshot

_EASY_SHARE = 0.35
"""How much of a model's expected failure remains on the easiest requests (assumption until learned)."""
_LOAD_REFERENCE = 32.0
"""Attempts in flight at which the load factor is one half."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that a decision depends on beside the snapshot, the draw and what wire forms cannot carry.

    Attributes:
        service: the calling service's name.
        stream: whether the answer is streamed.
        tags: the caller's labels, sorted by key.
    """

    features: RequestFeatures
    constraints: RoutingConstraints
    service: str
    stream: bool = False
    tags: tuple[tuple[str, str], ...] = ()


def decide(question: Question, snapshot: Snapshot, draw: float, provider_limit: ProviderLimit) -> Decision:
    """Choose a deployment and its ordered fallbacks.

    Args:
        question: what is asked.
        snapshot: the world as it is now.
        draw: a random number in [0, 1) that picks from the distribution; the same draw picks the same again.
        provider_limit: what wire forms cannot carry of the request.

    Raises:
        NoEligibleModel: nothing passed the sieve; the exception's `rejections` holds each reason.
    """
    policy = snapshot.policy
    service = policy.for_service(question.service)
    weights = weights_for(question.constraints, service, policy)
    sieve = Sieve(question.features, question.constraints, service, snapshot, question.stream, provider_limit)
    rejections: list[Rejection] = []
    candidates: list[Candidate] = []
    for deployment in snapshot.registry.deployments:
        profile = snapshot.registry.models[deployment.model_id]
        load = sieve.examine(deployment, profile)
        if isinstance(load, Rejection):
            rejections.append(load)
        else:
            candidates.append(_weigh(deployment, profile, load, question.features, weights, snapshot))
    if not candidates:
        raise NothingEligible(tuple(rejections))
    # Sorting by id among equal scores keeps the order independent of the registry file's.
    candidates.sort(key=lambda c: (-c.score, c.deployment.id))
    ranked = _with_propensities(candidates, question.constraints, policy)
    chosen = _pick(ranked, draw)
    return Decision(
        chosen=chosen,
        fallbacks=_fallback_order(chosen, ranked),
        candidates=tuple(ranked),
        rejections=tuple(rejections),
        weights=weights,
        features=question.features,
        registry_version=snapshot.registry.version,
        policy_version=policy.version,
    )


class NothingEligible(NoEligibleModel):
    """Every candidate was dropped; `rejections` says why, one by one."""

    def __init__(self, rejections: tuple[Rejection, ...]) -> None:
        super().__init__("no model may take this request")
        self.rejections = rejections


def weights_for(constraints: RoutingConstraints, service: ServicePolicy, policy: Policy) -> Weights:
    """The weights in force: the request's own, else its preset, else the service's preset, else the policy's."""
    if constraints.weights is not None:
        return constraints.weights.normalised()
    return policy.presets[constraints.preset or service.preset or policy.default_preset].normalised()


def _weigh(
    deployment: Deployment,
    profile: ModelProfile,
    load: Load,
    features: RequestFeatures,
    weights: Weights,
    snapshot: Snapshot,
) -> Candidate:
    signals = snapshot.signals_of(deployment.id)
    factors = FactorScores(
        quality=expected_quality(profile, features),
        cost=_closeness(float(load.expected_cost_usd), snapshot.policy.cost_reference_usd),
        latency=_closeness(load.expected_latency_ms, snapshot.policy.latency_reference_ms),
        reliability=signals.success_rate,
        load=_closeness(signals.in_flight / max(deployment.weight, 1e-9), _LOAD_REFERENCE),
    )
    return Candidate(
        deployment=deployment,
        profile=profile,
        factors=factors,
        score=_score(factors, weights),
        propensity=0.0,
        expected_cost_usd=load.expected_cost_usd,
        worst_case_cost_usd=load.worst_case_cost_usd,
        expected_latency_ms=load.expected_latency_ms,
        prompt_tokens=load.prompt_tokens,
        max_output_tokens=load.max_output_tokens,
    )


def expected_quality(profile: ModelProfile, features: RequestFeatures) -> float:
    """Expected quality in [0, 1]: the category's prior, with the chance of failure shrinking on easy requests."""
    prior = profile.quality.get(features.category.value) or profile.quality["overall"]
    return 1.0 - (1.0 - prior.mean) * (_EASY_SHARE + (1.0 - _EASY_SHARE) * features.complexity)


def _closeness(value: float, reference: float) -> float:
    return reference / (reference + value)


def _score(factors: FactorScores, weights: Weights) -> float:
    return (
        weights.quality * factors.quality
        + weights.cost * factors.cost
        + weights.latency * factors.latency
        + weights.reliability * factors.reliability
        + weights.load * factors.load
    )


def _with_propensities(
    candidates: Sequence[Candidate], constraints: RoutingConstraints, policy: Policy
) -> list[Candidate]:
    """Candidates with their probabilities; when a model is named, others only stand by as fallbacks (probability 0)."""
    named = [c for c in candidates if c.profile.id == constraints.model]
    open_to_choice = named or list(candidates)
    probabilities = _distribution([c.score for c in open_to_choice], policy.temperature, policy.exploration)
    by_id = {c.deployment.id: p for c, p in zip(open_to_choice, probabilities, strict=True)}
    # Most probabilities are 0, which candidates start with: copies are made for the others only.
    return [replace(c, propensity=p) if (p := by_id.get(c.deployment.id)) else c for c in candidates]


def _distribution(scores: Sequence[float], temperature: float, exploration: float) -> list[float]:
    best = max(scores)
    if temperature <= 0:
        first = scores.index(best)
        greedy = [1.0 if i == first else 0.0 for i in range(len(scores))]
    else:
        exponentials = [math.exp((score - best) / temperature) for score in scores]
        total = sum(exponentials)
        greedy = [value / total for value in exponentials]
    uniform = 1.0 / len(scores)
    return [(1.0 - exploration) * p + exploration * uniform for p in greedy]


def _pick(candidates: Sequence[Candidate], draw: float) -> Candidate:
    possible = [c for c in candidates if c.propensity > 0.0]
    reached = 0.0
    for candidate in possible:
        reached += candidate.propensity
        if draw < reached:
            return candidate
    # Rounding may leave the sum a hair below 1.
    return possible[-1]


def _fallback_order(chosen: Candidate, ranked: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The chosen model's other deployments first, then other models by score."""
    others = [c for c in ranked if c is not chosen]
    return tuple(sorted(others, key=lambda c: c.profile.id != chosen.profile.id))
