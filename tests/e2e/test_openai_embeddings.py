"""The official client's embeddings against the running stack, down to the ledger."""

import base64
import math
import struct
from decimal import Decimal

import openai
import pytest
import requests
from openai import OpenAI

from tests.e2e.ledger_row import row_of

MODELS = {"gemini-embedding-001": 3072, "text-embedding-005": 768, "text-multilingual-embedding-002": 768}
PRICES_USD = {"gemini-embedding-001": "0.15", "text-embedding-005": "0.10", "text-multilingual-embedding-002": "0.10"}
"""Per million tokens, by the registry."""


@pytest.fixture(scope="module")
def client(stack):
    with OpenAI(base_url=f"{stack.base_url}/api/v1", api_key="local", max_retries=0, timeout=30) as client:
        yield client


def nearness(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_come_in_order_at_unit_length_with_their_exact_price(client, stack, model, encoding):
    texts = ["A cat sleeps on the sofa.", "Bonds fell on Monday.", "A cat sleeps on the sofa."]
    raw = client.embeddings.with_raw_response.create(model=model, input=texts, encoding_format=encoding)
    reply = raw.parse()
    vectors = [row.embedding for row in reply.data]
    if encoding == "base64":  # asked for by name, the client leaves it as it came
        raws = [base64.b64decode(vector) for vector in vectors]
        vectors = [struct.unpack(f"<{len(raw) // 4}f", raw) for raw in raws]
    assert [row.index for row in reply.data] == [0, 1, 2]
    assert [len(vector) for vector in vectors] == [MODELS[model]] * 3
    assert all(math.isclose(nearness(v, v), 1, abs_tol=1e-5) for v in vectors)
    assert nearness(vectors[0], vectors[2]) == pytest.approx(1, abs=1e-5)
    assert nearness(vectors[0], vectors[1]) < nearness(vectors[0], vectors[2])
    assert reply.model == raw.headers["x-router-model"] == model
    row = row_of(stack, raw.headers["x-request-id"])
    assert (row["status"], row["endpoint"], row["model_used"]) == ("success", "embeddings", model)
    assert row["token_count"] == reply.usage.prompt_tokens > 0
    assert row["cost"] == Decimal(PRICES_USD[model]) * reply.usage.prompt_tokens / 1_000_000


def test_the_clients_own_default_encoding_gives_numbers(client):
    (row,) = client.embeddings.create(model="text-embedding-005", input="hello").data
    assert len(row.embedding) == 768
    assert all(isinstance(value, float) for value in row.embedding)


@pytest.mark.parametrize("dimensions", [1, 256, 3072])
def test_shorter_vectors_have_unit_length_too(client, dimensions):
    (row,) = client.embeddings.create(model="auto", input="hello there", dimensions=dimensions).data
    assert len(row.embedding) == dimensions
    assert nearness(row.embedding, row.embedding) == pytest.approx(1, abs=1e-5)


def test_auto_is_one_model_whatever_the_texts(client):
    inputs = ["x", "word " * 1500, ["a"] * 40]
    assert {client.embeddings.create(model="auto", input=value).model for value in inputs} == {"gemini-embedding-001"}


@pytest.mark.parametrize("model", ["gemini-embedding-001", "text-embedding-005"])
def test_more_than_the_vendor_takes_at_once_comes_back_whole_and_in_order(client, stack, model):
    # Many texts for one call, and too many tokens for one: about 40,000.
    texts = [f"number {number} " + "word " * 400 for number in range(90)]
    reply = client.embeddings.create(model=model, input=texts)
    assert len(reply.data) == len(texts)
    alone = client.embeddings.create(model=model, input=texts[70]).data[0].embedding
    nearest = max(range(len(texts)), key=lambda place: nearness(alone, reply.data[place].embedding))
    assert nearest == 70


def test_another_deployment_of_the_same_model_takes_over(client, stack):
    first = client.embeddings.with_raw_response.create(model="text-embedding-005", input="hello")
    stack.simulator.set_faults([{"match": {"model": "text-embedding-005"}, "fault": "unavailable", "times": 1}])
    raw = client.embeddings.with_raw_response.create(model="text-embedding-005", input="hello")
    assert raw.headers["x-router-attempts"] == "2"
    assert raw.headers["x-router-model"] == "text-embedding-005"
    assert raw.parse().data[0].embedding == first.parse().data[0].embedding


def test_another_model_never_takes_over(client, stack):
    stack.simulator.set_faults([{"match": {"model": "text-embedding-005"}, "fault": "unavailable"}])
    with pytest.raises(openai.InternalServerError) as caught:
        client.embeddings.create(model="text-embedding-005", input="hello")
    assert caught.value.status_code == 503


def test_residency_and_clearance_bind(client, stack):
    raw = client.embeddings.with_raw_response.create(
        model="auto", input="hello", extra_body={"router": {"residency": ["us"], "task_type": "RETRIEVAL_QUERY"}}
    )
    assert raw.headers["x-router-deployment"] == "gemini-embedding-001@us-central1"
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.embeddings.create(model="auto", input="hi", extra_body={"router": {"security_label": "restricted"}})
    assert "clearance" in str(caught.value)
    row = row_of(stack, caught.value.response.headers["x-request-id"])
    assert (row["status"], row["error_code"]) == ("error", "no_eligible_model")


def test_what_is_found_in_a_text_binds_too(client):
    # A secret that the analysis finds is above every shared deployment's clearance.
    secret = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 8 + "\n-----END RSA PRIVATE KEY-----"
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.embeddings.create(model="auto", input=["hello", secret])
    assert caught.value.code == "no_eligible_model"


def test_a_text_that_is_too_long_is_refused_unless_its_end_may_go(client):
    long = "word " * 4000
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="text-embedding-005", input=long)
    assert caught.value.code == "context_window_exceeded"
    reply = client.embeddings.create(
        model="text-embedding-005", input=["short", long], extra_body={"router": {"truncate": True}}
    )
    assert reply.model_extra["router"]["truncated"] == [1]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": []}, "input"),
        ({"model": "gemini-3.8-flash"}, "model"),
        ({"model": "auto:cost"}, "model"),
        ({"dimensions": 5000}, "dimensions"),
        ({"extra_body": {"router": {"allow_fallback": True}}}, "router.allow_fallback"),
        ({"extra_body": {"router": {"task_type": "poetry"}}}, "router.task_type"),
        ({"extra_body": {"voice": "x"}}, "voice"),
    ],
)
def test_what_cannot_be_is_a_400_that_names_the_field(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": "auto", "input": "hello", **fields})
    assert caught.value.param == param


def test_an_unknown_model_is_a_404(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="no-such-model", input="hello")
    assert caught.value.code == "model_not_found"


def test_embedding_models_are_listed_but_never_answer(client, stack):
    listed = {model.id: model.model_extra for model in client.models.list()}
    assert {listed[model]["kind"] for model in MODELS} == {"embedding"}
    assert client.models.retrieve("text-embedding-005").model_extra["dimensions"] == 768
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="text-embedding-005", messages=[{"role": "user", "content": "hi"}])
    assert (caught.value.code, caught.value.param) == ("unsupported_feature", "model")
    body = {"prompt": "hi", "dry_run": True}
    decision = requests.post(f"{stack.base_url}/api/v1/route", json=body, timeout=10).json()["decision"]
    seen = {row["model"] for row in decision["candidates"] + decision["rejections"]}
    assert not seen & set(MODELS)


def test_the_receipt_of_an_embedding_is_decided_again(client, stack):
    raw = client.embeddings.with_raw_response.create(model="auto", input="hello")
    request_id = raw.headers["x-request-id"]
    row_of(stack, request_id)
    url = f"{stack.base_url}/api/v1/receipts/{request_id}"
    shown = requests.get(url, timeout=10).json()
    assert shown["digest_matches"] is True
    assert shown["decision"]["chosen"]["model"] == "gemini-embedding-001"
    verified = requests.post(f"{url}/verify", timeout=10).json()
    assert (verified["valid"], verified["reasons"]) == (True, [])
