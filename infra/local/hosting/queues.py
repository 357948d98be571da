"""Queue triggers with the semantics of the Azure Storage queue extension.

Messages are taken in batches under a ten-minute lease that is renewed while the function runs. Success deletes.
Failure makes the message visible again after `visibilityTimeout`; at `maxDequeueCount` it is copied to
`<queue>-poison` and then deleted, never the other way round. Delivery is at least once: after a crash the lease runs
out and another worker takes the message.

Source: https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue-trigger
"""

import asyncio
import base64
import binascii
import contextlib
import logging
from collections.abc import Awaitable

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.functions.queue import QueueMessage
from azure.storage.queue import QueueMessage as StoredMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from infra.local.hosting.indexing import QueueFunction
from infra.local.hosting.settings import QueueSettings

logger = logging.getLogger("host.queues")

LEASE_S = 600
"""How long a taken message stays hidden; renewed at half time."""

_FIRST_PAUSE_S = 0.1
_NO_END = -1


class QueueListener:
    """Feeds one function from its queue.

    Args:
        function: what to run.
        service: the account's queues.
        settings: host.json's `extensions.queues`.
        function_timeout_s: longest run; None for no limit.
        lease_s: see `LEASE_S`.
    """

    def __init__(
        self,
        function: QueueFunction,
        service: QueueServiceClient,
        settings: QueueSettings,
        *,
        function_timeout_s: float | None = None,
        lease_s: int = LEASE_S,
    ) -> None:
        self._function = function
        self._queue = service.get_queue_client(function.queue_name)
        self._poison = service.get_queue_client(f"{function.queue_name}-poison")
        self._settings = settings
        self._function_timeout_s = function_timeout_s
        self._lease_s = lease_s
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Take and process messages until `stop`."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            messages = await self._take()
            if self._stopping.is_set():
                # Told to stop while they came: nobody would wait for them now.
                for message in messages:
                    await self._settle(self._hide(message, 0))
            elif messages:
                pause_s = _FIRST_PAUSE_S
                for message in messages:
                    self._running.add(asyncio.create_task(self._process(message)))
                await self._until_below_threshold()
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause_s)
                self._forget_done()
                pause_s = min(pause_s * 2, self._settings.max_polling_interval_s)

    async def stop(self, grace_s: float) -> None:
        """Take no more messages; what runs after the grace period is cancelled and its message released."""
        self._stopping.set()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _take(self) -> list[StoredMessage]:
        pages = self._queue.receive_messages(
            messages_per_page=self._settings.batch_size,
            max_messages=self._settings.batch_size,
            visibility_timeout=self._lease_s,
        ).by_page()
        try:
            page = await anext(pages, None)
            return [] if page is None else [message async for message in page]
        except ResourceNotFoundError:
            await self._create(self._queue)
        except AzureError as error:
            logger.warning("Queue %s cannot be read: %s", self._function.queue_name, type(error).__name__)
        return []

    async def _until_below_threshold(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while len(self._running) > self._settings.new_batch_threshold and not stopping.done():
                await asyncio.wait({*self._running, stopping}, return_when=asyncio.FIRST_COMPLETED)
                self._forget_done()
        finally:
            stopping.cancel()

    def _forget_done(self) -> None:
        self._running = {task for task in self._running if not task.done()}

    async def _process(self, message: StoredMessage) -> None:
        name, count = self._function.name, message.dequeue_count or 1
        if count > self._settings.max_dequeue_count:
            # Every attempt took its worker down, or none could be finished: do not let it happen again.
            await self._settle(self._bury(message))
            return
        try:
            body = _decode(str(message.content), self._settings)
        except ValueError:
            logger.error("A message of queue %s is not base64 and goes to its poison queue", self._function.queue_name)  # noqa: TRY400 - the trace would add nothing
            await self._settle(self._bury(message))
            return
        try:
            await self._invoke(message, body)
        except asyncio.CancelledError:
            await self._settle(self._hide(message, 0))
            raise
        except Exception:
            logger.exception("Function %s failed on attempt %d at message %s", name, count, message.id)
            if count >= self._settings.max_dequeue_count:
                await self._settle(self._bury(message))
            else:
                await self._settle(self._hide(message, self._settings.visibility_timeout_s))
        else:
            await self._settle(self._queue.delete_message(message.id, message.pop_receipt))

    async def _invoke(self, message: StoredMessage, body: bytes) -> None:
        done = asyncio.Event()
        keeper = asyncio.create_task(self._keep_hidden(message, done))
        try:
            async with asyncio.timeout(self._function_timeout_s):
                await self._function.invoke(
                    QueueMessage(
                        id=message.id,
                        body=body,
                        dequeue_count=message.dequeue_count,
                        insertion_time=message.inserted_on,
                        expiration_time=message.expires_on,
                        time_next_visible=message.next_visible_on,
                        pop_receipt=message.pop_receipt,
                    )
                )
        finally:
            # A renewal under way is waited for: its answer carries the receipt that the next call needs.
            done.set()
            await keeper

    async def _keep_hidden(self, message: StoredMessage, done: asyncio.Event) -> None:
        pause_s = self._lease_s / 2
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), pause_s)
                return
            try:
                await self._hide(message, self._lease_s)
                pause_s = self._lease_s / 2
            except ResourceNotFoundError:
                logger.warning("The lease of message %s was lost while %s ran", message.id, self._function.name)
                return
            except AzureError:
                pause_s = max(pause_s / 2, self._lease_s / 20)

    async def _hide(self, message: StoredMessage, seconds: float) -> None:
        """Make a message visible in so many seconds from now; 0 gives it back at once."""
        updated = await self._queue.update_message(message.id, message.pop_receipt, visibility_timeout=int(seconds))
        message.pop_receipt = updated.pop_receipt

    async def _bury(self, message: StoredMessage) -> None:
        text = str(message.content)
        try:
            await self._poison.send_message(text, time_to_live=_NO_END)
        except ResourceNotFoundError:
            await self._create(self._poison)
            await self._poison.send_message(text, time_to_live=_NO_END)
        await self._queue.delete_message(message.id, message.pop_receipt)
        logger.warning(
            "Message %s of queue %s went to its poison queue after %s attempts",
            message.id,
            self._function.queue_name,
            message.dequeue_count,
        )

    async def _settle(self, step: Awaitable[None]) -> None:
        """The last step of a message; when it fails the lease runs out and the message comes back."""
        try:
            await step
        except AzureError as error:
            logger.warning(
                "A message of queue %s could not be settled and will come back: %s",
                self._function.queue_name,
                type(error).__name__,
            )

    async def _create(self, queue: QueueClient) -> None:
        with contextlib.suppress(ResourceExistsError):
            await queue.create_queue()


def _decode(text: str, settings: QueueSettings) -> bytes:
    if not settings.base64:
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("the message text is not base64") from error
