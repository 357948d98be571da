"""Whether conditions of alert rules hold, from readings of rollups: the same live and over history."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.analytics.alerting_series import Series, Window, value_of
from shared.analytics.alerting_words import change_words, figure, over, span_words
from shared.analytics.anomalies import deviation
from shared.analytics.periods import hour_before
from shared.analytics.projection import MOST_DAYS, project
from shared.analytics.slo import BURN_WINDOWS, SPANS, BurnWindow, Tally, burn_rate
from shared.domain.alert_metrics import Metric
from shared.domain.alerts import AlertRule, Baseline, Comparison, Finding, Group, RuleKind, Season
from shared.domain.budgets import Period
from shared.domain.notifications import Severity
from shared.domain.slo import Slo

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_KNOWN_FOR = _DAY
"""A group whose requests stopped is missed for so long."""
_SEASONS = {Season.DAY: (_DAY, 14), Season.WEEK: (timedelta(weeks=1), 8)}
FAST, SLOW = "fast", "slow"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a rule is held against.

    Attributes:
        series: by group.
        as_of: up to when the rollups are complete.
        slo: the objective, for burn rates.
        limits_usd: of budgets, by group.
        is_hourly: windows are widened to whole hours, for history of which there are no minutes any more.
    """

    series: Mapping[Group, Series]
    as_of: datetime
    slo: Slo | None = None
    limits_usd: Mapping[Group, float] = field(default_factory=dict)
    is_hourly: bool = False


def windows(rule: AlertRule, at: datetime, *, is_hourly: bool = False) -> list[Window]:
    """The windows that the rule looks at when it is evaluated at an instant.

    Args:
        rule: within `shared.domain.alert_bounds`.
        at: a whole minute; a whole hour when `is_hourly`.
        is_hourly: as in `Evidence`.
    """
    match rule.kind:
        case RuleKind.THRESHOLD if rule.metric is Metric.ROLLUP_AGE_S:
            return []
        case RuleKind.THRESHOLD | RuleKind.RATIO:
            return [_window(rule, at, is_hourly)]
        case RuleKind.RATE_OF_CHANGE:
            return list(_compared_windows(rule, at, is_hourly))
        case RuleKind.MISSING_DATA:
            window = _window(rule, at, is_hourly)
            return [window, (at - _KNOWN_FOR, window[0])] if rule.group_by else [window]
        case RuleKind.SLO_BURN_RATE:
            return [(_start(at, span, is_hourly), at) for span in SPANS]
        case RuleKind.ANOMALY:
            return [(at - _HOUR, at), *_earlier_hours(rule, at)]
        case RuleKind.BUDGET_PROJECTION:
            today = _midnight(at)
            days = [(today - number * _DAY, today - (number - 1) * _DAY) for number in range(1, MOST_DAYS + 1)]
            return [*days, (today, at)]


def evaluate(rule: AlertRule, evidence: Evidence, at: datetime) -> list[Finding]:
    """What the rule finds at an instant, by group; where nothing is found nothing holds, if the rollups reach so far.

    Args:
        rule: within `shared.domain.alert_bounds`.
        evidence: with all `windows` of the rule at the instant.
        at: where the windows end.
    """
    if rule.metric is Metric.ROLLUP_AGE_S:
        age_s = max(0.0, (at - evidence.as_of).total_seconds())
        return [_compared(rule, (), age_s, f"the rollups are {span_words(age_s)} behind")]
    if rule.kind is RuleKind.MISSING_DATA:
        return _missing(rule, evidence, at)
    if evidence.as_of < at:
        return []
    if rule.kind is RuleKind.SLO_BURN_RATE and evidence.slo is not None:
        slo, hourly = evidence.slo, evidence.is_hourly
        return [
            one for group, found in evidence.series.items() for one in _burning(rule, slo, group, found, at, hourly)
        ]
    find = _FINDERS[rule.kind]
    return [find(rule, evidence, group, series, at) for group, series in _expected(rule, evidence).items()]


def _start(at: datetime, reach: timedelta, is_hourly: bool) -> datetime:
    """Where a window begins: above a day with a whole hour, so that hours can be used that have no minutes any more."""
    return hour_before(at - reach) if is_hourly or reach > _DAY else at - reach


def _window(rule: AlertRule, at: datetime, is_hourly: bool) -> Window:
    return _start(at, rule.window, is_hourly), at


def _compared_windows(rule: AlertRule, at: datetime, is_hourly: bool) -> tuple[Window, Window]:
    """The span that is looked at, and the one before, equally long."""
    if rule.baseline is Baseline.DAY:
        since, until = _window(rule, at, is_hourly)
        return (since, until), (since - _DAY, until - _DAY)
    # Spans that reach back above a day end with a whole hour, or there would be no minutes for both.
    end = hour_before(at) if 2 * rule.window > _DAY else at
    since = _start(end, rule.window, is_hourly)
    return (since, end), (since - (end - since), since)


