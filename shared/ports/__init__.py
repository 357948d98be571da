"""Ports: what services need of the outside world. Adapters live in providers, stores, security and telemetry.

Every port that keeps state has a working twin in `shared.stores.memory`, and one contract suite runs on both.
Every method that leaves the process takes or has a deadline, and says here what it raises.
"""

from shared.ports.alerting import AlertStep, AlertStore
from shared.ports.analytics import AnalyticsStore, FeedbackStore, RollupStore
from shared.ports.content import ContentKeys, ContentStore, Sealer
from shared.ports.exporting import ExportFile, ExportFiles, ExportJobs, ExportQueue, ExportRows, ExportUpload
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
    StorageUpkeep,
)
from shared.ports.models import ModelProvider, ProviderCall
from shared.ports.notifying import ChannelSender, DeliveryStore, Secrets
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
from shared.ports.quality import QualityMean, QualityMeans, QualityStore, SentMessages
from shared.ports.retrieval import (
    BlobStore,
    DocumentPage,
    DocumentParser,
    DocumentStore,
    IngestionQueue,
    PassageIndex,
    UnembeddedChunk,
    VectorTable,
    VectorTables,
)
from shared.ports.reuse import AnswerCache, Claim, ClaimState, IdempotencyKey, IdempotencyStore
from shared.ports.sharing import BudgetLedger, BudgetStore, HealthStore, LimitStore
from shared.ports.telemetry import Span, Telemetry
from shared.ports.world import Clock, Ids, Probe, RandomSource

__all__ = [
    "AlertStep",
    "AlertStore",
    "AnalyticsStore",
    "AnswerCache",
    "AuditStore",
    "Authenticator",
    "BlobStore",
    "BudgetLedger",
    "BudgetStore",
    "ChannelSender",
    "Claim",
    "ClaimState",
    "Clock",
    "ConfigurationArchive",
    "ContentKeys",
    "ContentStore",
    "CredentialCheck",
    "DeliveryStore",
    "DocumentPage",
    "DocumentParser",
    "DocumentStore",
    "ErasureStore",
    "ExportFile",
    "ExportFiles",
    "ExportJobs",
    "ExportPage",
    "ExportQueue",
    "ExportRows",
    "ExportUpload",
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
    "QualityMean",
    "QualityMeans",
    "QualityStore",
    "RandomSource",
    "ReceiptStore",
    "RecordJournal",
    "RecordSpill",
    "RecordStore",
    "RetentionStore",
    "RollupStore",
    "Sealer",
    "Secrets",
    "SecurityEventStore",
    "SecurityEvents",
    "SentMessages",
    "SessionFamilies",
    "SessionSigner",
    "SigningKeys",
    "Span",
    "StorageUpkeep",
    "Telemetry",
    "ThreatStore",
    "UnembeddedChunk",
    "VectorTable",
    "VectorTables",
]
