"""The only place that knows every adapter. Built lazily, once per worker process, never at import."""

import asyncio
import contextlib
import functools
import logging
import random
import secrets
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from redis.asyncio import Redis

from shared.config import Settings
from shared.domain.errors import DependencyUnavailable, ModelNotFound
from shared.domain.models import ProviderKind, Registry
from shared.domain.policy import Policy
from shared.ports import (
    Authenticator,
    Clock,
    Ids,
    LedgerMaintenance,
    LoginGuard,
    ModelProvider,
    SessionFamilies,
    Telemetry,
)
from shared.providers.anthropic import AnthropicProvider
from shared.providers.credentials import AnonymousTokens, TokenSource, adc_tokens, entra_federated_tokens
from shared.providers.endpoints import CustomEndpointProvider, HuggingFaceProvider
from shared.providers.endpoints_options import validate_options
from shared.providers.gemini import GeminiProvider
from shared.providers.openai_maas import OpenAiMaasProvider
from shared.providers.parsing.sandbox import SandboxedParser
from shared.providers.vertex_embedding import VertexEmbeddingProvider
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from shared.scoring.embedding_part import embedding_part
from shared.security.chain import ChainAuthenticator
from shared.security.development import DevelopmentAuthenticator
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.security.entra import EntraTokenAuthenticator
from shared.security.entra_login import EntraCredentialCheck
from shared.security.jwks import JsonWebKeys
from shared.security.session_tokens import SessionTokens
from shared.security.signing_keys import FileSigningKeys, KeyVaultSigningKeys
from shared.services.analytics import Analytics
from shared.services.attempts import Attempts
from shared.services.audit import AuditTrail
from shared.services.bookkeeping import Bookkeeper
from shared.services.compliance import ComplianceReporter, Fact, encryption_facts
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.deployment_health import DeploymentHealth
from shared.services.erased_on_arrival import ErasedOnArrival
from shared.services.feedback import FeedbackDesk
from shared.services.forecasting import QualityForecaster
from shared.services.grounded import GroundedService
from shared.services.idempotency import IdempotencyService
from shared.services.ingestion import IngestionService
from shared.services.ingestion_work import IngestionWork, Workshop
from shared.services.insight import Insight
from shared.services.limits import Limits
from shared.services.oversight import Oversight
from shared.services.personal_stores import AnswersOfPersons, AuditOfPersons, SessionsOfPersons
from shared.services.privacy import PrivacyService
from shared.services.readiness import ReadinessService
from shared.services.receipts import ReceiptService
from shared.services.reconciling import Reconciler
from shared.services.recording import RecordWriter
from shared.services.retention import Retention
from shared.services.retrieval import RetrievalService
from shared.services.reuse import AnswerReuse, SentenceEncoder
from shared.services.rollups import Rollups
from shared.services.routing import RoutingService
from shared.services.security_events import SecurityEventLog
from shared.services.sessions import SessionService
from shared.services.shelf import Shelf
from shared.services.threats import ThreatWatch
from shared.services.till import Till
from shared.stores.audit import AUDIT_TABLE, TableAuditStore
from shared.stores.blobs import INBOX_CONTAINER, INGESTION_CONTAINER, AzureBlobStore, open_container
from shared.stores.ingestion_queue import INGESTION_QUEUE, StorageIngestionQueue
from shared.stores.journal import FileJournal
from shared.stores.login_guard import RedisLoginGuard
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.budgets import PostgresBudgetLedger
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.encryption import connection_encryption
from shared.stores.postgres.erasures import PostgresErasures
from shared.stores.postgres.feedback import PostgresFeedback, PostgresFeedbackOfPersons
from shared.stores.postgres.maintenance import PostgresMaintenance
from shared.stores.postgres.passages import PostgresPassageIndex
from shared.stores.postgres.personal import PostgresEventsOfPersons, PostgresLedgerOfPersons
from shared.stores.postgres.pool import PasswordSource, PostgresPool, entra_password
from shared.stores.postgres.probe import PostgresProbe
from shared.stores.postgres.receipts import PostgresConfigurationArchive, PostgresReceiptStore
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.postgres.retention import PostgresRetention
from shared.stores.postgres.rollups import PostgresRollups
from shared.stores.postgres.security_events import PostgresSecurityEvents
from shared.stores.postgres.threats import PostgresThreats
from shared.stores.quality_artefact import load_quality_model
from shared.stores.queue_spill import REQUEST_LOG_QUEUE, QueueProbe, StorageQueueSpill, open_queue
from shared.stores.redis import RedisProbe, connect_redis
from shared.stores.redis_answers import TIMEOUT_S as CACHE_TIMEOUT_S
from shared.stores.redis_answers import RedisAnswerCache
from shared.stores.redis_budgets import RedisBudgetStore
from shared.stores.redis_health import RedisHealthStore
from shared.stores.redis_idempotency import RedisIdempotencyStore
from shared.stores.redis_limits import RedisLimitStore
from shared.stores.registry_files import load_policy, load_registry, parse_kept
from shared.stores.sealing import Seal
from shared.stores.session_families import SESSIONS_TABLE, TableSessionFamilies
from shared.stores.system import SystemClock, UuidIds
from shared.stores.tables import open_table
from shared.telemetry import build_telemetry

