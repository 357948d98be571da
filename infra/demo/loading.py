"""Takes the demo's month to the database, through the stores that the router itself writes with, and away again."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from infra.demo.security import events_of
from infra.demo.story import Story
from infra.demo.traffic import BUDGETS, DEMO_TAG, Drawn, Traffic
from shared.domain.models import Registry
from shared.services.rollups import Rollups
from shared.stores.memory import ManualClock
from shared.stores.postgres.feedback import PostgresFeedback
from shared.stores.postgres.maintenance import PostgresMaintenance
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.rollups import PostgresRollups
from shared.stores.postgres.security_events import PostgresSecurityEvents
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry

_BATCH = 500
_DEADLINE_S = 60.0
_ROLLUPS_WITHIN_S = 1_800.0
_RATERS = 4
"""Ratings that are written at the same time."""
_WRITTEN_AFTER = timedelta(seconds=2)
# Written weeks later, the records would all count as late. Rows that were there already have been told.
_ON_TIME = b"""
    UPDATE requests SET created_at = end_time + %(delay)s
    WHERE id = ANY(%(ids)s) AND start_time >= %(since)s AND start_time <= %(until)s
      AND created_at > end_time + interval '1 minute'
"""
_THEIRS = "requests.tenant_id = %(tenant_id)s AND requests.tags @> jsonb_build_object(%(key)s::text, %(value)s::text)"
_FIRST = f"SELECT min(start_time) FROM requests WHERE {_THEIRS}".encode()  # noqa: S608 - constants
_EVENTS = b"SELECT count(*) FROM security_events WHERE tenant_id = %(tenant_id)s AND actor LIKE 'demo:%%'"
_PENDING = b"SELECT count(DISTINCT (granularity, bucket)) FROM rollup_pending"
# In this order: the requests say which ratings and calls are the demo's.
_REMOVE: Mapping[str, bytes] = {
    "hours of rollups to compute anew": f"""
        INSERT INTO rollup_pending (granularity, bucket)
        SELECT DISTINCT 'minute', date_trunc('hour', start_time, 'UTC') FROM requests WHERE {_THEIRS}
    """.encode(),  # noqa: S608 - constants
    "ratings": f"""
        DELETE FROM feedback USING requests
        WHERE feedback.request_id = requests.id AND feedback.tenant_id = requests.tenant_id AND {_THEIRS}
    """.encode(),  # noqa: S608 - constants
    "calls": f"""
        DELETE FROM attempts USING requests
        WHERE request_id = requests.id AND request_start_time = requests.start_time AND {_THEIRS}
    """.encode(),  # noqa: S608 - constants
    "requests": f"DELETE FROM requests WHERE {_THEIRS}".encode(),  # noqa: S608 - constants
    "sums of budgets": b"""
        DELETE FROM budget_spend
        WHERE tenant_id = %(tenant_id)s AND split_part(account, '/', 1) = ANY(%(budgets)s)
    """,
    "security events": b"DELETE FROM security_events WHERE tenant_id = %(tenant_id)s AND actor LIKE 'demo:%%'",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was new, and how many steps the rollups took."""

    requests: int
    ratings: int
    events: int
    steps: int


