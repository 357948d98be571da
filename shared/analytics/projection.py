"""What will have been spent by the end of a period, and how sure that is.

A local level model: what a day costs is a level times the day of the week's factor, plus noise in proportion; the level
itself wanders by an unknown amount each day. Its Kalman filter gives the expected rest and the variance of the sum in
closed form; the wandering is chosen by likelihood. Durbin, Koopman, "Time Series Analysis by State Space Methods", 2nd
ed. (2012), chapter 2; factors by ratio to a centred week, Hyndman, Athanasopoulos, "Forecasting: Principles and
Practice", 3rd ed., section 3.4.

What it does not know: holidays, launches, price changes to come, trends that go on. Spend that doubled this week is
taken for a level that wandered, and may wander on either way.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from statistics import fmean

from shared.analytics.intervals import LEVEL, Interval, student_t

LEAST_DAYS = 8
"""Complete days below which there is no interval: their spread is not known well enough to be shown."""
LEAST_DAYS_FOR_WEEKDAYS = 14
MOST_DAYS = 56
"""Complete days that are looked at."""
_DAY = timedelta(days=1)
_WANDERING = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Variance of the level's daily step, as a multiple of the noise's, among which likelihood chooses."""
_WEEK = 7
_FACTOR_PRIOR = 0.2
_QUIETEST = 0.25
"""A day's noise is that of a day with this factor, or more."""
"""Observations that a weekday's factor of 1 is worth."""


@dataclass(frozen=True, slots=True)
class ProjectedDay:
    """Spent by the end of a day, since the period began."""

    day: date
    expected_usd: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Projection:
    """Spent by the end of a period.

    Attributes:
        spent_usd: until now.
        expected_usd: by the end; None: nothing is known of a whole day yet.
        interval: of it; None: too few days.
        days_seen: complete days that it rests on.
        knows_weekdays: whether days of the week are told apart.
        path: day by day, from today.
    """

    spent_usd: float
    expected_usd: float | None
    interval: Interval | None
    days_seen: int
    knows_weekdays: bool
    path: tuple[ProjectedDay, ...] = ()

    def passes_on(self, limit_usd: float) -> date | None:
        """The first day by whose end the limit is expected to be passed; None: none in the period."""
        return next((one.day for one in self.path if one.expected_usd > limit_usd), None)

    def chance_word(self, limit_usd: float) -> str:
        """Whether the limit will be passed: ``exceeded``, ``likely``, ``possible``, ``unlikely`` or ``unknown``.

        Likely: the whole interval lies above the limit; possible: it holds the limit; unlikely: it lies below.
        """
        if self.spent_usd > limit_usd:
            return "exceeded"
        if self.interval is None:
            return "unknown"
        if self.interval.low > limit_usd:
            return "likely"
        return "possible" if self.interval.high > limit_usd else "unlikely"


_Rest = Sequence[tuple[date, float, float]]
"""Days to come: which, what share of it is left, and the factor of its day of the week."""


@dataclass(frozen=True, slots=True)
class _Level:
    """What the filter knows after the last complete day, if the level wanders as `step` says.

    Attributes:
        mean: money a day, apart from the day of the week.
        variance: of the mean, as a multiple of `noise`.
        step: variance of the level's step from day to day, likewise.
        noise: variance of a day.
        weight: how credible it is beside the others; they add up to 1.
    """

    mean: float
    variance: float
    step: float
    noise: float
    weight: float


def project(
    daily: Sequence[tuple[date, float]],
    *,
    spent_usd: float,
    now: datetime,
    end: datetime,
    level: float = LEVEL,
) -> Projection:
    """Project spend to the end of a period.

    Args:
        daily: complete UTC days before that of `now` with what each cost, in any order; days between the first and the
            last that are not there cost nothing. Only the last `MOST_DAYS` count.
        spent_usd: in the period until `now`, today included.
        now: up to when that is complete.
        end: of the period, a UTC midnight.
        level: of the interval.
    """
    today = now.astimezone(UTC).date()
    days = _filled(daily, today)
    if now >= end:
        certain = Interval(spent_usd, spent_usd, level)
        return Projection(spent_usd, spent_usd, certain, len(days), knows_weekdays=False)
    if not days:
        return Projection(spent_usd, None, None, 0, knows_weekdays=False)
    factors, seen = _weekday_factors(days)
    levels = _filter([(value, factors[day.weekday()]) for day, value in days])
    rest = [(day, share, factors[day.weekday()]) for day, share in _remaining(today, now, end)]
    path = []
    for day, (expected, deviation) in zip((day for day, _, _ in rest), _sums(levels, rest, seen), strict=True):
        interval = None
        if len(days) >= LEAST_DAYS:
            half = student_t((1 + level) / 2, len(days) - 1) * deviation
            interval = Interval(spent_usd + max(0.0, expected - half), spent_usd + expected + half, level)
        path.append(ProjectedDay(day, spent_usd + expected, interval))
    last = path[-1]
    return Projection(spent_usd, last.expected_usd, last.interval, len(days), bool(seen), tuple(path))


