"""The part that walks: chooses a model, calls it, and records what came of it."""

import functools
from dataclasses import dataclass

from shared.container.content import build_content
from shared.container.ground import Ground
from shared.container.ledger import Ledger
from shared.container.models import Models
from shared.container.quality import build_watch
from shared.services.content_keeping import ContentKeeper
from shared.services.quality_watch import QualityWatch
from shared.services.reuse import AnswerReuse
from shared.services.routing import RoutingService
from shared.stores.redis import connect_redis
from shared.stores.redis_answers import TIMEOUT_S as CACHE_TIMEOUT_S
from shared.stores.redis_answers import RedisAnswerCache
from shared.stores.sealing import Seal


@dataclass(frozen=True, slots=True)
class Walk:
    """The walks, and what goes along with them.

    Attributes:
        routing: over the models that give answers.
        embeddings: the same walk for requests for vectors, over the embedding models.
        rankings: the same for requests to rank passages, over the ranking models.
        cache: answers that may be given again.
        content: keeps what was asked and answered, where a service opted in; at work.
        watch: looks at answers; at work.
    """

    routing: RoutingService
    embeddings: RoutingService
    rankings: RoutingService
    cache: RedisAnswerCache
    content: ContentKeeper
    watch: QualityWatch


def build_walk(ground: Ground, models: Models, ledger: Ledger) -> Walk:
    """The walks, recorded in the ledger.

    Raises:
        ValueError: the policy has content kept, and no key to seal it is configured.
    """
    cache = _answer_cache(ground)
    reuse = ground.closes(AnswerReuse(cache, ground.clock, ground.telemetry, models.encoder))
    content = build_content(ground, models.shelf)
    watch = build_watch(ground)
    over = functools.partial(
        RoutingService,
        attempts=models.attempts,
        providers=models.providers,
        writer=ledger.records,
        clock=ground.clock,
        telemetry=ground.telemetry,
        rng=ground.rng,
        keeper=ledger.keeper,
        till=ledger.counts.till,
    )
    return Walk(
        routing=over(models.shelf, reuse=reuse, quality=watch, content=content),
        embeddings=over(models.vectors),
        rankings=over(models.rankings),
        cache=cache,
        content=content,
        watch=watch,
    )


def _answer_cache(ground: Ground) -> RedisAnswerCache:
    settings = ground.settings
    # A pool of its own: a large answer under way must not hold up limits and budgets.
    url = settings.cache_redis_url or settings.redis_url
    redis = ground.closes(connect_redis(url, timeout_s=CACHE_TIMEOUT_S, telemetry=ground.telemetry))
    seal = None if settings.cache_key is None else Seal.from_setting(settings.cache_key)
    return RedisAnswerCache(redis, ground.clock, seal)
