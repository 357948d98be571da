"""Which alert rules and silences there can be. Whatever is refused is named."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from math import isfinite
from urllib.parse import urlsplit

from shared.domain.alert_metrics import OF_REQUESTS_ONLY, Metric
from shared.domain.alerts import AlertRule, Baseline, Comparison, RuleKind, Silence
from shared.domain.analytics import ATTEMPT_DIMENSIONS, MAX_TAG_VALUE_CHARS, MINUTES_KEPT, Dimension, Subject
from shared.domain.errors import InvalidRequest
from shared.domain.record_bounds import MAX_TAG_KEY_CHARS

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
LONGEST_WINDOW_S = 31 * DAY_S
LONGEST_FOR_S = DAY_S
LEAST_REPEAT_S = 300
LONGEST_REPEAT_S = 30 * DAY_S
LONGEST_ESCALATION_S = 7 * DAY_S
MOST_AT_LEAST = 10**9
MOST_DEVIATIONS = 100
MOST_BUDGETS = 100
"""Shares of a budget that a projection can be held against, at most."""
MOST_CHANNELS = 10
MOST_GROUPS = 3
MOST_VALUES = 50
MAX_NAME_CHARS = 100
MAX_VALUE_CHARS = 256
MAX_URL_CHARS = 500
MAX_WHY_CHARS = 500
LONGEST_SILENCE = timedelta(days=90)
MOST_RULES = 200
"""Of a tenant; each costs some questions to the rollups every minute."""
MOST_SILENCES = 200
_DAY_BEFORE = int(MINUTES_KEPT.total_seconds()) // 2 - 2 * HOUR_S
"""Longest window that can be compared with the day before by minutes, with room for an outage."""

_METRICLESS = frozenset({RuleKind.MISSING_DATA, RuleKind.BUDGET_PROJECTION, RuleKind.SLO_BURN_RATE})
_SIGNED = frozenset({RuleKind.RATE_OF_CHANGE, RuleKind.ANOMALY})

Fault = tuple[str, str]
"""A field, and what it must be."""


def check(rule: AlertRule, *, tag_keys: Sequence[str]) -> None:
    """Refuse a rule that cannot be evaluated.

    Args:
        rule: to be kept.
        tag_keys: tags that requests are counted by.

    Raises:
        InvalidRequest: `param` names the field.
    """
    for param, words in (*_common(rule), *_windows(rule), *_measured(rule), *_selected(rule, tag_keys)):
        raise InvalidRequest(f"{param}: {words}", param=param)


def check_silence(silence: Silence) -> None:
    """Refuse a silence that is none, or lasts too long.

    Raises:
        InvalidRequest: `param` names the field.
    """
    if not timedelta() < silence.ends_at - silence.starts_at <= LONGEST_SILENCE:
        raise InvalidRequest(
            f"ends_at: must be after starts_at, by at most {LONGEST_SILENCE.days} days", param="ends_at"
        )


def _wrong(*rules: tuple[bool, str, str]) -> Iterator[Fault]:
    """Those that are broken."""
    return ((param, words) for is_broken, param, words in rules if is_broken)


def _common(rule: AlertRule) -> Iterator[Fault]:
    yield from _wrong(
        (not 1 <= len(rule.name.strip()) <= MAX_NAME_CHARS, "name", f"must have 1 to {MAX_NAME_CHARS} characters"),
        (not isfinite(rule.threshold), "threshold", "must be a finite number"),
        (not 0 <= rule.for_s <= LONGEST_FOR_S, "for_s", f"must be from 0 to {LONGEST_FOR_S}"),
        (not 0 <= rule.keep_firing_s <= LONGEST_FOR_S, "keep_firing_s", f"must be from 0 to {LONGEST_FOR_S}"),
        (
            rule.repeat_s != 0 and not LEAST_REPEAT_S <= rule.repeat_s <= LONGEST_REPEAT_S,
            "repeat_s",
            f"must be 0 or from {LEAST_REPEAT_S} to {LONGEST_REPEAT_S}",
        ),
        (not 0 <= rule.at_least <= MOST_AT_LEAST, "at_least", f"must be from 0 to {MOST_AT_LEAST}"),
        (
            rule.runbook_url != "" and not _is_link(rule.runbook_url),
            "runbook_url",
            f"must be an https address of at most {MAX_URL_CHARS} characters",
        ),
    )
    yield from _channels("channels", rule.channels)
    if rule.escalation is not None:
        after_s, names = rule.escalation.after_s, rule.escalation.channels
        yield from _wrong(
            (
                not MINUTE_S <= after_s <= LONGEST_ESCALATION_S,
                "escalation.after_s",
                f"must be from {MINUTE_S} to {LONGEST_ESCALATION_S}",
            ),
            (not names, "escalation.channels", "must name a channel"),
            (not rule.channels, "channels", "must name who is told first when there is an escalation"),
        )
        yield from _channels("escalation.channels", names)


def _windows(rule: AlertRule) -> Iterator[Fault]:
    if rule.kind in {RuleKind.SLO_BURN_RATE, RuleKind.BUDGET_PROJECTION} or rule.metric is Metric.ROLLUP_AGE_S:
        return
    if rule.kind is RuleKind.ANOMALY:
        if rule.window_s != HOUR_S:
            yield "window_s", f"must be {HOUR_S} for an anomaly"
        return
    if not MINUTE_S <= rule.window_s <= LONGEST_WINDOW_S or rule.window_s % MINUTE_S:
        yield "window_s", f"must be a multiple of {MINUTE_S} from {MINUTE_S} to {LONGEST_WINDOW_S}"
    if rule.window_s > DAY_S and rule.window_s % HOUR_S:
        yield "window_s", f"above {DAY_S} it must be a multiple of {HOUR_S}"
    if rule.kind is RuleKind.RATE_OF_CHANGE:
        is_day = rule.baseline is Baseline.DAY
        most = _DAY_BEFORE if is_day else LONGEST_WINDOW_S // 2
        if rule.window_s > most:
            yield "window_s", f"must be at most {most} to be compared with the {'day' if is_day else 'span'} before"
    if rule.kind is RuleKind.MISSING_DATA and rule.window_s > DAY_S:
        yield "window_s", f"must be at most {DAY_S} for missing data"


def _measured(rule: AlertRule) -> Iterator[Fault]:
    kind, metric, of_metric = rule.kind, rule.metric, rule.of_metric
    is_ratio, is_age = kind is RuleKind.RATIO, metric is Metric.ROLLUP_AGE_S
    is_of_attempts = rule.subject is Subject.ATTEMPTS
    adds_up = metric.is_count and of_metric is not None and of_metric.is_count
    yield from _wrong(
        (kind in _METRICLESS and metric is not Metric.REQUESTS, "metric", f"has no meaning for {kind.value}"),
        (
            is_age and bool(kind is not RuleKind.THRESHOLD or rule.group_by or rule.filters),
            "metric",
            "rollup_age_s is for a threshold without groups and filters",
        ),
        (is_of_attempts and bool({metric, of_metric} & OF_REQUESTS_ONLY), "metric", "attempts do not say this"),
        (not is_of_attempts and metric is Metric.TOKENS_PER_S, "metric", "tokens_per_s is of attempts only"),
        (is_ratio and not adds_up, "of_metric", "a ratio needs two metrics that add up, such as cancelled of requests"),
        (not is_ratio and of_metric is not None, "of_metric", "is for a ratio only"),
        (
            rule.comparison is Comparison.BOTH and kind not in _SIGNED,
            "comparison",
            "both is for rate_of_change and anomaly only",
        ),
        (
            kind is RuleKind.ANOMALY and not 1 <= rule.threshold <= MOST_DEVIATIONS,
            "threshold",
            f"must be from 1 to {MOST_DEVIATIONS} standard deviations",
        ),
        (
            kind is RuleKind.BUDGET_PROJECTION and not 0 < rule.threshold <= MOST_BUDGETS,
            "threshold",
            f"must be a share of the budget, above 0 and at most {MOST_BUDGETS}",
        ),
        (kind is RuleKind.MISSING_DATA and rule.at_least < 1, "at_least", "must be at least 1 for missing data"),
        (
            (kind is RuleKind.SLO_BURN_RATE) is not bool(rule.slo),
            "slo",
            "must name an objective for slo_burn_rate, and only then",
        ),
        (rule.budget != "" and kind is not RuleKind.BUDGET_PROJECTION, "budget", "is for budget_projection only"),
    )


def _selected(rule: AlertRule, tag_keys: Sequence[str]) -> Iterator[Fault]:
    dimensions = [one.dimension for one in rule.filters]
    uses_tag = Dimension.TAG in {*dimensions, *rule.group_by}
    is_of_attempts = rule.subject is Subject.ATTEMPTS
    yield from _wrong(
        (
            rule.kind is RuleKind.BUDGET_PROJECTION and bool(rule.filters or rule.group_by),
            "group_by",
            "a budget says itself whose requests count",
        ),
        (
            len(rule.group_by) > MOST_GROUPS or len(set(rule.group_by)) < len(rule.group_by),
            "group_by",
            f"must be at most {MOST_GROUPS} different ones",
        ),
        (len(set(dimensions)) < len(dimensions), "filters", "must name each dimension once"),
        (
            uses_tag is not bool(rule.tag_key) or len(rule.tag_key) > MAX_TAG_KEY_CHARS,
            "tag_key",
            "must name the tag that is grouped or filtered by, and only then",
        ),
        (
            rule.tag_key != "" and rule.tag_key not in tag_keys,
            "tag_key",
            f"figures are kept for these tags: {', '.join(tag_keys) or 'none'}",
        ),
        (
            is_of_attempts and bool({*rule.group_by, *dimensions} - ATTEMPT_DIMENSIONS),
            "subject",
            "attempts are kept by model and deployment only",
        ),
        (
            is_of_attempts and rule.kind in _METRICLESS - {RuleKind.MISSING_DATA},
            "subject",
            f"must be requests for {rule.kind.value}",
        ),
    )
    for one in rule.filters:
        param = f"filters.{one.dimension.value}"
        most = MAX_TAG_VALUE_CHARS if one.dimension is Dimension.TAG else MAX_VALUE_CHARS
        fits = all(len(value) <= most and value.isprintable() for value in one.values)
        yield from _wrong(
            (not 1 <= len(one.values) <= MOST_VALUES, param, f"must have 1 to {MOST_VALUES} values"),
            (not fits, param, f"must be printable, of at most {most} characters"),
        )


def _channels(param: str, names: Sequence[str]) -> Iterator[Fault]:
    if len(names) > MOST_CHANNELS or len(set(names)) < len(names):
        yield param, f"must be at most {MOST_CHANNELS} different names"
    if not all(name and len(name) <= MAX_NAME_CHARS and name.isprintable() for name in names):
        yield param, f"must be printable names of at most {MAX_NAME_CHARS} characters"


def _is_link(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return (
        len(url) <= MAX_URL_CHARS
        and parts.scheme == "https"
        and bool(parts.hostname)
        and not parts.username
        and url.isprintable()
        and " " not in url
    )
