"""Documents in, answers out, over the whole stack: ingestion, search, citations, events, deletion."""

import json
import time
import uuid

import pytest
import requests

from tests.e2e.ledger_row import row_of

DEADLINE_S = 60
MANUAL = """# Refunds

Refunds for cancelled orders are paid within 14 days. They go to the card that paid.

# Shipping

Shipping to Norway costs twelve euros. Parcels to Iceland take nine days.
"""
ASKED = "When are refunds for cancelled orders paid?"


class Library:
    """A tenant with documents."""

    def __init__(self, url):
        self.url = url
        self.headers = {"x-router-tenant": f"t-{uuid.uuid4().hex[:12]}"}

    def call(self, method, path, body=None, **headers):
        return requests.request(
            method, f"{self.url}/{path}", json=body, headers=self.headers | headers, timeout=30, stream=True
        )

    def add(self, text, **fields):
        """A document, once it is ready."""
        body = {"text": text, "source": f"{uuid.uuid4().hex}.md", "media_type": "text/markdown"} | fields
        taken = self.call("POST", "rag/ingest", body)
        assert taken.status_code == 202, taken.text
        found = taken.json()
        document = found["documents"][0]["id"] if "documents" in found else found["id"]
        ends = time.monotonic() + DEADLINE_S
        while time.monotonic() < ends:
            state = self.call("GET", f"rag/documents/{document}").json()
            if state["status"] == "ready":
                return document
            assert state["status"] not in {"failed", "needs_ocr"}, state
            time.sleep(0.2)
        pytest.fail(f"the document is still {state['status']}")

    def ask(self, question=ASKED, headers=(), **fields):
        answer = self.call("POST", "rag/query", {"question": question} | fields, **dict(headers))
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture
def library(stack):
    return Library(f"{stack.base_url}/api/v1")


def test_an_answer_quotes_its_document_and_is_in_the_ledger(library, stack):
    document = library.add(MANUAL, title="Manual")
    answer = library.ask()
    body = answer.json()
    assert body["grounded"], body["output"]["text"]
    citation = body["citations"][0]
    assert (citation["document_id"], citation["title"]) == (document, "Manual")
    assert "14 days" in citation["quote"]
    passage = next(p for p in body["retrieval"]["passages"] if p["marker"] == citation["marker"])
    begin = citation["start"] - passage["start"]
    assert passage["text"][begin : begin + len(citation["quote"])] == citation["quote"]
    row = row_of(stack, body["request_id"])
    assert (row["status"], row["endpoint"], row["model_used"]) == ("success", "rag/query", body["model"])
    assert row["cost"] > 0
    (call,) = body["retrieval"]["calls"]
    searched = row_of(stack, call)
    assert (searched["endpoint"], searched["tenant_id"]) == ("rag/query", library.headers["x-router-tenant"])
    receipt = library.call("GET", f"receipts/{body['request_id']}")
    assert receipt.status_code == 200


def test_the_same_as_events(library):
    library.add(MANUAL)
    name, events = None, []
    for line in library.ask(stream=True).iter_lines(decode_unicode=True):
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            events.append((name, json.loads(line[6:])))
    names = [name for name, _ in events]
    assert names[0] == "retrieval"
    assert names[-2:] == ["citations", "done"]
    assert set(names[1:-2]) == {"delta"}
    assert dict(events)["citations"]["grounded"]
    assert float(dict(events)["done"]["cost_usd"]) > 0


def test_a_question_without_an_answer_calls_no_model(library, stack):
    library.add(MANUAL)
    calls = f"{stack.simulator.http_endpoint}/_sim/calls"
    requests.delete(calls, timeout=5)
    body = library.ask("Who composed Lohengrin, zebra?", collection="empty").json()
    assert (body["grounded"], body["abstained"]) == (False, "nothing_found")
    made = requests.get(calls, timeout=5).json()["calls"]
    assert {call["model"] for call in made} <= {"gemini-embedding-001"}


def test_only_what_is_found_and_only_within_the_readers_groups(library):
    library.add(MANUAL, acl=["board"])
    assert library.ask(retrieve_only=True).json()["retrieval"]["passages"] == []
    board = {"x-router-groups": "board"}
    assert library.ask(headers=board, retrieve_only=True).json()["retrieval"]["passages"]
    assert not library.ask(headers=board, groups=["staff"], retrieve_only=True).json()["retrieval"]["passages"]
    other = {"x-router-tenant": "somebody-else", **board}
    assert not library.ask(headers=other, retrieve_only=True).json()["retrieval"]["passages"]


def test_a_label_keeps_passages_from_models_that_are_not_cleared(library):
    library.add(MANUAL, label="confidential")
    body = library.ask().json()
    assert body["retrieval"]["security_level"] == "confidential"
    registry = library.call("GET", f"models/{body['model']}").json()
    served = next(one for one in registry["deployments"] if one["id"] == body["deployment"])
    assert served["clearance"] in {"confidential", "restricted"}


def test_what_is_deleted_is_not_found(library):
    document = library.add(MANUAL)
    assert library.ask(retrieve_only=True).json()["retrieval"]["passages"]
    assert library.call("DELETE", f"rag/documents/{document}").status_code in {200, 204}
    assert library.ask(retrieve_only=True, abstain=False).json()["retrieval"]["passages"] == []


def test_texts_are_compared_with_real_vectors_and_read_by_a_model(library, stack):
    texts = ["The refund is late.", "The refund is late!", "The whales sing in the winter."]
    body = {"texts": texts, "operations": ["similarity", "duplicates", "key_phrases", "language", "sentiment"]}
    answer = library.call("POST", "semantic/analyze", body | {"sentiment_model": "auto"})
    found = answer.json()
    assert answer.status_code == 200, found
    assert found["duplicates"][0]["texts"] == [0, 1]
    matrix = found["similarity"]["matrix"]
    assert matrix[0][1] > matrix[0][2]
    assert found["language"] == ["en", "en", "en"]
    assert [mood["label"] for mood in found["sentiment"]] == ["positive"] * 3
    assert [row_of(stack, call["request_id"])["endpoint"] for call in found["calls"]] == ["semantic/analyze"] * 2
    embedded = library.call("POST", "semantic/embed", {"texts": texts, "dimensions": 64}).json()
    assert [len(row["embedding"]) for row in embedded["data"]] == [64] * 3
