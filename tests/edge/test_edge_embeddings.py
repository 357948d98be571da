"""Embeddings behind the door: the same walk as an answer's, over models of their own."""

import base64
import struct
from dataclasses import replace

import pytest

from shared import container
from shared.domain.embeddings import Embedding, EmbeddingTask
from shared.domain.errors import ProviderUnavailable
from shared.domain.records import RequestStatus
from shared.domain.replies import Embedded, Finished, FinishReason, Usage, UsageUpdate
from tests.edge.edge_harness import SHELF, Edge
from tests.service.routing_doubles import ScriptedProvider, service
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import policy, registry

EU, US = embedding_deployment(), embedding_deployment(region="us-central1", residency=frozenset({"us"}))
VECTORS = registry((embedding_model(), EU), (embedding_model(), US), aliases={"auto": "e"})
NUMBERS = (0.6, -0.8, 0.0, 0.0)
ONE = Embedding(struct.pack("<4f", *NUMBERS), 3)
ANSWER = [
    Embedded((ONE, replace(ONE, truncated=True))),
    UsageUpdate(Usage(input_tokens=6)),
    Finished(FinishReason.STOP),
]


@pytest.fixture
def build():
    def build(script=ANSWER, then=ANSWER):
        edge = Edge(environ={"ROUTER_MAX_BODY_BYTES": "100000"})
        edge.vendor = ScriptedProvider({EU.id: [script], US.id: [then]})
        walk, _ = service(
            edge.vendor,
            VECTORS,
            policy(),
            clock=edge.clock,
            store=edge.store,
            spill=edge.spill,
            journal=edge.journal,
            telemetry=edge.telemetry,
        )
        walk._writer = edge.writer
        edge.container.shelf._registry = replace(SHELF, embeddings=VECTORS)
        container.override(replace(edge.container, embeddings=walk))
        return edge

    yield build
    container.override(None)


async def test_vectors_as_numbers_and_as_bytes_with_record_and_headers(build):
    edge = build()
    body = {"model": "auto", "input": ["a", "b"], "router": {"task_type": "RETRIEVAL_DOCUMENT", "truncate": True}}
    answer = await edge.post("embeddings", body)
    assert answer.status == 200
    assert answer.json["data"] == [
        {"object": "embedding", "index": place, "embedding": list(NUMBERS)} for place in (0, 1)
    ]
    assert (answer.json["model"], answer.json["usage"]) == ("e", {"prompt_tokens": 6, "total_tokens": 6})
    assert answer.json["router"]["truncated"] == [1]
    assert (answer.headers["x-router-model"], answer.headers["x-router-cost-usd"]) == ("e", "0.000006")
    (call,) = edge.vendor.calls
    assert call.request.texts == ("a", "b")
    assert (call.request.task, call.request.truncate) == (EmbeddingTask.RETRIEVAL_DOCUMENT, True)
    (record,) = await edge.records()
    assert (record.status, record.endpoint, record.model_used) == (RequestStatus.SUCCESS, "embeddings", "e")
    assert (record.requested_model, record.usage.total_tokens, record.stream) == ("auto", 6, False)
    packed = await build().post("embeddings", {"model": "e", "input": ["a", "b"], "encoding_format": "base64"})
    assert [base64.b64decode(row["embedding"]) for row in packed.json["data"]] == [ONE.vector] * 2


async def test_another_place_of_the_same_model_takes_over(build):
    edge = build([ProviderUnavailable("away")])
    answer = await edge.post("embeddings", {"input": ["a", "b"]})
    assert answer.status == 200
    assert answer.headers["x-router-deployment"] == US.id
    (record,) = await edge.records()
    assert [attempt.outcome for attempt in record.attempts] == ["provider_unavailable", "success"]


async def test_a_text_binds_by_what_is_found_in_it(build):
    edge = build()
    found = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 8 + "\n-----END RSA PRIVATE KEY-----"
    answer = await edge.post("embeddings", {"model": "e", "input": ["a", found]})
    assert (answer.status, answer.error["code"]) == (422, "no_eligible_model")
    assert edge.vendor.calls == []
    (record,) = await edge.records()
    assert (record.status, record.security_level) == (RequestStatus.ERROR, "restricted")


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("embeddings", {"model": "a", "input": "x"}, 400, "model"),
        ("embeddings", {"model": "nobody", "input": "x"}, 404, "model"),
        ("embeddings", {"model": "e", "input": ["x", ""]}, 400, "input[1]"),
        ("embeddings", {"model": "e", "input": [[1]]}, 400, "input"),
        ("embeddings", {"model": "e", "input": ["x"] * 2049}, 400, "input"),
        ("chat/completions", {"model": "e", "messages": [{"role": "user", "content": "x"}]}, 400, "model"),
        ("responses", {"model": "e", "input": "x"}, 400, "model"),
        ("route", {"model": "e", "prompt": "x"}, 400, "model"),
    ],
)
async def test_what_cannot_be_names_its_field(build, path, body, status, param):
    edge = build()
    answer = await edge.post(path, body)
    assert (answer.status, answer.error["param"]) == (status, param)
    assert edge.vendor.calls == edge.provider.calls == []


async def test_embedding_models_are_listed_and_shown_by_their_kind(build):
    edge = build()
    listed = {row["id"]: row.get("kind") for row in (await edge.get("models")).json["data"]}
    assert (listed["a"], listed["e"]) == ("chat", "embedding")
    shown = (await edge.get("models/e")).json
    assert (shown["dimensions"], shown["context_window_tokens"], shown["max_output_tokens"]) == (4, 2048, None)
    assert (await edge.get("models/auto")).status == 404
