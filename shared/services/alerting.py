"""The evaluation of alert rules: rollups in, incidents and notifications out, as a whole or not at all."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from shared.analytics.alerting import instants
from shared.analytics.alerting_defaults import built_in_rules
from shared.analytics.alerting_replay import Stretch, run
from shared.analytics.alerting_states import Book, book_of, close, tell
from shared.domain.alert_metrics import Metric
from shared.domain.alerts import AlertRule, Incident, RuleKind, RuleProgress, Standing, StepState
from shared.domain.errors import DependencyUnavailable
from shared.domain.notifications import Notification
from shared.ports import AlertStore, Clock, Telemetry
from shared.services.alert_evidence import EvidenceReader, RuleUnfit

_LAG = timedelta(minutes=1)
"""Windows end so long before now: what just began has no record yet."""
_CATCH_UP = 60
"""Instants of a rule that are made up for after an outage; older ones are left out."""
_ACTIVE = timedelta(days=7)
_BUDGET_S = 45.0
"""Of a run that comes every minute; rules that it has no time for come first in the next one."""
_STALE_AFTER = timedelta(minutes=5)
"""Rollups that end so long before the windows that are due stand still, as far as a rule is concerned."""

Channels = Callable[[str], Collection[str]]
"""Names of the channels that a tenant's notifications may go to."""


def with_built_in(tenant_id: str, kept: Sequence[AlertRule]) -> list[AlertRule]:
    """A tenant's rules, with the built-in ones that nobody changed."""
    known = {rule.id for rule in kept}
    return [*kept, *(rule for rule in built_in_rules(tenant_id) if rule.id not in known)]


def window_end(now: datetime) -> datetime:
    """Where windows end that are looked at now, if the rollups reach so far."""
    return _minute(now - _LAG)


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _takes_any(rule: AlertRule) -> bool:
    """Whether a rule has something to say of rollups that stand still."""
    return rule.kind is RuleKind.MISSING_DATA or rule.metric is Metric.ROLLUP_AGE_S


