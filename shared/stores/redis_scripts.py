"""Commands and Lua scripts on Redis: one round trip each, within a deadline, and none for a while after one failed."""

import asyncio
import inspect
from collections.abc import Awaitable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.domain.errors import DependencyUnavailable
from shared.ports import Clock

Argument = str | int | bytes


class RedisScripts:
    """Runs scripts, each registered by its first run.

    What timed out may have run: whoever calls makes running it again harmless. After a failure nothing is asked for a
    pause; then one caller tries, and the others go on without until it is known how that went.

    Args:
        redis: the client that the stores share.
        clock: measures the pause.
        timeout_s: seconds after which no answer is the answer, connecting included.
        back_off_s: the pause after a failure, so that a dead Redis delays one request in a while and not each.
    """

    def __init__(self, redis: Redis, clock: Clock, *, timeout_s: float, back_off_s: float) -> None:
        self._redis = redis
        self._clock = clock
        self._timeout_s = timeout_s
        self._back_off_s = back_off_s
        self._silent_until_s = 0.0
        self._failed = False
        self._scripts: dict[str, Any] = {}

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """The script's result.

        Raises:
            DependencyUnavailable: no answer in time, an error, or Redis was found dead a moment ago.
        """
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self._redis.register_script(script)
        return await self.call(registered(keys=keys, args=arguments))

    async def call(self, command: Awaitable[Any]) -> Any:
        """The result of a command that was not awaited yet, under the same deadline and pause.

        Raises:
            DependencyUnavailable: as `run`.
        """
        now_s = self._clock.monotonic()
        if now_s < self._silent_until_s:
            if inspect.iscoroutine(command):
                command.close()
            raise self._absence()
        if self._failed:
            # This call tries; the others do not wait with it.
            self._silent_until_s = now_s + self._timeout_s
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await command
        except (RedisError, OSError, TimeoutError):
            self._failed, self._silent_until_s = True, self._clock.monotonic() + self._back_off_s
            raise self._absence() from None
        self._failed, self._silent_until_s = False, 0.0
        return result

    def _absence(self) -> DependencyUnavailable:
        return DependencyUnavailable("redis does not answer", retry_after_s=self._back_off_s)
