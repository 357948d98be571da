"""The scales: score what the sieve lets through and choose. Pure: snapshot and random draw are given.

Score = sum of weight x factor, every factor in [0, 1], so the score is in [0, 1]. Cost and latency factors are
``r / (r + x)`` with the policy's reference ``r``: absolute, so that a candidate's score never depends on who else
stands on the scales. The choice is drawn from ``(1 - e) * softmax(score / T) + e * uniform`` over the candidates, so
every decision has an exact propensity; with ``T = 0`` and ``e = 0`` the highest score wins outright.
"""

import math
from dataclasses import dataclass

import numpy as np

from shared.domain.decisions import Candidate, Decision, FactorScores, Rejection
from shared.domain.errors import NoEligibleModel
from shared.domain.features import RequestFeatures
from shared.domain.policy import Policy, RoutingConstraints, ServicePolicy, Weights
from shared.scoring.eligibility import Ask, ProviderLimit, Sieve, usd
from shared.scoring.lazy import Columns, LazySequence
from shared.scoring.rules import Applied, apply, require_within_limits
from shared.scoring.snapshot import Snapshot
from shared.scoring.table import CATEGORIES, PICO_PER_USD, CandidateTable, Floats, Ints

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


class NothingEligible(NoEligibleModel):
    """Every candidate was dropped; `rejections` says why, one by one."""

    def __init__(self, rejections: tuple[Rejection, ...]) -> None:
        super().__init__("no model may take this request")
        self.rejections = rejections


def decide(question: Question, snapshot: Snapshot, draw: float, provider_limit: ProviderLimit) -> Decision:
    """Choose a deployment and its ordered fallbacks.

    Args:
        question: what is asked.
        snapshot: the world as it is now.
        draw: a random number in [0, 1) that picks from the distribution; the same draw picks the same again.
        provider_limit: what wire forms cannot carry of the request.

    Raises:
        NothingEligible: nothing passed the sieve; its `rejections` holds each reason.
    """
    policy, table = snapshot.policy, snapshot.table
    service = policy.for_service(question.service)
    require_within_limits(question.constraints, policy.limits_for(question.service))
    applied = apply(policy.rules, question, snapshot.now)
    weights = weights_for(applied.constraints, service, policy)
    ask = Ask(question.features, applied.constraints, service, question.stream, provider_limit)
    sieve = Sieve(ask, snapshot)
    if not len(sieve.eligible):
        raise NothingEligible(tuple(sieve.rejection(int(row)) for row in sieve.rejected))
    scales = _Scales(sieve, question.features, weights, snapshot, applied)
    # Equal scores stand in the order of their ids, so that the order of the registry's files does not matter.
    ranked = sieve.eligible[np.lexsort((table.id_rank[sieve.eligible], -scales.score[sieve.eligible]))]
    propensity = _propensities(ranked, scales.score[ranked], question.constraints, table, policy)
    chosen = _pick(propensity, draw)
    standby = np.delete(np.arange(len(ranked)), chosen)
    # The chosen model's other deployments first, then other models by score.
    standby = standby[np.argsort(table.model[ranked[standby]] != table.model[ranked[chosen]], kind="stable")]

    def candidate(position: int) -> Candidate:
        return scales.candidate(int(ranked[position]), float(propensity[position]))

    return Decision(
        chosen=candidate(chosen),
        fallbacks=LazySequence(
            len(standby),
            lambda i: candidate(int(standby[i])),
            lambda: {"deployment": [table.deployments[row].id for row in ranked[standby].tolist()]},
        ),
        candidates=LazySequence(len(ranked), candidate, lambda: scales.columns(ranked, propensity)),
        rejections=LazySequence(
            len(sieve.rejected), lambda i: sieve.rejection(int(sieve.rejected[i])), sieve.rejected_columns
        ),
        weights=weights,
        features=question.features,
        registry_version=snapshot.registry.version,
        policy_version=policy.version,
        rules=applied.matched,
        effort=applied.effort,
    )


def weights_for(constraints: RoutingConstraints, service: ServicePolicy, policy: Policy) -> Weights:
    """The weights in force: the request's own, else its preset, else the service's preset, else the policy's."""
    if constraints.weights is not None:
        return constraints.weights.normalised()
    return policy.presets[constraints.preset or service.preset or policy.default_preset].normalised()


