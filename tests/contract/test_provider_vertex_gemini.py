"""Gemini against the simulator."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.domain.chat import ReasoningEffort, Sampling
from shared.domain.errors import ProviderBadResponse
from shared.domain.models import Registry
from shared.providers.credentials import AnonymousTokens
from shared.providers.gemini import GeminiProvider
from shared.providers.vertex_grpc import VertexGrpc
from shared.stores.registry_files import load_registry
from tests.contract.provider_contract import ProviderContract, RealClock, Subject, ask


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(Path(__file__).parents[2] / "shared" / "registry")


class TestGemini(ProviderContract):
    @pytest.fixture(params=["gemini-3.8-flash", "gemini-3.1-flash-lite"])
    async def subject(self, simulator: Any, registry: Registry, request: Any) -> AsyncIterator[Subject]:
        vertex = VertexGrpc(
            project="test",
            tokens=AnonymousTokens(),
            endpoint_override=simulator.grpc_endpoint,
            clock=RealClock(),
        )
        refused = [
            (ask(sampling=Sampling(stop=tuple("abcdef"))), "stop"),
        ]
        if request.param == "gemini-3.8-flash":
            refused.append((ask(reasoning_effort=ReasoningEffort.NONE), "reasoning_effort"))
            refused.append((ask(sampling=Sampling(temperature=0.5)), "temperature"))
        provider = GeminiProvider(vertex)
        yield Subject(
            provider=provider,
            profile=registry.models[request.param],
            deployment=registry.deployments_of(request.param)[0],
            http_endpoint=simulator.http_endpoint,
            refused=refused,
            plain_malformed=(ProviderBadResponse,),
            # Over gRPC there is no broken JSON: the stand-in is one message without anything, which costs nothing.
            stream_malformed=(),
        )
        await provider.aclose()
