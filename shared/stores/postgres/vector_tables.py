"""The tables of vectors: made, filled beside one another, switched and dropped while searches go on."""

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg import errors

from shared.domain.errors import Conflict, InvalidRequest, NotFound
from shared.domain.security import SecurityLevel
from shared.ports import UnembeddedChunk, VectorTable
from shared.rag.vectors import as_halves
from shared.stores.postgres.chunk_rows import vector_literals
from shared.stores.postgres.document_rows import ENSURE_MODEL, MODEL, vectors_table
from shared.stores.postgres.pool import Connection, PostgresPool
from shared.stores.postgres.tenancy import TenantTransactions

_ALL: Final = b"SELECT name, dimensions, status FROM embedding_models ORDER BY number"
_MISSING: Final = """
    SELECT chunks.id, chunks.prefix, chunks.text, chunks.label, documents.service
    FROM chunks JOIN documents ON documents.number = chunks.document
    WHERE chunks.tenant = %(tenant)s AND chunks.id > %(after)s
        AND NOT EXISTS (
            SELECT FROM {vectors} AS vectors WHERE vectors.tenant = %(tenant)s AND vectors.chunk = chunks.id)
    ORDER BY chunks.id LIMIT %(limit)s"""
_ADD: Final = """
    WITH held AS (
        -- A chunk that is taken away meanwhile waits for this, or is gone already.
        SELECT id, collection, embedding
        FROM unnest(%(ids)s::bigint[], %(embeddings)s::text[]) AS given (chunk, embedding)
        JOIN chunks ON chunks.tenant = %(tenant)s AND chunks.id = given.chunk
        FOR KEY SHARE OF chunks
    )
    INSERT INTO {vectors} (tenant, chunk, collection, embedding)
    SELECT %(tenant)s, id, collection, embedding::halfvec FROM held
    ON CONFLICT DO NOTHING"""
_LOCK: Final = b"LOCK TABLE embedding_models IN SHARE ROW EXCLUSIVE MODE"
_RETIRE: Final = b"UPDATE embedding_models SET status = 'retired' WHERE status = 'active' AND name <> %s"
_ACTIVATE: Final = b"UPDATE embedding_models SET status = 'active' WHERE name = %s"
_FORGET: Final = b"DELETE FROM embedding_models WHERE name = %s AND status <> 'active' RETURNING number"


class PostgresVectorTables:
    """`VectorTables` on the tables that ``ensure_embedding_model`` makes.

    Args:
        pool: where they are; its role owns them.
        deadline_s: seconds within which a call is done or fails; dropping waits for searches under way.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._transactions = TenantTransactions(pool)
        self._deadline_s = deadline_s

    async def all(self) -> Sequence[VectorTable]:
        """All tables, the oldest first.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            return [VectorTable(*row) for row in await (await connection.execute(_ALL)).fetchall()]

    async def ensure(self, model: str, dimensions: int) -> None:
        """Make a model's table if there is none; the first is the active one.

        Raises:
            DependencyUnavailable: no answer in time.
            InvalidRequest: there is one for vectors of another length.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            try:
                await connection.execute(ENSURE_MODEL, (model, dimensions))
            except errors.InvalidParameterValue:
                raise InvalidRequest("the vectors are not as long as this model's", param="vectors") from None

    async def tenants(self) -> Sequence[str]:
        """All tenants that ever had a document.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return await self._transactions.tenants(timeout_s=self._deadline_s)

    async def missing(self, tenant_id: str, model: str, *, after: int, limit: int) -> Sequence[UnembeddedChunk]:
        """Chunks of a tenant without a vector, by id, from the one after `after`.

        Raises:
            DependencyUnavailable: no answer in time.
            NotFound: there is no such table.
        """
        async with self._transactions.reading(tenant_id, timeout_s=self._deadline_s) as connection:
            if connection is None:
                return ()
            statement = _MISSING.format(vectors=await _table(connection.sql, model))
            values = {"tenant": connection.tenant, "after": after, "limit": limit}
            rows = await (await connection.sql.execute(statement.encode(), values)).fetchall()
        return [
            UnembeddedChunk(id_, f"{prefix}\n{text}" if prefix else text, SecurityLevel(label), service)
            for id_, prefix, text, label, service in rows
        ]

    async def add(self, tenant_id: str, model: str, vectors: Mapping[int, bytes]) -> int:
        """Enter vectors by chunk; of chunks that are gone, or have one, nothing is entered.

        Raises:
            DependencyUnavailable: nothing was entered, as far as can be known; doing it again is safe.
            InvalidRequest: the vectors are not as long as the model's, or have no direction.
            NotFound: there is no such table.
        """
        try:
            literals = vector_literals(as_halves(list(vectors.values())))
        except ValueError as error:
            raise InvalidRequest(str(error), param="vectors") from None
        async with self._transactions.writing(tenant_id, timeout_s=self._deadline_s) as connection:
            statement = _ADD.format(vectors=await _table(connection.sql, model))
            values = {"tenant": connection.tenant, "ids": list(vectors), "embeddings": literals}
            try:
                return (await connection.sql.execute(statement.encode(), values)).rowcount
            except errors.DataException:
                raise InvalidRequest("the vectors are not as long as this model's", param="vectors") from None

    async def activate(self, model: str) -> None:
        """Have a model's vectors searched from now on; the one before is retired.

        Raises:
            DependencyUnavailable: no answer in time.
            NotFound: there is no such table.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.execute(_LOCK)
            await _table(connection, model)
            await connection.execute(_RETIRE, (model,))
            await connection.execute(_ACTIVATE, (model,))

    async def drop(self, model: str) -> None:
        """Remove a table with all its vectors.

        Raises:
            Conflict: it is searched.
            DependencyUnavailable: no answer in time.
            NotFound: there is no such table.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            await connection.execute(_LOCK)
            table = await _table(connection, model)
            if (await connection.execute(_FORGET, (model,))).rowcount == 0:
                raise Conflict("this model's vectors are searched: activate another one first")
            await connection.execute(f"DROP TABLE {table}".encode())


async def _table(connection: Connection, model: str) -> str:
    row = await (await connection.execute(MODEL, (model,))).fetchone()
    if row is None:
        raise NotFound("there are no vectors of this model", param="model")
    return vectors_table(row[0])
