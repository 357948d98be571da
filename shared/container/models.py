"""The part that reaches models, and the identity it does so with."""

import contextlib
from collections.abc import Mapping

from azure.core.credentials_async import AsyncTokenCredential

from shared.config import Settings
from shared.domain.models import ProviderKind
from shared.ports import (
    Clock,
    ModelProvider,
)
from shared.providers.anthropic import AnthropicProvider
from shared.providers.credentials import AnonymousTokens, TokenSource, adc_tokens, entra_federated_tokens
from shared.providers.endpoints import CustomEndpointProvider, HuggingFaceProvider
from shared.providers.gemini import GeminiProvider
from shared.providers.openai_maas import OpenAiMaasProvider
from shared.providers.vertex_embedding import VertexEmbeddingProvider
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from shared.providers.vertex_ranking import VertexRankingProvider


def build_providers(
    settings: Settings, clock: Clock, closing: contextlib.AsyncExitStack
) -> Mapping[ProviderKind, ModelProvider]:
    """The adapters to models, by kind."""
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
        ProviderKind.RANKING: VertexRankingProvider(http),
    }


def entra_credential(settings: Settings, closing: contextlib.AsyncExitStack) -> AsyncTokenCredential | None:
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