class _Scales:
    """Factors and scores of every row of the table, eligible or not."""

    def __init__(
        self, sieve: Sieve, features: RequestFeatures, weights: Weights, snapshot: Snapshot, applied: Applied
    ) -> None:
        table, policy, loads = snapshot.table, snapshot.policy, sieve.loads
        reliability, in_flight = np.ones(len(table)), np.zeros(len(table))
        for deployment_id, signals in snapshot.signals.items():
            row = table.row_of.get(deployment_id)
            if row is not None:
                reliability[row], in_flight[row] = signals.success_rate, signals.in_flight
        self._table = table
        self._loads = loads
        self._quality = expected_quality(table, features)
        self._cost = _closeness(loads.expected_cost_pico / PICO_PER_USD, policy.cost_reference_usd)
        self._latency = _closeness(loads.expected_latency_ms, policy.latency_reference_ms)
        self._reliability = reliability
        self._load = _closeness(in_flight / table.weight, _LOAD_REFERENCE)
        self.score: Floats = (
            weights.quality * self._quality
            + weights.cost * self._cost
            + weights.latency * self._latency
            + weights.reliability * self._reliability
            + weights.load * self._load
        )
        if applied.prefer:
            bonus = np.zeros(len(table))
            for model_id, value in applied.prefer.items():
                bonus[table.rows_of_models({model_id})] = value
            self.score = (self.score + bonus) / (1.0 + max(applied.prefer.values()))

    def candidate(self, row: int, propensity: float) -> Candidate:
        """A row as the explanation shows it."""
        loads = self._loads
        return Candidate(
            deployment=self._table.deployments[row],
            profile=self._table.profiles[row],
            factors=FactorScores(
                quality=float(self._quality[row]),
                cost=float(self._cost[row]),
                latency=float(self._latency[row]),
                reliability=float(self._reliability[row]),
                load=float(self._load[row]),
            ),
            score=float(self.score[row]),
            propensity=propensity,
            expected_cost_usd=usd(loads.expected_cost_pico[row]),
            worst_case_cost_usd=usd(loads.worst_case_cost_pico[row]),
            expected_latency_ms=float(loads.expected_latency_ms[row]),
            prompt_tokens=int(loads.prompt_tokens[row]),
            max_output_tokens=int(loads.max_output_tokens[row]),
        )

    def columns(self, rows: Ints, propensity: Floats) -> Columns:
        """The same facts of many rows, as `shared.scoring.receipt` names them."""
        loads, deployments = self._loads, self._table.deployments
        return {
            "deployment": [deployments[row].id for row in rows.tolist()],
            "score": self.score[rows].tolist(),
            "propensity": propensity.tolist(),
            "quality": self._quality[rows].tolist(),
            "cost": self._cost[rows].tolist(),
            "latency": self._latency[rows].tolist(),
            "reliability": self._reliability[rows].tolist(),
            "load": self._load[rows].tolist(),
            "expected_cost_pico_usd": loads.expected_cost_pico[rows].tolist(),
            "worst_case_cost_pico_usd": loads.worst_case_cost_pico[rows].tolist(),
            "expected_latency_ms": loads.expected_latency_ms[rows].tolist(),
            "prompt_tokens": loads.prompt_tokens[rows].tolist(),
            "max_output_tokens": loads.max_output_tokens[rows].tolist(),
        }


def expected_quality(table: CandidateTable, features: RequestFeatures) -> Floats:
    """Expected quality in [0, 1]: the category's prior, with the chance of failure shrinking on easy requests."""
    prior = table.quality[:, CATEGORIES[features.category]]
    return 1.0 - (1.0 - prior) * (_EASY_SHARE + (1.0 - _EASY_SHARE) * features.complexity)


def _closeness(value: Floats, reference: float) -> Floats:
    return reference / (reference + value)


def _propensities(
    ranked: Ints, scores: Floats, constraints: RoutingConstraints, table: CandidateTable, policy: Policy
) -> Floats:
    """Probabilities in ranked order; when a model is named, others only stand by as fallbacks (probability 0)."""
    open_to_choice = np.ones(len(ranked), np.bool_)
    if constraints.model is not None:
        named = table.rows_of_models({constraints.model})[ranked]
        open_to_choice = named if named.any() else open_to_choice
    places = np.flatnonzero(open_to_choice)
    if policy.temperature <= 0:
        greedy = np.zeros(len(places))
        greedy[0] = 1.0
    else:
        # Not numpy's exp and sum: their last bit may depend on the processor, and a receipt must replay anywhere.
        best = float(scores[places[0]])
        exponentials = [math.exp((float(score) - best) / policy.temperature) for score in scores[places]]
        greedy = np.array(exponentials) / math.fsum(exponentials)
    propensity = np.zeros(len(ranked))
    propensity[places] = (1.0 - policy.exploration) * greedy + policy.exploration / len(places)
    return propensity


def _pick(propensity: Floats, draw: float) -> int:
    reached = np.cumsum(propensity)
    position = int(np.searchsorted(reached, draw, side="right"))
    # Rounding may leave the sum a hair below 1; then the last possible one was meant.
    return position if position < len(propensity) else int(np.flatnonzero(propensity)[-1])
