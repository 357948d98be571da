"""Timer-triggered functions; each may run twice or late without harm."""

import azure.functions as func

from functions._edge import job

blueprint = func.Blueprint()


@blueprint.function_name("recover_records")
@blueprint.timer_trigger(arg_name="timer", schedule="0 * * * * *", use_monitor=True)
async def recover_records(timer: func.TimerRequest) -> None:
    """Write what dead worker processes of this machine left in their journals."""
    del timer
    async with job("recover_records") as container:
        await container.records.recover()


@blueprint.function_name("prepare_partitions")
@blueprint.timer_trigger(arg_name="timer", schedule="0 5 0 * * *", use_monitor=True)
async def prepare_partitions(timer: func.TimerRequest) -> None:
    """Create the coming months' partitions of the ledger."""
    del timer
    async with job("prepare_partitions") as container:
        await container.maintenance.prepare_partitions()


@blueprint.function_name("note_receipt_heads")
@blueprint.timer_trigger(arg_name="timer", schedule="0 */5 * * * *", use_monitor=True)
async def note_receipt_heads(timer: func.TimerRequest) -> None:
    """Log where the chains of receipts end, outside the database that holds them."""
    del timer
    async with job("note_receipt_heads") as container:
        await container.receipts.note_heads()
        container.audit.note_head()


@blueprint.function_name("keep_sessions")
@blueprint.timer_trigger(arg_name="timer", schedule="0 35 * * * *", use_monitor=True)
async def keep_sessions(timer: func.TimerRequest) -> None:
    """Give session tokens a new signing key when the old one has served its time, and forget ended sessions."""
    del timer
    async with job("keep_sessions") as container:
        if container.identity.tokens is not None:
            await container.identity.tokens.rotate()
        if container.identity.sessions is not None:
            await container.identity.sessions.sweep()


@blueprint.function_name("reconcile_budgets")
@blueprint.timer_trigger(arg_name="timer", schedule="30 * * * * *", use_monitor=True)
async def reconcile_budgets(timer: func.TimerRequest) -> None:
    """Hold the counted money of budgets against the ledger, and end the leases of workers that died."""
    del timer
    async with job("reconcile_budgets") as container:
        await container.reconciler.reconcile_all()


@blueprint.function_name("watch_threats")
@blueprint.timer_trigger(arg_name="timer", schedule="45 */5 * * * *", use_monitor=True)
async def watch_threats(timer: func.TimerRequest) -> None:
    """Measure the rules over security events, sightings and usage, and tell what they found."""
    del timer
    async with job("watch_threats") as container:
        await container.oversight.threats.look()


@blueprint.function_name("erase_persons")
@blueprint.timer_trigger(arg_name="timer", schedule="15 * * * * *", use_monitor=True)
async def erase_persons(timer: func.TimerRequest) -> None:
    """Go on with erasures that were ordered."""
    del timer
    async with job("erase_persons") as container:
        await container.oversight.privacy.work()


@blueprint.function_name("enforce_retention")
@blueprint.timer_trigger(arg_name="timer", schedule="0 20 2 * * *", use_monitor=True)
async def enforce_retention(timer: func.TimerRequest) -> None:
    """Let go of what is older than its class is kept."""
    del timer
    async with job("enforce_retention") as container:
        await container.oversight.retention.enforce()


@blueprint.function_name("requeue_documents")
@blueprint.timer_trigger(arg_name="timer", schedule="15 */2 * * * *", use_monitor=True)
async def requeue_documents(timer: func.TimerRequest) -> None:
    """Queue documents again whose message or worker was lost."""
    del timer
    async with job("requeue_documents") as container:
        await container.ingestion.work.requeue_stuck()


@blueprint.function_name("roll_up")
@blueprint.timer_trigger(arg_name="timer", schedule="5 * * * * *", use_monitor=True)
async def roll_up(timer: func.TimerRequest) -> None:
    """Bring the rollups of requests and attempts up to date, and count feedback whose request has arrived."""
    del timer
    async with job("roll_up") as container:
        await container.insight.rollups.run()


@blueprint.function_name("calibrate_collections")
@blueprint.timer_trigger(arg_name="timer", schedule="40 */10 * * * *", use_monitor=True)
async def calibrate_collections(timer: func.TimerRequest) -> None:
    """Measure what a question without an answer scores in collections that are new or have become others."""
    del timer
    async with job("calibrate_collections") as container:
        await container.retrieval.calibrate_due()
