"""MaaS, Mistral, Hugging Face and custom deployments of the shipped registry against the local simulator.

What every provider must hold is in the shared contract suite; here is what these wire forms promise besides.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.domain.chat import (
    ChatRequest,
    Finished,
    FinishReason,
    FormatKind,
    Message,
    ResponseFormat,
    Role,
    Sampling,
    TextDelta,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
    UsageUpdate,
)
from shared.domain.errors import (
    ContextWindowExceeded,
    ProviderBadResponse,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from shared.domain.models import Deployment, ProviderKind, Registry
from shared.ports import ModelProvider, ProviderCall
from shared.providers.credentials import AnonymousTokens
from shared.providers.endpoints import CustomEndpointProvider, HuggingFaceProvider
from shared.providers.openai_maas import OpenAiMaasProvider
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from shared.stores.registry_files import load_registry
from tests.unit.openai_builders import collected, reply, request, user

REGISTRY = load_registry(Path(__file__).parents[2] / "shared" / "registry")
KINDS = (ProviderKind.OPENAI_MAAS, ProviderKind.HUGGING_FACE, ProviderKind.CUSTOM)
DEPLOYMENTS = [deployment for deployment in REGISTRY.deployments if deployment.provider in KINDS]
ONE_OF_EACH = {
    deployment.endpoint_format or str(deployment.options.get("publisher", "maas")): deployment
    for deployment in DEPLOYMENTS
}
STREAMING = ("maas", "mistralai", "tgi", "openai_chat")
CHATS = ("maas", "mistralai", "openai_chat")
HELLO = request(user("Why is the sky blue? Answer in a few sentences."), system="You are a physicist.")
WEATHER = Tool(
    "get_weather",
    "The weather in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


class SystemClock:
    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Providers:
    def __init__(self, simulator: Any) -> None:
        clock, tokens = SystemClock(), AnonymousTokens()
        http = VertexHttp("a-project", tokens, clock, base_override=simulator.http_endpoint)
        grpc = VertexGrpc(project="a-project", tokens=tokens, endpoint_override=simulator.grpc_endpoint, clock=clock)
        self.by_kind: dict[ProviderKind, ModelProvider] = {
            ProviderKind.OPENAI_MAAS: OpenAiMaasProvider(http, grpc),
            ProviderKind.HUGGING_FACE: HuggingFaceProvider(http, grpc),
            ProviderKind.CUSTOM: CustomEndpointProvider(grpc),
        }

    def of(self, deployment: Deployment) -> ModelProvider:
        return self.by_kind[deployment.provider]

    async def plain(self, name: str, asked: ChatRequest = HELLO, **fields: Any) -> list[Any]:
        call = make_call(ONE_OF_EACH[name], asked, **fields)
        self.of(call.deployment).check(asked, call.profile, call.deployment)
        return list(await self.of(call.deployment).complete(call))

    async def streamed(
        self, name: str, asked: ChatRequest = HELLO, seen: list[Any] | None = None, **fields: Any
    ) -> list[Any]:
        call = make_call(ONE_OF_EACH[name], asked, **fields)
        seen = [] if seen is None else seen
        async for event in self.of(call.deployment).stream(call):
            seen.append(event)
        return seen


def make_call(
    deployment: Deployment, asked: ChatRequest, *, max_output_tokens: int = 400, seconds: float = 30, idle_s: float = 20
) -> ProviderCall:
    return ProviderCall(
        request=asked,
        profile=REGISTRY.models[deployment.model_id],
        deployment=deployment,
        request_id="0193a5b2-7c1e-7000-8000-000000000001",
        max_output_tokens=max_output_tokens,
        deadline_s=time.monotonic() + seconds,
        idle_timeout_s=idle_s,
    )


@pytest.fixture
async def providers(simulator: Any) -> AsyncIterator[Providers]:
    made = Providers(simulator)
    yield made
    for provider in made.by_kind.values():
        await provider.aclose()


def test_the_registry_has_one_of_each() -> None:
    assert isinstance(REGISTRY, Registry)
    assert set(ONE_OF_EACH) == {"maas", "mistralai", "tgi", "vllm", "openai_chat", "predict", "raw_predict"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment.id)
async def test_every_deployment_answers_alike_plain_and_streamed(deployment: Deployment, providers: Providers) -> None:
    provider = providers.of(deployment)
    one = reply(await provider.complete(make_call(deployment, HELLO)))
    two = reply(await collected(provider.stream(make_call(deployment, HELLO))))
    assert one.text()
    assert (one.parts, one.finish_reason) == (two.parts, two.finish_reason)
    assert one.usage.prompt_tokens
    assert one.usage.output_tokens
    assert two.usage.estimated or one.usage.estimated or one.usage.completion_tokens == two.usage.completion_tokens


@pytest.mark.parametrize("name", ONE_OF_EACH)
async def test_one_end_and_some_usage(name: str, providers: Providers) -> None:
    for events in (await providers.plain(name), await providers.streamed(name)):
        assert sum(isinstance(event, Finished) for event in events) == 1
        assert any(isinstance(event, UsageUpdate) for event in events)


@pytest.mark.parametrize("name", STREAMING)
async def test_streams_come_in_pieces(name: str, providers: Providers) -> None:
    events = await providers.streamed(name)
    assert sum(isinstance(event, TextDelta) for event in events) > 1


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if name not in STREAMING])
async def test_what_cannot_stream_comes_as_one_delta(name: str, providers: Providers) -> None:
    events = await providers.streamed(name)
    assert sum(isinstance(event, TextDelta) for event in events) == 1


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if name != "vllm"])
async def test_the_token_limit_is_told(name: str, providers: Providers) -> None:
    for events in (
        await providers.plain(name, max_output_tokens=5),
        await providers.streamed(name, max_output_tokens=5),
    ):
        assert reply(events).finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("name", ["maas", "mistralai", "tgi", "openai_chat"])
async def test_stop_sequences_are_not_part_of_the_text(name: str, providers: Providers) -> None:
    whole = reply(await providers.plain(name)).text()
    stop = whole[len(whole) // 2 : len(whole) // 2 + 6]
    asked = request(*HELLO.messages, system=HELLO.system, sampling=Sampling(stop=(stop,)))
    for events in (await providers.plain(name, asked), await providers.streamed(name, asked)):
        answer = reply(events)
        assert stop not in answer.text()
        assert answer.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("name", CHATS)
async def test_a_tool_call_and_its_result(name: str, providers: Providers) -> None:
    turns = [user("What is the weather in Paris?")]
    choice = ToolChoice(ToolMode.REQUIRED, "get_weather")
    asked = request(*turns, tools=(WEATHER,), tool_choice=choice)
    for events in (await providers.plain(name, asked), await providers.streamed(name, asked)):
        answer = reply(events)
        (wanted,) = answer.tool_calls()
        assert (wanted.name, answer.finish_reason) == ("get_weather", FinishReason.TOOL_CALLS)
    foreign = ToolCallPart("call_from_another_model", wanted.name, wanted.arguments_json, origin_model_id="another")
    turns += [
        Message(Role.ASSISTANT, (ThinkingPart("...", None, "another"), foreign)),
        Message(Role.TOOL, (ToolResultPart(foreign.id, foreign.name, "18 degrees"),)),
    ]
    assert reply(await providers.plain(name, request(*turns, tools=(WEATHER,)))).text()


@pytest.mark.parametrize("name", ["maas", "openai_chat"])
async def test_json_by_schema(name: str, providers: Providers) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    asked = request(user("Where is it?"), response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "place", schema))
    assert reply(await providers.plain(name, asked)).text().startswith("{")


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"fault": "rate_limit", "retry_after_s": 2}, ProviderRateLimited),
        ({"fault": "unavailable"}, ProviderUnavailable),
        ({"fault": "deadline"}, ProviderTimeout),
        ({"fault": "empty_candidates"}, ProviderBadResponse),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else "",
)
async def test_failures_have_their_class(
    name: str, fault: dict[str, Any], error: type[ProviderError], providers: Providers, simulator: Any
) -> None:
    simulator.set_faults([{"match": {}, **fault}])
    for way in (providers.plain, providers.streamed):
        with pytest.raises(error) as caught:
            await way(name)
        assert "retry_after_s" not in fault or caught.value.retry_after_s == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize(
    ("fault", "error"),
    [("cut", ProviderUnavailable), ("malformed_json", ProviderBadResponse), ("stream_error", ProviderError)],
)
async def test_what_breaks_after_content_is_raised_after_content(
    name: str, fault: str, error: type[ProviderError], providers: Providers, simulator: Any
) -> None:
    simulator.set_faults([{"match": {}, "fault": fault, "after_chunks": 2}])
    seen: list[Any] = []
    with pytest.raises(error):
        await providers.streamed(name, seen=seen)
    assert seen
    assert not any(isinstance(event, Finished) for event in seen)


@pytest.mark.parametrize("name", STREAMING)
async def test_a_stalled_stream_times_out(name: str, providers: Providers, simulator: Any) -> None:
    simulator.set_faults([{"match": {}, "fault": "stall", "after_chunks": 1}])
    with pytest.raises(ProviderTimeout):
        await providers.streamed(name, idle_s=0.3)


@pytest.mark.parametrize("name", ONE_OF_EACH)
async def test_a_server_that_hangs_is_left_at_the_deadline(name: str, providers: Providers, simulator: Any) -> None:
    simulator.set_faults([{"match": {}, "fault": "hang"}])
    for way in (providers.plain, providers.streamed):
        with pytest.raises(ProviderTimeout):
            await way(name, seconds=0.3)


@pytest.mark.parametrize("name", ["maas", "tgi", "vllm", "openai_chat", "predict", "raw_predict"])
async def test_a_prompt_over_the_context_window(name: str, providers: Providers) -> None:
    window = REGISTRY.models[ONE_OF_EACH[name].model_id].context_window_tokens
    with pytest.raises(ContextWindowExceeded):
        await providers.plain(name, request(user("x " * window * 3)))


async def test_many_calls_at_once(providers: Providers) -> None:
    answers = await asyncio.gather(*(providers.plain(name) for name in ONE_OF_EACH for _ in range(5)))
    assert all(reply(events).finish_reason is not FinishReason.ERROR for events in answers)
