"""The queries, the bodies and the answers of /admin/alerts."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from functions._wire.parsing import Body, Line
from functions._wire.query import before, cursor_of, limit_of, only, word
from shared.domain.alert_bounds import MAX_NAME_CHARS, MAX_WHY_CHARS
from shared.domain.alert_metrics import Metric
from shared.domain.alerts import (
    AlertRule,
    Baseline,
    Comparison,
    Escalation,
    Filter,
    Incident,
    IncidentQuery,
    IncidentState,
    RuleKind,
    RuleState,
    Season,
    Silence,
)
from shared.domain.analytics import Dimension, Subject
from shared.domain.errors import InvalidRequest
from shared.domain.notifications import Notification, Severity
from shared.services.alert_desk import Preview

_MOST = 500
_MOST_SHOWN = 200
"""Incidents that a preview lists."""
_TAG = f"{Dimension.TAG.value}:"
_LONGEST_PREVIEW_DAYS = 31
_Name = Annotated[Line, Field(max_length=256)]
_Names = Annotated[list[_Name], Field(max_length=50)]
_Seconds = Annotated[int, Field(ge=0, le=10**9)]


class EscalationBody(Body):
    """Who is told besides, after so many seconds without an acknowledgement."""

    after_s: _Seconds
    channels: _Names


class RuleBody(Body):
    """A rule, or what is to be changed of one: fields that are not given stay as they are."""

    name: _Name | None = None
    kind: RuleKind | None = None
    metric: Metric = Metric.REQUESTS
    of_metric: Metric | None = None
    of: Subject = Subject.REQUESTS
    comparison: Comparison = Comparison.ABOVE
    threshold: float = 0.0
    window_s: _Seconds = 300
    at_least: _Seconds = 1
    baseline: Baseline = Baseline.PREVIOUS
    season: Season = Season.DAY
    slo: _Name = ""
    budget: _Name = ""
    filters: Annotated[dict[_Name, _Names], Field(max_length=10)] = Field(default_factory=dict)
    group_by: Annotated[list[_Name], Field(max_length=10)] = Field(default_factory=list)
    for_s: _Seconds = 0
    keep_firing_s: _Seconds = 300
    severity: Severity = Severity.WARNING
    channels: _Names = Field(default_factory=list)
    runbook_url: Annotated[Line, Field(max_length=1_000)] = ""
    escalation: EscalationBody | None = None
    repeat_s: _Seconds = 14_400
    enabled: bool = True
    version: Annotated[int, Field(ge=0, le=2**53)] | None = None
    dry_run: bool = False
    days: Annotated[int, Field(ge=1, le=_LONGEST_PREVIEW_DAYS)] = 7
    """Of history that a dry run looks at."""

    def new_rule(self, tenant_id: str) -> AlertRule:
        """A rule that is made of this alone; its id is made when it is kept.

        Raises:
            InvalidRequest: a name or kind is missing, or a dimension is none.
        """
        if self.kind is None:
            raise InvalidRequest("kind: Field required", param="kind")
        if self.name is None:
            raise InvalidRequest("name: Field required", param="name")
        return self.changed(AlertRule("", tenant_id, self.name, self.kind))

    def changed(self, rule: AlertRule) -> AlertRule:
        """The rule with what was given here.

        Raises:
            InvalidRequest: a dimension is none.
        """
        known = {field.name for field in fields(AlertRule)} - {"filters", "group_by", "version", "escalation"}
        values = {name: getattr(self, name) for name in self.model_fields_set & known}
        for required in ("name", "kind"):
            if required in values and values[required] is None:
                raise InvalidRequest(f"{required}: must not be null", param=required)
        if "channels" in values:
            values["channels"] = tuple(self.channels)
        if "of" in self.model_fields_set:
            values["subject"] = self.of
        if "escalation" in self.model_fields_set:
            given = self.escalation
            values["escalation"] = None if given is None else Escalation(given.after_s, tuple(given.channels))
        return replace(rule, **values, **self._selected(rule))

    def _selected(self, rule: AlertRule) -> dict[str, Any]:
        """Filters and groups, and the one tag that they may name."""
        group_by, filters, keys = rule.group_by, rule.filters, set[str]()
        if "group_by" in self.model_fields_set:
            group_by = tuple(_dimension(name, "group_by", keys) for name in self.group_by)
        elif Dimension.TAG in group_by:
            keys.add(rule.tag_key)
        if "filters" in self.model_fields_set:
            filters = tuple(
                Filter(_dimension(name, "filters", keys), tuple(values)) for name, values in self.filters.items()
            )
        elif any(one.dimension is Dimension.TAG for one in filters):
            keys.add(rule.tag_key)
        if len(keys) > 1:
            raise InvalidRequest("filters: the tag must be the one that is grouped by", param="filters")
        return {"group_by": group_by, "filters": filters, "tag_key": next(iter(keys), "")}


class SilenceBody(Body):
    """Incidents of which nobody is to be told for a while."""

    rule_id: _Name = ""
    severity: Severity | None = None
    labels: Annotated[dict[_Name, _Name], Field(max_length=10)] = Field(default_factory=dict)
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime
    why: Annotated[Line, Field(min_length=1, max_length=MAX_WHY_CHARS)]

    def to_domain(self, *, tenant_id: str, by: str, now: datetime) -> Silence:
        """The silence; its id is made when it is kept."""
        return Silence(
            id="",
            tenant_id=tenant_id,
            starts_at=self.starts_at or now,
            ends_at=self.ends_at,
            by=by,
            why=self.why,
            rule_id=self.rule_id,
            severity=self.severity,
            labels=tuple(sorted(self.labels.items())),
        )


class AcknowledgementBody(Body):
    """What whoever looks after an incident says."""

    note: Annotated[Line, Field(max_length=500)] = ""


def version_asked(body: RuleBody, headers: Mapping[str, str]) -> int:
    """The version that a change is made upon: ``If-Match``, or ``version`` in the body.

    Raises:
        InvalidRequest: neither is there, or the header is none that these endpoints gave.
    """
    tag = headers.get("if-match")
    if tag is None:
        if body.version is None:
            raise InvalidRequest("version: give the version that you have read, here or in If-Match", param="version")
        return body.version
    text = tag.strip().removeprefix("W/").strip('"')
    if not text.isascii() or not text.isdecimal() or len(text) > 16:  # noqa: PLR2004 - digits of any version
        raise InvalidRequest("if-match: must be the etag of the rule", param="if-match")
    return int(text)


def rules_page(parameters: Mapping[str, str], states: Sequence[RuleState]) -> dict[str, Any]:
    """A page of rules, by name, with how they stand.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, frozenset({"limit", "cursor", "state"}))
    limit, wanted = limit_of(parameters, _MOST), word(parameters, "state", IncidentState)
    if wanted is IncidentState.RESOLVED:
        raise InvalidRequest("state: must be one of pending, firing", param="state")
    after = _after(parameters)
    found = [
        one
        for one in states
        if (after is None or (one.rule.name, one.rule.id) > after)
        and (wanted is None or (one.firing if wanted is IncidentState.FIRING else one.pending))
    ]
    page = found[:limit]
    last = page[-1].rule if len(found) > limit else None
    return {
        "rules": [state_body(one) for one in page],
        "next_cursor": None if last is None else _cursor(last),
    }


