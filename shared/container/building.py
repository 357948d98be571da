"""Every part connected. Nothing here waits for a dependency to answer."""

import contextlib
import logging
import random
import secrets
import tempfile
from pathlib import Path

from shared.config import Settings
from shared.container.alerting import build_alerting
from shared.container.business import build_administration
from shared.container.content import build_content
from shared.container.contents import Container, Identity
from shared.container.counting import build_counting, build_insight
from shared.container.documents import build_ingestion, waiting_bytes
from shared.container.exporting import build_exports
from shared.container.models import build_providers, entra_credential
from shared.container.notifying import build_notifying
from shared.container.overseeing import build_event_log, build_oversight
from shared.container.quality import build_watch, start_judge
from shared.container.retrieving import build_rankings, build_retrieval
from shared.container.signing_in import build_authenticator, build_entra_tokens, build_session_tokens, build_sessions
from shared.container.storage import StorageAccess, storage_access
from shared.domain.errors import DependencyUnavailable
from shared.ports import (
    Clock,
)
from shared.providers.endpoints_options import validate_options
from shared.scoring.embedding_part import embedding_part
from shared.services.attempts import Attempts
from shared.services.audit import AuditTrail
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.deployment_health import DeploymentHealth
from shared.services.erased_on_arrival import ErasedOnArrival
from shared.services.forecasting import QualityForecaster
from shared.services.grounded import GroundedService
from shared.services.idempotency import IdempotencyService
from shared.services.readiness import ReadinessService
from shared.services.receipts import ReceiptService
from shared.services.recording import RecordWriter
from shared.services.reuse import AnswerReuse, SentenceEncoder
from shared.services.rewriting import QuestionRewriter
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.stores.audit import AUDIT_TABLE, TableAuditStore
from shared.stores.journal import FileJournal
from shared.stores.login_guard import RedisLoginGuard
from shared.stores.postgres.erasures import PostgresErasures
from shared.stores.postgres.maintenance import PostgresMaintenance
from shared.stores.postgres.pool import PostgresPool, entra_password
from shared.stores.postgres.probe import PostgresProbe
from shared.stores.postgres.receipts import PostgresConfigurationArchive, PostgresReceiptStore
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.storage import PostgresStorage
from shared.stores.quality_artefact import load_quality_model
from shared.stores.queue_spill import REQUEST_LOG_QUEUE, QueueProbe, StorageQueueSpill, open_queue
from shared.stores.redis import RedisProbe, connect_redis
from shared.stores.redis_answers import TIMEOUT_S as CACHE_TIMEOUT_S
from shared.stores.redis_answers import RedisAnswerCache
from shared.stores.redis_health import RedisHealthStore
from shared.stores.redis_idempotency import RedisIdempotencyStore
from shared.stores.registry_files import load_policy, load_registry, parse_kept
from shared.stores.sealing import Seal
from shared.stores.session_families import SESSIONS_TABLE, TableSessionFamilies
from shared.stores.system import SystemClock, UuidIds
from shared.stores.tables import open_table
from shared.telemetry import build_telemetry

ROLE_NAME = "llm-router"


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
        container = await _build(settings, closing)
        on_failure.pop_all()
        return container


