"""Queue-triggered functions."""

import azure.functions as func

from functions._edge import job
from functions._wire.exports import export_task_of
from functions._wire.rag import task_of
from shared.domain.record_codec import decode

blueprint = func.Blueprint()


@blueprint.function_name("store_spilled_records")
@blueprint.queue_trigger(arg_name="msg", queue_name="request-log", connection="AzureWebJobsStorage")
async def store_spilled_records(msg: func.QueueMessage) -> None:
    """Insert the request records that waited while the ledger was away; the same message twice changes nothing."""
    async with job("store_spilled_records") as container:
        await container.records.insert(decode(msg.get_body()))


@blueprint.function_name("take_back_spilled_records")
@blueprint.queue_trigger(arg_name="msg", queue_name="request-log-poison", connection="AzureWebJobsStorage")
async def take_back_spilled_records(msg: func.QueueMessage) -> None:
    """Store records that the queue gave up, for the ledger was away during all deliveries; or queue them again."""
    async with job("take_back_spilled_records") as container:
        await container.records.take_back(decode(msg.get_body()))


@blueprint.function_name("ingest_documents")
@blueprint.queue_trigger(arg_name="msg", queue_name="rag-ingest", connection="AzureWebJobsStorage")
async def ingest_documents(msg: func.QueueMessage) -> None:
    """Work on a document; the same message twice does it once."""
    async with job("ingest_documents") as container:
        await container.ingestion.work.do(task_of(msg.get_body()))


@blueprint.function_name("take_back_documents")
@blueprint.queue_trigger(arg_name="msg", queue_name="rag-ingest-poison", connection="AzureWebJobsStorage")
async def take_back_documents(msg: func.QueueMessage) -> None:
    """Queue again what the queue gave up while a store was away: attempts are counted with the document."""
    async with job("take_back_documents") as container:
        await container.ingestion.work.bury(task_of(msg.get_body()))


@blueprint.function_name("write_exports")
@blueprint.queue_trigger(arg_name="msg", queue_name="exports", connection="AzureWebJobsStorage")
async def write_exports(msg: func.QueueMessage) -> None:
    """Write an export's file; the same message twice writes it once."""
    async with job("write_exports") as container:
        await container.exports.work.do(export_task_of(msg.get_body()))


@blueprint.function_name("take_back_exports")
@blueprint.queue_trigger(arg_name="msg", queue_name="exports-poison", connection="AzureWebJobsStorage")
async def take_back_exports(msg: func.QueueMessage) -> None:
    """Queue again what the queue gave up while a store was away: attempts are counted with the job."""
    async with job("take_back_exports") as container:
        await container.exports.work.bury(export_task_of(msg.get_body()))