ROLE_NAME = "llm-router"
_KEEP_RECORDS = frozenset({PostgresProbe.name, QueueProbe.name})
"""Records go to the ledger or wait in the queue: with neither, nothing may be admitted."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Sign-in: each part is None where the settings leave it off.

    Attributes:
        tokens: checks and signs session tokens.
        sessions: signs callers in; needs Entra's word besides.
    """

    tokens: SessionTokens | None = None
    sessions: SessionService | None = None


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Documents: `desk` takes them in, `work` does what the queue says."""

    desk: IngestionService
    work: IngestionWork


@dataclass(frozen=True, slots=True)
class Container:
    """What the edge works with."""

    settings: Settings
    clock: Clock
    ids: Ids
    telemetry: Telemetry
    authenticator: Authenticator
    health: DeploymentHealth
    shelf: Shelf
    routing: RoutingService
    embeddings: RoutingService
    """The same walk for requests for vectors, over the embedding models."""
    records: RecordWriter
    receipts: ReceiptService
    readiness: ReadinessService
    maintenance: LedgerMaintenance
    identity: Identity
    audit: AuditTrail
    idempotency: IdempotencyService
    limits: Limits
    till: Till
    reconciler: Reconciler
    oversight: Oversight
    ingestion: Ingestion
    insight: Insight
    retrieval: RetrievalService
    grounded: GroundedService
    close: Callable[[], Awaitable[None]]


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

    entra = _entra_credential(settings, closing)
    password = entra_password(entra) if entra is not None and settings.postgres_entra else None
    pool = PostgresPool(settings.postgres_dsn, password_source=password)
    closing.push_async_callback(pool.aclose)
    queue = open_queue(
        REQUEST_LOG_QUEUE,
        connection_string=settings.storage_connection_string,
        account_name=settings.storage_account,
        credential=entra,
    )
    spill = StorageQueueSpill(queue)
    closing.push_async_callback(spill.aclose)
    redis = connect_redis(settings.redis_url)
    closing.push_async_callback(redis.aclose)
    providers = _providers(settings, clock, closing)

    journal = FileJournal(settings.journal_directory or Path(tempfile.gettempdir()) / "llm-router-journal")
    closing.callback(journal.close)
    counts = _counting(redis, pool, lambda: shelf.policy, clock, telemetry, closing)
    erasures = PostgresErasures(pool)
    ledger = ErasedOnArrival(PostgresRecordStore(pool, writer=ids.request_id()), erasures, clock, telemetry)
    log = _event_log(pool, clock, telemetry, closing)
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
    routing = RoutingService(shelf, attempts, providers, records, clock, telemetry, rng, keeper, reuse, counts.till)
    vectors = Shelf(*embedding_part(registry, policy), health, clock)
    embeddings = RoutingService(vectors, attempts, providers, records, clock, telemetry, rng, keeper, till=counts.till)
    trails, families = _tables(settings, entra, closing)
    audit = AuditTrail(trails, clock, telemetry, writer=ids.request_id())
    closing.push_async_callback(audit.aclose)
    tokens, tenant_tokens = _session_tokens(settings, entra, clock, closing), _entra_tokens(settings, clock)
    sessions = _sessions(settings, tokens, tenant_tokens, families, RedisLoginGuard(redis), clock, telemetry)
    health.start()
    closing.push_async_callback(health.aclose)
    records.start()
    closing.push_async_callback(records.aclose)
    keeper.start()
    closing.push_async_callback(keeper.aclose)
    await _recover(records)
    retrieval = RetrievalService(
        PostgresPassageIndex(pool), embeddings, lambda: _usual_model(vectors.registry), clock, ids, telemetry
    )
    return Container(
        settings=settings,
        clock=clock,
        ids=ids,
        telemetry=telemetry,
        authenticator=_authenticator(settings, tenant_tokens, tokens),
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
        identity=Identity(tokens, sessions),
        audit=audit,
        idempotency=idempotency,
        limits=counts.limits,
        till=counts.till,
        reconciler=counts.reconciler,
        oversight=_oversight(
            settings, pool, trails, families, cache, erasures, audit, log, shelf, clock, ids, telemetry
        ),
        ingestion=_ingestion(settings, entra, password, embeddings, vectors, clock, ids, telemetry, closing),
        insight=_insight(settings, password, shelf, clock, telemetry, closing),
        retrieval=retrieval,
        grounded=GroundedService(
            retrieval, routing, shelf, telemetry, SentenceEncoder.from_quality_model(predictor).encode
        ),
        close=closing.aclose,
    )


def _ingestion(
    settings: Settings,
    entra: AsyncTokenCredential | None,
    password: PasswordSource | None,
    embeddings: RoutingService,
    vectors: Shelf,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> Ingestion:
    # A pool of its own: publishing a long document must not hold up the ledger.
    pool = PostgresPool(
        settings.postgres_dsn,
        password_source=password,
        application_name="llm-router-ingestion",
        max_size=4,
        statement_timeout_s=60.0,
    )
    closing.push_async_callback(pool.aclose)
    storage: dict[str, Any] = {
        "connection_string": settings.storage_connection_string,
        "account_name": settings.storage_account,
        "credential": entra,
    }
    blobs = AzureBlobStore(open_container(INGESTION_CONTAINER, **storage))
    closing.push_async_callback(blobs.aclose)
    inbox = AzureBlobStore(open_container(INBOX_CONTAINER, **storage))
    closing.push_async_callback(inbox.aclose)
    queue = StorageIngestionQueue(open_queue(INGESTION_QUEUE, **storage))
    closing.push_async_callback(queue.aclose)
    documents = PostgresDocumentStore(pool)
    shop = Workshop(
        documents=documents,
        blobs=blobs,
        queue=queue,
        parser=SandboxedParser(telemetry),
        embeddings=embeddings,
        model=lambda: _usual_model(vectors.registry),
        detection=lambda: vectors.policy.detection,
    )
    desk = IngestionService(documents, blobs, inbox, queue, ids, telemetry)
    return Ingestion(desk, IngestionWork(shop, clock, ids, telemetry))


def _insight(
    settings: Settings,
    password: PasswordSource | None,
    shelf: Shelf,
    clock: Clock,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> Insight:
    # A pool of its own: rolling up hours after an outage must not hold up the ledger.
    pool = PostgresPool(
        settings.postgres_dsn, password_source=password, application_name="llm-router-analytics", max_size=3
    )
    closing.push_async_callback(pool.aclose)
    rollups = PostgresRollups(pool, tag_keys=settings.analytics_tags)
    return Insight(
        Analytics(PostgresAnalytics(pool), lambda: shelf.registry, settings.former_models),
        FeedbackDesk(PostgresFeedback(pool), lambda: shelf.policy, telemetry),
        Rollups(rollups, lambda: shelf.registry, clock, telemetry),
    )


def _usual_model(embeddings: Registry) -> str:
    """The embedding model that is used where none is named."""
    found = embeddings.resolve("auto")
    if found is None:
        raise ModelNotFound("the registry gives no embedding model the alias auto", param="model")
    return found.id


@dataclass(frozen=True, slots=True)
class _Counting:
    """What counts requests and money for all processes."""

    limits: Limits
    books: Bookkeeper
    reconciler: Reconciler
    till: Till


def _counting(
    redis: Redis,
    pool: PostgresPool,
    policy: Callable[[], Policy],
    clock: Clock,
    telemetry: Telemetry,
    closing: contextlib.AsyncExitStack,
) -> _Counting:
    """Rate limits and budgets, at work. To be called before the ledger's writer: its last records are booked too."""
    limits = Limits(RedisLimitStore(redis, clock), policy, clock, telemetry)
    money = RedisBudgetStore(redis, clock)
    books = Bookkeeper(money, telemetry)
    reconciler = Reconciler(money, PostgresBudgetLedger(pool), clock, telemetry)
    limits.start()
    closing.push_async_callback(limits.aclose)
    books.start()
    closing.push_async_callback(books.aclose)
    return _Counting(limits, books, reconciler, Till(money, books, reconciler, policy, clock, telemetry))


