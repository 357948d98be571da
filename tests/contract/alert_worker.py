"""A process that makes one evaluation step and is killed at a chosen await of it, told by lines what to do.

``python -m tests.contract.alert_worker DSN``. Each line is a JSON object: ``now`` and ``kill_at`` (0: live). The code is
imported once; a fork makes the step and dies by SIGKILL when it has been resumed for the `kill_at`-th time. The answer is
a line: ``killed``, or the ``steps`` that it took.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import datetime

from shared.services.alert_evidence import EvidenceReader
from shared.services.alerting import AlertEvaluator
from shared.stores.memory import ManualClock
from shared.stores.postgres.alerts import PostgresAlerts
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.pool import PostgresPool
from shared.telemetry import RecordingTelemetry
from tests.alert_world import TENANT


class Mortal(Coroutine):
    """A coroutine whose resumptions are counted, and whose process ends with one of them."""

    def __init__(self, inner, kill_at):
        self.inner, self.kill_at, self.steps = inner, kill_at, 0

    def send(self, value):
        self.steps += 1
        if self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.send(value)

    def throw(self, *error):
        return self.inner.throw(*error)

    def close(self):
        return self.inner.close()

    def __await__(self):
        return self.inner.__await__()


async def step(dsn, order):
    """One evaluation, as the timer does it."""
    pool = PostgresPool(dsn, max_size=2)
    clock = ManualClock(datetime.fromisoformat(order["now"]))
    evidence = EvidenceReader(PostgresAnalytics(pool), lambda: (), ())
    channels = ("ops", "chat")
    evaluator = AlertEvaluator(PostgresAlerts(pool), evidence, lambda _: channels, clock, RecordingTelemetry())
    mortal = Mortal(evaluator.evaluate(TENANT), order["kill_at"])
    await asyncio.create_task(mortal)
    await pool.aclose()
    return {"steps": mortal.steps}


def main():
    dsn = sys.argv[1]
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            outcome = asyncio.run(step(dsn, json.loads(line)))
            sys.stdout.write(f"{json.dumps(outcome)}\n")
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            sys.stdout.write('{"killed": true}\n')
            sys.stdout.flush()
        elif status:
            sys.stdout.write('{"failed": true}\n')
            sys.stdout.flush()


if __name__ == "__main__":
    main()
