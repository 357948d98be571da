"""Timer triggers with the semantics of the Azure WebJobs timer extension.

One lock per timer lets exactly one of any number of hosts fire it. Its status blob outlives restarts: when the
recorded next occurrence has passed while no host ran, the timer fires once at start with `past_due`. Occurrences
missed while a long run goes on collapse into one. Times are UTC.

Source: https://github.com/Azure/azure-webjobs-sdk-extensions (TimerListener, ScheduleMonitor)
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from azure.core.exceptions import AzureError
from azure.functions.timer import TimerRequest

from infra.local.hosting.cron import due_within_a_minute_twice
from infra.local.hosting.indexing import TimerFunction
from infra.local.hosting.storage import NEVER, ScheduleStatus, TimerLock, TimerStore

logger = logging.getLogger("host.timers")

_LONGEST_SLEEP_S = 30.0
"""The wall clock is looked at this often at least: it may be set, or the machine may have slept."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.fromtimestamp(time.time(), UTC)


class TimerListener:
    """Fires one function on its schedule while this process holds the timer's lock.

    Args:
        function: what to run.
        store: locks and status.
        lock_s: length of the lock's lease, 15 to 60 seconds; another host takes over within twice that time.
        function_timeout_s: longest run; None for no limit.
        now: the wall clock, aware.
    """

    def __init__(
        self,
        function: TimerFunction,
        store: TimerStore,
        *,
        lock_s: int,
        function_timeout_s: float | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._function = function
        self._store = store
        self._lock_s = lock_s
        self._function_timeout_s = function_timeout_s
        self._now = now
        self._invocation: asyncio.Task[None] | None = None
        self._stopping = False
        self._wake = asyncio.Event()
        monitored = function.use_monitor is not False
        self._monitored = monitored and not due_within_a_minute_twice(function.schedule, now())

    async def run(self) -> None:
        """Wait for the lock, fire while it is held, and wait again when it is lost; until `stop`."""
        while not self._stopping:
            try:
                await self._store.prepare()
                lock = await self._store.lock(self._function.name, self._lock_s, self._wake.set)
                if lock is not None:
                    try:
                        await self._fire_while_held(lock)
                    finally:
                        await lock.close()
            except AzureError as error:
                logger.warning("Timer %s has no storage: %s", self._function.name, type(error).__name__)
            await self._sleep(self._lock_s)

    async def stop(self, grace_s: float) -> None:
        """Fire no more; a run under way may end within the grace period, then it is cancelled."""
        self._stopping = True
        self._wake.set()
        if self._invocation is not None and not self._invocation.done():
            await asyncio.wait({self._invocation}, timeout=grace_s)
            self._invocation.cancel()

    async def _fire_while_held(self, lock: TimerLock) -> None:
        status, past_due = await self._begin()
        at_once = past_due or self._function.run_on_startup
        while at_once or await self._wait_until(status.next, lock):
            started_at = self._now()
            self._invocation = asyncio.create_task(self._invoke(status, past_due=past_due))
            await asyncio.wait({self._invocation})
            at_once = past_due = False
            status = ScheduleStatus(started_at, self._function.schedule.next_after(started_at), started_at)
            if self._monitored and lock.held:
                await self._store.write_status(self._function.name, status)

    async def _wait_until(self, instant: datetime, lock: TimerLock) -> bool:
        """Sleep until an instant of the wall clock; returns whether this process may still fire then."""
        while lock.held and not self._stopping:
            left_s = (instant - self._now()).total_seconds()
            if left_s <= 0:
                return True
            await self._sleep(min(left_s, _LONGEST_SLEEP_S))
        return False

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but wake when the lock is lost or the host stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        if not self._stopping:
            self._wake.clear()

    async def _begin(self) -> tuple[ScheduleStatus, bool]:
        """The status to start from, and whether an occurrence was missed."""
        now, next_after = self._now(), self._function.schedule.next_after
        fresh = ScheduleStatus(NEVER, next_after(now), now)
        if not self._monitored:
            return fresh, False
        status = await self._store.read_status(self._function.name)
        if status is None:
            await self._store.write_status(self._function.name, fresh)
            return fresh, False
        computed_from = next((instant for instant in (status.last, status.last_updated) if instant.year > 1), now)
        expected = next_after(computed_from)
        if status.next != expected:
            # The schedule was changed: what the old one missed is not made up for.
            if now > expected:
                expected, computed_from = next_after(now), now
            status = replace(status, last=NEVER, next=expected, last_updated=computed_from)
            await self._store.write_status(self._function.name, status)
        return status, now > status.next

    async def _invoke(self, status: ScheduleStatus, *, past_due: bool) -> None:
        """Run the function, with its retry policy; a failure is logged and ends here."""
        request = TimerRequest(
            past_due=past_due,
            schedule_status=status.to_json() if self._monitored else None,
            schedule={"AdjustForDST": True},
        )
        policy, attempt = self._function.retry, 0
        while True:
            try:
                async with asyncio.timeout(self._function_timeout_s):
                    await self._function.invoke(request)
                return
            except Exception:
                logger.exception("Function %s failed", self._function.name)
            if policy.retries >= 0 and attempt >= policy.retries:
                return
            await asyncio.sleep(policy.pause_s(attempt))
            attempt += 1
