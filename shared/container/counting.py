"""The parts that count: requests, money, and what the ledger comes to."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.config import Settings
from shared.domain.policy import Policy
from shared.ports import (
    Clock,
    Telemetry,
)
from shared.services.analytics import Analytics
from shared.services.bookkeeping import Bookkeeper
from shared.services.feedback import FeedbackDesk
from shared.services.insight import Insight
from shared.services.limits import Limits
from shared.services.quality_scores import QualityScores
from shared.services.reconciling import Reconciler
from shared.services.rollups import Rollups
from shared.services.shelf import Shelf
from shared.services.till import Till
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.budgets import PostgresBudgetLedger
from shared.stores.postgres.feedback import PostgresFeedback
from shared.stores.postgres.pool import PasswordSource, PostgresPool
from shared.stores.postgres.quality import PostgresQuality
from shared.stores.postgres.rollups import PostgresRollups
from shared.stores.redis_budgets import RedisBudgetStore
from shared.stores.redis_limits import RedisLimitStore


def build_insight(
    settings: Settings,
    password: PasswordSource | None,
    shelf: Shelf,
    clock: Clock,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> Insight:
    """Analytics and feedback, on connections of their own."""
    # A pool of its own: rolling up hours after an outage must not hold up the ledger.
    pool = PostgresPool(
        settings.postgres_dsn, password_source=password, application_name="llm-router-analytics", max_size=3
    )
    closing.push_async_callback(pool.aclose)
    rollups = PostgresRollups(pool, tag_keys=settings.analytics_tags)
    return Insight(
        Analytics(PostgresAnalytics(pool), lambda: shelf.registry, settings.former_models),
        FeedbackDesk(PostgresFeedback(pool), lambda: shelf.policy, telemetry),
        Rollups(rollups, lambda: shelf.registry, clock, telemetry),
        QualityScores(PostgresQuality(pool), PostgresAnalytics(pool), clock),
    )


@dataclass(frozen=True, slots=True)
class _Counting:
    """What counts requests and money for all processes."""

    limits: Limits
    books: Bookkeeper
    reconciler: Reconciler
    till: Till


def build_counting(
    redis: Redis,
    pool: PostgresPool,
    policy: Callable[[], Policy],
    clock: Clock,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> _Counting:
    """Rate limits and budgets, at work. To be called before the ledger's writer: its last records are booked too."""
    limits = Limits(RedisLimitStore(redis, clock), policy, clock, telemetry)
    money = RedisBudgetStore(redis, clock)
    books = Bookkeeper(money, telemetry)
    reconciler = Reconciler(money, PostgresBudgetLedger(pool), clock, telemetry)
    limits.start()
    closing.push_async_callback(limits.aclose)
    books.start()
    closing.push_async_callback(books.aclose)
    return _Counting(limits, books, reconciler, Till(money, books, reconciler, policy, clock, telemetry))
