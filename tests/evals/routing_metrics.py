"""What a routing decision was worth: the measures of `make eval-routing`. Scores are in [0, 1], costs in USD.

Everywhere `scores` and `costs` have one row a prompt and one column a model, and `choice` is one column index a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Choice = NDArray[np.intp]
Point = tuple[float, float]
"""Mean cost, mean score."""

UTILITY_LAMBDA = 0.1
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Outcome:
    """One operating point of a router on one set.

    Attributes:
        quality: mean score.
        retention: `quality` over that of the best single model.
        saving: 1 - cost over that of the best single model.
        hit_rate: share of prompts on which no model did better than the chosen one.
        utility_share: (U - U_random) / (U_oracle - U_random) with U = score - 0.1 x cost / cost of the dearest model.
    """

    quality: float
    retention: float
    saving: float
    hit_rate: float
    utility_share: float


def best_single(scores: Matrix) -> int:
    """The model that is best in hindsight when every prompt goes to one model."""
    return int(scores.mean(axis=0).argmax())


def oracle(scores: Matrix, costs: Matrix) -> Choice:
    """On every prompt the cheapest of the models that scored best."""
    is_best = scores >= scores.max(axis=1, keepdims=True) - _TIE
    cheapest: Choice = np.where(is_best, costs, np.inf).argmin(axis=1)
    return cheapest


def outcome(choice: Choice, scores: Matrix, costs: Matrix) -> Outcome:
    """What the choices were worth."""
    rows = np.arange(len(choice))
    best = best_single(scores)
    chosen_scores = scores[rows, choice]
    quality = float(chosen_scores.mean())
    utility = scores - UTILITY_LAMBDA * costs / costs.mean(axis=0).max()
    at_random, at_best = float(utility.mean()), float(utility.max(axis=1).mean())
    return Outcome(
        quality=quality,
        retention=quality / float(scores[:, best].mean()),
        saving=1.0 - float(costs[rows, choice].mean()) / float(costs[:, best].mean()),
        hit_rate=float((chosen_scores >= scores.max(axis=1) - _TIE).mean()),
        utility_share=(float(utility[rows, choice].mean()) - at_random) / (at_best - at_random),
    )


def retention_interval(
    choice: Choice, scores: Matrix, *, rng: np.random.Generator, resamples: int = 1000
) -> tuple[float, float]:
    """95% bootstrap interval of the retention over prompts; both means of the ratio are drawn together."""
    chosen = scores[np.arange(len(choice)), choice]
    single = scores[:, best_single(scores)]
    drawn = rng.integers(0, len(chosen), (resamples, len(chosen)))
    ratios = chosen[drawn].mean(axis=1) / np.maximum(single[drawn].mean(axis=1), _TIE)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


def hull(points: Sequence[Point]) -> list[Point]:
    """The upper left convex hull: what random mixtures of the points reach, without dominated points."""
    rising: list[Point] = []
    for point in sorted(points):
        if not rising or point[1] > rising[-1][1]:
            rising.append(point)
    corners: list[Point] = []
    for cost, quality in rising:
        while len(corners) > 1:
            (cost_a, quality_a), (cost_b, quality_b) = corners[-2:]
            if (quality_b - quality_a) * (cost - cost_a) > (quality - quality_a) * (cost_b - cost_a):
                break
            corners.pop()
        corners.append((cost, quality))
    return corners


def average_improvement_in_quality(
    points: Sequence[Point], low_usd: float, high_usd: float, steps: int = 1000
) -> float:
    """AIQ: mean height of the hull between two costs (RouterBench, arXiv 2403.12031, section 3)."""
    corners = hull(points)
    at = low_usd + (high_usd - low_usd) * (np.arange(steps) + 0.5) / steps
    return float(np.interp(at, [cost for cost, _ in corners], [quality for _, quality in corners]).mean())


def single_points(scores: Matrix, costs: Matrix) -> list[Point]:
    """Every model alone."""
    return list(zip(costs.mean(axis=0).tolist(), scores.mean(axis=0).tolist(), strict=True))


def curve(choices: Sequence[Choice], scores: Matrix, costs: Matrix) -> list[Point]:
    """Operating points of several settings of one router."""
    rows = np.arange(len(scores))
    return [(float(costs[rows, choice].mean()), float(scores[rows, choice].mean())) for choice in choices]


def saving_at(points: Sequence[Point], share: float, scores: Matrix, costs: Matrix) -> float | None:
    """The largest saving among operating points that keep `share` of the best single model's quality."""
    best = best_single(scores)
    quality, cost = float(scores[:, best].mean()), float(costs[:, best].mean())
    savings = [1.0 - point_cost / cost for point_cost, point_quality in points if point_quality >= share * quality]
    return max(savings, default=None)


def blind_saving_at(share: float, scores: Matrix, costs: Matrix) -> float:
    """The same of a random mixture of models that looks at no prompt: the saving that needs no router."""
    best = best_single(scores)
    wanted, cost = share * float(scores[:, best].mean()), float(costs[:, best].mean())
    corners = hull(single_points(scores, costs))
    needed = float(np.interp(wanted, [quality for _, quality in corners], [usd for usd, _ in corners]))
    return 1.0 - needed / cost


@dataclass(frozen=True, slots=True)
class PairCurve:
    """RouteLLM's measures of a strong and a weak model (arXiv 2406.18665, section 3.2).

    Attributes:
        apgr: average performance gap recovered over all shares of strong calls; 0.5 for chance.
        cpt50, cpt80: share of strong calls needed to recover 50% and 80% of the gap.
    """

    apgr: float
    cpt50: float
    cpt80: float


def pair_curve(strong: Vector, weak: Vector, preference: Vector, rng: np.random.Generator) -> PairCurve:
    """The curve when prompts go to the strong model in descending order of `preference`; ties fall at random."""
    count = len(strong)
    order = np.lexsort((rng.random(count), -preference))
    recovered = np.concatenate(([0.0], np.cumsum((strong - weak)[order]))) / (strong - weak).sum()

    def calls_for(gap_share: float) -> float:
        reached = np.flatnonzero(recovered >= gap_share)
        return float(reached[0]) / count if reached.size else 1.0

    return PairCurve(
        apgr=float((recovered[1:] + recovered[:-1]).sum() / 2 / count), cpt50=calls_for(0.5), cpt80=calls_for(0.8)
    )


def expected_calibration_error(scores: Vector, predicted: Vector, bins: int = 10) -> float:
    """ECE: mean distance between predicted and seen quality over equally wide bins of the prediction."""
    index = np.clip((predicted * bins).astype(int), 0, bins - 1)
    gap = np.bincount(index, scores, bins) - np.bincount(index, predicted, bins)
    return float(np.abs(gap).sum() / len(scores))
