"""The part that watches, erases, retains and reports."""

import contextlib

from shared.config import Settings
from shared.container.alerting import build_threat_notices
from shared.ports import (
    BlobStore,
    Clock,
    Ids,
    Telemetry,
)
from shared.services.audit import AuditTrail
from shared.services.compliance import ComplianceReporter, Fact, encryption_facts
from shared.services.content_keeping import ContentKeeper
from shared.services.oversight import Oversight
from shared.services.personal_stores import AnswersOfPersons, AuditOfPersons, SessionsOfPersons
from shared.services.privacy import PrivacyService
from shared.services.retention import Retention
from shared.services.security_events import SecurityEventLog
from shared.services.shelf import Shelf
from shared.services.threats import ThreatWatch
from shared.stores.audit import TableAuditStore
from shared.stores.postgres.encryption import connection_encryption
from shared.stores.postgres.erasures import PostgresErasures
from shared.stores.postgres.feedback import PostgresFeedbackOfPersons
from shared.stores.postgres.personal import PostgresEventsOfPersons, PostgresLedgerOfPersons
from shared.stores.postgres.personal_documents import PostgresDocumentsOfPersons
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.retention import PostgresRetention
from shared.stores.postgres.security_events import PostgresSecurityEvents
from shared.stores.postgres.threats import PostgresThreats
from shared.stores.redis_answers import RedisAnswerCache
from shared.stores.session_families import TableSessionFamilies


def build_event_log(
    pool: PostgresPool, clock: Clock, telemetry: Telemetry, closing: contextlib.AsyncExitStack
) -> SecurityEventLog:
    """Where security events are noted."""
    log = SecurityEventLog(PostgresSecurityEvents(pool), clock, telemetry)
    closing.push_async_callback(log.aclose)
    return log


def build_oversight(
    settings: Settings,
    pool: PostgresPool,
    tables: tuple[TableAuditStore, TableSessionFamilies],
    cache: RedisAnswerCache,
    blobs: BlobStore,
    erasures: PostgresErasures,
    audit: AuditTrail,
    log: SecurityEventLog,
    shelf: Shelf,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
    content: ContentKeeper,
) -> Oversight:
    """What watches, erases, retains and reports."""
    trails, families = tables
    notices = build_threat_notices(pool, shelf, clock)
    threats = ThreatWatch(PostgresThreats(pool), log.store, lambda: shelf.policy, clock, telemetry, notices.tell)
    stores = (
        PostgresLedgerOfPersons(pool, clock),
        PostgresEventsOfPersons(pool),
        AuditOfPersons(trails, clock),
        SessionsOfPersons(families),
        AnswersOfPersons(cache),
        # After the ledger, whose pseudonyms it looks for. What comes later stands later: orders under way count stores.
        PostgresFeedbackOfPersons(pool),
        PostgresDocumentsOfPersons(pool, blobs),
        content,
    )
    privacy = PrivacyService(stores, erasures, audit, clock, ids, telemetry)
    retention = Retention(PostgresRetention(pool), trails, lambda: shelf.policy, clock, telemetry)

    async def database() -> Fact:
        tls = await connection_encryption(pool)
        return Fact("postgresql in transit", tls or "no TLS", "asked now", tls is not None)

    keys = "a file" if settings.signing_keys_file is not None else "Key Vault" if settings.key_vault_url else None
    facts = encryption_facts(
        redis_url=settings.redis_url,
        storage=settings.storage_connection_string or "",
        sealed_cache=settings.cache_key is not None,
        plain_models=settings.vertex_grpc_endpoint is not None,
        session_keys=keys,
    )
    compliance = ComplianceReporter(
        log.store, threats, audit, privacy, retention, clock, facts=facts, asked=(database,)
    )
    return Oversight(log, threats, privacy, retention, compliance)
