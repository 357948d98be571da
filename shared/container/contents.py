"""What the edge works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.config import Settings
from shared.ports import (
    Authenticator,
    Clock,
    Ids,
    LedgerMaintenance,
    StorageUpkeep,
    Telemetry,
)
from shared.security.session_tokens import SessionTokens
from shared.services.administration import Administration
from shared.services.alert_desk import Alerting
from shared.services.audit import AuditTrail
from shared.services.content_keeping import ContentKeeper
from shared.services.deployment_health import DeploymentHealth
from shared.services.export_work import ExportWork
from shared.services.exporting import ExportDesk
from shared.services.grounded import GroundedService
from shared.services.idempotency import IdempotencyService
from shared.services.ingestion import IngestionService
from shared.services.ingestion_work import IngestionWork
from shared.services.insight import Insight
from shared.services.limits import Limits
from shared.services.notifying import Notifying
from shared.services.oversight import Oversight
from shared.services.readiness import ReadinessService
from shared.services.receipts import ReceiptService
from shared.services.reconciling import Reconciler
from shared.services.recording import RecordWriter
from shared.services.retrieval import RetrievalService
from shared.services.routing import RoutingService
from shared.services.self_test import SelfTest
from shared.services.sessions import SessionService
from shared.services.shelf import Shelf
from shared.services.till import Till


@dataclass(frozen=True, slots=True)
class Identity:
    """Sign-in: each part is None where the settings leave it off.

    Attributes:
        tokens: checks and signs session tokens.
        sessions: signs callers in; needs Entra's word besides.
    """

    tokens: SessionTokens | None = None
    sessions: SessionService | None = None


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Documents: `desk` takes them in, `work` does what the queue says."""

    desk: IngestionService
    work: IngestionWork


@dataclass(frozen=True, slots=True)
class Exports:
    """Files of rows: `desk` streams and takes orders, `work` does what the queue says."""

    desk: ExportDesk
    work: ExportWork


@dataclass(frozen=True, slots=True)
class Container:
    """What the edge works with."""

    settings: Settings
    clock: Clock
    ids: Ids
    telemetry: Telemetry
    authenticator: Authenticator
    health: DeploymentHealth
    shelf: Shelf
    routing: RoutingService
    embeddings: RoutingService
    """The same walk for requests for vectors, over the embedding models."""
    records: RecordWriter
    receipts: ReceiptService
    readiness: ReadinessService
    self_test: SelfTest
    maintenance: LedgerMaintenance
    storage: StorageUpkeep
    identity: Identity
    content: ContentKeeper
    audit: AuditTrail
    idempotency: IdempotencyService
    limits: Limits
    till: Till
    reconciler: Reconciler
    oversight: Oversight
    ingestion: Ingestion
    exports: Exports
    insight: Insight
    administration: Administration
    retrieval: RetrievalService
    grounded: GroundedService
    notifying: Notifying
    alerting: Alerting
    close: Callable[[], Awaitable[None]]
