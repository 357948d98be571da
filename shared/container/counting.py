"""The parts that count: requests, money, and what the ledger comes to."""

from dataclasses import dataclass

from shared.container.ground import Ground
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
from shared.stores.postgres.quality import PostgresQuality
from shared.stores.postgres.rollups import PostgresRollups
from shared.stores.redis_budgets import RedisBudgetStore
from shared.stores.redis_limits import RedisLimitStore


def build_insight(ground: Ground, shelf: Shelf) -> Insight:
    """Analytics and feedback, on connections of their own."""
    # A pool of its own: rolling up hours after an outage must not hold up the ledger.
    pool = ground.pool_for("analytics", max_size=3)
    settings, clock, telemetry = ground.settings, ground.clock, ground.telemetry
    rollups = PostgresRollups(pool, tag_keys=settings.analytics_tags)
    return Insight(
        Analytics(PostgresAnalytics(pool), lambda: shelf.registry, settings.former_models),
        FeedbackDesk(PostgresFeedback(pool), lambda: shelf.policy, telemetry),
        Rollups(rollups, lambda: shelf.registry, clock, telemetry),
        QualityScores(PostgresQuality(pool), PostgresAnalytics(pool), clock),
    )


@dataclass(frozen=True, slots=True)
class Counting:
    """What counts requests and money for all processes."""

    limits: Limits
    books: Bookkeeper
    reconciler: Reconciler
    till: Till


def build_counting(ground: Ground, shelf: Shelf) -> Counting:
    """Rate limits and budgets, at work. To be called before the ledger's writer: its last records are booked too."""
    clock, telemetry = ground.clock, ground.telemetry
    limits = Limits(RedisLimitStore(ground.redis, clock), lambda: shelf.policy, clock, telemetry)
    money = RedisBudgetStore(ground.redis, clock)
    books = Bookkeeper(money, telemetry)
    reconciler = Reconciler(money, PostgresBudgetLedger(ground.pool), clock, telemetry)
    till = Till(money, books, reconciler, lambda: shelf.policy, clock, telemetry)
    limits.start()
    ground.closes(limits)
    books.start()
    ground.closes(books)
    return Counting(limits, books, reconciler, till)
