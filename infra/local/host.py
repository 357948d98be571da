"""Run the Function App locally: `python -m infra.local.host`.

The entry point of a small host with the semantics of the Azure Functions host; `infra/local/hosting` holds it, and
docs/decisions/0002-local-host.md says why it is there.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.local.hosting.errors import HostStartError
from infra.local.hosting.plan import Plan
from infra.local.hosting.settings import read_host_file, read_local_settings
from infra.local.hosting.supervisor import Address, Supervisor

_MOST_WORKERS = 64
_HIGHEST_PORT = 65535
_LONGEST_S = 3600


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the host until it is told to stop.

    Returns:
        The exit code: 0 after an orderly end, 1 when it could not start.
    """
    options = _parser().parse_args(arguments)
    plan = Plan(
        root=str(Path(options.root).resolve()),
        app=options.app,
        storage=options.storage or "",
        function_key=options.function_key,
        master_key=options.master_key,
        response_timeout_s=options.response_timeout_s,
        grace_s=options.grace_s,
        access_log=options.access_log,
        verbose=options.verbose,
    )
    try:
        return asyncio.run(_run(plan, Address(options.host, options.port), options.workers))
    except HostStartError as error:
        print(error, file=sys.stderr)
        return 1


async def _run(plan: Plan, address: Address, workers: int) -> int:
    # Read here, too: a wrong file is told at once, before any process is started.
    read_host_file(Path(plan.root))
    read_local_settings(Path(plan.root))
    return await Supervisor(plan, address, workers).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.local.host", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=_port, default=7071, help="port to listen on, 0 for a free one (default: %(default)s)")
    add("--workers", type=_worker_count, default=1, help="number of worker processes (default: %(default)s)")
    add("--app", default="function_app:app", help="module:attribute of the function app (default: %(default)s)")
    add("--root", default=".", help="the app's folder, with host.json (default: the current one)")
    add("--storage", help="connection string; takes the place of the setting AzureWebJobsStorage")
    add(
        "--function-key",
        default=os.environ.get("FUNCTIONS_HOST_FUNCTION_KEY", ""),
        help="key of functions that are not anonymous (default: FUNCTIONS_HOST_FUNCTION_KEY; none: not asked for)",
    )
    add(
        "--master-key",
        default=os.environ.get("FUNCTIONS_HOST_MASTER_KEY", ""),
        help="key of everything, /admin included (default: FUNCTIONS_HOST_MASTER_KEY)",
    )
    add("--response-timeout-s", type=_seconds, default=230.0, help="silence before 502 (default: %(default)s)")
    add("--grace-s", type=_seconds, default=30.0, help="time for running work at the end (default: %(default)s)")
    add("--access-log", action="store_true", help="log each request")
    add("--verbose", action="store_true", help="list the functions and log more")
    return parser


def _worker_count(text: str) -> int:
    return _whole(text, 1, _MOST_WORKERS)


def _port(text: str) -> int:
    return _whole(text, 0, _HIGHEST_PORT)


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} does not lie between 0 and {_LONGEST_S} seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
