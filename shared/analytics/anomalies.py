"""How far a figure is from what it usually is, by measures that one wild day does not move."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

LEAST_USUAL = 5
"""Earlier figures below which their spread is not known well enough."""
TO_DEVIATION = 1.4826
"""A normal distribution's standard deviation as a multiple of its median absolute deviation: Rousseeuw, Croux,
"Alternatives to the median absolute deviation", JASA 88 (1993)."""
LEAST_SPREAD = 0.05
"""Of the median: figures that happen to be all alike do not make the next one an anomaly for next to nothing."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Attributes: the median of what is usual, and by how many deviations a figure lies above it (below: negative)."""

    usual: float
    score: float


def deviation(value: float, earlier: Sequence[float]) -> Deviation | None:
    """How unusual a figure is; None: too few earlier ones, or always 0, beside which nothing has a measure."""
    if len(earlier) < LEAST_USUAL:
        return None
    middle = median(earlier)
    spread = max(TO_DEVIATION * median(abs(one - middle) for one in earlier), LEAST_SPREAD * abs(middle))
    return Deviation(middle, (value - middle) / spread) if spread else None
