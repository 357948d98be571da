"""What `make` runs before the virtual environment exists."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import bootstrap
from infra.local.bootstrap import Installation, SetupError
from infra.local.environment import Directories


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "LOCAL", tmp_path / "local")
    monkeypatch.setattr(bootstrap, "LOCK_PATH", tmp_path / "local" / "run" / "stack.lock")


def _installation(tmp_path: Path, *lines: str) -> Installation:
    source = tmp_path / "requirements.txt"
    if not source.exists():
        source.write_text("one==1")
    commands = [[sys.executable, "-S", "-c", line] for line in lines]
    return Installation("thing", "a thing", [source], tmp_path / "installed", commands)


def _finish(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "python_installation", lambda: installation)
    bootstrap.setup(python_only=True)


def test_what_is_installed_is_not_installed_again_until_its_sources_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count = tmp_path / "count"
    line = f"open({str(count)!r}, 'a').write('x')"
    _finish(_installation(tmp_path, line, line), monkeypatch)
    assert count.read_text() == "xx"
    assert capsys.readouterr().out.splitlines() == [
        "thing       installing a thing",
        "thing       installed (0 s)",
    ]
    _finish(_installation(tmp_path, line), monkeypatch)
    assert count.read_text() == "xx"
    assert capsys.readouterr().out == ""
    (tmp_path / "requirements.txt").write_text("one==2")
    _finish(_installation(tmp_path, line), monkeypatch)
    assert count.read_text() == "xxx"


def test_a_failed_installation_shows_its_log_and_leaves_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SetupError, match=r"thing could not be installed(.|\n)*no such package"):
        _finish(_installation(tmp_path, "raise SystemExit('no such package')", "print('not reached')"), monkeypatch)
    assert not _installation(tmp_path).is_current
    assert "not reached" not in (tmp_path / "local" / "logs" / "setup-thing.log").read_text()


def test_an_installation_that_began_again_and_failed_does_not_count_as_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _finish(_installation(tmp_path, "pass"), monkeypatch)
    old = (tmp_path / "requirements.txt").read_text()
    (tmp_path / "requirements.txt").write_text("one==2")
    with pytest.raises(SetupError):
        _finish(_installation(tmp_path, "raise SystemExit(1)"), monkeypatch)
    (tmp_path / "requirements.txt").write_text(old)
    assert not _installation(tmp_path).is_current


def test_this_interpreter_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "venv")
    assert not bootstrap.python_installation().is_current


def test_another_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(SetupError, match=r"Python 3\.11 is needed and this is 3\.12\.1"):
        bootstrap.python_installation()


def test_a_stamp_in_a_broken_environment_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    (tmp_path / ".requirements-digest").write_text(bootstrap.python_installation().digest)
    assert not bootstrap.python_installation().is_current


def _program(directory: Path, name: str, says: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)


def test_missing_or_old_node_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(SetupError, match="Node was not found on PATH"):
        bootstrap.azurite_installation()
    _program(programs, "node", "v18.20.1")
    with pytest.raises(SetupError, match="npm was not found on PATH"):
        bootstrap.azurite_installation()
    _program(programs, "npm", "10")
    with pytest.raises(SetupError, match=r"Node 20 or newer is needed and .*/node is v18\.20\.1"):
        bootstrap.azurite_installation()
    _program(programs, "node", "nonsense")
    with pytest.raises(SetupError, match="is nonsense"):
        bootstrap.azurite_installation()
    _program(programs, "node", "v22.0.0")
    assert bootstrap.azurite_installation().name == "azurite"


def test_stop_without_a_running_stack_does_nothing(tmp_path: Path) -> None:
    bootstrap.stop()
    bootstrap.LOCK_PATH.parent.mkdir(parents=True)
    # Left by a killed supervisor: nobody holds the lock, so the id in it is not to be signalled.
    bootstrap.LOCK_PATH.write_text(str(os.getpid()))
    bootstrap.stop()


def test_stop_asks_the_holder_of_the_lock_and_waits_for_its_end() -> None:
    bootstrap.LOCK_PATH.parent.mkdir(parents=True)
    program = (
        "import fcntl, os, sys, time\n"
        f"lock = open({str(bootstrap.LOCK_PATH)!r}, 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX); lock.write(str(os.getpid())); lock.flush(); print('held', flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            bootstrap.stop()
            assert holder.wait(10) == -signal.SIGTERM
        finally:
            holder.kill()


def test_stop_says_when_the_stack_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_STOP_DEADLINE_S", 0.2)
    bootstrap.LOCK_PATH.parent.mkdir(parents=True)
    with bootstrap.LOCK_PATH.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SetupError, match="does not end"):
            bootstrap.stop()


def test_reset_removes_the_state_and_nothing_else(tmp_path: Path) -> None:
    local = tmp_path / "local"
    for name in ("postgres", "run", "mine"):
        (local / name).mkdir(parents=True)
        (local / name / "file").touch()
    bootstrap.reset()
    assert [path.name for path in local.iterdir()] == ["mine"]
    (local / "mine" / "file").unlink()
    (local / "mine").rmdir()
    bootstrap.reset()
    assert not local.exists()


def test_reset_knows_every_directory_of_the_stack() -> None:
    directories = Directories(Path("root"))
    own = {directories.postgres, directories.redis, directories.azurite, directories.journal, directories.logs}
    assert {path.name for path in own} <= set(bootstrap._STATE)
