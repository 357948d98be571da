"""The key figures of a span: how they changed, and how they went."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from shared.analytics.intervals import Interval
from shared.analytics.periods import hour_before
from shared.analytics.quality import Scores
from shared.analytics.sketches import quantiles
from shared.analytics.slo import tally
from shared.domain.analytics import Aggregate
from shared.domain.feedback import POINTS
from shared.domain.slo import AVAILABILITY

Span = tuple[datetime, datetime]
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Point:
    """A figure of a bucket."""

    start: datetime
    value: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure.

    Attributes:
        unit: ``requests``, ``requests_per_s``, ``share``, ``ms``, ``usd`` or ``points``.
        value: over the whole span.
        previous: over the hours that it is compared with.
        change: relative, of the complete hours of the span to `previous`.
        series: by bucket, up to where figures are complete; empty where the figure is not kept by bucket.
        interval: that the true figure lies in, where it is an estimate.
    """

    name: str
    unit: str
    value: float | None
    previous: float | None
    change: float | None
    series: Sequence[Point] = ()
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Attributes: what happened in the complete hours of the span, in as many of the period before, and how many."""

    now: Aggregate
    before: Aggregate
    hours: float


def cards_of(
    edges: Sequence[datetime], series: Sequence[Aggregate], whole: Aggregate, compared: Compared | None, as_of: datetime
) -> list[Card]:
    """All key figures that aggregates say.

    Args:
        edges: of the buckets.
        series: buckets in which something happened.
        whole: their sum.
        compared: None: no hour of the span is complete.
        as_of: up to when figures are complete.
    """
    found = {row.start: row for row in series}
    begun = [(start, min(end, max(as_of, start + _MINUTE))) for start, end in pairwise(edges) if start < as_of]
    lasted_h = max(_MINUTE, min(edges[-1], as_of) - edges[0]) / _HOUR
    cards = []
    for name, unit, read in _CARDS:
        points = [Point(start, read(found.get(start, Aggregate(start)), (end - start) / _HOUR)) for start, end in begun]
        previous = None if compared is None else read(compared.before, compared.hours)
        current = None if compared is None else read(compared.now, compared.hours)
        interval = _points_interval(whole) if unit == "points" else None
        cards.append(Card(name, unit, read(whole, lasted_h), previous, change_of(current, previous), points, interval))
    return cards


def compared_spans(
    since: datetime, until: datetime, previous_since: datetime, as_of: datetime
) -> tuple[Span, Span] | None:
    """The complete hours of a span, and as many from where the period before begins; None: none is complete."""
    end = min(until, hour_before(as_of))
    return ((since, end), (previous_since, previous_since + (end - since))) if end > since else None


def change_of(value: float | None, previous: float | None) -> float | None:
    """How a figure changed, relatively; None: one of them is not there, or it was 0."""
    return value / previous - 1 if value is not None and previous else None


def fault_share(row: Aggregate) -> float | None:
    """Share of requests that failed by a fault of the router or a provider, of those that count; None: none do."""
    found = tally(AVAILABILITY, row)
    return _share(found.bad, found.valid)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def rated(row: Aggregate) -> Scores:
    """Scores by people and judges. Those of signals do not belong: only faulty answers have one."""
    by_people = Scores(row.ratings, row.rating_sum, row.rating_squares)
    return by_people + Scores(row.judged, row.judged_sum, row.judged_squares)


def _points(row: Aggregate) -> float | None:
    mean = rated(row).mean
    return None if mean is None else POINTS * mean


def _points_interval(row: Aggregate) -> Interval | None:
    found = rated(row).interval()
    return None if found is None else Interval(POINTS * found.low, POINTS * found.high, found.level)


_CARDS: tuple[tuple[str, str, Callable[[Aggregate, float], float | None]], ...] = (
    ("requests", "requests", lambda row, _: row.count),
    ("requests_per_s", "requests_per_s", lambda row, hours: _share(row.count, 3600 * hours)),
    ("error_rate", "share", lambda row, _: _share(row.errors, row.count)),
    ("fault_share", "share", lambda row, _: fault_share(row)),
    ("latency_p95", "ms", lambda row, _: quantiles(row.latency, (0.95,))[0]),
    ("overhead_p99", "ms", lambda row, _: quantiles(row.overhead, (0.99,))[0]),
    ("cost", "usd", lambda row, _: float(row.cost_usd)),
    ("cache_hit_share", "share", lambda row, _: _share(row.hits, row.count)),
    ("quality", "points", lambda row, _: _points(row)),
)
"""Name, unit, and how an aggregate of so many hours says it."""
