"""The desk for alerts: rules made, tried over history, changed and shown; incidents acknowledged; silences."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.analytics.alerting import instants, step_of, windows
from shared.analytics.alerting_replay import Stretch, replay
from shared.analytics.alerting_series import needs_sketches
from shared.analytics.periods import hour_before
from shared.domain.alert_bounds import MOST_RULES, MOST_SILENCES, check, check_silence
from shared.domain.alert_metrics import Metric
from shared.domain.alerts import (
    AlertRule,
    Incident,
    IncidentQuery,
    RuleKind,
    RuleProgress,
    RuleState,
    Silence,
    derived_id,
)
from shared.domain.analytics import MINUTES_KEPT
from shared.domain.errors import Conflict, InvalidRequest, NotFound
from shared.domain.notifications import Notification, Occasion
from shared.ports import AlertStore, Clock, Ids
from shared.services.alert_evidence import EvidenceReader, RuleUnfit
from shared.services.alerting import AlertEvaluator, Channels, window_end, with_built_in

PREVIEW_ROWS = 60_000
_MOST_STEPS, _MOST_SKETCHED_STEPS = 60_000, 15_000
"""Evaluations of a group by minutes, in a preview, and those of distributions; with more groups it is all by hours."""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MARGIN = timedelta(hours=1)
"""Minutes older than they are kept for, less this, may be gone by the time they are asked for."""
_SPENT_SILENCES = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule would have done.

    Attributes:
        since, until: the span that was evaluated.
        minutes_since: from here on by minutes, as live; before it by whole hours, which is coarser. None: all by hours.
        incidents: that would have fired, the oldest first.
    """

    since: datetime
    until: datetime
    minutes_since: datetime | None
    incidents: Sequence[Incident]


