"""Timer schedules: six-field NCRONTAB expressions and time spans, evaluated in UTC.

NCRONTAB is what the Azure Functions host evaluates (https://github.com/atifaziz/NCrontab). It differs from Unix cron
in ways that matter: a day must match the day-of-month AND the day-of-week field, Sunday is 0 only, a lone `5/10` runs
from 5 to the field's end, a reversed range is turned round, and names may be given as any prefix (`Mon`,
`September`).
"""

from bisect import bisect_left
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol

from infra.local.hosting.settings import parse_time_span

_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_FIELDS_WITHOUT_SECONDS = 5
_LONGEST_GAP_YEARS = 40
"""29 February on one weekday: at most 40 years apart, across a century that is no leap year."""


class Schedule(Protocol):
    """When a timer is due."""

    def next_after(self, instant: datetime) -> datetime:
        """The first occurrence strictly after an aware instant, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so often, counted from the last run (a time span as schedule)."""

    period: timedelta

    def next_after(self, instant: datetime) -> datetime:
        """The instant plus the period, in UTC."""
        return instant.astimezone(UTC) + self.period


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed NCRONTAB expression; each field holds its allowed values, ascending."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    def next_after(self, instant: datetime) -> datetime:
        """The first occurrence strictly after an aware instant, in UTC.

        Raises:
            ValueError: the instant is naive, or no day ever matches (30 February).
        """
        if instant.tzinfo is None:
            raise ValueError("instant must be aware")
        moment = instant.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        day, last_year = moment.date(), moment.year + _LONGEST_GAP_YEARS
        of_day = self._time_from(moment.time()) if self._matches(day) else None
        while of_day is None:
            day = self._following(day)
            if day.year > last_year:
                raise ValueError("no day ever matches")
            if self._matches(day):
                of_day = time(self.hours[0], self.minutes[0], self.seconds[0])
        return datetime.combine(day, of_day, UTC)

    def _matches(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _following(self, day: date) -> date:
        if day.month in self.months and day.day < monthrange(day.year, day.month)[1]:
            return day + timedelta(days=1)
        return date(day.year + day.month // 12, day.month % 12 + 1, 1)

    def _time_from(self, start: time) -> time | None:
        """The first allowed time of day at or after `start`."""
        for hour in self.hours[bisect_left(self.hours, start.hour) :]:
            if hour > start.hour:
                return time(hour, self.minutes[0], self.seconds[0])
            for minute in self.minutes[bisect_left(self.minutes, start.minute) :]:
                if minute > start.minute:
                    return time(hour, minute, self.seconds[0])
                at = bisect_left(self.seconds, start.second)
                if at < len(self.seconds):
                    return time(hour, minute, self.seconds[at])
        return None


def parse_schedule(text: str) -> Schedule:
    """Parse a timer trigger's schedule: NCRONTAB with six fields (or five: second 0), else a time span.

    Raises:
        ValueError: it is neither, or it never comes due.
    """
    if ":" in text and len(text.split()) == 1:
        period = parse_time_span(text)
        if period <= timedelta(0):
            raise ValueError(f"the time span {text!r} must be longer than zero")
        return Interval(period)
    fields = text.split()
    if len(fields) == _FIELDS_WITHOUT_SECONDS:
        fields.insert(0, "0")
    if len(fields) != _FIELDS_WITHOUT_SECONDS + 1:
        raise ValueError(
            f"{text!r} is neither six NCRONTAB fields (second minute hour day month weekday) nor a time span hh:mm:ss"
        )
    cron = Cron(
        seconds=_parse_field("second", fields[0], 0, 59),
        minutes=_parse_field("minute", fields[1], 0, 59),
        hours=_parse_field("hour", fields[2], 0, 23),
        days=_parse_field("day", fields[3], 1, 31),
        months=_parse_field("month", fields[4], 1, 12, _MONTHS),
        weekdays=_parse_field("weekday", fields[5], 0, 6, _WEEKDAYS),
    )
    longest_month = max(monthrange(2024, month)[1] for month in cron.months)
    if cron.days[0] > longest_month:
        raise ValueError(f"{text!r} never comes due: none of its months has a day {cron.days[0]}")
    return cron


def due_within_a_minute_twice(schedule: Schedule, now: datetime) -> bool:
    """Whether a schedule is so frequent that Azure keeps no status for it (and so never calls it past due)."""
    if isinstance(schedule, Interval):
        return schedule.period < timedelta(minutes=1)
    return schedule.next_after(schedule.next_after(now)) < now + timedelta(minutes=1)


def _parse_field(name: str, text: str, least: int, most: int, names: tuple[str, ...] = ()) -> tuple[int, ...]:
    values: set[int] = set()
    for element in text.split(","):
        base, slash, step_text = element.partition("/")
        if slash and not (step_text.isascii() and step_text.isdigit()):
            raise ValueError(f"{element!r} in the {name} field has no whole number as its step")
        first, dash, last = base.partition("-")
        if base == "*":
            start, end = least, most
        elif dash:
            start, end = sorted((_value(name, first, least, names), _value(name, last, least, names)))
        else:
            start = _value(name, base, least, names)
            end = most if slash else start
        if start < least or end > most:
            raise ValueError(f"{element!r} in the {name} field lies outside {least} to {most}")
        # NCrontab reads a step of 0 as 1.
        values.update(range(start, end + 1, max(int(step_text or 1), 1)))
    return tuple(sorted(values))


def _value(name: str, text: str, least: int, names: tuple[str, ...]) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    for index, known in enumerate(names):
        if text and known.startswith(text.lower()):
            return index + least
    raise ValueError(f"{text!r} is no value of the {name} field")
