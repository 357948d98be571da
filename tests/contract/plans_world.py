"""Every route and every timer of the real router, on real servers, with each SQL statement noted that they cause."""

import contextvars
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

BACKGROUND = "background"
_EXPLAINED = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_RAW = re.compile(r"(requests|attempts|receipts)_(\d{4}_\d{2}|default)$")
_SOURCE: contextvars.ContextVar[str] = contextvars.ContextVar("source", default=BACKGROUND)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as it was sent, with the values of the first time."""

    text: str
    values: Any = field(compare=False)


@dataclass
class Noted:
    """Statements by what caused them: a route's or a timer's name."""

    by_source: dict[str, set[Statement]] = field(default_factory=dict)

    async def during(self, source: str, work: Awaitable[Any]) -> Any:
        """Notes what is done meanwhile, by tasks that it starts too."""
        token = _SOURCE.set(source)
        try:
            return await work
        finally:
            _SOURCE.reset(token)

    def note(self, query: Any, values: Any, connection: Any) -> None:
        text = query.as_string(connection) if hasattr(query, "as_string") else query
        text = text.decode() if isinstance(text, bytes) else text
        if _EXPLAINED.match(text):
            self.by_source.setdefault(_SOURCE.get(), set()).add(Statement(text, values))


@contextmanager
def noting() -> Iterator[Noted]:
    """Every statement of this process is noted while the block lasts."""
    noted = Noted()
    execute: Callable[..., Awaitable[Any]] = psycopg.AsyncCursor.execute

    async def noting_execute(cursor: Any, query: Any, params: Any = None, **more: Any) -> Any:
        noted.note(query, params, cursor)
        return await execute(cursor, query, params, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.AsyncCursor, "execute", noting_execute)
        yield noted


@dataclass(frozen=True, slots=True)
class Scan:
    """How a plan reads a month of the ledger."""

    relation: str
    node: str
    conditions: str
    """Of the index; empty where none narrows it."""

    @property
    def is_bounded(self) -> bool:
        """Whether an index says which rows."""
        return bool(self.conditions)


def scans_of(plan: dict[str, Any]) -> list[Scan]:
    """The reads of months of the ledger in a plan; writing into one is none."""
    found = []
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable" and _RAW.match(plan["Relation Name"]):
        parts = [plan, *plan.get("Plans", ())]  # a bitmap's condition is its index scan's
        conditions = " ".join(str(part.get("Index Cond", "")) for part in parts).strip()
        found.append(Scan(plan["Relation Name"], plan["Node Type"], conditions))
    for part in plan.get("Plans", ()):
        found += scans_of(part)
    return found
