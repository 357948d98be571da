"""One worker process: imports the app, serves HTTP, and listens to queues and timers.

Started by the supervisor as `python -m infra.local.hosting.worker CHANNEL_FD CONTROL_FD`. The control socket brings
the plan, takes the report, and ends when the supervisor does: the worker then drains and exits, even when the
supervisor was killed.
"""

import asyncio
import contextlib
import gc
import hashlib
import io
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path

import uvicorn
import uvloop

from infra.local.hosting.errors import HostStartError
from infra.local.hosting.front import AccessKeys, FunctionsFront, HttpLimits
from infra.local.hosting.indexing import HttpFunction, IndexedApp, index_app, load_app
from infra.local.hosting.listeners import STORAGE_SETTING, Listeners
from infra.local.hosting.plan import Plan, Report
from infra.local.hosting.routes import Route, RouteTable
from infra.local.hosting.serving import HandedConnectionsServer
from infra.local.hosting.settings import HostFile, apply_local_settings, read_host_file, read_local_settings

logger = logging.getLogger("host")

_KEEP_ALIVE_S = 130
"""Idle connections live as long as with Kestrel, which carries the Azure host."""

_EXIT_MARGIN_S = 8.0
_HOST_VERSION = "4"
_HOST_ID_SETTING = "AzureFunctionsWebHost__hostid"


async def serve(plan: Plan, channel: socket.socket, control: socket.socket) -> None:
    """Import the app, report, and serve until a signal comes or the supervisor is gone.

    Raises:
        HostStartError: the app or its configuration is unusable.
    """
    root = Path(plan.root)
    apply_local_settings(read_local_settings(root))
    if plan.storage:
        os.environ[STORAGE_SETTING] = plan.storage
    host_file = read_host_file(root)
    app = index_app(load_app(plan.app, root), root, os.environ)
    routes = _route_table(app, host_file.route_prefix)
    host_id = os.environ.get(_HOST_ID_SETTING) or hashlib.sha256(str(root).encode()).hexdigest()[:32]
    listeners = Listeners(app, host_file, host_id)
    limits = HttpLimits(response_timeout_s=plan.response_timeout_s, function_timeout_s=host_file.function_timeout_s)
    keys = AccessKeys(plan.function_key, plan.master_key)
    front = FunctionsFront(routes, limits, keys, {"id": host_id, "version": _HOST_VERSION})
    server = HandedConnectionsServer(_uvicorn_config(front, plan), channel)
    stop = asyncio.Event()
    _watch(stop, control, plan.grace_s)
    # What the imports made lives as long as the process: spare every later collection the walk over it.
    gc.collect()
    gc.freeze()
    serving = asyncio.create_task(server.serve())
    listeners.start()
    control.sendall(_report(app, routes, host_file, listeners).to_line())
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    server.should_exit = True
    await asyncio.gather(serving, listeners.stop(plan.grace_s))


def main() -> int:
    """Run one worker; returns the process's exit code."""
    # The terminal sends Ctrl-C to the whole group; the supervisor passes it on once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    control = socket.socket(fileno=int(sys.argv[2]))
    line = control.makefile("rb").readline()
    if not line:
        return 1
    plan = Plan.from_line(line)
    logging.basicConfig(
        level=logging.INFO if plan.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s",
    )
    logging.getLogger("azure").setLevel(logging.WARNING)
    if plan.access_log:
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    try:
        uvloop.run(serve(plan, channel, control))
    except HostStartError as error:
        if plan.verbose:
            traceback.print_exception(error)
        control.sendall(Report(failure=str(error)).to_line())
        return 1
    return 0


def _route_table(app: IndexedApp, prefix: str) -> RouteTable[HttpFunction]:
    return RouteTable(
        Route(function.name, f"{prefix}/{function.template}".strip("/"), function.methods, function)
        for function in app.http
    )


def _uvicorn_config(front: FunctionsFront, plan: Plan) -> uvicorn.Config:
    return uvicorn.Config(
        front,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=plan.access_log,
        log_config=None,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(plan.grace_s)),
    )


def _watch(stop: asyncio.Event, control: socket.socket, grace_s: float) -> None:
    """Stop on SIGTERM, and when the supervisor's end of the control socket closes."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def wait_for_supervisor() -> None:
        with contextlib.suppress(OSError):
            while control.recv(1):
                pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        # Whatever the loop does, an orphan ends.
        time.sleep(grace_s + _EXIT_MARGIN_S)
        os._exit(1)

    threading.Thread(target=wait_for_supervisor, daemon=True, name="supervisor-watch").start()


def _report(app: IndexedApp, routes: RouteTable[HttpFunction], host_file: HostFile, listeners: Listeners) -> Report:
    prefix = host_file.route_prefix
    functions = [
        *(
            f"{f.name}: [{','.join(sorted(f.methods)) or 'all'}] /{f'{prefix}/{f.template}'.strip('/')}"
            for f in app.http
        ),
        *(f"{f.name}: queue {f.queue_name}" for f in app.queues),
        *(f"{f.name}: timer {f.schedule_text}" for f in app.timers),
    ]
    notices = [
        *routes.conflicts,
        *(f"Not started: {reason}." for reason in listeners.not_started),
        *(
            f"Not started: {name}: this host runs HTTP, queue and timer triggers without further bindings."
            for name in app.unsupported
        ),
    ]
    return Report("", tuple(sorted(functions)), tuple(notices))


if __name__ == "__main__":
    sys.exit(main())
