"""One piece of work for one idempotency key: whoever comes second waits for, or is given, what the first got.

The first holds a lease and extends it while it works; when its process dies, the lease ends and a waiting duplicate
takes over. What is promised: while Redis keeps its memory, no two processes work on a key at the same time, and a
finished result is given again instead of a second call. A worker that died in the middle of a call has made that call.
"""

import asyncio
import contextlib
import hashlib
import logging

from shared.domain.errors import Conflict, DependencyUnavailable, IdempotencyKeyReused
from shared.ports import Claim, ClaimState, Clock, IdempotencyKey, IdempotencyStore, Telemetry

KEPT_S = 24 * 3600.0
"""Results are given again for a day."""
MAX_RESULT_BYTES = 2 * 2**20
"""Of a recorded answer; a longer one is delivered, but not kept."""
_LEASE_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_RETRY_AFTER_S = 1.0


def idempotency_key(*scope: str, key: str, body: bytes) -> IdempotencyKey:
    """A caller's key within its scope (tenant, service, endpoint).

    The scope's parts are hashed with their lengths, so that no two scopes run into each other.
    """
    digest = hashlib.sha256()
    for part in (*scope, key):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return IdempotencyKey(digest.hexdigest(), hashlib.sha256(body).hexdigest(), (key.encode(), body))


class Turn:
    """The right to do the work of a key. End it with `finish` or `give_up`; what comes after the first is ignored."""

    def __init__(self, service: "IdempotencyService", key: IdempotencyKey, owner: str) -> None:
        self._service = service
        self._key = key
        self._owner = owner
        self._is_over = False
        self._beating = asyncio.create_task(service.beat(key, owner), name="idempotency-lease")

    async def finish(self, result: bytes) -> bool:
        """Keep the result for those who come later; False when it could not be kept."""
        if self._is_over:
            return False
        await self._end()
        return await self._service.finished(self._key, self._owner, result)

    async def give_up(self) -> None:
        """Let another try: nothing came out that is worth keeping."""
        if not self._is_over:
            await self._end()
            await self._service.released(self._key, self._owner)

    async def _end(self) -> None:
        self._is_over = True
        self._beating.cancel()
        await asyncio.wait({self._beating})


class IdempotencyService:
    """Hands out turns and results.

    Args:
        store: who works on what, for all processes.
        clock: deadlines.
        telemetry: counts what became of keys.
        refuses_without_store: whether a request with a key is refused while the store is away; else it runs without
            the guarantee.
        lease_s: seconds after which the work of a dead process can be taken over.
    """

    def __init__(
        self,
        store: IdempotencyStore,
        clock: Clock,
        telemetry: Telemetry,
        *,
        refuses_without_store: bool = True,
        lease_s: float = _LEASE_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._refuses = refuses_without_store
        self._lease_s = lease_s

    async def begin(self, key: IdempotencyKey, owner: str, *, deadline_s: float) -> Turn | bytes | None:
        """A turn to do the work; or the result of whoever did it, once it is there; or None: no store, no guarantee.

        Args:
            key: the caller's.
            owner: unique for each request.
            deadline_s: instant on the monotonic clock until which a duplicate waits.

        Raises:
            Conflict: the work was still under way at the deadline.
            IdempotencyKeyReused: the key belongs to another body.
            DependencyUnavailable: the store is away, and the setting is to refuse.
        """
        pause_s = _FIRST_PAUSE_S
        try:
            claim = await self._store.claim(key, owner, self._lease_s)
            while claim.state is ClaimState.RUNNING and self._clock.monotonic() < deadline_s:
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, 1.5 * pause_s)
                claim = await self._store.claim(key, owner, self._lease_s)
        except DependencyUnavailable as error:
            self._count("unavailable")
            if self._refuses:
                raise DependencyUnavailable(
                    "idempotency keys cannot be checked at the moment, and a request that carries one is not run "
                    "without",
                    retry_after_s=max(_RETRY_AFTER_S, error.retry_after_s or 0.0),
                ) from None
            return None
        return self._taken(claim, key, owner)

    def _taken(self, claim: Claim, key: IdempotencyKey, owner: str) -> Turn | bytes:
        self._count(claim.state.value)
        if claim.state is ClaimState.OURS:
            return Turn(self, key, owner)
        if claim.state is ClaimState.OTHER_BODY:
            raise IdempotencyKeyReused(
                "this idempotency key was used with another body; use a new key for a new request",
                param="idempotency-key",
            )
        if claim.state is ClaimState.DONE and claim.result is not None:
            return claim.result
        raise Conflict(
            "a request with this idempotency key is still being worked on",
            code="idempotency_in_progress",
            param="idempotency-key",
            retry_after_s=_RETRY_AFTER_S,
        )

    async def beat(self, key: IdempotencyKey, owner: str) -> None:
        """Extend the lease until cancelled, or until it is another's; an absent store is asked again."""
        is_ours = True
        while is_ours:
            await asyncio.sleep(self._lease_s / 4)
            with contextlib.suppress(DependencyUnavailable):
                is_ours = await self._store.extend(key, owner, self._lease_s)
        self._count("lease_lost")

    async def finished(self, key: IdempotencyKey, owner: str, result: bytes) -> bool:
        """Keep a result; False when that was not possible."""
        if len(result) > MAX_RESULT_BYTES:
            # No result, but no second call either: the lease is left to end by itself.
            self._count("too_large")
            return False
        try:
            is_kept = await self._store.finish(key, owner, result, KEPT_S)
        except DependencyUnavailable:
            is_kept = False
        if not is_kept:
            self._count("not_kept")
            self._telemetry.log(logging.WARNING, "idempotent_result_not_kept")
        return is_kept

    async def released(self, key: IdempotencyKey, owner: str) -> None:
        """Give a key back; where that fails, its lease ends by itself."""
        with contextlib.suppress(DependencyUnavailable):
            await self._store.release(key, owner)

    def _count(self, outcome: str) -> None:
        self._telemetry.count("idempotency_keys", outcome=outcome)
