"""A dispatcher that can be killed at a chosen await: ``python -m tests.contract.notifying_worker``, told what to do by lines.

Each line is a JSON object: ``dsn``, ``url`` of the receiver, ``now`` and ``kill_at`` (0: live). A fork serves each, and dies
by SIGKILL when any of its tasks has been resumed for the `kill_at`-th time. The answer is a line: killed or done.
"""

import asyncio
import json
import os
import random
import signal
import sys
from datetime import datetime

from shared.domain.channels import ChannelKind
from shared.providers.notifying.addresses import AddressGuard
from shared.providers.notifying.outbound import Outbound
from shared.providers.notifying.webhook import WebhookSender
from shared.services.notifying import Dispatcher
from shared.stores.memory import ManualClock
from shared.stores.postgres.notifications import PostgresDeliveries
from shared.stores.postgres.pool import PostgresPool
from shared.telemetry import RecordingTelemetry
from tests.e2e.mortal_worker import Mortal
from tests.notification_builders import SIGNING, StaticSecrets, channel
from tests.unit.routing_builders import policy

CHANNELS = {name: channel(name=name) for name in ("ops", "mail", "desk")}


class Doom:
    """Counts the resumptions of all tasks together."""

    def __init__(self, kill_at):
        self.kill_at, self.steps = kill_at, 0

    def task(self, loop, coroutine, **options):
        doom = self

        class Doomed(Mortal):
            def send(self, value):
                doom.steps += 1
                if doom.steps == doom.kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return self.inner.send(value)

        return asyncio.Task(Doomed(coroutine, 0), loop=loop, **options)


def dispatcher(pool, outbound, now):
    """A dispatcher as the container builds it, for receivers on this machine."""
    clock = ManualClock(now)
    url = {"hook_url": outbound.base, "key_new": SIGNING[0], "key_old": SIGNING[1]}
    sender = WebhookSender(outbound, StaticSecrets(**url), clock)
    known = policy(channels=CHANNELS)
    store = PostgresDeliveries(pool)
    return Dispatcher(
        store, {ChannelKind.WEBHOOK: sender}, lambda: known, clock, RecordingTelemetry(), random.Random(1)
    )


class LocalOutbound(Outbound):
    """Sends to one receiver on this machine."""

    def __init__(self, base):
        super().__init__(ManualClock(), AddressGuard(permits_all=True), permits_plain=True)
        self.base = base


async def serve(order):
    if order["kill_at"]:
        asyncio.get_running_loop().set_task_factory(Doom(order["kill_at"]).task)
    pool, outbound = PostgresPool(order["dsn"]), LocalOutbound(order["url"])
    work = dispatcher(pool, outbound, datetime.fromisoformat(order["now"]))
    # A task of its own, so that its awaits are counted as all others are.
    await asyncio.create_task(work.run())
    await outbound.aclose()
    await pool.aclose()


def main():
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(serve(json.loads(line)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write("killed\n" if killed else "done\n" if status == 0 else f"failed {status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
