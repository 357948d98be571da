"""Spreading requests over equal deployments of a model: power of two choices, as exact probabilities. Pure.

Two deployments are drawn with replacement, each as often as its weight says, and the one under less pressure serves
(Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001). What the two draws come to is
worked out instead of drawn: with the tail sums S(r) of the weights' shares, ranked by pressure, rank r serves with
probability S(r)^2 - S(r+1)^2; of k equal weights ((k-r+1)^2 - (k-r)^2) / k^2. So the decision's one draw still decides,
and its receipt still holds exact propensities.
"""

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from shared.scoring.table import Floats, Ints

_LEAST_SUCCESS = 0.01
"""A deployment whose every recent attempt failed counts as if one in a hundred succeeded."""


def pressure(latency_ms: Floats, in_flight: Floats, weight: Floats, success_rate: Floats) -> Floats:
    """Expected time until an answer succeeds there, in ms, if the attempts under way are served in turn.

    Peak EWMA's product of latency and attempts under way (as in Finagle's and Envoy's balancers), by share of capacity,
    over the chance of success.
    """
    expected: Floats = latency_ms * (1.0 + in_flight / weight) / np.maximum(success_rate, _LEAST_SUCCESS)
    return expected


def two_choices(pressures: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The probability with which each of several equal deployments serves.

    Args:
        pressures: the lower, the sooner it serves; equal ones share by weight.
        weights: positive; how often each is drawn.
    """
    order = sorted(range(len(pressures)), key=pressures.__getitem__)
    total = math.fsum(weights)
    served = [0.0] * len(order)
    tail = 1.0
    left = len(order)
    for _, tied in groupby(order, key=pressures.__getitem__):
        members = list(tied)
        left -= len(members)
        after = math.fsum(weights[i] for i in order[len(order) - left :]) / total if left else 0.0
        # Of the tied the first drawn serves: each has its share of both draws' outcome.
        for member in members:
            served[member] = weights[member] / total * (tail + after)
        tail = after
    return served


def spread(
    probability: Floats,
    *,
    model: Ints,
    cost: Ints,
    score: Floats,
    pressures: Floats,
    weights: Floats,
    tolerance: float,
) -> Floats:
    """The probabilities after each deployment's share went to all its equals, itself included.

    Equals are deployments of one model at one cost whose scores lie within `tolerance` of the best of them.

    Args:
        probability: of being chosen, best score first; all other arrays stand in the same order.
        model: index of the model.
        cost: expected cost, in any integer unit.
        score: in [0, 1], descending.
        pressures: as `two_choices` takes them.
        weights: likewise.
        tolerance: in scores.
    """
    result = probability.copy()
    waiting = probability > 0.0
    while waiting.any():
        leader = int(waiting.argmax())
        same = (model == model[leader]) & (cost == cost[leader])
        equals = np.flatnonzero(same & (score >= score[leader] - tolerance))
        equals = equals[equals >= leader]
        waiting[equals] = False
        if len(equals) > 1:
            shares = two_choices(pressures[equals].tolist(), weights[equals].tolist())
            result[equals] = math.fsum(probability[equals].tolist()) * np.array(shares)
    return result