def _filled(daily: Sequence[tuple[date, float]], today: date) -> list[tuple[date, float]]:
    """Every day from the first that is known to yesterday, in order."""
    known = {day: value for day, value in daily if day < today}
    if not known:
        return []
    first = max(min(known), today - MOST_DAYS * _DAY)
    return [(day, known.get(day, 0.0)) for day in (first + number * _DAY for number in range((today - first).days))]


def _weekday_factors(days: Sequence[tuple[date, float]]) -> tuple[list[float], dict[int, int]]:
    """Seven factors with mean 1, and of how many observations each was made; none: all are 1."""
    if len(days) < LEAST_DAYS_FOR_WEEKDAYS:
        return [1.0] * _WEEK, {}
    ratios = defaultdict[int, list[float]](list)
    half = _WEEK // 2
    for place in range(half, len(days) - half):
        week = fmean(value for _, value in days[place - half : place + half + 1])
        if week > 0:
            ratios[days[place][0].weekday()].append(days[place][1] / week)
    drawn = [
        (sum(ratios[weekday]) + _FACTOR_PRIOR) / (len(ratios[weekday]) + _FACTOR_PRIOR) for weekday in range(_WEEK)
    ]
    mean = fmean(drawn)
    return [factor / mean for factor in drawn], {weekday: len(found) for weekday, found in ratios.items() if found}


def _filter(values: Sequence[tuple[float, float]]) -> list[_Level]:
    """A level for each of `_WANDERING`, weighted by likelihood: too few days to settle on one of them."""
    found = [_filtered(values, step) for step in _WANDERING]
    best = max(score for _, score in found)
    weights = [math.exp(score - best) for _, score in found]
    return [replace(one, weight=weight / sum(weights)) for (one, _), weight in zip(found, weights, strict=True)]


def _filtered(values: Sequence[tuple[float, float]], step: float) -> tuple[_Level, float]:
    """The Kalman filter over values with their factors, begun at the first, and its log-likelihood for the best noise.

    A day with a small factor says little of the level, so the money of a Sunday job must not look like a flood.
    """
    cost, factor = values[0]
    mean, variance, squares, spreads = cost / factor, (_noise_of(factor) / factor) ** 2, 0.0, 0.0
    for cost, factor in values[1:]:
        noise = (_noise_of(factor) / factor) ** 2
        spread = variance + step + noise
        surprise, gain = cost / factor - mean, (variance + step) / spread
        variance = gain * noise
        mean += gain * surprise
        squares += surprise * surprise / spread
        spreads += math.log(spread)
    freedom = max(1, len(values) - 1)
    # Values without any noise leave every step as likely.
    score = -(freedom * math.log(max(squares, 1e-300)) + spreads) / 2
    return _Level(mean, variance, step, squares / freedom, 1.0), score


def _noise_of(factor: float) -> float:
    """The standard deviation of a day in proportion to its factor, which is no measure of quiet days' surprises."""
    return max(factor, _QUIETEST)


def _remaining(today: date, now: datetime, end: datetime) -> list[tuple[date, float]]:
    """What is left of today, and the days after it up to the end, each with its share of a day."""
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    days = math.ceil((end - midnight) / _DAY)
    rest = 1 - (now - midnight) / _DAY
    return [(today + number * _DAY, rest if number == 0 else 1.0) for number in range(days)]


def _sums(levels: Sequence[_Level], rest: _Rest, seen: dict[int, int]) -> Iterator[tuple[float, float]]:
    """Expectation and standard deviation of the sum of the first day, of the first two, and so on."""
    total = noise = ahead = steps = 0.0
    by_weekday = defaultdict[int, float](float)
    for number, (day, share, factor) in enumerate(rest, start=1):
        weight = share * factor
        total += weight
        noise += share * _noise_of(factor) ** 2
        # A step of the level moves all days from its own on: the sum over steps of their weights' sum, squared.
        steps += 2 * weight * ahead + number * weight**2
        ahead += number * weight
        by_weekday[day.weekday()] += share * _noise_of(factor)
        # Factors are estimates too: each day of the week repeats the error of its own.
        repeated = (
            math.fsum(each**2 / (seen.get(weekday, 0) + 1) for weekday, each in by_weekday.items()) if seen else 0
        )
        expected = total * math.fsum(one.weight * one.mean for one in levels)
        variance = math.fsum(
            one.weight
            * (
                one.noise * (one.variance * total**2 + noise + one.step * steps + repeated)
                + (one.mean * total - expected) ** 2
            )
            for one in levels
        )
        yield expected, math.sqrt(variance)
