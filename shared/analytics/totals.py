"""Aggregates added up, where the buckets are at hand and need not be asked for again."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from shared.domain.analytics import Aggregate, Granularity
from shared.domain.replies import Usage

_DAY, _LEAST = timedelta(days=1), timedelta(microseconds=1)
_MOST_PARTS = 5
"""More than these cost more to ask for than hours cost to read."""

Part = tuple[Granularity, datetime, datetime]
"""Which rollups, from when, until when."""
_SUMMED = tuple(
    field.name for field in fields(Aggregate) if field.name not in {"start", "group", "error_codes", "usage"}
)
_TOKENS = tuple(field.name for field in fields(Usage) if field.name != "estimated")


def add_up(rows: Iterable[Aggregate], *, start: datetime, group: tuple[str, ...] = ()) -> Aggregate:
    """One row of many; sketches are joined.

    Args:
        rows: of disjoint buckets or groups.
        start: of the sum.
        group: of the sum.
    """
    found = list(rows)
    whole = Aggregate(start, group)
    sums: dict[str, Any] = {}
    for name in _SUMMED:
        values = [getattr(row, name) for row in found]
        empty = getattr(whole, name)
        sums[name] = b"".join(values) if isinstance(empty, bytes) else sum(values, empty)
    codes = Counter[str]()
    for row in found:
        codes.update(row.error_codes)
    tokens: dict[str, Any] = {name: sum(getattr(row.usage, name) for row in found) for name in _TOKENS}
    return replace(whole, error_codes=codes, usage=Usage(**tokens), **sums)


def coarse_spans(since: datetime, until: datetime) -> list[tuple[datetime, ...]]:
    """A span as questions to the coarsest rollups: whole UTC days in one, and the hours before and after them.

    Args:
        since: a whole UTC hour.
        until: a later one.
    """
    first, last = _midnight_after(since), _midnight_after(until - _DAY + _LEAST)
    if last <= first:
        return [(since, until)]
    return [(start, end) for start, end in ((since, first), (first, last), (last, until)) if start < end]


def parts_of(edges: Sequence[datetime]) -> list[Part]:
    """The coarsest rollups that say what happened in each bucket: whole UTC days, and the hours before and after them.

    Args:
        edges: of the buckets, ascending; whole UTC hours.
    """
    found: list[Part] = []
    for since, until in pairwise(edges):
        spans = coarse_spans(since, until) if until - since >= _DAY else [(since, until)]
        for start, end in spans:
            grain = Granularity.DAY if _midnight_after(start) == start and end - start >= _DAY else Granularity.HOUR
            if found and found[-1][0] is grain:
                found[-1] = grain, found[-1][1], end
            else:
                found.append((grain, start, end))
    return found if len(found) <= _MOST_PARTS else [(Granularity.HOUR, edges[0], edges[-1])]


def _midnight_after(instant: datetime) -> datetime:
    """The first UTC midnight that is not before an instant."""
    midnight = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if midnight == instant else midnight + _DAY
