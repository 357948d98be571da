"""How far a figure can be trusted: intervals for means of ratings and for ratios of sums."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

LEVEL = 0.95
LEAST_PERIODS = 8
"""Periods below which a ratio gets no interval: its spread is not known well enough to be shown."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What the true figure lies in with a confidence of `level`."""

    low: float
    high: float
    level: float = LEVEL


def wilson(total: float, count: int, *, level: float = LEVEL) -> Interval | None:
    """The Wilson score interval for a mean of `count` ratings, each from 0 to 1, that add up to `total`.

    Exact in its assumptions for thumbs; for ratings between the ends, whose variance is at most that of thumbs with the
    same mean, it is wider than need be. E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference", JASA 22 (1927).

    Returns None without ratings.
    """
    if count <= 0:
        return None
    mean, z = min(max(total / count, 0.0), 1.0), NormalDist().inv_cdf((1 + level) / 2)
    spread = z * z / count
    middle = (mean + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(mean * (1 - mean) / count + spread / (4 * count))
    return Interval(max(0.0, middle - half), min(1.0, middle + half), level)


def ratio_interval(pairs: Sequence[tuple[float, float]], *, level: float = LEVEL) -> Interval | None:
    """An interval for ``sum(numerators) / sum(denominators)`` over periods, each a (numerator, denominator).

    The linearised variance of a ratio of cluster totals, with Student's t for as many periods as there are (Cochran,
    "Sampling Techniques", 3rd ed., chapter 6): what varies together within a period counts once.

    Returns None for fewer than `LEAST_PERIODS` periods with a denominator, or a sum of 0.
    """
    used = [(top, bottom) for top, bottom in pairs if bottom > 0]
    count, below = len(used), math.fsum(bottom for _, bottom in used)
    if count < LEAST_PERIODS or below <= 0:
        return None
    ratio = math.fsum(top for top, _ in used) / below
    residuals = math.fsum((top - ratio * bottom) ** 2 for top, bottom in used)
    half = student_t((1 + level) / 2, count - 1) * math.sqrt(count / (count - 1) * residuals) / below
    return Interval(ratio - half, ratio + half, level)


def student_t(probability: float, freedom: int) -> float:
    """The quantile of Student's t; within 0.1% for 7 degrees of freedom and more at the usual levels.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum([z, *(term / float(freedom) ** power for power, term in enumerate(terms, start=1))])
