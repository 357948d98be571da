"""/semantic behind the door: vectors of texts, and what texts have to do with each other."""

import json
import struct
from dataclasses import replace

import pytest

from shared import container
from shared.domain.embeddings import Embedding, EmbeddingTask
from shared.domain.limits import RateLimit
from shared.domain.policy import ServicePolicy
from shared.domain.replies import Embedded, Finished, FinishReason, TextDelta, Usage, UsageUpdate
from shared.domain.security import ContentAction, GuardRules
from tests.edge.edge_harness import SHELF, Edge
from tests.service.routing_doubles import ScriptedProvider, service
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import policy, registry

PLACE = embedding_deployment()
VECTORS = registry((embedding_model(), PLACE), aliases={"auto": "e"})
TEXTS = ["The refund is late", "My refund is late", "The app crashes"]
NUMBERS = [(1, 0, 0, 0), (0.96, 0.28, 0, 0), (0, 0, 1, 0)]
SECRET = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 8 + "\n-----END RSA PRIVATE KEY-----"


def vectors(numbers=NUMBERS):
    return [
        Embedded(tuple(Embedding(struct.pack("<4f", *row), 3) for row in numbers)),
        UsageUpdate(Usage(input_tokens=9)),
        Finished(FinishReason.STOP),
    ]


def moods(*labels, score=0.5):
    told = {f"t{place}": {"label": label, "score": score} for place, label in enumerate(labels)}
    return [
        TextDelta(json.dumps(told)),
        UsageUpdate(Usage(input_tokens=5, output_tokens=5)),
        Finished(FinishReason.STOP),
    ]


