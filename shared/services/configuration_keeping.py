"""Keeps every registry and policy that decisions are made with, so that their receipts can always be repeated."""

import asyncio
import contextlib
import logging
from collections import deque

from shared.domain.errors import DependencyUnavailable
from shared.domain.models import Registry
from shared.domain.policy import Policy
from shared.ports import ConfigurationArchive, Telemetry

REGISTRY, POLICY = "registry", "policy"
_RETRY_S = 5.0
_LAST_TRY_S = 2.0


class ConfigurationKeeper:
    """Stores what it sees for the first time in this process, behind the request; tries until it is stored.

    Args:
        archive: where the documents go.
        telemetry: says when one cannot be stored.
    """

    def __init__(self, archive: ConfigurationArchive, telemetry: Telemetry) -> None:
        self._archive = archive
        self._telemetry = telemetry
        self._seen: set[str] = {""}
        self._pending: deque[tuple[str, str, str]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin storing in the background."""
        self._task = asyncio.create_task(self._run(), name="configuration-keeper")

    def note(self, registry: Registry, policy: Policy) -> None:
        """A decision is about to be made with these."""
        if registry.version not in self._seen:
            self._take(REGISTRY, registry.version, registry.document)
        if policy.version not in self._seen:
            self._take(POLICY, policy.version, policy.document)

    async def aclose(self) -> None:
        """Try once more to store what is not stored yet, then stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(DependencyUnavailable, TimeoutError):
            async with asyncio.timeout(_LAST_TRY_S):
                await self._store()

    def _take(self, kind: str, version: str, document: str) -> None:
        self._seen.add(version)
        if document:
            self._pending.append((kind, version, document))
            self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._store()
            except DependencyUnavailable:
                self._wake.set()
                await asyncio.sleep(_RETRY_S)

    async def _store(self) -> None:
        while self._pending:
            kind, version, document = self._pending[0]
            try:
                await self._archive.keep(kind, version, document)
            except DependencyUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one that no archive takes must not hold up the next
                self._telemetry.log(
                    logging.ERROR, "configuration_refused", kind=kind, version=version, error=type(error).__name__
                )
            self._pending.popleft()
