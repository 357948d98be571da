"""The choice by utility: cautious quality minus what money and waiting are worth. Pure.

Quality counts at its lower confidence bound, taken against the reference: the model that would serve everything if
there were no router. Its bound is its mean, so that doubt speaks for staying with it. What money is worth falls with
familiarity: on a prompt that resembles nothing seen before, saving is no reason to leave the reference.
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
    bound: Values = mean - rule.caution * std
    bound[..., reference] = mean[..., reference]
    width = max(1e-9, 1.0 - rule.familiar_from)
    known = np.clip((np.asarray(familiarity)[..., None] - rule.familiar_from) / width, 0.0, 1.0)
    result: Values = bound - known * (rule.quality_per_cost * cost + rule.quality_per_latency * latency)
    return result
