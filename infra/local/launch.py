"""Becomes a local service: `python -I -S launch.py --parent PID --signal N [--user NAME] -- command ...`.

A separate program, because the alternative (`preexec_fn`) runs Python between fork and exec in a process full of
threads. It ties the service to the life of the process that started it, drops root where the service refuses root, and
then execs the command, so that the service keeps this process's id. It runs before each service: standard library only.
"""

import argparse
import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def _drop_root(user: str) -> None:
    """Becomes `user`, keeping only the right to reach files below directories closed to others.

    A checkout below a 0700 directory (root's home, a test's temporary directory) stays usable without opening that
    directory to everybody: the capability CAP_DAC_OVERRIDE is made ambient (capabilities(7)), so it survives the exec.
    Where the kernel does not allow that, the service starts without it and reports the directory that it cannot read.
    """
    entry = pwd.getpwnam(user)
    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    linux = sys.platform == "linux"
    if linux:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = "/"
    if linux:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        mask = 1 << _CAP_DAC_OVERRIDE
        # Two rows (capabilities 0-31, 32-63) of: effective, permitted, inheritable.
        libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _end_with_parent(parent_pid: int, signal_number: int) -> None:
    """Asks the kernel for `signal_number` when the parent dies, however it dies.

    After the change of user, which would clear the request (prctl(2)). Off Linux the next start cleans up.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit("the process that asked for this service is gone")


def main(arguments: list[str]) -> None:
    """Replaces this process by the command after `--`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--user")
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args(arguments)
    if chosen.user:
        _drop_root(chosen.user)
    _end_with_parent(chosen.parent, chosen.signal)
    os.execvp(chosen.command[0], chosen.command)  # noqa: S606 - replacing this process is the point


if __name__ == "__main__":
    main(sys.argv[1:])
