"""Azure Blob Storage: documents that wait to be ingested, by name, in one container."""

import asyncio
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from shared.domain.errors import DependencyUnavailable, NotFound, RequestTooLarge
from shared.ports import Telemetry
from shared.stores.azure_transport import TimedTransport

INGESTION_CONTAINER = "rag-ingest"
"""Bytes between their arrival and their publication; nothing here outlives its document's version."""
INBOX_CONTAINER = "rag-inbox"
"""Where a tenant's services put files too large for a request, each below the tenant's own folder."""
_TIMEOUT_S = 10
_BLOCK_BYTES = 2**20
"""What is written in one piece: the event loop waits for it."""
_BLOCKS_AT_ONCE = 4
_BYTES_PER_S = 2**20
"""What a slow connection is granted beside the deadline."""


def open_container(
    name: str,
    *,
    connection_string: str | None = None,
    account_name: str | None = None,
    credential: AsyncTokenCredential | None = None,
    endpoint_suffix: str = "core.windows.net",
    telemetry: Telemetry | None = None,
) -> ContainerClient:
    """A client of one container for the life of a worker process; it connects on first use, and `close` closes it.

    Nothing is retried here: the callers have deadlines.

    Args:
        name: of the container; it need not exist.
        connection_string: of the storage account; or instead of it
        account_name: of the storage account, with
        credential: an identity that may write to it ("Storage Blob Data Contributor").
        endpoint_suffix: of the cloud.
        telemetry: hears how long requests take and how they end; None: nobody does.

    Raises:
        ValueError: neither a connection string nor an account with a credential, or one that cannot be read.
    """
    limits: dict[str, Any] = {
        "retry_total": 0,
        "connection_timeout": _TIMEOUT_S,
        "read_timeout": _TIMEOUT_S,
        "max_single_put_size": _BLOCK_BYTES,
        "max_block_size": _BLOCK_BYTES,
    }
    limits["transport"] = TimedTransport(telemetry, "blobs", **limits)
    if connection_string:
        return ContainerClient.from_connection_string(connection_string, name, **limits)
    if not account_name or credential is None:
        raise ValueError("a container needs a connection string, or an account name and a credential")
    return ContainerClient(f"https://{account_name}.blob.{endpoint_suffix}", name, credential=credential, **limits)


class AzureBlobStore:
    """`BlobStore` on a container.

    Args:
        container: from `open_container`; created on the first put when it is missing.
        deadline_s: seconds within which a call is done or fails; large contents are given longer.
    """

    def __init__(self, container: ContainerClient, *, deadline_s: float = 10.0) -> None:
        self._container = container
        self._deadline_s = deadline_s

    async def put(self, name: str, content: bytes) -> None:
        """Keep bytes under a name; what is there is replaced.

        Raises:
            DependencyUnavailable: they were not kept, as far as can be known; putting again is safe.
        """
        try:
            async with asyncio.timeout(self._deadline_s + len(content) / _BYTES_PER_S):
                try:
                    await self._upload(name, content)
                except ResourceNotFoundError:
                    await self._create_container()
                    await self._upload(name, content)
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("the blob service does not answer") from None

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        """The bytes under a name.

        Raises:
            NotFound: there are none.
            RequestTooLarge: there are more than `max_bytes`; they were not read.
            DependencyUnavailable: the store is away.
        """
        try:
            async with asyncio.timeout(self._deadline_s + max_bytes / _BYTES_PER_S):
                client = self._container.get_blob_client(name)
                facts = await client.get_blob_properties()
                if facts.size > max_bytes:
                    raise RequestTooLarge(f"the blob is larger than {max_bytes} bytes")
                # Only what was measured: somebody may replace it meanwhile.
                stream = await client.download_blob(etag=facts.etag, match_condition=MatchConditions.IfNotModified)
                return await stream.readall()
        except ResourceNotFoundError:
            raise NotFound("there is no such blob") from None
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("the blob service does not answer") from None

    async def delete(self, name: str) -> None:
        """Forget a name; one that is not there is left alone.

        Raises:
            DependencyUnavailable: the store is away.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._container.delete_blob(name)
        except ResourceNotFoundError:
            return
        except (AzureError, TimeoutError):
            raise DependencyUnavailable("the blob service does not answer") from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._container.close()

    async def _upload(self, name: str, content: bytes) -> None:
        await self._container.upload_blob(name, content, overwrite=True, max_concurrency=_BLOCKS_AT_ONCE)

    async def _create_container(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            # Another worker was faster.
            return
