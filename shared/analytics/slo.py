"""Error budgets and burn rates, from rollups.

Beyer et al., "The Site Reliability Workbook" (O'Reilly 2018), chapter 5, "Alerting on SLOs",
https://sre.google/workbook/alerting-on-slos/.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from shared.analytics.sketches import count_of, count_up_to
from shared.domain.analytics import Aggregate
from shared.domain.slo import Fault, Indicator, Slo, fault_of

_BAD = frozenset({Fault.ROUTER, Fault.PROVIDER})


@dataclass(frozen=True, slots=True)
class Tally:
    """What an indicator comes to over some time; two tallies of one objective add up.

    Attributes:
        valid: events that count.
        bad: of them; for `MEAN_LATENCY` the milliseconds that all of them took.
    """

    valid: int = 0
    bad: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.valid + other.valid, self.bad + other.bad)


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """What may go wrong over an objective's window, in bad events (milliseconds for `MEAN_LATENCY`).

    Attributes:
        total: for as many events as there were.
        spent: what went wrong.
        left_share: of the total; below 0 the objective is missed.
    """

    total: float
    spent: float
    left_share: float


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """A row of the workbook's table 5-8: both windows must burn fast, the short one so that the alert ends in time.

    Attributes:
        budget_share: of the error budget, spent within `long` when it burns exactly at the factor.
        is_page: whether somebody has to look now; otherwise it can wait for the next working day.
    """

    long: timedelta
    short: timedelta
    budget_share: float
    is_page: bool

    def factor(self, window: timedelta) -> float:
        """The burn rate from which on it speaks, for an objective of that window: 14.4, 6 and 1 for 30 days."""
        return self.budget_share * (window / self.long)


BURN_WINDOWS = (
    BurnWindow(timedelta(hours=1), timedelta(minutes=5), 0.02, is_page=True),
    BurnWindow(timedelta(hours=6), timedelta(minutes=30), 0.05, is_page=True),
    BurnWindow(timedelta(days=3), timedelta(hours=6), 0.10, is_page=False),
)
SPANS = tuple(sorted({span for row in BURN_WINDOWS for span in (row.long, row.short)}))
"""All that burn rates are asked for: 5 and 30 minutes, 1 and 6 hours, 3 days."""


def tally(slo: Slo, row: Aggregate) -> Tally:
    """What a row of rollups means for an objective.

    Args:
        slo: not of `CAPACITY`, which knows no events.
        row: with its sketches, for `LATENCY` and `OVERHEAD`.

    Raises:
        ValueError: the objective is one of capacity.
    """
    match slo.indicator:
        case Indicator.AVAILABILITY | Indicator.ERROR_RATE:
            return _failures(row, doubts_count=slo.indicator is Indicator.ERROR_RATE)
        case Indicator.MEAN_LATENCY:
            return Tally(row.succeeded, row.duration_ms)
        case Indicator.LATENCY:
            return _above(row.latency, slo.threshold_ms or 0.0)
        case Indicator.OVERHEAD:
            return _above(row.overhead, slo.threshold_ms or 0.0)
        case Indicator.CAPACITY:
            raise ValueError("a capacity has no events")


def tally_all(slo: Slo, rows: Iterable[Aggregate]) -> Tally:
    """What rows of rollups mean together."""
    return sum((tally(slo, row) for row in rows), Tally())


def value_of(slo: Slo, found: Tally) -> float | None:
    """What the objective is held against: share of good events, or the mean in ms; None without events."""
    if not found.valid:
        return None
    share = found.bad / found.valid
    return share if slo.indicator is Indicator.MEAN_LATENCY else 1 - share


def burn_rate(slo: Slo, found: Tally) -> float | None:
    """How many times as fast as it may the budget is being spent; 1 spends all of it in the window. None: no events."""
    allowed = _allowed(slo, found)
    return found.bad / allowed if allowed else None


def error_budget(slo: Slo, found: Tally) -> ErrorBudget | None:
    """The budget, from the tally over the objective's window; None without events."""
    allowed = _allowed(slo, found)
    return ErrorBudget(allowed, found.bad, 1 - found.bad / allowed) if allowed else None


def burning(slo: Slo, rates: Mapping[timedelta, float | None]) -> tuple[BurnWindow, ...]:
    """The rows of `BURN_WINDOWS` in which both windows burn at least as fast as they may, the most urgent first.

    Args:
        slo: whose window scales the factors.
        rates: burn rates by the length of their window; one that is not there, or None, does not burn.
    """
    if not slo.indicator.has_burn_alerts:
        return ()
    return tuple(
        row
        for row in BURN_WINDOWS
        if all((rates.get(span) or 0.0) >= row.factor(slo.window) for span in (row.long, row.short))
    )


def _allowed(slo: Slo, found: Tally) -> float:
    each = slo.objective if slo.indicator is Indicator.MEAN_LATENCY else 1 - slo.objective
    return each * found.valid


def _failures(row: Aggregate, *, doubts_count: bool) -> Tally:
    counts = dict.fromkeys(Fault, 0)
    for code, count in row.error_codes.items():
        counts[fault_of(code)] += count
    bad = row.abandoned + sum(counts[fault] for fault in _BAD)
    doubtful = counts[Fault.UNCLEAR] if doubts_count else 0
    return Tally(row.succeeded + bad + doubtful, bad + doubtful)


def _above(sketch: bytes, threshold_ms: float) -> Tally:
    count = count_of(sketch)
    return Tally(count, count - count_up_to(sketch, threshold_ms))
