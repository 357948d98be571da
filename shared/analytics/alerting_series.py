"""What alert rules measure: readings of buckets that add up to readings of windows."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from shared.analytics.periods import hour_after, hour_before
from shared.analytics.sketches import quantiles
from shared.analytics.slo import tally
from shared.domain.alert_metrics import Metric
from shared.domain.alerts import AlertRule, RuleKind
from shared.domain.analytics import Aggregate, Granularity
from shared.domain.slo import Slo

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a bucket or a window says of a rule's metric.

    Attributes:
        count: events that it rests on.
        top, bottom: sums whose ratio, or the first of which, is the metric.
        sketch: of the distribution, for quantiles.
    """

    count: int = 0
    top: float = 0.0
    bottom: float = 0.0
    sketch: bytes = b""


NOTHING = Reading()
Reader = Callable[[Aggregate], Reading]

_COUNTS: Mapping[Metric, Callable[[Aggregate], float]] = {
    Metric.REQUESTS: lambda row: row.count,
    Metric.SUCCEEDED: lambda row: row.succeeded,
    Metric.ERRORS: lambda row: row.errors,
    Metric.CANCELLED: lambda row: row.cancelled,
    Metric.ABANDONED: lambda row: row.abandoned,
    Metric.CACHE_HITS: lambda row: row.hits,
    Metric.TOKENS: lambda row: row.usage.total_tokens,
    Metric.COST_USD: lambda row: float(row.cost_usd),
    Metric.SAVED_USD: lambda row: float(row.saved_usd),
}
_RATIOS: Mapping[Metric, tuple[Callable[[Aggregate], float], Callable[[Aggregate], float]]] = {
    Metric.ERROR_RATE: (lambda row: row.errors, lambda row: row.count),
    Metric.CACHE_HIT_SHARE: (lambda row: row.hits, lambda row: row.count),
    Metric.LATE_SHARE: (lambda row: row.late, lambda row: row.count),
    Metric.COST_PER_REQUEST_USD: (lambda row: float(row.cost_usd), lambda row: row.count),
    Metric.LATENCY_MEAN_MS: (lambda row: row.duration_ms, lambda row: row.succeeded),
    Metric.QUALITY: (lambda row: row.rating_sum + row.judged_sum, lambda row: row.ratings + row.judged),
    Metric.FAULT_RATE: (lambda row: row.signalled, lambda row: row.count),
    Metric.TOKENS_PER_S: (lambda row: row.generated_tokens * 1000.0, lambda row: row.generation_ms),
}
_QUANTILES: Mapping[Metric, tuple[Callable[[Aggregate], bytes], float]] = {
    Metric.LATENCY_P50_MS: (lambda row: row.latency, 0.50),
    Metric.LATENCY_P95_MS: (lambda row: row.latency, 0.95),
    Metric.LATENCY_P99_MS: (lambda row: row.latency, 0.99),
    Metric.TTFT_P50_MS: (lambda row: row.ttft, 0.50),
    Metric.TTFT_P95_MS: (lambda row: row.ttft, 0.95),
    Metric.TTFT_P99_MS: (lambda row: row.ttft, 0.99),
    Metric.OVERHEAD_P50_MS: (lambda row: row.overhead, 0.50),
    Metric.OVERHEAD_P95_MS: (lambda row: row.overhead, 0.95),
    Metric.OVERHEAD_P99_MS: (lambda row: row.overhead, 0.99),
}


def needs_sketches(rule: AlertRule, slo: Slo | None = None) -> bool:
    """Whether a rule looks at distributions."""
    return slo.threshold_ms is not None if slo is not None else rule.metric in _QUANTILES


