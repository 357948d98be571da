"""The supervisor's side of the connections: accept, and hand them round the workers."""

import asyncio
import socket
from collections import deque

_MOST_PER_TURN = 64
_PAUSE_S = 0.05


class Acceptor:
    """Gives each new connection to the next worker in turn.

    While no worker can take one, connections wait in the kernel's backlog: a restart is a delay for them, no refusal.

    Args:
        listening: bound and listening.
    """

    def __init__(self, listening: socket.socket) -> None:
        listening.setblocking(False)  # noqa: FBT003 - the method takes it by position only
        self._listening = listening
        self._channels: deque[socket.socket] = deque()
        self._watching = False
        self._closed = False

    def add(self, channel: socket.socket) -> None:
        """A worker is ready; its connections go into this UNIX socket."""
        channel.setblocking(False)  # noqa: FBT003 - the method takes it by position only
        self._channels.append(channel)
        self._watch()

    def remove(self, channel: socket.socket) -> None:
        """The worker is gone, or about to be."""
        if channel in self._channels:
            self._channels.remove(channel)
        if not self._channels:
            self._look_away()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._look_away()
        self._closed = True
        self._listening.close()

    def _watch(self) -> None:
        if self._channels and not self._watching and not self._closed:
            self._watching = True
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _look_away(self) -> None:
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_reader(self._listening)

    def _accept(self) -> None:
        for _ in range(_MOST_PER_TURN):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Out of file descriptors, most likely: the socket stays readable, so pause.
                self._pause()
                return
            with connection:
                if not self._hand_over(connection):
                    self._pause()
                    return

    def _hand_over(self, connection: socket.socket) -> bool:
        """Give a connection to the first worker in turn whose channel takes it; False when none does."""
        for _ in range(len(self._channels)):
            channel = self._channels[0]
            self._channels.rotate(-1)
            try:
                socket.send_fds(channel, [b"c"], [connection.fileno()])
            except OSError:
                continue  # full, because the worker is stuck, or closed, because it has just died
            return True
        return False

    def _pause(self) -> None:
        self._look_away()
        asyncio.get_running_loop().call_later(_PAUSE_S, self._watch)
