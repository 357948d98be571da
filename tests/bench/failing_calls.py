"""How many requests survive while one call in five of every deployment fails, on the real stack.

    python tests/bench/failing_calls.py [--requests 10000]

Starts PostgreSQL, Redis, Azurite, the simulator and the Function App on free ports with the shipped policy and 4 models
in 3 regions each; 20% of all calls fail as unavailable, server error, overloaded, rate limit, deadline or cut, before
the first token. Requests are plain and streamed, and name a model or leave it to the router, in turn.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from infra.local import services
from infra.local.application import FunctionApp, migrate
from infra.local.environment import HOST, Directories, Ports, function_app_environment
from infra.local.stack import wait_serving
from shared.config import REGISTRY_DIRECTORY
from tests.e2e import fault_load


def main() -> None:
    """Start, run, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        directories, ports = Directories(Path(root)), Ports.free()
        registry = Path(root) / "registry"
        registry.mkdir()
        (registry / "models.toml").write_text(fault_load.registry())
        (registry / "policy.toml").write_text((REGISTRY_DIRECTORY / "policy.toml").read_text())
        running = [*services.backing_services(ports, directories, durable=False, time_scale=0.02)]
        try:
            for service in running:
                service.start()
            settings = {**function_app_environment(ports, directories), "ROUTER_REGISTRY_DIR": str(registry)}
            migrate(settings["POSTGRES_DSN"])
            app = FunctionApp(directories.journal, directories.logs, ports.function_app, settings)
            app.start()
            running.append(app)
            ready, answer = wait_serving(ports.function_app, 60.0)
            if not ready:
                sys.exit(f"{answer}\n{app.log_tail(40)}")
            order = urllib.request.Request(
                f"http://{HOST}:{ports.simulator_http}/_sim/faults",
                method="PUT",
                data=json.dumps(fault_load.rules()).encode(),
            )
            with urllib.request.urlopen(order, timeout=10) as done:  # noqa: S310 - the same
                done.read()
            print(asyncio.run(fault_load.run(f"{app.base_url}/api/v1", arguments.requests)))
        finally:
            for service in reversed(running):
                service.stop()


if __name__ == "__main__":
    main()
