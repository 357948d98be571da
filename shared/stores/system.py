"""The machine's clock, and identifiers made from it."""

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

_COUNTER_BITS = 12
_COUNTER_MAX = (1 << _COUNTER_BITS) - 1
_COUNTER_START_MASK = _COUNTER_MAX >> 1
"""A counter starts in its lower half, which leaves room for 2,048 more within its millisecond."""
_RANDOM_BITS = 62
_VERSION = 0x7
_VARIANT = 0b10


class SystemClock:
    """`Clock` of the machine."""

    def now(self) -> datetime:
        """The current instant, aware, UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the clock that everything else is given

    def monotonic(self) -> float:
        """Seconds that never go back, for durations and deadlines."""
        return time.monotonic()


class UuidIds:
    """`Ids` as UUIDv7 (RFC 9562, section 5.7), each greater than the one before it in this process.

    The 12 bits after the milliseconds count within a millisecond (section 6.2, method 1: a counter with a random
    start), the last 62 are random, so processes do not collide. When the counter is full or the clock steps back, the
    milliseconds run ahead of the clock. Safe to share between threads.

    Args:
        clock_ns: nanoseconds since 1970.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._last_ms = 0
        self._counter = 0

    def request_id(self) -> str:
        """A new id in its canonical form."""
        noise = int.from_bytes(os.urandom(10))
        fresh_counter = (noise >> _RANDOM_BITS) & _COUNTER_START_MASK
        with self._lock:
            now_ms = self._clock_ns() // 1_000_000
            if now_ms > self._last_ms:
                self._last_ms, self._counter = now_ms, fresh_counter
            elif self._counter < _COUNTER_MAX:
                self._counter += 1
            else:
                self._last_ms, self._counter = self._last_ms + 1, fresh_counter
            unix_ms, counter = self._last_ms, self._counter
        value = (unix_ms << 80) | (_VERSION << 76) | (counter << 64) | (_VARIANT << _RANDOM_BITS)
        return str(UUID(int=value | (noise & ((1 << _RANDOM_BITS) - 1))))
