"""Prepares a checkout: the virtual environment and Azurite. Runs before either exists, so: standard library only.

    python3.11 infra/local/bootstrap.py setup [--python-only]    install what changed since the last time
    python3.11 infra/local/bootstrap.py stop                     end the stack that runs from this checkout
    python3.11 infra/local/bootstrap.py reset                    end it and remove its state

What was installed is stamped with a digest of the files that ask for it; with the stamps right, `setup` takes no time.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / ".venv"
LOCAL = REPOSITORY / (os.environ.get("ROUTER_LOCAL_DIR") or ".local")
LOCK_PATH = LOCAL / "run" / "stack.lock"
_NODE_PROJECT = REPOSITORY / "infra" / "local"
# What the stack (environment.Directories), this file and `make lock` keep below LOCAL.
_STATE = ("azurite", "journal", "lock", "logs", "postgres", "redis", "run", "simulator")
_OLDEST_NODE = 20
_STOP_DEADLINE_S = 40.0
_PROGRESS_INTERVAL_S = 20.0
_CANCEL_DEADLINE_S = 2.0


class SetupError(Exception):
    """The checkout cannot be prepared; the message is a sentence for the person at the terminal."""


def digest(paths: list[Path]) -> str:
    """One digest of the contents of several files."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


class Installation:
    """Something to install by a sequence of commands, unless its stamp says that it is there.

    Args:
        name: for progress lines and the log.
        what: what it brings, in words.
        sources: the files whose change makes it install again.
        stamp: where the digest of the sources is kept once it is complete; inside what is installed, to vanish with it.
        commands: run one after the other.
    """

    def __init__(self, name: str, what: str, sources: list[Path], stamp: Path, commands: list[list[str]]) -> None:
        self.name, self.what, self.stamp = name, what, stamp
        self.digest = digest(sources)
        self.log_path = LOCAL / "logs" / f"setup-{name}.log"
        self._commands = commands
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = time.monotonic()

    @property
    def is_current(self) -> bool:
        """Whether exactly this is installed."""
        return self.stamp.exists() and self.stamp.read_text() == self.digest

    def begin(self) -> None:
        """Starts the first command."""
        print(f"{self.name:<11} installing {self.what}", flush=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.write_bytes(b"")
        self.stamp.unlink(missing_ok=True)
        self._next()

    def _next(self) -> None:
        environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_REQUIRE_VIRTUALENV": "0"}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._commands.pop(0),
                cwd=_NODE_PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def is_done(self) -> bool:
        """Whether the last command has ended; starts the next one when one has.

        Raises:
            SetupError: a command failed.
        """
        if self._process is None or self._process.poll() is None:
            return False
        if self._process.returncode != 0:
            tail = "\n".join(f"    {line}" for line in self.log_path.read_text(errors="replace").splitlines()[-15:])
            raise SetupError(f"{self.name} could not be installed. The end of {self.log_path}:\n{tail}")
        if self._commands:
            self._next()
            return False
        self.stamp.write_text(self.digest)
        print(f"{self.name:<11} installed ({time.monotonic() - self._started_at:.0f} s)", flush=True)
        return True

    def cancel(self) -> None:
        """Ends a command that still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_CANCEL_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()  # npm goes on until it is done; the next `npm ci` removes what is half made
                self._process.wait()


def python_installation() -> Installation:
    """The virtual environment with everything that the requirements files pin by hash.

    Raises:
        SetupError: this interpreter is not Python 3.11, or has no venv module.
    """
    if sys.version_info[:2] != (3, 11):
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"Python 3.11 is needed and this is {found}. Install python3.11, or run `make PYTHON=... run`."
        )
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian ships it apart from Python; without it a venv has no pip
        import venv  # noqa: F401, PLC0415 - the same
    except ImportError:
        raise SetupError(
            "This Python has no venv module. On Debian or Ubuntu: apt-get install python3.11-venv"
        ) from None
    requirements = [REPOSITORY / "requirements.txt", REPOSITORY / "requirements-dev.txt"]
    python = VENV / "bin" / "python"
    files = [part for path in requirements for part in ("-r", str(path))]
    install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
    # Apart from the others, whose requirements pip shall go on checking; the file says why it needs the two flags.
    runtime = REPOSITORY / "requirements-runtime.txt"
    commands = [
        [*install, *files],
        [*install, "--no-deps", "--ignore-requires-python", "-r", str(runtime)],
    ]
    stamp = VENV / ".requirements-digest"
    if not (python.exists() and (VENV / "lib" / "python3.11").is_dir()):
        stamp.unlink(missing_ok=True)  # the interpreter below it is gone or was another version
        commands.insert(0, [sys.executable, "-m", "venv", "--clear", str(VENV)])
    what = "Python packages into .venv (about a minute the first time)"
    return Installation("python", what, [*requirements, runtime], stamp, commands)


def azurite_installation() -> Installation:
    """Azurite with what its lock file pins.

    Raises:
        SetupError: Node is missing or too old, or npm is missing.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing = "Node" if node is None else "npm"
        raise SetupError(
            f"{missing} was not found on PATH. Install Node {_OLDEST_NODE} (https://nodejs.org), which has both."
        )
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = version.removeprefix("v").split(".")[0]
    if not major.isdigit() or int(major) < _OLDEST_NODE:
        raise SetupError(f"Node {_OLDEST_NODE} or newer is needed and {node} is {version or 'broken'}.")
    sources = [_NODE_PROJECT / "package.json", _NODE_PROJECT / "package-lock.json"]
    flags = ["--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts", "--loglevel=error"]
    stamp = _NODE_PROJECT / "node_modules" / ".installed-digest"
    return Installation("azurite", "Azurite into infra/local/node_modules", sources, stamp, [[npm, "ci", *flags]])


def setup(*, python_only: bool) -> None:
    """Installs what is missing or has changed, side by side.

    Raises:
        SetupError: something is missing on this machine, or could not be installed.
    """
    wanted = [python_installation()] if python_only else [python_installation(), azurite_installation()]
    pending = [installation for installation in wanted if not installation.is_current]
    for installation in pending:
        installation.begin()
    spoke_at = time.monotonic()
    try:
        while pending:
            pending = [installation for installation in pending if not installation.is_done()]
            if pending and time.monotonic() - spoke_at > _PROGRESS_INTERVAL_S:
                spoke_at = time.monotonic()
                print(f"{'...':<11} still installing: {', '.join(part.name for part in pending)}", flush=True)
            time.sleep(0.1)
    finally:
        for installation in pending:
            installation.cancel()


def stop() -> None:
    """Ends the stack that runs from this checkout, if one does, and waits for its end.

    Raises:
        SetupError: it does not end.
    """
    with suppress(FileNotFoundError), LOCK_PATH.open("r+") as lock:
        end = time.monotonic() + _STOP_DEADLINE_S
        asked = False
        while time.monotonic() < end:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                holder = lock.read().strip()
                if not asked and holder.isdigit():
                    with suppress(ProcessLookupError):
                        os.kill(int(holder), signal.SIGTERM)
                    asked = True
                time.sleep(0.1)
            else:
                return
        raise SetupError("The running stack does not end. Stop it where it was started, then try again.")


def reset() -> None:
    """Ends the stack and removes its state, and nothing else that somebody may keep in the same directory.

    Raises:
        SetupError: the stack does not end, or the state belongs to another user.
    """
    stop()
    for name in _STATE:
        try:
            shutil.rmtree(LOCAL / name)
        except FileNotFoundError:
            continue
        except PermissionError as refused:
            raise SetupError(f"{refused.filename} belongs to another user. Run `sudo make reset`.") from refused
    with suppress(OSError):
        LOCAL.rmdir()
    print(f"The local state in {LOCAL} is removed.")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Prepares this checkout.")
    parser.add_argument("action", choices=["setup", "stop", "reset"])
    parser.add_argument("--python-only", action="store_true", help="without Azurite, for the linters")
    chosen = parser.parse_args()
    try:
        if chosen.action == "stop":
            stop()
        elif chosen.action == "reset":
            reset()
        else:
            setup(python_only=chosen.python_only)
    except SetupError as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