class AlertEvaluator:
    """Evaluates rules.

    Args:
        store: has rules and incidents; lets one process at a time evaluate a tenant.
        evidence: what rules are held against.
        channels: where a tenant can be told.
        clock: says when windows end.
        telemetry: hears how many incidents began and ended.
    """

    def __init__(
        self, store: AlertStore, evidence: EvidenceReader, channels: Channels, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._channels = channels
        self._clock = clock
        self._telemetry = telemetry

    async def run(self) -> int:
        """Evaluate the rules of all tenants; returns how many notifications were written.

        A run that is late, repeated, or made by two at once does no harm; what one missed the next one makes up for.

        Raises:
            DependencyUnavailable: store or rollups are away; tenants that were evaluated stay so.
            ExceptionGroup: some tenants could not be evaluated, the others were.
        """
        began_s, told, failures = self._clock.monotonic(), 0, list[Exception]()
        for tenant_id in await self._store.tenants(self._clock.now() - _ACTIVE):
            try:
                told += await self.evaluate(tenant_id, until_s=began_s + _BUDGET_S)
            except DependencyUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, other tenants' alerts must not wait for it
                failures.append(error)
                error.add_note(f"tenant {tenant_id}")
                self._telemetry.log(logging.ERROR, "alerts_failed", tenant=tenant_id, error=type(error).__name__)
        if failures:
            raise ExceptionGroup("alerts of some tenants were not evaluated", failures)
        return told

    async def evaluate(self, tenant_id: str, *, until_s: float | None = None) -> int:
        """One step: evaluate a tenant's rules; returns how many notifications were written.

        Args:
            tenant_id: whose.
            until_s: on the monotonic clock, when the rest is left for the next step.

        Raises:
            DependencyUnavailable: nothing was changed.
        """
        now = self._clock.now()
        # Asked before the rows: what is computed meanwhile makes them fresher than this says, never staler.
        as_of = (await self._evidence.freshness()).as_of
        async with self._store.step(tenant_id, now) as step:
            if step is None:
                return 0
            work = _Work(step.state, with_built_in(tenant_id, step.state.rules))
            for rule in work.in_turn():
                if until_s is not None and self._clock.monotonic() > until_s:
                    self._telemetry.log(logging.WARNING, "alerts_behind", tenant=tenant_id)
                    break
                try:
                    await self._look(rule, work, as_of, now)
                except DependencyUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - a defect in one rule must not silence the others
                    self._telemetry.log(logging.ERROR, "alert_rule_failed", rule=rule.id, error=type(error).__name__)
                    before = work.state.progress.get(rule.id, RuleProgress(rule.id))
                    words = "it could not be evaluated: a defect of the router"
                    work.progress.append(replace(before, standing=Standing.UNFIT, words=words))
            self._end_orphans(work, tenant_id, now)
            changed = [one for one in work.incidents.values() if one != work.before.get(one.id)]
            await step.write(
                progress=work.progress, incidents=changed, dropped=work.dropped, notifications=work.notifications
            )
        self._count(work, changed)
        return len(work.notifications)

    async def _look(self, rule: AlertRule, work: "_Work", as_of: datetime, now: datetime) -> None:
        book = book_of(work.of_rule(rule.id))
        if not rule.enabled:
            close(book, now)
            work.finish(book, tell(book, rule, (), None, now))
            return
        before = work.state.progress.get(rule.id, RuleProgress(rule.id))
        at = window_end(now)
        progress = await self._advance(rule, book, before, at if _takes_any(rule) else min(at, _minute(as_of)), as_of)
        if as_of < at - _STALE_AFTER and not _takes_any(rule) and progress.standing is not Standing.UNFIT:
            words = f"the rollups end at {as_of:%Y-%m-%d %H:%M} UTC"
            progress = replace(progress, standing=Standing.STALE, words=words)
        work.finish(book, tell(book, rule, work.state.silences, self._channels(rule.tenant_id), now))
        if progress != before:
            work.progress.append(progress)

    async def _advance(
        self, rule: AlertRule, book: Book, before: RuleProgress, at: datetime, as_of: datetime
    ) -> RuleProgress:
        """Evaluate all instants that are due, and say how far that got."""
        due = _due(rule, before, at)
        try:
            if due:
                evidence = await self._evidence.gather(rule, due, as_of)
                run(book, rule, Stretch(evidence, due))
        except RuleUnfit as error:
            return replace(before, standing=Standing.UNFIT, words=str(error))
        return RuleProgress(rule.id, due[-1] if due else before.evaluated_at, Standing.CURRENT)

    def _end_orphans(self, work: "_Work", tenant_id: str, now: datetime) -> None:
        """End the incidents of rules that were deleted."""
        for rule_id in work.orphans():
            incidents = work.of_rule(rule_id)
            first = incidents[0]
            gone = AlertRule(rule_id, tenant_id, first.rule_name, RuleKind.THRESHOLD, runbook_url=first.runbook_url)
            book = book_of(incidents)
            close(book, now)
            work.finish(book, tell(book, gone, (), None, now))

    def _count(self, work: "_Work", changed: Sequence[Incident]) -> None:
        for one in changed:
            known = work.before.get(one.id)
            if one.fired_at is not None and (known is None or known.state is not one.state):
                self._telemetry.count("alert_incidents", state=one.state.value, severity=one.severity.value)
        if work.notifications:
            self._telemetry.count("alert_notifications", len(work.notifications))


class _Work:
    """What a step has come to so far."""

    def __init__(self, state: StepState, rules: Sequence[AlertRule]) -> None:
        self.state = state
        self.rules = rules
        self.before = {one.id: one for one in state.incidents}
        self.incidents = dict[str, Incident]()
        self.progress = list[RuleProgress]()
        self.dropped = list[str]()
        self.notifications = list[Notification]()

    def in_turn(self) -> list[AlertRule]:
        """Those first whose last evaluation is longest ago."""
        ages = {one.rule_id: one.evaluated_at.timestamp() for one in self.state.progress.values() if one.evaluated_at}
        return sorted(self.rules, key=lambda rule: (ages.get(rule.id, 0.0), rule.id))

    def of_rule(self, rule_id: str) -> list[Incident]:
        return [one for one in self.state.incidents if one.rule_id == rule_id]

    def orphans(self) -> list[str]:
        """Rules that are gone and have open incidents still."""
        known = {rule.id for rule in self.rules}
        return sorted({one.rule_id for one in self.state.incidents} - known)

    def finish(self, book: Book, notifications: Sequence[Notification]) -> None:
        self.incidents |= {one.id: one for one in (*book.resolved, *book.open.values())}
        self.dropped += [gone for gone in book.dropped if gone in self.before]
        self.notifications += notifications


def _due(rule: AlertRule, before: RuleProgress, at: datetime) -> Sequence[datetime]:
    """Instants that were not looked at yet; of a rule that is new or was away for long, the newest ones."""
    newest_only = before.evaluated_at is None
    after = at - timedelta(days=1) if before.evaluated_at is None else before.evaluated_at
    return instants(rule, after, at, most=1 if newest_only else _CATCH_UP)
