"""How the storage account is reached: by a connection string locally, by the app's identity in Azure."""

from typing import TypedDict

from azure.core.credentials_async import AsyncTokenCredential

from shared.config import Settings
from shared.ports import Telemetry


class StorageAccess(TypedDict):
    """What `open_queue`, `open_table` and `open_container` are told."""

    connection_string: str | None
    account_name: str | None
    credential: AsyncTokenCredential | None
    telemetry: Telemetry


def storage_access(settings: Settings, entra: AsyncTokenCredential | None, telemetry: Telemetry) -> StorageAccess:
    """The account that the settings name."""
    return StorageAccess(
        connection_string=settings.storage_connection_string,
        account_name=settings.storage_account,
        credential=entra,
        telemetry=telemetry,
    )
