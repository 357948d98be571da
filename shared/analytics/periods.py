"""Buckets of time as people count it: hours, and days of a time zone, each a whole number of UTC hours."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from shared.domain.analytics import Granularity

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_HOURLY_UP_TO = timedelta(hours=72)
"""Spans for which `auto` means hours."""


def hour_before(instant: datetime) -> datetime:
    """The start of the UTC hour that an instant lies in."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hour_after(instant: datetime) -> datetime:
    """The first start of a UTC hour that is not before an instant."""
    # In UTC: in a zone, adding an hour moves the clock on the wall, which is another matter when clocks change.
    return hour_before(instant.astimezone(UTC) + _HOUR - timedelta(microseconds=1))


def usual_granularity(since: datetime, until: datetime) -> Granularity:
    """Hours for three days and less, else days."""
    return Granularity.HOUR if until - since <= _HOURLY_UP_TO else Granularity.DAY


def edges_of(since: datetime, until: datetime, granularity: Granularity, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The starts of all buckets between two UTC hours, and the end of the last. The first and last day may be cut.

    Raises:
        ValueError: a day of the zone begins within a UTC hour, which rollups cannot tell apart; or the span is empty.
    """
    if since >= until:
        raise ValueError("the span is empty")
    if granularity is Granularity.HOUR:
        hours = int((until - since) / _HOUR)
        return (*(since + hour * _HOUR for hour in range(hours)), until)
    first, last = since.astimezone(zone).date(), until.astimezone(zone).date()
    starts = [_midnight(first + day * _DAY, zone) for day in range(1, (last - first).days + 1)]
    edges = (since, *(start for start in starts if since < start < until), until)
    if any(hour_before(edge) != edge for edge in edges):
        raise ValueError(f"days of {zone.key} do not begin with a UTC hour")
    return edges


def previous_period(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The period before, as long by the clock on the wall: a week before a week, also when the clocks were changed."""
    start, end = (edge.astimezone(zone).replace(tzinfo=None) for edge in (since, until))
    return hour_before((start - (end - start)).replace(tzinfo=zone)), since


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins; where clocks skip midnight, the moment they do."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
