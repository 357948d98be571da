"""Chat completions against the simulator: MaaS over HTTP, Mistral by rawPredict, an endpoint's server both ways."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from shared.domain.chat import (
    ChatRequest,
    MediaPart,
    Message,
    Modality,
    ReasoningEffort,
    Role,
    Sampling,
    ToolChoice,
    ToolMode,
)
from shared.domain.models import Deployment
from tests.contract.openai_subjects import DEPLOYMENTS, REGISTRY, hurried, provider_of, subject_of
from tests.contract.provider_contract import WEATHER, ProviderContract, Subject, ask, audio, image_with_uri

PDF = Message(Role.USER, (MediaPart(Modality.DOCUMENT, "application/pdf", b"%PDF"),))


@pytest.fixture(scope="module", autouse=True)
def _hurried(simulator: Any) -> Iterator[None]:
    with hurried(simulator):
        yield


class TestMaas(ProviderContract):
    @pytest.fixture
    async def subject(self, simulator: Any) -> AsyncIterator[Subject]:
        refused = [
            (image_with_uri(), "messages[0].content[1]"),
            (audio(), "messages[0].content[1]"),
            (ChatRequest(messages=(PDF,)), "messages[0].content[0]"),
            (ask(reasoning_effort=ReasoningEffort.NONE), "reasoning_effort"),
        ]
        features = ("tools", "json_schema", "thinking", "stop", "traces")
        async with subject_of("gpt-oss-120b", simulator, refused=refused, features=features) as subject:
            yield subject


class TestMistral(ProviderContract):
    @pytest.fixture
    async def subject(self, simulator: Any) -> AsyncIterator[Subject]:
        refused = [
            (image_with_uri(), "messages[0].content[1]"),
            (ask(sampling=Sampling(top_k=3)), "top_k"),
            (ask(reasoning_effort=ReasoningEffort.LOW), "reasoning_effort"),
        ]
        features = ("tools", "json_schema", "stop", "traces")
        async with subject_of("mistral-medium-3", simulator, refused=refused, features=features) as subject:
            yield subject


class TestChatEndpoint(ProviderContract):
    @pytest.fixture(params=[None, "1003.europe-west4-7.prediction.vertexai.goog"], ids=["raw_predict", "dedicated"])
    async def subject(self, simulator: Any, request: Any) -> AsyncIterator[Subject]:
        refused = [
            (image_with_uri(), "messages[0].content[1]"),
            (ask(reasoning_effort=ReasoningEffort.LOW), "reasoning_effort"),
        ]
        async with subject_of(
            "example-hf-chat",
            simulator,
            refused=refused,
            features=("tools", "json_schema", "stop", "traces"),
            dedicated_host=request.param,
        ) as subject:
            yield subject


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment.id)
async def test_every_deployment_of_the_registry_answers(deployment: Deployment, simulator: Any) -> None:
    provider = provider_of(deployment, simulator)
    subject = Subject(provider, REGISTRY.models[deployment.model_id], deployment, simulator.http_endpoint, ())
    provider.check(ask(), subject.profile, deployment)
    answer = subject.fold(await subject.complete(subject.call(ask(), max_output_tokens=50)))
    assert answer.text()
    await provider.aclose()


@pytest.mark.parametrize("model", ["gpt-oss-120b", "mistral-medium-3"])
async def test_a_tool_that_must_be_called(model: str, simulator: Any) -> None:
    async with subject_of(model, simulator, refused=(), features=()) as subject:
        for choice in (ToolChoice(ToolMode.REQUIRED), ToolChoice(ToolMode.REQUIRED, "weather")):
            asked = ask("Hello", tools=(WEATHER,), tool_choice=choice)
            for events in (await subject.complete(subject.call(asked)), await subject.stream(subject.call(asked))):
                assert [call.name for call in subject.fold(events).tool_calls()] == ["weather"]
