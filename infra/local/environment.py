"""Where the local stack listens, where it keeps its state, and what the Function App is told about both."""

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"

POSTGRES_USER = "router"
POSTGRES_DATABASE = "router"
VERTEX_PROJECT = "local-project"

AZURITE_ACCOUNT = "devstoreaccount1"
# Azurite's published development key (learn.microsoft.com, "Use the Azurite emulator"): opens nothing but Azurite.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections: a free one stays free until used.
_FREE_PORT_FIRST, _FREE_PORT_LAST = 20000, 29999


class StackError(Exception):
    """The local stack cannot go on; the message is a sentence for the person at the terminal."""


PORT_VARIABLES: Mapping[str, str] = {
    "function_app": "ROUTER_PORT",
    "postgres": "ROUTER_POSTGRES_PORT",
    "redis": "ROUTER_REDIS_PORT",
    "blob": "ROUTER_BLOB_PORT",
    "queue": "ROUTER_QUEUE_PORT",
    "table": "ROUTER_TABLE_PORT",
    "simulator_grpc": "ROUTER_SIMULATOR_GRPC_PORT",
    "simulator_http": "ROUTER_SIMULATOR_HTTP_PORT",
}
"""The environment variable that moves each port."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of the stack, all on 127.0.0.1."""

    function_app: int = 7071
    postgres: int = 15432
    redis: int = 16379
    blob: int = 10000
    queue: int = 10001
    table: int = 10002
    simulator_grpc: int = 18090
    simulator_http: int = 18091

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The default ports, each moved by its variable in `PORT_VARIABLES`.

        Raises:
            StackError: a variable is not a port number, or two services were given the same port.
        """
        chosen = {field.name: _port(environment, PORT_VARIABLES[field.name], field.default) for field in fields(cls)}
        taken: dict[int, str] = {}
        for name, port in chosen.items():
            if port in taken:
                both = f"{PORT_VARIABLES[taken[port]]} and {PORT_VARIABLES[name]}"
                raise StackError(f"{both} are both {port}: give each service its own port.")
            taken[port] = name
        return cls(**chosen)

    @classmethod
    def free(cls) -> Self:
        """Ports nothing listens on now, for tests that run beside a running stack."""
        return cls(*free_ports(len(fields(cls))))


def _port(environment: Mapping[str, str], variable: str, default: object) -> int:
    text = environment.get(variable) or str(default)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:  # noqa: PLR2004 - TCP's range
        raise StackError(f"{variable} is {text!r}: it must be a port number from 1 to 65535.")
    return int(text)


def free_ports(count: int) -> list[int]:
    """`count` different ports nothing listens on now, chosen at random so that parallel test runs rarely meet."""
    candidates = random.SystemRandom().sample(range(_FREE_PORT_FIRST, _FREE_PORT_LAST + 1), 1000)
    found: list[int] = []
    for port in candidates:
        if is_port_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise StackError("No free TCP port was found on this machine.")


def is_port_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Directories:
    """Where the stack keeps everything that outlives it: one directory, `.local/` for `make run`."""

    root: Path = Path(".local")

    @property
    def postgres(self) -> Path:
        """The database cluster."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        """The append-only file."""
        return self.root / "redis"

    @property
    def azurite(self) -> Path:
        """Queues, blobs and tables."""
        return self.root / "azurite"

    @property
    def journal(self) -> Path:
        """The Function App's spill of request records while neither Postgres nor the queue takes them."""
        return self.root / "journal"

    @property
    def logs(self) -> Path:
        """One log per service."""
        return self.root / "logs"


def postgres_dsn(port: int, database: str = POSTGRES_DATABASE) -> str:
    """The connection string of the application's role, which owns its database and is no superuser, as in Azure."""
    return f"postgresql://{POSTGRES_USER}@{HOST}:{port}/{database}"


def storage_connection_string(ports: Ports) -> str:
    """An Azure Storage connection string for Azurite."""
    endpoints = {"Blob": ports.blob, "Queue": ports.queue, "Table": ports.table}
    return (
        f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
        + ";".join(f"{kind}Endpoint=http://{HOST}:{port}/{AZURITE_ACCOUNT}" for kind, port in endpoints.items())
        + ";"
    )


def function_app_environment(
    ports: Ports,
    directories: Directories,
    *,
    workers: int = 1,
    dsn: str | None = None,
    redis_database: int = 0,
) -> dict[str, str]:
    """What the Function App is configured with locally: the settings that are different in the cloud, and only those.

    `local.settings.sample.json` shows the same to those who run `func start` by hand; a test compares the two.

    Args:
        ports: where the services listen.
        directories: where the journal goes.
        workers: processes that serve the Function App.
        dsn: another database than the stack's own.
        redis_database: the number of the Redis database.
    """
    return {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "FUNCTIONS_WORKER_PROCESS_COUNT": str(workers),
        # HTTP v2 (streaming) needs the first; the second keeps the worker's protobuf away from the app's.
        "PYTHON_ENABLE_INIT_INDEXING": "1",
        "PYTHON_ISOLATE_WORKER_DEPENDENCIES": "1",
        "AzureWebJobsStorage": storage_connection_string(ports),
        "POSTGRES_DSN": dsn or postgres_dsn(ports.postgres),
        "REDIS_URL": f"redis://{HOST}:{ports.redis}/{redis_database}",
        "ROUTER_ENVIRONMENT": "local",
        "ROUTER_AUTH": "development",
        "ROUTER_JOURNAL_DIR": str(directories.journal),
        "ROUTER_CONTENT_KEY_FILE": str(directories.journal.parent / "content.key"),
        # The second holds examples of endpoints of one's own, which the simulator answers.
        "ROUTER_REGISTRY_DIR": "shared/registry,infra/local/registry",
        "VERTEX_PROJECT": VERTEX_PROJECT,
        "VERTEX_CREDENTIALS": "anonymous",
        "VERTEX_GRPC_ENDPOINT": f"{HOST}:{ports.simulator_grpc}",
        "VERTEX_HTTP_ENDPOINT": f"http://{HOST}:{ports.simulator_http}",
    }
