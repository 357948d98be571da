"""The audit trail in Azure Tables: a partition per chain, a row per event, and the chain's head beside them."""

import contextlib
import heapq
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.data.tables import TableTransactionError, TransactionOperation, UpdateMode
from azure.data.tables.aio import TableClient

from shared.domain.audit import AuditEvent, AuditHead, AuditQuery, AuditRow, day_of, head_after
from shared.domain.errors import DependencyUnavailable, InternalError
from shared.stores.tables import answering, write_making

AUDIT_TABLE = "audit"
_HEAD = "head"
_NAME = "the audit trail"
_READ_DEADLINE_S = 60.0
_DAY = timedelta(days=1)


class TableAuditStore:
    """`AuditStore` in a table.

    Args:
        table: from `open_table`; created when it is missing.
        deadline_s: seconds within which a write is done or fails.
    """

    def __init__(self, table: TableClient, *, deadline_s: float = 4.0) -> None:
        self._table = table
        self._deadline_s = deadline_s

    async def append(self, rows: Sequence[AuditRow], *, after: AuditHead) -> None:
        """Write the rows that follow a head, and the new head, in one transaction.

        Written once when called again with the same rows after a failure: a transaction whose answer was lost is
        recognised by the head.

        Raises:
            DependencyUnavailable: nothing was written, as far as can be known; calling again is safe.
            InternalError: somebody else wrote to the chain.
        """
        operations = [(TransactionOperation.CREATE, _entity(row)) for row in rows]
        operations.append((TransactionOperation.UPSERT, _head_entity(head_after(rows[-1]))))
        async with answering(_NAME, self._deadline_s):
            try:
                await write_making(self._table, lambda: self._table.submit_transaction(operations))
            except (TableTransactionError, ResourceExistsError):
                await self._expect(head_after(rows[-1]), after)

    async def events(self, query: AuditQuery) -> Sequence[AuditEvent]:
        """The newest events that a query takes, at most its limit.

        Raises:
            DependencyUnavailable: the table is away.
        """
        until = query.until if query.before is None else min(query.until, query.before[0] + timedelta(seconds=1))
        found: list[AuditEvent] = []
        day = until
        async with answering(_NAME, _READ_DEADLINE_S):
            # Day by day backwards: rows of a day stand by writer, not by time, so a whole day is read at a time.
            while len(found) < query.limit and day_of(day) >= day_of(query.since):
                wanted = query.limit - len(found)
                of_day = [event async for event in self._events(day, query.tenant_id) if query.takes(event)]
                found += heapq.nlargest(wanted, of_day, key=lambda event: (event.at, event.id))
                day -= _DAY
        return found

    async def chains(
        self, since: datetime, until: datetime
    ) -> AsyncIterator[tuple[str, Sequence[AuditRow], AuditHead | None]]:
        """Every chain of the days from one instant to another, whole.

        Raises:
            DependencyUnavailable: the table is away.
        """
        day = since
        while day_of(day) <= day_of(until):
            rows: defaultdict[str, list[AuditRow]] = defaultdict(list)
            heads: dict[str, AuditHead] = {}
            async with answering(_NAME, _READ_DEADLINE_S):
                async for entity in self._entities(day_of(day), day_of(day + _DAY)):
                    if entity["RowKey"] == _HEAD:
                        heads[entity["PartitionKey"]] = _head(entity)
                    else:
                        rows[entity["PartitionKey"]].append(_row(entity))
            for chain in sorted({*rows, *heads}):
                yield chain, rows[chain], heads.get(chain)
            day += _DAY

    async def rows_of(self, tenant_id: str, day: datetime) -> Sequence[AuditRow]:
        """All readable rows of a tenant of a day, by chain and sequence.

        Raises:
            DependencyUnavailable: the table is away.
        """
        async with answering(_NAME, _READ_DEADLINE_S):
            return [
                _row(e) async for e in self._entities(day_of(day), day_of(day + _DAY), tenant_id) if _is_readable(e)
            ]

    async def first_day(self, tenant_id: str) -> datetime | None:
        """The start of the oldest day of which there are rows of a tenant.

        Raises:
            DependencyUnavailable: the table is away.
        """
        async with answering(_NAME, _READ_DEADLINE_S):
            async for entity in self._entities("0", "9999", tenant_id):
                return datetime.fromisoformat(entity["PartitionKey"].partition("~")[0]).replace(tzinfo=UTC)
        return None

    async def retell(self, rows: Sequence[AuditRow]) -> None:
        """Replace the bodies of rows; whom they were about leaves the other columns too.

        Raises:
            DependencyUnavailable: some may not have been replaced; doing it again is safe.
        """
        async with answering(_NAME, _READ_DEADLINE_S):
            for row in rows:
                await self._table.update_entity(_entity(row), UpdateMode.REPLACE)

    async def count_before(self, instant: datetime) -> int:
        """How many rows stand in the chains of the days before an instant's.

        Raises:
            DependencyUnavailable: the table is away.
        """
        async with answering(_NAME, _READ_DEADLINE_S):
            return sum([1 async for _ in self._entities("0", day_of(instant))])

    async def forget_before(self, instant: datetime) -> int:
        """Delete the chains of the days before an instant's; returns how many rows that were.

        Raises:
            DependencyUnavailable: the table is away; what was deleted stays so.
        """
        count = 0
        async with answering(_NAME, _READ_DEADLINE_S):
            async for entity in self._entities("0", day_of(instant)):
                await self._table.delete_entity(entity)
                count += 1
        return count

    async def aclose(self) -> None:
        """Close the client."""
        await self._table.close()

    async def _expect(self, wanted: AuditHead, before: AuditHead) -> None:
        """A refused transaction: either it was done before, and only its answer was lost, or the chain is not ours."""
        try:
            found = _head(await self._table.get_entity(before.chain, _HEAD))
        except ResourceNotFoundError:
            raise DependencyUnavailable("the audit trail cannot be written") from None
        if found != wanted:
            raise InternalError("the audit chain was written by somebody else")

    async def _events(self, day: datetime, tenant_id: str) -> AsyncIterator[AuditEvent]:
        async for entity in self._entities(day_of(day), day_of(day + _DAY), tenant_id):
            # What cannot be read was altered: `chains` shows it.
            with contextlib.suppress(ValueError):
                yield _row(entity).event

    async def _entities(
        self, first_day: str, end_day: str, tenant_id: str | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """What stands in the chains from one day to before another; heads have no tenant."""
        text, parameters = "PartitionKey ge @first and PartitionKey lt @end", {"first": first_day, "end": end_day}
        if tenant_id is not None:
            text, parameters = f"{text} and TenantId eq @tenant", parameters | {"tenant": tenant_id}
        try:
            async for entity in self._table.query_entities(text, parameters=parameters):
                yield entity
        except ResourceNotFoundError:
            return  # no table yet: nothing was ever audited


class MemoryAuditStore:
    """`AuditStore` in lists by chain; `away` makes every call fail."""

    def __init__(self) -> None:
        self.rows: dict[str, list[AuditRow]] = {}
        self.heads: dict[str, AuditHead] = {}
        self.away = False

    async def append(self, rows: Sequence[AuditRow], *, after: AuditHead) -> None:
        """Write the rows that follow a head.

        Raises:
            DependencyUnavailable: while `away`.
            InternalError: somebody else wrote to the chain.
        """
        self._answer()
        head = self.heads.get(after.chain)
        if head == head_after(rows[-1]):
            return
        if head is not None and head != after:
            raise InternalError("the audit chain was written by somebody else")
        self.rows.setdefault(after.chain, []).extend(rows)
        self.heads[after.chain] = head_after(rows[-1])

    async def events(self, query: AuditQuery) -> Sequence[AuditEvent]:
        """The newest events that a query takes.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        events = filter(query.takes, (row.event for rows in self.rows.values() for row in rows))
        return heapq.nlargest(query.limit, events, key=lambda event: (event.at, event.id))

    async def chains(
        self, since: datetime, until: datetime
    ) -> AsyncIterator[tuple[str, Sequence[AuditRow], AuditHead | None]]:
        """Every chain of the days from one instant to another.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        for chain in sorted({*self.rows, *self.heads}):
            if day_of(since) <= chain.partition("~")[0] <= day_of(until):
                yield chain, self.rows.get(chain, []), self.heads.get(chain)

    async def rows_of(self, tenant_id: str, day: datetime) -> Sequence[AuditRow]:
        """All readable rows of a tenant of a day.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        chains = sorted(chain for chain in self.rows if chain.startswith(day_of(day)))
        return [row for chain in chains for row in self.rows[chain] if row.event.tenant_id == tenant_id]

    async def first_day(self, tenant_id: str) -> datetime | None:
        """The start of the oldest day of which there are rows of a tenant.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        days = (chain for chain, rows in self.rows.items() if any(r.event.tenant_id == tenant_id for r in rows))
        first = min(days, default=None)
        return None if first is None else datetime.fromisoformat(first.partition("~")[0]).replace(tzinfo=UTC)

    async def retell(self, rows: Sequence[AuditRow]) -> None:
        """Replace the bodies of rows.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        for row in rows:
            self.rows[row.chain][row.sequence - 1] = row

    async def count_before(self, instant: datetime) -> int:
        """How many rows stand in the chains of the days before an instant's.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return sum(len(self.rows[chain]) + 1 for chain in self.heads if chain.partition("~")[0] < day_of(instant))

    async def forget_before(self, instant: datetime) -> int:
        """Delete the chains of the days before an instant's.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        old = [chain for chain in self.heads if chain.partition("~")[0] < day_of(instant)]
        for chain in old:
            del self.heads[chain]
        # The head counts as a row of its own, as in the table.
        return sum(len(self.rows.pop(chain)) + 1 for chain in old)

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("the audit trail does not answer")


def _entity(row: AuditRow) -> dict[str, Any]:
    event = row.event
    return {
        "PartitionKey": row.chain,
        "RowKey": f"{row.sequence:012d}",
        "TenantId": event.tenant_id,
        "At": event.at.astimezone(UTC),
        "Previous": row.previous_hash.hex(),
        "Hash": row.hash.hex(),
        "Body": row.body,
    }


def _head_entity(head: AuditHead) -> dict[str, Any]:
    return {"PartitionKey": head.chain, "RowKey": _HEAD, "Sequence": head.sequence, "Hash": head.hash.hex()}


def _row(entity: Mapping[str, Any]) -> AuditRow:
    return AuditRow(
        chain=entity["PartitionKey"],
        sequence=int(entity["RowKey"]),
        previous_hash=_hash(entity.get("Previous")),
        hash=_hash(entity.get("Hash")),
        body=str(entity.get("Body", "")),
    )


def _is_readable(entity: Mapping[str, Any]) -> bool:
    with contextlib.suppress(ValueError):
        return bool(_row(entity).event.id)
    return False


def _head(entity: Mapping[str, Any]) -> AuditHead:
    return AuditHead(entity["PartitionKey"], int(entity["Sequence"]), _hash(entity.get("Hash")))


def _hash(text: object) -> bytes:
    """A hash from its digits; what is none becomes one that nothing has, so that the walk names the row."""
    try:
        return bytes.fromhex(str(text))
    except ValueError:
        return b""
