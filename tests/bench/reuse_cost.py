"""What looking for a reusable answer costs a request: ``python tests/bench/reuse_cost.py``.

Starts a Redis of its own and looks up misses, hits and semantic hits through the real service, one after the other.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from infra.local import services
from infra.local.environment import Directories, Ports
from shared.domain.caching import CachePolicy
from shared.domain.records import RequestStatus
from shared.domain.replies import ReplyBuilder
from shared.services.ledger_entry import opening
from shared.services.reuse import AnswerReuse, SentenceEncoder
from shared.stores.quality_artefact import load_quality_model
from shared.stores.redis import connect_redis
from shared.stores.redis_answers import RedisAnswerCache
from shared.stores.sealing import Seal
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry
from tests.service.routing_doubles import ANSWER, order
from tests.service.routing_world import World

_ROUNDS = 2_000
RULES = CachePolicy(ttl_s=600, semantic=True)


async def timed(reuse, order_, decision, expected):
    """Milliseconds of each look-up."""
    took = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        lookup = await reuse.find(order_, decision, RULES)
        took.append(1000 * (time.perf_counter() - started))
        if lookup.outcome.value != expected:
            sys.exit(f"expected {expected}, got {lookup.outcome} {lookup.reason}")
    return took


async def main():
    """Print p50 and p99 of each kind of look-up."""
    clock, world = SystemClock(), World()
    directories = Directories(Path(tempfile.mkdtemp()))
    server = services.Redis(directories.redis, directories.logs, Ports.free().redis)
    server.start()
    try:
        async with connect_redis(server.url, timeout_s=5) as redis:
            encoder = SentenceEncoder.from_quality_model(load_quality_model())
            for name, seal in (("plain", None), ("sealed", Seal(b"k" * 32))):
                cache = RedisAnswerCache(redis, clock, seal, timeout_s=5)
                reuse = AnswerReuse(cache, clock, RecordingTelemetry(), encoder)
                await redis.flushall()
                await measure(name, reuse, world, clock)
    finally:
        server.stop()


async def measure(name, reuse, world, clock):
    """One table."""
    asked = order("How do I reset my password?", clock=clock)
    near = order("Hello, how can I reset my password?", clock=clock)
    decision = world.service.decide(asked)
    rows = [("miss", await timed(reuse, asked, decision, "miss"))]
    lookup = await reuse.find(asked, decision, RULES)
    record = opening(asked, decision.features, clock.now())
    chosen = decision.chosen
    record = replace(
        record,
        status=RequestStatus.SUCCESS,
        model_used=chosen.profile.id,
        deployment_used=chosen.deployment.id,
    )
    reuse.keep(lookup, ReplyBuilder(chosen.profile.id).extend(ANSWER).build(), record)
    await reuse.settled()
    rows.append(("hit", await timed(reuse, asked, decision, "hit")))
    rows.append(("semantic_hit", await timed(reuse, near, decision, "semantic_hit")))
    for kind, took in rows:
        ordered = sorted(took)
        print(
            f"{name:7} {kind:13} p50 {statistics.median(ordered):6.3f} ms   p99 {ordered[int(0.99 * _ROUNDS)]:6.3f} ms"
        )


if __name__ == "__main__":
    asyncio.run(main())