def reader(rule: AlertRule, slo: Slo | None = None) -> Reader:
    """How a rule reads a row of rollups.

    Args:
        rule: not of `Metric.ROLLUP_AGE_S`, which no row says.
        slo: the objective, for burn rates.
    """
    if slo is not None:
        return lambda row: _of_slo(slo, row)
    metric = Metric.COST_USD if rule.kind is RuleKind.BUDGET_PROJECTION else rule.metric
    if rule.kind is RuleKind.RATIO and rule.of_metric is not None:
        above, below = _COUNTS[metric], _COUNTS[rule.of_metric]
        return lambda row: Reading(row.count, above(row), below(row))
    if metric in _COUNTS:
        total = _COUNTS[metric]
        return lambda row: Reading(row.count, total(row))
    if metric in _QUANTILES:
        sketch = _QUANTILES[metric][0]
        return lambda row: Reading(row.count, sketch=sketch(row))
    top, bottom = _RATIOS[metric]
    if metric is Metric.QUALITY:
        return lambda row: Reading(row.ratings + row.judged, top(row), bottom(row))
    return lambda row: Reading(row.count, top(row), bottom(row))


def value_of(rule: AlertRule, reading: Reading) -> float | None:
    """The rule's metric; None where nothing happened that it could be said of."""
    if rule.kind is not RuleKind.RATIO:
        if rule.metric in _COUNTS:
            return reading.top
        if rule.metric in _QUANTILES:
            return quantiles(reading.sketch, (_QUANTILES[rule.metric][1],))[0]
    return reading.top / reading.bottom if reading.bottom else None


def _of_slo(slo: Slo, row: Aggregate) -> Reading:
    found = tally(slo, row)
    return Reading(found.valid, found.bad, found.valid)


class Series:
    """Readings of disjoint buckets, of one group.

    Args:
        buckets: start, end and reading, in any order.
    """

    def __init__(self, buckets: Iterable[tuple[datetime, datetime, Reading]] = ()) -> None:
        self._buckets = sorted(buckets, key=lambda bucket: bucket[0])
        self._starts = [start for start, _, _ in self._buckets]

    def over(self, since: datetime, until: datetime) -> Reading:
        """All buckets that lie within a window, added up."""
        first, last = bisect_left(self._starts, since), bisect_left(self._starts, until)
        found = [reading for _, end, reading in self._buckets[first:last] if end <= until]
        if len(found) <= 1:
            return found[0] if found else NOTHING
        return Reading(
            sum(one.count for one in found),
            sum(one.top for one in found),
            sum(one.bottom for one in found),
            b"".join(one.sketch for one in found),
        )


Window = tuple[datetime, datetime]


def spans(windows: Iterable[Window]) -> list[tuple[datetime, ...]]:
    """The buckets that windows can be put together from: each span is the edges of one question to the rollups.

    Days where whole UTC days are asked for, hours where there are whole hours, minutes for the rest; no bucket lies
    across the beginning or end of a window.
    """
    wanted = sorted({window for window in windows if window[0] < window[1]})
    edges = sorted({edge for window in wanted for edge in window})
    covered = _union(wanted)
    pieces = list[Window]()
    place = 0
    for since, until in pairwise(edges):
        while covered[place][1] <= since:
            place += 1
        if covered[place][0] <= since:
            pieces += _pieces(since, until)
    found = list[tuple[Granularity, list[datetime]]]()
    for since, until in pieces:
        kind = _granularity(since, until)
        if found and found[-1][0] is kind and found[-1][1][-1] == since:
            found[-1][1].append(until)
        else:
            found.append((kind, [since, until]))
    return [tuple(run) for _, run in found]


def _union(windows: Sequence[Window]) -> list[Window]:
    """Windows, sorted by their beginning, as disjoint ones."""
    merged = list[Window]()
    for since, until in windows:
        if merged and since <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until))
        else:
            merged.append((since, until))
    return merged


def _pieces(since: datetime, until: datetime) -> list[Window]:
    """Minutes up to the first whole hour, whole hours in one, and the minutes after them."""
    first, last = hour_after(since), hour_before(until)
    if last - first < _HOUR:
        return [(since, until)]
    return [(start, end) for start, end in ((since, first), (first, last), (last, until)) if start < end]


def _granularity(since: datetime, until: datetime) -> Granularity:
    times = {edge.astimezone(UTC).time() for edge in (since, until)}
    if times == {datetime.min.time()}:
        return Granularity.DAY
    return Granularity.MINUTE if any(time.minute for time in times) else Granularity.HOUR
