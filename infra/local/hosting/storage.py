"""Azure Storage as the host itself uses it: trigger queues, timer locks and timer status.

Blobs lie where the Azure host puts them: container `azure-webjobs-hosts`, `timers/<host
id>/Host.Functions.<name>/status` and `locks/<host id>/Host.Functions.<name>.Listener`.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobClient, BlobLeaseClient, BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

logger = logging.getLogger("host.storage")

API_VERSION = "2026-06-06"
"""The newest version that Azurite 3.37 accepts; the SDKs would ask for a later one."""

_CONTAINER = "azure-webjobs-hosts"
_CLIENT_OPTIONS: dict[str, Any] = {
    "api_version": API_VERSION,
    "connection_timeout": 5,
    "read_timeout": 30,
    # Two retries after 1 and 3 s: the SDK's own first pause of 15 s is longer than the lease of a timer's lock.
    "retry_total": 2,
    "initial_backoff": 1,
    "increment_base": 2,
    "random_jitter_range": 0,
}
_CONFLICT = 409
_PRECONDITION_FAILED = 412
NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""What .NET writes for a run that has not happened."""


def open_queues(connection_string: str) -> QueueServiceClient:
    """A client for the account's queues; texts pass through as they are.

    Raises:
        ValueError: the connection string is malformed.
    """
    return QueueServiceClient.from_connection_string(connection_string, **_CLIENT_OPTIONS)


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """What is known of a timer across restarts; `last` is `NEVER` before the first run.

    Attributes:
        last: when it ran.
        next: when it is due.
        last_updated: the instant `next` was computed from.
    """

    last: datetime
    next: datetime
    last_updated: datetime

    def to_json(self) -> dict[str, str]:
        """The status blob's fields, also what a function sees as `schedule_status`."""
        return {
            "Last": self.last.isoformat(),
            "Next": self.next.isoformat(),
            "LastUpdated": self.last_updated.isoformat(),
        }

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a status blob, also one the Azure host wrote.

        Raises:
            ValueError: it is no status.
        """
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("the timer status is no JSON object")  # noqa: TRY004 - a wrong text, not a wrong argument
        return cls(*(_instant(document.get(name)) for name in ("Last", "Next", "LastUpdated")))


class TimerLock:
    """A held blob lease, renewed in the background until it is closed or lost."""

    def __init__(self, lease: BlobLeaseClient, period_s: int, on_lost: Callable[[], None]) -> None:
        self._lease = lease
        self._on_lost = on_lost
        self._period_s = period_s
        self._valid_until_s = time.monotonic() + period_s
        self._lost = False
        self._renewal = asyncio.create_task(self._renew())

    @property
    def held(self) -> bool:
        """Whether the lease is surely this process's own at this moment."""
        return not self._lost and time.monotonic() < self._valid_until_s

    async def close(self) -> None:
        """Give the lock back, so that another host need not wait for it to run out."""
        self._renewal.cancel()
        await asyncio.gather(self._renewal, return_exceptions=True)
        with contextlib.suppress(AzureError):
            await self._lease.release()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._period_s / 3)
            asked_at_s = time.monotonic()
            try:
                await self._lease.renew()
            except AzureError as error:
                gone = isinstance(error, HttpResponseError) and error.status_code in {
                    404,
                    _CONFLICT,
                    _PRECONDITION_FAILED,
                }
                if gone or not self.held:
                    logger.warning("A timer lock was lost: %s", type(error).__name__)
                    self._lost = True
                    self._on_lost()
                    return
            else:
                self._valid_until_s = asked_at_s + self._period_s


class TimerStore:
    """Locks and status of this app's timers.

    Args:
        connection_string: of the storage account.
        host_id: tells apps apart that share an account; hosts of one app must agree on it.

    Raises:
        ValueError: the connection string is malformed.
    """

    def __init__(self, connection_string: str, host_id: str) -> None:
        self._service = BlobServiceClient.from_connection_string(connection_string, **_CLIENT_OPTIONS)
        self._host_id = host_id

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()

    async def prepare(self) -> None:
        """Create the container where it is missing.

        Raises:
            AzureError: the account cannot be reached.
        """
        with contextlib.suppress(ResourceExistsError):
            await self._service.create_container(_CONTAINER)

    async def lock(self, timer: str, period_s: int, on_lost: Callable[[], None]) -> TimerLock | None:
        """Take a timer's lock, or None while another host holds it; `on_lost` is called should it be lost later.

        Raises:
            AzureError: the account cannot be reached.
        """
        blob = self._blob(f"locks/{self._host_id}/Host.Functions.{timer}.Listener")
        lease = BlobLeaseClient(blob)
        try:
            await lease.acquire(lease_duration=period_s)
        except ResourceNotFoundError:
            with contextlib.suppress(ResourceExistsError):
                await blob.upload_blob(b"", if_none_match="*")
            return await self.lock(timer, period_s, on_lost)
        except HttpResponseError as error:
            if error.status_code == _CONFLICT:
                return None
            raise
        return TimerLock(lease, period_s, on_lost)

    async def read_status(self, timer: str) -> ScheduleStatus | None:
        """The last status, or None when there is none that can be read.

        Raises:
            AzureError: the account cannot be reached.
        """
        try:
            download = await self._status_blob(timer).download_blob()
            return ScheduleStatus.from_json((await download.readall()).decode("utf-8-sig"))
        except ResourceNotFoundError:
            return None
        except ValueError:
            logger.warning("The status of timer %s cannot be read and is replaced", timer)
            return None

    async def write_status(self, timer: str, status: ScheduleStatus) -> None:
        """Replace the status.

        Raises:
            AzureError: the account cannot be reached.
        """
        await self._status_blob(timer).upload_blob(json.dumps(status.to_json()), overwrite=True)

    def _status_blob(self, timer: str) -> BlobClient:
        return self._blob(f"timers/{self._host_id}/Host.Functions.{timer}/status")

    def _blob(self, name: str) -> BlobClient:
        return self._service.get_blob_client(_CONTAINER, name)


def _instant(text: object) -> datetime:
    if not isinstance(text, str):
        raise ValueError("a timer status lacks an instant")  # noqa: TRY004 - a wrong text, not a wrong argument
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
