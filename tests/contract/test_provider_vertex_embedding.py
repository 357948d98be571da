"""The embedding adapter against a real gRPC server, and against the simulator."""

import asyncio
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest

from shared.domain.embeddings import EmbeddingTask, embedding_request
from shared.domain.errors import (
    ContextWindowExceeded,
    InternalError,
    ProviderBadResponse,
    ProviderRateLimited,
    ProviderUnavailable,
    UnsupportedFeature,
)
from shared.domain.replies import ReplyBuilder
from shared.ports import ProviderCall
from shared.providers.credentials import AnonymousTokens
from shared.providers.json_struct import plain_value, set_value
from shared.providers.vertex_embedding import VertexEmbeddingProvider, batches
from shared.providers.vertex_grpc import VertexGrpc
from shared.providers.vertex_protos import messages
from shared.stores.system import SystemClock
from tests.contract.vertex_server import serving
from tests.unit.embedding_builders import TRAITS, embedding_deployment, embedding_model
from tests.unit.openai_builders import request as chat_request

MODEL, DEPLOYMENT = embedding_model(), embedding_deployment()


def attempt(request, profile=MODEL, deployment=DEPLOYMENT):
    return ProviderCall(request, profile, deployment, "r1", max_output_tokens=1, deadline_s=time.monotonic() + 20)


def response(*predictions):
    answer = messages().PredictResponse()
    for prediction in predictions:
        set_value(answer.predictions.add(), prediction)
    return answer


def prediction(values, tokens=3, **statistics):
    return {"embeddings": {"values": values, "statistics": {"token_count": tokens, "truncated": False, **statistics}}}


def vectors(reply):
    return [embedding.values() for embedding in reply.embeddings]


async def embedded(provider, call):
    return ReplyBuilder("e").extend(await provider.complete(call)).build()


@pytest.fixture
async def server():
    async with serving() as fake:
        yield fake


@pytest.fixture
async def provider(server):
    made = VertexEmbeddingProvider(transport(server.endpoint))
    yield made
    await made.aclose()


def transport(endpoint):
    return VertexGrpc(project="p", tokens=AnonymousTokens(), endpoint_override=endpoint, clock=SystemClock())


async def by_length(message, _context):
    """Vectors that tell the length of their texts."""
    lengths = [len(instance.struct_value.fields["content"].string_value) for instance in message.instances]
    return response(*(prediction([float(length), 1.0, 0.0, 0.0], tokens=length) for length in lengths))


async def test_texts_are_split_and_their_vectors_come_back_in_order(server, provider):
    server.predict = by_length
    texts = ["a" * length for length in (7, 1, 5, 2, 3, 9, 4)]
    reply = await embedded(provider, attempt(embedding_request(texts)))
    assert [round(vector[0] / vector[1]) for vector in vectors(reply)] == [7, 1, 5, 2, 3, 9, 4]
    assert all(np.linalg.norm(vector) == pytest.approx(1) for vector in vectors(reply))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.estimated) == (31, 0, False)
    assert sorted(len(message.instances) for _, message, _ in server.calls) == [1, 3, 3]


async def test_what_the_vendor_is_sent(server, provider):
    server.predict = by_length
    wanted = embedding_request(["x"], dimensions=4, task=EmbeddingTask.RETRIEVAL_QUERY, truncate=True)
    await provider.complete(attempt(wanted))
    ((name, message, metadata),) = server.calls
    assert name == "Predict"
    assert message.endpoint == "projects/p/locations/europe-west4/publishers/google/models/e"
    assert [plain_value(i) for i in message.instances] == [{"content": "x", "task_type": "RETRIEVAL_QUERY"}]
    assert plain_value(message.parameters) == {"autoTruncate": True, "outputDimensionality": 4}
    assert metadata["x-request-id"] == "r1"


async def test_truncation_and_missing_counts_are_told(server, provider):
    async def answer(_message, _context):
        return response(prediction([1.0, 0.0, 0.0, 0.0], truncated=True), {"embeddings": {"values": [0, 1, 0, 0.0]}})

    server.predict = answer
    reply = await embedded(provider, attempt(embedding_request(["a b c", "d"])))
    assert [embedding.truncated for embedding in reply.embeddings] == [True, False]
    assert reply.usage.estimated
    assert reply.usage.prompt_tokens == 4


@pytest.mark.parametrize(
    "predictions",
    [
        [],
        [prediction([1.0, 0.0, 0.0, 0.0])] * 2,
        [prediction([1.0, 0.0])],
        [prediction([0.0, 0.0, 0.0, 0.0])],
        [prediction([1.0, float("nan"), 0.0, 0.0])],
        [prediction([1.0, float("inf"), 0.0, 0.0])],
        [prediction(["a", "b", "c", "d"])],
        [prediction([1.0, None, True, 0.0])],
        [{"malformed": True}],
        ["text"],
        [None],
    ],
)
async def test_what_cannot_be_read_is_a_bad_response(server, provider, predictions):
    async def answer(_message, _context):
        return response(*predictions)

    server.predict = answer
    with pytest.raises(ProviderBadResponse):
        await provider.complete(attempt(embedding_request(["x"])))


