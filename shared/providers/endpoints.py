"""Vertex AI endpoints that a team deploys itself: Hugging Face containers, and anything behind a declared mapping."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from shared.domain.chat import ChatRequest
from shared.domain.models import Deployment, EndpointFormat, ModelProfile
from shared.domain.replies import StreamEvent
from shared.ports import ProviderCall
from shared.providers.custom import CustomMapping, answer_events, filled
from shared.providers.endpoints_check import check_custom, check_tgi, check_vllm
from shared.providers.endpoints_options import ChatEndpointOptions, OptionsCache, PromptOptions
from shared.providers.endpoints_prompt import render
from shared.providers.openai_check import check_chat
from shared.providers.openai_reader import OpenAiReader
from shared.providers.openai_wire import ENDPOINT, chat_body, encode
from shared.providers.tgi import TgiReader, tgi_body
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from shared.providers.vllm import vllm_events, vllm_instance
from shared.providers.wire_stream import decode, read_plain, read_sse

VENDOR: Final = "the Vertex AI endpoint"


class HuggingFaceProvider:
    """`shared.ports.ModelProvider` for `ProviderKind.HUGGING_FACE`: TGI, VLLM and OPENAI_CHAT endpoints.

    Args:
        http: for OPENAI_CHAT endpoints with a dedicated host.
        grpc: for all others.
    """

    def __init__(self, http: VertexHttp, grpc: VertexGrpc) -> None:
        self._http = http
        self._grpc = grpc
        self._options = OptionsCache()

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Refuse what the model or the container's wire form cannot carry.

        Raises:
            UnsupportedFeature: naming the field.
        """
        match deployment.endpoint_format:
            case EndpointFormat.TGI:
                check_tgi(request, profile, deployment)
            case EndpointFormat.VLLM:
                check_vllm(request, profile, deployment)
            case _:
                options = self._options.of(deployment, ChatEndpointOptions)
                check_chat(request, profile, deployment, ENDPOINT, options.reasoning)

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """One plain call.

        Raises:
            ProviderError: of the class that fits.
        """
        match call.deployment.endpoint_format:
            case EndpointFormat.TGI:
                return [event async for event in self._stream_tgi(call)]
            case EndpointFormat.VLLM:
                return await self._predict_vllm(call)
            case _:
                body = self._chat_body(call, stream=False)
                if call.deployment.dedicated_host:
                    answer = await self._http.post(call, _chat_path(call), body, vendor=VENDOR)
                else:
                    answer = await self._grpc.raw_predict(call, self._grpc.endpoint(call.deployment), body)
                return read_plain(answer, OpenAiReader(call, VENDOR))

    def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """One streamed call. VLLM endpoints cannot stream: their whole answer comes as one delta.

        Raises:
            ProviderError: before or between events.
        """
        match call.deployment.endpoint_format:
            case EndpointFormat.TGI:
                return self._stream_tgi(call)
            case EndpointFormat.VLLM:
                return _all_at_once(self._predict_vllm, call)
            case _:
                body = self._chat_body(call, stream=True)
                if call.deployment.dedicated_host:
                    chunks = self._http.stream(call, _chat_path(call), body, vendor=VENDOR)
                else:
                    chunks = self._grpc.stream_raw_predict(call, self._grpc.endpoint(call.deployment), body)
                return read_sse(chunks, OpenAiReader(call, VENDOR))

    async def warm(self) -> None:
        """Open the session, load the messages and fetch a token."""
        await self._http.warm()
        await self._grpc.warm()

    async def aclose(self) -> None:
        """Close both transports."""
        await self._http.aclose()
        await self._grpc.aclose()

    def _stream_tgi(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        body = encode(tgi_body(call, self._options.of(call.deployment, PromptOptions).template))
        resource = self._grpc.endpoint(call.deployment)
        return read_sse(self._grpc.stream_raw_predict(call, resource, body), TgiReader(call, VENDOR))

    def _chat_body(self, call: ProviderCall, *, stream: bool) -> bytes:
        options = self._options.of(call.deployment, ChatEndpointOptions)
        return encode(
            chat_body(
                call,
                ENDPOINT,
                model=options.model,
                stream=stream,
                reasoning=options.reasoning,
                return_thinking=options.return_thinking,
            )
        )

    async def _predict_vllm(self, call: ProviderCall) -> list[StreamEvent]:
        prompt = render(call.request, self._options.of(call.deployment, PromptOptions).template)
        resource = self._grpc.endpoint(call.deployment)
        predictions = await self._grpc.predict(call, resource, [vllm_instance(call, prompt)], None)
        return vllm_events(call, prompt, predictions, VENDOR)


class CustomEndpointProvider:
    """`shared.ports.ModelProvider` for `ProviderKind.CUSTOM`: predict and rawPredict under `CustomMapping`.

    Args:
        grpc: the transport.
    """

    def __init__(self, grpc: VertexGrpc) -> None:
        self._grpc = grpc
        self._options = OptionsCache()

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Refuse what the declared mapping has no place for.

        Raises:
            UnsupportedFeature: naming the field.
        """
        check_custom(request, profile, deployment, self._options.of(deployment, CustomMapping))

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """One plain call.

        Raises:
            ProviderError: of the class that fits.
        """
        return await self._answer(call)

    def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """The whole answer as one delta: the mapping declares no stream.

        Raises:
            ProviderError: before the first event.
        """
        return _all_at_once(self._answer, call)

    async def warm(self) -> None:
        """Load the messages and fetch a token."""
        await self._grpc.warm()

    async def aclose(self) -> None:
        """Close the transport."""
        await self._grpc.aclose()

    async def _answer(self, call: ProviderCall) -> list[StreamEvent]:
        mapping = self._options.of(call.deployment, CustomMapping)
        resource = self._grpc.endpoint(call.deployment)
        request = filled(mapping.request, call, mapping.template)
        if call.deployment.endpoint_format is EndpointFormat.PREDICT:
            parameters = None if mapping.parameters is None else filled(mapping.parameters, call, mapping.template)
            answer = {"predictions": await self._grpc.predict(call, resource, [request], parameters)}
        else:
            answer = decode(await self._grpc.raw_predict(call, resource, encode(request)), VENDOR)
        return answer_events(mapping, call, answer, VENDOR)


def _chat_path(call: ProviderCall) -> str:
    return f"endpoints/{call.deployment.target}/chat/completions"


async def _all_at_once(
    answer: Callable[[ProviderCall], Awaitable[Sequence[StreamEvent]]], call: ProviderCall
) -> AsyncIterator[StreamEvent]:
    for event in await answer(call):
        yield event
