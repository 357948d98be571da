"""Models behind their wire forms."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.domain.chat import ChatRequest
from shared.domain.models import Deployment, ModelProfile
from shared.domain.replies import StreamEvent


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One attempt at one deployment.

    Attributes:
        max_output_tokens: what the policy and the model allow, already resolved; always sent to the vendor.
        deadline_s: instant on `Clock.monotonic`'s scale after which no answer is of use.
        idle_timeout_s: longest silence between two pieces of a stream, and before the first one.
        headers: vendor-neutral headers to pass along (traceparent).
    """

    request: ChatRequest
    profile: ModelProfile
    deployment: Deployment
    request_id: str
    max_output_tokens: int
    deadline_s: float
    idle_timeout_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)


class ModelProvider(Protocol):
    """A family of models behind one wire form.

    Both calls yield the same events through the same mapping: `stream` as they come, `complete` all at once.
    The events of a whole answer hold exactly one `Finished` and at least one `UsageUpdate`.
    """

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Refuse, before any call, what this wire form or model cannot carry. Pure and cheap.

        Raises:
            UnsupportedFeature: naming the field.
        """
        ...

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """One plain call.

        Raises:
            ProviderError: of the class that fits; never a vendor's own exception.
            asyncio.CancelledError: the caller went away; the vendor call is cancelled with it.
        """
        ...

    def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """One streamed call. Closing the iterator cancels the vendor call.

        Raises:
            ProviderError: before or between events; a stream that ends without `Finished` was cut, and the adapter
                raises `ProviderUnavailable` for it itself.
        """
        ...

    async def warm(self) -> None:
        """Open channels and fetch credentials ahead of the first call."""
        ...

    async def aclose(self) -> None:
        """Close channels and sessions."""
        ...
