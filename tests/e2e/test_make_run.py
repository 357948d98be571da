"""`make run` as a person meets it: what it prints works, and nothing outlives it."""

import json
import os
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pytest

from infra.local.environment import PORT_VARIABLES, REPOSITORY, Ports
from infra.local.processes import wait_until

pytestmark = pytest.mark.stack

DEADLINE_S = 90.0
STACK = [sys.executable, "-m", "infra.local.stack"]


@dataclass
class Run:
    """A supervisor started by a test, with everything it printed."""

    process: subprocess.Popen[bytes]
    output_path: Path
    environment: dict[str, str]

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    def service_pids(self) -> list[int]:
        record = Path(self.environment["ROUTER_LOCAL_DIR"]) / "run" / "services.json"
        return [pid for pid, _started_at in json.loads(record.read_text())]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    ports = {PORT_VARIABLES[name]: str(port) for name, port in asdict(Ports.free()).items()}
    local = str(tmp_path_factory.mktemp("make-run"))
    return {**os.environ, **ports, "ROUTER_LOCAL_DIR": local, "ROUTER_HOST": "builtin"}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Iterator[Run]:
    output_path = tmp_path / "output"
    with output_path.open("wb") as output:
        process = subprocess.Popen(STACK, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
    started = Run(process, output_path, environment)
    try:
        wait_until(lambda: "Try it:" in started.output or process.poll() is not None, DEADLINE_S)
        assert "Ready in " in started.output, started.output
        yield started
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def _has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_what_it_prints_works_and_a_signal_ends_everything(run: Run) -> None:
    curl = shlex.split(run.output.split("Try it:\n")[1].splitlines()[0])
    assert curl[0] == "curl"
    request = urllib.request.Request(  # noqa: S310 - the address our own stack printed
        curl[2], data=curl[curl.index("-d") + 1].encode(), headers=dict([curl[curl.index("-H") + 1].split(": ")])
    )
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:  # noqa: S310 - the same
        assert response.status == 200
        assert json.load(response)["output"]

    checked = subprocess.run([*STACK, "--check"], cwd=REPOSITORY, env=run.environment, timeout=DEADLINE_S, check=False)
    assert checked.returncode == 0
    second = subprocess.run(
        STACK, cwd=REPOSITORY, env=run.environment, timeout=DEADLINE_S, check=False, capture_output=True, text=True
    )
    assert second.returncode == 1
    assert f"A stack is already running here (process {run.process.pid}" in second.stdout

    pids = run.service_pids()
    assert len(pids) == 5
    run.process.terminate()
    assert run.process.wait(DEADLINE_S) == 0
    assert all(_has_ended(pid) for pid in pids)
    assert run.output.endswith("Stopping ...\nStopped.\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children of a dead process")
def test_nothing_outlives_a_killed_supervisor(run: Run) -> None:
    services = [psutil.Process(pid) for pid in run.service_pids()]
    pids = [member.pid for service in services for member in [service, *service.children(recursive=True)]]
    run.process.kill()
    run.process.wait(DEADLINE_S)
    assert wait_until(lambda: all(_has_ended(pid) for pid in pids), DEADLINE_S)


def test_a_port_that_is_taken_is_named_with_its_variable(environment: dict[str, str]) -> None:
    import socket  # noqa: PLC0415 - for this test alone

    with socket.create_server(("127.0.0.1", int(environment["ROUTER_REDIS_PORT"]))):
        refused = subprocess.run(
            STACK, cwd=REPOSITORY, env=environment, timeout=DEADLINE_S, check=False, capture_output=True, text=True
        )
    assert refused.returncode == 1
    assert refused.stdout.startswith(f"Port {environment['ROUTER_REDIS_PORT']} (redis) is taken by ")
    assert "ROUTER_REDIS_PORT=" in refused.stdout
