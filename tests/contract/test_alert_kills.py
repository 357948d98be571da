"""A process killed at every await of an evaluation step, and several at once: nothing is lost, nothing is doubled."""

import asyncio
import json
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from infra.local.environment import REPOSITORY
from shared.domain.alerts import RuleProgress, Standing
from shared.domain.analytics import Dimension
from shared.services.alert_evidence import EvidenceReader
from shared.services.alerting import AlertEvaluator
from shared.stores.memory import ManualClock
from shared.stores.postgres.alerts import PostgresAlerts
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.pool import PostgresPool
from shared.telemetry import RecordingTelemetry
from tests.alert_world import NOON, TENANT, AlertWorld, requests, rule
from tests.rollup_world import RollupWorld

ANSWER_S = 60
MOST_STEPS = 300
TABLES = b"TRUNCATE alert_rules, alert_progress, alert_incidents, alert_silences, notifications"


class Worker:
    """The process that forks mortal ones."""

    def __init__(self, dsn, log):
        self._log = log
        self._errors = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.alert_worker", dsn],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def step(self, now, kill_at=0):
        self._process.stdin.write(json.dumps({"now": now.isoformat(), "kill_at": kill_at}) + "\n")
        self._process.stdin.flush()
        watch = threading.Timer(ANSWER_S, self._process.kill)
        watch.start()
        line = self._process.stdout.readline()
        watch.cancel()
        assert line, self._log.read_text()[-3000:]
        answer = json.loads(line)
        assert "failed" not in answer, self._log.read_text()[-3000:]
        return answer

    def stop(self):
        with self._process:
            self._process.stdin.close()
            self._process.wait(ANSWER_S)
        self._errors.close()


@pytest.fixture(scope="module")
async def pool(postgres_dsn):
    pool = PostgresPool(postgres_dsn, max_size=4)
    yield pool
    await pool.aclose()


@pytest.fixture
def worker(postgres_dsn, tmp_path):
    worker = Worker(postgres_dsn, tmp_path / "worker.log")
    yield worker
    worker.stop()


async def outage(pool):
    """Three services of which two fail from noon on, for two minutes; a rule on it with two channels."""
    world = RollupWorld(pool, NOON + timedelta(hours=1))
    await world.clear()
    async with pool.connection(timeout_s=10) as connection:
        await connection.execute(TABLES)
    for minute in range(5):
        at, bad = NOON + timedelta(minutes=minute), 2 if minute in (1, 2) else 0
        for service, failures in (("a", bad), ("b", bad), ("c", 0)):
            await world.arrive(requests(at, 2, failures, service_name=service))
    await world.roll_up()
    # The rollups' own freshness is the real time, at which all of this is long past.
    store, twin = PostgresAlerts(pool), AlertWorld()
    await twin.keep(rule(window_s=60, group_by=(Dimension.SERVICE,), channels=("ops", "chat")))
    for one in twin.store.kept_rules.values():
        assert await store.put_rule(replace(one, changed_at=NOON), most=99)
    async with store.step(TENANT, NOON) as step:
        await step.write(
            progress=[RuleProgress("rule-1", NOON + timedelta(minutes=1), Standing.CURRENT)],
            incidents=(),
            dropped=(),
            notifications=(),
        )
    return store


def told(dsn):
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT occasion, channel, \"group\" ->> 'service' FROM notifications ORDER BY position"
        ).fetchall()
    return [(occasion, channel, service) for occasion, channel, service in rows]


def at(minute):
    """When the window that ends with this minute past noon is looked at."""
    return NOON + timedelta(minutes=minute + 2, seconds=40)


BEGUN = sorted([("firing", channel, service) for channel in ("ops", "chat") for service in ("a", "b")])
ENDED = sorted([("resolved", channel, service) for _, channel, service in BEGUN])


async def test_killed_at_every_await_and_run_again_each_is_told_once(pool, worker, postgres_dsn):
    await outage(pool)
    killed = 0
    # First the step in which incidents begin, then the one in which they end.
    for minute, expected in ((1, BEGUN), (3, sorted(BEGUN + ENDED))):
        before = sorted(told(postgres_dsn))
        for kill_at in range(1, MOST_STEPS):
            outcome = worker.step(at(minute), kill_at)
            now = sorted(told(postgres_dsn))
            # All of the step or nothing of it.
            assert now in (before, expected)
            if "killed" not in outcome:
                break
            killed += 1
        assert sorted(told(postgres_dsn)) == expected
        worker.step(at(minute))
        assert sorted(told(postgres_dsn)) == expected
    assert killed > 20


async def test_several_that_evaluate_at_once_tell_once(pool, postgres_dsn):
    store = await outage(pool)
    evidence = EvidenceReader(PostgresAnalytics(pool), lambda: (), ())
    evaluators = [
        AlertEvaluator(store, evidence, lambda _: ("ops", "chat"), ManualClock(at(1)), RecordingTelemetry())
        for _ in range(4)
    ]
    counts = await asyncio.gather(*(one.evaluate(TENANT) for one in evaluators))
    assert sum(counts) == len(BEGUN)
    assert sorted(told(postgres_dsn)) == BEGUN


async def test_a_late_run_tells_once_of_what_lasts(pool, postgres_dsn):
    store = await outage(pool)
    evidence = EvidenceReader(PostgresAnalytics(pool), lambda: (), ())
    clock = ManualClock(at(5))
    await AlertEvaluator(store, evidence, lambda _: ("ops", "chat"), clock, RecordingTelemetry()).run()
    assert told(postgres_dsn) == []
    async with pool.connection(timeout_s=10) as connection:
        rows = await (await connection.execute(b"SELECT state, started_at FROM alert_incidents")).fetchall()
    assert rows == [("resolved", NOON + timedelta(minutes=2))] * 2