class AlertDesk:
    """Takes orders about alerts. Everything is a tenant's own.

    Args:
        store: has rules, incidents and silences.
        evidence: what rules are tried over.
        channels: where a tenant can be told.
        clock: what time it is.
        ids: of rules and silences.
    """

    def __init__(self, store: AlertStore, evidence: EvidenceReader, channels: Channels, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._evidence = evidence
        self._channels = channels
        self._clock = clock
        self._ids = ids

    # --- rules

    async def rules(self, tenant_id: str) -> list[RuleState]:
        """All rules of a tenant and how they stand, by name.

        Raises:
            DependencyUnavailable: the store is away.
        """
        rules = with_built_in(tenant_id, await self._store.rules(tenant_id))
        progress = {one.rule_id: one for one in await self._store.progress(tenant_id)}
        standing = {one[0]: one for one in await self._store.standing(tenant_id)}
        found = []
        for rule in sorted(rules, key=lambda rule: (rule.name, rule.id)):
            _, pending, firing, last = standing.get(rule.id, (rule.id, 0, 0, None))
            found.append(RuleState(rule, progress.get(rule.id, RuleProgress(rule.id)), pending, firing, last))
        return found

    async def rule(self, tenant_id: str, rule_id: str) -> RuleState:
        """One rule and how it stands.

        Raises:
            NotFound: the tenant has no such rule.
            DependencyUnavailable: the store is away.
        """
        for found in await self.rules(tenant_id):
            if found.rule.id == rule_id:
                return found
        raise NotFound("there is no such rule", param="rule_id")

    async def create(self, rule: AlertRule, *, by: str) -> AlertRule:
        """Keep a new rule; its id and version are made here.

        Raises:
            InvalidRequest: it cannot be evaluated; `param` names the field.
            Conflict: another rule has the name, or there are too many.
            DependencyUnavailable: not kept, as far as can be known.
        """
        made = replace(rule, id=self._ids.request_id(), version=1, changed_at=self._clock.now(), changed_by=by)
        self._check(made)
        await self._refuse_taken_name(made)
        if not await self._store.put_rule(made, most=MOST_RULES):
            raise Conflict("the rule was made meanwhile")
        return made

    async def change(self, rule: AlertRule, *, version: int, by: str) -> tuple[AlertRule, AlertRule]:
        """Put a rule in the place of the one with its id; returns the rule as it was and as it is.

        Args:
            rule: as it is to be.
            version: of the rule that the caller has seen.
            by: who changes it.

        Raises:
            NotFound: the tenant has no such rule.
            Conflict: it was changed meanwhile, or another rule has the name.
            InvalidRequest: it cannot be evaluated; `param` names the field.
            DependencyUnavailable: not kept, as far as can be known.
        """
        before = (await self.rule(rule.tenant_id, rule.id)).rule
        made = replace(rule, version=version + 1, changed_at=self._clock.now(), changed_by=by)
        self._check(made)
        if before.version != version:
            raise Conflict(f"the rule has version {before.version}; read it again", param="version")
        if before.is_built_in and made.kind is not before.kind:
            raise InvalidRequest("kind: of a built-in rule it cannot be changed", param="kind")
        await self._refuse_taken_name(made)
        if not await self._store.put_rule(made, most=MOST_RULES):
            raise Conflict("the rule was changed meanwhile; read it again", param="version")
        return before, made

    async def delete(self, tenant_id: str, rule_id: str) -> AlertRule:
        """Delete a rule; its open incidents end with the next evaluation. Returns it as it was.

        Raises:
            NotFound: the tenant has no such rule.
            Conflict: it is built in, or was changed meanwhile.
            DependencyUnavailable: not done, as far as can be known.
        """
        rule = (await self.rule(tenant_id, rule_id)).rule
        if rule.is_built_in:
            raise Conflict("a built-in rule can be disabled, not deleted", param="rule_id")
        if not await self._store.delete_rule(tenant_id, rule_id, rule.version):
            raise Conflict("the rule was changed meanwhile", param="rule_id")
        return rule

    async def test(self, tenant_id: str, rule_id: str, *, by: str) -> list[Notification]:
        """Send a test to everybody whom a rule tells, and returns what was sent.

        Raises:
            NotFound: the tenant has no such rule.
            Conflict: it tells nobody.
            DependencyUnavailable: not sent, as far as can be known.
        """
        rule, now = (await self.rule(tenant_id, rule_id)).rule, self._clock.now()
        others = () if rule.escalation is None else rule.escalation.channels
        known = self._channels(tenant_id)
        names = [name for name in dict.fromkeys((*rule.channels, *others)) if name in known]
        if not names:
            raise Conflict("the rule names no channel that there is", param="channels")
        test_id = self._ids.request_id()
        sent = [
            Notification(
                id=derived_id(test_id, name),
                tenant_id=tenant_id,
                channel=name,
                occasion=Occasion.FIRING,
                severity=rule.severity,
                rule_id=rule.id,
                rule_name=rule.name,
                incident_id=f"test-{test_id}",
                summary=f"{rule.name}: this is a test, sent by {by}. Nothing is wrong.",
                started_at=now,
                created_at=now,
                runbook_url=rule.runbook_url,
            )
            for name in names
        ]
        await self._store.notify(sent)
        return sent

    # --- previews

    async def preview(self, rule: AlertRule, *, days: int) -> Preview:
        """What a rule would have done over the last days, by the code that evaluates it live.

        Raises:
            InvalidRequest: it cannot be evaluated, or not over history; `param` names the field.
            DependencyUnavailable: the rollups are away.
        """
        rule = replace(rule, id=rule.id or "preview")
        self._check(rule)
        if rule.metric is Metric.ROLLUP_AGE_S:
            raise InvalidRequest("metric: how old rollups were is not kept", param="metric")
        as_of = (await self._evidence.freshness()).as_of
        until = min(window_end(self._clock.now()), as_of.replace(second=0, microsecond=0))
        since = hour_before(until - days * _DAY)
        minutes_since = self._minutes_since(rule, since, until)
        try:
            hours = await self._hours(rule, since, until, as_of)
            fine = None
            if minutes_since is not None:
                groups = len(hours.evidence.series)
                fine = await self._minutes(rule, minutes_since, until, as_of, groups=groups)
        except RuleUnfit as error:
            raise _invalid(error) from None
        stretches = [hours]
        if fine is not None and minutes_since is not None:
            stretches = [replace(hours, instants=[at for at in hours.instants if at <= minutes_since]), fine]
        # Seconds of arithmetic, which must not hold up requests.
        found = await asyncio.to_thread(replay, rule, stretches)
        return Preview(since, until, None if fine is None else minutes_since, found)

    def _minutes_since(self, rule: AlertRule, since: datetime, until: datetime) -> datetime | None:
        """From when on there are minutes for all of the rule's windows; None: from no time on that it can use."""
        if rule.kind is RuleKind.BUDGET_PROJECTION:
            return None
        # Seen from within an hour, edges at whole hours are those for which hours are enough.
        probe = hour_before(until) - timedelta(minutes=26)
        edges = [edge for window in windows(rule, probe) for edge in window if edge.minute]
        reach = max((probe - edge for edge in edges), default=timedelta())
        oldest = hour_before(until - MINUTES_KEPT + _MARGIN + reach) + _HOUR
        return max(since, oldest) if oldest < until else None

    async def _hours(self, rule: AlertRule, since: datetime, until: datetime, as_of: datetime) -> Stretch:
        step = _DAY if rule.kind is RuleKind.BUDGET_PROJECTION else _HOUR
        first = since if step is _HOUR else since.replace(hour=0) + _DAY
        count = max(0, int((hour_before(until) - first) / step) + 1)
        steps = [first + number * step for number in range(count)]
        evidence = await self._evidence.gather(rule, steps, as_of, is_hourly=True, most_rows=PREVIEW_ROWS)
        return Stretch(evidence, steps)

    async def _minutes(
        self, rule: AlertRule, since: datetime, until: datetime, as_of: datetime, *, groups: int
    ) -> Stretch | None:
        """By minutes; None: there are too many groups for that."""
        steps = instants(rule, since, until, most=int(MINUTES_KEPT / step_of(rule)))
        most = _MOST_SKETCHED_STEPS if needs_sketches(rule) else _MOST_STEPS
        if len(steps) * groups > most:
            return None
        try:
            evidence = await self._evidence.gather(rule, steps, as_of, most_rows=PREVIEW_ROWS)
        except RuleUnfit:
            return None
        return Stretch(evidence, steps)

    # --- incidents and silences

    async def incidents(self, query: IncidentQuery) -> Sequence[Incident]:
        """The newest incidents that a query takes.

        Raises:
            DependencyUnavailable: the store is away.
        """
        return await self._store.incidents(query)

    async def acknowledge(self, tenant_id: str, incident_id: str, *, by: str, note: str) -> Incident:
        """Note that somebody looks after an incident: it is neither escalated nor reminded of any more.

        Raises:
            NotFound: the tenant has no such incident.
            Conflict: it is acknowledged or resolved already.
            DependencyUnavailable: not noted, as far as can be known.
        """
        at = self._clock.now()
        found = await self._store.acknowledge(incident_id, tenant_id=tenant_id, by=by, note=note, at=at)
        if found is None:
            raise NotFound("there is no such incident", param="incident_id")
        return found

    async def silences(self, tenant_id: str) -> Sequence[Silence]:
        """Silences that have not ended, or ended in the last week.

        Raises:
            DependencyUnavailable: the store is away.
        """
        return await self._store.silences(tenant_id, after=self._clock.now() - _SPENT_SILENCES)

    async def silence(self, silence: Silence) -> Silence:
        """Keep a silence; its id is made here.

        Raises:
            InvalidRequest: it ends before it begins, or has ended, or lasts too long.
            NotFound: the tenant has no such rule.
            Conflict: there are too many.
            DependencyUnavailable: not kept, as far as can be known.
        """
        made, now = replace(silence, id=self._ids.request_id()), self._clock.now()
        check_silence(made)
        if made.ends_at <= now:
            raise InvalidRequest("ends_at: has passed", param="ends_at")
        if made.rule_id:
            await self.rule(made.tenant_id, made.rule_id)
        await self._store.put_silence(made, most=MOST_SILENCES, now=now)
        return made

    async def unsilence(self, tenant_id: str, silence_id: str) -> None:
        """End a silence.

        Raises:
            NotFound: the tenant has no such silence.
            DependencyUnavailable: not done, as far as can be known.
        """
        if not await self._store.delete_silence(tenant_id, silence_id):
            raise NotFound("there is no such silence", param="silence_id")

    # ---

    def _check(self, rule: AlertRule) -> None:
        check(rule, tag_keys=self._evidence.tag_keys)
        known = {*self._channels(rule.tenant_id)}
        if rule.is_built_in:
            # They tell the default channel, whether or not there is one.
            known |= {name for built_in in with_built_in(rule.tenant_id, ()) for name in built_in.channels}
        escalation = () if rule.escalation is None else rule.escalation.channels
        for param, names in (("channels", rule.channels), ("escalation.channels", escalation)):
            for name in names:
                if name not in known:
                    raise InvalidRequest(f"{param}: no channel is called {name}", param=param)
        try:
            self._evidence.check(rule)
        except RuleUnfit as error:
            raise _invalid(error) from None

    async def _refuse_taken_name(self, rule: AlertRule) -> None:
        """Built-in rules that nobody changed are not in the store, so it cannot tell."""
        for other in await self.rules(rule.tenant_id):
            if other.rule.name == rule.name and other.rule.id != rule.id:
                raise Conflict("name: another rule has it", param="name")


def _invalid(error: RuleUnfit) -> InvalidRequest:
    return InvalidRequest(str(error), param=str(error).partition(":")[0])


@dataclass(frozen=True, slots=True)
class Alerting:
    """Alerts, in one place for the container: `evaluator` is the timer's, `desk` the endpoints'."""

    evaluator: AlertEvaluator
    desk: AlertDesk
