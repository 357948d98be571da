"""Exported files in Azure Blob Storage: written in blocks, seen when whole, read by signed links."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Final

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobSasPermissions, ContentSettings, UserDelegationKey, generate_blob_sas
from azure.storage.blob.aio import BlobClient, BlobServiceClient, ContainerClient

from shared.domain.errors import DependencyUnavailable
from shared.domain.exports import SignedLink

EXPORTS_CONTAINER: Final = "exports"
BLOCK_BYTES: Final = 4 * 2**20
_BYTES_PER_S: Final = 2**20
"""What a slow connection is granted beside the deadline."""
_KEY_LIFE: Final = timedelta(hours=4)
_SKEW: Final = timedelta(minutes=5)
"""Between our clock and the store's."""


class BlobUpload:
    """`ExportUpload` as blocks of one blob; blocks that are never committed are deleted by the store after a week.

    Args:
        blob: where it is kept.
        create_container: makes the container when it is missing.
        deadline_s: seconds within which a call is done or fails; large pieces are given longer.
    """

    def __init__(
        self, blob: BlobClient, create_container: Callable[[], Coroutine[Any, Any, None]], *, deadline_s: float
    ) -> None:
        self._blob = blob
        self._create_container = create_container
        self._deadline_s = deadline_s
        self._blocks: list[str] = []
        self._waiting = bytearray()

    async def add(self, piece: bytes) -> None:
        """Take some bytes.

        Raises:
            DependencyUnavailable: they were not kept; the upload is to be given up.
        """
        self._waiting += piece
        while len(self._waiting) >= BLOCK_BYTES:
            await self._stage(bytes(self._waiting[:BLOCK_BYTES]))
            del self._waiting[:BLOCK_BYTES]

    async def commit(self, *, media_type: str, file_name: str) -> None:
        """Let it be seen, all of it at once.

        Raises:
            DependencyUnavailable: it is not there, as far as can be known.
        """
        # A file without any bytes is a file too.
        if self._waiting or not self._blocks:
            await self._stage(bytes(self._waiting) or b"")
        settings = ContentSettings(
            content_type=media_type,
            content_disposition=f'attachment; filename="{file_name}"',
            cache_control="private, no-store",
        )
        async with _deadline(self._deadline_s):
            await self._blob.commit_block_list(
                [BlobBlock(block_id=block) for block in self._blocks], content_settings=settings
            )

    async def _stage(self, piece: bytes) -> None:
        if not piece:
            async with _deadline(self._deadline_s):
                await self._create_container()
            return
        name = base64.b64encode(f"{len(self._blocks):08}".encode()).decode()
        async with _deadline(self._deadline_s + len(piece) / _BYTES_PER_S):
            try:
                await self._blob.stage_block(name, piece)
            except ResourceNotFoundError:
                await self._create_container()
                await self._blob.stage_block(name, piece)
        self._blocks.append(name)


class AzureExportFiles:
    """`ExportFiles` in one container.

    Args:
        container: from `shared.stores.blobs.open_container`; created when it is missing.
        credential: the identity that the container was opened with; None: with a connection string, whose account key
            signs links then. With an identity it is a user delegation key, for which the identity needs the role
            "Storage Blob Delegator" of the account
            (https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas).
        https_only: whether links are to be refused over plain HTTP.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(
        self,
        container: ContainerClient,
        credential: AsyncTokenCredential | None = None,
        *,
        https_only: bool = True,
        deadline_s: float = 10.0,
    ) -> None:
        self._container = container
        self._credential = credential
        self._https_only = https_only
        self._deadline_s = deadline_s
        self._delegated: tuple[UserDelegationKey, datetime] | None = None

    def upload(self, name: str) -> BlobUpload:
        """A new file; nothing happens before its first bytes."""
        return BlobUpload(self._container.get_blob_client(name), self._create_container, deadline_s=self._deadline_s)

    async def link(self, name: str, *, now: datetime, life_s: float) -> SignedLink:
        """An address that reads one file, and nothing else, for so many seconds.

        Raises:
            DependencyUnavailable: it cannot be signed now.
        """
        ends = now + timedelta(seconds=life_s)
        key = None if self._credential is None else await self._delegation_key(self._credential, now, ends)
        signature = generate_blob_sas(
            str(self._container.account_name),
            self._container.container_name,
            name,
            account_key=None if key else self._container.credential.account_key,
            user_delegation_key=key,
            permission=BlobSasPermissions(read=True),
            # Without a start: one would have to be in the past for clocks that differ.
            expiry=ends,
            protocol="https" if self._https_only else "https,http",
        )
        return SignedLink(f"{self._container.get_blob_client(name).url}?{signature}", ends)

    async def delete(self, name: str) -> None:
        """Forget a file; one that is not there is left alone.

        Raises:
            DependencyUnavailable: the store is away.
        """
        async with _deadline(self._deadline_s):
            with contextlib.suppress(ResourceNotFoundError):
                await self._container.delete_blob(name)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._container.close()

    async def _delegation_key(
        self, credential: AsyncTokenCredential, now: datetime, until: datetime
    ) -> UserDelegationKey:
        """A key of the identity's, kept for some hours; a link never outlives its key."""
        if self._delegated is None or self._delegated[1] < until:
            ends = until + _KEY_LIFE
            account = self._container.url.rpartition("/")[0]
            async with (
                _deadline(self._deadline_s),
                BlobServiceClient(account, credential=credential, retry_total=0) as service,
            ):
                self._delegated = await service.get_user_delegation_key(now - _SKEW, ends), ends
        return self._delegated[0]

    async def _create_container(self) -> None:
        # Another worker may be faster.
        with contextlib.suppress(ResourceExistsError):
            await self._container.create_container()


@contextlib.asynccontextmanager
async def _deadline(deadline_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except (AzureError, TimeoutError):
        raise DependencyUnavailable("the blob service does not answer") from None
