"""The parent process: one listening socket, N workers, restarts, and an orderly end."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from dataclasses import dataclass

from infra.local.hosting.acceptor import Acceptor
from infra.local.hosting.errors import HostStartError
from infra.local.hosting.plan import Plan, Report

logger = logging.getLogger("host")

_BACKLOG = 2048
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 8.0
_STABLE_AFTER_S = 30.0
_KILL_MARGIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the host listens; port 0 takes a free one."""

    host: str
    port: int

    def bind(self) -> socket.socket:
        """The listening socket.

        Raises:
            HostStartError: the address is taken or is none of this machine's.
        """
        try:
            family = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise HostStartError(
                f"Cannot listen on {self.host}:{self.port}: {error.strerror or error}. Stop what uses the port,"
                " or choose another one with --port."
            ) from error


class Supervisor:
    """Keeps the workers running.

    Args:
        plan: what every worker does.
        address: where they listen.
        workers: how many.
    """

    def __init__(self, plan: Plan, address: Address, workers: int) -> None:
        self._plan = plan
        listening = address.bind()
        self._url = _url(listening)
        self._acceptor = Acceptor(listening)
        self._workers = workers
        self._processes: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._failure: str | None = None
        self._ready = 0

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns the exit code: 1 when the app could not be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_or_kill)
        slots = [asyncio.create_task(self._keep_worker()) for _ in range(self._workers)]
        await self._stopping.wait()
        self._acceptor.close()
        self._signal(signal.SIGTERM)
        _, late = await asyncio.wait(slots, timeout=self._plan.grace_s + _KILL_MARGIN_S)
        if late:
            self._signal(signal.SIGKILL)
        await asyncio.gather(*slots)
        if self._failure is not None:
            print(self._failure, file=sys.stderr, flush=True)
            return 1
        return 0

    def _stop_or_kill(self) -> None:
        """The first signal drains; another one ends the workers at once."""
        if self._stopping.is_set():
            self._signal(signal.SIGKILL)
        self._stopping.set()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep_worker(self) -> None:
        """One worker after the other in one slot."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            started_at_s = time.monotonic()
            code = await self._run_worker()
            if self._stopping.is_set():
                return
            if time.monotonic() - started_at_s > _STABLE_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            print(f"A worker ended with code {code}; starting another in {pause_s:g} s.", file=sys.stderr, flush=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _run_worker(self) -> int:
        """Start a worker, give it connections once it serves, and wait for its end; returns its exit code."""
        control, channel, process = await self._spawn()
        self._processes.add(process)
        reader, writer = await asyncio.open_connection(sock=control)
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(self._plan.to_line())
                line = await reader.readline()
                if self._hear(Report.from_line(line) if line else None):
                    self._acceptor.add(channel)
            return await process.wait()
        finally:
            self._acceptor.remove(channel)
            channel.close()
            writer.close()
            self._processes.discard(process)

    async def _spawn(self) -> tuple[socket.socket, socket.socket, asyncio.subprocess.Process]:
        control, worker_control = socket.socketpair()
        channel, worker_channel = socket.socketpair()
        descriptors = (worker_channel.fileno(), worker_control.fileno())
        with worker_control, worker_channel:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "infra.local.hosting.worker",
                *map(str, descriptors),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        return control, channel, process

    def _hear(self, report: Report | None) -> bool:
        """Take a worker's answer: whether it serves. While the host starts, a failure ends it all."""
        started = self._ready >= self._workers
        if report is None or report.failure:
            if not started and not self._stopping.is_set():
                self._failure = (report and report.failure) or "A worker ended while it started; its output is above."
                self._stopping.set()
            return False
        self._ready += 1
        if self._ready == 1:
            for line in (*report.notices, *(report.functions if self._plan.verbose else ())):
                print(line, flush=True)
        if self._ready == self._workers:
            print(f"Host ready on {self._url} (workers: {self._workers})", flush=True)
        return True


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
