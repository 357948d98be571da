"""Security events, where principals were seen, and the rules by which both become findings. No content.

An event is something that was refused or looked wrong; a sighting is that a principal was there. Neither holds an
address: a network (`shared.domain.audit.network_of`) instead. What a sign-in named is kept as a digest.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from shared.domain.audit import UNKNOWN_NETWORK
from shared.domain.errors import InjectionSuspected, SensitiveContent
from shared.domain.records import RequestRecord

_TARGET_DIGITS = 16
_REFUSED = frozenset({InjectionSuspected.code, SensitiveContent.code})


class SecurityEventKind(StrEnum):
    """What happened."""

    UNAUTHENTICATED = "unauthenticated"
    """No proof of who calls, or one that does not hold."""
    PERMISSION_DENIED = "permission_denied"
    LOGIN_FAILED = "login_failed"
    LOGIN_LOCKED = "login_locked"
    """A sign-in was not even tried: too many had failed."""
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 - a name, no secret
    """A spent refresh token was used: somebody has copied it. Its session was ended."""
    CLEARANCE_BLOCKED = "clearance_blocked"
    """No model may take the request, and what it holds is a reason."""
    CONTENT_BLOCKED = "content_blocked"
    """The policy refuses requests with such content."""
    INJECTION = "injection"
    """The request reads like an attempt to take over the model's instructions."""
    SECRET_IN_ANSWER = "secret_in_answer"  # noqa: S105 - likewise
    """A model answered with a secret that was not in the request."""


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """Something that was refused or looked wrong.

    Attributes:
        actor: the principal's id, or ``anonymous``.
        target: `target_digest` of the account that a sign-in named.
        resource: the route's method and path.
        count: how many events like this one, of one process and within moments, it stands for.
    """

    id: str
    at: datetime
    tenant_id: str
    kind: SecurityEventKind
    actor: str
    service: str
    resource: str
    request_id: str
    network: str = UNKNOWN_NETWORK
    user_agent: str = ""
    code: str = ""
    target: str = ""
    count: int = 1

    @property
    def likeness(self) -> tuple[str, ...]:
        """Events with equal values here are counted as one."""
        return (
            self.tenant_id,
            self.kind,
            self.actor,
            self.service,
            self.resource,
            self.network,
            self.code,
            self.target,
        )


_TAGGED = {
    "router.injection": SecurityEventKind.INJECTION,
    "router.answer_secrets": SecurityEventKind.SECRET_IN_ANSWER,
}
"""Events by the tags that the guard leaves on records (docs/security.md)."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A principal in a network on a day (UTC): what access reviews and the search for shared keys go by."""

    tenant_id: str
    principal_id: str
    service: str
    network: str
    roles: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    requests: int = 1


class Severity(StrEnum):
    """How urgent a finding is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class ThreatSignal(StrEnum):
    """What a rule measures, for whom: of each network or of each principal, in the rule's window."""

    FAILED_LOGINS = "failed_logins"
    """Failed and locked sign-ins of a network."""
    GUESSED_ACCOUNTS = "guessed_accounts"
    """Different accounts that a network failed to sign in to: credential stuffing."""
    UNAUTHENTICATED = "unauthenticated"
    """Calls of a network without proof."""
    DENIED_RESOURCES = "denied_resources"
    """Different endpoints that a principal was denied: privilege probing."""
    CLEARANCE_BLOCKS = "clearance_blocks"
    """Requests of a principal that were refused for what they hold."""
    INJECTIONS = "injections"
    REUSED_TOKENS = "reused_tokens"
    NETWORKS = "networks"
    """Different networks that a principal calls from: a shared or stolen key."""
    OUTPUT_TOKENS = "output_tokens"
    """Tokens that a principal was answered with: volume that looks like exfiltration."""
    ATTACHMENT_BYTES = "attachment_bytes"
    """Bytes of documents and other attachments that a principal sent."""
    REQUESTS = "requests"

    @property
    def is_usage(self) -> bool:
        """Whether it is read from request records, so that it has a baseline."""
        return self in {ThreatSignal.OUTPUT_TOKENS, ThreatSignal.ATTACHMENT_BYTES, ThreatSignal.REQUESTS}


EVENT_KINDS: dict[ThreatSignal, tuple[SecurityEventKind, ...]] = {
    ThreatSignal.FAILED_LOGINS: (SecurityEventKind.LOGIN_FAILED, SecurityEventKind.LOGIN_LOCKED),
    ThreatSignal.GUESSED_ACCOUNTS: (SecurityEventKind.LOGIN_FAILED, SecurityEventKind.LOGIN_LOCKED),
    ThreatSignal.UNAUTHENTICATED: (SecurityEventKind.UNAUTHENTICATED,),
    ThreatSignal.DENIED_RESOURCES: (SecurityEventKind.PERMISSION_DENIED,),
    ThreatSignal.CLEARANCE_BLOCKS: (SecurityEventKind.CLEARANCE_BLOCKED, SecurityEventKind.CONTENT_BLOCKED),
    ThreatSignal.INJECTIONS: (SecurityEventKind.INJECTION,),
    ThreatSignal.REUSED_TOKENS: (SecurityEventKind.REFRESH_TOKEN_REUSED,),
}
"""The events that a signal is read from; the others are read from sightings or from request records."""


