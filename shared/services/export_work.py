"""The work on exports: written by whoever takes a task from the queue, seen when whole, deleted when their time is up.

Each attempt writes a file of its own from its first row on, under a lease. A worker that dies leaves blocks that nobody
ever sees; one that lost its lease deletes what it wrote. Messages are hints: a timer queues what nobody works on.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from shared.domain.errors import DependencyUnavailable, RouterError
from shared.domain.exports import MOST_ROWS, ExportJob, ExportState, ExportTask
from shared.ports import Clock, ExportFiles, ExportJobs, ExportQueue, ExportRows, ExportUpload, Ids, Telemetry
from shared.services.exporting import FileOf

LEASE_S: Final = 120.0
"""Longer than a page and a block may take together."""
MAX_ATTEMPTS: Final = 5
DELAYS_S: Final = (10, 40, 160, 640)
"""Before the second attempt and later ones."""
_ROWS_KEPT: Final = timedelta(days=30)
"""For which a job is told of after its file is gone."""
_TOO_LARGE: Final = "export_too_large"


class _LeaseLost(Exception):
    """Somebody else works on it, or it was cancelled."""


@dataclass(frozen=True, slots=True)
class ExportShop:
    """What the work is done with."""

    rows: ExportRows
    file_of: FileOf
    jobs: ExportJobs
    files: ExportFiles
    queue: ExportQueue


class ExportWork:
    """Does the queue's tasks.

    Args:
        shop: rows, files and jobs.
        clock: time.
        ids: of workers.
        telemetry: counts and logs.
        delays_s: before later attempts.
        lease_s: for which a job is held, and held again with each page.
        at_once: most files that a process writes at the same time.
        most_rows: of one file.
    """

    def __init__(
        self,
        shop: ExportShop,
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
        *,
        delays_s: Sequence[int] = DELAYS_S,
        lease_s: float = LEASE_S,
        at_once: int = 1,
        most_rows: int = MOST_ROWS,
    ) -> None:
        self._shop = shop
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry
        self._delays_s = delays_s
        self._lease_s = lease_s
        self._gate = asyncio.Semaphore(at_once)
        self._most_rows = most_rows

    async def do(self, task: ExportTask) -> None:
        """Write a file until it is ready, failed, or queued again for later.

        Raises:
            DependencyUnavailable: not even that could be noted; the queue gives the task out again.
        """
        # Waited for before the job is claimed: a lease is for work.
        async with self._gate:
            await self._do(task)

    async def _do(self, task: ExportTask) -> None:
        worker = self._ids.request_id()
        job = await self._shop.jobs.claim(task, worker=worker, lease_s=self._lease_s)
        if job is None:
            return
        if job.attempts > MAX_ATTEMPTS:
            # Every worker that took it died before it could say why.
            await self._fail(job, worker, "internal_error")
            return
        try:
            await self._write(job, worker)
        except _LeaseLost:
            self._telemetry.count("exports_written", outcome="superseded")
            await self._shop.files.delete(job.blob)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job must not stay where it is
            await self._again(job, worker, error)

    async def bury(self, task: ExportTask) -> None:
        """Take back a task that the queue gave up: it failed again and again before anything could be noted.

        Raises:
            DependencyUnavailable: it is still so.
        """
        job = await self._shop.jobs.get(task.tenant_id, task.export_id)
        if job is not None and job.state.is_open:
            # Attempts are counted with the job: one that is hopeless ends in `do`.
            await self._shop.queue.put([task], delay_s=max(self._delays_s, default=0))

    async def tend(self) -> None:
        """Queue jobs again whose message or worker was lost, and delete files whose time is over.

        Raises:
            DependencyUnavailable: a store is away; the next time will do.
        """
        lost = await self._shop.jobs.stuck(older_than_s=2 * self._lease_s)
        if lost:
            await self._shop.queue.put(lost)
            self._telemetry.log(logging.WARNING, "exports_requeued", exports=len(lost))
        now = self._clock.now()
        for job in await self._shop.jobs.due(now):
            for name in job.blobs:
                await self._shop.files.delete(name)
            await self._shop.jobs.clear(job)
        await self._shop.jobs.forget(now - _ROWS_KEPT)

    async def _write(self, job: ExportJob, worker: str) -> None:
        """From rows to a file that can be read."""
        expected = await self._shop.rows.count(job.query, most=self._most_rows + 1)
        if expected > self._most_rows:
            await self._fail(job, worker, _TOO_LARGE)
            return
        job = replace(job, rows_expected=expected)
        await self._hold(job, worker)
        upload = self._shop.files.upload(job.blob)
        digest, size_bytes = hashlib.sha256(), 0
        file = self._shop.file_of(job.format, job.query.shape)

        async def keep(upload: ExportUpload, piece: bytes) -> int:
            digest.update(piece)
            await upload.add(piece)
            return len(piece)

        size_bytes += await keep(upload, file.head())
        async for page in self._shop.rows.pages(job.query, job.format.lines):
            size_bytes += await keep(upload, await file.add(page))
            job = replace(job, rows_written=job.rows_written + page.rows)
            await self._hold(job, worker)
        size_bytes += await keep(upload, await file.tail())
        await self._hold(job, worker)
        await upload.commit(media_type=job.format.media_type, file_name=job.query.file_name(job.format))
        ready = replace(
            job,
            state=ExportState.READY,
            size_bytes=size_bytes,
            sha256=digest.hexdigest(),
            finished_at=self._clock.now(),
        )
        if not await self._shop.jobs.end(ready, worker=worker):
            raise _LeaseLost
        self._telemetry.count("exports_written", outcome="ready")
        self._telemetry.count("export_rows_written", job.rows_written, format=job.format.value)

    async def _hold(self, job: ExportJob, worker: str) -> None:
        if not await self._shop.jobs.advance(job, worker=worker, lease_s=self._lease_s):
            raise _LeaseLost

    async def _fail(self, job: ExportJob, worker: str, code: str) -> None:
        failed = replace(job, state=ExportState.FAILED, code=code, finished_at=self._clock.now())
        await self._shop.jobs.end(failed, worker=worker)
        self._telemetry.count("exports_written", outcome="failed")

    async def _again(self, job: ExportJob, worker: str, error: Exception) -> None:
        """Put it off, or give it up after so many attempts."""
        code = error.code if isinstance(error, RouterError) else type(error).__name__
        self._telemetry.log(logging.WARNING, "export_failed", export=job.id, attempt=job.attempts, error=code)
        if job.attempts >= MAX_ATTEMPTS or not isinstance(error, DependencyUnavailable | OSError):
            # What is no outage fails again in the same way.
            await self._fail(job, worker, code if isinstance(error, RouterError) else "internal_error")
            return
        if await self._shop.jobs.end(replace(job, state=ExportState.QUEUED), worker=worker):
            delay_s = self._delays_s[min(job.attempts, len(self._delays_s)) - 1]
            await self._shop.queue.put([ExportTask(job.tenant_id, job.id)], delay_s=delay_s)
            self._telemetry.count("exports_written", outcome="put_off")