async def _build(settings: Settings, closing: contextlib.AsyncExitStack) -> Container:
    clock, ids = SystemClock(), UuidIds()
    telemetry = build_telemetry(
        settings.telemetry_connection_string, role_name=ROLE_NAME, sampling=settings.telemetry_sampling
    )
    closing.push_async_callback(telemetry.aclose)
    registry = load_registry(*settings.registry_directories)
    for deployment in registry.deployments:
        validate_options(deployment)
    policy = load_policy(*settings.registry_directories, registry=registry)
    rng = random.Random(secrets.randbits(64))  # noqa: S311 - choices, not secrets

    entra = entra_credential(settings, closing)
    password = entra_password(entra) if entra is not None and settings.postgres_entra else None
    pool = PostgresPool(settings.postgres_dsn, password_source=password)
    closing.push_async_callback(pool.aclose)
    storage = storage_access(settings, entra)
    spill = StorageQueueSpill(open_queue(REQUEST_LOG_QUEUE, **storage))
    closing.push_async_callback(spill.aclose)
    redis = connect_redis(settings.redis_url)
    closing.push_async_callback(redis.aclose)
    providers = build_providers(settings, clock, closing)

    journal = FileJournal(settings.journal_directory or Path(tempfile.gettempdir()) / "llm-router-journal")
    closing.callback(journal.close)
    counts = build_counting(redis, pool, lambda: shelf.policy, clock, telemetry, closing)
    erasures = PostgresErasures(pool)
    ledger = ErasedOnArrival(PostgresRecordStore(pool, writer=ids.request_id()), erasures, clock, telemetry)
    log = build_event_log(pool, clock, telemetry, closing)
    records = RecordWriter(ledger, spill, journal, telemetry, counts.books, log)
    archive = PostgresConfigurationArchive(pool)
    keeper = ConfigurationKeeper(archive, telemetry)
    predictor = load_quality_model()
    health = DeploymentHealth(RedisHealthStore(redis), policy.health, clock, telemetry, rng, worker_id=ids.request_id())
    shelf = Shelf(registry, policy, health, clock, QualityForecaster(predictor))
    attempts = Attempts(providers, health, clock, telemetry, rng)
    cache = _answer_cache(settings, clock, closing)
    reuse = AnswerReuse(cache, clock, telemetry, SentenceEncoder.from_quality_model(predictor))
    closing.push_async_callback(reuse.aclose)
    idempotency = IdempotencyService(
        RedisIdempotencyStore(redis, clock),
        clock,
        telemetry,
        refuses_without_store=settings.idempotency_without_store == "refuse",
    )
    content = build_content(settings, entra, pool, shelf, clock, telemetry, closing)
    watch = build_watch(settings, redis, pool, clock, telemetry, closing)
    routing = RoutingService(
        shelf, attempts, providers, records, clock, telemetry, rng, keeper, reuse, counts.till, watch, content
    )
    vectors = Shelf(*embedding_part(registry, policy), health, clock)
    embeddings = RoutingService(vectors, attempts, providers, records, clock, telemetry, rng, keeper, till=counts.till)
    trails, families = _tables(storage, closing)
    audit = AuditTrail(trails, clock, telemetry, writer=ids.request_id())
    closing.push_async_callback(audit.aclose)
    tokens, tenant_tokens = (
        build_session_tokens(settings, entra, families, clock, closing),
        build_entra_tokens(settings, clock),
    )
    sessions = build_sessions(
        settings, tokens, tenant_tokens, families, RedisLoginGuard(redis, clock), clock, telemetry
    )
    health.start()
    closing.push_async_callback(health.aclose)
    records.start()
    closing.push_async_callback(records.aclose)
    keeper.start()
    closing.push_async_callback(keeper.aclose)
    start_judge(routing, shelf, watch, clock, ids, telemetry, rng, closing)
    await _recover(records)
    retrieval = build_retrieval(
        pool,
        embeddings,
        vectors,
        build_rankings(
            registry, policy, health, attempts, providers, records, keeper, counts.till, rng, clock, ids, telemetry
        ),
        clock,
        ids,
        telemetry,
    )
    insight = build_insight(settings, password, shelf, clock, telemetry, closing)
    return Container(
        settings=settings,
        clock=clock,
        ids=ids,
        telemetry=telemetry,
        authenticator=build_authenticator(settings, tenant_tokens, tokens),
        health=health,
        shelf=shelf,
        routing=routing,
        embeddings=embeddings,
        records=records,
        receipts=ReceiptService(PostgresReceiptStore(pool), archive, parse_kept, shelf, clock, telemetry),
        readiness=ReadinessService(
            (PostgresProbe(pool), RedisProbe(redis), QueueProbe(spill)), clock, either=_KEEP_RECORDS
        ),
        maintenance=PostgresMaintenance(pool, clock),
        storage=PostgresStorage(pool),
        identity=Identity(tokens, sessions),
        content=content,
        audit=audit,
        idempotency=idempotency,
        limits=counts.limits,
        till=counts.till,
        reconciler=counts.reconciler,
        oversight=build_oversight(
            settings,
            pool,
            (trails, families),
            cache,
            waiting_bytes(storage, closing),
            erasures,
            audit,
            log,
            shelf,
            clock,
            ids,
            telemetry,
            content,
        ),
        ingestion=build_ingestion(settings, entra, password, embeddings, vectors, clock, ids, telemetry, closing),
        exports=build_exports(settings, entra, password, clock, ids, telemetry, closing),
        insight=insight,
        administration=build_administration(settings, pool, redis, insight.analytics, shelf, health, clock),
        retrieval=retrieval,
        alerting=build_alerting(settings, password, shelf, clock, ids, telemetry, closing),
        notifying=build_notifying(settings, entra, pool, lambda: shelf.policy, clock, telemetry, rng, closing),
        grounded=GroundedService(
            retrieval,
            routing,
            shelf,
            telemetry,
            SentenceEncoder.from_quality_model(predictor).encode,
            QuestionRewriter(routing, shelf, clock, ids, telemetry),
        ),
        close=closing.aclose,
    )


def _tables(storage: StorageAccess, closing: contextlib.AsyncExitStack) -> tuple[TableAuditStore, TableSessionFamilies]:
    """The audit trail and the sessions."""
    trails = TableAuditStore(open_table(AUDIT_TABLE, **storage))
    families = TableSessionFamilies(open_table(SESSIONS_TABLE, **storage))
    closing.push_async_callback(trails.aclose)
    closing.push_async_callback(families.aclose)
    return trails, families


def _answer_cache(settings: Settings, clock: Clock, closing: contextlib.AsyncExitStack) -> RedisAnswerCache:
    # A pool of its own: a large answer under way must not hold up limits and budgets.
    redis = connect_redis(settings.cache_redis_url or settings.redis_url, timeout_s=CACHE_TIMEOUT_S)
    closing.push_async_callback(redis.aclose)
    seal = None if settings.cache_key is None else Seal.from_setting(settings.cache_key)
    return RedisAnswerCache(redis, clock, seal)


async def _recover(records: RecordWriter) -> None:
    """Take over what dead processes left; when nobody takes it now, the timer tries again."""
    try:
        await records.recover()
    except DependencyUnavailable:
        logging.getLogger("llm_router").warning("recovery_postponed")
