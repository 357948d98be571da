"""The only place that knows every adapter. Built lazily, once per worker process, never at import."""

import asyncio
import contextlib
import logging
import random
import secrets
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from azure.core.credentials_async import AsyncTokenCredential

from shared.config import Settings
from shared.domain.errors import DependencyUnavailable
from shared.domain.models import ProviderKind
from shared.ports import Authenticator, Clock, Ids, LedgerMaintenance, ModelProvider, Telemetry
from shared.providers.anthropic import AnthropicProvider
from shared.providers.credentials import AnonymousTokens, TokenSource, adc_tokens, entra_federated_tokens
from shared.providers.endpoints import CustomEndpointProvider, HuggingFaceProvider
from shared.providers.endpoints_options import validate_options
from shared.providers.gemini import GeminiProvider
from shared.providers.openai_maas import OpenAiMaasProvider
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from shared.security.development import DevelopmentAuthenticator
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.services.attempts import Attempts
from shared.services.configuration_keeping import ConfigurationKeeper
from shared.services.readiness import ReadinessService
from shared.services.receipts import ReceiptService
from shared.services.recording import RecordWriter
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.services.signals import SignalBoard
from shared.stores.journal import FileJournal
from shared.stores.postgres.maintenance import PostgresMaintenance
from shared.stores.postgres.pool import PostgresPool, entra_password
from shared.stores.postgres.probe import PostgresProbe
from shared.stores.postgres.receipts import PostgresConfigurationArchive, PostgresReceiptStore
from shared.stores.postgres.records import PostgresRecordStore
from shared.stores.queue_spill import REQUEST_LOG_QUEUE, QueueProbe, StorageQueueSpill, open_queue
from shared.stores.redis import RedisProbe, connect_redis
from shared.stores.registry_files import load_policy, load_registry, parse_kept
from shared.stores.system import SystemClock, UuidIds
from shared.telemetry import build_telemetry

ROLE_NAME = "llm-router"
_KEEP_RECORDS = frozenset({PostgresProbe.name, QueueProbe.name})
"""Records go to the ledger or wait in the queue: with neither, nothing may be admitted."""


@dataclass(frozen=True, slots=True)
class Container:
    """What the edge works with."""

    settings: Settings
    clock: Clock
    ids: Ids
    telemetry: Telemetry
    authenticator: Authenticator
    shelf: Shelf
    routing: RoutingService
    records: RecordWriter
    receipts: ReceiptService
    readiness: ReadinessService
    maintenance: LedgerMaintenance
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
    board, rng = SignalBoard(), random.Random(secrets.randbits(64))  # noqa: S311 - choices, not secrets

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
    records = RecordWriter(PostgresRecordStore(pool, writer=ids.request_id()), spill, journal, telemetry)
    archive = PostgresConfigurationArchive(pool)
    keeper = ConfigurationKeeper(archive, telemetry)
    shelf = Shelf(registry, policy, board, clock)
    attempts = Attempts(providers, board, clock, telemetry, rng)
    routing = RoutingService(shelf, attempts, providers, records, clock, telemetry, rng, keeper)
    probes = (PostgresProbe(pool), RedisProbe(redis), QueueProbe(spill))
    records.start()
    closing.push_async_callback(records.aclose)
    keeper.start()
    closing.push_async_callback(keeper.aclose)
    await _recover(records)
    return Container(
        settings=settings,
        clock=clock,
        ids=ids,
        telemetry=telemetry,
        authenticator=_authenticator(settings),
        shelf=shelf,
        routing=routing,
        records=records,
        receipts=ReceiptService(PostgresReceiptStore(pool), archive, parse_kept, shelf, clock, telemetry),
        readiness=ReadinessService(probes, clock, either=_KEEP_RECORDS),
        maintenance=PostgresMaintenance(pool, clock),
        close=closing.aclose,
    )


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
    }


def _entra_credential(settings: Settings, closing: contextlib.AsyncExitStack) -> AsyncTokenCredential | None:
    """The managed identity, where a store is reached with it."""
    if settings.storage_connection_string and not settings.postgres_entra:
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


def _authenticator(settings: Settings) -> Authenticator:
    if settings.auth == "development":
        return DevelopmentAuthenticator(environment=settings.environment)
    return EasyAuthAuthenticator(
        enabled=settings.easy_auth_enabled,
        tenant_id=settings.tenant_id,
        service_names=settings.service_names,
        swa_enabled=settings.swa_enabled,
    )


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
