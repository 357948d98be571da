"""All queue and timer listeners of one worker, started and stopped together."""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TypeVar

from azure.storage.queue.aio import QueueServiceClient

from infra.local.hosting.errors import ConfigurationInvalid
from infra.local.hosting.indexing import IndexedApp
from infra.local.hosting.queues import QueueListener
from infra.local.hosting.settings import HostFile
from infra.local.hosting.storage import TimerStore, open_queues
from infra.local.hosting.timers import TimerListener

logger = logging.getLogger("host")

Client = TypeVar("Client")

STORAGE_SETTING = "AzureWebJobsStorage"
"""The app setting with the host's own storage."""

_STOP_MARGIN_S = 5.0


class Listeners:
    """What takes work other than requests.

    Args:
        app: the functions.
        host_file: host.json.
        host_id: see `TimerStore`.

    Attributes:
        not_started: functions without storage, each with the reason.

    Raises:
        ConfigurationInvalid: a connection string is malformed; the message names the setting.
    """

    def __init__(self, app: IndexedApp, host_file: HostFile, host_id: str) -> None:
        self.not_started: list[str] = []
        self._listeners: list[QueueListener | TimerListener] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._accounts: dict[str, QueueServiceClient] = {}
        self._store = _open(STORAGE_SETTING, lambda text: TimerStore(text, host_id)) if app.timers else None
        for queue in app.queues:
            account = self._account(queue.connection)
            if account is None:
                self.not_started.append(f"queue trigger {queue.name} ({queue.connection} is not set)")
            else:
                self._listeners.append(
                    QueueListener(queue, account, host_file.queues, function_timeout_s=host_file.function_timeout_s)
                )
        for timer in app.timers:
            if self._store is None:
                self.not_started.append(f"timer trigger {timer.name} ({STORAGE_SETTING} is not set)")
            else:
                listener = TimerListener(
                    timer,
                    self._store,
                    lock_s=host_file.timer_lock_s,
                    function_timeout_s=host_file.function_timeout_s,
                )
                self._listeners.append(listener)

    def start(self) -> None:
        """Begin to take work."""
        self._tasks = [asyncio.create_task(listener.run()) for listener in self._listeners]
        for task in self._tasks:
            task.add_done_callback(_log_crash)

    async def stop(self, grace_s: float) -> None:
        """Take no more work, wait for what runs, close the connections."""
        await asyncio.gather(*(listener.stop(grace_s) for listener in self._listeners))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_STOP_MARGIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for account in self._accounts.values():
            await account.close()
        if self._store is not None:
            await self._store.close()

    def _account(self, setting: str) -> QueueServiceClient | None:
        if setting not in self._accounts and (account := _open(setting, open_queues)) is not None:
            self._accounts[setting] = account
        return self._accounts.get(setting)


def _open(setting: str, client: Callable[[str], Client]) -> Client | None:
    """A client for the connection string that an app setting holds; None when it is not set."""
    connection_string = os.environ.get(setting) or os.environ.get(f"AzureWebJobs{setting}")
    if not connection_string:
        return None
    try:
        return client(connection_string)
    except ValueError as error:
        raise ConfigurationInvalid(f"The setting {setting} is no storage connection string: {error}") from error


def _log_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("A listener ended", exc_info=error)
