"""What becomes of incidents: pending, firing, resolved; and who is told when."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.domain.alerts import (
    AlertRule,
    Finding,
    Group,
    Incident,
    IncidentState,
    Silence,
    derived_id,
    group_key,
    incident_id,
)
from shared.domain.notifications import Notification, Occasion, Severity

MOST_OPEN = 100
"""Open incidents of a rule. Of more groups the first ones are told of: somebody looks already."""
MOST_APART = 3
"""Incidents of a rule that begin to fire in one evaluation and are told of one by one; more are one message."""
_LISTED = 10
"""Groups that such a message lists."""
_WORST_FIRST = tuple(Severity)


@dataclass(slots=True)
class Book:
    """The incidents of one rule while it is evaluated.

    Attributes:
        open: pending and firing ones, by group.
        resolved: those that ended meanwhile.
        dropped: ids of pending ones that came to nothing.
    """

    open: dict[Group, Incident] = field(default_factory=dict)
    resolved: list[Incident] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def book_of(incidents: Iterable[Incident]) -> Book:
    """A book of a rule's open incidents."""
    return Book({one.group: one for one in incidents})


def advance(book: Book, rule: AlertRule, findings: Sequence[Finding], at: datetime, *, is_stale: bool = False) -> None:
    """Move incidents by what an evaluation found.

    Args:
        book: changed in place.
        rule: whose incidents they are.
        findings: by group, each once. What holds for a group that is not among them has ended.
        at: where the evaluation's windows end; not before that of the evaluation before.
        is_stale: the rollups stand still: groups without a finding stay as they are.
    """
    found = {one.group: one for one in findings}
    for group, incident in list(book.open.items()):
        finding = found.pop(group, None)
        if finding is None:
            finding = Finding(group, None if is_stale else False)
        _move(book, rule, incident, finding, at)
    for finding in found.values():
        if finding.holds and len(book.open) < MOST_OPEN:
            _move(book, rule, _begun(rule, finding, at), finding, at)


def close(book: Book, at: datetime) -> None:
    """End all incidents, of a rule that is switched off or gone."""
    for incident in list(book.open.values()):
        _end(book, incident, at)


def _begun(rule: AlertRule, finding: Finding, at: datetime) -> Incident:
    made = incident_id(rule, finding.group, at)
    return Incident(made, rule.tenant_id, rule.id, rule.name, finding.group, IncidentState.PENDING, at)


def _move(book: Book, rule: AlertRule, incident: Incident, finding: Finding, at: datetime) -> None:
    if finding.holds is None:
        book.open[incident.group] = incident
    elif finding.holds:
        book.open[incident.group] = _held(rule, incident, finding, at)
    elif incident.state is IncidentState.PENDING:
        book.dropped.append(incident.id)
        book.open.pop(incident.group, None)
    else:
        ended_at = incident.ended_at or at
        if at - ended_at >= timedelta(seconds=rule.keep_firing_s):
            _end(book, replace(incident, ended_at=ended_at), at)
        else:
            book.open[incident.group] = replace(incident, ended_at=ended_at)


def _held(rule: AlertRule, incident: Incident, finding: Finding, at: datetime) -> Incident:
    held = replace(
        incident,
        rule_name=rule.name,
        severity=finding.severity or rule.severity,
        runbook_url=rule.runbook_url,
        value=finding.value,
        threshold=finding.threshold,
        unit=finding.unit,
        words=finding.words,
        ended_at=None,
    )
    if held.state is IncidentState.PENDING and at - held.started_at >= timedelta(seconds=rule.for_s):
        return replace(held, state=IncidentState.FIRING, fired_at=at)
    return held


def _end(book: Book, incident: Incident, at: datetime) -> None:
    book.open.pop(incident.group, None)
    if incident.state is IncidentState.PENDING:
        book.dropped.append(incident.id)
    else:
        book.resolved.append(replace(incident, state=IncidentState.RESOLVED, resolved_at=at))


def tell(
    book: Book, rule: AlertRule, silences: Sequence[Silence], channels: Collection[str] | None, now: datetime
) -> list[Notification]:
    """Decide who is told what, and note on the incidents that they were.

    Args:
        book: changed in place.
        rule: whose incidents they are.
        silences: of its tenant.
        channels: names of those that there are; None: nobody knows, so all of the rule's.
        now: when this is decided.
    """
    # Ends come first: another incident of the same group may have begun since.
    told = _ended(book, rule, now)
    told += _first(book, rule, silences, channels, now)
    told += _again(book, rule, silences, channels, now)
    return told


