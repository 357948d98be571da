"""Calls, profiles and deployments for the tests of the OpenAI-style, Hugging Face and custom providers."""

from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import Any

from shared.domain.chat import ChatRequest, Message, Modality, Part, Role, TextPart
from shared.domain.models import (
    Capabilities,
    Deployment,
    EndpointFormat,
    ModelProfile,
    ProviderKind,
    QualityPrior,
)
from shared.domain.replies import ChatReply, ReplyBuilder, StreamEvent
from shared.domain.security import SecurityLevel
from shared.ports import ProviderCall

EVERYTHING = Capabilities(
    modalities=frozenset(Modality),
    tools=True,
    parallel_tools=True,
    json_object=True,
    json_schema=True,
    thinking=True,
    media_uris=True,
)


def profile(capabilities: Capabilities = EVERYTHING) -> ModelProfile:
    return ModelProfile(
        id="some-model",
        publisher="someone",
        display_name="Some model",
        context_window_tokens=100_000,
        max_output_tokens=4_096,
        capabilities=capabilities,
        prices=(),
        quality={"overall": QualityPrior(0.5, 1, "test")},
        ttft_ms=100,
        tokens_per_s=100,
        chars_per_token=4.0,
    )


def deployment(
    provider: ProviderKind = ProviderKind.OPENAI_MAAS,
    endpoint_format: EndpointFormat | None = None,
    *,
    target: str = "openai/gpt-oss-120b-maas",
    region: str = "us-central1",
    dedicated_host: str | None = None,
    options: dict[str, Any] | None = None,
) -> Deployment:
    return Deployment(
        id="some-model@us-central1",
        model_id="some-model",
        provider=provider,
        target=target,
        region=region,
        residency=frozenset({"us"}),
        clearance=SecurityLevel.PUBLIC,
        endpoint_format=endpoint_format,
        dedicated_host=dedicated_host,
        options=options or {},
    )


def user(*parts: Part | str) -> Message:
    return Message(Role.USER, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def assistant(*parts: Part | str) -> Message:
    return Message(Role.ASSISTANT, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def request(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(messages=messages or (user("Hello"),), **fields)


def call(
    asked: ChatRequest | None = None,
    at: Deployment | None = None,
    *,
    capabilities: Capabilities = EVERYTHING,
    max_output_tokens: int = 100,
    deadline_s: float = 1e9,
    idle_timeout_s: float = 30.0,
    headers: dict[str, str] | None = None,
) -> ProviderCall:
    return ProviderCall(
        request=asked or request(),
        profile=profile(capabilities),
        deployment=at or deployment(),
        request_id="0193a5b2-7c1e-7000-8000-000000000001",
        max_output_tokens=max_output_tokens,
        deadline_s=deadline_s,
        idle_timeout_s=idle_timeout_s,
        headers=headers or {},
    )


def reply(events: Iterable[StreamEvent]) -> ChatReply:
    return ReplyBuilder("some-model").extend(list(events)).build()


async def collected(events: AsyncIterator[StreamEvent]) -> list[StreamEvent]:
    return [event async for event in events]


async def pieces(body: bytes, *cuts: int) -> AsyncIterator[bytes]:
    """The body, cut at the given places."""
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for begin, end in pairwise(edges):
        yield body[begin:end]
