"""The ledger's rows: one record for each admitted request, one attempt for each call made for it. No content."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from shared.domain.caching import CacheOutcome
from shared.domain.replies import Usage


class RequestStatus(StrEnum):
    """How a request ended for its caller."""

    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"
    """The caller went away; whatever was generated is billed."""
    ABANDONED = "abandoned"
    """The worker died with the request open; written by whoever found its journal."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One call to one deployment. `number` counts from 1 within the request."""

    number: int
    deployment_id: str
    model_id: str
    provider: str
    region: str
    started_at: datetime
    duration_ms: float
    outcome: str
    """``success`` or the error's code."""
    vendor_status: str | None = None
    ttft_ms: float | None = None
    usage: Usage = Usage()
    cost_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One admitted request. Times are UTC; `cost_usd` is exact and unrounded.

    `overhead_ms` is the router's own time: total minus time spent waiting for providers.
    """

    id: str
    tenant_id: str
    service_name: str
    principal_id: str
    endpoint: str
    request_type: str
    """The task category."""
    content_type: str
    attachment_size: int
    complexity_level: str
    security_level: str
    start_time: datetime
    end_time: datetime
    status: RequestStatus
    stream: bool
    requested_model: str
    model_used: str | None = None
    deployment_used: str | None = None
    provider: str | None = None
    region: str | None = None
    usage: Usage = Usage()
    cost_usd: Decimal = Decimal(0)
    ttft_ms: float | None = None
    overhead_ms: float = 0.0
    finish_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    quality_score: float | None = None
    propensity: float | None = None
    registry_version: str = ""
    policy_version: str = ""
    trace_id: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()
    budget_accounts: tuple[str, ...] = ()
    """Accounts of budgets that the cost counts for (`shared.domain.budgets`)."""
    receipt: str | None = None
    """The decision's receipt (`shared.scoring.receipt`), canonical JSON. The ledger chains it
    (`shared.domain.receipts`) and gives it back by `ReceiptStore`, not with the record."""
    cache: str = CacheOutcome.OFF.value
    """How the look-up in the answer cache ended (`CacheOutcome`). On hits `usage` is what the original answer used: it
    was not used again, and `cost_usd` is 0."""
    saved_usd: Decimal = Decimal(0)
    """What the answer of a hit cost when it was made; not part of `cost_usd`."""
    quality_source: str | None = None
    """Who says `quality_score` (`shared.domain.quality_signals.QualitySource`)."""
    quality_signs: str = ""
    """What the answer shows by itself (`shared.domain.quality_signals.written`)."""

    @property
    def duration_ms(self) -> float:
        """From admission to the end of the answer."""
        return (self.end_time - self.start_time).total_seconds() * 1000.0
