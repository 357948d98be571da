"""The connection to Redis: short limits on everything, because limits and budgets wait for it on the request path."""

import asyncio

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from shared.domain.errors import DependencyUnavailable

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
) -> Redis:
    """A client for the life of a worker process; it connects on first use, and `aclose` closes it.

    Nothing is retried: whoever calls decides what an absent Redis means, and a script that was sent once may have run.

    Args:
        url: ``redis://`` or, with TLS, ``rediss://``.
        credential_provider: gives user name and token of each new connection, for Entra authentication.
        timeout_s: seconds to connect, for each answer, and for a free connection.
        max_connections: of this process; more callers than that wait.

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
    return Redis.from_pool(pool)


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
