"""What every part stands on: time, chance, telemetry, the app's identity, and connections that the parts share."""

import contextlib
import random
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from redis.asyncio import Redis

from shared.config import Settings
from shared.container.storage import StorageAccess, storage_access
from shared.ports import Clock, Ids, Telemetry
from shared.stores.azure_transport import TimedTransport
from shared.stores.postgres.pool import PasswordSource, PostgresPool, entra_password
from shared.stores.redis import connect_redis
from shared.stores.system import SystemClock, UuidIds
from shared.telemetry import build_telemetry

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient  # 0.1 s of CPU at start, where no vault is used

ROLE_NAME = "llm-router"


class _Closable(Protocol):
    def aclose(self) -> Coroutine[Any, Any, None]: ...


_Resource = TypeVar("_Resource", bound=_Closable)


@dataclass(frozen=True)
class Ground:
    """What every part stands on.

    Attributes:
        closing: what is to be closed with the container, last opened first.
        rng: choices and jitter, never secrets.
        entra: the app's managed identity; None where nothing is reached with it.
        password: of new PostgreSQL connections; None where the connection string says it.
        pool: the connections to PostgreSQL of all parts that have none of their own (`pool_for`).
        redis: what counts for all processes.
        storage: how the storage account is reached.
    """

    settings: Settings
    closing: contextlib.AsyncExitStack
    clock: Clock
    ids: Ids
    telemetry: Telemetry
    rng: random.Random
    entra: AsyncTokenCredential | None
    password: PasswordSource | None
    pool: PostgresPool
    redis: Redis
    storage: StorageAccess

    def closes(self, resource: _Resource) -> _Resource:
        """The resource, which is closed with the container: after everything that is opened later."""
        self.closing.push_async_callback(resource.aclose)
        return resource

    def pool_for(self, name: str, *, max_size: int, statement_timeout_s: float = 15.0) -> PostgresPool:
        """Connections to PostgreSQL for one part alone, so that it holds up no other.

        Args:
            name: the part, as the server lists its connections.
            max_size: most connections of this process.
            statement_timeout_s: after which the server itself gives up on a statement.
        """
        return self.closes(
            PostgresPool(
                self.settings.postgres_dsn,
                password_source=self.password,
                application_name=f"{ROLE_NAME}-{name}",
                max_size=max_size,
                statement_timeout_s=statement_timeout_s,
                telemetry=self.telemetry,
            )
        )

    def key_vault_client(self) -> "SecretClient | None":
        """The client of the key vault, one for all parts, opened by the first that asks; None where no vault is set."""
        return self._vault

    @cached_property
    def _vault(self) -> "SecretClient | None":
        url = self.settings.key_vault_url
        if url is None or self.entra is None:
            return None
        from azure.keyvault.secrets.aio import SecretClient  # noqa: PLC0415 - 0.1 s of CPU where no vault is used

        transport = TimedTransport(self.telemetry, "key_vault")
        client = SecretClient(url, self.entra, retry_total=0, transport=transport)
        self.closing.push_async_callback(client.close)
        return client


def lay_ground(settings: Settings, closing: contextlib.AsyncExitStack) -> Ground:
    """What every part stands on, by the settings. Nothing is connected before its first use.

    Raises:
        ValueError: a connection string or the share of traces to send does not fit.
    """
    telemetry = build_telemetry(
        settings.telemetry_connection_string,
        role_name=ROLE_NAME,
        run_location=settings.region,
        sampling=settings.telemetry_sampling,
    )
    closing.push_async_callback(telemetry.aclose)
    entra = _entra_credential(settings, closing)
    password = entra_password(entra) if entra is not None and settings.postgres_entra else None
    pool = PostgresPool(settings.postgres_dsn, password_source=password, telemetry=telemetry)
    closing.push_async_callback(pool.aclose)
    redis = connect_redis(settings.redis_url, telemetry=telemetry)
    closing.push_async_callback(redis.aclose)
    return Ground(
        settings=settings,
        closing=closing,
        clock=SystemClock(),
        ids=UuidIds(),
        telemetry=telemetry,
        rng=random.Random(secrets.randbits(64)),  # noqa: S311 - choices, not secrets
        entra=entra,
        password=password,
        pool=pool,
        redis=redis,
        storage=storage_access(settings, entra, telemetry),
    )


def _entra_credential(settings: Settings, closing: contextlib.AsyncExitStack) -> AsyncTokenCredential | None:
    """The managed identity, where a store is reached with it."""
    if settings.storage_connection_string and not settings.postgres_entra and not settings.key_vault_url:
        return None
    # Imported only where it is used: azure.identity costs 0.2 s of CPU at start.
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

    credential = DefaultAzureCredential()
    closing.push_async_callback(credential.close)
    return credential