@pytest.fixture
def build():
    def build(script=None, answers=(), **rules):
        edge = Edge(
            ScriptedProvider({"a@europe-west4": list(answers)}),
            environ={"ROUTER_MAX_BODY_BYTES": "1000000"},
            rules=rules,
        )
        edge.vendor = ScriptedProvider({PLACE.id: [script or vectors()]})
        walk, _ = service(
            edge.vendor,
            VECTORS,
            policy(**rules),
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


def ask(*operations, **more):
    return {"texts": TEXTS, "operations": list(operations), **more}


@pytest.mark.parametrize("field", ["texts", "input"])
async def test_texts_are_embedded_in_either_form_and_recorded_by_the_endpoint(build, field):
    edge = build()
    answer = await edge.post("semantic/embed", {field: TEXTS, "router": {"task_type": "CLUSTERING"}})
    assert answer.status == 200
    assert answer.json["data"][0]["embedding"] == [1, 0, 0, 0]
    assert answer.headers["x-router-cost-usd"] == "0.000009"
    (call,) = edge.vendor.calls
    assert (call.request.texts, call.request.task) == (tuple(TEXTS), EmbeddingTask.CLUSTERING)
    (record,) = await edge.records()
    assert record.endpoint == "semantic/embed"


async def test_everything_that_needs_no_model_for_answers(build):
    edge = build()
    body = ask("similarity", "clusters", "duplicates", "topics", "key_phrases", "language", duplicate_threshold=0.9)
    answer = (await edge.post("semantic/analyze", body)).json
    matrix = answer["similarity"]["matrix"]
    assert matrix[0] == pytest.approx([1, 0.96, 0])
    assert [cluster["texts"] for cluster in answer["clusters"]] == [[0, 1], [2]]
    assert answer["duplicates"] == [{"texts": [0, 1], "centre": 0, "similarity": pytest.approx(0.96)}]
    assert [topic["texts"] for topic in answer["topics"]] == [[0, 1], [2]]
    assert "refund" in answer["topics"][0]["label"]
    assert answer["key_phrases"][2][0]["phrase"] == "app crashes"
    assert answer["language"] == ["en", "en", "en"]
    assert "sentiment" not in answer
    assert answer["cost_usd"] == pytest.approx(0.000009)
    (record,) = await edge.records()
    assert [row["request_id"] for row in answer["calls"]] == [record.id] == [answer["request_id"]]
    assert record.endpoint == "semantic/analyze"


async def test_the_nearest_of_each_instead_of_all_pairs(build):
    answer = (await build().post("semantic/analyze", ask("similarity", top_k=1))).json
    assert [near[0]["text"] for near in answer["similarity"]["nearest"]] == [1, 0, 0]


async def test_words_and_languages_call_no_model(build):
    edge = build()
    answer = await edge.post("semantic/analyze", ask("key_phrases", "language"))
    assert answer.status == 200
    assert (answer.json["calls"], answer.json["cost_usd"]) == ([], 0)
    assert edge.vendor.calls == edge.provider.calls == []


async def test_moods_come_from_the_model_that_was_asked_with_a_record_of_their_own(build):
    edge = build(answers=[moods("negative", "mixed", "neutral")])
    answer = await edge.post("semantic/analyze", ask("sentiment", "similarity", sentiment_model="a"))
    assert [mood["label"] for mood in answer.json["sentiment"]] == ["negative", "mixed", "neutral"]
    (call,) = edge.provider.calls
    schema = call.request.response_format.schema
    assert schema["required"] == ["t0", "t1", "t2"]
    assert [json.loads(part.text) for part in call.request.messages[0].parts] == [
        {f"t{place}": text} for place, text in enumerate(TEXTS)
    ]
    records = {record.model_used: record for record in await edge.records()}
    assert {record.endpoint for record in records.values()} == {"semantic/analyze"}
    assert records["e"].id == answer.json["request_id"]
    assert [row["request_id"] for row in answer.json["calls"]] == [records["e"].id, records["a"].id]


@pytest.mark.parametrize(
    "told",
    [
        [TextDelta("no json"), Finished(FinishReason.STOP)],
        [TextDelta("[]"), Finished(FinishReason.STOP)],
        moods("negative"),
        moods("negative", "mixed", "furious"),
        moods("negative", "mixed", "neutral", score=7),
    ],
)
async def test_moods_out_of_form_are_a_failure_and_no_answer(build, told):
    answer = await build(answers=[told]).post("semantic/analyze", ask("sentiment", sentiment_model="auto"))
    assert (answer.status, answer.error["code"]) == (502, "provider_bad_response")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("semantic/embed", {}, None),
        ("semantic/embed", {"texts": ["x"], "input": "x"}, None),
        ("semantic/embed", {"texts": ["x", ""]}, "texts[1]"),
        ("semantic/embed", {"texts": ["x"] * 2049}, "texts"),
        ("semantic/embed", {"input": ["x", ""]}, "input[1]"),
        ("semantic/analyze", {"texts": ["x"]}, "operations"),
        ("semantic/analyze", {"texts": [], "operations": ["language"]}, "texts"),
        ("semantic/analyze", {"texts": ["x"], "operations": ["mood"]}, "operations"),
        ("semantic/analyze", {"texts": ["x", " "], "operations": ["language"]}, "texts[1]"),
        ("semantic/analyze", {"texts": ["x"] * 257, "operations": ["language"]}, "texts"),
        ("semantic/analyze", {"texts": ["x" * 100_001] * 2, "operations": ["language"]}, "texts"),
        ("semantic/analyze", {"texts": ["x"] * 65, "operations": ["similarity"]}, "texts"),
        ("semantic/analyze", {"texts": ["x"], "operations": ["sentiment"]}, "sentiment_model"),
        ("semantic/analyze", {"texts": ["x"], "operations": ["language"], "sentiment_model": "a"}, "sentiment_model"),
        ("semantic/analyze", {"texts": ["x"] * 65, "operations": ["sentiment"], "sentiment_model": "a"}, "texts"),
        ("semantic/analyze", {"texts": ["x"], "operations": ["clusters"], "cluster_threshold": 2}, "cluster_threshold"),
        ("semantic/analyze", {"texts": ["x"], "operations": ["clusters"], "model": "auto:cost"}, "model"),
        (
            "semantic/analyze",
            {"texts": ["x"], "operations": ["clusters"], "router": {"residency": "eu"}},
            "router.residency",
        ),
    ],
)
async def test_what_cannot_be_names_its_field(build, path, body, param):
    edge = build()
    answer = await edge.post(path, body)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert edge.vendor.calls == edge.provider.calls == []


@pytest.mark.parametrize("more", [{}, {"sentiment_model": "a"}])
async def test_what_is_found_in_a_text_binds_every_model(build, more):
    edge = build(answers=[moods("neutral", "neutral")])
    operations = ["sentiment"] if more else ["clusters"]
    answer = await edge.post("semantic/analyze", {"texts": ["fine", SECRET], "operations": operations, **more})
    assert (answer.status, answer.error["code"]) == (422, "no_eligible_model")
    assert edge.vendor.calls == edge.provider.calls == []


@pytest.mark.parametrize(("operation", "more"), [("sentiment", {"sentiment_model": "a"}), ("clusters", {})])
async def test_what_the_policy_refuses_names_the_text(build, operation, more):
    blocks = ServicePolicy(guard=GuardRules(kinds={"private_key": ContentAction.BLOCK}))
    edge = build(default_service=blocks)
    answer = await edge.post("semantic/analyze", {"texts": ["fine", SECRET], "operations": [operation], **more})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (422, "sensitive_content", "texts[1]")
    assert edge.vendor.calls == edge.provider.calls == []


async def test_what_models_used_counts_for_the_limits_of_the_caller(build):
    rule = RateLimit("all", tokens_per_minute=60, token_burst=60)
    edge = build(rate_limits=(rule,))
    edge.limits.start()
    assert (await edge.post("semantic/analyze", ask("clusters"))).status == 200
    await edge.limits.aclose()
    answer = await edge.post("semantic/analyze", ask("language"))
    assert answer.headers["x-ratelimit-remaining-tokens"] == "51"
