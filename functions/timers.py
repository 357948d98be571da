"""The one table of timers, and the blueprint made from it; each timer may run twice or late without harm."""

from collections.abc import Awaitable, Callable

import azure.functions as func

from functions._edge import job
from shared.container import Container

Work = Callable[[Container], Awaitable[None]]


async def recover_records(container: Container) -> None:
    """Write what dead worker processes of this machine left in their journals."""
    await container.records.recover()


async def prepare_partitions(container: Container) -> None:
    """Create the coming months' partitions of the ledger."""
    await container.maintenance.prepare_partitions()


async def note_receipt_heads(container: Container) -> None:
    """Log where the chains of receipts end, outside the database that holds them."""
    await container.receipts.note_heads()
    container.audit.note_head()


async def keep_sessions(container: Container) -> None:
    """Give session tokens a new signing key when the old one has served its time, and forget ended sessions."""
    if container.identity.tokens is not None:
        await container.identity.tokens.rotate()
    if container.identity.sessions is not None:
        await container.identity.sessions.sweep()


async def reconcile_budgets(container: Container) -> None:
    """Hold the counted money of budgets against the ledger, and end the leases of workers that died."""
    await container.reconciler.reconcile_all()


async def watch_threats(container: Container) -> None:
    """Measure the rules over security events, sightings and usage, and tell what they found."""
    await container.oversight.threats.look()


async def erase_persons(container: Container) -> None:
    """Go on with erasures that were ordered."""
    await container.oversight.privacy.work()


async def enforce_retention(container: Container) -> None:
    """Let go of what is older than its class is kept."""
    await container.oversight.retention.enforce()


async def requeue_documents(container: Container) -> None:
    """Queue documents again whose message or worker was lost."""
    await container.ingestion.work.requeue_stuck()


async def tend_exports(container: Container) -> None:
    """Queue exports again whose message or worker was lost, and delete files whose time is over."""
    await container.exports.work.tend()


async def roll_up(container: Container) -> None:
    """Bring the rollups of requests and attempts up to date, and count feedback whose request has arrived."""
    await container.insight.rollups.run()


async def score_quality(container: Container) -> None:
    """Make scores of the feedback, verdicts and signs that have come."""
    await container.insight.quality.run()


async def calibrate_collections(container: Container) -> None:
    """Measure what a question without an answer scores in collections that are new or have become others."""
    await container.retrieval.calibrate_due()


async def evaluate_alerts(container: Container) -> None:
    """Evaluate alert rules over the rollups, and note who is to be told."""
    await container.alerting.evaluator.run()


async def deliver_notifications(container: Container) -> None:
    """Send the notifications of alerts that are due."""
    await container.notifying.dispatcher.run()


async def purge_content(container: Container) -> None:
    """Delete kept content that has expired."""
    await container.content.purge()


async def rebuild_indexes(container: Container) -> None:
    """Build an index of the database anew that is mostly waste: one a night."""
    await container.storage.rebuild_index()


async def report_availability(container: Container) -> None:
    """Test whether what the router needs answers and a request would find a model, and tell telemetry."""
    await container.self_test.run()


TIMERS: tuple[tuple[str, Work], ...] = (
    ("0 * * * * *", recover_records),
    ("20 * * * * *", report_availability),
    ("0 5 0 * * *", prepare_partitions),
    ("0 */5 * * * *", note_receipt_heads),
    ("0 35 * * * *", keep_sessions),
    ("30 * * * * *", reconcile_budgets),
    ("45 */5 * * * *", watch_threats),
    ("15 * * * * *", erase_persons),
    ("0 20 2 * * *", enforce_retention),
    ("0 50 3 * * *", rebuild_indexes),
    ("15 */2 * * * *", requeue_documents),
    ("2 * * * * *", score_quality),
    ("25 */2 * * * *", tend_exports),
    ("5 * * * * *", roll_up),
    ("40 */10 * * * *", calibrate_collections),
    ("40 * * * * *", evaluate_alerts),
    ("*/10 * * * * *", deliver_notifications),
    ("50 10 * * * *", purge_content),
)
"""Six-field NCRONTAB in UTC, and what is done then. The function has the work's name."""


def entry(work: Work) -> Callable[[func.TimerRequest], Awaitable[None]]:
    """The function that the Functions runtime calls for a timer."""
    name = work.__name__

    async def run(timer: func.TimerRequest) -> None:
        del timer
        async with job(name) as container:
            await work(container)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = work.__doc__
    return run


blueprint = func.Blueprint()
for _schedule, _work in TIMERS:
    blueprint.function_name(_work.__name__)(
        blueprint.timer_trigger(arg_name="timer", schedule=_schedule, use_monitor=True)(entry(_work))
    )
