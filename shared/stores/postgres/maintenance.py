"""Upkeep of the ledger's tables."""

from shared.ports import Clock
from shared.stores.postgres.pool import PostgresPool

_MONTHS = 3
"""This one and two to come: a timer that does not run for a month does no harm, and neither does more (the tables have
a default partition)."""


class PostgresMaintenance:
    """`LedgerMaintenance` by the functions that the migrations define.

    Args:
        pool: where the tables are; its role must own them.
        clock: says which month it is.
        deadline_s: seconds within which the work is done or fails; moving late rows takes longest.
    """

    def __init__(self, pool: PostgresPool, clock: Clock, *, deadline_s: float = 15.0) -> None:
        self._pool = pool
        self._clock = clock
        self._deadline_s = deadline_s

    async def prepare_partitions(self) -> None:
        """Create the partitions of this month and the coming ones; those that exist are left alone.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            await connection.execute("SELECT ensure_request_partitions(%s, %s)", (self._clock.now(), _MONTHS))
            await connection.execute("SELECT ensure_event_partitions(%s, %s)", (self._clock.now(), _MONTHS))
