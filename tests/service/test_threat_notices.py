"""Grave findings of the threat rules are told of once, without whom they are about."""

from dataclasses import replace

import pytest

from shared.domain import notifications
from shared.domain.errors import DependencyUnavailable
from shared.domain.security_events import DEFAULT_THREAT_RULES, SecurityEventKind, Severity
from shared.services.threat_notices import ThreatNotices
from shared.services.threats import ThreatWatch
from shared.stores.memory import ManualClock
from shared.stores.memory_alerts import MemoryAlerts
from shared.stores.memory_security import MemorySecurityEvents, MemoryThreats
from shared.telemetry.recording import RecordingTelemetry
from tests.security_builders import NOON, event
from tests.unit.routing_builders import policy


class World:
    def __init__(self, severity=Severity.HIGH, channels=("default",)):
        clock, self.alerts, events = ManualClock(NOON), MemoryAlerts(), MemorySecurityEvents()
        rules = tuple(replace(rule, severity=severity) for rule in DEFAULT_THREAT_RULES)
        notices = ThreatNotices(self.alerts, lambda _: channels, clock)
        self.watch = ThreatWatch(
            MemoryThreats(events), events, lambda: policy(threats=rules), clock, RecordingTelemetry(), notices.tell
        )
        self.events = events

    async def attack(self):
        kind = SecurityEventKind.LOGIN_FAILED
        made = [event(-n, kind=kind, actor="anonymous", target=f"account-{n}") for n in range(1, 8)]
        await self.events.insert(made, ())


@pytest.mark.parametrize(
    ("severity", "told"),
    [
        (Severity.CRITICAL, [notifications.Severity.CRITICAL]),
        (Severity.HIGH, [notifications.Severity.WARNING]),
        (Severity.MEDIUM, []),
    ],
)
async def test_grave_findings_are_told_of_once(severity, told):
    world = World(severity)
    await world.attack()
    for _ in range(2):
        await world.watch.look()
    sent = list(world.alerts.notifications.values())
    assert {one.severity for one in sent} == set(told)
    assert all("203.0.113" not in f"{one.summary} {one.group}" for one in sent)
    assert len({one.incident_id for one in sent}) == len(sent)


async def test_without_a_default_channel_nobody_is_told():
    world = World(channels=("ops",))
    await world.attack()
    assert await world.watch.look() >= 1
    assert world.alerts.notifications == {}


async def test_what_could_not_be_written_is_told_of_later():
    world = World()
    await world.attack()
    world.alerts.away = True
    with pytest.raises(DependencyUnavailable):
        await world.watch.look()
    world.alerts.away = False
    await world.watch.look()
    assert world.alerts.notifications
