"""Oversight in memory: real services, twins of the stores."""

from collections.abc import Callable

from shared.domain.policy import Policy
from shared.ports import Clock, Ids, PersonalStore, Telemetry
from shared.services.audit import AuditTrail
from shared.services.compliance import ComplianceReporter, encryption_facts
from shared.services.oversight import Oversight
from shared.services.personal_stores import AnswersOfPersons, AuditOfPersons, SessionsOfPersons
from shared.services.privacy import PrivacyService
from shared.services.retention import Retention
from shared.services.security_events import SecurityEventLog
from shared.services.threats import ThreatWatch
from shared.stores.audit import MemoryAuditStore
from shared.stores.memory_reuse import MemoryAnswerCache
from shared.stores.memory_security import MemoryErasures, MemoryRetention, MemorySecurityEvents, MemoryThreats
from shared.stores.session_families import MemorySessionFamilies

FACTS = encryption_facts(
    redis_url="redis://r",
    storage="DefaultEndpointsProtocol=https;",
    sealed_cache=False,
    plain_models=False,
    session_keys=None,
)


class OversightWorld:
    """The stores, and `services` over them."""

    def __init__(
        self,
        trail: AuditTrail,
        trails: MemoryAuditStore,
        policy: Callable[[], Policy],
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
        *more: PersonalStore,
    ) -> None:
        self.events = MemorySecurityEvents()
        self.findings = MemoryThreats(self.events)
        self.erasures, self.retention = MemoryErasures(), MemoryRetention()
        self.families, self.answers = MemorySessionFamilies(), MemoryAnswerCache(clock)
        self.stores: tuple[PersonalStore, ...] = (
            *more,
            AuditOfPersons(trails, clock),
            SessionsOfPersons(self.families),
            AnswersOfPersons(self.answers),
        )
        threats = ThreatWatch(self.findings, self.events, policy, clock, telemetry)
        privacy = PrivacyService(self.stores, self.erasures, trail, clock, ids, telemetry)
        retention = Retention(self.retention, trails, policy, clock, telemetry)
        self.services = Oversight(
            SecurityEventLog(self.events, clock, telemetry, linger_s=0.0),
            threats,
            privacy,
            retention,
            ComplianceReporter(self.events, threats, trail, privacy, retention, clock, facts=FACTS),
        )
