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
    either: frozenset[str] = frozenset()
    """Dependencies that stand in for each other: one of them must answer."""

    @property
    def ready(self) -> bool:
        """Whether requests are taken: every required dependency answers, and one of those that replace each other."""
        standing = [d.ok for d in self.dependencies if d.name in self.either]
        return all(d.ok for d in self.dependencies if d.required) and (any(standing) or not standing)

    @property
    def degraded(self) -> bool:
        """Whether something optional is away."""
        return self.ready and not all(d.ok for d in self.dependencies)

    @property
    def state(self) -> str:
        """In a word: `ready`, `degraded` or `not_ready`."""
        return "not_ready" if not self.ready else "degraded" if self.degraded else "ready"


class ReadinessService:
    """Asks the probes.

    Args:
        probes: one per dependency.
        clock: measures how long each took.
        either: names of dependencies that stand in for each other.
    """

    def __init__(self, probes: Sequence[Probe], clock: Clock, either: frozenset[str] = frozenset()) -> None:
        self._probes = tuple(probes)
        self._clock = clock
        self._either = either

    async def check(self) -> Readiness:
        """Ask all dependencies side by side; one that does not answer within 1.5 s is away."""
        answers = await asyncio.gather(*(self._ask(probe) for probe in self._probes))
        return Readiness(tuple(answers), self._either)

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
