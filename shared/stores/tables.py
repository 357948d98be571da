"""Azure Tables: how a table is opened."""

from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.data.tables.aio import TableClient

_TIMEOUT_S = 5


def open_table(
    name: str,
    *,
    connection_string: str | None = None,
    account_name: str | None = None,
    credential: AsyncTokenCredential | None = None,
    endpoint_suffix: str = "core.windows.net",
) -> TableClient:
    """A client of one table for the life of a worker process; it connects on first use, and `close` closes it.

    Nothing is retried here: the callers have deadlines.

    Args:
        name: of the table; it need not exist.
        connection_string: of the storage account; or instead of it
        account_name: of the storage account, with
        credential: an identity that may write to it ("Storage Table Data Contributor").
        endpoint_suffix: of the cloud.

    Raises:
        ValueError: neither a connection string nor an account with a credential, or one that cannot be read.
    """
    limits: dict[str, Any] = {"retry_total": 0, "connection_timeout": _TIMEOUT_S, "read_timeout": _TIMEOUT_S}
    if connection_string:
        return TableClient.from_connection_string(connection_string, name, **limits)
    if not account_name or credential is None:
        raise ValueError("a table needs a connection string, or an account name and a credential")
    return TableClient(f"https://{account_name}.table.{endpoint_suffix}", name, credential=credential, **limits)