def _earlier_hours(rule: AlertRule, at: datetime) -> list[Window]:
    step, count = _SEASONS[rule.season]
    hour = hour_before(at - _HOUR / 2)
    return [(hour - number * step, hour + _HOUR - number * step) for number in range(1, count + 1)]


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _expected(rule: AlertRule, evidence: Evidence) -> Mapping[Group, Series]:
    """The groups there are; one without a group is there also when nothing happened."""
    if evidence.series or rule.group_by or rule.kind is RuleKind.BUDGET_PROJECTION:
        return evidence.series
    return {(): Series()}


def _compared(rule: AlertRule, group: Group, value: float, words: str) -> Finding:
    holds = rule.comparison.holds(value, rule.threshold)
    unit = rule.metric.unit if rule.kind is RuleKind.THRESHOLD else _UNITS.get(rule.kind, "")
    return Finding(group, holds, value, rule.threshold, unit, words)


def _nothing(group: Group) -> Finding:
    return Finding(group, holds=False)


def _threshold(rule: AlertRule, evidence: Evidence, group: Group, series: Series, at: datetime) -> Finding:
    reading = series.over(*_window(rule, at, evidence.is_hourly))
    value = value_of(rule, reading)
    is_total = rule.kind is RuleKind.THRESHOLD and rule.metric.is_count
    if value is None or (reading.count < rule.at_least and not is_total):
        return _nothing(group)
    what = rule.metric.value if rule.of_metric is None else f"{rule.metric.value} of {rule.of_metric.value}"
    unit = rule.metric.unit if rule.kind is RuleKind.THRESHOLD else "share"
    bound = f"{rule.comparison.value} {figure(rule.threshold, unit)}"
    return _compared(rule, group, value, f"{what} is {figure(value, unit)}, {bound}, {over(rule.window)}")


def _change(rule: AlertRule, evidence: Evidence, group: Group, series: Series, at: datetime) -> Finding:
    now, earlier = (series.over(*window) for window in _compared_windows(rule, at, evidence.is_hourly))
    base, value = value_of(rule, earlier), value_of(rule, now)
    if not base or value is None or earlier.count < rule.at_least:
        return _nothing(group)
    change, unit = value / base - 1, rule.metric.unit
    before = "the day before" if rule.baseline is Baseline.DAY else "the span before"
    words = f"{rule.metric.value} {change_words(change)} from {figure(base, unit)} to {figure(value, unit)}"
    return _compared(rule, group, change, f"{words} against {before}, {over(rule.window)}")


def _missing(rule: AlertRule, evidence: Evidence, at: datetime) -> list[Finding]:
    since, until = _window(rule, at, evidence.is_hourly)
    groups = [
        group
        for group, series in evidence.series.items()
        if series.over(since, until).count or series.over(at - _KNOWN_FOR, since).count
    ]
    found = []
    for group in groups if rule.group_by else [()]:
        count = evidence.series.get(group, Series()).over(since, until).count
        holds: bool | None = count < rule.at_least
        words = f"{count} {rule.subject.value} {over(rule.window)}, fewer than {rule.at_least}"
        if evidence.as_of <= since:
            holds = True
            words = f"the rollups end at {evidence.as_of:%Y-%m-%d %H:%M} UTC: nothing is known {over(rule.window)}"
        elif holds and evidence.as_of < at:
            holds = None
        found.append(Finding(group, holds, float(count), float(rule.at_least), "", words))
    return found


def _anomaly(rule: AlertRule, evidence: Evidence, group: Group, series: Series, at: datetime) -> Finding:
    del evidence
    reading = series.over(at - _HOUR, at)
    value = value_of(rule, reading)
    past = [series.over(*window) for window in _earlier_hours(rule, at)]
    # Before its first hour the group did not exist; afterwards an hour of a count without requests was one of 0.
    first = max((number for number, one in enumerate(past) if one.count), default=-1)
    usual = [
        one
        for number, earlier in enumerate(past)
        if number <= first and (one := value_of(rule, earlier)) is not None and (earlier.count or rule.metric.is_count)
    ]
    found = None if value is None else deviation(value, usual)
    if value is None or found is None or max(reading.count, *(one.count for one in past)) < rule.at_least:
        return _nothing(group)
    score, unit = found.score, rule.metric.unit
    limit = -rule.threshold if rule.comparison is Comparison.BELOW else rule.threshold
    holds = rule.comparison.holds(score, limit)
    words = (
        f"{rule.metric.value} is {figure(value, unit)} in the last hour, {abs(score):.1f} deviations "
        f"{'above' if score > 0 else 'below'} the usual {figure(found.usual, unit)}"
    )
    return Finding(group, holds, score, limit, _UNITS[rule.kind], words)


