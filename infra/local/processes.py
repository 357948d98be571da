"""A program that the local stack starts, watches and stops."""

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types

from infra.local.environment import REPOSITORY, StackError

STOP_DEADLINE_S = 10.0
_POLL_INTERVAL_S = 0.05
_LAUNCHER = Path(__file__).with_name("launch.py")
# A service that refuses to run as root (PostgreSQL) runs as this account, which every Unix has.
UNPRIVILEGED_USER = "nobody"


def launch_prefix(stop_signal: signal.Signals, *, refuses_root: bool) -> list[str]:
    """The start of a service's command line: it dies with this process, and drops root if it must (see launch.py)."""
    prefix = [
        sys.executable,
        "-I",
        "-S",
        str(_LAUNCHER),
        "--parent",
        str(os.getpid()),
        "--signal",
        str(int(stop_signal)),
    ]
    if refuses_root and os.geteuid() == 0:
        prefix += ["--user", UNPRIVILEGED_USER]
    return [*prefix, "--"]


def wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Polls `condition` until it holds (True) or `deadline_s` seconds have passed (False)."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_INTERVAL_S)
    return True


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process and all its descendants, also those in other process groups (PostgreSQL's are)."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                member.send_signal(number)


class Service(ABC):
    """One program with its own directory and log.

    A subclass says how the program is started and when it is ready. Used by the supervisor, which spawns and polls, and
    by tests, which `start()` and `stop()`. The thread that spawns must live as long as the service: on Linux the
    service ends with it.

    Attributes:
        name: short, for progress lines and the log's file name.
        directory: what the service may write to; it survives `stop()`.
        stop_signal: asks for a clean end.
        refuses_root: the program must not run as root.
        ready_deadline_s: how long a start may take.
    """

    name = "service"
    stop_signal = signal.SIGTERM
    refuses_root = False
    ready_deadline_s = 60.0

    def __init__(self, directory: Path, log_directory: Path) -> None:
        self.directory = directory.resolve()
        self.log_path = log_directory.resolve() / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_is_ours = False

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program and its arguments."""

    def environment(self) -> Mapping[str, str]:
        """Variables added to this process's own."""
        return {}

    @abstractmethod
    def address(self) -> str:
        """Where it listens, for the progress line."""

    def prepare(self) -> None:
        """What must exist before the program starts."""
        self.directory.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers; called until it says True, so it returns within about a second."""

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            StackError: it is not running.
        """
        if self._process is None or not self.is_running:
            raise StackError(f"{self.name} is not running.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the last process ended: negative for a signal, None if it runs or never did."""
        return self._process.poll() if self._process is not None else None

    def spawn(self) -> None:
        """Starts the program without waiting for it to be ready."""
        self.prepare()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        # The first start of a run begins a new log; restarts append, so the reason of a crash stays readable.
        with self.log_path.open("ab" if self._log_is_ours else "wb") as log:
            self._process = subprocess.Popen(
                [*launch_prefix(self.stop_signal, refuses_root=self.refuses_root), *self.command()],
                cwd=REPOSITORY,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends the rest in order
            )
        self._log_is_ours = True

    def start(self) -> None:
        """Starts the program and waits until it is ready.

        Raises:
            StackError: it ended or was not ready in time; the message holds its last log lines.
        """
        self.spawn()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until a spawned program is ready.

        Raises:
            StackError: it ended or was not ready in time; the message holds its last log lines.
        """
        if wait_until(lambda: not self.is_running or self.is_ready(), self.ready_deadline_s) and self.is_running:
            return
        what = f"was not ready in {self.ready_deadline_s:.0f} s" if self.is_running else f"ended with {self.exit_code}"
        self.stop()
        raise StackError(f"{self.name} {what}. The end of {self.log_path}:\n{self.log_tail()}")

    def request_stop(self) -> None:
        """Asks the program to end cleanly, without waiting."""
        if self._process is not None and self.is_running:
            signal_tree(self._process.pid, signal.SIGCONT)
            self._process.send_signal(self.stop_signal)

    def stop(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """Ends the program: cleanly if it manages in `deadline_s` seconds, else by force. Twice does no harm."""
        if self._process is None:
            return
        self.request_stop()
        try:
            self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the program and its descendants at once, as a crash would."""
        if self._process is not None and self.is_running:
            signal_tree(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_DEADLINE_S)

    def freeze(self) -> None:
        """Stops the program and its descendants from doing anything: connections stay open and nobody answers."""
        signal_tree(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen program go on."""
        signal_tree(self.pid, signal.SIGCONT)

    @property
    def is_frozen(self) -> bool:
        """Whether it lives and is stopped by a signal."""
        with suppress(psutil.Error):
            return self.is_running and bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
        return False

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, indented; says so when there are none."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        tail = text.splitlines()[-lines:] or ["(the log is empty)"]
        return "\n".join(f"    {line}" for line in tail)
