"""The part that watches and judges answers."""

import contextlib
import random
import secrets
from base64 import b64decode

from redis.asyncio import Redis

from shared.config import Settings
from shared.ports import Clock, Ids, Telemetry
from shared.services.judging import Judge
from shared.services.quality_watch import QualityWatch
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.quality import PostgresQuality
from shared.stores.redis_sent import RedisSentMessages

_KEY_BYTES = 32


def build_watch(
    settings: Settings,
    redis: Redis,
    pool: PostgresPool,
    clock: Clock,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> QualityWatch:
    """Who looks at answers, at work."""
    # Without a key that all processes share, each knows the messages that it saw itself.
    key = settings.fingerprint_key
    window_s = settings.retry_window_s
    watch = QualityWatch(
        PostgresQuality(pool),
        RedisSentMessages(redis, clock, window_s=window_s),
        secrets.token_bytes(_KEY_BYTES) if key is None else b64decode(key),
        clock,
        telemetry,
        retry_window_s=window_s,
    )
    watch.start()
    closing.push_async_callback(watch.aclose)
    return watch


def start_judge(
    routing: RoutingService,
    shelf: Shelf,
    watch: QualityWatch,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
    rng: random.Random,
    closing: contextlib.AsyncExitStack,
) -> None:
    """Have answers judged. To be called after the ledger's writer: what the judge asks for is recorded, too."""
    judge = Judge(routing, shelf, watch, clock, ids, telemetry, rng)
    watch.judged_by(judge)
    judge.start()
    closing.push_async_callback(judge.aclose)
