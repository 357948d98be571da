"""Anthropic's Claude models through Vertex AI's RawPredict."""

from collections.abc import AsyncIterator, Sequence

from shared.domain.chat import ChatRequest
from shared.domain.models import Deployment, ModelProfile
from shared.domain.replies import StreamEvent
from shared.ports import ProviderCall
from shared.providers.anthropic_check import check_request
from shared.providers.anthropic_events import AnthropicReader
from shared.providers.anthropic_request import JSON_TOOL, answers_by_tool, request_body
from shared.providers.anthropic_traits import traits_of
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.wire_stream import read_plain, read_sse

_PUBLISHER = "anthropic"


class AnthropicProvider:
    """`shared.ports.ModelProvider` for Claude.

    Args:
        vertex: the transport; closed with this provider, which may share it with others.
    """

    def __init__(self, vertex: VertexGrpc) -> None:
        self._vertex = vertex

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Refuse what this model cannot carry.

        Raises:
            UnsupportedFeature: naming the field.
        """
        check_request(request, profile, deployment)

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """One plain call.

        Raises:
            ProviderError: of the class that fits.
        """
        resource = self._vertex.publisher_model(call.deployment, _PUBLISHER)
        answer = await self._vertex.raw_predict(call, resource, request_body(call, stream=False))
        return read_plain(answer, _reader(call))

    def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """One streamed call. Closing the iterator cancels the vendor call.

        Raises:
            ProviderError: before or between events.
        """
        resource = self._vertex.publisher_model(call.deployment, _PUBLISHER)
        chunks = self._vertex.stream_raw_predict(call, resource, request_body(call, stream=True))
        return read_sse(chunks, _reader(call))

    async def warm(self) -> None:
        """Import the messages and fetch a token; `VertexGrpc.warm` also connects to given hosts."""
        await self._vertex.warm()

    async def aclose(self) -> None:
        """Close the transport."""
        await self._vertex.aclose()


def _reader(call: ProviderCall) -> AnthropicReader:
    by_tool = answers_by_tool(call.request, traits_of(call.deployment))
    return AnthropicReader(JSON_TOOL if by_tool else None)
