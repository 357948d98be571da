"""In-memory twins of the answer cache and of idempotency keys. Services may share one, as processes share Redis."""

from dataclasses import dataclass

from shared.domain.errors import DependencyUnavailable
from shared.ports import Claim, ClaimState, Clock, IdempotencyKey


class MemoryAnswerCache:
    """`AnswerCache` in a dictionary, `entries`: value and end (`Clock.monotonic`) by key.

    Args:
        clock: when entries end.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.entries: dict[str, tuple[bytes, float]] = {}
        self.away = False

    async def find(self, key: str, neighbour_key: str | None) -> tuple[bytes | None, bytes | None]:
        """What lies under both keys.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return self._read(key), None if neighbour_key is None else self._read(neighbour_key)

    async def keep(self, key: str, answer: bytes, *, ttl_s: int, neighbour: tuple[str, bytes] | None = None) -> None:
        """Keep an answer, and what leads to it from near.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        for name, value in [(key, answer)] if neighbour is None else [(key, answer), neighbour]:
            self.entries[name] = (value, self._clock.monotonic() + ttl_s)

    async def forget(self, prefix: str) -> int:
        """Delete all answers whose keys begin so.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        gone = [key for key in self.entries if key.startswith(prefix)]
        for key in gone:
            del self.entries[key]
        return len(gone)

    def _read(self, key: str) -> bytes | None:
        value, end_s = self.entries.get(key, (None, 0.0))
        return value if self._clock.monotonic() < end_s else None

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("away")


@dataclass
class _Held:
    fingerprint: str
    owner: str
    end_s: float
    result: bytes | None = None


class MemoryIdempotencyStore:
    """`IdempotencyStore` in a dictionary.

    Args:
        clock: when leases and results end.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self.away = False

    async def claim(self, key: IdempotencyKey, owner: str, lease_s: float) -> Claim:
        """Take the key, or learn who has it.

        Raises:
            DependencyUnavailable: while `away`.
        """
        held = self._current(key)
        if held is None:
            held = self._held[key.name] = _Held(key.fingerprint, owner, 0.0)
        if held.fingerprint != key.fingerprint:
            return Claim(ClaimState.OTHER_BODY)
        if held.result is not None:
            return Claim(ClaimState.DONE, held.result)
        if held.owner != owner:
            return Claim(ClaimState.RUNNING)
        held.end_s = self._clock.monotonic() + lease_s
        return Claim(ClaimState.OURS)

    async def extend(self, key: IdempotencyKey, owner: str, lease_s: float) -> bool:
        """Hold the key for longer.

        Raises:
            DependencyUnavailable: while `away`.
        """
        held = self._owned(key, owner)
        if held is not None:
            held.end_s = self._clock.monotonic() + lease_s
        return held is not None

    async def finish(self, key: IdempotencyKey, owner: str, result: bytes, kept_s: float) -> bool:
        """Keep the result.

        Raises:
            DependencyUnavailable: while `away`.
        """
        held = self._owned(key, owner)
        if held is not None:
            held.result, held.end_s = result, self._clock.monotonic() + kept_s
        return held is not None

    async def release(self, key: IdempotencyKey, owner: str) -> None:
        """Give the key back without a result.

        Raises:
            DependencyUnavailable: while `away`.
        """
        held = self._owned(key, owner)
        if held is not None and held.result is None:
            del self._held[key.name]

    def _current(self, key: IdempotencyKey) -> _Held | None:
        if self.away:
            raise DependencyUnavailable("away")
        held = self._held.get(key.name)
        return held if held is not None and self._clock.monotonic() < held.end_s else None

    def _owned(self, key: IdempotencyKey, owner: str) -> _Held | None:
        held = self._current(key)
        return held if held is not None and held.owner == owner else None
