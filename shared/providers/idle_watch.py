"""Ends a stream that has fallen silent, without a task or a timer per piece."""

import asyncio
from collections.abc import Callable


class IdleWatch:
    """One timer that re-arms itself; a piece only notes the time.

    Time that the consumer takes between two pieces does not count: only waiting for the vendor does.

    Args:
        cancel: ends the call; called at most once, from the event loop.
        idle_timeout_s: longest silence.
    """

    __slots__ = ("_cancel", "_idle_timeout_s", "_loop", "_timer", "_waiting_since", "expired")

    def __init__(self, cancel: Callable[[], object], idle_timeout_s: float) -> None:
        self._cancel = cancel
        self._idle_timeout_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(idle_timeout_s, self._look)
        self.expired = False
        """Whether the silence was too long and the call was ended for it."""

    def waiting(self) -> None:
        """The next piece is being waited for."""
        self._waiting_since = self._loop.time()

    def arrived(self) -> None:
        """It came."""
        self._waiting_since = None

    def stop(self) -> None:
        """Nothing is watched any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        since, now = self._waiting_since, self._loop.time()
        left = self._idle_timeout_s if since is None else since + self._idle_timeout_s - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        self._timer = None
        self.expired = True
        self._cancel()
