"""Google's Gemini models through Vertex AI's GenerateContent."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from shared.domain.chat import ChatRequest
from shared.domain.models import Deployment, ModelProfile
from shared.domain.replies import StreamEvent
from shared.ports import ProviderCall
from shared.providers.gemini_events import GeminiState, closing_events, events_of
from shared.providers.gemini_request import check_request, request_message
from shared.providers.vertex_grpc import VertexGrpc

_PUBLISHER = "google"


class GeminiProvider:
    """`shared.ports.ModelProvider` for Gemini.

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
        state = GeminiState(call.request_id, one_call=call.request.parallel_tool_calls is False)
        response = await self._vertex.generate_content(self._request(call), call)
        return [*events_of(response, state), *closing_events(state, streamed=False)]

    async def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """One streamed call. Closing the iterator cancels the vendor call.

        Raises:
            ProviderError: before or between events.
        """
        state = GeminiState(call.request_id, one_call=call.request.parallel_tool_calls is False)
        async with aclosing(self._vertex.stream_generate_content(self._request(call), call)) as responses:
            async for response in responses:
                for event in events_of(response, state):
                    yield event
        for event in closing_events(state, streamed=True):
            yield event

    async def warm(self) -> None:
        """Import the messages and fetch a token; `VertexGrpc.warm` also connects to given hosts."""
        await self._vertex.warm()

    async def aclose(self) -> None:
        """Close the transport."""
        await self._vertex.aclose()

    def _request(self, call: ProviderCall) -> object:
        return request_message(call, self._vertex.publisher_model(call.deployment, _PUBLISHER))
