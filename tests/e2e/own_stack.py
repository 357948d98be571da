"""The whole router with servers of a test's own: what is killed, locked or counted in it concerns nobody else."""

import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from azure.storage.blob import BlobServiceClient

from infra.local import services
from infra.local.application import FunctionApp, migrate
from infra.local.environment import HOST, Directories, Ports, function_app_environment
from infra.local.hosting.storage import API_VERSION
from infra.local.stack import wait_serving
from tests.e2e.fault_app import READY_S

_TIME_SCALE = 0.02
_CONTROL_S = 10.0
_HOST_ID = "own-stack"
_FOR_EVER = -1


@dataclass(frozen=True)
class OwnStack:
    """A stack.

    Attributes:
        url: of the API.
        settings: what the Function App runs with.
        registry_directory: of the registry and the policy that it serves.
        started_at: when it was ready.
    """

    url: str
    settings: Mapping[str, str]
    registry_directory: Path
    app: FunctionApp
    postgres: services.Postgres
    control_url: str
    started_at: datetime

    @property
    def dsn(self) -> str:
        return self.settings["POSTGRES_DSN"]

    def set_faults(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the faults that the simulator injects; none: it answers well."""
        order = urllib.request.Request(  # noqa: S310 - our own simulator
            f"{self.control_url}/faults", method="PUT", data=json.dumps(list(faults)).encode()
        )
        with urllib.request.urlopen(order, timeout=_CONTROL_S) as done:  # noqa: S310 - the same
            done.read()

    def standing(self, service: str) -> list[dict[str, Any]]:
        """A service's budgets as the router tells them."""
        answer = requests.get(f"{self.url}/limits", headers={"x-router-service": service}, timeout=_CONTROL_S)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["budgets"]
        return found


@contextmanager
def own_stack(
    root: Path,
    files: Mapping[str, str],
    *,
    durable: bool = False,
    settings: Mapping[str, str] | None = None,
    timers_elsewhere: Sequence[str] = (),
) -> Iterator[OwnStack]:
    """Starts everything on free ports, and stops it.

    Args:
        root: a directory that does not exist yet.
        files: the registry's, by name; a policy among them.
        durable: whether PostgreSQL writes through to the disk.
        settings: of the Function App, beside the usual ones.
        timers_elsewhere: timers whose locks are held, as by another instance of the app, so this one never fires them.
    """
    directories, ports, registry = Directories(root), Ports.free(), root / "registry"
    registry.mkdir(parents=True)
    for name, text in files.items():
        (registry / name).write_text(text)
    backing = services.backing_services(ports, directories, durable=durable, time_scale=_TIME_SCALE)
    for service in backing:
        if isinstance(service, services.Simulator):
            service.embeddings = "hashed"  # whatever is installed: a real model would cost seconds of CPU
    (postgres,) = (service for service in backing if isinstance(service, services.Postgres))
    given = {
        **function_app_environment(ports, directories),
        "ROUTER_REGISTRY_DIR": str(registry),
        "AzureFunctionsWebHost__hostid": _HOST_ID,
        **(settings or {}),
    }
    app = FunctionApp(directories.journal, directories.logs, ports.function_app, given)
    try:
        for service in backing:
            service.spawn()
        for service in backing:
            service.wait_ready()
        migrate(given["POSTGRES_DSN"])
        _lock(timers_elsewhere, given["AzureWebJobsStorage"])
        app.start()
        is_ready, answer = wait_serving(ports.function_app, READY_S)
        assert is_ready, f"{answer}\n{app.log_tail(40)}"
        control_url = f"http://{HOST}:{ports.simulator_http}/_sim"
        now = datetime.now(UTC)  # noqa: TID251 - the ledger has real times
        yield OwnStack(f"{app.base_url}/api/v1", given, registry, app, postgres, control_url, now)
    finally:
        for service in (app, *reversed(backing)):
            service.stop()


def _lock(timers: Sequence[str], connection_string: str) -> None:
    """Takes the locks of timers where the Functions host keeps them, for as long as the storage lives."""
    if not timers:
        return
    with BlobServiceClient.from_connection_string(connection_string, api_version=API_VERSION) as service:
        container = service.create_container("azure-webjobs-hosts")
        for timer in timers:
            blob = container.upload_blob(f"locks/{_HOST_ID}/Host.Functions.{timer}.Listener", b"")
            blob.acquire_lease(lease_duration=_FOR_EVER)
