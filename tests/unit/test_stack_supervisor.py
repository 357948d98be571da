"""The supervisor and the service objects, on small Python programs instead of servers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from infra.local.environment import REPOSITORY, StackError
from infra.local.processes import Service, wait_until
from infra.local.supervisor import Supervisor, end_leftovers

DEADLINE_S = 20.0


class Program(Service):
    """Runs a line of Python; ready once it has created the file `ready`."""

    def __init__(self, directory: Path, name: str = "program", then: str = "import time; time.sleep(600)") -> None:
        self.name = name
        super().__init__(directory / name, directory / "logs")
        self.then = then
        self.ready_path = self.directory / "ready"

    def command(self) -> Sequence[str]:
        return [
            sys.executable,
            "-S",
            "-c",
            f"import pathlib; pathlib.Path({str(self.ready_path)!r}).touch()\n{self.then}",
        ]

    def prepare(self) -> None:
        super().prepare()
        self.ready_path.unlink(missing_ok=True)

    def address(self) -> str:
        return "nowhere"

    def is_ready(self) -> bool:
        return self.ready_path.exists()


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    built: list[Program] = []

    def build(*args: str) -> Program:
        built.append(Program(tmp_path, *args))
        return built[-1]

    yield build
    for program in built:
        program.kill()


IGNORES_TERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path('{}').touch(); time.sleep(600)"
)


def test_start_waits_until_ready_and_stop_ends_it(build: Callable[..., Program]) -> None:
    program = build()
    program.start()
    assert program.ready_path.exists()
    pid = program.pid
    program.stop()
    program.stop()
    assert not psutil.pid_exists(pid)
    assert program.exit_code == -signal.SIGTERM
    with pytest.raises(StackError, match="program is not running"):
        _ = program.pid


def test_a_program_that_ends_instead_of_becoming_ready_tells_why(build: Callable[..., Program]) -> None:
    program = build("failing", "raise SystemExit('the reason')")
    program.is_ready = lambda: False  # type: ignore[method-assign]  # it never answers
    with pytest.raises(StackError, match=r"failing ended with 1(.|\n)*the reason"):
        program.start()


def test_a_program_that_never_becomes_ready_is_ended(build: Callable[..., Program]) -> None:
    program = build()
    program.is_ready = lambda: False  # type: ignore[method-assign]  # it never answers
    program.ready_deadline_s = 0.2
    with pytest.raises(StackError, match="was not ready in 0 s"):
        program.start()
    assert not program.is_running


def test_a_program_that_ignores_the_request_is_killed(build: Callable[..., Program], tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    program = build("stubborn", IGNORES_TERM.format(deaf))
    program.start()
    assert wait_until(deaf.exists, DEADLINE_S)
    program.stop(deadline_s=0.1)
    assert program.exit_code == -signal.SIGKILL


def test_a_frozen_program_stays_and_thaws(build: Callable[..., Program]) -> None:
    program = build()
    program.start()
    program.freeze()
    assert wait_until(lambda: program.is_frozen, DEADLINE_S)
    program.thaw()
    assert wait_until(lambda: not program.is_frozen, DEADLINE_S)
    program.freeze()
    program.stop()
    assert program.exit_code == -signal.SIGTERM


def test_kill_reaches_descendants_in_other_sessions(build: Callable[..., Program], tmp_path: Path) -> None:
    note = tmp_path / "child"
    program = build(
        "parent",
        f"import subprocess; child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); child.wait()",
    )
    program.start()
    assert wait_until(lambda: note.exists() and note.read_text() != "", DEADLINE_S)
    child = int(note.read_text())
    program.kill()
    assert wait_until(lambda: not _lives(child), DEADLINE_S)


def test_a_dead_service_is_reported_with_its_log_and_started_again(
    build: Callable[..., Program], tmp_path: Path
) -> None:
    said: list[str] = []
    supervisor = Supervisor(tmp_path / "services.json", said.append)
    program = build("mortal", "print('last words', flush=True); import time; time.sleep(600)")
    supervisor.start([program])
    assert wait_until(lambda: "last words" in program.log_tail(), DEADLINE_S)
    first = program.pid
    program.kill()
    _tick_until(supervisor, lambda: len(said) >= 3)
    assert said[0].startswith("mortal      ready on nowhere (")
    assert "mortal      ended unexpectedly (signal SIGKILL)" in said[1]
    assert "    last words" in said[1]
    assert said[2].startswith("mortal      ready on nowhere (")
    assert program.pid != first
    supervisor.stop()
    assert not program.is_running


def test_a_service_that_keeps_dying_ends_the_stack(build: Callable[..., Program], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("infra.local.supervisor._FIRST_BACKOFF_S", 0.01)
    said: list[str] = []
    supervisor = Supervisor(tmp_path / "services.json", said.append)
    other, failing = build("other"), build("failing", "raise SystemExit('broken for good')")
    failing.is_ready = lambda: False  # type: ignore[method-assign]  # it never answers
    with pytest.raises(StackError, match=r"exit code 1(.|\n)*broken for good(.|\n)*failed 4 times within a minute"):
        supervisor.start([other, failing])
    assert sum("failing     starts again" in line for line in said) == 3
    supervisor.stop()
    assert not other.is_running


def test_on_ready_is_called_once_for_each(build: Callable[..., Program], tmp_path: Path) -> None:
    ready: list[Service] = []
    supervisor = Supervisor(tmp_path / "services.json", lambda _line: None)
    services = [build("one"), build("two")]
    supervisor.start(services, ready.append)
    supervisor.stop()
    assert sorted(service.name for service in ready) == ["one", "two"]


def test_hurried_stop_does_not_wait(build: Callable[..., Program], tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    said: list[str] = []
    supervisor = Supervisor(tmp_path / "services.json", said.append)
    program = build("stubborn", IGNORES_TERM.format(deaf))
    supervisor.start([program])
    assert wait_until(deaf.exists, DEADLINE_S)
    supervisor.stop(lambda: True)
    assert program.exit_code == -signal.SIGKILL
    assert said[-1] == "stubborn    did not end by itself and was killed"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children of a dead process")
def test_services_end_with_a_killed_starter(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = (
        "import pathlib, subprocess, sys, time; from signal import SIGTERM\n"
        "from infra.local.processes import launch_prefix\n"
        "command = [*launch_prefix(SIGTERM, refuses_root=False), 'sleep', '600']\n"
        f"child = subprocess.Popen(command, start_new_session=True); note = pathlib.Path({str(note)!r})\n"
        "note.write_text(str(child.pid)); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY)
    try:
        assert wait_until(lambda: note.exists() and note.read_text() != "", DEADLINE_S)
        child = int(note.read_text())
        assert wait_until(lambda: psutil.Process(child).name() == "sleep", DEADLINE_S)
    finally:
        starter.kill()
        starter.wait()
    assert wait_until(lambda: not _lives(child), DEADLINE_S)


def test_leftovers_of_a_killed_supervisor_are_ended_and_strangers_are_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("infra.local.supervisor._PATIENCE_S", 0.1)
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        record = tmp_path / "services.json"
        # The second process id was given to another process since: its start time is not the recorded one.
        record.write_text(json.dumps([[left.pid, psutil.Process(left.pid).create_time()], [stranger.pid, 12.5]]))
        said: list[str] = []
        end_leftovers(record, said.append)
        assert left.wait(DEADLINE_S) == -signal.SIGTERM
        assert stranger.poll() is None
        assert len(said) == 1
        assert not record.exists()
        end_leftovers(record, said.append)
        assert len(said) == 1
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()


@pytest.mark.parametrize("text", ["", "{", "null"])
def test_a_damaged_record_is_no_obstacle(tmp_path: Path, text: str) -> None:
    record = tmp_path / "services.json"
    record.write_text(text)
    end_leftovers(record, lambda _line: None)


def test_a_launcher_whose_parent_is_gone_starts_nothing() -> None:
    launched = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            str(REPOSITORY / "infra/local/launch.py"),
            "--parent",
            str(os.getppid()),
            "--",
            "echo",
            "ran",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert "ran" not in launched.stdout
    assert (launched.returncode, "is gone" in launched.stderr) == (1, True)


def _tick_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    def step() -> bool:
        for watched in supervisor._watched:
            supervisor._tick(watched)
        return condition()

    assert wait_until(step, DEADLINE_S)


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
