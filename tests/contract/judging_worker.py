"""A worker process that judges: ``python -m tests.contract.judging_worker REDIS POSTGRES JOURNAL CAP_USD SEED``.

Real services on the real stores and a provider that answers at once; it has answers judged until its input ends.
"""

import asyncio
import random
import sys
from decimal import Decimal
from pathlib import Path

from shared.domain.judging import JUDGE_SERVICE, JudgingRules, JudgingShare
from shared.domain.replies import Finished, FinishReason, TextDelta, Usage, UsageUpdate
from shared.services.bookkeeping import Bookkeeper
from shared.services.judging import Judge
from shared.services.quality_watch import QualityWatch
from shared.services.reconciling import Reconciler
from shared.services.till import Till
from shared.stores.journal import FileJournal
from shared.stores.memory import MemorySpill
from shared.stores.memory_quality import MemorySentMessages
from shared.stores.postgres.budgets import PostgresBudgetLedger
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.quality import PostgresQuality
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.redis import connect_redis
from shared.stores.redis_budgets import RedisBudgetStore
from shared.stores.system import SystemClock, UuidIds
from shared.telemetry import RecordingTelemetry
from tests.service.routing_doubles import ScriptedProvider, order, service
from tests.unit.routing_builders import deployment, model, policy, registry

SHELF = registry(
    (model("a", quality=0.9, publisher="north"), deployment("a")),
    (model("c", quality=0.5, publisher="south"), deployment("c")),
)


class AlwaysFour(ScriptedProvider):
    """Every judge says four points, and uses as many tokens as chance says."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    async def stream(self, call):
        await asyncio.sleep(self._rng.uniform(0, 0.02))
        yield TextDelta('{"score": 4}')
        yield UsageUpdate(Usage(input_tokens=self._rng.randint(50, 400), output_tokens=self._rng.randint(1, 200)))
        yield Finished(FinishReason.STOP, "stop")


async def main(redis_url: str, dsn: str, journal: str, cap_usd: str, seed: str) -> None:
    """Have as many answers judged as the money allows."""
    rng, clock, telemetry = random.Random(int(seed)), SystemClock(), RecordingTelemetry()
    rules = JudgingRules(shares=(JudgingShare(1.0),), daily_usd=Decimal(cap_usd))
    redis, pool = connect_redis(redis_url), PostgresPool(dsn)
    book = FileJournal(Path(journal))
    routing, writer = service(
        AlwaysFour(rng),
        SHELF,
        policy(judging=rules, budgets=rules.budgets),
        clock=clock,
        store=PostgresRecordStore(pool, deadline_s=20),
        spill=MemorySpill(),
        journal=book,
        telemetry=telemetry,
    )
    money = RedisBudgetStore(redis, clock, gather_s=0.2, timeout_s=5)
    writer._books = books = Bookkeeper(money, telemetry, beat_s=0.1)
    reconciler = Reconciler(money, PostgresBudgetLedger(pool), clock, telemetry)
    shelf = routing._shelf
    routing._till = Till(money, books, reconciler, lambda: shelf.policy, clock, telemetry)
    sent = MemorySentMessages(clock, window_s=600)
    watch = QualityWatch(PostgresQuality(pool), sent, b"k" * 32, clock, telemetry, retry_window_s=600)
    routing._quality = watch
    judge = Judge(routing, shelf, watch, clock, UuidIds(), telemetry, rng)
    watch.judged_by(judge)
    books.start()
    writer.start()
    watch.start()
    judge.start()
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    ids = UuidIds()
    while not told.done():
        await routing.answer(order(clock=clock, request_id=ids.request_id()))
        await asyncio.sleep(0.005)
        judge._paused_until_s.clear()  # the money is to be asked for again and again
    for part in (judge, watch, writer, books):
        await part.aclose()
    print(telemetry.counted("judge_verdicts", outcome="budget"), JUDGE_SERVICE, flush=True)  # noqa: T201 - likewise
    book.close()
    await pool.aclose()
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
