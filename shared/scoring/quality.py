"""The quality factor, and how far the task is known. Pure.

Where a forecast came with the question, the factor is its lower confidence bound, the reference's its mean
(`shared.scoring.utility`): the reference is the model that would serve everything if there were no router, the one of
the highest overall prior among the eligible, and of equals the cheapest. Without a forecast it is the category's
prior, with the chance of failure shrinking on easy requests.

On an unknown task nobody knows what a cheaper model would lose, so under the guarded presets cost and latency fade out
of the weights, and the best model serves. Weights that somebody asked for are left alone.
"""

from dataclasses import dataclass, replace

import numpy as np

from shared.domain.features import Category, RequestFeatures
from shared.domain.forecasts import FORECAST_SCALE, QualityForecast
from shared.domain.policy import Policy, QualityRules, RoutingConstraints, ServicePolicy, UnknownTask, Weights
from shared.domain.weights import Preset
from shared.scoring.table import CATEGORIES, Bools, CandidateTable, Floats, Ints
from shared.scoring.utility import known_share, lower_bound

_EASY_SHARE = 0.35
"""How much of a model's expected failure remains on the easiest requests, where nothing was forecast (assumption)."""


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What is expected of every row of the table.

    Attributes:
        quality: the factor, in [0, 1].
        mean, std: of the forecast; None without one.
    """

    quality: Floats
    mean: Floats | None = None
    std: Floats | None = None


def outlook(
    table: CandidateTable,
    features: RequestFeatures,
    forecast: QualityForecast | None,
    reference: Bools,
    rules: QualityRules,
) -> Outlook:
    """Expected quality of every row, eligible or not.

    Args:
        table: the registry's columns.
        features: of the request.
        forecast: of the request's quality, if there is one.
        reference: the rows of the model that doubt favours.
        rules: how far the forecast is trusted.

    Raises:
        ValueError: the forecast is of another registry.
    """
    if forecast is None:
        return Outlook(_expected_by_prior(table, features))
    if len(forecast.mean) != len(table.model_index):
        raise ValueError(f"a forecast for {len(forecast.mean)} models, the registry has {len(table.model_index)}")
    # Plain arithmetic, the same on every processor.
    mean = np.array(forecast.mean, np.float64)[table.model_rank] / FORECAST_SCALE
    std = np.array(forecast.std, np.float64)[table.model_rank] / FORECAST_SCALE
    bound = lower_bound(mean, std, reference=reference, caution=rules.caution)
    return Outlook(np.maximum(bound, 0.0), mean, std)


def reference_rows(table: CandidateTable, eligible: Ints, expected_cost_pico: Ints) -> Bools:
    """The rows of the reference model.

    Args:
        table: the registry's columns.
        eligible: rows that may serve, at least one.
        expected_cost_pico: of every row.
    """
    overall = table.quality[eligible, CATEGORIES[Category.UNKNOWN]]
    order = np.lexsort((table.model_rank[eligible], expected_cost_pico[eligible], -overall))
    rows: Bools = table.model == table.model[eligible[order[0]]]
    return rows


def weights_for(constraints: RoutingConstraints, service: ServicePolicy, policy: Policy) -> Weights:
    """The weights asked for: the request's own, else those of the preset in force."""
    if constraints.weights is not None:
        return constraints.weights.normalised()
    return policy.presets[_preset(constraints, service, policy)].normalised()


def known_of(features: RequestFeatures, forecast: QualityForecast | None, rules: QualityRules) -> float:
    """How far the task is known, 0 to 1."""
    if UnknownTask.CATEGORY in rules.unknown_by and features.category is Category.UNKNOWN:
        return 0.0
    if UnknownTask.FAMILIARITY in rules.unknown_by and forecast is not None:
        return float(known_share(forecast.familiarity / FORECAST_SCALE, rules.familiar_from))
    return 1.0


def guarded(
    weights: Weights, known: float, constraints: RoutingConstraints, service: ServicePolicy, policy: Policy
) -> Weights:
    """The weights in force: those asked for, with cost and latency faded out as far as the task is unknown.

    Left alone when they are somebody's own weights, or of a preset that is not guarded, or hold nothing for quality.
    """
    if known >= 1.0 or constraints.weights is not None or weights.quality <= 0.0:
        return weights
    if _preset(constraints, service, policy) not in policy.quality.guarded:
        return weights
    return replace(weights, cost=weights.cost * known, latency=weights.latency * known).normalised()


def _preset(constraints: RoutingConstraints, service: ServicePolicy, policy: Policy) -> Preset:
    """The request's or a rule's preset, else the service's, else the policy's."""
    return constraints.preset or service.preset or policy.default_preset


def _expected_by_prior(table: CandidateTable, features: RequestFeatures) -> Floats:
    prior = table.quality[:, CATEGORIES[features.category]]
    return 1.0 - (1.0 - prior) * (_EASY_SHARE + (1.0 - _EASY_SHARE) * features.complexity)
