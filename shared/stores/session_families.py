"""Sessions in Azure Tables: one entity each, changed only over the version that was read (ETag)."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from shared.domain.dataclass_json import from_values, to_values
from shared.domain.errors import Conflict, DependencyUnavailable
from shared.domain.sessions import SessionFamily
from shared.stores.tables import answering, write_making

SESSIONS_TABLE = "sessions"
_NAME = "the session store"


class TableSessionFamilies:
    """`SessionFamilies` in a table.

    Args:
        table: from `open_table`; created when it is missing.
        deadline_s: seconds within which each call is done or fails.
    """

    def __init__(self, table: TableClient, *, deadline_s: float = 5.0) -> None:
        self._table = table
        self._deadline_s = deadline_s

    async def create(self, family: SessionFamily) -> None:
        """Keep a new session.

        Raises:
            DependencyUnavailable: it was not stored, as far as can be known.
        """
        async with answering(_NAME, self._deadline_s):
            await write_making(self._table, lambda: self._table.create_entity(_entity(family)))

    async def get(self, session_id: str) -> tuple[SessionFamily, str] | None:
        """A session with its ETag, or None.

        Raises:
            DependencyUnavailable: the table is away, or holds what is no session.
        """
        async with answering(_NAME, self._deadline_s):
            try:
                entity = await self._table.get_entity(_partition(session_id), session_id)
            except ResourceNotFoundError:
                return None
        try:
            return from_values(SessionFamily, orjson.loads(entity["Document"])), str(entity.metadata["etag"])
        except (ValueError, LookupError):
            raise DependencyUnavailable("a session cannot be read") from None

    async def replace(self, family: SessionFamily, etag: str) -> None:
        """Store a session over the version of the ETag.

        Raises:
            Conflict: another version is there now, or none.
            DependencyUnavailable: it was not stored, as far as can be known.
        """
        async with answering(_NAME, self._deadline_s):
            try:
                await self._table.update_entity(
                    _entity(family), UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
                )
            except (ResourceModifiedError, ResourceNotFoundError):
                raise Conflict("the session was changed meanwhile") from None

    async def sweep(self, now: datetime) -> int:
        """Delete sessions that ended before `now`; returns how many.

        Raises:
            DependencyUnavailable: the table is away.
        """
        ended, count = "Ends lt @now", 0
        async with answering(_NAME, 60.0):
            try:
                async for entity in self._table.query_entities(ended, parameters={"now": now.astimezone(UTC)}):
                    await self._table.delete_entity(entity)
                    count += 1
            except ResourceNotFoundError:
                return count
        return count

    async def all_of(self, tenant_id: str) -> Sequence[tuple[SessionFamily, str]]:
        """Every readable session of a tenant, with its ETag. They last for hours: the whole table is read.

        Raises:
            DependencyUnavailable: the table is away.
        """
        found = []
        async with answering(_NAME, 60.0):
            try:
                async for entity in self._table.list_entities():
                    with contextlib.suppress(ValueError, LookupError):
                        family = from_values(SessionFamily, orjson.loads(entity["Document"]))
                        if family.tenant_id == tenant_id:
                            found.append((family, str(entity.metadata["etag"])))
            except ResourceNotFoundError:
                return ()
        return found

    async def aclose(self) -> None:
        """Close the client."""
        await self._table.close()


class MemorySessionFamilies:
    """`SessionFamilies` in a dictionary; `away` makes every call fail."""

    def __init__(self) -> None:
        self.by_id: dict[str, tuple[SessionFamily, str]] = {}
        self.away = False
        self._version = 0

    async def create(self, family: SessionFamily) -> None:
        """Keep a new session.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        self._put(family)

    async def get(self, session_id: str) -> tuple[SessionFamily, str] | None:
        """A session with its version, or None.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        found = self.by_id.get(session_id)
        return None if found is None else (replace(found[0]), found[1])

    async def replace(self, family: SessionFamily, etag: str) -> None:
        """Store a session over a version.

        Raises:
            Conflict: another version is there now, or none.
            DependencyUnavailable: while `away`.
        """
        self._answer()
        if self.by_id.get(family.id, (None, None))[1] != etag:
            raise Conflict("the session was changed meanwhile")
        self._put(family)

    async def sweep(self, now: datetime) -> int:
        """Delete sessions that ended before `now`.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        ended = [key for key, (family, _) in self.by_id.items() if family.expires_at < now]
        for key in ended:
            del self.by_id[key]
        return len(ended)

    async def all_of(self, tenant_id: str) -> Sequence[tuple[SessionFamily, str]]:
        """Every session of a tenant, with its version.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return [found for found in self.by_id.values() if found[0].tenant_id == tenant_id]

    def _put(self, family: SessionFamily) -> None:
        self._version += 1
        self.by_id[family.id] = (family, str(self._version))

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("the session store does not answer")


def _entity(family: SessionFamily) -> dict[str, Any]:
    return {
        "PartitionKey": _partition(family.id),
        "RowKey": family.id,
        "Document": orjson.dumps(to_values(family)).decode(),
        "Ends": family.expires_at.astimezone(UTC),
    }


def _partition(session_id: str) -> str:
    return session_id[:2]