def incident_query(parameters: Mapping[str, str], *, tenant_id: str, rule_id: str | None = None) -> IncidentQuery:
    """Which incidents the URL asks for, and one more.

    Raises:
        InvalidRequest: naming the parameter.
    """
    known = {"limit", "cursor", "state"} | (set() if rule_id is not None else {"rule_id"})
    only(parameters, frozenset(known))
    state = word(parameters, "state", IncidentState)
    return IncidentQuery(
        tenant_id,
        rule_id=rule_id if rule_id is not None else parameters.get("rule_id"),
        states=None if state is None else (state,),
        before=before(parameters, uuid=True),
        limit=limit_of(parameters, _MOST) + 1,
    )


def incidents_body(found: Sequence[Incident], query: IncidentQuery) -> dict[str, Any]:
    """A page of incidents."""
    page = found[: query.limit - 1]
    last = page[-1] if len(found) == query.limit else None
    return {
        "incidents": [incident_body(one) for one in page],
        "next_cursor": None if last is None else cursor_of(last.started_at, last.id),
    }


def state_body(state: RuleState) -> dict[str, Any]:
    """A rule and how it stands."""
    progress = state.progress
    standing = "firing" if state.firing else "pending" if state.pending else "ok"
    return rule_body(state.rule) | {
        "state": standing if state.rule.enabled else "disabled",
        "evaluation": progress.standing.value,
        "evaluation_detail": progress.words or None,
        "evaluated_at": _iso(progress.evaluated_at),
        "pending": state.pending,
        "firing": state.firing,
        "last_fired_at": _iso(state.last_fired_at),
    }


