"""/admin/export: rows of the ledger, the rollups and feedback as files; few as a stream, many as a job."""

from collections.abc import AsyncIterator

from functions._edge import AuditDetail, Call, Reply, broken_stream
from functions._wire.exports import ExportBody, export_asked, job_body, jobs_body, link_body, page_asked
from functions._wire.parsing import parse
from functions._wire.query import only

_ACCEPTED = 202


async def export(call: Call) -> Reply:
    """Rows as a file, streamed while they are read."""
    asked = export_asked(call.query, call.caller.tenant_id, call.container.clock.now())
    first, rest = await call.container.exports.desk.stream(asked.query, asked.format)

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        try:
            async for piece in rest:
                yield piece
        except Exception as error:
            # Nothing can be said any more: a connection that breaks is how the caller learns that the file is not
            # whole. What raises here ends it without the last chunk.
            raise broken_stream(error, call) from error

    headers = {
        "content-disposition": f'attachment; filename="{asked.query.file_name(asked.format)}"',
        "cache-control": "private, no-store",
    }
    return Reply(
        events=pieces(),
        on_close=getattr(rest, "aclose", None),
        media_type=asked.format.media_type,
        headers=headers,
        audit=AuditDetail(resource=f"export {asked.query.subject.value}"),
    )


async def order(call: Call) -> Reply:
    """Order a file; what becomes of it is told by `show`."""
    asked = parse(call.body, ExportBody).asked(call.caller.tenant_id, call.container.clock.now())
    job = await call.container.exports.desk.order(call.caller, asked.query, asked.format)
    return Reply(job_body(job), status=_ACCEPTED, audit=AuditDetail(resource=f"export {job.id}"))


async def jobs(call: Call) -> Reply:
    """A page of jobs, the newest first."""
    before, limit = page_asked(call.query)
    found = await call.container.exports.desk.page(call.caller, before=before, limit=limit + 1)
    return Reply(jobs_body(found, limit))


async def show(call: Call) -> Reply:
    """How far a job is."""
    only(call.query, frozenset())
    return Reply(job_body(await call.container.exports.desk.show(call.caller, call.path_params["export_id"])))


async def link(call: Call) -> Reply:
    """An address that reads the file of a job, for some minutes."""
    export_id = call.path_params["export_id"]
    signed = await call.container.exports.desk.link(call.caller, export_id)
    return Reply(
        link_body(signed), headers={"cache-control": "no-store"}, audit=AuditDetail(resource=f"export {export_id}")
    )


async def cancel(call: Call) -> Reply:
    """Stop a job, or delete its file."""
    cancelled = await call.container.exports.desk.cancel(call.caller, call.path_params["export_id"])
    return Reply(job_body(cancelled), audit=AuditDetail(resource=f"export {cancelled.id}"))
