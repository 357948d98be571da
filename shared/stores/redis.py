"""The connection to Redis: short limits on everything, because limits and budgets wait for it on the request path."""

import asyncio
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError, ResponseError

from shared.domain.errors import DependencyUnavailable
from shared.ports import Telemetry
from shared.stores.call_times import CallTimes, Outcome

_OK: Outcome = "ok"
TIMEOUT_S = 0.25
"""To connect, for each answer, and for a free connection."""
_HEALTH_CHECK_S = 30
"""A connection idle for so long is asked whether it still lives before it is used."""


def connect_redis(
    url: str,
    *,
    credential_provider: CredentialProvider | None = None,
    timeout_s: float = TIMEOUT_S,
    max_connections: int = 32,
    telemetry: Telemetry | None = None,
) -> Redis:
    """A client for the life of a worker process; it connects on first use, and `aclose` closes it.

    Nothing is retried: whoever calls decides what an absent Redis means, and a script that was sent once may have run.

    Args:
        url: ``redis://`` or, with TLS, ``rediss://``.
        credential_provider: gives user name and token of each new connection, for Entra authentication.
        timeout_s: seconds to connect, for each answer, and for a free connection.
        max_connections: of this process; more callers than that wait.
        telemetry: hears how long calls take and how they end; None: nobody does.

    Raises:
        ValueError: the URL cannot be read.
    """
    options = {} if credential_provider is None else {"credential_provider": credential_provider}
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=_HEALTH_CHECK_S,
        retry=Retry(NoBackoff(), 0),
        # RESP2 needs no handshake, and scripts answer in the same types under both protocols.
        protocol=2,
        client_name="llm-router",
        **options,
    )
    client = cast("_TimedRedis", _TimedRedis.from_pool(pool))
    client.times = CallTimes(telemetry, "redis")
    return client


class _TimedRedis(Redis):
    """A client whose calls are measured: single commands, scripts among them, and pipelines as one."""

    times = CallTimes(None, "redis")

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        began_s, outcome = self.times.start(), _OK
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # it has no types
        except BaseException as error:
            outcome = _outcome_of(error)
            raise
        finally:
            self.times.ended(began_s, outcome)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        made = _TimedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.times = self.times
        return made


class _TimedPipeline(Pipeline):
    times = CallTimes(None, "redis")

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        began_s, outcome = self.times.start(), _OK
        try:
            return await super().execute(raise_on_error)
        except BaseException as error:
            outcome = _outcome_of(error)
            raise
        finally:
            self.times.ended(began_s, outcome)


def _outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, ResponseError):
        # A script that is not known yet is one too: it is sent again, whole.
        return "refused"
    return "away" if isinstance(error, RedisError | OSError | TimeoutError) else "cut_short"


class RedisProbe:
    """`Probe` of Redis.

    Args:
        redis: the client that the stores use.
        required: whether the router must not take requests without it; by default not, limits degrade by their rules.
        timeout_s: seconds after which no answer is the answer.
    """

    name = "redis"

    def __init__(self, redis: Redis, *, required: bool = False, timeout_s: float = 1.0) -> None:
        self._redis = redis
        self.required = required
        self._timeout_s = timeout_s

    async def check(self) -> None:
        """Return when it answers.

        Raises:
            DependencyUnavailable: it does not.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError):
            raise DependencyUnavailable("redis does not answer") from None
