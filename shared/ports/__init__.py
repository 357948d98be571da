"""Ports: what services need of the outside world. Adapters live in providers, stores, security and telemetry.

Every port that keeps state has a working twin in `shared.stores.memory`, and one contract suite runs on both.
Every method that leaves the process takes or has a deadline, and says here what it raises.
"""

from shared.ports.analytics import AnalyticsStore, FeedbackStore, RollupStore
from shared.ports.identity import (
    Authenticator,
    CredentialCheck,
    LoginGuard,
    SessionFamilies,
    SessionSigner,
    SigningKeys,
)
from shared.ports.ledger import (
    ConfigurationArchive,
    LedgerMaintenance,
    ReceiptStore,
    RecordJournal,
    RecordSpill,
    RecordStore,
)
from shared.ports.models import ModelProvider, ProviderCall
from shared.ports.oversight import (
    AuditStore,
    ErasureStore,
    ExportPage,
    PersonalStore,
    RetentionStore,
    SecurityEvents,
    SecurityEventStore,
    ThreatStore,
)
from shared.ports.retrieval import (
    BlobStore,
    DocumentPage,
    DocumentParser,
    DocumentStore,
    IngestionQueue,
    PassageIndex,
    Reranker,
    UnembeddedChunk,
    VectorTable,
    VectorTables,
)
from shared.ports.reuse import AnswerCache, Claim, ClaimState, IdempotencyKey, IdempotencyStore
from shared.ports.sharing import BudgetLedger, BudgetStore, HealthStore, LimitStore
from shared.ports.telemetry import Span, Telemetry
from shared.ports.world import Clock, Ids, Probe, RandomSource

__all__ = [
    "AnalyticsStore",
    "AnswerCache",
    "AuditStore",
    "Authenticator",
    "BlobStore",
    "BudgetLedger",
    "BudgetStore",
    "Claim",
    "ClaimState",
    "Clock",
    "ConfigurationArchive",
    "CredentialCheck",
    "DocumentPage",
    "DocumentParser",
    "DocumentStore",
    "ErasureStore",
    "ExportPage",
    "FeedbackStore",
    "HealthStore",
    "IdempotencyKey",
    "IdempotencyStore",
    "Ids",
    "IngestionQueue",
    "LedgerMaintenance",
    "LimitStore",
    "LoginGuard",
    "ModelProvider",
    "PassageIndex",
    "PersonalStore",
    "Probe",
    "ProviderCall",
    "RandomSource",
    "ReceiptStore",
    "RecordJournal",
    "RecordSpill",
    "RecordStore",
    "Reranker",
    "RetentionStore",
    "RollupStore",
    "SecurityEventStore",
    "SecurityEvents",
    "SessionFamilies",
    "SessionSigner",
    "SigningKeys",
    "Span",
    "Telemetry",
    "ThreatStore",
    "UnembeddedChunk",
    "VectorTable",
    "VectorTables",
]
