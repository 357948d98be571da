"""Work behind the responses: begun once, woken when there is some, and done before the process ends."""

import abc
import asyncio
import contextlib


class BackgroundWork(abc.ABC):
    """Base of services that finish behind the response what a request began.

    Args:
        name: of the task.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin working in the background."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def aclose(self) -> None:
        """Do what is pending, then stop. What cannot be done now is somebody else's: the class says whose."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @abc.abstractmethod
    async def _run(self) -> None:
        """Work until `_closing`, and then until nothing is pending; `_wake` is set when there is more."""
