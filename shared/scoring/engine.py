"""The scales: score what the sieve lets through and choose. Pure: snapshot and random draw are given.

Score = sum of weight x factor, every factor in [0, 1], so the score is in [0, 1]. Cost and latency factors are
``r / (r + x)`` with the policy's reference ``r``: absolute, so that a candidate's score never depends on who else
stands on the scales (but for the reference model, whose expected quality is not doubted: `shared.scoring.quality`).
The choice is drawn from ``(1 - e) * softmax(score / T) + e * uniform`` over the candidates, the first part spread over
equal deployments of a model (`shared.scoring.balancing`), so every decision has an exact propensity; with ``T = 0`` and
``e = 0`` the model with the highest score wins outright.
"""

import math
from dataclasses import dataclass

import numpy as np

from shared.domain.decisions import Candidate, Decision, FactorScores, Rejection
from shared.domain.errors import NoEligibleModel
from shared.domain.features import RequestFeatures
from shared.domain.forecasts import QualityForecast
from shared.domain.policy import Policy, RoutingConstraints, Weights
from shared.scoring.balancing import pressure, spread
from shared.scoring.eligibility import Ask, ProviderLimit, Sieve, usd
from shared.scoring.lazy import Columns, LazySequence
from shared.scoring.quality import Outlook, guarded, known_of, outlook, reference_rows, weights_for
from shared.scoring.rules import Applied, apply, require_within_limits
from shared.scoring.snapshot import Snapshot
from shared.scoring.table import PICO_PER_USD, Floats, Ints

_LOAD_REFERENCE = 32.0
"""Attempts in flight at which the load factor is one half."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that a decision depends on beside the snapshot, the draw and what wire forms cannot carry.

    Attributes:
        service: the calling service's name.
        stream: whether the answer is streamed.
        tags: the caller's labels, sorted by key.
        forecast: what quality to expect of each model of the registry; None leaves it to the registry's priors.
    """

    features: RequestFeatures
    constraints: RoutingConstraints
    service: str
    stream: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    forecast: QualityForecast | None = None


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
    ask = Ask(question.features, applied.constraints, service, question.stream, provider_limit)
    sieve = Sieve(ask, snapshot)
    if not len(sieve.eligible):
        raise NothingEligible(tuple(sieve.rejection(int(row)) for row in sieve.rejected))
    known = known_of(question.features, question.forecast, policy.quality)
    asked = weights_for(applied.constraints, service, policy)
    weights = guarded(asked, known, applied.constraints, service, policy)
    scales = _Scales(sieve, question, weights, snapshot, applied)
    ranked = scales.ranking(sieve.eligible, by_cost=weights != asked)
    propensity = _propensities(ranked, scales, question.constraints, policy)
    chosen = _pick(propensity, draw)
    # The chosen model's other deployments first, then other models by score.
    models = table.model[ranked]
    standby = (models != models[chosen]).argsort(kind="stable")
    standby = standby[standby != chosen]

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
        forecast=question.forecast,
    )


