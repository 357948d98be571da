"""uvicorn in a worker that gets its connections from the supervisor.

Were the listening socket shared, the worker that wakes first would take nearly all connections of a burst (measured:
64 of 64 with uvloop's own server, 48 of 64 when it accepts one at a time), and a benchmark on two workers would
measure one. The supervisor accepts instead and hands the connections round, as the Azure host hands invocations round
its worker processes.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn

logger = logging.getLogger("host.http")

_MOST_CONNECTIONS_PER_READ = 16


class HandedConnectionsServer(uvicorn.Server):
    """One worker's HTTP server: no listening socket and no signal handling of its own.

    Args:
        config: with `lifespan="off"`.
        channel: a UNIX socket over which connections come as file descriptors, one with each byte.
    """

    def __init__(self, config: uvicorn.Config, channel: socket.socket) -> None:
        super().__init__(config)
        self._channel = channel
        self._connecting: set[asyncio.Task[object]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's handlers alone: the worker decides when to stop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections."""
        del sockets
        self.servers = []
        self._channel.setblocking(False)  # noqa: FBT003 - the method takes it by position only
        asyncio.get_running_loop().add_reader(self._channel, self._take)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and wait for the open ones within the configured grace period."""
        del sockets
        asyncio.get_running_loop().remove_reader(self._channel)
        await super().shutdown()
        self._channel.close()

    def _take(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._channel, _MOST_CONNECTIONS_PER_READ, _MOST_CONNECTIONS_PER_READ
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            logger.warning("A connection was lost on its way from the supervisor: %s", error.strerror)
            return
        if not data:
            loop.remove_reader(self._channel)
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)  # noqa: FBT003 - the method takes it by position only
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself does: the class varies
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
