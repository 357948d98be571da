"""What watches over the router and its data, in one hand."""

from dataclasses import dataclass

from shared.services.compliance import ComplianceReporter
from shared.services.privacy import PrivacyService
from shared.services.retention import Retention
from shared.services.security_events import SecurityEventLog
from shared.services.threats import ThreatWatch


@dataclass(frozen=True, slots=True)
class Oversight:
    """Attributes: security events, threats, export and erasure, retention, and the report on all of it."""

    events: SecurityEventLog
    threats: ThreatWatch
    privacy: PrivacyService
    retention: Retention
    compliance: ComplianceReporter
