"""How the tenant's service level objectives stand, from rollups."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain

from shared.analytics.periods import hour_after, hour_before
from shared.analytics.sketches import quantiles
from shared.analytics.slo import (
    SPANS,
    BurnWindow,
    ErrorBudget,
    burn_rate,
    burning,
    error_budget,
    tally,
    tally_all,
    value_of,
)
from shared.domain.analytics import MINUTES_KEPT, Aggregate, AnalyticsQuery, Dimension
from shared.domain.slo import AVAILABILITY, BUILT_IN, WINDOW, Indicator, Slo
from shared.ports import AnalyticsStore, Clock

_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
_MOST_ROWS = 10_000
_COUNTED = frozenset({"count", "succeeded", "abandoned", "error_codes"})
_WANTED = _COUNTED | {"duration_ms", "latency", "overhead"}
"""What tallies are made of."""
_MOST_REMEMBERED = 1_000
_QUANTILE_OF = {Indicator.LATENCY: "latency", Indicator.OVERHEAD: "overhead"}


class SloState(StrEnum):
    """How an objective stands over its window."""

    MET = "met"
    MISSED = "missed"
    """The error budget is spent."""
    NOT_SHOWN = "not_shown"
    """Of a capacity: there was never so much demand, which is no failure and no proof."""
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class Peak:
    """The minute of the busiest hour, of those that minutes are kept of, in which most requests were served.

    Attributes:
        served_per_s: requests that did not fail by a fault of the router or a provider.
        fault_share: of all others in that minute; None: there were none.
    """

    minute: datetime
    served_per_s: float
    fault_share: float | None


@dataclass(frozen=True, slots=True)
class SloStatus:
    """One objective.

    Attributes:
        value: what is held against the objective, in its unit; None without events.
        quantile_ms: for `LATENCY` and `OVERHEAD`: the quantile that the objective names, within 1%.
        events: that count, over the objective's window.
        rates: burn rates by the length of their windows.
        burning: alerts' rows that both burn in.
    """

    slo: Slo
    state: SloState
    value: float | None
    events: int = 0
    quantile_ms: float | None = None
    budget: ErrorBudget | None = None
    rates: Mapping[timedelta, float | None] = field(default_factory=dict)
    burning: tuple[BurnWindow, ...] = ()
    peak: Peak | None = None


@dataclass(frozen=True, slots=True)
class SloReport:
    """All objectives, of the tenant and of each service.

    Attributes:
        since: start of the longest window: the midnight (UTC) that is 30 days before today's.
        as_of: where all windows end: a whole minute up to which the rollups are complete.
        is_stale: whether that is long ago.
    """

    since: datetime
    as_of: datetime
    is_stale: bool
    total: Sequence[SloStatus]
    services: Mapping[str, Sequence[SloStatus]] = field(default_factory=dict)


class Slos:
    """Holds objectives against what happened.

    Args:
        store: has the rollups.
        clock: what time it is.
    """

    def __init__(self, store: AnalyticsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._peaks: dict[tuple[str, datetime], Peak] = {}

    async def report(self, tenant_id: str, *, by_service: bool = False) -> SloReport:
        """How the objectives stand.

        Args:
            tenant_id: whose.
            by_service: also for each service; capacity is the tenant's only.

        Raises:
            DependencyUnavailable: the rollups are away.
        """
        now = self._clock.now()
        freshness = await self._store.freshness()
        as_of = freshness.complete_until(now)
        windows = _windows(as_of)
        group_by = (Dimension.SERVICE,) if by_service else ()
        groups = defaultdict[tuple[str, ...], _Rows](_Rows)
        queries = [
            AnalyticsQuery(tenant_id, edges, group_by, only=_WANTED, limit=_MOST_ROWS)
            for edges in (windows.fine, *windows.coarse)
        ]
        # Independent of one another: as many at once as the store has connections for.
        peak, (fine, *coarse) = await asyncio.gather(
            self._peak(tenant_id, as_of), asyncio.gather(*map(self._store.rows, queries))
        )
        for row in fine:
            groups[row.group].fine.append(row)
        for row in chain.from_iterable(coarse):
            groups[row.group].coarse.append(row)
        everything = _Rows(
            [row for rows in groups.values() for row in rows.coarse],
            [row for rows in groups.values() for row in rows.fine],
        )
        return SloReport(
            since=windows.since,
            as_of=as_of,
            is_stale=freshness.is_stale(now),
            total=[_status(slo, everything, windows, peak) for slo in BUILT_IN],
            services={
                group[0]: [
                    _status(slo, rows, windows, None) for slo in BUILT_IN if slo.indicator is not Indicator.CAPACITY
                ]
                for group, rows in sorted(groups.items())
                if group
            },
        )

    async def _peak(self, tenant_id: str, as_of: datetime) -> Peak | None:
        """In two steps: the minutes of two days are too many to be looked through for one figure.

        That of an hour that is long over stays what it was, but for records that come very late.
        """
        edges = _between(hour_after(as_of - MINUTES_KEPT), hour_after(as_of), _HOUR)
        hours = await self._store.rows(AnalyticsQuery(tenant_id, edges, only=frozenset({"count"}), limit=_MOST_ROWS))
        busiest = max(hours, key=lambda row: row.count, default=None)
        if busiest is None:
            return None
        key = tenant_id, busiest.start
        if key in self._peaks:
            return self._peaks[key]
        edges = _between(busiest.start, busiest.start + _HOUR, _MINUTE)
        minutes = await self._store.rows(AnalyticsQuery(tenant_id, edges, only=_COUNTED, limit=_MOST_ROWS))
        peaks = []
        for row in minutes:
            counted = tally(AVAILABILITY, row)
            served = (row.count - counted.bad) / _MINUTE.total_seconds()
            peaks.append(Peak(row.start, served, counted.bad / counted.valid if counted.valid else None))
        found = max(peaks, key=lambda peak: peak.served_per_s, default=None)
        if found is not None and busiest.start + 2 * _HOUR < as_of:
            if len(self._peaks) >= _MOST_REMEMBERED:
                self._peaks.clear()
            self._peaks[key] = found
        return found


@dataclass(slots=True)
class _Rows:
    """Days and hours up to the hour that runs, and the last minutes; both hold what is before that hour."""

    coarse: list[Aggregate] = field(default_factory=list)
    fine: list[Aggregate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Windows:
    """What windows are put together from.

    Attributes:
        since: start of the longest, a midnight.
        starts: of the others, by length; those above an hour begin with one.
        hour: start of the one that runs.
        coarse: edges of days and hours, up to `hour`.
        fine: edges of minutes, from an hour ago or from `hour`, whichever is earlier.
    """

    since: datetime
    starts: Mapping[timedelta, datetime]
    hour: datetime
    coarse: Sequence[tuple[datetime, ...]]
    fine: tuple[datetime, ...]

    def rows(self, found: _Rows, since: datetime) -> list[Aggregate]:
        """Those of a window: minutes are the dearest to read, so long windows take as few of them as they can."""
        if since >= self.fine[0]:
            return [row for row in found.fine if row.start >= since]
        return [row for row in found.coarse if row.start >= since] + [
            row for row in found.fine if row.start >= self.hour
        ]


def _windows(as_of: datetime) -> _Windows:
    hour, since = hour_before(as_of), as_of.replace(hour=0, minute=0) - WINDOW
    starts = {span: as_of - span if span <= _HOUR else hour_before(as_of - span) for span in SPANS}
    hours = sorted({start for span, start in starts.items() if span > _HOUR} | {hour})
    days_end = hours[0].replace(hour=0)
    fine = sorted({start for span, start in starts.items() if span <= _HOUR} | {hour, as_of})
    return _Windows(
        since=since,
        starts=starts,
        hour=hour,
        coarse=((since, days_end), tuple(sorted({days_end, *hours}))),
        fine=tuple(fine),
    )


def _status(slo: Slo, rows: _Rows, windows: _Windows, peak: Peak | None) -> SloStatus:
    if slo.indicator is Indicator.CAPACITY:
        if peak is None:
            return SloStatus(slo, SloState.NO_DATA, None)
        state = SloState.MET if peak.served_per_s > slo.objective else SloState.NOT_SHOWN
        return SloStatus(slo, state, peak.served_per_s, peak=peak)
    everything = windows.rows(rows, windows.since)
    whole = tally_all(slo, everything)
    rates = {span: burn_rate(slo, tally_all(slo, windows.rows(rows, since))) for span, since in windows.starts.items()}
    budget = error_budget(slo, whole)
    state = SloState.NO_DATA
    if budget is not None:
        state = SloState.MET if budget.left_share >= 0 else SloState.MISSED
    sketch = _QUANTILE_OF.get(slo.indicator)
    joined = b"".join(getattr(row, sketch) for row in everything) if sketch is not None else b""
    return SloStatus(
        slo=slo,
        state=state,
        value=value_of(slo, whole),
        events=whole.valid,
        quantile_ms=quantiles(joined, (slo.objective,))[0] if sketch is not None else None,
        budget=budget,
        rates=rates,
        burning=burning(slo, rates),
    )


def _between(since: datetime, until: datetime, step: timedelta) -> tuple[datetime, ...]:
    return tuple(since + number * step for number in range(int((until - since) / step) + 1))
