"""Exports: rows as text, files made of them, where files and jobs are kept."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from shared.domain.exports import ExportJob, ExportQuery, ExportTask, LineForm, RowPage, SignedLink


class ExportRows(Protocol):
    """Rows of the ledger, the rollups and feedback."""

    async def count(self, query: ExportQuery, *, most: int) -> int:
        """How many rows a query takes; what is above `most` is not counted.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    def pages(self, query: ExportQuery, form: LineForm) -> AsyncIterator[RowPage]:
        """The rows in the order of time, each once; nothing is held between two pages.

        Raises:
            DependencyUnavailable: no answer in time, at any page.
        """
        ...


class ExportFile(Protocol):
    """Makes one file, piece by piece."""

    def head(self) -> bytes:
        """How it begins."""
        ...

    async def add(self, page: RowPage) -> bytes:
        """What can be written once this page is in; maybe nothing yet."""
        ...

    async def tail(self) -> bytes:
        """The rest."""
        ...


class ExportUpload(Protocol):
    """A file on its way to where it is kept; nobody sees it before it is whole."""

    async def add(self, piece: bytes) -> None:
        """Take some bytes.

        Raises:
            DependencyUnavailable: they were not kept; the upload is to be given up.
        """
        ...

    async def commit(self, *, media_type: str, file_name: str) -> None:
        """Let it be seen, all of it at once.

        Raises:
            DependencyUnavailable: it is not there, as far as can be known.
        """
        ...


class ExportFiles(Protocol):
    """Where files are kept."""

    def upload(self, name: str) -> ExportUpload:
        """A new file; nothing happens before its first bytes."""
        ...

    async def link(self, name: str, *, now: datetime, life_s: float) -> SignedLink:
        """An address that reads it for so many seconds.

        Raises:
            DependencyUnavailable: it cannot be signed now.
        """
        ...

    async def delete(self, name: str) -> None:
        """Forget a file; one that is not there is left alone.

        Raises:
            DependencyUnavailable: the store is away.
        """
        ...


class ExportJobs(Protocol):
    """Jobs, and who works on them. All methods raise `DependencyUnavailable` when there is no answer in time."""

    async def add(self, job: ExportJob, *, most_open: int) -> bool:
        """Keep a new job; False when the tenant has so many that are still to be done."""
        ...

    async def get(self, tenant_id: str, export_id: str) -> ExportJob | None:
        """A job of a tenant."""
        ...

    async def page(
        self, tenant_id: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
    ) -> Sequence[ExportJob]:
        """Jobs of a tenant, the newest first."""
        ...

    async def claim(self, task: ExportTask, *, worker: str, lease_s: float) -> ExportJob | None:
        """Take a job to work on, as a new attempt; None when it is over, or another worker holds its lease."""
        ...

    async def advance(self, job: ExportJob, *, worker: str, lease_s: float) -> bool:
        """Note how far it is, and hold the lease for longer; False when the job is somebody else's now, or over."""
        ...

    async def end(self, job: ExportJob, *, worker: str) -> bool:
        """Note that it is over, or put off when its state is open, and let go of it; False as in `advance`."""
        ...

    async def cancel(self, tenant_id: str, export_id: str) -> ExportJob | None:
        """Let it be done no more, or let its file be read no more; None when there is none."""
        ...

    async def stuck(self, *, older_than_s: float, limit: int = 100) -> Sequence[ExportTask]:
        """Jobs of all tenants that are still to be done and that nobody has worked on for so many seconds."""
        ...

    async def due(self, now: datetime, *, limit: int = 100) -> Sequence[ExportJob]:
        """Jobs of all tenants whose file's time is over and that were not cleared yet."""
        ...

    async def clear(self, job: ExportJob) -> None:
        """Note that its files are gone."""
        ...

    async def forget(self, before: datetime) -> int:
        """Delete cleared jobs that expired before an instant; returns how many."""
        ...


class ExportQueue(Protocol):
    """Tasks for whoever writes files; at least once."""

    async def put(self, tasks: Sequence[ExportTask], *, delay_s: int = 0) -> None:
        """Enqueue tasks.

        Raises:
            DependencyUnavailable: nothing, or only a part, was enqueued; putting again is safe.
        """
        ...
