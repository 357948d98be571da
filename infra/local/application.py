"""The Function App as a service of the local stack, and the migrations it needs first."""

import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.local.environment import HOST, REPOSITORY, StackError
from infra.local.processes import Service
from infra.local.services import http_status

_MIGRATION_DEADLINE_S = 120.0
# For requests under way when the host is asked to end; less than what the supervisor waits before it kills.
_GRACE_S = 8.0
HEALTH_PATH = "/api/v1/health"
READY_PATH = "/api/v1/health/ready"


def migrate(dsn: str) -> None:
    """Brings the database to the newest schema.

    Raises:
        StackError: a migration failed, or did not end in time.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "shared.stores.postgres.migrate"],
            cwd=REPOSITORY,
            env={**os.environ, "POSTGRES_DSN": dsn},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_MIGRATION_DEADLINE_S,
        )
    except subprocess.TimeoutExpired as late:
        raise StackError(f"The migrations did not end in {_MIGRATION_DEADLINE_S:.0f} s.") from late
    if done.returncode != 0:
        raise StackError(f"The migrations failed:\n{done.stdout.strip()}")


def core_tools(environment: Mapping[str, str]) -> str | None:
    """The path of `func` (Azure Functions Core Tools); None without it, or if ROUTER_HOST=builtin declines it."""
    return None if environment.get("ROUTER_HOST") == "builtin" else shutil.which("func")


class FunctionApp(Service):
    """The Function App, under the built-in host or under Azure Functions Core Tools.

    Args:
        directory: the working state of the Function App (its journal).
        log_directory: where its log goes.
        port: on 127.0.0.1.
        settings: `function_app_environment(...)`.
        workers: processes of the built-in host; `func` reads FUNCTIONS_WORKER_PROCESS_COUNT.
        func: the path of `func`; None for the built-in host.
    """

    name = "functions"

    def __init__(
        self,
        directory: Path,
        log_directory: Path,
        port: int,
        settings: Mapping[str, str],
        workers: int = 1,
        func: str | None = None,
    ) -> None:
        super().__init__(directory, log_directory)
        self.port = port
        self.settings = settings
        self.workers = workers
        self.func = func

    @property
    def base_url(self) -> str:
        """Without a path."""
        return f"http://{HOST}:{self.port}"

    def address(self) -> str:
        """Where it listens, and under what."""
        return f"{HOST}:{self.port} ({'func' if self.func else 'built-in host'})"

    def command(self) -> Sequence[str]:
        """The host."""
        if self.func:
            return [self.func, "start", "--port", str(self.port)]
        options = ["--port", str(self.port), "--workers", str(self.workers), "--grace-s", str(_GRACE_S)]
        return [sys.executable, "-m", "infra.local.host", *options]

    def environment(self) -> Mapping[str, str]:
        """The settings, and for `func` the virtual environment, which it looks for on PATH."""
        programs = Path(sys.executable).parent
        path = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
        return {**self.settings, "PATH": path, "VIRTUAL_ENV": str(programs.parent), "PYTHONUNBUFFERED": "1"}

    def is_ready(self) -> bool:
        """Whether it is alive; whether it can serve is `/api/v1/health/ready`'s to say."""
        return http_status(self.port, HEALTH_PATH)[0] == http.client.OK
