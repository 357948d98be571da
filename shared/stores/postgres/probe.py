"""Whether the ledger answers, for readiness."""

from shared.stores.postgres.pool import PostgresPool


class PostgresProbe:
    """`Probe` of the ledger: a statement through the pool, so that a pool run dry shows too.

    Args:
        pool: the one that the stores use.
        required: whether the router must not take requests without it; by default not, records wait in the spill.
        timeout_s: seconds after which no answer is the answer.
    """

    name = "postgres"

    def __init__(self, pool: PostgresPool, *, required: bool = False, timeout_s: float = 1.0) -> None:
        self._pool = pool
        self.required = required
        self._timeout_s = timeout_s

    async def check(self) -> None:
        """Return when it answers.

        Raises:
            DependencyUnavailable: it does not.
        """
        async with self._pool.connection(timeout_s=self._timeout_s) as connection:
            await connection.execute("SELECT 1")
