"""NCRONTAB and time span schedules of the local host's timers."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.hosting.cron import Cron, Interval, due_within_a_minute_twice, parse_schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # Every second, minute, hour; the occurrence is strictly after the instant.
        ("* * * * * *", "2026-11-23T10:00:00", "2026-11-23T10:00:01"),
        ("* * * * * *", "2026-11-23T10:00:00.900", "2026-11-23T10:00:01"),
        ("* * * * * *", "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        ("0 * * * * *", "2026-11-23T10:00:00", "2026-11-23T10:01:00"),
        ("0 0 * * * *", "2026-11-23T10:00:00", "2026-11-23T11:00:00"),
        # Steps: from the field's start, from a number to the field's end, in a range; the step restarts with the field.
        ("*/15 * * * * *", "2026-11-23T10:00:46", "2026-11-23T10:01:00"),
        ("0 */5 * * * *", "2026-11-23T10:57:30", "2026-11-23T11:00:00"),
        ("0 */7 * * * *", "2026-11-23T10:56:00", "2026-11-23T11:00:00"),
        ("0 5/20 * * * *", "2026-11-23T10:26:00", "2026-11-23T10:45:00"),
        ("0 10-30/10 * * * *", "2026-11-23T10:30:00", "2026-11-23T11:10:00"),
        ("0 0 0/6 * * *", "2026-11-23T18:00:00", "2026-11-24T00:00:00"),
        ("0 0 0 */10 * *", "2026-11-21T00:00:00", "2026-12-01T00:00:00"),
        ("0 0 0 1 */3 *", "2026-11-23T00:00:00", "2027-01-01T00:00:00"),
        ("0 */0 * * * *", "2026-11-23T10:00:00", "2026-11-23T10:01:00"),
        # Lists and ranges.
        ("5,8,10 * * * * *", "2026-11-23T10:00:08", "2026-11-23T10:00:10"),
        ("5-7 * * * * *", "2026-11-23T10:00:07", "2026-11-23T10:01:05"),
        ("0 0 9-17 * * *", "2026-11-23T17:00:00", "2026-11-24T09:00:00"),
        ("0 30 9-11,14-16/2 * * *", "2026-11-23T11:30:00", "2026-11-23T14:30:00"),
        ("0 0 17-9 * * *", "2026-11-23T17:00:00", "2026-11-24T09:00:00"),
        ("30 10 4 * * *", "2026-11-23T04:10:30", "2026-11-24T04:10:30"),
        # Weekdays: Sunday is 0, names by any prefix, in any case.
        ("0 30 9 * * 1-5", "2026-11-20T09:30:00", "2026-11-23T09:30:00"),
        ("0 30 9 * * Mon-Fri", "2026-11-20T09:30:00", "2026-11-23T09:30:00"),
        ("0 0 0 * * 0", "2026-11-23T00:00:00", "2026-11-29T00:00:00"),
        ("0 0 0 * * SUNDAY", "2026-11-23T00:00:00", "2026-11-29T00:00:00"),
        ("0 0 0 * * thu,sat", "2026-11-23T00:00:00", "2026-11-26T00:00:00"),
        # Months by name; a full month name is its own prefix.
        ("0 0 0 1 Jan *", "2026-11-23T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 0 1 september-november *", "2026-10-02T00:00:00", "2026-11-01T00:00:00"),
        # Month ends and leap years.
        ("0 0 0 31 * *", "2026-08-31T00:00:00", "2026-10-31T00:00:00"),
        ("0 0 0 30 * *", "2027-01-30T00:00:00", "2027-03-30T00:00:00"),
        ("0 0 12 29 2 *", "2026-11-23T00:00:00", "2028-02-29T12:00:00"),
        ("0 0 0 29 2 *", "2096-02-29T00:00:00", "2104-02-29T00:00:00"),
        ("0 0 0 28-31 2 *", "2028-02-28T00:00:00", "2028-02-29T00:00:00"),
        ("59 59 23 31 12 *", "2026-12-31T23:59:59", "2027-12-31T23:59:59"),
        # Day of month AND weekday, unlike Unix cron.
        ("0 0 0 13 * 5", "2026-11-23T00:00:00", "2027-08-13T00:00:00"),
        ("0 0 0 29 2 Tue", "2026-11-23T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 0 1-7 * Mon", "2026-11-23T00:00:00", "2026-12-07T00:00:00"),
        # No daylight saving in UTC: both hours that Europe changes are ordinary.
        ("0 30 2 * * *", "2026-03-29T00:00:00", "2026-03-29T02:30:00"),
        ("0 30 2 * * *", "2026-10-25T02:30:00", "2026-10-26T02:30:00"),
        # Five fields: second 0.
        ("*/10 * * * *", "2026-11-23T10:05:30", "2026-11-23T10:10:00"),
        ("  0  0  12  *  *  * ", "2026-11-23T12:00:00", "2026-11-24T12:00:00"),
        # Time spans count from the instant given.
        ("00:05:00", "2026-11-23T10:00:01.500", "2026-11-23T10:05:01.500"),
        ("1.12:00:00", "2026-11-23T10:00:00", "2026-11-24T22:00:00"),
        ("00:00:00.5", "2026-11-23T10:00:00", "2026-11-23T10:00:00.500"),
    ],
)
def test_next_occurrence(expression: str, after: str, expected: str):
    assert parse_schedule(expression).next_after(at(after)) == at(expected)


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("", "six NCRONTAB fields"),
        ("* * * *", "six NCRONTAB fields"),
        ("* * * * * * *", "six NCRONTAB fields"),
        ("60 * * * * *", "second"),
        ("0 60 * * * *", "minute"),
        ("0 0 24 * * *", "hour"),
        ("0 0 0 0 * *", "day"),
        ("0 0 0 32 * *", "day"),
        ("0 0 0 * 13 *", "month"),
        ("0 0 0 * * 7", "weekday"),
        ("0 0 0 * * Someday", "weekday"),
        ("0 0 0 Mon * *", "day"),
        ("0 */x * * * *", "minute"),
        ("0 1,,2 * * * *", "minute"),
        ("0 -5 * * * *", "minute"),
        ("0 ٣ * * * *", "minute"),
        ("0 0 0 30 2 *", "never comes due"),
        ("0 0 0 31 4,6,9,11 *", "never comes due"),
        ("00:00:00", "longer than zero"),
        ("-00:05:00", "longer than zero"),
        ("25:00:00", "time span"),
        ("00:61:00", "time span"),
    ],
)
def test_refuses_what_azure_refuses_and_names_the_field(expression: str, named: str):
    with pytest.raises(ValueError, match=named):
        parse_schedule(expression)


def test_an_instant_in_another_zone_is_taken_as_the_same_instant():
    tokyo = datetime(2026, 11, 24, 0, 30, tzinfo=timezone(timedelta(hours=9)))
    assert parse_schedule("0 0 0 * * *").next_after(tokyo) == at("2026-11-24T00:00:00")


def test_a_naive_instant_is_refused():
    with pytest.raises(ValueError, match="aware"):
        parse_schedule("0 0 0 * * *").next_after(datetime(2026, 11, 24))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * * *", True),
        ("*/30 * * * * *", True),
        ("0 * * * * *", False),
        ("0 */5 * * * *", False),
        ("00:00:59", True),
        ("00:01:00", False),
    ],
)
def test_azure_keeps_no_status_for_what_is_due_more_often_than_each_minute(expression: str, expected: bool):
    assert due_within_a_minute_twice(parse_schedule(expression), at("2026-11-23T10:00:00.250")) is expected


def test_time_spans_and_expressions_are_told_apart():
    assert isinstance(parse_schedule("00:01:00"), Interval)
    assert isinstance(parse_schedule("0 1 * * * *"), Cron)


def some_of(least: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(least, most), min_size=1).map(lambda values: tuple(sorted(values)))


@given(
    cron=st.builds(Cron, some_of(0, 59), some_of(0, 59), some_of(0, 23), some_of(1, 28), some_of(1, 12), some_of(0, 6)),
    after=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
def test_the_next_occurrence_is_the_first_instant_whose_fields_all_match(cron: Cron, after: datetime):
    found = cron.next_after(after)
    assert found > after
    assert found.microsecond == 0

    def day_matches(day: datetime) -> bool:
        return day.month in cron.months and day.day in cron.days and day.isoweekday() % 7 in cron.weekdays

    assert day_matches(found)
    of_day = (found.hour, found.minute, found.second)
    assert of_day[0] in cron.hours
    assert of_day[1] in cron.minutes
    assert of_day[2] in cron.seconds
    day = after.replace(hour=0, minute=0, second=0, microsecond=0)
    while day.date() < found.date():
        if day_matches(day):
            assert day.date() == after.date(), f"{day.date()} matches and is earlier"
        day += timedelta(days=1)
    times = [(h, m, s) for h in cron.hours for m in cron.minutes for s in cron.seconds]
    if found.date() == after.date():
        assert of_day == min(t for t in times if t > (after.hour, after.minute, after.second))
    else:
        assert of_day == min(times)
        if day_matches(after):
            assert not [t for t in times if t > (after.hour, after.minute, after.second)]
