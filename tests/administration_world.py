"""What administrators read, over twins: records go in, pages come out."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from shared.domain.health import HealthRules
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import Usage
from shared.services.administration import Administration
from shared.services.analytics import Analytics
from shared.services.budget_outlook import BudgetOutlook
from shared.services.business import Business
from shared.services.deployment_health import DeploymentHealth
from shared.services.overview import Overview
from shared.services.slos import Slos
from shared.stores.memory import ManualClock, MemoryRecordStore
from shared.stores.memory_analytics import MemoryAnalytics, MemoryFeedback
from shared.stores.memory_budgets import MemoryBudgetLedger, MemoryBudgetStore
from shared.stores.memory_health import MemoryHealthStore
from shared.telemetry.recording import RecordingTelemetry
from tests.stores_builders import attempt, record
from tests.unit.routing_builders import deployment, model, policy, registry

NOW = datetime(2026, 11, 23, 15, 42, 31, tzinfo=UTC)
T = "tenant-a"
SHELF = registry(
    (model("dear", price="10", quality=0.9), deployment("dear")),
    (model("cheap", price="1", quality=0.88), deployment("cheap")),
    (model("weak", price="0.1", quality=0.4), deployment("weak")),
)


class AdministrationWorld:
    """Everything behind the pages.

    Args:
        rules: of the policy.
        former: models that services used before.
        now: what time it is.
        records: the ledger; one of its own when it is not given.
    """

    def __init__(self, rules=None, *, former=(), now=NOW, tag_keys=("team", "feature"), clock=None, records=None):
        self.clock = clock or ManualClock(now)
        self.policy = rules or policy()
        self.ledger = records if records is not None else MemoryRecordStore()
        self.feedback = MemoryFeedback(self.ledger)
        self.store = MemoryAnalytics(self.ledger, self.feedback, self.clock)
        self.money = MemoryBudgetStore(self.clock, gather_s=0)
        self.matters = {"high": 2}
        telemetry = RecordingTelemetry()
        self.health = DeploymentHealth(
            MemoryHealthStore(self.clock), HealthRules(), self.clock, telemetry, random.Random(1), worker_id="w"
        )
        analytics = Analytics(self.store, lambda: SHELF, dict(former))
        self.outlook = BudgetOutlook(
            self.store, MemoryBudgetLedger(self.ledger), self.money, lambda: self.policy, tag_keys
        )
        slos = Slos(self.store, self.clock)
        self.services = Administration(
            slos=slos,
            overview=Overview(
                self.store, analytics, slos, self.outlook, self.health, lambda: SHELF, self.clock,
                {"findings": self._count},
            ),
            business=Business(
                self.store, analytics, self.outlook, lambda: SHELF, lambda: self.policy, self.clock,
                has_former=bool(former),
            ),
        )  # fmt: skip

    async def _count(self, tenant_id):
        return self.matters if tenant_id == T else {}

    async def had(self, start: datetime, **fields) -> RequestRecord:
        """One request that took two seconds, cost a dollar, and used a tenth of a million tokens."""
        error = fields.get("error_code")
        values = {
            "tenant_id": T,
            "start_time": start,
            "end_time": start + timedelta(seconds=2),
            "status": RequestStatus.ERROR if error else RequestStatus.SUCCESS,
            "error_code": None,
            "model_used": "dear",
            "deployment_used": "dear@europe-west4",
            "usage": Usage(input_tokens=100_000),
            "cost_usd": Decimal(1),
            "saved_usd": Decimal(0),
            "cache": "off",
            "tags": (),
            "budget_accounts": (),
        }
        made = record(**values | fields)
        tried = attempt(
            1,
            model_id=made.model_used or "",
            deployment_id=made.deployment_used or "",
            outcome=error or "success",
            started_at=start,
            usage=made.usage,
            cost_usd=made.cost_usd,
        )
        made = replace(made, attempts=(tried,))
        await self.ledger.insert([made])
        return made
