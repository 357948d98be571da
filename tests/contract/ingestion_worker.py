"""One worker process of `test_ingestion_faults`: takes tasks from the queue as the Functions host does, but quicker."""

import asyncio
import contextlib
import json
import os
import sys

from azure.core.exceptions import AzureError

from functions._wire.rag import task_of
from shared import container
from shared.config import Settings
from shared.domain.errors import RouterError
from shared.services.ingestion_work import IngestionWork
from shared.stores.ingestion_queue import INGESTION_QUEUE
from shared.stores.queue_spill import open_queue

LEASE_S = 4.0
HIDDEN_S = 6
POISON_AFTER = 5


async def serve(work, queue):
    """Takes and does tasks until it is killed."""
    while True:
        with contextlib.suppress(AzureError, RouterError):
            await work.requeue_stuck()
        messages = []
        with contextlib.suppress(AzureError):
            messages = [
                message
                async for message in queue.receive_messages(
                    messages_per_page=8, max_messages=8, visibility_timeout=HIDDEN_S
                )
            ]
        await asyncio.gather(*(settle(work, queue, message) for message in messages))
        await asyncio.sleep(0.05)


async def settle(work, queue, message):
    """Does one task; one that fails comes back by itself, and is taken back after some times."""
    task = task_of(message.content.encode())
    with contextlib.suppress(AzureError, RouterError):
        if message.dequeue_count > POISON_AFTER:
            await work.bury(task)
        else:
            await work.do(task)
        await queue.delete_message(message)


async def main():
    settings = Settings.from_env({**os.environ, **json.loads(sys.argv[1])})
    built = await container.build(settings)
    usual = built.ingestion.work
    work = IngestionWork(usual._shop, built.clock, built.ids, built.telemetry, delays_s=(1, 2, 4, 8), lease_s=LEASE_S)
    async with open_queue(INGESTION_QUEUE, connection_string=settings.storage_connection_string) as queue:
        print("ready", flush=True)  # noqa: T201 - what the test waits for
        await serve(work, queue)


if __name__ == "__main__":
    asyncio.run(main())