def _providers(
    settings: Settings, clock: Clock, closing: contextlib.AsyncExitStack
) -> Mapping[ProviderKind, ModelProvider]:
    tokens = _tokens(settings, clock)
    grpc = VertexGrpc(
        project=settings.vertex_project,
        tokens=tokens,
        endpoint_override=settings.vertex_grpc_endpoint,
        clock=clock,
    )
    http = VertexHttp(settings.vertex_project, tokens, clock, base_override=settings.vertex_http_endpoint)
    closing.push_async_callback(grpc.aclose)
    closing.push_async_callback(http.aclose)
    return {
        ProviderKind.GEMINI: GeminiProvider(grpc),
        ProviderKind.ANTHROPIC: AnthropicProvider(grpc),
        ProviderKind.OPENAI_MAAS: OpenAiMaasProvider(http, grpc),
        ProviderKind.HUGGING_FACE: HuggingFaceProvider(http, grpc),
        ProviderKind.CUSTOM: CustomEndpointProvider(grpc),
        ProviderKind.TEXT_EMBEDDING: VertexEmbeddingProvider(grpc),
    }


def _entra_credential(settings: Settings, closing: contextlib.AsyncExitStack) -> AsyncTokenCredential | None:
    """The managed identity, where a store is reached with it."""
    if settings.storage_connection_string and not settings.postgres_entra and not settings.key_vault_url:
        return None
    # Imported only where it is used: azure.identity costs 0.2 s of CPU at start.
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

    credential = DefaultAzureCredential()
    closing.push_async_callback(credential.close)
    return credential


