"""Tasks in an Azure Storage queue, one to a message; a queue-triggered function takes them."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Generic, TypeVar

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient

from shared.domain.documents import IngestionTask
from shared.domain.errors import DependencyUnavailable
from shared.domain.exports import ExportTask

INGESTION_QUEUE = "rag-ingest"
EXPORT_QUEUE = "exports"
_LIFE_S = 7 * 24 * 3600
"""What is to be done is in the database: a task that is lost is found missing and made again."""
_AT_ONCE = 8

T = TypeVar("T", IngestionTask, ExportTask)


class StorageTaskQueue(Generic[T]):
    """`IngestionQueue` and `ExportQueue` on a storage queue.

    Args:
        queue: from `shared.stores.queue_spill.open_queue`; created on the first put when it is missing.
        deadline_s: seconds within which a put is done or fails.
    """

    def __init__(self, queue: QueueClient, *, deadline_s: float = 10.0) -> None:
        self._queue = queue
        self._deadline_s = deadline_s

    async def put(self, tasks: Sequence[T], *, delay_s: int = 0) -> None:
        """Enqueue tasks, one to a message; at least once.

        Raises:
            DependencyUnavailable: nothing, or only a part, was enqueued; putting again is safe.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    await self._send(tasks[:1], delay_s)
                except ResourceNotFoundError:
                    await self._create_queue()
                    await self._send(tasks[:1], delay_s)
                for start in range(1, len(tasks), _AT_ONCE):
                    await self._send(tasks[start : start + _AT_ONCE], delay_s)
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("the queue service does not answer") from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._queue.close()

    async def _send(self, tasks: Sequence[T], delay_s: int) -> None:
        sent = (
            self._queue.send_message(json.dumps(asdict(task)), visibility_timeout=delay_s, time_to_live=_LIFE_S)
            for task in tasks
        )
        # All are waited for, so that none goes on after a failure of another was reported.
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _create_queue(self) -> None:
        try:
            await self._queue.create_queue()
        except ResourceExistsError:
            # Another worker was faster.
            return


StorageIngestionQueue = StorageTaskQueue[IngestionTask]
StorageExportQueue = StorageTaskQueue[ExportTask]
