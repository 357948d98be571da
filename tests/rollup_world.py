"""A ledger with rollups, and beside it the records themselves, from which a slow reference computes the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.analytics.sketches import compact
from shared.domain.analytics import Aggregate, AnalyticsQuery, Granularity
from shared.domain.feedback import Feedback, FeedbackForm
from shared.domain.quality_signals import Evidence
from shared.domain.records import RequestRecord
from shared.stores.memory import ManualClock, MemoryRecordStore
from shared.stores.memory_analytics import MemoryAnalytics, MemoryFeedback
from shared.stores.memory_quality import MemoryQuality
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.feedback import PostgresFeedback
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.quality import PostgresQuality
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.rollup_tables import SCORES
from shared.stores.postgres.rollups import PostgresRollups

TIERS = (128_000, 200_000)
TAG_KEYS = ("team", "feature")
SCORE_SUMS = tuple(name for name in SCORES if name.endswith(("_sum", "_squares")))


def feedback(record: RequestRecord, **more: Any) -> Feedback:
    values: dict[str, Any] = {
        "tenant_id": record.tenant_id,
        "service": record.service_name,
        "principal_id": "p",
        "request_id": record.id,
        "score": 1.0,
        "form": FeedbackForm.THUMBS,
        "given_at": record.end_time,
    }
    return Feedback(**values | more)


def comparable(rows: Sequence[Aggregate]) -> list[Aggregate]:
    """Rows as two stores that are both right give them: sketches with each bin once, sums of floats to 9 digits."""

    def rounded(value: float) -> float:
        # Squares of the smallest scores are below what PostgreSQL computes with.
        return float(f"{value:.9g}") if abs(value) > 1e-290 else 0.0

    return [
        replace(
            row,
            error_codes=dict(sorted(row.error_codes.items())),
            latency=compact(row.latency),
            ttft=compact(row.ttft),
            overhead=compact(row.overhead),
            duration_ms=rounded(row.duration_ms),
            **{name: rounded(getattr(row, name)) for name in SCORE_SUMS},
            generation_ms=rounded(row.generation_ms),
        )
        for row in rows
    ]


@dataclass
class RollupWorld:
    """One database, and the twin that it is held against."""

    pool: PostgresPool
    now: datetime
    clock: ManualClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = ManualClock(self.now)
        self.ledger, self.rollups = (
            PostgresRecordStore(self.pool, writer="w"),
            PostgresRollups(self.pool, tag_keys=TAG_KEYS),
        )
        self.analytics, self.feedback = PostgresAnalytics(self.pool), PostgresFeedback(self.pool)
        self.twin_ledger = MemoryRecordStore()
        self.twin_feedback = MemoryFeedback(self.twin_ledger)
        self.quality, self.twin_quality = PostgresQuality(self.pool), MemoryQuality(self.twin_feedback)
        self.twin = MemoryAnalytics(self.twin_ledger, self.twin_feedback, self.clock, TIERS)

    async def clear(self) -> None:
        async with self.pool.connection(timeout_s=10) as connection:
            await connection.execute(
                b"TRUNCATE requests, attempts, receipts, receipt_chains, analytics, analytics_slices, model_performance, "
                b"feedback, rollup_pending, quality_evidence, quality_pending"
            )

    async def arrive(self, records: Sequence[RequestRecord], delay: timedelta = timedelta()) -> None:
        """Records come, so long after the end of their requests."""
        new = [record for record in records if record.id not in self.twin_ledger.by_id]
        await self.ledger.insert(records)
        await self.twin_ledger.insert(records)
        self.twin.arrivals |= {record.id: record.end_time + delay for record in new}
        async with self.pool.connection(timeout_s=10) as connection:
            await connection.execute(
                b"UPDATE requests SET created_at = end_time + %s WHERE id = ANY(%s)",
                (delay, [UUID(record.id) for record in new]),
            )

    async def rate(self, given: Feedback) -> None:
        await self.feedback.put(given)
        await self.twin_feedback.put(given)

    async def find(self, *found: Evidence) -> None:
        """Evidence comes, with or without its record."""
        await self.quality.note(found)
        await self.twin_quality.note(found)

    async def settle(self) -> int:
        """Every score that is due; returns how many requests were looked at."""
        looked = 0
        while step := await self.quality.settle(self.now):
            looked += step
        await self.twin_quality.settle(self.now)
        return looked

    async def roll_up(self) -> int:
        """Everything that is due; returns how many steps that took."""
        await self.rollups.join_feedback(self.now)
        steps = 0
        while await self.rollups.fold(self.now, tiers=TIERS):
            steps += 1
        for granularity in (Granularity.HOUR, Granularity.DAY):
            while await self.rollups.merge(granularity):
                steps += 1
        return steps

    async def agree(self, query: AnalyticsQuery) -> None:
        """The rollups answer what the records themselves do."""
        assert comparable(await self.analytics.rows(query)) == comparable(await self.twin.rows(query))

    async def rows_of(self, table: str) -> list[Any]:
        async with self.pool.connection(timeout_s=10) as connection:
            return await (await connection.execute(f"SELECT * FROM {table} ORDER BY {table}::text".encode())).fetchall()  # noqa: S608 - the tests' own words