class Demo:
    """The demo in a database.

    Args:
        dsn: of the database, at the newest schema; the role must own the tables.
        tenant_id: whose traffic it is.
        registry: the models that serve, with their prices.
        tag_keys: tags that rollups are also kept by.
        say: takes a line about what is going on.
    """

    def __init__(
        self, dsn: str, *, tenant_id: str, registry: Registry, tag_keys: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._pool = PostgresPool(dsn, application_name="llm-router-demo", statement_timeout_s=300.0)
        self._tenant_id = tenant_id
        self._registry = registry
        self._tag_keys = tag_keys
        self._say = say

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._pool.aclose()

    async def since(self) -> datetime | None:
        """The hour (UTC) in which the demo that is there begins; None: there is none.

        Raises:
            DependencyUnavailable: the database is away.
        """
        async with self._pool.connection(timeout_s=_DEADLINE_S) as connection:
            row = await (await connection.execute(_FIRST, self._values())).fetchone()
        if row is None or row[0] is None:
            return None
        first: datetime = row[0].astimezone(UTC)
        return first.replace(minute=0, second=0, microsecond=0)

    async def load(self, story: Story, *, requests: int, seed: int, policy_version: str) -> Loaded:
        """Write what is not there yet, and bring the rollups up to date.

        Raises:
            DependencyUnavailable: the database is away; running it again goes on where this ended.
        """
        await PostgresMaintenance(self._pool, ManualClock(story.since)).prepare_partitions()
        traffic = Traffic(
            story,
            self._registry,
            requests=requests,
            seed=seed,
            tenant_id=self._tenant_id,
            policy_version=policy_version,
        )
        new, ratings = await self._write(traffic)
        found = events_of(story, seed=seed, tenant_id=self._tenant_id)
        store = PostgresSecurityEvents(self._pool, deadline_s=_DEADLINE_S)
        before = await self._count(_EVENTS)
        for start in range(0, len(found), _BATCH):
            await store.insert(found[start : start + _BATCH], ())
        events = await self._count(_EVENTS) - before
        return Loaded(new, ratings, events, await self._roll_up())

    async def remove(self) -> dict[str, int]:
        """Take the demo away, and compute the rollups without it. Says how many rows left, by what they are.

        Raises:
            DependencyUnavailable: the database is away; nothing was removed, or all but the rollups is.
        """
        gone = {}
        # As one: the requests say which calls and ratings are the demo's.
        async with self._pool.connection(timeout_s=10 * _DEADLINE_S) as connection, connection.transaction():
            for what, statement in _REMOVE.items():
                gone[what] = (await connection.execute(statement, self._values())).rowcount
        await self._roll_up()
        return gone

    async def _write(self, traffic: Traffic) -> tuple[int, int]:
        """While the database takes a batch, the next one is made."""
        new = ratings = done = 0
        batches = _batches(traffic.hours())
        batch = await asyncio.to_thread(next, batches, None)
        day = None
        while batch is not None:
            writing = asyncio.create_task(self._insert(batch))
            following = await asyncio.to_thread(next, batches, None)
            written, rated = await writing
            new, ratings, done = new + written, ratings + rated, done + len(batch)
            if (today := batch[-1].record.start_time.date()) != day:
                day = today
                self._say(f"  {day}  {done:>9,} requests, {new:,} of them new")
            batch = following
        async with self._pool.connection(timeout_s=5 * _DEADLINE_S) as connection:
            # The planner knows nothing of what has just come, and each row was written twice.
            await connection.execute(b"VACUUM (ANALYZE) requests, attempts, feedback")
        return new, ratings

    async def _insert(self, batch: Sequence[Drawn]) -> tuple[int, int]:
        records = [drawn.record for drawn in batch]
        new = await PostgresRecordStore(self._pool, deadline_s=_DEADLINE_S).insert(records)
        if not new:
            return 0, 0
        values = {
            "delay": _WRITTEN_AFTER,
            "ids": [UUID(record.id) for record in records],
            "since": records[0].start_time,
            "until": records[-1].start_time,
        }
        async with self._pool.connection(timeout_s=_DEADLINE_S) as connection:
            await connection.execute(_ON_TIME, values)
        given = [drawn.feedback for drawn in batch if drawn.feedback is not None]
        store, turn = PostgresFeedback(self._pool, deadline_s=_DEADLINE_S), asyncio.Semaphore(_RATERS)

        async def rate(number: int) -> None:
            async with turn:
                await store.put(given[number])

        await asyncio.gather(*(rate(number) for number in range(len(given))))
        return new, len(given)

    async def _roll_up(self) -> int:
        """As the timer does, until nothing is left. A running router's timer may be at it too: that helps."""
        clock = SystemClock()
        store = PostgresRollups(self._pool, tag_keys=self._tag_keys)
        rollups = Rollups(store, lambda: self._registry, clock, RecordingTelemetry())
        deadline_s, steps = clock.monotonic() + _ROLLUPS_WITHIN_S, 0
        while clock.monotonic() < deadline_s:
            done = await rollups.run()
            steps += done
            left = await self._count(_PENDING)
            if not left:
                break
            self._say(f"  rolling up, {left:,} buckets to go")
            if not done:
                await asyncio.sleep(1.0)  # the router's timer is at it
        return steps

    async def _count(self, statement: bytes) -> int:
        async with self._pool.connection(timeout_s=_DEADLINE_S) as connection:
            row = await (await connection.execute(statement, self._values())).fetchone()
        return 0 if row is None else int(row[0])

    def _values(self) -> dict[str, Any]:
        return {
            "tenant_id": self._tenant_id,
            "key": DEMO_TAG[0],
            "value": DEMO_TAG[1],
            "budgets": [budget.name for budget in BUDGETS],
        }


def _batches(hours: Iterator[list[Drawn]]) -> Iterator[list[Drawn]]:
    waiting = list[Drawn]()
    for hour in hours:
        waiting += hour
        while len(waiting) >= _BATCH:
            yield waiting[:_BATCH]
            waiting = waiting[_BATCH:]
    if waiting:
        yield waiting