def rule_body(rule: AlertRule) -> dict[str, Any]:
    """A rule, in the fields in which it can be written."""
    escalation = rule.escalation
    return {
        "id": rule.id or None,
        "name": rule.name,
        "kind": rule.kind.value,
        "metric": rule.metric.value,
        "of_metric": None if rule.of_metric is None else rule.of_metric.value,
        "of": rule.subject.value,
        "comparison": rule.comparison.value,
        "threshold": rule.threshold,
        "window_s": rule.window_s,
        "at_least": rule.at_least,
        "baseline": rule.baseline.value,
        "season": rule.season.value,
        "slo": rule.slo,
        "budget": rule.budget,
        "filters": {_named(one.dimension, rule): list(one.values) for one in rule.filters},
        "group_by": [_named(one, rule) for one in rule.group_by],
        "for_s": rule.for_s,
        "keep_firing_s": rule.keep_firing_s,
        "severity": rule.severity.value,
        "channels": list(rule.channels),
        "runbook_url": rule.runbook_url,
        "escalation": None
        if escalation is None
        else {"after_s": escalation.after_s, "channels": list(escalation.channels)},
        "repeat_s": rule.repeat_s,
        "enabled": rule.enabled,
        "built_in": rule.is_built_in,
        "version": rule.version,
        "changed_at": _iso(rule.changed_at),
        "changed_by": rule.changed_by or None,
    }


def preview_body(preview: Preview) -> dict[str, Any]:
    """What a rule would have done."""
    shown = [
        {name: value for name, value in incident_body(one).items() if name in _OF_PREVIEWS}
        for one in preview.incidents[-_MOST_SHOWN:]
    ]
    return {
        "from": preview.since.isoformat(),
        "to": preview.until.isoformat(),
        "by_minutes_from": _iso(preview.minutes_since),
        "fired": len(preview.incidents),
        "incidents": shown,
    }


def incident_body(one: Incident) -> dict[str, Any]:
    """An incident."""
    return {
        "id": one.id,
        "rule_id": one.rule_id,
        "rule_name": one.rule_name,
        "group": one.labels,
        "state": one.state.value,
        "severity": one.severity.value,
        "started_at": one.started_at.isoformat(),
        "fired_at": _iso(one.fired_at),
        "ended_at": _iso(one.ended_at),
        "resolved_at": _iso(one.resolved_at),
        "value": one.value,
        "threshold": one.threshold,
        "unit": one.unit,
        "summary": one.words,
        "runbook_url": one.runbook_url,
        "told_at": _iso(one.told_at),
        "told_channels": list(one.told_channels),
        "thread": one.thread or None,
        "reminders": one.reminders,
        "escalated_at": _iso(one.escalated_at),
        "acknowledged_at": _iso(one.acknowledged_at),
        "acknowledged_by": one.acknowledged_by or None,
        "note": one.note or None,
    }


def silence_body(one: Silence) -> dict[str, Any]:
    """A silence."""
    return {
        "id": one.id,
        "rule_id": one.rule_id,
        "severity": None if one.severity is None else one.severity.value,
        "labels": dict(one.labels),
        "starts_at": one.starts_at.isoformat(),
        "ends_at": one.ends_at.isoformat(),
        "by": one.by,
        "why": one.why,
    }


def sent_body(sent: Sequence[Notification]) -> dict[str, Any]:
    """What a test sent."""
    return {"notifications": [{"id": one.id, "channel": one.channel} for one in sent]}


_OF_PREVIEWS = frozenset(
    {"group", "severity", "started_at", "fired_at", "resolved_at", "value", "threshold", "unit", "summary"}
)


def _dimension(name: str, param: str, keys: set[str]) -> Dimension:
    """A dimension by its name; the key of a tag is put with the others."""
    if name.startswith(_TAG) and len(name) > len(_TAG):
        keys.add(name.removeprefix(_TAG))
        return Dimension.TAG
    if name == Dimension.TAG.value or name not in {one.value for one in Dimension}:
        raise InvalidRequest(f"{param}: must be some of service, model, deployment, category, tag:KEY", param=param)
    return Dimension(name)


def _named(dimension: Dimension, rule: AlertRule) -> str:
    return f"{_TAG}{rule.tag_key}" if dimension is Dimension.TAG else dimension.value


def _cursor(rule: AlertRule) -> str:
    return base64.urlsafe_b64encode(json.dumps([rule.name, rule.id]).encode()).decode()


def _after(parameters: Mapping[str, str]) -> tuple[str, str] | None:
    cursor = parameters.get("cursor")
    if cursor is None:
        return None
    try:
        name, key = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        if isinstance(name, str) and isinstance(key, str) and len(name) <= MAX_NAME_CHARS:
            return name, key
    except (ValueError, TypeError, RecursionError, binascii.Error):
        pass
    raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor")


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
