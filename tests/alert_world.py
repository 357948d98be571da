"""Alerts over a ledger in memory: what requests say is asked of the records themselves."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.domain.alert_metrics import Metric
from shared.domain.alerts import AlertRule, RuleKind
from shared.domain.analytics import Freshness
from shared.domain.records import RequestRecord, RequestStatus
from shared.services.alert_desk import AlertDesk
from shared.services.alert_evidence import EvidenceReader
from shared.services.alerting import AlertEvaluator
from shared.stores.memory import ManualClock, MemoryRecordStore, SequentialIds
from shared.stores.memory_alerts import MemoryAlerts
from shared.stores.memory_analytics import MemoryAnalytics, MemoryFeedback
from shared.telemetry import RecordingTelemetry
from tests.stores_builders import record

TENANT = "tenant-a"
NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
CHANNELS = ("ops", "chat", "boss", "default")


def rule(**more: Any) -> AlertRule:
    """A rule that looks at the error rate of five minutes."""
    values: dict[str, Any] = {
        "id": "rule-1",
        "tenant_id": TENANT,
        "name": "Errors",
        "kind": RuleKind.THRESHOLD,
        "metric": Metric.ERROR_RATE,
        "threshold": 0.1,
        "keep_firing_s": 0,
        "channels": ("ops",),
        "version": 1,
    }
    return AlertRule(**values | more)


def requests(at: datetime, good: int = 1, bad: int = 0, **more: Any) -> list[RequestRecord]:
    """Requests that began then."""
    whole = {"tenant_id": TENANT, "start_time": at, "end_time": at + timedelta(seconds=1), "tags": ()} | more
    made = [record(**whole) for _ in range(good)]
    failed = {"status": RequestStatus.ERROR, "error_code": "provider_unavailable"}
    return made + [record(**whole | failed) for _ in range(bad)]


class SlowAnalytics(MemoryAnalytics):
    """Its rollups may stand still."""

    as_of: datetime | None = None

    async def freshness(self) -> Freshness:
        return Freshness(self.as_of or self.clock.now(), 0)


@dataclass
class AlertWorld:
    """Services over twins; the clock begins at noon."""

    budgets: tuple[Any, ...] = ()
    channels: tuple[str, ...] = CHANNELS
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOON))

    def __post_init__(self) -> None:
        self.ledger = MemoryRecordStore()
        self.analytics = SlowAnalytics(self.ledger, MemoryFeedback(self.ledger), self.clock)
        self.store = MemoryAlerts()
        self.telemetry = RecordingTelemetry()
        evidence = EvidenceReader(self.analytics, lambda: self.budgets, ("team", "feature"))
        self.evaluator = AlertEvaluator(self.store, evidence, lambda _: self.channels, self.clock, self.telemetry)
        self.desk = AlertDesk(self.store, evidence, lambda _: self.channels, self.clock, SequentialIds())

    async def keep(self, *rules: AlertRule, built_in: bool = False) -> None:
        """Rules as if they had been made; built-in ones are off unless they are wanted."""
        for one in rules:
            self.store.kept_rules[one.tenant_id, one.id] = one
        if not built_in:
            for state in await self.desk.rules(TENANT):
                if state.rule.is_built_in:
                    self.store.kept_rules[TENANT, state.rule.id] = replace(state.rule, enabled=False, version=1)

    async def minute(self, good: int = 1, bad: int = 0, **more: Any) -> None:
        """Let a minute pass in which these requests began, and evaluate."""
        self.clock.advance(60)
        # They began in the newest minute that the evaluation looks at.
        began = self.clock.now() - timedelta(minutes=2)
        await self.ledger.insert(requests(began, good, bad, **more))
        await self.evaluator.run()

    @property
    def told(self) -> list[tuple[str, str]]:
        """Occasion and channel of everything that was told, in order."""
        return [(one.occasion.value, one.channel) for one in self.store.notifications.values()]
