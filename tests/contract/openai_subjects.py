"""Subjects of the provider contract: the shipped registry's MaaS, Hugging Face and custom deployments."""

import json
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.domain.chat import ChatRequest
from shared.domain.models import Deployment, ProviderKind
from shared.ports import ModelProvider
from shared.providers.credentials import AnonymousTokens
from shared.providers.endpoints import CustomEndpointProvider, HuggingFaceProvider
from shared.providers.openai_maas import OpenAiMaasProvider
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from shared.stores.registry_files import load_registry
from tests.contract.provider_contract import RealClock, Subject

REGISTRY = load_registry(*(Path(__file__).parents[2] / d / "registry" for d in ("shared", "infra/local")))
DEPLOYMENTS = [
    deployment
    for deployment in REGISTRY.deployments
    if deployment.provider in (ProviderKind.OPENAI_MAAS, ProviderKind.HUGGING_FACE, ProviderKind.CUSTOM)
]


def provider_of(deployment: Deployment, simulator: Any) -> ModelProvider:
    clock, tokens = RealClock(), AnonymousTokens()
    http = VertexHttp("a-project", tokens, clock, base_override=simulator.http_endpoint)
    grpc = VertexGrpc(project="a-project", tokens=tokens, endpoint_override=simulator.grpc_endpoint, clock=clock)
    if deployment.provider is ProviderKind.OPENAI_MAAS:
        return OpenAiMaasProvider(http, grpc)
    return (
        CustomEndpointProvider(grpc) if deployment.provider is ProviderKind.CUSTOM else HuggingFaceProvider(http, grpc)
    )


@asynccontextmanager
async def subject_of(
    model: str,
    simulator: Any,
    *,
    refused: Sequence[tuple[ChatRequest, str]],
    features: Sequence[str],
    dedicated_host: str | None = None,
    empty_is_an_error: bool = True,
) -> AsyncIterator[Subject]:
    """A subject for a model's first deployment.

    What the wire form has is tested whatever the registry says of the model.
    """
    profile = REGISTRY.models[model]
    takes_json = "json_schema" in features
    can = replace(profile.capabilities, tools="tools" in features, json_object=takes_json, json_schema=takes_json)
    deployment = replace(REGISTRY.deployments_of(model)[0], dedicated_host=dedicated_host)
    provider = provider_of(deployment, simulator)
    yield Subject(
        provider=provider,
        profile=replace(profile, capabilities=can),
        deployment=deployment,
        http_endpoint=simulator.http_endpoint,
        refused=refused,
        features=frozenset(features),
        empty_is_an_error=empty_is_an_error,
    )
    await provider.aclose()


@contextmanager
def hurried(simulator: Any) -> Iterator[None]:
    """Take most of the models' thinking time away meanwhile; faults keep theirs."""
    _profiles(simulator, "PUT", {"time_scale": 0.02})
    yield
    _profiles(simulator, "DELETE", None)


def _profiles(simulator: Any, method: str, document: dict[str, Any] | None) -> None:
    body = None if document is None else json.dumps(document).encode()
    url = f"{simulator.http_endpoint}/_sim/profiles"
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=10) as answer:  # noqa: S310 - local
        answer.read()