class _Scales:
    """Factors and scores of every row of the table, eligible or not."""

    def __init__(
        self, sieve: Sieve, question: Question, weights: Weights, snapshot: Snapshot, applied: Applied
    ) -> None:
        table, policy, loads = snapshot.table, snapshot.policy, sieve.loads
        reliability, in_flight = np.ones(len(table)), np.zeros(len(table))
        for deployment_id, signals in snapshot.signals.items():
            row = table.row_of.get(deployment_id)
            if row is not None:
                reliability[row], in_flight[row] = signals.success_rate, signals.in_flight
        self.table = table
        self._loads = loads
        reference = reference_rows(table, sieve.eligible, loads.expected_cost_pico)
        self._outlook: Outlook = outlook(table, question.features, question.forecast, reference, policy.quality)
        self._cost = _closeness(loads.expected_cost_pico / PICO_PER_USD, policy.cost_reference_usd)
        self._latency = _closeness(loads.expected_latency_ms, policy.latency_reference_ms)
        self._reliability = reliability
        self._in_flight = in_flight
        self._load = _closeness(in_flight / table.weight, _LOAD_REFERENCE)
        self.score: Floats = (
            weights.quality * self._outlook.quality
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

    def ranking(self, rows: Ints, *, by_cost: bool) -> Ints:
        """Rows by score, the best first.

        Equal scores stand in the order of their ids, so that the order of the registry's files does not matter.

        Args:
            rows: which.
            by_cost: whether the cheaper comes first of equal scores: where cost was taken out of the weights, it still
                decides between equally good models.
        """
        cost = self._loads.expected_cost_pico[rows] if by_cost else np.zeros(len(rows), np.int64)
        ranked: Ints = rows[np.lexsort((self.table.id_rank[rows], cost, -self.score[rows]))]
        return ranked

    def balanced(self, rows: Ints, probability: Floats, tolerance: float) -> Floats:
        """The probabilities of ranked rows, spread over equal deployments of a model."""
        table, loads = self.table, self._loads
        return spread(
            probability,
            model=table.model[rows],
            cost=loads.expected_cost_pico[rows],
            score=self.score[rows],
            pressures=pressure(
                loads.expected_latency_ms[rows], self._in_flight[rows], table.weight[rows], self._reliability[rows]
            ),
            weights=table.weight[rows],
            tolerance=tolerance,
        )

    def candidate(self, row: int, propensity: float) -> Candidate:
        """A row as the explanation shows it."""
        loads, mean, std = self._loads, self._outlook.mean, self._outlook.std
        return Candidate(
            deployment=self.table.deployments[row],
            profile=self.table.profiles[row],
            factors=FactorScores(
                quality=float(self._outlook.quality[row]),
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
            quality_mean=None if mean is None else float(mean[row]),
            quality_std=None if std is None else float(std[row]),
        )

    def columns(self, rows: Ints, propensity: Floats) -> Columns:
        """The same facts of many rows, as `shared.scoring.receipt` names them."""
        loads, deployments = self._loads, self.table.deployments
        mean, std = self._outlook.mean, self._outlook.std
        forecast = (
            {}
            if mean is None or std is None
            else {"quality_mean": mean[rows].tolist(), "quality_std": std[rows].tolist()}
        )
        return forecast | {
            "deployment": [deployments[row].id for row in rows.tolist()],
            "score": self.score[rows].tolist(),
            "propensity": propensity.tolist(),
            "quality": self._outlook.quality[rows].tolist(),
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


def _closeness(value: Floats, reference: float) -> Floats:
    return reference / (reference + value)


def _propensities(ranked: Ints, scales: _Scales, constraints: RoutingConstraints, policy: Policy) -> Floats:
    """Probabilities in ranked order; when a model is named, others only stand by as fallbacks (probability 0)."""
    open_to_choice = np.ones(len(ranked), np.bool_)
    if constraints.model is not None:
        named = scales.table.rows_of_models({constraints.model})[ranked]
        open_to_choice = named if named.any() else open_to_choice
    places = np.flatnonzero(open_to_choice)
    scores = scales.score[ranked[places]]
    if policy.temperature <= 0:
        greedy = np.zeros(len(places))
        greedy[0] = 1.0
    else:
        # Not numpy's exp and sum: their last bit may depend on the processor, and a receipt must replay anywhere.
        best = float(scores[0])
        exponentials = [math.exp((float(score) - best) / policy.temperature) for score in scores]
        greedy = np.array(exponentials) / math.fsum(exponentials)
    if policy.balancing.enabled:
        greedy = scales.balanced(ranked[places], greedy, policy.balancing.tolerance)
    propensity = np.zeros(len(ranked))
    propensity[places] = (1.0 - policy.exploration) * greedy + policy.exploration / len(places)
    return propensity


def _pick(propensity: Floats, draw: float) -> int:
    position = int(propensity.cumsum().searchsorted(draw, side="right"))
    # Rounding may leave the sum a hair below 1; then the last possible one was meant.
    return position if position < len(propensity) else int(np.flatnonzero(propensity)[-1])
