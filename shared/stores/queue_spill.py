"""Request records in an Azure Storage queue while the ledger is away; a queue-triggered function inserts them later."""

import asyncio
from collections.abc import Sequence

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import TextBase64DecodePolicy, TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from shared.domain.errors import DependencyUnavailable
from shared.domain.record_bounds import storable
from shared.domain.record_codec import encode_within
from shared.domain.records import RequestRecord
from shared.ports import Telemetry
from shared.stores.azure_transport import TimedTransport

REQUEST_LOG_QUEUE = "request-log"
_API_VERSION = "2026-06-06"
"""Of the Queue service; set so that a newer SDK does not ask for one that the local emulator does not know yet."""
_NEVER_EXPIRES = -1
"""Messages otherwise vanish after seven days, and money facts with them."""


def open_queue(
    name: str,
    *,
    connection_string: str | None = None,
    account_name: str | None = None,
    credential: AsyncTokenCredential | None = None,
    endpoint_suffix: str = "core.windows.net",
    telemetry: Telemetry | None = None,
) -> QueueClient:
    """A client of one queue for the life of a worker process; it connects on first use, and `close` closes it.

    Messages are Base64 text, as the Functions host expects them. Nothing is retried here: the callers have deadlines.

    Args:
        name: of the queue; it need not exist.
        connection_string: of the storage account; or instead of it
        account_name: of the storage account, with
        credential: an identity that may write to it ("Storage Queue Data Contributor").
        endpoint_suffix: of the cloud.
        telemetry: hears how long requests take and how they end; None: nobody does.

    Raises:
        ValueError: neither a connection string nor an account with a credential, or one that cannot be read.
    """
    transport = TimedTransport(telemetry, "queues")
    if connection_string:
        return QueueClient.from_connection_string(
            connection_string,
            name,
            api_version=_API_VERSION,
            message_encode_policy=TextBase64EncodePolicy(),
            message_decode_policy=TextBase64DecodePolicy(),
            retry_total=0,
            transport=transport,
        )
    if not account_name or credential is None:
        raise ValueError("a queue needs a connection string, or an account name and a credential")
    return QueueClient(
        f"https://{account_name}.queue.{endpoint_suffix}",
        name,
        credential=credential,
        api_version=_API_VERSION,
        message_encode_policy=TextBase64EncodePolicy(),
        message_decode_policy=TextBase64DecodePolicy(),
        retry_total=0,
        transport=transport,
    )


class StorageQueueSpill:
    """`RecordSpill` on a storage queue.

    Args:
        queue: from `open_queue`; created on the first put when it is missing.
        deadline_s: seconds within which a put is done or fails.
    """

    def __init__(self, queue: QueueClient, *, deadline_s: float = 5.0) -> None:
        self._queue = queue
        self._deadline_s = deadline_s

    async def put(self, records: Sequence[RequestRecord]) -> None:
        """Enqueue records, many to a message; at least once.

        Raises:
            DependencyUnavailable: nothing, or only a part, was enqueued; putting again is safe.
            ValueError: a record is not well made, or longer than a message whatever is mended (`storable`); nothing was
                enqueued.
        """
        documents = encode_within([storable(record) for record in records])
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    await self._send(documents)
                except ResourceNotFoundError:
                    await self._create_queue()
                    await self._send(documents)
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("the queue service does not answer") from None

    async def ask(self, timeout_s: float) -> None:
        """Return when the queue service answers within `timeout_s` seconds.

        Raises:
            DependencyUnavailable: it does not, or it refuses our identity.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._queue.get_queue_properties()
        except ResourceNotFoundError:
            return
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("the queue service does not answer") from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._queue.close()

    async def _send(self, documents: Sequence[str]) -> None:
        for document in documents:
            await self._queue.send_message(document, time_to_live=_NEVER_EXPIRES)

    async def _create_queue(self) -> None:
        try:
            await self._queue.create_queue()
        except ResourceExistsError:
            # Another worker was faster.
            return


class QueueProbe:
    """`Probe` of the spill's queue. One that is missing is made when it is needed, so that is an answer too.

    Args:
        spill: whose queue is asked.
        required: whether the router must not take requests without it; by default not, it only covers for the ledger.
        timeout_s: seconds after which no answer is the answer.
    """

    name = "queue"

    def __init__(self, spill: StorageQueueSpill, *, required: bool = False, timeout_s: float = 1.0) -> None:
        self._spill = spill
        self.required = required
        self._timeout_s = timeout_s

    async def check(self) -> None:
        """Return when it answers.

        Raises:
            DependencyUnavailable: it does not, or it refuses our identity.
        """
        await self._spill.ask(self._timeout_s)
