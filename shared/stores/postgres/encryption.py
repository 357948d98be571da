"""Whether the connection to PostgreSQL is encrypted, by the server's own word."""

from shared.stores.postgres.pool import PostgresPool

_ASK = b"SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


async def connection_encryption(pool: PostgresPool, *, timeout_s: float = 5.0) -> str | None:
    """TLS version and cipher of a connection; None when there is none.

    Raises:
        DependencyUnavailable: no answer in time.
    """
    async with pool.connection(timeout_s=timeout_s) as connection:
        row = await (await connection.execute(_ASK)).fetchone()
    return f"{row[1]}, {row[2]}" if row is not None and row[0] else None
