"""Azure Tables: how a table is opened, made on its first write, and waited for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.data.tables.aio import TableClient

from shared.domain.errors import DependencyUnavailable
from shared.ports import Telemetry
from shared.stores.azure_transport import TimedTransport

_TIMEOUT_S = 5
_NOT_FOUND = 404


def open_table(
    name: str,
    *,
    connection_string: str | None = None,
    account_name: str | None = None,
    credential: AsyncTokenCredential | None = None,
    endpoint_suffix: str = "core.windows.net",
    telemetry: Telemetry | None = None,
) -> TableClient:
    """A client of one table for the life of a worker process; it connects on first use, and `close` closes it.

    Nothing is retried here: the callers have deadlines.

    Args:
        name: of the table; it need not exist.
        connection_string: of the storage account; or instead of it
        account_name: of the storage account, with
        credential: an identity that may write to it ("Storage Table Data Contributor").
        endpoint_suffix: of the cloud.
        telemetry: hears how long requests take and how they end; None: nobody does.

    Raises:
        ValueError: neither a connection string nor an account with a credential, or one that cannot be read.
    """
    limits: dict[str, Any] = {"retry_total": 0, "connection_timeout": _TIMEOUT_S, "read_timeout": _TIMEOUT_S}
    limits["transport"] = TimedTransport(telemetry, "tables", **limits)
    if connection_string:
        return TableClient.from_connection_string(connection_string, name, **limits)
    if not account_name or credential is None:
        raise ValueError("a table needs a connection string, or an account name and a credential")
    return TableClient(f"https://{account_name}.table.{endpoint_suffix}", name, credential=credential, **limits)


async def write_making(table: TableClient, write: Callable[[], Awaitable[object]]) -> None:
    """Write, and when the table is missing make it and write again.

    Args:
        table: to be made.
        write: what is written; it changes nothing when the table is missing.

    Raises:
        AzureError: the service's, of the write or of the making.
    """
    try:
        await write()
    except HttpResponseError as error:
        if error.status_code != _NOT_FOUND:
            raise
        with contextlib.suppress(ResourceExistsError):
            await table.create_table()
        await write()


@contextlib.asynccontextmanager
async def answering(store: str, deadline_s: float) -> AsyncIterator[None]:
    """A block within which a table has to answer.

    Args:
        store: what the caller is told that does not answer.
        deadline_s: seconds.

    Raises:
        DependencyUnavailable: the service failed, or did not answer in time.
    """
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except (AzureError, TimeoutError):
        raise DependencyUnavailable(f"{store} does not answer") from None
