"""Runs `python -m infra.local.host` for tests: a folder with the sample app, a process, and what it printed."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 45.0

Value = TypeVar("Value")


async def eventually(look: Callable[[], Value | None]) -> Value:
    """What `look` returns once it is neither None nor False; fails after the deadline."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        value = look()
        if value is not None and value is not False:
            return value
        assert time.monotonic() < deadline_s, f"{look} did not come true"
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@dataclass
class AppFolder:
    """The sample app in a folder of its own, with log and gates."""

    root: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.root / "gates").mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("sample_app_host.py"), self.root / "function_app.py")
        self.write_host_file({})

    def write_host_file(self, queues: dict[str, Any]) -> None:
        document = {"version": "2.0", "extensions": {"queues": {"maxPollingInterval": "00:00:00.2", **queues}}}
        (self.root / "host.json").write_text(json.dumps(document))

    def open_gate(self, name: str) -> None:
        (self.root / "gates" / name).touch()

    def noted(self, kind: str) -> list[list[Any]]:
        """The log's lines of one kind, without the kind."""
        log = self.root / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line[1:] for line in map(json.loads, lines) if line[0] == kind]

    def environment(self) -> dict[str, str]:
        # Not measured for coverage: nothing of shared/ or functions/ runs there, and what a killed child's measuring
        # prints at its end would stand among the host's own lines.
        dropped = ("AzureWebJobs", "HOST_TEST", "COVERAGE_", "COV_CORE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        paths = {"HOST_TEST_LOG": str(self.root / "log"), "HOST_TEST_GATES": str(self.root / "gates")}
        return {**kept, "HOST_TEST_QUEUE": "unused", **paths, **self.settings}


class HostProcess:
    """One running host."""

    def __init__(self, app: AppFolder, *arguments: str, name: str = "host") -> None:
        self._output_path = app.root / f"{name}.out"
        self._output: IO[bytes] = self._output_path.open("wb")
        command = [sys.executable, "-m", "infra.local.host", "--root", str(app.root), "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=app.environment(), stdout=self._output, stderr=subprocess.STDOUT
        )

    @property
    def output(self) -> str:
        return self._output_path.read_text()

    async def ready(self) -> str:
        """The host's address, once it says that it is ready."""

        def address() -> str | None:
            assert self.process.poll() is None, self.output
            line = next((line for line in self.output.splitlines() if line.startswith("Host ready on ")), None)
            return line and line.split()[3]

        return await eventually(address)

    async def exit_code(self) -> int:
        await eventually(lambda: self.process.poll() is not None)
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()
