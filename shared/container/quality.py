"""The part that watches and judges answers."""

import secrets
from base64 import b64decode

from shared.container.ground import Ground
from shared.services.judging import Judge
from shared.services.quality_watch import QualityWatch
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.stores.postgres.quality import PostgresQuality
from shared.stores.redis_sent import RedisSentMessages

_KEY_BYTES = 32


def build_watch(ground: Ground) -> QualityWatch:
    """Who looks at answers, at work."""
    # Without a key that all processes share, each knows the messages that it saw itself.
    key = ground.settings.fingerprint_key
    window_s = ground.settings.retry_window_s
    watch = QualityWatch(
        PostgresQuality(ground.pool),
        RedisSentMessages(ground.redis, ground.clock, window_s=window_s),
        secrets.token_bytes(_KEY_BYTES) if key is None else b64decode(key),
        ground.clock,
        ground.telemetry,
        retry_window_s=window_s,
    )
    watch.start()
    return ground.closes(watch)


def start_judge(ground: Ground, routing: RoutingService, shelf: Shelf, watch: QualityWatch) -> None:
    """Have answers judged. To be called after the ledger's writer: what the judge asks for is recorded, too."""
    judge = Judge(routing, shelf, watch, ground.clock, ground.ids, ground.telemetry, ground.rng)
    watch.judged_by(judge)
    judge.start()
    ground.closes(judge)
