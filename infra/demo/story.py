"""What happens in the demo's month, and when: all is placed relative to the window's first instant and length."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from infra.demo.cast import Rhythm
from shared.domain.models import ModelProfile, PricePeriod
from shared.domain.pricing import ANY_REGION

CHANGED_MODEL = "gemini-3.8-flash"
"""Its price halves in the middle of the demo: until then it cost `FORMER_PRICE_FACTOR` of what the registry says."""
FORMER_PRICE_FACTOR = Decimal(2)
LEAST_DAYS = 7
OUTAGE_ZONE = "eu"
SLOW_PUBLISHER = "anthropic"
SLOW_FACTOR = 4.0
_GROWTH_A_DAY = 0.015
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_SATURDAY = 5
_DAYTIME: Mapping[Rhythm, tuple[float, ...]] = {
    Rhythm.OFFICE: (1, 1, 1, 1, 1, 3, 12, 35, 70, 95, 100, 90, 60, 85, 95, 90, 65, 35, 15, 8, 5, 3, 2, 1),
    Rhythm.PUBLIC: (12, 8, 5, 4, 5, 10, 22, 38, 48, 52, 55, 60, 66, 62, 58, 58, 64, 76, 92, 100, 94, 72, 44, 22),
    Rhythm.NIGHTLY: (4, 80, 100, 90, 45, 10, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2),
    Rhythm.STEADY: (50,) * 24,
}
_WEEKEND: Mapping[Rhythm, float] = {Rhythm.OFFICE: 0.07, Rhythm.PUBLIC: 1.25, Rhythm.NIGHTLY: 0.6, Rhythm.STEADY: 1.0}


@dataclass(frozen=True, slots=True)
class Span:
    """From one instant to another, the last not included."""

    since: datetime
    until: datetime

    def holds(self, instant: datetime) -> bool:
        """Whether an instant is within."""
        return self.since <= instant < self.until

    def __str__(self) -> str:
        return f"{self.since:%Y-%m-%d %H:%M} to {self.until:%H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Story:
    """The month.

    Attributes:
        since: its first instant, a whole UTC hour.
        days: how many; at least `LEAST_DAYS`.
    """

    since: datetime
    days: int

    @property
    def until(self) -> datetime:
        """The end, not included."""
        return self.since + self.days * _DAY

    @property
    def hours(self) -> int:
        """How many it has."""
        return self.days * 24

    @property
    def outage(self) -> Span:
        """All European regions are down: 40 minutes of a weekday afternoon."""
        begin = self._weekday(0.72) + timedelta(hours=13, minutes=10)
        return Span(begin, begin + timedelta(minutes=40))

    @property
    def slow_hour(self) -> Span:
        """One publisher's models take several times as long."""
        begin = self._weekday(0.85) + timedelta(hours=9)
        return Span(begin, begin + _HOUR)

    @property
    def crash(self) -> Span:
        """Workers die with requests open."""
        begin = self._weekday(0.35) + timedelta(hours=14, minutes=20)
        return Span(begin, begin + timedelta(minutes=3))

    @property
    def price_change(self) -> date:
        """The first day (UTC) of the new price."""
        return self._midnight(0.5).date()

    @property
    def cache_from(self) -> datetime:
        """Since when some services' answers are kept; hits become frequent over some days."""
        return self._midnight(0.6)

    @property
    def guessing(self) -> Span:
        """Somebody tries passwords."""
        begin = self._midnight(0.45) + timedelta(hours=2, minutes=30)
        return Span(begin, begin + timedelta(minutes=20))

    def traffic(self, rhythm: Rhythm, hour: datetime) -> float:
        """How busy services of a rhythm are in an hour, relatively: time of day, day of week, growth."""
        weekday = 1.0 if hour.weekday() < _SATURDAY else _WEEKEND[rhythm]
        return _DAYTIME[rhythm][hour.hour] * weekday * math.pow(1 + _GROWTH_A_DAY, (hour - self.since) / _DAY)

    def hit_share(self, at: datetime) -> float:
        """Of the requests of a service that caches: none before the cache is warm, 38% in the end."""
        warm_days = (at - self.cache_from) / _DAY
        return 0.0 if warm_days < 0 else 0.38 * (1 - math.exp(-warm_days / 1.5))

    def priced(self, profile: ModelProfile) -> ModelProfile:
        """A model with the prices of the story: those of the registry, and before the change the former one's."""
        first = min(profile.prices, key=lambda period: period.effective_from)
        begin = min(first.effective_from, self.since.date())
        prices = tuple(replace(p, effective_from=begin) if p is first else p for p in profile.prices)
        if profile.id == CHANGED_MODEL:
            former = replace(_dearer(first, FORMER_PRICE_FACTOR), effective_from=begin)
            prices = (former, replace(first, effective_from=self.price_change), *(p for p in prices[1:]))
        return replace(profile, prices=prices)

    def _midnight(self, share: float) -> datetime:
        """The midnight (UTC) before a share of the window, such that the day that it begins is within."""
        day = min(max(1, int(self.days * share)), self.days - 1)
        return datetime.combine((self.since + day * _DAY).date(), datetime.min.time(), tzinfo=UTC)

    def _weekday(self, share: float) -> datetime:
        """The same, of a working day: for a weekend the Friday before, or the Monday after where that is too early."""
        midnight = self._midnight(share)
        friday = midnight - _DAY * max(0, midnight.weekday() - (_SATURDAY - 1))
        return friday if friday >= self.since else friday + 3 * _DAY


def _dearer(period: PricePeriod, factor: Decimal) -> PricePeriod:
    regional = {ANY_REGION: Decimal(1), **period.region_multipliers}
    return replace(period, region_multipliers={region: factor * value for region, value in regional.items()})
