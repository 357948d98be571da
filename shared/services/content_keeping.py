"""Keeps prompts and answers of services that opted in, behind the response; gives them out; lets go of them.

What is kept is a copy for people to look at, never the record: while the key or the database is away it is dropped
after a few tries, and counted, and no request waits or fails for it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from shared.domain.chat import ChatRequest
from shared.domain.errors import DependencyUnavailable, InvalidRequest, NotFound
from shared.domain.kept_content import MAX_CONTENT_BYTES, ContentKey, SealedContent, content_values
from shared.domain.policy import Policy
from shared.domain.privacy import DataSubject, ErasedStep, ErasureOrder
from shared.domain.records import RequestRecord
from shared.domain.replies import ChatReply
from shared.domain.security import SecurityLevel
from shared.ports import Clock, ContentKeys, ContentStore, ExportPage, Sealer, Telemetry
from shared.services.background import BackgroundWork

_MOST_WAITING_BYTES = 16 * 2**20
_BATCH = 50
_TRIES = 5
_RETRY_S = 1.0
_MOST_PURGES = 20

MakeSealer = Callable[[bytes], Sealer]


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: RequestRecord
    expires_at: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class OpenedContent:
    """Kept content as it is read. `values` is None when the key that sealed it was destroyed."""

    content: SealedContent
    values: dict[str, Any] | None


class ContentKeeper(BackgroundWork):
    """Keeps content.

    Args:
        store: where it lies, sealed.
        keys: that seal it; None: no key is configured, and the policy must not ask for content to be kept.
        make_sealer: a sealer from a key's bytes.
        policy: says which services opted in.
        clock: when content expires.
        telemetry: counts what was kept and what was dropped.
    """

    name = "kept_content"
    kept = "nothing: content is deleted; what was given out before is in the audit trail, without the content"

    def __init__(
        self,
        store: ContentStore,
        keys: ContentKeys | None,
        make_sealer: MakeSealer,
        policy: Callable[[], Policy],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        super().__init__("content-keeper")
        self._store = store
        self._keys = keys
        self._make_sealer = make_sealer
        self._policy = policy
        self._clock = clock
        self._telemetry = telemetry
        self._pending: deque[_Waiting] = deque()
        self._pending_bytes = 0

    def keep(self, request: ChatRequest, reply: ChatReply | None, record: RequestRecord) -> None:
        """Take the content of a request that has ended, if its service opted in.

        Args:
            request: as it was sent to the model.
            reply: as the caller was told it; None: there was none.
            record: of the request.
        """
        rules = self._policy().for_service(record.service_name).content
        if rules is None:
            return
        if SecurityLevel.from_label(record.security_level) > rules.max_level:
            self._telemetry.count("content_not_kept", reason="level")
            return
        try:
            body = orjson.dumps(content_values(request, reply))
        except TypeError:
            # Half a surrogate pair: no JSON text holds it.
            self._telemetry.count("content_not_kept", reason="unreadable")
            return
        if len(body) > MAX_CONTENT_BYTES:
            self._telemetry.count("content_not_kept", reason="too_large")
        elif self._pending_bytes + len(body) > _MOST_WAITING_BYTES:
            self._telemetry.count("content_not_kept", reason="full")
        else:
            self._pending.append(_Waiting(record, record.start_time + rules.lasts, body))
            self._pending_bytes += len(body)
            self._wake.set()

    async def read(self, tenant_id: str, request_id: str) -> OpenedContent:
        """What was kept of a request of a tenant.

        Raises:
            DependencyUnavailable: the store or the key is away.
            InvalidRequest: not a request id.
            NotFound: nothing is kept of such a request.
        """
        try:
            UUID(request_id)
        except ValueError:
            raise InvalidRequest("request_id: not a request id", param="request_id") from None
        found = await self._store.get(tenant_id, request_id, self._clock.now())
        if found is None:
            raise NotFound("nothing is kept of such a request", param="request_id")
        return await self._opened(found)

    async def purge(self) -> None:
        """Delete what has expired.

        Raises:
            DependencyUnavailable: the store is away; the next run goes on.
        """
        deleted = 0
        for _ in range(_MOST_PURGES):
            step = await self._store.purge(self._clock.now())
            deleted += step
            if not step:
                break
        self._telemetry.count("content_purged", deleted)

    async def export(self, subject: DataSubject, cursor: str, limit: int) -> ExportPage:
        """A person's kept content, opened. The cursor is the last request id.

        Raises:
            DependencyUnavailable: the store or the key is away.
            InvalidRequest: the cursor is none of this store's.
        """
        try:
            after = str(UUID(cursor)) if cursor else ""
        except ValueError:
            raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor") from None
        found = await self._store.of(subject, after, limit, self._clock.now())
        opened = [await self._opened(content) for content in found]
        rows = [
            {
                "content": {
                    "request_id": one.content.request_id,
                    "started_at": one.content.started_at.isoformat(),
                    "values": one.values,
                }
            }
            for one in opened
        ]
        return ExportPage(rows, found[-1].request_id if len(found) == limit else None)

    async def erase(self, order: ErasureOrder, subject: DataSubject, cursor: str) -> ErasedStep:
        """Delete a person's content.

        Raises:
            DependencyUnavailable: the store is away; the step is to be taken again.
        """
        del cursor
        await self._store.forget(subject, order.requested_at)
        # No count: after a kill between deleting and telling it would be another one.
        return ErasedStep({})

    async def _opened(self, content: SealedContent) -> OpenedContent:
        key = None if self._keys is None else await self._keys.by_id(content.key_id)
        plain = None if key is None else self._make_sealer(key.secret).open(content.sealed, content.seal_name)
        return OpenedContent(content, None if plain is None else orjson.loads(plain))

    async def _run(self) -> None:
        tries = 0
        while self._pending or not self._closing:
            if not self._pending:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = list(self._pending)[:_BATCH]
            try:
                await self._put(batch)
            except Exception as error:  # noqa: BLE001 - one that cannot be kept must not stop the others
                tries += 1
                away = isinstance(error, DependencyUnavailable)
                if away and tries < _TRIES and not self._closing:
                    await asyncio.sleep(_RETRY_S)
                    continue
                self._telemetry.log(logging.WARNING, "content_dropped", count=len(batch), error=type(error).__name__)
                self._telemetry.count("content_not_kept", len(batch), reason="away" if away else "refused")
            else:
                self._telemetry.count("content_kept", len(batch))
            tries = 0
            for waiting in batch:
                self._pending.popleft()
                self._pending_bytes -= len(waiting.body)

    async def _put(self, batch: list[_Waiting]) -> None:
        if self._keys is None:
            raise DependencyUnavailable("no key for content is configured")
        key = await self._keys.current()
        sealer = self._make_sealer(key.secret)
        await self._store.put([_sealed(waiting, key, sealer) for waiting in batch])


def _sealed(waiting: _Waiting, key: ContentKey, sealer: Sealer) -> SealedContent:
    record = waiting.record
    unsealed = SealedContent(
        tenant_id=record.tenant_id,
        request_id=record.id,
        service=record.service_name,
        principal_id=record.principal_id,
        tags=record.tags,
        started_at=record.start_time,
        expires_at=waiting.expires_at,
        key_id=key.id,
        sealed=b"",
    )
    return replace(unsealed, sealed=sealer.seal(waiting.body, unsealed.seal_name))
