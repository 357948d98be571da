"""Connections to PostgreSQL: opened on first use, given out with a deadline, cut when the server falls silent."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
from azure.core.credentials_async import AsyncTokenCredential
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from shared.domain.errors import DependencyUnavailable, InternalError
from shared.ports import Telemetry
from shared.stores.call_times import CallTimes, Outcome

_ENTRA_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
"""Azure Database for PostgreSQL, "Use Microsoft Entra ID for authentication"."""
_RECONNECT_S = 3.0
"""How long the pool itself tries again for a lost connection, before the next caller makes it try afresh: the pool's
own pauses double, so with its default of five minutes a server that is back would stay unused for minutes."""
_CANCEL_S = 0.5
_OK: Outcome = "ok"

PasswordSource = Callable[[], Awaitable[str]]
Connection = AsyncConnection[TupleRow]


class _BoundedConnection(AsyncConnection[TupleRow]):
    """A connection whose cancelled callers do not wait long for a server that does not answer."""

    async def cancel_safe(self, *, timeout: float = _CANCEL_S) -> None:  # noqa: ASYNC109 - psycopg's own signature
        """Ask the server to stop the running statement; cut the connection when it does not even take the question.

        psycopg calls this, with several seconds, when the task that waits for a statement is cancelled.
        """
        try:
            await super().cancel_safe(timeout=min(timeout, _CANCEL_S))
        except psycopg.Error:
            _sever(self)
            raise


class PostgresPool:
    """A pool for the life of a worker process. Connections are in autocommit mode: one statement is one round trip.

    Nothing happens before the first use, so building it needs no running event loop and no server.

    Args:
        dsn: libpq connection string or URL. ``options`` set in it are kept.
        password_source: gives the password of each new connection, for short-lived tokens (`entra_password`).
        application_name: how the server lists these connections.
        max_size: most connections of this process.
        statement_timeout_s: after which the server itself gives up on a statement.
        telemetry: hears how long connections are used and how that ends; None: nobody does.

    Raises:
        ValueError: the connection string cannot be read; the message does not quote it.
    """

    def __init__(
        self,
        dsn: str,
        *,
        password_source: PasswordSource | None = None,
        application_name: str = "llm-router",
        max_size: int = 8,
        statement_timeout_s: float = 15.0,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._times = CallTimes(telemetry, "postgres")
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            raise ValueError("the PostgreSQL connection string cannot be read") from None
        options = f"{given.get('options') or ''} -c statement_timeout={int(statement_timeout_s * 1000)} -c timezone=UTC"
        self._password_source = password_source
        self._pool: AsyncConnectionPool[_BoundedConnection] = AsyncConnectionPool(
            make_conninfo(
                dsn,
                application_name=application_name,
                options=options.strip(),
                connect_timeout=3,
                # A gateway that forgets an idle connection says nothing: find out before a request does.
                keepalives=1,
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=15_000,
            ),
            connection_class=_BoundedConnection,
            kwargs=self._connect_arguments,
            check=self._check_socket,
            min_size=1,
            max_size=max_size,
            max_idle=300.0,
            reconnect_timeout=_RECONNECT_S,
            name=application_name,
            open=False,
        )

    @contextlib.asynccontextmanager
    async def connection(self, *, timeout_s: float) -> AsyncIterator[Connection]:
        """A connection for the block, which must be done with the server within `timeout_s` seconds.

        At the deadline the connection is cut, which ends whatever waits on it; it never goes back to the pool. Catch
        `psycopg.errors` of statements that may fail, such as `UniqueViolation`, inside the block.

        Raises:
            DependencyUnavailable: no connection or no answer in time, or the server is not fit for use (starting up,
                out of connections, schema missing).
            InternalError: the server refused a value or a constraint was violated.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        began_s, outcome = self._times.start(), _OK
        try:
            await self._pool.open()
            async with self._pool.connection(timeout=timeout_s) as connection:
                alarm = loop.call_at(deadline_s, _sever, connection)
                try:
                    yield connection
                finally:
                    alarm.cancel()
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            outcome = "refused"
            refusal = InternalError("the database refused a value")
            refusal.add_note(_reason(error))
            raise refusal from None
        except (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests) as error:
            outcome = "away"
            absence = DependencyUnavailable("the database does not answer")
            absence.add_note(_reason(error))
            raise absence from None
        except asyncio.CancelledError:
            outcome = "cut_short"
            raise
        finally:
            self._times.ended(began_s, outcome)

    async def aclose(self) -> None:
        """Close all connections; a use after that fails as unavailable."""
        await self._pool.close(timeout=2.0)

    async def _connect_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {"autocommit": True}
        if self._password_source is not None:
            arguments["password"] = await self._password_source()
        return arguments

    async def _check_socket(self, connection: Connection) -> None:
        """Refuse a pooled connection that its server has closed: two system calls, no round trip.

        A server that closed one has closed them all (restart, failover), so the others are not tried one by one.
        """
        try:
            # The first takes in the server's parting words, if it had any; the second meets the end of the stream.
            connection.pgconn.consume_input()
            connection.pgconn.consume_input()
        except psycopg.OperationalError:
            await self._pool.drain()
            raise


def entra_password(credential: AsyncTokenCredential) -> PasswordSource:
    """A managed identity's access token as the password of Azure Database for PostgreSQL.

    The credential caches the token and renews it ahead of its end, so each new connection gets one that holds.
    """

    async def password() -> str:
        return (await credential.get_token(_ENTRA_SCOPE)).token

    return password


def _sever(connection: Connection) -> None:
    """Shut the socket, so that a wait on a silent server ends now as a lost connection.

    Cancelling the waiting task instead would make psycopg ask the same silent server to cancel, and wait for that.
    """
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def _reason(cause: Exception) -> str:
    """What is safe to show of a cause: psycopg's own texts name hosts, users and values."""
    sqlstate = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    return f"{type(cause).__name__} {sqlstate or ''}".rstrip()
