"""Starts services, watches them, restarts those that die, and ends them all."""

import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types

from infra.local.environment import StackError
from infra.local.processes import STOP_DEADLINE_S, Service, signal_tree, wait_until

_TICK_S = 0.05
_WATCH_TICK_S = 0.25
_FAILURES_ALLOWED = 4
_FAILURE_WINDOW_S = 60.0
_FIRST_BACKOFF_S = 0.5
_PATIENCE_S = 3.0

Say = Callable[[str], None]


@dataclass
class _Watched:
    service: Service
    started_at: float
    is_ready: bool = False
    restart_at: float | None = None
    failed_at: list[float] = field(default_factory=list)


class Supervisor:
    """Keeps services running. One thread does everything, because a service ends with the thread that started it.

    Args:
        record_path: where process ids are noted, so that the next supervisor can end what this one may leave behind.
        say: prints a progress line.
    """

    def __init__(self, record_path: Path, say: Say) -> None:
        self._record_path = record_path
        self._say = say
        self._watched: list[_Watched] = []

    def start(self, services: Sequence[Service], on_ready: Callable[[Service], None] | None = None) -> None:
        """Starts services side by side and returns when all are ready.

        Args:
            services: spawned in this order.
            on_ready: called once per service, as soon as it is ready, while the others go on starting.

        Raises:
            StackError: one of them keeps dying or does not become ready.
        """
        fresh = []
        for service in services:
            watched = _Watched(service, time.monotonic())
            self._watched.append(watched)
            fresh.append(watched)
            service.spawn()
            self._record()
        while not all(watched.is_ready for watched in fresh):
            for watched in self._watched:
                was_ready = watched.is_ready
                self._tick(watched)
                if on_ready and watched.is_ready and not was_ready:
                    on_ready(watched.service)
            time.sleep(_TICK_S)

    def watch(self) -> None:
        """Watches until a signal's exception interrupts it.

        Raises:
            StackError: a service keeps dying.
        """
        while True:
            for watched in self._watched:
                self._tick(watched)
            time.sleep(_WATCH_TICK_S)

    def stop(self, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Ends all services: the last started first and alone, for it uses the others; then the others together.

        Args:
            is_hurried: polled; True ends the waiting for a clean end.
        """
        services = [watched.service for watched in reversed(self._watched)]
        for group in (services[:1], services[1:]):
            for service in group:
                service.request_stop()
            wait_until(lambda group=group: is_hurried() or not any(s.is_running for s in group), STOP_DEADLINE_S)  # type: ignore[misc]  # a default argument binds the loop's value
            for service in group:
                if service.is_running:
                    self._say(f"{service.name:<11} did not end by itself and was killed")
                    service.kill()
        self._watched.clear()
        self._record_path.unlink(missing_ok=True)

    def _tick(self, watched: _Watched) -> None:
        service, now = watched.service, time.monotonic()
        if watched.restart_at is not None:
            if now >= watched.restart_at:
                watched.restart_at, watched.started_at, watched.is_ready = None, now, False
                service.spawn()
                self._record()
        elif not service.is_running:
            self._on_failure(watched, f"ended unexpectedly ({_exit_reason(service.exit_code)})")
        elif not watched.is_ready:
            if service.is_ready():
                watched.is_ready = True
                self._say(
                    f"{service.name:<11} ready on {service.address()} ({time.monotonic() - watched.started_at:.1f} s)"
                )
            elif now - watched.started_at > service.ready_deadline_s:
                service.kill()
                self._on_failure(watched, f"was not ready in {service.ready_deadline_s:.0f} s")

    def _on_failure(self, watched: _Watched, what: str) -> None:
        service, now = watched.service, time.monotonic()
        watched.failed_at = [at for at in watched.failed_at if now - at < _FAILURE_WINDOW_S] + [now]
        report = f"{service.name:<11} {what}; the end of {service.log_path}:\n{service.log_tail()}"
        if len(watched.failed_at) >= _FAILURES_ALLOWED:
            raise StackError(f"{report}\nIt failed {_FAILURES_ALLOWED} times within a minute, so the stack stops.")
        backoff_s = _FIRST_BACKOFF_S * 2 ** (len(watched.failed_at) - 1)
        watched.restart_at = now + backoff_s
        self._say(f"{report}\n{service.name:<11} starts again in {backoff_s:.1f} s")

    def _record(self) -> None:
        running = [watched.service.pid for watched in self._watched if watched.service.is_running]
        self._record_path.parent.mkdir(parents=True, exist_ok=True)
        self._record_path.write_text(json.dumps([_identity(pid) for pid in running]))


def end_leftovers(record_path: Path, say: Say) -> None:
    """Ends what a killed supervisor left running; on Linux the kernel has already asked, and this waits for the end."""
    try:
        recorded = [(int(pid), float(started_at)) for pid, started_at in json.loads(record_path.read_text())]
    except (OSError, ValueError, TypeError):
        return
    pids = [pid for pid, started_at in recorded if _identity(pid) == [pid, started_at] and _is_alive(pid)]
    # A second request to end makes some programs hurry, so first time for the one that the kernel made.
    steps = ((signal.SIGCONT, _PATIENCE_S), (signal.SIGTERM, STOP_DEADLINE_S), (signal.SIGKILL, STOP_DEADLINE_S))
    for number, deadline_s in steps:
        for pid in pids:
            signal_tree(pid, number)
        if wait_until(lambda: not any(_is_alive(pid) for pid in pids), deadline_s):
            break
    record_path.unlink(missing_ok=True)
    if pids:
        say(f"{'stack':<11} ended what an earlier run had left behind")


def _identity(pid: int) -> list[float] | None:
    # A process id alone may have been given to another process since.
    try:
        return [pid, psutil.Process(pid).create_time()]
    except psutil.Error:
        return None


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
