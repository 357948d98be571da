"""One worker process of `test_export_jobs`: writes one export, and may kill itself at a place where it waits.

Arguments: a JSON object with dsn, storage (a connection string), container, tenant_id, export_id, and `dies_at`: at
which of its calls to the outside world the process ends as by kill -9 (0: never), before or after the call (`dies`).
Prints what it measured: the number of calls, and the most memory it had so far, in KiB, at each page and at the end.
"""

import asyncio
import json
import os
import resource
import signal
import sys

from shared.domain.exports import ExportTask
from shared.services.export_work import ExportShop, ExportWork
from shared.stores.blobs import open_container
from shared.stores.export_blobs import AzureExportFiles
from shared.stores.export_files import file_of
from shared.stores.postgres.export_jobs import PostgresExportJobs
from shared.stores.postgres.export_rows import PostgresExportRows
from shared.stores.postgres.pool import PostgresPool
from shared.stores.system import SystemClock, UuidIds
from shared.telemetry import RecordingTelemetry


class Fate:
    """Counts calls, and ends the process at one of them."""

    def __init__(self, dies_at, dies):
        self.calls, self._dies_at, self._dies = 0, dies_at, dies
        self.peaks_kib = []

    def turn(self, when):
        self.calls += when == "before"
        if self.calls == self._dies_at and when == self._dies:
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """Everything that is waited for passes by fate."""

    def __init__(self, inner, fate):
        self._inner, self._fate = inner, fate

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if name == "upload":
            return lambda *args: Mortal(method(*args), self._fate)
        if name == "pages":
            return lambda *args: self._paged(method(*args))

        async def call(*args, **kwargs):
            self._fate.turn("before")
            answer = await method(*args, **kwargs)
            self._fate.turn("after")
            return answer

        return call

    async def _paged(self, pages):
        async for page in pages:
            self._fate.turn("before")
            self._fate.peaks_kib.append(peak_kib())
            yield page


def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def main(given):
    fate = Fate(given["dies_at"], given["dies"])
    pool = PostgresPool(given["dsn"])
    container = open_container(given["container"], connection_string=given["storage"])
    files = AzureExportFiles(container, https_only=False)
    rows = PostgresExportRows(pool, page_rows=given["page_rows"])
    shop = ExportShop(Mortal(rows, fate), file_of, Mortal(PostgresExportJobs(pool), fate), Mortal(files, fate), None)
    work = ExportWork(shop, SystemClock(), UuidIds(), RecordingTelemetry(), lease_s=given["lease_s"])
    await work.do(ExportTask(given["tenant_id"], given["export_id"]))
    await files.aclose()
    await pool.aclose()
    said = {"calls": fate.calls, "peaks_kib": [*fate.peaks_kib, peak_kib()]}
    print(json.dumps(said))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
