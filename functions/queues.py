"""Queue-triggered functions."""

import azure.functions as func

from functions._edge import job
from shared.domain.record_codec import decode

blueprint = func.Blueprint()


@blueprint.function_name("store_spilled_records")
@blueprint.queue_trigger(arg_name="msg", queue_name="request-log", connection="AzureWebJobsStorage")
async def store_spilled_records(msg: func.QueueMessage) -> None:
    """Insert the request records that waited while the ledger was away; the same message twice changes nothing."""
    async with job("store_spilled_records") as container:
        await container.records.insert(decode(msg.get_body()))
