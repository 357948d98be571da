"""The rollups' timer: minutes from the ledger, hours from minutes, days from hours, as far as one run may go."""

import logging
from collections.abc import Awaitable, Callable

from shared.domain.analytics import Granularity
from shared.domain.models import Registry
from shared.ports import Clock, RollupStore, Telemetry

_BUDGET_S = 40.0
"""Of a run that comes every minute. After an outage several runs catch up, the oldest buckets first."""
_SHARES = (0.6, 0.85, 1.0)
"""Of the budget, after which minutes, hours and days give way to the next, so that none starves."""


class Rollups:
    """Brings rollups up to date.

    Args:
        store: computes them; lets one process at a time.
        registry: has the price tiers that tokens are kept apart by.
        clock: says when a run has had its time.
        telemetry: hears how much was computed.
    """

    def __init__(
        self, store: RollupStore, registry: Callable[[], Registry], clock: Clock, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._telemetry = telemetry

    async def run(self) -> int:
        """Compute what is out of date; returns how many steps that took. What is left over is the next run's.

        Raises:
            DependencyUnavailable: the store is away; what was computed stays so.
        """
        began_s, now = self._clock.monotonic(), self._clock.now()
        await self._store.join_feedback(now)
        tiers = prompt_tiers(self._registry())
        phases: tuple[Callable[[], Awaitable[bool]], ...] = (
            lambda: self._store.fold(now, tiers=tiers),
            lambda: self._store.merge(Granularity.HOUR),
            lambda: self._store.merge(Granularity.DAY),
        )
        steps = 0
        for phase, share in zip(phases, _SHARES, strict=True):
            while await phase():
                steps += 1
                if self._clock.monotonic() - began_s > share * _BUDGET_S:
                    self._telemetry.log(logging.WARNING, "rollups_behind", steps=steps)
                    break
        await self._store.purge_minutes(now)
        self._telemetry.count("rollup_steps", steps)
        return steps


def prompt_tiers(registry: Registry) -> tuple[int, ...]:
    """The prompt lengths, in tokens, above which some model has other prices."""
    found = {
        tier.above_prompt_tokens
        for profile in registry.models.values()
        for period in profile.prices
        for tier in period.tiers
    }
    return tuple(sorted(found - {0}))