@dataclass(frozen=True, slots=True)
class ThreatRule:
    """When a signal becomes a finding.

    Attributes:
        window_s: length of the window that ends now, in seconds; of usage signals in whole hours.
        threshold: least value.
        factor: of usage signals: also at least this many times the principal's own baseline, the mean of its active
            hours in the week before the window. Whoever has no baseline yet is not judged.
    """

    name: str
    signal: ThreatSignal
    window_s: int
    threshold: int
    severity: Severity = Severity.MEDIUM
    factor: float | None = None
    enabled: bool = True


DEFAULT_THREAT_RULES = (
    ThreatRule("credential-stuffing", ThreatSignal.GUESSED_ACCOUNTS, 600, 5, Severity.HIGH),
    ThreatRule("password-guessing", ThreatSignal.FAILED_LOGINS, 600, 20, Severity.MEDIUM),
    ThreatRule("anonymous-probing", ThreatSignal.UNAUTHENTICATED, 600, 200, Severity.LOW),
    ThreatRule("privilege-probing", ThreatSignal.DENIED_RESOURCES, 3_600, 4, Severity.HIGH),
    ThreatRule("clearance-probing", ThreatSignal.CLEARANCE_BLOCKS, 3_600, 20, Severity.MEDIUM),
    ThreatRule("injection-attempts", ThreatSignal.INJECTIONS, 3_600, 10, Severity.MEDIUM),
    ThreatRule("refresh-token-reuse", ThreatSignal.REUSED_TOKENS, 3_600, 1, Severity.HIGH),
    ThreatRule("key-sharing", ThreatSignal.NETWORKS, 86_400, 12, Severity.MEDIUM),
    ThreatRule("exfiltration-tokens", ThreatSignal.OUTPUT_TOKENS, 3_600, 500_000, Severity.HIGH, factor=10.0),
    ThreatRule("exfiltration-documents", ThreatSignal.ATTACHMENT_BYTES, 3_600, 200_000_000, Severity.HIGH, factor=10.0),
    ThreatRule("unusual-volume", ThreatSignal.REQUESTS, 3_600, 2_000, Severity.MEDIUM, factor=10.0),
)
"""What holds where the policy has no ``[[threats]]``. The figures are choices of ours, made before we saw anything."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A signal's value of somebody in a window.

    Attributes:
        subject: the network or the principal.
        last_at: of the newest evidence.
        baseline: of usage signals, what the principal usually has in a window as long; None: not known yet.
    """

    tenant_id: str
    subject: str
    value: int
    last_at: datetime
    baseline: float | None = None


class FindingState(StrEnum):
    """What was done about a finding."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class ThreatFinding:
    """A rule that fired for somebody. It grows while it lasts; one at a time for each rule and subject.

    Attributes:
        value: the highest that was measured.
        changed_by: the principal that acknowledged or resolved it.
    """

    id: str
    tenant_id: str
    rule: str
    signal: ThreatSignal
    severity: Severity
    subject: str
    state: FindingState
    first_at: datetime
    last_at: datetime
    value: int
    threshold: int
    baseline: float | None = None
    changed_by: str | None = None
    changed_at: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events are wanted, newest first; None does not restrict. `before` is exclusive: (instant, id)."""

    tenant_id: str
    since: datetime
    until: datetime
    kind: SecurityEventKind | None = None
    actor: str | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class FindingQuery:
    """Which findings are wanted, those with the newest evidence first; empty `states`: all of them."""

    tenant_id: str
    states: tuple[FindingState, ...] = ()
    severity: Severity | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 100


def fires(rule: ThreatRule, seen: Measurement) -> bool:
    """Whether a measurement becomes a finding."""
    if seen.value < rule.threshold:
        return False
    if rule.factor is None:
        return True
    return seen.baseline is not None and seen.value >= rule.factor * seen.baseline


def moves(state: FindingState, wanted: FindingState) -> bool:
    """Whether a finding may go from one state to another: forwards only, a resolved one stays so."""
    order = list(FindingState)
    return order.index(wanted) > order.index(state)


def events_of(record: RequestRecord) -> tuple[SecurityEvent, ...]:
    """What a record tells of content that went through though it looked wrong; what was refused, the door notes.

    The same record always makes the same events. Where it came from a record does not say.
    """
    tags = dict(record.tags)
    return tuple(
        SecurityEvent(
            id=str(uuid5(UUID(record.id), kind.value)),
            at=record.start_time,
            tenant_id=record.tenant_id,
            kind=kind,
            actor=record.principal_id,
            service=record.service_name,
            resource=record.endpoint,
            request_id=record.id,
            code="flagged",
        )
        for tag, kind in _TAGGED.items()
        if tag in tags and record.error_code not in _REFUSED
    )


def target_digest(account: str) -> str:
    """Enough of a hash to tell accounts apart that sign-ins named."""
    return hashlib.sha256(account.encode(errors="replace")).hexdigest()[:_TARGET_DIGITS]


def window_of(rule: ThreatRule, now: datetime) -> datetime:
    """When a rule's window begins: of usage signals at a full hour."""
    since = now - timedelta(seconds=rule.window_s)
    return since.replace(minute=0, second=0, microsecond=0) if rule.signal.is_usage else since
