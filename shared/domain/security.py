"""Security levels and findings: what content is, what a deployment is cleared for, and what is done about content."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class SecurityLevel(IntEnum):
    """Ordered: content of a level may only reach a deployment cleared for that level or above."""

    PUBLIC = 0
    INTERNAL = 1
    CONFIDENTIAL = 2
    RESTRICTED = 3

    @property
    def label(self) -> str:
        """The word used on the wire and in files."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> "SecurityLevel":
        """Read a wire word.

        Raises:
            KeyError: not one of public, internal, confidential, restricted.
        """
        return cls[label.upper()]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something sensitive at `start`..`end` (character offsets) of the text of `location`. Never holds the value.

    A finding of one of `INJECTION_KINDS` is a sign of an attack instead: its level is public, since it says nothing of
    whom the text may reach, and its `confidence` is how strong the sign is.
    """

    kind: str
    level: SecurityLevel
    location: str
    start: int
    end: int
    confidence: float = 1.0


CREDENTIAL_KINDS = frozenset(
    {
        "private_key",
        "jwt",
        "aws_access_key",
        "aws_secret_key",
        "google_api_key",
        "google_oauth_token",
        "azure_connection_string",
        "azure_sas",
        "github_token",
        "gitlab_token",
        "slack_token",
        "api_key",
        "password",
    }
)
"""Whoever holds one can act as somebody else."""
PERSONAL_KINDS = frozenset({"email", "phone", "national_id", "date_of_birth", "address", "health"})
PAYMENT_KINDS = frozenset({"card_number", "iban"})
DECLARED_LABEL = "declared_label"
"""The text says of itself what level it has."""
SENSITIVE_KINDS = CREDENTIAL_KINDS | PERSONAL_KINDS | PAYMENT_KINDS | {DECLARED_LABEL}
"""What detectors find; patterns of a policy add kinds of their own."""

INJECTION_KINDS = frozenset(
    {
        "injection_override",
        "injection_role",
        "injection_exfiltration",
        "injection_encoded",
        "injection_tool",
        "jailbreak",
    }
)
"""Signs that a text wants to take over: instructions to ignore instructions, forged turns, asks for what is hidden,
payloads to be decoded, orders hidden in what a tool answered, personas without rules."""


def injection_score(findings: Iterable[Finding]) -> float:
    """How likely a request is an attack, in [0, 1]: 1 less the chance that every sign is none.

    Of each kind only the strongest sign counts: one that is repeated is still one.
    """
    strongest: dict[str, float] = {}
    for finding in findings:
        if finding.kind in INJECTION_KINDS:
            strongest[finding.kind] = max(finding.confidence, strongest.get(finding.kind, 0.0))
    harmless = 1.0
    for strength in strongest.values():
        harmless *= 1.0 - strength
    return 1.0 - harmless


class ContentAction(StrEnum):
    """What is done with a request that holds something sensitive."""

    ROUTE = "route"
    """Only deployments cleared for it may serve."""
    REDACT = "redact"
    """Placeholders go to the model, and the answer comes back with the values in their places."""
    BLOCK = "block"
    """No model is called."""


class SignalAction(StrEnum):
    """What is done with a request that looks like an attack."""

    OFF = "off"
    FLAG = "flag"
    """It is recorded and counted."""
    BLOCK = "block"
    """No model is called."""


class AnswerAction(StrEnum):
    """What is done with an answer that tells what it should not."""

    OFF = "off"
    FLAG = "flag"
    """It is recorded and counted."""
    REDACT = "redact"
    """It is taken out of the answer, also of streams."""


@dataclass(frozen=True, slots=True)
class CustomPattern:
    """What a platform team looks for beside what is known: `name` is the kind of its findings.

    `pattern` is in RE2's syntax (https://github.com/google/re2/wiki/Syntax), which has no backtracking.
    """

    name: str
    pattern: str
    level: SecurityLevel


@dataclass(frozen=True, slots=True)
class DetectionRules:
    """What is looked for, for all services alike.

    Attributes:
        patterns: of the platform team.
        levels: level by kind, where it is not the usual one; it may be lower.
    """

    patterns: tuple[CustomPattern, ...] = ()
    levels: Mapping[str, SecurityLevel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuardRules:
    """What is done about what was found, for one service.

    Attributes:
        levels: action by level; `ContentAction.ROUTE` where nothing is said.
        kinds: action by kind, in place of the level's.
        injection: what is done about signs of an attack.
        injection_from: score (`injection_score`) from which a request counts as one.
        answer_secrets: what is done about credentials in answers that were not in the request.
        answer_leaks: what is done about answers that repeat the system text.
        media_hosts: hosts that media may be named at (``example.com``, ``*.example.com``): the model's vendor fetches
            from there. None by default; ``gs://`` needs no host, its buckets have access rules of their own.
    """

    levels: Mapping[SecurityLevel, ContentAction] = field(default_factory=dict)
    kinds: Mapping[str, ContentAction] = field(default_factory=dict)
    injection: SignalAction = SignalAction.FLAG
    injection_from: float = 0.7
    answer_secrets: AnswerAction = AnswerAction.FLAG
    answer_leaks: AnswerAction = AnswerAction.OFF
    media_hosts: frozenset[str] = frozenset()

    def allows_host(self, host: str) -> bool:
        """Whether media may be named at a host."""
        host = host.lower()
        parents = (f"*{host[place:]}" for place, char in enumerate(host) if char == ".")
        return host in self.media_hosts or not self.media_hosts.isdisjoint(parents)

    def action(self, finding: Finding) -> ContentAction:
        """What is done about a finding."""
        if finding.kind in INJECTION_KINDS:
            return ContentAction.ROUTE
        chosen = self.kinds.get(finding.kind)
        return chosen or self.levels.get(finding.level, ContentAction.ROUTE)

    @property
    def redacts(self) -> bool:
        """Whether anything is ever taken out of a request."""
        return ContentAction.REDACT in self.levels.values() or ContentAction.REDACT in self.kinds.values()