def _first(
    book: Book, rule: AlertRule, silences: Sequence[Silence], channels: Collection[str] | None, now: datetime
) -> list[Notification]:
    names = _known(rule.channels, channels)
    new = [
        one
        for one in book.open.values()
        if one.state is IncidentState.FIRING and one.told_at is None and not _is_silent(one, silences, now)
    ]
    if not new or not names:
        return []
    together = derived_id("together", *sorted(one.id for one in new)) if len(new) > MOST_APART else ""
    new = [replace(one, thread=together or one.id, told_at=now, told_channels=names) for one in new]
    book.open |= {one.group: one for one in new}
    batches = [new] if together else [[one] for one in new]
    return [_message(rule, batch, Occasion.FIRING, name, now) for batch in batches for name in names]


def _again(
    book: Book, rule: AlertRule, silences: Sequence[Silence], channels: Collection[str] | None, now: datetime
) -> list[Notification]:
    """Escalations and reminders, of what is told of, fires on, and has not been acknowledged."""
    firing = [
        one
        for one in book.open.values()
        if one.state is IncidentState.FIRING
        and one.told_at is not None
        and one.told_at < now
        and one.acknowledged_at is None
        and one.ended_at is None
        and not _is_silent(one, silences, now)
    ]
    escalated, reminded = list[Incident](), list[Incident]()
    escalation = rule.escalation
    others = () if escalation is None else _known(escalation.channels, channels)
    for one in firing:
        if (
            escalation is not None
            and others
            and one.escalated_at is None
            and now - (one.fired_at or now) >= timedelta(seconds=escalation.after_s)
        ):
            everybody = tuple(dict.fromkeys((*one.told_channels, *others)))
            escalated.append(replace(one, escalated_at=now, told_at=now, told_channels=everybody))
        elif rule.repeat_s and now - (one.told_at or now) >= timedelta(seconds=rule.repeat_s):
            reminded.append(replace(one, told_at=now, reminders=one.reminders + 1))
    book.open |= {one.group: one for one in (*escalated, *reminded)}
    found = [_message(rule, batch, Occasion.ESCALATION, name, now) for batch in _threads(escalated) for name in others]
    return found + [
        _message(rule, batch, Occasion.REMINDER, name, now)
        for batch in _threads(reminded)
        for name in batch[0].told_channels
    ]


def _ended(book: Book, rule: AlertRule, now: datetime) -> list[Notification]:
    """Whoever was told of the beginning is told of the end, also under a silence."""
    told = [one for one in book.resolved if one.told_at is not None]
    return [
        _message(rule, batch, Occasion.RESOLVED, name, now)
        for batch in _threads(told)
        for name in batch[0].told_channels
    ]


def _known(names: Sequence[str], channels: Collection[str] | None) -> tuple[str, ...]:
    return tuple(name for name in names if channels is None or name in channels)


def _is_silent(incident: Incident, silences: Sequence[Silence], now: datetime) -> bool:
    return any(silence.covers(incident, now) for silence in silences)


def _threads(incidents: Iterable[Incident]) -> list[list[Incident]]:
    """Those that were told of together, and by the same channels, together."""
    found = defaultdict[tuple[str, tuple[str, ...]], list[Incident]](list)
    for one in incidents:
        found[one.thread, one.told_channels].append(one)
    return list(found.values())


def _message(
    rule: AlertRule, batch: Sequence[Incident], occasion: Occasion, channel: str, now: datetime
) -> Notification:
    first = min(batch, key=lambda one: (_WORST_FIRST.index(one.severity), one.started_at, one.id))
    is_one = len(batch) == 1
    number = max(one.reminders for one in batch) if occasion is Occasion.REMINDER else 0
    return Notification(
        id=derived_id(*sorted(one.id for one in batch), occasion.value, str(number), channel),
        tenant_id=first.tenant_id,
        channel=channel,
        occasion=occasion,
        severity=first.severity,
        rule_id=rule.id,
        rule_name=rule.name,
        incident_id=first.thread,
        summary=_summary(rule, batch, first, occasion),
        started_at=min(one.started_at for one in batch),
        created_at=now,
        group=first.labels if is_one else {},
        value=first.value if is_one else None,
        threshold=first.threshold,
        unit=first.unit,
        runbook_url=rule.runbook_url,
        resolved_at=max((one.resolved_at or now for one in batch), default=now)
        if occasion is Occasion.RESOLVED
        else None,
    )


def _summary(rule: AlertRule, batch: Sequence[Incident], first: Incident, occasion: Occasion) -> str:
    if len(batch) > 1:
        names = [_labels(one) or group_key(one.group) for one in batch[:_LISTED]]
        more = f" and {len(batch) - _LISTED} more" if len(batch) > _LISTED else ""
        return f"{rule.name}: {len(batch)} incidents, {occasion.value}: {'; '.join(names)}{more}"
    where = _labels(first)
    about = f"{rule.name} ({where})" if where else rule.name
    if occasion is Occasion.RESOLVED:
        return f"{about}: it is over. Last: {first.words}"
    return f"{about}: {first.words}"


def _labels(incident: Incident) -> str:
    return ", ".join(f"{name} {value}" for name, value in incident.group)
