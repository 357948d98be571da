"""The compliance report: what the router can show of itself, and what it cannot know.

Every section stands alone: what cannot be had now is missing by name, never guessed. What only the platform knows
(encryption of disks, who may administer the subscription) is listed as not known here.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from shared.domain.audit import AuditQuery
from shared.domain.errors import DependencyUnavailable
from shared.domain.privacy import ErasureOrder
from shared.domain.retention import RetentionDue, RetentionRules
from shared.domain.security_events import EventQuery, FindingQuery, FindingState, Sighting, ThreatFinding
from shared.ports import Clock, SecurityEventStore
from shared.services.audit import AuditTrail, AuditVerification
from shared.services.privacy import PrivacyService
from shared.services.retention import Retention
from shared.services.threats import ThreatWatch

_MOST_PRINCIPALS = 1_000
_MOST_FINDINGS = 200
_MOST_ERASURES = 200
_T = TypeVar("_T")

NOT_KNOWN_HERE = (
    "encryption at rest of PostgreSQL, Redis, storage and Key Vault: a property of the Azure resources",
    "who may administer the subscription, the Entra application or the databases themselves",
    "principals that have a role in Entra and never called: only those that called are seen",
    "multi-factor authentication and conditional access: Entra decides before a token exists",
    "backups, their place and their retention",
    "what model providers keep of what they were sent: their terms say",
)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about encryption. `known_by` says how it is known: by the settings, the code, or by asking now."""

    topic: str
    statement: str
    known_by: str
    protected: bool | None = None


@dataclass(frozen=True, slots=True)
class ComplianceReport:
    """Attributes: as in the module's text; a section that is None could not be had, and `unavailable` names it."""

    tenant_id: str
    made_at: datetime
    since: datetime
    until: datetime
    facts: Sequence[Fact]
    retention: RetentionRules
    due: Sequence[RetentionDue] | None
    principals: Sequence[Sighting] | None
    event_counts: Mapping[str, int] | None
    finding_counts: Mapping[tuple[str, str], int] | None
    findings: Sequence[ThreatFinding] | None
    audit: AuditVerification | None
    erasures: Sequence[ErasureOrder] | None
    unavailable: tuple[str, ...] = ()
    not_known: tuple[str, ...] = field(default=NOT_KNOWN_HERE)


FactSource = Callable[[], Awaitable[Fact]]


class ComplianceReporter:
    """Makes the report.

    Args:
        events: events and principals.
        threats: findings.
        trail: is verified.
        privacy: erasures.
        retention: rules, and what is due.
        clock: when it was made.
        facts: known by the settings and the code.
        asked: known by asking now.
    """

    def __init__(
        self,
        events: SecurityEventStore,
        threats: ThreatWatch,
        trail: AuditTrail,
        privacy: PrivacyService,
        retention: Retention,
        clock: Clock,
        *,
        facts: Sequence[Fact] = (),
        asked: Sequence[FactSource] = (),
    ) -> None:
        self._events = events
        self._threats = threats
        self._trail = trail
        self._privacy = privacy
        self._retention = retention
        self._clock = clock
        self._facts = tuple(facts)
        self._asked = tuple(asked)

    async def report(self, tenant_id: str, *, since: datetime, until: datetime) -> ComplianceReport:
        """The report of a tenant for a time. Reads the audit trail of that time as a whole."""
        missing: list[str] = []

        async def section(name: str, asked: Awaitable[_T]) -> _T | None:
            try:
                return await asked
            except DependencyUnavailable:
                missing.append(name)
                return None

        of_events = EventQuery(tenant_id, since, until, limit=1)
        lasting = FindingQuery(tenant_id, (FindingState.OPEN, FindingState.ACKNOWLEDGED), limit=_MOST_FINDINGS)
        overview = await section("incidents", self._threats.overview(of_events, lasting))
        asked = [await section("encryption", ask()) for ask in self._asked]
        return ComplianceReport(
            tenant_id=tenant_id,
            made_at=self._clock.now(),
            since=since,
            until=until,
            facts=(*self._facts, *(fact for fact in asked if fact is not None)),
            retention=self._retention.rules,
            due=await section("retention", self._retention.due()),
            principals=await section("access", self._events.sightings(tenant_id, since=since, limit=_MOST_PRINCIPALS)),
            event_counts=None if overview is None else overview.event_counts,
            finding_counts=None if overview is None else overview.finding_counts,
            findings=None if overview is None else overview.findings,
            audit=await section("audit", self._trail.verify(AuditQuery(tenant_id, since, until))),
            erasures=await section("erasures", self._privacy.latest(tenant_id, limit=_MOST_ERASURES)),
            unavailable=tuple(missing),
        )


def encryption_facts(
    *, redis_url: str, storage: str, sealed_cache: bool, plain_models: bool, session_keys: str | None
) -> tuple[Fact, ...]:
    """What settings and code say of encryption.

    Args:
        redis_url: of the state; only its scheme is looked at.
        storage: the storage account's connection string, or empty where an identity is used; likewise.
        sealed_cache: whether kept answers are sealed.
        plain_models: whether models are called without TLS.
        session_keys: where the keys of session tokens are; None: there are no sessions.
    """
    redis_tls, storage_tls = redis_url.startswith("rediss://"), "protocol=http;" not in storage.lower()
    return (
        Fact("redis in transit", "TLS" if redis_tls else "no TLS", "settings", redis_tls),
        Fact("storage in transit", "TLS" if storage_tls else "no TLS", "settings", storage_tls),
        Fact("models in transit", "no TLS" if plain_models else "TLS", "settings", not plain_models),
        Fact(
            "kept answers",
            "sealed with AES-GCM" if sealed_cache else "as they are; no key is set",
            "settings",
            sealed_cache,
        ),
        Fact("results under idempotency keys", "sealed with a key made of the caller's key and body", "code", True),  # noqa: FBT003 - the field's name says it
        Fact("refresh tokens", "only hashes are kept", "code", True),  # noqa: FBT003 - likewise
        Fact(
            "session tokens",
            "none are given" if session_keys is None else f"signed with ES256, keys in {session_keys}",
            "settings",
            None if session_keys is None else session_keys == "Key Vault",
        ),
        Fact(
            "prompts and answers", "neither stored nor logged, but for kept answers of services that ask for it", "code"
        ),
    )
