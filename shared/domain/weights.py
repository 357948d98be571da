"""How much each factor of a score counts."""

from dataclasses import dataclass
from enum import StrEnum


class Preset(StrEnum):
    """Named weightings; `auto` alone means balanced."""

    BALANCED = "balanced"
    COST = "cost"
    QUALITY = "quality"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Weights:
    """Importance of each factor; any non-negative numbers, normalised to sum 1 by `normalised`."""

    quality: float
    cost: float
    latency: float
    reliability: float
    load: float

    def normalised(self) -> "Weights":
        """The same proportions with sum 1.

        Raises:
            ValueError: a weight is negative, or all are zero.
        """
        values = (self.quality, self.cost, self.latency, self.reliability, self.load)
        total = sum(values)
        if min(values) < 0 or total <= 0:
            raise ValueError("weights must be non-negative and not all zero")
        return Weights(*(value / total for value in values))
