"""Every part connected. Nothing here waits for a dependency to answer."""

import contextlib
import logging

from shared.config import Settings
from shared.container.alerting import build_alerting
from shared.container.business import build_administration
from shared.container.contents import Container
from shared.container.counting import build_insight
from shared.container.documents import build_ingestion
from shared.container.exporting import build_exports
from shared.container.ground import Ground, lay_ground
from shared.container.ledger import Ledger, build_ledger
from shared.container.models import Models, build_models
from shared.container.notifying import build_notifying
from shared.container.overseeing import build_oversight
from shared.container.quality import start_judge
from shared.container.retrieving import build_grounded, build_retrieval
from shared.container.signing_in import Callers, build_callers
from shared.container.walking import Walk, build_walk
from shared.domain.errors import DependencyUnavailable
from shared.services.idempotency import IdempotencyService
from shared.services.readiness import ReadinessService
from shared.services.receipts import ReceiptService
from shared.services.recording import RecordWriter
from shared.services.self_test import SelfTest
from shared.stores.postgres.maintenance import PostgresMaintenance
from shared.stores.postgres.probe import PostgresProbe
from shared.stores.postgres.receipts import PostgresReceiptStore
from shared.stores.postgres.storage import PostgresStorage
from shared.stores.queue_spill import QueueProbe
from shared.stores.redis import RedisProbe
from shared.stores.redis_idempotency import RedisIdempotencyStore
from shared.stores.registry_files import parse_kept

_KEEP_RECORDS = frozenset({PostgresProbe.name, QueueProbe.name})
"""Records go to the ledger or wait in the queue: with neither, nothing may be admitted."""


async def build(settings: Settings) -> Container:
    """Connect everything.

    Nothing here waits for a dependency to answer: pools and channels open in the background, so a worker starts, and
    says what is away, also when a dependency is.

    Raises:
        RegistryError: the registry or policy files are wrong.
        InvalidRequest: an adapter cannot use a deployment's options; `param` names it.
        ValueError: a setting does not fit.
    """
    closing = contextlib.AsyncExitStack()
    async with contextlib.AsyncExitStack() as on_failure:
        on_failure.push_async_callback(closing.aclose)
        container = await _build(lay_ground(settings, closing))
        on_failure.pop_all()
        return container


async def _build(ground: Ground) -> Container:
    """The parts in the order in which they stand on each other: each is closed before those above it."""
    models = build_models(ground)
    ledger = build_ledger(ground, models.shelf)
    walk = build_walk(ground, models, ledger)
    callers = build_callers(ground)
    await _start(ground, models, ledger, walk)
    return _container(ground, models, ledger, walk, callers)


async def _start(ground: Ground, models: Models, ledger: Ledger, walk: Walk) -> None:
    """Set to work what goes on in the background beside requests."""
    models.health.start()
    ground.closes(models.health)
    ledger.records.start()
    ground.closes(ledger.records)
    ledger.keeper.start()
    ground.closes(ledger.keeper)
    start_judge(ground, walk.routing, models.shelf, walk.watch)
    await _recover(ledger.records)


async def _recover(records: RecordWriter) -> None:
    """Take over what dead processes left; when nobody takes it now, the timer tries again."""
    try:
        await records.recover()
    except DependencyUnavailable:
        logging.getLogger("llm_router").warning("recovery_postponed")


def _container(ground: Ground, models: Models, ledger: Ledger, walk: Walk, callers: Callers) -> Container:
    """What the edge works with; the parts that only some requests or timers need are built here, from top to bottom."""
    shelf = models.shelf
    retrieval = build_retrieval(ground, models, walk)
    insight = build_insight(ground, shelf)
    readiness = _readiness(ground, ledger)
    return Container(
        settings=ground.settings,
        clock=ground.clock,
        ids=ground.ids,
        telemetry=ground.telemetry,
        authenticator=callers.authenticator,
        health=models.health,
        shelf=shelf,
        routing=walk.routing,
        embeddings=walk.embeddings,
        records=ledger.records,
        receipts=_receipts(ground, models, ledger),
        readiness=readiness,
        self_test=SelfTest(readiness, walk.routing, ground.clock, ground.ids, ground.telemetry),
        maintenance=PostgresMaintenance(ground.pool, ground.clock),
        storage=PostgresStorage(ground.pool),
        identity=callers.identity,
        content=walk.content,
        audit=callers.audit,
        idempotency=_idempotency(ground),
        limits=ledger.counts.limits,
        till=ledger.counts.till,
        reconciler=ledger.counts.reconciler,
        oversight=build_oversight(ground, shelf, ledger, walk, callers),
        ingestion=build_ingestion(ground, walk.embeddings, models.vectors),
        exports=build_exports(ground),
        insight=insight,
        administration=build_administration(ground, insight.analytics, shelf, models.health),
        retrieval=retrieval,
        alerting=build_alerting(ground, shelf),
        notifying=build_notifying(ground, lambda: shelf.policy),
        grounded=build_grounded(ground, models, walk, retrieval),
        close=ground.closing.aclose,
    )


def _receipts(ground: Ground, models: Models, ledger: Ledger) -> ReceiptService:
    store = PostgresReceiptStore(ground.pool)
    return ReceiptService(store, ledger.archive, parse_kept, models.shelf, ground.clock, ground.telemetry)


def _readiness(ground: Ground, ledger: Ledger) -> ReadinessService:
    probes = (PostgresProbe(ground.pool), RedisProbe(ground.redis), QueueProbe(ledger.spill))
    return ReadinessService(probes, ground.clock, either=_KEEP_RECORDS)


def _idempotency(ground: Ground) -> IdempotencyService:
    return IdempotencyService(
        RedisIdempotencyStore(ground.redis, ground.clock),
        ground.clock,
        ground.telemetry,
        refuses_without_store=ground.settings.idempotency_without_store == "refuse",
    )
