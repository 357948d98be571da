"""Retention: what is older than its class is kept leaves, once a night; what would leave is told at any time."""

import logging
from collections.abc import Callable, Sequence

from shared.domain.policy import Policy
from shared.domain.retention import RetentionClass, RetentionDue, RetentionRules
from shared.ports import AuditStore, Clock, RetentionStore, Telemetry


class Retention:
    """Takes away what is due.

    Args:
        store: records and events.
        trails: the audit trail.
        policy: has the rules in force.
        clock: says which month it is.
        telemetry: hears of what left.
    """

    def __init__(
        self,
        store: RetentionStore,
        trails: AuditStore,
        policy: Callable[[], Policy],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._trails = trails
        self._policy = policy
        self._clock = clock
        self._telemetry = telemetry

    @property
    def rules(self) -> RetentionRules:
        """The rules in force."""
        return self._policy().retention

    async def due(self) -> Sequence[RetentionDue]:
        """What would leave now. Changes nothing.

        Raises:
            DependencyUnavailable: a store is away.
        """
        found = list[RetentionDue]()
        for kind in RetentionClass:
            before = self.rules.cutoff(kind, self._clock.now())
            found += await self._store.due(kind, before)
            if kind is RetentionClass.AUDIT and (rows := await self._trails.count_before(before)):
                found.append(RetentionDue(kind, "audit", rows))
        return found

    async def enforce(self) -> Sequence[RetentionDue]:
        """Take away what is due, unless the policy says that nothing leaves by itself; returns what that was.

        Raises:
            DependencyUnavailable: a store is away; what has left stays so.
        """
        if not self.rules.enforced:
            return ()
        gone = list[RetentionDue]()
        for kind in RetentionClass:
            before = self.rules.cutoff(kind, self._clock.now())
            gone += await self._store.drop(kind, before)
            if kind is RetentionClass.AUDIT and (rows := await self._trails.forget_before(before)):
                gone.append(RetentionDue(kind, "audit", rows))
        for part in gone:
            self._telemetry.log(
                logging.INFO, "retention_dropped", retention_class=part.kind.value, what=part.what, rows=part.rows
            )
        return gone
