"""Transactions that see one tenant's documents: row-level security holds for the owner of the tables too."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.stores.postgres.pool import Connection, PostgresPool

_FIND = b"SELECT number FROM retrieval_tenants WHERE tenant_id = %s"
_ENTER = b"INSERT INTO retrieval_tenants (tenant_id) VALUES (%s) ON CONFLICT DO NOTHING"
_ALL = b"SELECT tenant_id FROM retrieval_tenants ORDER BY number"
_SEE = b"SELECT set_config('router.retrieval_tenant', %s, true)"
_ONE_INSTANT = b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class TenantConnection:
    """A connection that sees the rows of the tenant with this number, until its transaction ends."""

    sql: Connection
    tenant: int


class TenantTransactions:
    """Opens transactions that see the rows of one tenant and no other.

    Args:
        pool: where the tables are.
    """

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool
        self._numbers: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def writing(self, tenant_id: str, *, timeout_s: float) -> AsyncIterator[TenantConnection]:
        """A transaction that may write; a new tenant gets a number.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=timeout_s) as connection:
            number = await self._number(connection, tenant_id)
            if number is None:
                await connection.execute(_ENTER, (tenant_id,))
                number = await self._number(connection, tenant_id)
                assert number is not None  # noqa: S101 - tenants are never removed
            async with connection.transaction():
                await connection.execute(_SEE, (str(number),))
                yield TenantConnection(connection, number)

    @contextlib.asynccontextmanager
    async def reading(self, tenant_id: str, *, timeout_s: float) -> AsyncIterator[TenantConnection | None]:
        """A transaction that sees one instant, in pipeline mode; None for a tenant that never had a document.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=timeout_s) as connection:
            number = await self._number(connection, tenant_id)
            if number is None:
                yield None
                return
            # What begins and ends the transaction travels with the statements.
            async with connection.pipeline(), connection.transaction():
                await connection.execute(_ONE_INSTANT)
                await connection.execute(_SEE, (str(number),))
                yield TenantConnection(connection, number)

    async def tenants(self, *, timeout_s: float) -> list[str]:
        """All tenants that ever had a document.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=timeout_s) as connection:
            return [str(row[0]) for row in await (await connection.execute(_ALL)).fetchall()]

    async def _number(self, connection: Connection, tenant_id: str) -> int | None:
        known = self._numbers.get(tenant_id)
        if known is None:
            row = await (await connection.execute(_FIND, (tenant_id,))).fetchone()
            if row is None:
                return None
            if len(self._numbers) >= _MOST_KNOWN:
                self._numbers.clear()
            known = self._numbers[tenant_id] = int(row[0])
        return known
