"""Alerts: the rules that people write, the incidents that become of them, and silences."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from shared.domain.alert_metrics import Metric
from shared.domain.analytics import Dimension, Subject
from shared.domain.errors import Conflict
from shared.domain.notifications import Severity

_IDS = UUID("6f0f4b0e-6f5c-5d0c-9a39-0d9f4c1f6a10")
"""Any namespace of our own, RFC 9562 section 5.5."""
_PREFIX = "router-"
"""What the ids of built-in rules begin with; made ones are UUIDs."""


class RuleKind(StrEnum):
    """What a rule compares."""

    THRESHOLD = "threshold"
    """A metric over the window with a number."""
    RATIO = "ratio"
    """One count over another, over the window, with a number."""
    RATE_OF_CHANGE = "rate_of_change"
    """The change since the span before (0.5: half as much again) with a number."""
    MISSING_DATA = "missing_data"
    """Fewer requests in the window than `at_least`, or rollups that end before it."""
    BUDGET_PROJECTION = "budget_projection"
    """The month's projected spend, as a share of a monthly budget, with a number."""
    SLO_BURN_RATE = "slo_burn_rate"
    """The burn rates of a service level objective, over several windows."""
    ANOMALY = "anomaly"
    """How many robust standard deviations the last hour lies from the same hour of earlier days or weeks."""


class Comparison(StrEnum):
    """Which side of the threshold is bad."""

    ABOVE = "above"
    BELOW = "below"
    BOTH = "both"
    """Above the threshold, or below its negative: of changes and anomalies only."""

    def holds(self, value: float, threshold: float) -> bool:
        """Whether a value is on the bad side; the threshold itself is not."""
        over, under = value > threshold, value < threshold
        if self is Comparison.BOTH:
            return abs(value) > threshold
        return over if self is Comparison.ABOVE else under


class Baseline(StrEnum):
    """The span that `RuleKind.RATE_OF_CHANGE` compares with."""

    PREVIOUS = "previous"
    """As long, right before."""
    DAY = "day"
    """The same time of the day before."""


class Season(StrEnum):
    """The earlier hours that `RuleKind.ANOMALY` compares with."""

    DAY = "day"
    """The same hour of the 14 days before."""
    WEEK = "week"
    """The same hour and weekday of the 8 weeks before."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Values of a dimension that are taken."""

    dimension: Dimension
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who is told besides when nobody has acknowledged an incident so long after it began to fire."""

    after_s: int
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When somebody is to be told. `shared.domain.alert_bounds.check` says which rules there can be.

    Attributes:
        metric: what is measured; of missing data, budgets and objectives nothing needs to be said.
        of_metric: of ratios: what it is divided by.
        threshold: in the metric's unit; of anomalies standard deviations, of budgets a share, of changes a share.
        window_s: how much time is looked at, whole minutes, above a day whole hours; of anomalies one hour.
        at_least: requests in the window below which nothing is said; of missing data, below which data is missing.
        slo: the objective's name. budget: the policy's budget; empty: each monthly one.
        filters, tag_key, group_by: as in `AnalyticsQuery`; each value of what is grouped by has incidents of its own.
        for_s: how long the condition must hold before it fires.
        keep_firing_s: how long it must have ended before the incident is resolved, so that it does not flap.
        channels: names of the channels that are told.
        repeat_s: after which those who were told are told again while it fires unacknowledged; 0: never.
        version: counts changes; 0: a built-in rule that nobody has changed.
    """

    id: str
    tenant_id: str
    name: str
    kind: RuleKind
    metric: Metric = Metric.REQUESTS
    of_metric: Metric | None = None
    subject: Subject = Subject.REQUESTS
    comparison: Comparison = Comparison.ABOVE
    threshold: float = 0.0
    window_s: int = 300
    at_least: int = 1
    baseline: Baseline = Baseline.PREVIOUS
    season: Season = Season.DAY
    slo: str = ""
    budget: str = ""
    filters: tuple[Filter, ...] = ()
    tag_key: str = ""
    group_by: tuple[Dimension, ...] = ()
    for_s: int = 0
    keep_firing_s: int = 300
    severity: Severity = Severity.WARNING
    channels: tuple[str, ...] = ()
    runbook_url: str = ""
    escalation: Escalation | None = None
    repeat_s: int = 14_400
    enabled: bool = True
    version: int = 0
    changed_at: datetime | None = None
    changed_by: str = ""

    @property
    def window(self) -> timedelta:
        """How much time is looked at."""
        return timedelta(seconds=self.window_s)

    @property
    def is_built_in(self) -> bool:
        """Whether it is there without having been made."""
        return self.id.startswith(_PREFIX)


Group = tuple[tuple[str, str], ...]
"""What an incident is about: names and values, in the order of the rule's `group_by`."""