def _tokens(settings: Settings, clock: Clock) -> TokenSource:
    if settings.vertex_credentials == "anonymous":
        return AnonymousTokens()
    if settings.vertex_credentials == "adc":
        return adc_tokens(clock=clock)
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - as above

    return entra_federated_tokens(
        audience=settings.wif_audience or "",
        scope=settings.wif_scope or "",
        service_account=settings.wif_service_account,
        token_url=settings.sts_url,
        entra_credential=DefaultAzureCredential(),
        clock=clock,
    )


def _tables(
    settings: Settings, entra: AsyncTokenCredential | None, closing: contextlib.AsyncExitStack
) -> tuple[TableAuditStore, TableSessionFamilies]:
    """The audit trail and the sessions."""
    table = functools.partial(
        open_table,
        connection_string=settings.storage_connection_string,
        account_name=settings.storage_account,
        credential=entra,
    )
    trails, families = TableAuditStore(table(AUDIT_TABLE)), TableSessionFamilies(table(SESSIONS_TABLE))
    closing.push_async_callback(trails.aclose)
    closing.push_async_callback(families.aclose)
    return trails, families


def _answer_cache(settings: Settings, clock: Clock, closing: contextlib.AsyncExitStack) -> RedisAnswerCache:
    # A pool of its own: a large answer under way must not hold up limits and budgets.
    redis = connect_redis(settings.cache_redis_url or settings.redis_url, timeout_s=CACHE_TIMEOUT_S)
    closing.push_async_callback(redis.aclose)
    seal = None if settings.cache_key is None else Seal.from_setting(settings.cache_key)
    return RedisAnswerCache(redis, clock, seal)


def _event_log(
    pool: PostgresPool, clock: Clock, telemetry: Telemetry, closing: contextlib.AsyncExitStack
) -> SecurityEventLog:
    log = SecurityEventLog(PostgresSecurityEvents(pool), clock, telemetry)
    closing.push_async_callback(log.aclose)
    return log


