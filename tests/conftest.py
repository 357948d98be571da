"""The local stack for tests: real servers on free ports, started when the first test asks for them and always stopped.

The servers live as long as the session; what a test may break about them (stopped, frozen, faults set) is mended after it.
"""

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg import sql

from infra.local import environment, services
from infra.local.application import FunctionApp, migrate
from infra.local.environment import AZURITE_ACCOUNT, HOST, Directories, Ports, function_app_environment
from infra.local.processes import Service
from infra.local.stack import wait_serving

_CONTROL_TIMEOUT_S = 10.0
_READY_DEADLINE_S = 60.0
_STACK_FIXTURES = frozenset(
    {
        "postgres_server",
        "postgres_dsn",
        "empty_postgres_dsn",
        "redis_server",
        "redis_url",
        "azurite",
        "simulator",
        "stack",
    }
)
_TEMPLATE = "router_template"
_TIME_SCALE = 0.02
"""Of the simulator's delays: what is tested is their order, not how long they last."""

S = TypeVar("S", bound=Service)


class Azurite(services.Azurite):
    """Azurite with the addresses that tests ask for."""

    @property
    def blob_url(self) -> str:
        return f"http://{HOST}:{self.ports.blob}/{AZURITE_ACCOUNT}"

    @property
    def queue_url(self) -> str:
        return f"http://{HOST}:{self.ports.queue}/{AZURITE_ACCOUNT}"

    @property
    def table_url(self) -> str:
        return f"http://{HOST}:{self.ports.table}/{AZURITE_ACCOUNT}"


