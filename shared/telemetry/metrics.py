"""Counters and measurements, aggregated here so that what is sent does not grow with the number of requests."""

import math
import threading
from collections.abc import Mapping
from typing import NamedTuple

MAX_SERIES = 2000
"""Distinct (name, dimensions) per export; the rest of a name is folded into one series, marked `overflow`."""

_OVERFLOW = frozenset({("overflow", "true")})

SeriesKey = tuple[str, frozenset[tuple[str, str]]]


class Aggregate(NamedTuple):
    """What was added to one series since the last export.

    Attributes:
        total: sum of the values: for a counter, the count itself.
        deviation: population standard deviation.
    """

    name: str
    dimensions: Mapping[str, str]
    value_count: int
    total: float
    minimum: float
    maximum: float
    deviation: float


class _Series:
    """Welford's running mean and squared deviation: the textbook sum of squares loses its digits to large means."""

    __slots__ = ("count", "maximum", "mean", "minimum", "squares", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.mean = 0.0
        self.squares = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        delta = value - self.mean
        self.mean += delta / self.count
        self.squares += delta * (value - self.mean)
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)


class MetricAggregator:
    """Adds from any thread, drained by one.

    Args:
        max_series: bound on memory against dimensions with too many values.
    """

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self._max_series = max_series
        self._series: dict[SeriesKey, _Series] = {}
        self._lock = threading.Lock()

    def add(self, name: str, value: float, dimensions: Mapping[str, str]) -> None:
        """Add one value; a value that is not finite is left out, since a sum would never recover from it."""
        if not math.isfinite(value):
            return
        key: SeriesKey = (name, frozenset(dimensions.items()))
        with self._lock:
            series = self._series.get(key)
            if series is None:
                if len(self._series) >= self._max_series:
                    key = (name, _OVERFLOW)
                series = self._series.setdefault(key, _Series())
            series.add(value)

    def drain(self) -> list[Aggregate]:
        """Everything added since the last call."""
        with self._lock:
            taken, self._series = self._series, {}
        return [
            Aggregate(
                name,
                dict(dimensions),
                series.count,
                series.total,
                series.minimum,
                series.maximum,
                math.sqrt(series.squares / series.count),
            )
            for (name, dimensions), series in taken.items()
        ]