def _oversight(
    settings: Settings,
    pool: PostgresPool,
    trails: TableAuditStore,
    families: TableSessionFamilies,
    cache: RedisAnswerCache,
    erasures: PostgresErasures,
    audit: AuditTrail,
    log: SecurityEventLog,
    shelf: Shelf,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
) -> Oversight:
    """What watches, erases, retains and reports."""
    threats = ThreatWatch(PostgresThreats(pool), log.store, lambda: shelf.policy, clock, telemetry)
    stores = (
        PostgresLedgerOfPersons(pool, clock),
        PostgresEventsOfPersons(pool),
        AuditOfPersons(trails, clock),
        SessionsOfPersons(families),
        AnswersOfPersons(cache),
        # After the ledger, whose pseudonyms it looks for; last, because orders under way count stores.
        PostgresFeedbackOfPersons(pool),
    )
    privacy = PrivacyService(stores, erasures, audit, clock, ids, telemetry)
    retention = Retention(PostgresRetention(pool), trails, lambda: shelf.policy, clock, telemetry)

    async def database() -> Fact:
        tls = await connection_encryption(pool)
        return Fact("postgresql in transit", tls or "no TLS", "asked now", tls is not None)

    keys = "a file" if settings.signing_keys_file is not None else "Key Vault" if settings.key_vault_url else None
    facts = encryption_facts(
        redis_url=settings.redis_url,
        storage=settings.storage_connection_string or "",
        sealed_cache=settings.cache_key is not None,
        plain_models=settings.vertex_grpc_endpoint is not None,
        session_keys=keys,
    )
    compliance = ComplianceReporter(
        log.store, threats, audit, privacy, retention, clock, facts=facts, asked=(database,)
    )
    return Oversight(log, threats, privacy, retention, compliance)


def _session_tokens(
    settings: Settings, entra: AsyncTokenCredential | None, clock: Clock, closing: contextlib.AsyncExitStack
) -> SessionTokens | None:
    if settings.signing_keys_file is not None:
        return SessionTokens(FileSigningKeys(settings.signing_keys_file, clock), clock)
    if settings.key_vault_url is None or entra is None:
        return None
    from azure.keyvault.secrets.aio import SecretClient  # noqa: PLC0415 - 0.1 s of CPU where no vault is used

    client = SecretClient(settings.key_vault_url, entra, retry_total=0)
    closing.push_async_callback(client.close)
    return SessionTokens(KeyVaultSigningKeys(client, clock), clock)


def _sessions(
    settings: Settings,
    tokens: SessionTokens | None,
    tenant_tokens: EntraTokenAuthenticator | None,
    families: SessionFamilies,
    guard: LoginGuard,
    clock: Clock,
    telemetry: Telemetry,
) -> SessionService | None:
    if tokens is None or tenant_tokens is None:
        return None
    check = EntraCredentialCheck(
        tenant_tokens,
        tenant_id=settings.tenant_id or "",
        audience=settings.token_audiences[0],
        authority=settings.entra_authority,
    )
    return SessionService(check, tokens, families, guard, clock, telemetry)


def _entra_tokens(settings: Settings, clock: Clock) -> EntraTokenAuthenticator | None:
    if settings.auth == "development" or not settings.token_audiences or settings.tenant_id is None:
        return None
    authority = settings.entra_authority.rstrip("/")
    return EntraTokenAuthenticator(
        JsonWebKeys(f"{authority}/{settings.tenant_id}/discovery/v2.0/keys", clock),
        clock,
        tenant_id=settings.tenant_id,
        audiences=settings.token_audiences,
        scopes=settings.token_scopes,
        service_names=settings.service_names,
        authority=authority,
    )


def _authenticator(
    settings: Settings, entra: EntraTokenAuthenticator | None, sessions: SessionTokens | None
) -> Authenticator:
    if settings.auth == "development":
        return DevelopmentAuthenticator(environment=settings.environment)
    platform = None
    if settings.auth == "easy_auth" and settings.easy_auth_enabled:
        platform = EasyAuthAuthenticator(
            enabled=True,
            tenant_id=settings.tenant_id,
            service_names=settings.service_names,
            swa_enabled=settings.swa_enabled,
        )
    return ChainAuthenticator(platform=platform, entra=entra, sessions=sessions)


async def _recover(records: RecordWriter) -> None:
    """Take over what dead processes left; when nobody takes it now, the timer tries again."""
    try:
        await records.recover()
    except DependencyUnavailable:
        logging.getLogger("llm_router").warning("recovery_postponed")


_building: asyncio.Task[Container] | None = None
_override: Container | None = None


async def get() -> Container:
    """The process's container, built by the first caller.

    Callers share one build: a cancelled caller does not cancel it for the others, and a failed one is tried again by
    the next caller.
    """
    global _building  # noqa: PLW0603 - one container per process is the point
    if _override is not None:
        return _override
    if _building is None or (_building.done() and (_building.cancelled() or _building.exception() is not None)):
        _building = asyncio.create_task(build(Settings.from_env()))
    return await asyncio.shield(_building)


def override(container: Container | None) -> None:
    """Serve another container, in tests; None goes back to the built one."""
    global _override  # noqa: PLW0603 - see get
    _override = container
