"""What was expected of the models on one request, before any was chosen: an input of the decision, kept with it.

Integers, because a prediction is matrix products whose last bits differ between processors, and a receipt must repeat
its decision on any of them, also when the artefact that predicted is long gone.
"""

from dataclasses import dataclass

FORECAST_SCALE = 10_000
"""A forecast's unit: one ten-thousandth."""


@dataclass(frozen=True, slots=True)
class QualityForecast:
    """Expected quality of every model of a registry on one request. Figures are integers in 1e-4, from 0 to 1e4.

    Attributes:
        version: of the artefact that predicted.
        familiarity: how much the request resembles what the artefact was trained on.
        mean: expected quality, model by model in the alphabetical order of the registry's model ids.
        std: its standard deviation, in the same order.

    Raises:
        ValueError: a figure is out of range, or the two lists do not fit each other.
    """

    version: str
    familiarity: int
    mean: tuple[int, ...]
    std: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means, {len(self.std)} standard deviations")
        figures = (self.familiarity, *self.mean, *self.std)
        if min(figures) < 0 or max(figures) > FORECAST_SCALE:
            raise ValueError(f"a figure outside of 0 to {FORECAST_SCALE}")
