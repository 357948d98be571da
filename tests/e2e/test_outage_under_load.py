"""PostgreSQL is killed under load: every answer is in the ledger once afterwards, and all figures agree with it.

`python -m tests.bench.outage` is the long form: a minute, more load, and the host's own timer.
"""

import time

import pytest

from shared.domain.errors import DependencyUnavailable
from shared.services.rollups import Rollups
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.rollups import PostgresRollups
from shared.stores.registry_files import load_registry
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry
from tests.e2e import outage_truth as truth
from tests.e2e.outage_load import Load, Watch, outage_stack

RATE_PER_S = 20.0
DOWN_S = 10.0
ANSWERS = 60
"""Of the load before and after the outage."""
DEADLINE_S = 90.0
LEDGER_ANSWERS_S = 3.0
SAMPLE = 12


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with outage_stack(tmp_path_factory.mktemp("outage") / "stack") as stack:
        yield stack


async def rolled_up(stack):
    """What the host's timer does each minute, now."""
    pool = PostgresPool(stack.dsn)
    store = PostgresRollups(pool, tag_keys=("team", "feature", "environment"), deadline_s=LEDGER_ANSWERS_S)
    registry = load_registry(stack.registry_directory)
    try:
        await Rollups(store, lambda: registry, SystemClock(), RecordingTelemetry()).run()
    finally:
        await pool.aclose()


def awaited(check):
    assert truth.until(check, DEADLINE_S)


@pytest.mark.timeout(240)
async def test_with_postgres_killed_under_load_nothing_is_lost_and_nothing_counts_twice(stack):
    with Watch(stack) as watch:
        with Load(stack.url, RATE_PER_S) as load:
            awaited(lambda: len(load.sent) >= ANSWERS)
            await rolled_up(stack)
            seen = len(watch.looks)
            awaited(lambda: len(watch.looks) > seen)
            gone_s = time.monotonic()
            stack.postgres.kill()
            with pytest.raises(DependencyUnavailable):
                await rolled_up(stack)
            # A look that began meanwhile has ended, with what it was told.
            awaited(lambda: any(gone_s < look.began_s for look in watch.looks) and time.monotonic() > gone_s + DOWN_S)
            back_s, answered = time.monotonic(), len(load.sent)
            stack.postgres.start()
            awaited(lambda: len(load.sent) >= answered + ANSWERS)
        awaited(lambda: truth.is_settled(stack, load.sent))
        await rolled_up(stack)
        awaited(lambda: truth.is_rolled_up(stack, load.sent))
        seen = len(watch.looks)
        awaited(lambda: len(watch.looks) > seen)
    during = [one for one in load.sent if gone_s < one.due_s < back_s]
    assert len(during) >= ANSWERS
    assert {one.told.status for one in during} >= {200, 422, 503}
    assert truth.ledger_differences(stack, load.sent) == []
    assert truth.money_differences(stack) == []
    assert truth.rollup_differences(stack, load.sent) == []
    assert await truth.chain_differences(stack) == []
    assert truth.receipt_differences(stack, load.sent, sample=SAMPLE) == []
    assert truth.freshness_differences(watch.looks, down_s=gone_s, up_s=back_s) == []
    # It did come by the queue: what was asked in the outage reached the ledger after it.
    assert truth.waited_s(stack)[-1] > LEDGER_ANSWERS_S
