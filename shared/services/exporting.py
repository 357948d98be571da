"""Exports as callers ask for them: a stream for few rows, a job for many."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from shared.domain.errors import (
    Conflict,
    DependencyUnavailable,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    RequestTooLarge,
)
from shared.domain.exports import (
    MOST_STREAMED_ROWS,
    ExportColumn,
    ExportFormat,
    ExportJob,
    ExportQuery,
    ExportState,
    ExportTask,
    SignedLink,
)
from shared.domain.identity import Permission, Principal
from shared.ports import Clock, ExportFile, ExportFiles, ExportJobs, ExportQueue, ExportRows, Ids, Telemetry

KEPT: Final = timedelta(days=3)
"""For which a file can be read. Files are copies of names that an erasure does not reach into: a short time."""
LINK_LIFE_S: Final = 900.0
MOST_OPEN: Final = 5
"""Jobs of one tenant that are still to be done."""
_BUSY_RETRY_S: Final = 60.0

FileOf = Callable[[ExportFormat, Sequence[ExportColumn]], ExportFile]


class ExportDesk:
    """Streams, and takes orders for files.

    Args:
        rows: what is exported.
        file_of: makes files.
        jobs: orders.
        files: where finished files are.
        queue: hears of new orders.
        clock: time.
        ids: of orders.
        telemetry: counts and logs.
        most_streamed_rows: more than that are not streamed.
    """

    def __init__(
        self,
        rows: ExportRows,
        file_of: FileOf,
        jobs: ExportJobs,
        files: ExportFiles,
        queue: ExportQueue,
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
        *,
        most_streamed_rows: int = MOST_STREAMED_ROWS,
    ) -> None:
        self._rows = rows
        self._file_of = file_of
        self._jobs = jobs
        self._files = files
        self._queue = queue
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry
        self._most_streamed_rows = most_streamed_rows

    async def stream(self, query: ExportQuery, form: ExportFormat) -> tuple[bytes, AsyncIterator[bytes]]:
        """The file's first piece, and the pieces that follow; the source is read as they are asked for.

        An error while the pieces are read means that there is no whole file: it must reach the reader as one.

        Raises:
            RequestTooLarge: there are too many rows; order a job.
            DependencyUnavailable: no answer in time, here or at any piece.
        """
        query = self._settled(query)
        most = self._most_streamed_rows
        if await self._rows.count(query, most=most + 1) > most:
            raise RequestTooLarge(
                f"more than {most} rows: choose fewer, or order a file with POST /admin/export", code="export_too_large"
            )
        pieces = self._pieces(query, form)
        # The first rows are read before the answer begins: what fails by then is an error with a status.
        return await anext(pieces), pieces

    async def order(self, caller: Principal, query: ExportQuery, form: ExportFormat) -> ExportJob:
        """A job that writes a file in the background.

        Raises:
            RateLimited: too many jobs of the tenant are still to be done.
            DependencyUnavailable: it was not taken, as far as can be known.
        """
        now = self._clock.now()
        job = ExportJob(self._ids.request_id(), caller.id, self._settled(query), form, now, now + KEPT)
        if not await self._jobs.add(job, most_open=MOST_OPEN):
            raise RateLimited(
                f"{MOST_OPEN} exports of yours are still to be written; wait, or cancel one",
                code="too_many_exports",
                retry_after_s=_BUSY_RETRY_S,
            )
        self._telemetry.count("exports_ordered", format=form.value, of=query.subject.value)
        try:
            await self._queue.put([ExportTask(job.tenant_id, job.id)])
        except DependencyUnavailable:
            # It is taken all the same: the timer queues what nobody works on.
            self._telemetry.log(logging.WARNING, "export_not_queued", export=job.id)
        return job

    async def show(self, caller: Principal, export_id: str) -> ExportJob:
        """A job of the caller's tenant.

        Raises:
            NotFound: there is none.
            DependencyUnavailable: no answer in time.
        """
        job = await self._jobs.get(caller.tenant_id, export_id)
        if job is None:
            raise NotFound("there is no such export", param="export_id")
        # What is due is as good as gone, whether or not the timer was there.
        is_over = job.state is ExportState.READY and job.expires_at <= self._clock.now()
        return replace(job, state=ExportState.EXPIRED) if is_over else job

    async def page(self, caller: Principal, *, before: tuple[datetime, str] | None, limit: int) -> Sequence[ExportJob]:
        """Jobs of the caller's tenant, the newest first.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        return await self._jobs.page(caller.tenant_id, before=before, limit=limit)

    async def link(self, caller: Principal, export_id: str) -> SignedLink:
        """An address that reads the file for a quarter of an hour, and not longer than the file is kept.

        Raises:
            NotFound: there is no such job.
            Conflict: its file is not there, not yet or not any more; the message says in which state it is.
            DependencyUnavailable: no answer in time.
        """
        job = await self.show(caller, export_id)
        if job.state is not ExportState.READY:
            raise Conflict(f"the export is {job.state.value}: it has no file", code="export_not_ready")
        now = self._clock.now()
        life_s = min(LINK_LIFE_S, (job.expires_at - now).total_seconds())
        return await self._files.link(job.blob, now=now, life_s=life_s)

    async def cancel(self, caller: Principal, export_id: str) -> ExportJob:
        """Stop a job, or delete its file. Links to it that were given out end too.

        Raises:
            NotFound: there is no such job.
            Forbidden: it is another principal's, and the caller may not write to the administration.
            DependencyUnavailable: no answer in time.
        """
        job = await self.show(caller, export_id)
        if job.requested_by != caller.id and not caller.may(Permission.ADMIN_WRITE):
            raise Forbidden(f"exports of others are cancelled with the permission {Permission.ADMIN_WRITE.value}")
        cancelled = await self._jobs.cancel(caller.tenant_id, export_id)
        if cancelled is None:
            raise NotFound("there is no such export", param="export_id")
        try:
            for name in cancelled.blobs:
                await self._files.delete(name)
        except DependencyUnavailable:
            # The timer deletes what is left: it is due from now on.
            self._telemetry.log(logging.WARNING, "export_blobs_left", export=job.id)
        return cancelled

    def _settled(self, query: ExportQuery) -> ExportQuery:
        """The query without the future: what comes while rows are read is in no file, so each row is in it once."""
        until = min(query.until, self._clock.now())
        if until <= query.since:
            raise InvalidRequest("from: must be before now", param="from")
        return replace(query, until=until)

    async def _pieces(self, query: ExportQuery, form: ExportFormat) -> AsyncIterator[bytes]:
        file, rows = self._file_of(form, query.shape), 0
        piece = file.head()
        async for page in self._rows.pages(query, form.lines):
            piece += await file.add(page)
            rows += page.rows
            if piece:
                yield piece
                piece = b""
        yield piece + await file.tail()
        self._telemetry.count("export_rows_streamed", rows, format=form.value, of=query.subject.value)
