"""Which resource, method and body each kind of deployment is called with, and that both kinds of call agree."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.domain.chat import FormatKind, ResponseFormat, Sampling
from shared.domain.errors import InvalidRequest, UnsupportedFeature
from shared.domain.models import Deployment, EndpointFormat, ProviderKind
from shared.domain.replies import FinishReason, TextDelta, Usage
from shared.ports import ModelProvider, ProviderCall
from shared.providers.endpoints import CustomEndpointProvider, HuggingFaceProvider
from shared.providers.openai_maas import OpenAiMaasProvider
from tests.unit.openai_builders import call, collected, deployment, profile, reply, request, user

CHAT = {
    "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1},
}
CHAT_STREAM = [
    {"choices": [{"delta": {"content": "Hel"}}]},
    {**CHAT, "choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]},
]
TGI_DETAILS = {"finish_reason": "length", "generated_tokens": 1, "input_length": 2}
TGI_STREAM = [{"token": {"text": "Hel"}}, {"token": {"text": "lo"}, "details": TGI_DETAILS}]


class Grpc:
    """Stands in for `VertexGrpc`: notes what it is asked, answers what it is told."""

    def __init__(
        self, plain: Any = None, stream: list[Any] | None = None, predictions: list[Any] | None = None
    ) -> None:
        self.plain, self.chunks, self.predictions = plain, stream or [], predictions or []
        self.asked: list[tuple[str, str, Any]] = []
        self.warmed = self.closed = 0

    def publisher_model(self, at: Deployment, publisher: str) -> str:
        return f"publishers/{publisher}/models/{at.target}"

    def endpoint(self, at: Deployment) -> str:
        return f"endpoints/{at.target}"

    async def raw_predict(self, _: ProviderCall, resource: str, body: bytes) -> bytes:
        self.asked.append(("raw", resource, json.loads(body)))
        return json.dumps(self.plain).encode()

    async def stream_raw_predict(self, _: ProviderCall, resource: str, body: bytes) -> AsyncIterator[bytes]:
        self.asked.append(("stream", resource, json.loads(body)))
        for chunk in self.chunks:
            yield f"data: {json.dumps(chunk)}\n\n".encode()

    async def predict(self, _: ProviderCall, resource: str, instances: Any, parameters: Any) -> list[Any]:
        self.asked.append(("predict", resource, {"instances": instances, "parameters": parameters}))
        return self.predictions

    async def warm(self) -> None:
        self.warmed += 1

    async def aclose(self) -> None:
        self.closed += 1


class Http(Grpc):
    """Stands in for `VertexHttp`."""


async def both(provider: ModelProvider, asked: ProviderCall) -> tuple[Any, Any]:
    provider.check(asked.request, asked.profile, asked.deployment)
    return reply(await provider.complete(asked)), reply(await collected(provider.stream(asked)))


def hugging_face(form: EndpointFormat, **options: Any) -> Deployment:
    return deployment(ProviderKind.HUGGING_FACE, form, target="77", options=options)


async def test_mistral_by_raw_predict() -> None:
    grpc = Grpc(CHAT, CHAT_STREAM)
    at = deployment(target="mistral-medium-3", options={"publisher": "mistralai"})
    one, two = await both(OpenAiMaasProvider(Http(), grpc), call(request(sampling=Sampling(seed=3)), at))
    assert (one.parts, one.usage) == (two.parts, two.usage)
    assert one.usage == Usage(input_tokens=2, output_tokens=1)
    (method, resource, body), (stream_method, _, stream_body) = grpc.asked
    assert (method, stream_method, resource) == ("raw", "stream", "publishers/mistralai/models/mistral-medium-3")
    assert (body["model"], body["random_seed"], body["stream"]) == ("mistral-medium-3", 3, False)
    assert stream_body == {**body, "stream": True}


async def test_tgi() -> None:
    grpc = Grpc(stream=TGI_STREAM)
    at = hugging_face(EndpointFormat.TGI, template="gemma")
    one, two = await both(HuggingFaceProvider(Http(), grpc), call(request(user("Hi")), at))
    assert one == two
    assert (one.text(), one.finish_reason) == ("Hello", FinishReason.LENGTH)
    assert [(method, resource) for method, resource, _ in grpc.asked] == [("stream", "endpoints/77")] * 2
    assert grpc.asked[0][2]["inputs"].startswith("<start_of_turn>user\nHi")


async def test_vllm_streams_its_whole_answer_as_one_delta() -> None:
    grpc = Grpc(predictions=["Hello"])
    asked = call(request(user("Hi")), hugging_face(EndpointFormat.VLLM, template="llama3"))
    provider = HuggingFaceProvider(Http(), grpc)
    one, two = await both(provider, asked)
    assert one == two
    assert one.usage.estimated
    instance = grpc.asked[0][2]["instances"][0]
    assert instance["prompt"].startswith("<|start_header_id|>user")
    deltas = [event for event in await collected(provider.stream(asked)) if isinstance(event, TextDelta)]
    assert deltas == [TextDelta("Hello")]


async def test_openai_chat_by_raw_predict() -> None:
    grpc = Grpc(CHAT, CHAT_STREAM)
    one, two = await both(
        HuggingFaceProvider(Http(), grpc), call(at=hugging_face(EndpointFormat.OPENAI_CHAT, model="gemma"))
    )
    assert (one.text(), two.text()) == ("Hello", "Hello")
    assert [resource for _, resource, _ in grpc.asked] == ["endpoints/77"] * 2
    assert grpc.asked[1][2]["model"] == "gemma"
    assert grpc.asked[1][2]["stream_options"] == {"include_usage": True}


OPTIONS = {
    "request": {"prompt": "{{prompt}}", "max_tokens": "{{max_tokens}}"},
    "response": {"text": "/predictions/0/text"},
}


async def test_custom_predict() -> None:
    grpc = Grpc(predictions=[{"text": "Hello"}])
    options = {**OPTIONS, "parameters": {"temperature": "{{temperature}}", "raw": True}}
    at = deployment(ProviderKind.CUSTOM, EndpointFormat.PREDICT, target="78", options=options)
    one, two = await both(CustomEndpointProvider(grpc), call(request(user("Hi")), at))
    assert one == two
    assert one.text() == "Hello"
    assert grpc.asked[0] == (
        "predict",
        "endpoints/78",
        {
            "instances": [{"prompt": "User: Hi\n\nAssistant:", "max_tokens": 100}],
            "parameters": {"raw": True},
        },
    )


async def test_custom_raw_predict() -> None:
    grpc = Grpc({"text": "Hello", "n": 1})
    options = {**OPTIONS, "response": {"text": "text", "output_tokens": "n"}, "template": "mistral"}
    at = deployment(ProviderKind.CUSTOM, EndpointFormat.RAW_PREDICT, target="79", options=options)
    one, two = await both(CustomEndpointProvider(grpc), call(request(user("Hi")), at))
    assert one == two
    assert one.usage.output_tokens == 1
    assert grpc.asked[0] == ("raw", "endpoints/79", {"prompt": "[INST] Hi[/INST]", "max_tokens": 100})


async def test_a_stream_that_is_never_read_leaves_nothing_behind() -> None:
    grpc = Grpc(predictions=["Hello"])
    HuggingFaceProvider(Http(), grpc).stream(call(at=hugging_face(EndpointFormat.VLLM)))
    assert grpc.asked == []


async def test_each_provider_warms_and_closes_what_it_was_given() -> None:
    http, grpc = Http(), Grpc()
    for provider in (OpenAiMaasProvider(http, grpc), HuggingFaceProvider(http, grpc), CustomEndpointProvider(grpc)):
        await provider.warm()
        await provider.aclose()
    assert (http.warmed, http.closed, grpc.warmed, grpc.closed) == (2, 2, 3, 3)


@pytest.mark.parametrize("form", [EndpointFormat.TGI, EndpointFormat.VLLM, EndpointFormat.OPENAI_CHAT])
def test_checks_follow_the_form(form: EndpointFormat) -> None:
    provider = HuggingFaceProvider(Http(), Grpc())
    asked = request(response_format=ResponseFormat(FormatKind.JSON_OBJECT))
    if form is EndpointFormat.VLLM:
        with pytest.raises(UnsupportedFeature):
            provider.check(asked, profile(), hugging_face(form))
    else:
        assert provider.check(asked, profile(), hugging_face(form)) is None


def test_broken_options_are_told_even_when_nobody_validated_them() -> None:
    with pytest.raises(InvalidRequest, match=r"options\.reasoning"):
        OpenAiMaasProvider(Http(), Grpc()).check(request(), profile(), deployment(options={"reasoning": "loud"}))
