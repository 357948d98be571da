"""Claude against the simulator."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.domain.chat import ReasoningEffort, Sampling, ToolChoice, ToolMode
from shared.domain.models import Registry
from shared.providers.anthropic import AnthropicProvider
from shared.providers.credentials import AnonymousTokens
from shared.providers.vertex_grpc import VertexGrpc
from shared.stores.registry_files import load_registry
from tests.contract.provider_contract import (
    WEATHER,
    ProviderContract,
    RealClock,
    Subject,
    ask,
    audio,
    image_with_uri,
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(Path(__file__).parents[2] / "shared" / "registry")


class TestAnthropic(ProviderContract):
    @pytest.fixture(params=["claude-haiku-4-5", "claude-sonnet-5-5"])
    async def subject(self, simulator: Any, registry: Registry, request: Any) -> AsyncIterator[Subject]:
        vertex = VertexGrpc(
            project="test",
            tokens=AnonymousTokens(),
            endpoint_override=simulator.grpc_endpoint,
            clock=RealClock(),
        )
        refused = [
            (image_with_uri(), "messages[0].content[1]"),
            (audio(), "messages[0].content[1]"),
            (ask(sampling=Sampling(seed=1)), "seed"),
            (ask(sampling=Sampling(presence_penalty=1.0)), "presence_penalty"),
        ]
        if request.param == "claude-sonnet-5-5":
            refused.append((ask(sampling=Sampling(top_p=0.5)), "top_p"))
            refused.append((ask(tools=(WEATHER,), tool_choice=ToolChoice(ToolMode.REQUIRED)), "tool_choice"))
        else:
            both = Sampling(temperature=0.5, top_p=0.5)
            refused.append((ask(sampling=both), "top_p"))
            effort = ask(sampling=Sampling(temperature=0.5), reasoning_effort=ReasoningEffort.LOW)
            refused.append((effort, "temperature"))
        provider = AnthropicProvider(vertex)
        yield Subject(
            provider=provider,
            profile=registry.models[request.param],
            deployment=registry.deployments_of(request.param)[0],
            http_endpoint=simulator.http_endpoint,
            refused=refused,
            empty_is_an_error=False,
        )
        await provider.aclose()
