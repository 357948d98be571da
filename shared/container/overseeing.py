"""The part that watches, erases, retains and reports."""

from collections.abc import Sequence

from shared.config import Settings
from shared.container.alerting import build_threat_notices
from shared.container.documents import waiting_bytes
from shared.container.ground import Ground
from shared.container.ledger import Ledger
from shared.container.signing_in import Callers
from shared.container.walking import Walk
from shared.ports import PersonalStore
from shared.services.compliance import ComplianceReporter, Fact, encryption_facts
from shared.services.oversight import Oversight
from shared.services.personal_stores import AnswersOfPersons, AuditOfPersons, SessionsOfPersons
from shared.services.privacy import PrivacyService
from shared.services.retention import Retention
from shared.services.shelf import Shelf
from shared.services.threats import ThreatWatch
from shared.stores.postgres.encryption import connection_encryption
from shared.stores.postgres.feedback import PostgresFeedbackOfPersons
from shared.stores.postgres.personal import PostgresEventsOfPersons, PostgresLedgerOfPersons
from shared.stores.postgres.personal_documents import PostgresDocumentsOfPersons
from shared.stores.postgres.retention import PostgresRetention
from shared.stores.postgres.threats import PostgresThreats


def build_oversight(ground: Ground, shelf: Shelf, ledger: Ledger, walk: Walk, callers: Callers) -> Oversight:
    """What watches, erases, retains and reports."""
    pool, clock, ids, telemetry = ground.pool, ground.clock, ground.ids, ground.telemetry
    log, audit = ledger.log, callers.audit
    notices = build_threat_notices(ground, shelf)
    threats = ThreatWatch(PostgresThreats(pool), log.store, lambda: shelf.policy, clock, telemetry, notices.tell)
    privacy = PrivacyService(_of_persons(ground, walk, callers), ledger.erasures, audit, clock, ids, telemetry)
    retention = Retention(PostgresRetention(pool), callers.trails, lambda: shelf.policy, clock, telemetry)

    async def database() -> Fact:
        tls = await connection_encryption(pool)
        return Fact("postgresql in transit", tls or "no TLS", "asked now", tls is not None)

    facts = _encryption_by(ground.settings)
    compliance = ComplianceReporter(
        log.store, threats, audit, privacy, retention, clock, facts=facts, asked=(database,)
    )
    return Oversight(log, threats, privacy, retention, compliance)


def _of_persons(ground: Ground, walk: Walk, callers: Callers) -> Sequence[PersonalStore]:
    """All that holds something of persons."""
    pool, clock = ground.pool, ground.clock
    return (
        PostgresLedgerOfPersons(pool, clock),
        PostgresEventsOfPersons(pool),
        AuditOfPersons(callers.trails, clock),
        SessionsOfPersons(callers.families),
        AnswersOfPersons(walk.cache),
        # After the ledger, whose pseudonyms it looks for. What comes later stands later: orders under way count stores.
        PostgresFeedbackOfPersons(pool),
        PostgresDocumentsOfPersons(pool, waiting_bytes(ground)),
        walk.content,
    )


def _encryption_by(settings: Settings) -> Sequence[Fact]:
    """What the settings say of encryption."""
    keys = "a file" if settings.signing_keys_file is not None else "Key Vault" if settings.key_vault_url else None
    return encryption_facts(
        redis_url=settings.redis_url,
        storage=settings.storage_connection_string or "",
        sealed_cache=settings.cache_key is not None,
        plain_models=settings.vertex_grpc_endpoint is not None,
        session_keys=keys,
    )
