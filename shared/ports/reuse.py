"""Answers given before, and keys that make a request happen once."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class AnswerCache(Protocol):
    """Answers that may be served again. Bytes in, bytes out; whoever calls decides what equal requests are."""

    async def find(self, key: str, neighbour_key: str | None) -> tuple[bytes | None, bytes | None]:
        """What lies under both keys; None where nothing does, or nothing that can be opened.

        Raises:
            DependencyUnavailable: no answer within a few hundredths of a second.
        """
        ...

    async def keep(self, key: str, answer: bytes, *, ttl_s: int, neighbour: tuple[str, bytes] | None = None) -> None:
        """Keep an answer for `ttl_s` seconds, and under `neighbour`'s key what leads to it.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known.
        """
        ...

    async def forget(self, prefix: str) -> int:
        """Delete all answers whose keys begin so; returns how many keys that were.

        Raises:
            DependencyUnavailable: some may be left; doing it again is safe.
        """
        ...


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key, in a form that tells nothing of it.

    Attributes:
        name: digest of tenant, service, endpoint and key.
        fingerprint: digest of the body.
        secrets: what seals the result; never stored.
    """

    name: str
    fingerprint: str
    secrets: tuple[bytes, ...] = field(default=(), repr=False)


class ClaimState(StrEnum):
    """What stands under an idempotency key."""

    OURS = "ours"
    """Nothing did: whoever asked holds the lease now and is to do the work."""
    RUNNING = "running"
    DONE = "done"
    OTHER_BODY = "other_body"


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim; `result` is there when the work is done and what is kept can be opened."""

    state: ClaimState
    result: bytes | None = None


class IdempotencyStore(Protocol):
    """Who works on an idempotency key, and what came out, for all processes at once.

    A lease that is not extended ends by itself: the work of a dead process can be taken over.
    """

    async def claim(self, key: IdempotencyKey, owner: str, lease_s: float) -> Claim:
        """Take the key for `lease_s` seconds, or learn who has it. Claiming again extends the lease.

        Raises:
            DependencyUnavailable: no answer in time; the key may have been taken.
        """
        ...

    async def extend(self, key: IdempotencyKey, owner: str, lease_s: float) -> bool:
        """Hold the key for longer; False when it is not the owner's any more.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def finish(self, key: IdempotencyKey, owner: str, result: bytes, kept_s: float) -> bool:
        """Keep the result for `kept_s` seconds; False when the key is not the owner's any more.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known.
        """
        ...

    async def release(self, key: IdempotencyKey, owner: str) -> None:
        """Give the key back without a result; does nothing when it is not the owner's or has one.

        Raises:
            DependencyUnavailable: no answer in time; the lease ends by itself.
        """
        ...
