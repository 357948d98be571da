"""Whether the router can do its work: every dependency asked, at once, within a bound."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from shared.domain.errors import DependencyUnavailable
from shared.ports import Clock, Probe

_LIMIT_S = 1.5


@dataclass(frozen=True, slots=True)
class DependencyStatus:
    """What one dependency answered."""

    name: str
    ok: bool
    required: bool
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answers of all dependencies."""

    dependencies: tuple[DependencyStatus, ...]

    @property
    def ready(self) -> bool:
        """Whether requests are taken: every required dependency answers."""
        return all(d.ok for d in self.dependencies if d.required)

    @property
    def degraded(self) -> bool:
        """Whether something optional is away."""
        return self.ready and not all(d.ok for d in self.dependencies)


class ReadinessService:
    """Asks the probes.

    Args:
        probes: one per dependency.
        clock: measures how long each took.
    """

    def __init__(self, probes: Sequence[Probe], clock: Clock) -> None:
        self._probes = tuple(probes)
        self._clock = clock

    async def check(self) -> Readiness:
        """Ask all dependencies side by side; one that does not answer within 1.5 s is away."""
        return Readiness(tuple(await asyncio.gather(*(self._ask(probe) for probe in self._probes))))

    async def _ask(self, probe: Probe) -> DependencyStatus:
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(_LIMIT_S):
                await probe.check()
            ok = True
        except (DependencyUnavailable, TimeoutError):
            ok = False
        latency_ms = 1000.0 * (self._clock.monotonic() - started)
        return DependencyStatus(probe.name, ok, probe.required, latency_ms)
