"""Security events, sightings and rules for tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.domain.privacy import DataSubject, ErasureOrder, SubjectKind
from shared.domain.security_events import (
    SecurityEvent,
    SecurityEventKind,
    Sighting,
    ThreatRule,
    ThreatSignal,
)
from tests.stores_builders import IDS

NOON = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def event(seconds: float = 0.0, **changes: Any) -> SecurityEvent:
    known = SecurityEvent(
        id=IDS.request_id(),
        at=NOON + timedelta(seconds=seconds),
        tenant_id="tenant-1",
        kind=SecurityEventKind.PERMISSION_DENIED,
        actor="p-1",
        service="shop",
        resource="GET audit",
        request_id="r-1",
        network="203.0.113.0/24",
        user_agent="0123456789abcdef",
        code="forbidden",
    )
    return replace(known, **changes)


def sighting(**changes: Any) -> Sighting:
    known = Sighting("tenant-1", "p-1", "shop", "203.0.113.0/24", ("Router.Service",), NOON, NOON)
    return replace(known, **changes)


def rule(signal: ThreatSignal, threshold: int = 3, window_s: int = 600, **changes: Any) -> ThreatRule:
    return replace(ThreatRule(signal.value.replace("_", "-"), signal, window_s, threshold), **changes)


def subject(value: str = "p-1", kind: SubjectKind = SubjectKind.PRINCIPAL, **changes: Any) -> DataSubject:
    return replace(DataSubject("tenant-1", kind, value), **changes)


def erasure_of(whose: DataSubject, at: datetime = NOON) -> ErasureOrder:
    return ErasureOrder(
        id=IDS.request_id(),
        tenant_id=whose.tenant_id,
        kind=whose.kind,
        tag=whose.tag,
        digest=whose.digest,
        requested_by="admin-1",
        requested_at=at,
        subject=whose,
    )