def _projected(rule: AlertRule, evidence: Evidence, group: Group, series: Series, at: datetime) -> Finding:
    limit_usd = evidence.limits_usd[group]
    today, month = _midnight(at), Period.MONTH.start_of(at)
    end = Period.MONTH.end_of(at) or at
    daily = [(today - number * _DAY, today - (number - 1) * _DAY) for number in range(MOST_DAYS, 0, -1)]
    costs = [(since.date(), series.over(since, until).top) for since, until in daily]
    spent = sum(cost for (since, _), (_, cost) in zip(daily, costs, strict=True) if since >= month)
    # Days before the first that cost something are not known to have cost nothing.
    begun = next((number for number, (_, cost) in enumerate(costs) if cost), len(costs))
    found = project(costs[begun:], spent_usd=spent + series.over(today, at).top, now=at, end=end)
    if found.expected_usd is None:
        return Finding(group, None)
    share = found.expected_usd / limit_usd
    words = (
        f"{figure(found.spent_usd, 'usd')} spent, {figure(found.expected_usd, 'usd')} expected by the end of the "
        f"month: {figure(share, 'share')} of {figure(limit_usd, 'usd')}"
    )
    return _compared(rule, group, share, words)


def _burning(rule: AlertRule, slo: Slo, group: Group, series: Series, at: datetime, is_hourly: bool) -> list[Finding]:
    """One finding for what has to be looked at now, one for what can wait: they are separate incidents."""
    readings = {span: series.over(_start(at, span, is_hourly), at) for span in SPANS}
    rates = {span: burn_rate(slo, Tally(one.count, one.top)) for span, one in readings.items()}
    found = []
    for speed, is_page in ((FAST, True), (SLOW, False)):
        rows = [row for row in BURN_WINDOWS if row.is_page is is_page]
        burning = [row for row in rows if _excess(row, slo, rates) >= 1]
        best = burning[0] if burning else max(rows, key=lambda row: _excess(row, slo, rates))
        rate, factor = _slower(best, rates), best.factor(slo.window)
        enough = readings[best.long].count >= rule.at_least
        words = (
            f"{slo.name}: the error budget burns {rate:.1f} times as fast as it may over "
            f"{span_words(best.long.total_seconds())} and {span_words(best.short.total_seconds())}, "
            f"the limit is {factor:.1f}"
        )
        severity = None if is_page else _milder(rule.severity)
        labels = (*group, ("slo", slo.name), ("burn", speed))
        found.append(Finding(labels, enough and rate >= factor, rate, factor, "burn_rate", words, severity))
    return found


def _slower(row: BurnWindow, rates: Mapping[timedelta, float | None]) -> float:
    return min(rates[row.long] or 0.0, rates[row.short] or 0.0)


def _excess(row: BurnWindow, slo: Slo, rates: Mapping[timedelta, float | None]) -> float:
    return _slower(row, rates) / row.factor(slo.window)


def _milder(severity: Severity) -> Severity:
    return Severity.WARNING if severity is Severity.CRITICAL else severity


_UNITS = {
    RuleKind.RATIO: "share",
    RuleKind.RATE_OF_CHANGE: "share",
    RuleKind.BUDGET_PROJECTION: "share",
    RuleKind.ANOMALY: "deviations",
}
_Finder = Callable[[AlertRule, Evidence, Group, Series, datetime], Finding]
_FINDERS: Mapping[RuleKind, _Finder] = {
    RuleKind.THRESHOLD: _threshold,
    RuleKind.RATIO: _threshold,
    RuleKind.RATE_OF_CHANGE: _change,
    RuleKind.ANOMALY: _anomaly,
    RuleKind.BUDGET_PROJECTION: _projected,
}


def step_of(rule: AlertRule) -> timedelta:
    """How often a rule is evaluated: what changes slowly and reads much, every five minutes."""
    is_slow = rule.kind in {RuleKind.ANOMALY, RuleKind.BUDGET_PROJECTION}
    return timedelta(minutes=5 if is_slow else 1)


def instants(rule: AlertRule, after: datetime, until: datetime, *, most: int) -> Sequence[datetime]:
    """When the rule is to be evaluated within a span, its end included, the newest `most` instants."""
    step = step_of(rule)
    midnight = _midnight(until)
    last = midnight + (until - midnight) // step * step
    found = list[datetime]()
    while last > after and len(found) < most:
        found.append(last)
        last -= step
    return found[::-1]