async def test_an_attempt_goes_on_where_the_one_before_it_failed(server, provider):
    refusals = iter([True])

    async def sometimes(message, context):
        texts = [instance.struct_value.fields["content"].string_value for instance in message.instances]
        if "bad" in texts and next(refusals, False):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return await by_length(message, context)

    server.predict = sometimes
    wanted = embedding_request(["a", "b", "c", "bad", "e", "f", "g"])
    with pytest.raises(ProviderUnavailable):
        await provider.complete(attempt(wanted))
    first = len(server.calls)
    reply = await embedded(provider, attempt(replace(wanted)))
    assert len(server.calls) == first + 1
    assert len(reply.embeddings) == 7
    # All texts are billed in the end, each of them once.
    assert reply.usage.prompt_tokens == 9


async def test_a_refusal_that_repeats_for_every_text_is_not_repeated(server, provider):
    async def full(_message, context):
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota")

    server.predict = full
    one_each = replace(MODEL, embedding=replace(TRAITS, max_texts_per_call=1))
    with pytest.raises(ProviderRateLimited):
        await provider.complete(attempt(embedding_request(["x"] * 60), one_each))
    assert len(server.calls) < 60


async def test_a_caller_who_leaves_cancels_every_call(server, provider):
    started = asyncio.Event()

    async def hang(_message, _context):
        started.set()
        await asyncio.Event().wait()

    server.predict = hang
    task = asyncio.create_task(provider.complete(attempt(embedding_request(["x"] * 7))))
    async with asyncio.timeout(20):
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await server.until_cancelled("Predict")


async def test_a_stream_is_the_same_all_at_once(server, provider):
    server.predict = by_length
    call = attempt(embedding_request(["abc"]))
    assert [event async for event in provider.stream(call)] == list(await provider.complete(call))


def test_lengths_that_the_model_does_not_give_are_refused():
    provider = VertexEmbeddingProvider(transport("nowhere:1"))
    for dimensions in (None, 2, 4):
        provider.check(embedding_request(["x"], dimensions=dimensions), MODEL, DEPLOYMENT)
    fixed = replace(MODEL, embedding=replace(TRAITS, min_dimensions=4))
    for profile, dimensions in ((MODEL, 1), (MODEL, 5), (fixed, 3)):
        with pytest.raises(UnsupportedFeature) as caught:
            provider.check(embedding_request(["x"], dimensions=dimensions), profile, DEPLOYMENT)
        assert caught.value.param == "dimensions"
    with pytest.raises(InternalError):
        provider.check(chat_request(), MODEL, DEPLOYMENT)
    with pytest.raises(InternalError):
        provider.check(embedding_request(["x"]), replace(MODEL, embedding=None), DEPLOYMENT)


def test_batches_hold_what_the_vendor_takes():
    traits = replace(TRAITS, max_texts_per_call=3, max_tokens_per_call=2048)
    texts = ["word " * 800, "x", "word " * 1200, "y", "z", "word " * 9000, "v", "w", "u", "t"]
    cut = list(batches(texts, range(len(texts)), traits))
    assert [place for batch in cut for place in batch] == list(range(len(texts)))
    assert cut == [[0, 1], [2, 3, 4], [5], [6, 7, 8], [9]]
    assert list(batches(texts, [], traits)) == []


class TestOnTheSimulator:
    TRAITS = replace(TRAITS, dimensions=768, min_dimensions=1, max_texts_per_call=250)
    MODEL = embedding_model("text-embedding-005", embedding=TRAITS)
    DEPLOYMENT = embedding_deployment("text-embedding-005")

    @pytest.fixture
    async def provider(self, simulator):
        made = VertexEmbeddingProvider(transport(simulator.grpc_endpoint))
        await made.warm()
        yield made
        await made.aclose()

    def call(self, *texts, **options):
        return attempt(embedding_request(texts, **options), self.MODEL, self.DEPLOYMENT)

    async def test_like_texts_have_like_vectors(self, provider):
        call = self.call("A cat sleeps on the sofa.", "A cat is asleep on a sofa.", "Bond yields fell on Monday.")
        cat, asleep, bonds = vectors(await embedded(provider, call))
        assert np.dot(cat, asleep) > np.dot(cat, bonds)
        assert len(cat) == 768

    async def test_batches_beyond_the_vendors_limits_succeed(self, provider):
        reply = await embedded(provider, self.call(*(f"{n} " + "word " * 500 for n in range(60)), *["x"] * 300))
        assert len(reply.embeddings) == 360

    async def test_a_text_that_is_too_long(self, provider):
        long = "word " * 4000
        with pytest.raises(ContextWindowExceeded):
            await provider.complete(self.call(long))
        (embedding,) = (await embedded(provider, self.call(long, truncate=True))).embeddings
        assert embedding.truncated

    async def test_a_vendor_that_is_away(self, provider, simulator):
        simulator.set_faults([{"match": {}, "fault": "unavailable"}])
        with pytest.raises(ProviderUnavailable):
            await provider.complete(self.call("x"))
