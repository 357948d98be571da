"""Grave findings of the threat rules become notifications, by the way that alerts take."""

from collections.abc import Sequence

from shared.analytics.alerting_defaults import DEFAULT_CHANNEL
from shared.domain import notifications
from shared.domain.alerts import derived_id
from shared.domain.notifications import Notification, Occasion
from shared.domain.security_events import Severity, ThreatFinding
from shared.ports import AlertStore, Clock
from shared.services.alerting import Channels

_GRAVE = {
    Severity.HIGH: notifications.Severity.WARNING,
    Severity.CRITICAL: notifications.Severity.CRITICAL,
}


class ThreatNotices:
    """Writes a notification for each grave finding, to the channel that built-in alert rules tell.

    Args:
        store: has them delivered.
        channels: where a tenant can be told.
        clock: when this is decided.
    """

    def __init__(self, store: AlertStore, channels: Channels, clock: Clock) -> None:
        self._store = store
        self._channels = channels
        self._clock = clock

    async def tell(self, findings: Sequence[ThreatFinding]) -> None:
        """Write the notifications; telling of the same finding again changes nothing.

        Raises:
            DependencyUnavailable: not written, as far as can be known; telling again is safe.
        """
        grave = [one for one in findings if one.severity in _GRAVE and DEFAULT_CHANNEL in self._channels(one.tenant_id)]
        if grave:
            await self._store.notify([self._notification(one) for one in grave])

    def _notification(self, finding: ThreatFinding) -> Notification:
        # Whom it is about stays where erasures reach it.
        return Notification(
            id=derived_id("threat", finding.id, DEFAULT_CHANNEL),
            tenant_id=finding.tenant_id,
            channel=DEFAULT_CHANNEL,
            occasion=Occasion.FIRING,
            severity=_GRAVE[finding.severity],
            rule_id=f"threat-{finding.rule}",
            rule_name=f"Threat: {finding.rule}",
            incident_id=finding.id,
            summary=f"Threat rule {finding.rule}: {finding.signal.value} is {finding.value:g}, the limit is "
            f"{finding.threshold:g}. Whom it is about is said by GET /admin/security, finding {finding.id}.",
            started_at=finding.first_at,
            created_at=self._clock.now(),
            value=float(finding.value),
            threshold=float(finding.threshold),
        )
