"""Security events and sightings on their way to the database: behind the response, in batches, within bounds.

Whoever knocks a million times makes few rows: events that are alike within a moment are counted as one. While the
database is away events wait in memory; what finds no room there is counted (`security_events_dropped`) and lost, and so
is what waits in a process that is killed. They are signs, not facts about money: nothing else holds them up.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from datetime import datetime

from shared.domain.errors import DependencyUnavailable, RouterError
from shared.domain.identity import Principal, RouterRole
from shared.domain.security_events import SecurityEvent, Sighting
from shared.ports import Clock, SecurityEventStore, Telemetry

_LINGER_S = 1.0
_SIGHTINGS_EVERY_S = 60.0
_RETRY_S = 5.0
_MOST_WAITING = 5_000
_BATCH = 500


@dataclass(slots=True)
class _Seen:
    """A sighting as it grows, on every request."""

    roles: frozenset[RouterRole]
    first_at: datetime
    last_at: datetime
    requests: int = 0


class SecurityEventLog:
    """`SecurityEvents`, and where principals are seen.

    Args:
        store: where both go.
        clock: when a principal was seen.
        telemetry: counts events by kind, and what was lost.
        linger_s: how long an event waits for others like it.
    """

    def __init__(
        self, store: SecurityEventStore, clock: Clock, telemetry: Telemetry, *, linger_s: float = _LINGER_S
    ) -> None:
        self.store = store
        self._clock = clock
        self._telemetry = telemetry
        self._linger_s = linger_s
        self._events: dict[tuple[str, ...], SecurityEvent] = {}
        self._seen: dict[tuple[str, str, str, str], _Seen] = {}
        self._sightings_due_s = 0.0
        self._batch: tuple[tuple[SecurityEvent, ...], tuple[Sighting, ...]] | None = None
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note(self, event: SecurityEvent) -> None:
        """Write an event behind the response."""
        self._telemetry.count("security_events", kind=event.kind.value)
        known = self._events.get(event.likeness)
        if known is not None:
            self._events[event.likeness] = replace(known, count=known.count + event.count)
        elif len(self._events) < _MOST_WAITING:
            self._events[event.likeness] = event
            self._start()
            self._wake.set()
        else:
            self._telemetry.count("security_events_dropped", kind=event.kind.value)

    def saw(self, principal: Principal, network: str) -> None:
        """Note that a principal called from a network: next to nothing, on every request."""
        key = (principal.tenant_id, principal.id, principal.service, network)
        known = self._seen.get(key)
        if known is None and len(self._seen) >= _MOST_WAITING:
            self._telemetry.count("sightings_dropped")
            return
        now = self._clock.now()
        if known is None:
            known = self._seen[key] = _Seen(principal.roles, now, now)
            self._start()
            self._wake.set()
        known.last_at = now
        known.requests += 1

    async def aclose(self) -> None:
        """Write what waits, if the database takes it now, then stop."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="security-events")

    async def _run(self) -> None:
        while not self._closing.is_set() or self._has_more():
            await self._company()
            try:
                await self._write()
            except DependencyUnavailable:
                if self._closing.is_set():
                    self._lost("closing")
                    return
                await self._pause(_RETRY_S)
            except RouterError:
                # What the database refuses for good must not hold up what comes after it.
                self._lost("refused")

    def _has_more(self) -> bool:
        return bool(self._batch or self._events or self._seen)

    async def _company(self) -> None:
        """Wait until there is something to write, and then a moment for more of it."""
        while not (self._batch or self._events or self._is_time_for_sightings() or self._closing.is_set()):
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SIGHTINGS_EVERY_S if self._seen else None):
                    await self._wake.wait()
                    continue
            break
        await self._pause(self._linger_s)

    def _is_time_for_sightings(self) -> bool:
        return bool(self._seen) and self._clock.monotonic() >= self._sightings_due_s

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _write(self) -> None:
        """One batch. It is kept as it is until it is written: a new try after a lost answer changes nothing."""
        if self._batch is None:
            taken = list(self._events.items())[:_BATCH]
            for likeness, _ in taken:
                del self._events[likeness]
            seen: tuple[Sighting, ...] = ()
            if self._closing.is_set() or self._is_time_for_sightings():
                seen = tuple(
                    Sighting(*key, tuple(sorted(one.roles)), one.first_at, one.last_at, one.requests)
                    for key, one in self._seen.items()
                )
                self._seen = {}
                self._sightings_due_s = self._clock.monotonic() + _SIGHTINGS_EVERY_S
            self._batch = (tuple(event for _, event in taken), seen)
        await self.store.insert(*self._batch)
        self._batch = None

    def _lost(self, reason: str) -> None:
        events, _ = self._batch or ((), ())
        self._batch = None
        if reason == "closing":
            events += tuple(self._events.values())
        for event in events:
            self._telemetry.count("security_events_dropped", event.count, kind=event.kind.value)
        self._telemetry.log(logging.WARNING, "security_events_lost", reason=reason, count=len(events))
