"""The watch over threats: rules over security events, sightings and usage become findings, and findings are told.

Each run measures every rule's window anew, so a run that is missed, repeated or made by two at once does no harm: a
finding is one row for each rule and subject while it lasts. It is told at least once, by telemetry.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from shared.domain.errors import Conflict, NotFound
from shared.domain.policy import Policy
from shared.domain.security_events import (
    EventQuery,
    FindingQuery,
    FindingState,
    SecurityEvent,
    Severity,
    ThreatFinding,
    fires,
    moves,
    window_of,
)
from shared.ports import Clock, SecurityEventStore, Telemetry, ThreatStore

_LEVELS = {
    Severity.LOW: logging.INFO,
    Severity.MEDIUM: logging.WARNING,
    Severity.HIGH: logging.ERROR,
    Severity.CRITICAL: logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class SecurityOverview:
    """Events and findings of a tenant, and how many there are."""

    events: Sequence[SecurityEvent]
    has_more_events: bool
    findings: Sequence[ThreatFinding]
    has_more_findings: bool
    event_counts: Mapping[str, int]
    finding_counts: Mapping[tuple[str, str], int]


class ThreatWatch:
    """Finds, tells and shows threats.

    Args:
        threats: what rules measure, and findings.
        events: security events.
        policy: has the rules in force.
        clock: where windows end.
        telemetry: hears of every finding once, and of how many there are.
        notify: tells people of new findings; may be told of the same ones again.
    """

    def __init__(
        self,
        threats: ThreatStore,
        events: SecurityEventStore,
        policy: Callable[[], Policy],
        clock: Clock,
        telemetry: Telemetry,
        notify: Callable[[Sequence[ThreatFinding]], Awaitable[None]] | None = None,
    ) -> None:
        self._threats = threats
        self._notify = notify
        self._events = events
        self._policy = policy
        self._clock = clock
        self._telemetry = telemetry

    async def look(self) -> int:
        """Measure every rule, and tell what is new; returns how many findings were told.

        Raises:
            DependencyUnavailable: the store is away; what was found so far is kept.
        """
        now = self._clock.now()
        rules = [rule for rule in self._policy().threats if rule.enabled]
        if any(rule.signal.is_usage for rule in rules):
            await self._threats.add_up(now)
        for rule in rules:
            measured = await self._threats.measure(rule, since=window_of(rule, now), until=now)
            await self._threats.report(rule, [seen for seen in measured if fires(rule, seen)])
        return await self._tell()

    async def overview(self, events: EventQuery, findings: FindingQuery) -> SecurityOverview:
        """What a tenant's administrators see.

        Raises:
            DependencyUnavailable: the store is away.
        """
        found = await self._events.events(replace(events, limit=events.limit + 1))
        lasting = await self._threats.findings(replace(findings, limit=findings.limit + 1))
        return SecurityOverview(
            found[: events.limit],
            len(found) > events.limit,
            lasting[: findings.limit],
            len(lasting) > findings.limit,
            await self._events.counts(events),
            await self._threats.finding_counts(findings.tenant_id),
        )

    async def move(
        self, finding_id: str, state: FindingState, *, tenant_id: str, by: str, note: str
    ) -> tuple[ThreatFinding, ThreatFinding]:
        """Acknowledge or resolve a finding; returns it as it was and as it is.

        Raises:
            NotFound: the tenant has no such finding.
            Conflict: it is in that state already, or beyond it, or somebody else was faster.
            DependencyUnavailable: the store is away.
        """
        before = await self._threats.finding(finding_id, tenant_id=tenant_id)
        if before is None:
            raise NotFound("there is no such finding", param="finding_id")
        if not moves(before.state, state):
            raise Conflict(f"the finding is {before.state.value} already", param="state")
        at = self._clock.now()
        if not await self._threats.move(before, state, by=by, at=at, note=note):
            raise Conflict("the finding was changed meanwhile", param="state")
        return before, replace(before, state=state, changed_by=by, changed_at=at, note=note)

    async def _tell(self) -> int:
        count = 0
        while findings := await self._threats.untold():
            for finding in findings:
                self._telemetry.count("threat_findings", rule=finding.rule, severity=finding.severity.value)
                self._telemetry.log(
                    _LEVELS[finding.severity],
                    "threat_found",
                    finding=finding.id,
                    tenant=finding.tenant_id,
                    rule=finding.rule,
                    severity=finding.severity.value,
                    value=finding.value,
                    threshold=finding.threshold,
                )
            if self._notify is not None:
                await self._notify(findings)
            # After the telling: a process that is killed in between tells twice rather than never.
            await self._threats.told([finding.id for finding in findings], self._clock.now())
            count += len(findings)
        return count
