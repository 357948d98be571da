"""A rule over history: what it would have found, by the same steps as live."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.analytics.alerting import Evidence, evaluate
from shared.analytics.alerting_states import Book, advance
from shared.domain.alerts import AlertRule, Incident

_HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of history, and the instants at which the rule is evaluated in it."""

    evidence: Evidence
    instants: Sequence[datetime]


def run(book: Book, rule: AlertRule, stretch: Stretch) -> None:
    """Evaluate the rule at each instant and move its incidents. `book` is changed in place."""
    for at in stretch.instants:
        found = evaluate(rule, stretch.evidence, at)
        advance(book, rule, found, at, is_stale=stretch.evidence.as_of < at)


def replay(rule: AlertRule, stretches: Sequence[Stretch]) -> list[Incident]:
    """The incidents that would have fired, the oldest first; those that would fire still are not resolved."""
    book = Book()
    for stretch in stretches:
        run(book, hourly(rule) if stretch.evidence.is_hourly else rule, stretch)
    fired = [one for one in (*book.resolved, *book.open.values()) if one.fired_at is not None]
    return sorted(fired, key=lambda one: (one.started_at, one.id))


def hourly(rule: AlertRule) -> AlertRule:
    """The rule for steps of an hour: a condition on a whole hour needs not last for minutes besides."""
    return replace(
        rule,
        for_s=rule.for_s if rule.for_s >= _HOUR_S else 0,
        keep_firing_s=rule.keep_firing_s if rule.keep_firing_s >= _HOUR_S else 0,
    )
