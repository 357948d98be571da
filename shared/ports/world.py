"""Time, ids, chance, and whether a dependency answers."""

import random
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time, so that nothing else asks for it."""

    def now(self) -> datetime:
        """The current instant, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for durations and deadlines."""
        ...


class Ids(Protocol):
    """New identifiers."""

    def request_id(self) -> str:
        """A UUIDv7 in its canonical form: unique, and sortable by time of creation."""
        ...


RandomSource = random.Random
"""Seedable; passed into pure code."""


class Probe(Protocol):
    """Asks a dependency whether it answers."""

    @property
    def name(self) -> str:
        """The dependency, as readiness shows it."""
        ...

    @property
    def required(self) -> bool:
        """Whether the router must not take requests without it."""
        ...

    async def check(self) -> None:
        """Return quickly, or raise.

        Raises:
            DependencyUnavailable: it does not answer.
        """
        ...
