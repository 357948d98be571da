"""What the ledger says of budgets: sums by account, kept by the statement that inserts the records."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from shared.domain.budgets import LedgerCharge, LedgerSpend
from shared.stores.postgres.pool import PostgresPool

_SPEND = b"SELECT account, micro_usd FROM budget_spend WHERE tenant_id = %s AND account = ANY(%s)"
_SETTLED = b"SELECT account, micro_usd FROM budget_spend WHERE tenant_id = %s AND account ^@ ANY(%s)"
_CHARGES = (
    b"SELECT id, ceil(cost_exact * 1000000)::bigint, budget_accounts FROM requests "
    b"WHERE id = ANY(%s) AND tenant_id = %s"
)


class PostgresBudgetLedger:
    """`BudgetLedger` on ``budget_spend`` and ``requests``; reads no more rows than it is asked about.

    Args:
        pool: where the tables are.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 5.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def spend(self, tenant_id: str, accounts: Sequence[str], request_ids: Sequence[str]) -> LedgerSpend:
        """What accounts were charged with, and what requests cost, as of one instant.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ids = [UUID(request_id) for request_id in request_ids]
        async with self._pool.connection(timeout_s=self._deadline_s) as connection, connection.transaction():
            # A record that comes in between must not be in one and not in the other.
            await connection.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            sums = await (await connection.execute(_SPEND, (tenant_id, list(accounts)))).fetchall()
            found = await (await connection.execute(_CHARGES, (ids, tenant_id))).fetchall() if ids else []
        return LedgerSpend(
            {account: int(micro_usd) for account, micro_usd in sums},
            {str(key): LedgerCharge(cost, tuple(charged)) for key, cost, charged in found},
        )

    async def settled(self, tenant_id: str, prefixes: Sequence[str]) -> Mapping[str, int]:
        """What accounts whose ids begin with one of some texts were charged with, in micro-USD.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            rows = await (await connection.execute(_SETTLED, (tenant_id, list(prefixes)))).fetchall()
        return {account: int(micro_usd) for account, micro_usd in rows}