class Simulator(services.Simulator):
    """The Vertex simulator with its control page."""

    has_faults = False

    @property
    def grpc_endpoint(self) -> str:
        return f"{HOST}:{self.grpc_port}"

    @property
    def http_endpoint(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    def set_faults(self, faults: list[dict[str, Any]]) -> None:
        """Replaces the faults that the simulator injects."""
        self.has_faults = True
        self._control("PUT", {"faults": faults})

    def clear_faults(self) -> None:
        """Makes the simulator answer well again."""
        self._control("DELETE", None)
        self.has_faults = False

    def _control(self, method: str, body: dict[str, Any] | None) -> None:
        request = urllib.request.Request(  # noqa: S310 - our own simulator
            f"{self.http_endpoint}/_sim/faults",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_CONTROL_TIMEOUT_S) as response:  # noqa: S310 - our own simulator
            response.read()


@dataclass
class Servers:
    """What runs now, so that it is started once, mended after a test that broke it, and stopped at the end."""

    directories: Directories
    ports: Ports = field(default_factory=Ports.free)
    running: dict[str, Service] = field(default_factory=dict)

    def get(self, build: Callable[[], S]) -> S:
        """The running service of this kind, started if there is none."""
        service = build()
        known = self.running.get(service.name)
        if known is None:
            service.start()
            self.running[service.name] = service
            return service
        assert isinstance(known, type(service))
        return known

    def mend(self) -> None:
        """Starts what a test stopped, thaws what it froze, clears the faults it set."""
        for service in self.running.values():
            if not service.is_running:
                service.start()
            elif service.is_frozen:
                service.thaw()
            if isinstance(service, Simulator) and service.has_faults:
                service.clear_faults()

    def stop(self) -> None:
        """Stops everything, the last started first."""
        for service in reversed(self.running.values()):
            service.stop()


@dataclass(frozen=True)
class Stack:
    """The whole router, serving.

    Attributes:
        base_url: of the Function App, without `/api`.
        settings: the environment it runs with.
    """

    app: FunctionApp
    base_url: str
    settings: dict[str, str]
    postgres: services.Postgres
    redis: services.Redis
    azurite: Azurite
    simulator: Simulator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _STACK_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("stack")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    running = Servers(Directories(tmp_path_factory.mktemp("stack")))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _mended_servers(request: pytest.FixtureRequest) -> Iterator[None]:
    servers = request.getfixturevalue("servers") if _STACK_FIXTURES & set(request.fixturenames) else None
    yield
    if servers:
        servers.mend()


@pytest.fixture(scope="session")
def postgres_server(servers: Servers) -> services.Postgres:
    """One PostgreSQL for the session: .stop(), .start(), .kill(), .freeze(), .thaw(), .pid."""
    directories, port = servers.directories, servers.ports.postgres
    return servers.get(lambda: services.Postgres(directories.postgres, directories.logs, port, durable=False))


@pytest.fixture(scope="session")
def redis_server(servers: Servers) -> services.Redis:
    directories = servers.directories
    return servers.get(lambda: services.Redis(directories.redis, directories.logs, servers.ports.redis))


@pytest.fixture(scope="session")
def azurite(servers: Servers) -> Azurite:
    """One Azurite for the session (.connection_string, .queue_url, ...): name what you create uniquely."""
    return servers.get(lambda: Azurite(servers.directories.azurite, servers.directories.logs, servers.ports))


@pytest.fixture(scope="session")
def simulator(servers: Servers) -> Simulator:
    """One Vertex simulator for the session (.grpc_endpoint, .http_endpoint, .set_faults()); faults end with the test."""
    ports, directories = servers.ports, servers.directories
    directory = directories.root / "simulator"
    return servers.get(
        lambda: Simulator(
            directory,
            directories.logs,
            ports.simulator_grpc,
            ports.simulator_http,
            time_scale=_TIME_SCALE,
            embeddings="hashed",  # whatever is installed: a real model would cost seconds of CPU
        )
    )


def _create_database(server: services.Postgres, name: str, template: str | None = None) -> str:
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    with psycopg.connect(environment.postgres_dsn(server.port, "postgres"), autocommit=True) as connection:
        connection.execute(statement)
    return environment.postgres_dsn(server.port, name)


def _drop_database(server: services.Postgres, name: str) -> None:
    with psycopg.connect(environment.postgres_dsn(server.port, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def _migrated_template(postgres_server: services.Postgres) -> str:
    migrate(_create_database(postgres_server, _TEMPLATE))
    return _TEMPLATE


@pytest.fixture(scope="session")
def _database_names() -> Iterator[str]:
    return (f"test_{number}" for number in range(1, 1_000_000))


@pytest.fixture(scope="module")
def postgres_dsn(
    postgres_server: services.Postgres, _migrated_template: str, _database_names: Iterator[str]
) -> Iterator[str]:
    """A database of this test module's own, at the newest schema, as the application's role (no superuser)."""
    name = next(_database_names)
    yield _create_database(postgres_server, name, _migrated_template)
    _drop_database(postgres_server, name)


@pytest.fixture
def empty_postgres_dsn(postgres_server: services.Postgres, _database_names: Iterator[str]) -> Iterator[str]:
    """A database of this test's own with nothing in it but the vector extension, for the migrations themselves."""
    name = next(_database_names)
    yield _create_database(postgres_server, name)
    _drop_database(postgres_server, name)


@pytest.fixture(scope="module")
def redis_url(redis_server: services.Redis) -> str:
    """Database 0 of the session's Redis, empty when the module begins."""
    import redis  # noqa: PLC0415 - most sessions do without it

    with redis.Redis.from_url(redis_server.url, socket_timeout=_CONTROL_TIMEOUT_S) as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture(scope="session")
def stack(
    servers: Servers,
    postgres_server: services.Postgres,
    redis_server: services.Redis,
    azurite: Azurite,
    simulator: Simulator,
    _migrated_template: str,
) -> Stack:
    """The whole router on free ports, with its own database and its own number in Redis; e2e tests call `.base_url`."""
    dsn = _create_database(postgres_server, "stack", _migrated_template)
    ports, directories = servers.ports, servers.directories
    settings = function_app_environment(ports, directories, dsn=dsn, redis_database=1)
    app = servers.get(lambda: FunctionApp(directories.journal, directories.logs, ports.function_app, settings))
    is_ready, answer = wait_serving(ports.function_app, _READY_DEADLINE_S)
    if not is_ready:
        pytest.fail(f"{answer}\nThe end of {app.log_path}:\n{app.log_tail(40)}")
    return Stack(app, app.base_url, settings, postgres_server, redis_server, azurite, simulator)
