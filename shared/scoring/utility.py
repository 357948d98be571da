"""Cautious quality: how far a prediction is trusted, and what an unknown task takes off the worth of money. Pure.

Quality counts at its lower confidence bound, taken against the reference: the model that would serve everything if
there were no router. Its bound is its mean, so that doubt speaks for staying with it. What money is worth falls with
familiarity: on a prompt that resembles nothing seen before, saving is no reason to leave the reference.

The engine (`shared.scoring.quality`) and the evaluation of the predictor (`utilities`) share these.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class UtilityRule:
    """What is traded for what.

    Attributes:
        quality_per_cost: quality, in [0, 1], that one unit of cost is worth. The unit is the caller's, the same as
            that of the costs passed; the evaluation uses the reference model's mean cost.
        quality_per_latency: the same for a unit of latency.
        caution: standard deviations subtracted from the quality of every model but the reference.
        familiar_from: familiarity below which cost and latency stop counting; between it and 1 they fade in.
    """

    quality_per_cost: float
    quality_per_latency: float = 0.0
    caution: float = 1.0
    familiar_from: float = 0.8


def known_share(familiarity: Values | float, familiar_from: float) -> Values:
    """How far a task counts as known: 0 up to a familiarity of `familiar_from`, then linearly up to 1."""
    width = max(1e-9, 1.0 - familiar_from)
    share: Values = np.clip((np.asarray(familiarity) - familiar_from) / width, 0.0, 1.0)
    return share


def lower_bound(mean: Values, std: Values, *, reference: NDArray[np.bool_] | int, caution: float) -> Values:
    """Quality less `caution` standard deviations, but for the reference, which is taken at its mean.

    Args:
        mean: predicted quality, models last.
        std: its standard deviation.
        reference: index of the model that doubt favours, or which entries are of that model.
        caution: standard deviations.
    """
    bound: Values = mean - caution * std
    bound[..., reference] = mean[..., reference]
    return bound


def utilities(
    mean: Values,
    std: Values,
    cost: Values,
    *,
    reference: int,
    familiarity: Values | float,
    rule: UtilityRule,
    latency: Values | float = 0.0,
) -> Values:
    """Utility of each model, for one prompt or one a row.

    Args:
        mean: predicted quality, models last.
        std: its standard deviation.
        cost: expected cost, models last.
        reference: column of the model that doubt favours.
        familiarity: 0 to 1, by prompt.
        rule: the exchange rates.
        latency: expected latency, models last.
    """
    bound = lower_bound(mean, std, reference=reference, caution=rule.caution)
    known = known_share(familiarity, rule.familiar_from)[..., None]
    result: Values = bound - known * (rule.quality_per_cost * cost + rule.quality_per_latency * latency)
    return result
