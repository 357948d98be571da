"""The part that knows the models, how they do, and how they are reached."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.config import Settings
from shared.container.ground import Ground
from shared.domain.models import ProviderKind
from shared.ports import Clock, ModelProvider
from shared.providers.anthropic import AnthropicProvider
from shared.providers.credentials import AnonymousTokens, TokenSource, adc_tokens, entra_federated_tokens
from shared.providers.endpoints import CustomEndpointProvider, HuggingFaceProvider
from shared.providers.endpoints_options import validate_options
from shared.providers.gemini import GeminiProvider
from shared.providers.openai_maas import OpenAiMaasProvider
from shared.providers.vertex_embedding import VertexEmbeddingProvider
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from shared.providers.vertex_ranking import VertexRankingProvider
from shared.scoring.embedding_part import embedding_part, ranking_part
from shared.services.attempts import Attempts
from shared.services.deployment_health import DeploymentHealth
from shared.services.forecasting import QualityForecaster
from shared.services.reuse import SentenceEncoder
from shared.services.shelf import Shelf
from shared.stores.quality_artefact import load_quality_model
from shared.stores.redis_health import RedisHealthStore
from shared.stores.registry_files import load_policy, load_registry


@dataclass(frozen=True, slots=True)
class Models:
    """The models and all that is known of them.

    Attributes:
        providers: the adapters, by kind.
        health: how the deployments do; not yet at work.
        attempts: calls to deployments.
        shelf: the models that give answers.
        vectors: the embedding models.
        rankings: the ranking models.
        encoder: vectors of sentences without a call to anybody, by the words' part of the quality model.
    """

    providers: Mapping[ProviderKind, ModelProvider]
    health: DeploymentHealth
    attempts: Attempts
    shelf: Shelf
    vectors: Shelf
    rankings: Shelf
    encoder: SentenceEncoder


def build_models(ground: Ground) -> Models:
    """The models that the registry and the policy name.

    Raises:
        RegistryError: the registry or policy files are wrong.
        InvalidRequest: an adapter cannot use a deployment's options; `param` names it.
    """
    directories, clock, telemetry, rng = (
        ground.settings.registry_directories,
        ground.clock,
        ground.telemetry,
        ground.rng,
    )
    registry = load_registry(*directories)
    for deployment in registry.deployments:
        validate_options(deployment)
    policy = load_policy(*directories, registry=registry)
    providers = build_providers(ground)
    predictor = load_quality_model()
    health = DeploymentHealth(
        RedisHealthStore(ground.redis), policy.health, clock, telemetry, rng, worker_id=ground.ids.request_id()
    )
    return Models(
        providers=providers,
        health=health,
        attempts=Attempts(providers, health, clock, telemetry, rng),
        shelf=Shelf(registry, policy, health, clock, QualityForecaster(predictor)),
        vectors=Shelf(*embedding_part(registry, policy), health, clock),
        rankings=Shelf(*ranking_part(registry, policy), health, clock),
        encoder=SentenceEncoder.from_quality_model(predictor),
    )


def build_providers(ground: Ground) -> Mapping[ProviderKind, ModelProvider]:
    """The adapters to models, by kind."""
    settings, clock = ground.settings, ground.clock
    tokens = _tokens(settings, clock)
    grpc = ground.closes(
        VertexGrpc(
            project=settings.vertex_project,
            tokens=tokens,
            endpoint_override=settings.vertex_grpc_endpoint,
            clock=clock,
        )
    )
    http = ground.closes(
        VertexHttp(settings.vertex_project, tokens, clock, base_override=settings.vertex_http_endpoint)
    )
    return {
        ProviderKind.GEMINI: GeminiProvider(grpc),
        ProviderKind.ANTHROPIC: AnthropicProvider(grpc),
        ProviderKind.OPENAI_MAAS: OpenAiMaasProvider(http, grpc),
        ProviderKind.HUGGING_FACE: HuggingFaceProvider(http, grpc),
        ProviderKind.CUSTOM: CustomEndpointProvider(grpc),
        ProviderKind.TEXT_EMBEDDING: VertexEmbeddingProvider(grpc),
        ProviderKind.RANKING: VertexRankingProvider(http),
    }


def _tokens(settings: Settings, clock: Clock) -> TokenSource:
    if settings.vertex_credentials == "anonymous":
        return AnonymousTokens()
    if settings.vertex_credentials == "adc":
        return adc_tokens(clock=clock)
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - 0.2 s of CPU where it is not used

    return entra_federated_tokens(
        audience=settings.wif_audience or "",
        scope=settings.wif_scope or "",
        service_account=settings.wif_service_account,
        token_url=settings.sts_url,
        entra_credential=DefaultAzureCredential(),
        clock=clock,
    )
