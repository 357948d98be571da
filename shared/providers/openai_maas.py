"""Open models as a service on Vertex AI, through its OpenAI-compatible endpoint or, for Mistral, by rawPredict.

Sources: https://cloud.google.com/vertex-ai/generative-ai/docs/maas/call-open-model-apis and
https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/mistral.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from shared.domain.chat import ChatRequest
from shared.domain.models import Deployment, ModelProfile
from shared.domain.replies import StreamEvent
from shared.ports import ProviderCall
from shared.providers.endpoints_options import MaasOptions, OptionsCache
from shared.providers.openai_check import check_chat
from shared.providers.openai_reader import OpenAiReader
from shared.providers.openai_wire import MAAS, MISTRAL, ChatDialect, chat_body, encode
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_http import VertexHttp
from shared.providers.wire_stream import read_plain, read_sse

VENDOR: Final = "Vertex AI MaaS"
_PATH: Final = "endpoints/openapi/chat/completions"


class OpenAiMaasProvider:
    """`shared.ports.ModelProvider` for `ProviderKind.OPENAI_MAAS`.

    ``options["publisher"] = "mistralai"`` sends the same body, in Mistral's dialect, by gRPC rawPredict to
    ``publishers/mistralai/models/{target}``.

    Args:
        http: for the OpenAI-compatible endpoint.
        grpc: for publishers served by rawPredict.
    """

    def __init__(self, http: VertexHttp, grpc: VertexGrpc) -> None:
        self._http = http
        self._grpc = grpc
        self._options = OptionsCache()

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Refuse what the model or its dialect of chat completions cannot carry.

        Raises:
            UnsupportedFeature: naming the field.
        """
        options = self._options.of(deployment, MaasOptions)
        check_chat(request, profile, deployment, _dialect(options), options.reasoning)

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """One plain call.

        Raises:
            ProviderError: of the class that fits.
        """
        options = self._options.of(call.deployment, MaasOptions)
        body = _body(call, options, stream=False)
        if options.publisher is None:
            answer = await self._http.post(call, _PATH, body, vendor=VENDOR)
        else:
            resource = self._grpc.publisher_model(call.deployment, options.publisher)
            answer = await self._grpc.raw_predict(call, resource, body)
        return read_plain(answer, OpenAiReader(call, VENDOR))

    def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """One streamed call. Closing the iterator cancels the vendor call.

        Raises:
            ProviderError: before or between events.
        """
        options = self._options.of(call.deployment, MaasOptions)
        body = _body(call, options, stream=True)
        if options.publisher is None:
            chunks = self._http.stream(call, _PATH, body, vendor=VENDOR)
        else:
            resource = self._grpc.publisher_model(call.deployment, options.publisher)
            chunks = self._grpc.stream_raw_predict(call, resource, body)
        return read_sse(chunks, OpenAiReader(call, VENDOR))

    async def warm(self) -> None:
        """Open the session, load the messages and fetch a token."""
        await self._http.warm()
        await self._grpc.warm()

    async def aclose(self) -> None:
        """Close both transports."""
        await self._http.aclose()
        await self._grpc.aclose()


def _dialect(options: MaasOptions) -> ChatDialect:
    return MISTRAL if options.publisher == "mistralai" else MAAS


def _body(call: ProviderCall, options: MaasOptions, *, stream: bool) -> bytes:
    return encode(
        chat_body(
            call,
            _dialect(options),
            model=call.deployment.target,
            stream=stream,
            reasoning=options.reasoning,
            return_thinking=options.return_thinking,
        )
    )
