"""/rag: documents to retrieve from."""

from functions._edge import AuditDetail, Call, Reply
from functions._wire.parsing import parse
from functions._wire.query import only
from functions._wire.rag import IngestBody, collections_body, document_body, listing, page_body, taken_body
from shared.domain.errors import RouterError

_ACCEPTED = 202


async def ingest(call: Call) -> Reply:
    """Take documents in; what becomes of them is told by `document`."""
    body = parse(call.body, IngestBody)
    try:
        taken = await call.container.ingestion.desk.submit(call.caller, body.submissions())
    except RouterError as error:
        error.param = body.param(error.param)
        raise
    return Reply(taken_body(taken), status=_ACCEPTED)


async def documents(call: Call) -> Reply:
    """A page of documents."""
    return Reply(page_body(await call.container.ingestion.desk.page(call.caller, **listing(call.query))))


async def document(call: Call) -> Reply:
    """One document."""
    only(call.query, frozenset())
    return Reply(document_body(await call.container.ingestion.desk.get(call.caller, call.path_params["document_id"])))


async def delete(call: Call) -> Reply:
    """Take a document away with all that was made of it."""
    gone = await call.container.ingestion.desk.delete(call.caller, call.path_params["document_id"])
    return Reply(document_body(gone), audit=AuditDetail(resource=f"document {gone.id}"))


async def retry(call: Call) -> Reply:
    """Work on a document again that failed or needed OCR."""
    queued = await call.container.ingestion.desk.retry(call.caller, call.path_params["document_id"])
    return Reply(document_body(queued), status=_ACCEPTED)


async def collections(call: Call) -> Reply:
    """What the tenant's collections hold."""
    only(call.query, frozenset())
    return Reply(collections_body(await call.container.ingestion.desk.collections(call.caller)))
