"""Text embeddings of Google's models through predict.

Source: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.analysis.tokens import estimate_tokens
from shared.domain.chat import ChatRequest
from shared.domain.embeddings import Embedding, EmbeddingRequest
from shared.domain.errors import (
    InternalError,
    ProviderBadResponse,
    ProviderError,
    ProviderUnavailable,
    UnsupportedFeature,
)
from shared.domain.models import Deployment, EmbeddingTraits, ModelProfile
from shared.domain.replies import Embedded, Finished, FinishReason, StreamEvent, Usage, UsageUpdate
from shared.ports import ProviderCall
from shared.providers.vertex_grpc import VENDOR, VertexGrpc

_CALLS_AT_ONCE: Final = 8
"""Vendor calls that one request has under way: a model that takes one text a call must not take all connections."""
_SURE_TOKENS_FACTOR: Final = 1.25
"""Estimates of tokens are within about 15%; a batch that the vendor refuses as too long would fail the request."""
_MOST_TOKENS: Final = 10_000_000
"""Of one text; a count beyond it is none."""
_VALUE_BYTES: Final = 11
"""Of a number in a serialised `google.protobuf.ListValue`: the Value's tag and length, the double's tag, the double."""
_VALUE_HEAD: Final = b"\x0a\x09\x11"


class VertexEmbeddingProvider:
    """`shared.ports.ModelProvider` for `ProviderKind.TEXT_EMBEDDING`.

    A request may hold more texts than the vendor takes at once: they are split into calls, and the vectors come back
    in the order of the texts.

    Args:
        grpc: the transport.
    """

    def __init__(self, grpc: VertexGrpc) -> None:
        self._grpc = grpc

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Refuse a length of vectors that the model does not give.

        Raises:
            UnsupportedFeature: naming the field.
        """
        traits, wanted = _traits(profile), _asked(request).dimensions
        if wanted is not None and not traits.min_dimensions <= wanted <= traits.dimensions:
            possible = f"from {traits.min_dimensions} to {traits.dimensions}"
            if traits.min_dimensions == traits.dimensions:
                possible = f"{traits.dimensions} only"
            raise UnsupportedFeature(
                f"the model at {deployment.id} gives vectors of {possible} dimensions", param="dimensions"
            )

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """The vectors of all texts. What some calls brought before one failed is kept for the next attempt.

        Raises:
            ProviderError: of the class that fits.
        """
        request, traits = _asked(call.request), _traits(call.profile)
        missing = [place for place in range(len(request.texts)) if place not in request.found]
        failures: list[ProviderError] = []
        gate = asyncio.Semaphore(_CALLS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for places in batches(request.texts, missing, traits):
                group.create_task(self._collect(call, places, gate, failures))
        if failures:
            raise failures[0]
        embeddings = tuple(request.found[place] for place in range(len(request.texts)))
        counted = [(e.tokens or estimate_tokens(text)) for e, text in zip(embeddings, request.texts, strict=True)]
        usage = Usage(input_tokens=sum(counted), estimated=any(not embedding.tokens for embedding in embeddings))
        return [Embedded(embeddings), UsageUpdate(usage), Finished(FinishReason.STOP, "predictions")]

    async def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """The same, all at once: vectors do not stream.

        Raises:
            ProviderError: before the first event.
        """
        for event in await self.complete(call):
            yield event

    async def warm(self) -> None:
        """Load the messages and fetch a token."""
        await self._grpc.warm()

    async def aclose(self) -> None:
        """Close the transport."""
        await self._grpc.aclose()

    async def _collect(
        self, call: ProviderCall, places: Sequence[int], gate: asyncio.Semaphore, failures: list[ProviderError]
    ) -> None:
        """Add the vectors of some texts to those found, unless a failure shows that calls are of no use here."""
        request = _asked(call.request)
        async with gate:
            if len(failures) >= _CALLS_AT_ONCE or any(not isinstance(f, ProviderUnavailable) for f in failures):
                return
            try:
                embeddings = await self._embed(call, [request.texts[place] for place in places])
            except ProviderError as failure:
                failures.append(failure)
            else:
                request.found.update(zip(places, embeddings, strict=True))

    async def _embed(self, call: ProviderCall, texts: Sequence[str]) -> list[Embedding]:
        request, traits = _asked(call.request), _traits(call.profile)
        task = {} if request.task is None else {"task_type": request.task.value.upper()}
        instances = [{"content": text, **task} for text in texts]
        parameters: dict[str, Any] = {"autoTruncate": request.truncate}
        if request.dimensions is not None:
            parameters["outputDimensionality"] = request.dimensions
        resource = self._grpc.publisher_model(call.deployment, "google")
        predictions = await self._grpc.predict_values(call, resource, instances, parameters)
        if len(predictions) != len(texts):
            raise ProviderBadResponse(f"{VENDOR} sent {len(predictions)} vectors for {len(texts)} texts")
        return [_embedding(prediction, request.dimensions or traits.dimensions) for prediction in predictions]


def batches(texts: Sequence[str], places: Sequence[int], traits: EmbeddingTraits) -> Iterator[Sequence[int]]:
    """The places of texts, cut into what the vendor takes at once. A text that is too long by itself goes alone."""
    batch: list[int] = []
    tokens = 0
    for place in places:
        size = min(round(estimate_tokens(texts[place]) * _SURE_TOKENS_FACTOR), traits.max_input_tokens)
        is_full = len(batch) >= traits.max_texts_per_call or tokens + size > traits.max_tokens_per_call
        if batch and is_full:
            yield batch
            batch, tokens = [], 0
        batch.append(place)
        tokens += size
    if batch:
        yield batch


def _asked(request: ChatRequest) -> EmbeddingRequest:
    if not isinstance(request, EmbeddingRequest):
        raise InternalError("an embedding model was asked for an answer")
    return request


def _traits(profile: ModelProfile) -> EmbeddingTraits:
    if profile.embedding is None:
        raise InternalError(f"model {profile.id} gives no vectors")
    return profile.embedding


def _embedding(prediction: Any, dimensions: int) -> Embedding:
    """One vector out of a prediction ``{"embeddings": {"values", "statistics": {"token_count", "truncated"}}}``.

    Raises:
        ProviderBadResponse: it is not there, not as long as was asked for, or has no direction.
    """
    fields = prediction.struct_value.fields["embeddings"].struct_value.fields
    values = _numbers(fields["values"].list_value)
    if len(values) != dimensions or not np.isfinite(values).all():
        raise ProviderBadResponse(f"{VENDOR} sent a vector that cannot be read")
    length = float(np.linalg.norm(values))
    if length == 0:
        raise ProviderBadResponse(f"{VENDOR} sent a vector without a direction")
    statistics: Mapping[str, Any] = fields["statistics"].struct_value.fields
    # Only vectors of the model's own length come as unit vectors; shortened ones are left to the caller.
    vector = (values / length).astype("<f4").tobytes()
    count = statistics["token_count"].number_value
    tokens = int(count) if 0 < count < _MOST_TOKENS else 0
    return Embedding(vector, tokens, truncated=statistics["truncated"].bool_value)


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    """The numbers of a ListValue, read off its wire form: a call of Python for each of thousands would take long."""
    wire = np.frombuffer(values.SerializeToString(), np.uint8)
    if len(wire) % _VALUE_BYTES:
        return np.zeros(0)
    rows = wire.reshape(-1, _VALUE_BYTES)
    if (rows[:, :3] != np.frombuffer(_VALUE_HEAD, np.uint8)).any():
        return np.zeros(0)
    return np.ascontiguousarray(rows[:, 3:]).view("<f8").ravel()
