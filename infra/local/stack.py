"""`python -m infra.local.stack`: the whole router on this machine. `--check` waits until a running one can serve.

Needs the virtual environment and Azurite, which `make run` installs first. Ports are moved by the variables in
`environment.PORT_VARIABLES`, ROUTER_WORKERS sets the Function App's processes, ROUTER_HOST=builtin prefers the built-in
host where `func` is installed, and ROUTER_LOCAL_DIR moves the state.
"""

import argparse
import fcntl
import http.client
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import psutil  # type: ignore[import-untyped]  # ships no types

from infra.local.application import READY_PATH, FunctionApp, core_tools, migrate
from infra.local.environment import (
    HOST,
    PORT_VARIABLES,
    REPOSITORY,
    Directories,
    Ports,
    StackError,
    function_app_environment,
    is_port_free,
)
from infra.local.processes import Service, wait_until
from infra.local.services import Postgres, backing_services, http_status
from infra.local.supervisor import Supervisor, end_leftovers

_READY_DEADLINE_S = 60.0
_MAX_WORKERS = 64
_QUESTION = '{"messages":[{"role":"user","content":"Explain why the sky is blue in one sentence."}]}'


class _StopRequested(BaseException):
    """A signal asked the stack to end. Not an Exception, so that nothing on the way swallows it."""


def say(line: str) -> None:
    """Prints a line at once, also into a pipe."""
    print(line, flush=True)


@contextmanager
def _only_one(lock_path: Path) -> Iterator[None]:
    # flock, not a pid file: the kernel releases it however the holder dies.
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StackError(
                f"A stack is already running here (process {holder}, {lock_path}). Stop it with Ctrl-C there or "
                "`make stop`, or run a second one beside it with ROUTER_LOCAL_DIR and the ROUTER_*PORT variables."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def _port_owner(port: int) -> str:
    # Another user's process is visible to root only; the sentence then goes without it.
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def refuse_taken_ports(ports: Ports) -> None:
    """Checks that every port is free.

    Raises:
        StackError: one is not; the message names the port, its owner where that can be known, and its variable.
    """
    lines = [
        f"Port {port} ({name.replace('_', ' ')}) is taken{_port_owner(port)}. "
        f"Stop that, or choose another: {PORT_VARIABLES[name]}={port + 100 if port < 65000 else port - 100} make run"  # noqa: PLR2004 - stays in TCP's range
        for name, port in asdict(ports).items()
        if not is_port_free(port)
    ]
    if lines:
        raise StackError("\n".join(lines))


def workers_from_environment(environment: Mapping[str, str]) -> int:
    """ROUTER_WORKERS, 1 by default.

    Raises:
        StackError: it is not a number from 1 to 64.
    """
    text = environment.get("ROUTER_WORKERS") or "1"
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MAX_WORKERS:
        raise StackError(f"ROUTER_WORKERS is {text!r}: it must be a number from 1 to {_MAX_WORKERS}.")
    return int(text)


def _migrate_once_ready(service: Service) -> None:
    if isinstance(service, Postgres):
        started_at = time.monotonic()
        migrate(service.dsn)
        say(f"{'migrations':<11} applied ({time.monotonic() - started_at:.1f} s)")


def wait_serving(port: int, deadline_s: float) -> tuple[bool, str]:
    """Waits until the Function App's readiness page says yes: whether it did in time, and what it said last."""
    answer = (0, "")

    def is_serving() -> bool:
        nonlocal answer
        answer = http_status(port, READY_PATH, timeout_s=5)
        return answer[0] == http.client.OK

    is_ready = wait_until(is_serving, deadline_s)
    return is_ready, f"http://{HOST}:{port}{READY_PATH} says {answer[0] or 'nothing'}: {answer[1][:1000]}"


def _closing_lines(app: FunctionApp, directories: Directories, started_at: float) -> str:
    api = f"{app.base_url}/api/v1"
    is_ready, answer = wait_serving(app.port, _READY_DEADLINE_S)
    first = f"Ready in {time.monotonic() - started_at:.1f} s: {api}" if is_ready else answer
    return (
        f"{first}\n"
        f"Ctrl-C stops everything. State stays in {_short(directories.root)} until `make reset`; "
        f"logs are in {_short(directories.logs)} (`make logs`). Try it:\n"
        f"  curl -s {api}/route -H 'content-type: application/json' -d '{_QUESTION}'"
    )


def _short(path: Path) -> str:
    return str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)


class _Signals:
    """The first signal interrupts the work by an exception; one that comes while the stack stops makes it hurry."""

    def __init__(self) -> None:
        self.is_stopping = False
        self.is_hurried = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_stopping:
            self.is_hurried = True
            return
        self.is_stopping = True
        raise _StopRequested


def _serve(ports: Ports, workers: int, directories: Directories, signals: _Signals) -> None:
    started_at = time.monotonic()
    record_path = directories.root / "run" / "services.json"
    end_leftovers(record_path, say)
    refuse_taken_ports(ports)
    supervisor = Supervisor(record_path, say)
    try:
        supervisor.start(backing_services(ports, directories), _migrate_once_ready)
        settings = function_app_environment(ports, directories, workers=workers)
        func = core_tools(os.environ)
        app = FunctionApp(directories.journal, directories.logs, ports.function_app, settings, workers, func)
        supervisor.start([app])
        say(_closing_lines(app, directories, started_at))
        supervisor.watch()
    finally:
        signals.is_stopping = True
        say("Stopping ...")
        supervisor.stop(lambda: signals.is_hurried)


def run(environment: Mapping[str, str]) -> int:
    """Runs the stack until a signal ends it: 0 then, 1 if it could not start or go on."""
    signals = _Signals()
    directories = Directories((REPOSITORY / (environment.get("ROUTER_LOCAL_DIR") or ".local")).resolve())
    try:
        ports, workers = Ports.from_environment(environment), workers_from_environment(environment)
        with _only_one(directories.root / "run" / "stack.lock"):
            _serve(ports, workers, directories, signals)
    except _StopRequested:
        say("Stopped.")
    except StackError as failure:
        say(str(failure))
        return 1
    return 0


def check(environment: Mapping[str, str], deadline_s: float) -> int:
    """Waits until a running stack can serve: 0 then, 1 if it cannot in time. Prints what its readiness page says."""
    try:
        is_ready, answer = wait_serving(Ports.from_environment(environment).function_app, deadline_s)
    except StackError as failure:
        is_ready, answer = False, str(failure)
    say(answer)
    return 0 if is_ready else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.stack", description="The whole router on this machine."
    )
    parser.add_argument("--check", action="store_true", help="wait until a running stack can serve, and say so")
    parser.add_argument("--timeout", type=float, default=_READY_DEADLINE_S, help="seconds that --check waits")
    chosen = parser.parse_args()
    return check(os.environ, chosen.timeout) if chosen.check else run(os.environ)


if __name__ == "__main__":
    sys.exit(main())