def group_key(group: Group) -> str:
    """A group as one text, different for different groups."""
    return json.dumps(group, ensure_ascii=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Finding:
    """What an evaluation of a rule found about one group.

    Attributes:
        holds: whether the condition does; None: that cannot be known now.
        value, threshold: what was measured, and what it was held against, in `unit`; None where there is none.
        words: what was found, for people.
        severity: where it is not the rule's.
    """

    group: Group
    holds: bool | None
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    words: str = ""
    severity: Severity | None = None


class IncidentState(StrEnum):
    """Where an incident stands."""

    PENDING = "pending"
    """The condition holds, but not for long enough."""
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Incident:
    """A condition that holds, or held, for one group of a rule. Of each group at most one is open.

    Attributes:
        started_at: when the condition began to hold.
        ended_at: when it ceased to, while the incident waits to be resolved.
        severity, unit, words: as of the newest evaluation that found it.
        thread: what its notifications have in common: its own id, or that of those it was told together with.
        told_at: when somebody was last told; None: nobody was.
        reminders: how often they were told again.
        told_channels: who was told, so that they are told of the end.
    """

    id: str
    tenant_id: str
    rule_id: str
    rule_name: str
    group: Group
    state: IncidentState
    started_at: datetime
    severity: Severity = Severity.WARNING
    fired_at: datetime | None = None
    ended_at: datetime | None = None
    resolved_at: datetime | None = None
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    words: str = ""
    runbook_url: str = ""
    thread: str = ""
    told_at: datetime | None = None
    told_channels: tuple[str, ...] = ()
    reminders: int = 0
    escalated_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    note: str = ""

    @property
    def labels(self) -> Mapping[str, str]:
        """The group, by name."""
        return dict(self.group)

    def acknowledge(self, *, by: str, note: str, at: datetime) -> "Incident":
        """The incident, with somebody who looks after it.

        Raises:
            Conflict: it is acknowledged or resolved already.
        """
        if self.state is IncidentState.RESOLVED or self.acknowledged_at is not None:
            state = "resolved" if self.state is IncidentState.RESOLVED else "acknowledged"
            raise Conflict(f"the incident is {state} already")
        return replace(self, acknowledged_at=at, acknowledged_by=by, note=note)


def incident_id(rule: AlertRule, group: Group, started_at: datetime) -> str:
    """The id of the incident that begins then: the same however often it is found."""
    return str(
        uuid5(_IDS, f"{rule.tenant_id}\n{rule.id}\n{group_key(group)}\n{started_at.astimezone(UTC).isoformat()}")
    )


def derived_id(*parts: str) -> str:
    """An id made of others, the same for the same ones."""
    return str(uuid5(_IDS, json.dumps(parts)))


@dataclass(frozen=True, slots=True)
class Silence:
    """Incidents of which nobody is told for a while. What is left empty matches all.

    Attributes:
        labels: group labels that must have these values.
        why: for whoever wonders.
    """

    id: str
    tenant_id: str
    starts_at: datetime
    ends_at: datetime
    by: str
    why: str
    rule_id: str = ""
    severity: Severity | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def covers(self, incident: Incident, at: datetime) -> bool:
        """Whether nobody is to be told of an incident now."""
        return (
            self.starts_at <= at < self.ends_at
            and self.rule_id in ("", incident.rule_id)
            and self.severity in (None, incident.severity)
            and all(incident.labels.get(name) == value for name, value in self.labels)
        )


class Standing(StrEnum):
    """Whether a rule could be evaluated."""

    NEW = "new"
    """Not yet."""
    CURRENT = "current"
    STALE = "stale"
    """The rollups stand still: its incidents stay as they were."""
    UNFIT = "unfit"
    """What it names is not there (any more); `RuleProgress.words` says what."""


@dataclass(frozen=True, slots=True)
class RuleProgress:
    """How far a rule was evaluated.

    Attributes:
        evaluated_at: the end of the newest window; None: of none yet.
    """

    rule_id: str
    evaluated_at: datetime | None = None
    standing: Standing = Standing.NEW
    words: str = ""


@dataclass(frozen=True, slots=True)
class RuleState:
    """A rule as it stands.

    Attributes:
        pending, firing: how many incidents are.
    """

    rule: AlertRule
    progress: RuleProgress
    pending: int = 0
    firing: int = 0
    last_fired_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IncidentQuery:
    """Which incidents of a tenant are asked for, the newest first.

    Attributes:
        states: None: all.
        before: start and id of the incident where the page before ended.
    """

    tenant_id: str
    rule_id: str | None = None
    states: tuple[IncidentState, ...] | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class StepState:
    """What an evaluation step begins with, of one tenant.

    Attributes:
        rules: enabled and disabled ones, without those that were deleted.
        incidents: open ones, of deleted rules too.
        progress: by rule.
    """

    rules: tuple[AlertRule, ...] = ()
    incidents: tuple[Incident, ...] = ()
    silences: tuple[Silence, ...] = ()
    progress: Mapping[str, RuleProgress] = field(default_factory=dict)
