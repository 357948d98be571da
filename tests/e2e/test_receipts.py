"""Receipts over HTTP: route, read the receipt, verify it, alter the ledger behind the router's back, verify again."""

import time

import psycopg
import pytest
import requests


@pytest.fixture(scope="module")
def url(stack):
    return f"{stack.base_url}/api/v1"


@pytest.fixture
def ledger(stack):
    with psycopg.connect(stack.settings["POSTGRES_DSN"], autocommit=True) as connection:
        yield connection


def routed(url, **body):
    answer = requests.post(f"{url}/route", json={"prompt": "Why is the sky blue?", **body}, timeout=30)
    assert answer.status_code == 200
    return answer.headers["x-request-id"], answer.json()


def receipt_of(url, request_id):
    """The receipt, once the ledger's writer has stored it behind the answer."""
    give_up_at = time.monotonic() + 20
    while True:
        answer = requests.get(f"{url}/receipts/{request_id}", timeout=10)
        if answer.status_code != 404 or time.monotonic() > give_up_at:
            assert answer.status_code == 200
            return answer.json()
        time.sleep(0.05)


def verify(url, request_id):
    answer = requests.post(f"{url}/receipts/{request_id}/verify", timeout=10)
    assert answer.status_code == 200
    return answer.json()


def test_a_receipt_is_read_verified_altered_and_found_out(url, ledger):
    before, _ = routed(url)
    request_id, routed_body = routed(url, tags={"team": "x"}, preset="quality")
    after, _ = routed(url)
    for written in (before, request_id, after):
        receipt = receipt_of(url, written)

    receipt = receipt_of(url, request_id)
    assert receipt["digest_matches"] is True
    assert receipt["decision"] == routed_body["decision"]
    assert receipt["receipt"]["question"]["tags"] == [["team", "x"]]
    assert receipt["outcome"]["attempts"][0][1] == "success"
    assert receipt["nearest_changes"]
    assert len(receipt["chain"]["hash"]) == 64
    verified = verify(url, request_id)
    assert (verified["valid"], verified["chain_intact"], verified["digest_matches"]) == (True, True, True)
    assert (verified["broken_at"], verified["reasons"]) == (None, [])

    change = "UPDATE receipts SET body = replace(body, '\"team\"', '\"teem\"') WHERE request_id = %s RETURNING sequence"
    place = ledger.execute(change, (request_id,)).fetchone()[0]
    try:
        verified = verify(url, request_id)
        assert (verified["valid"], verified["chain_intact"], verified["broken_at"]) == (False, False, place)
        assert verified["reasons"] == [f"row {place}: its content does not match its hash"]
        # Its neighbours' decisions still hold; the chain they hang in does not.
        neighbour = verify(url, after)
        assert (neighbour["valid"], neighbour["digest_matches"], neighbour["broken_at"]) == (False, True, place)
    finally:
        ledger.execute(
            "UPDATE receipts SET body = replace(body, '\"teem\"', '\"team\"') WHERE request_id = %s", (request_id,)
        )
    assert verify(url, request_id)["valid"]

    ledger.execute("CREATE TEMPORARY TABLE taken AS SELECT * FROM receipts WHERE request_id = %s", (request_id,))
    ledger.execute("DELETE FROM receipts WHERE request_id = %s", (request_id,))
    try:
        assert requests.get(f"{url}/receipts/{request_id}", timeout=10).status_code == 404
        assert verify(url, after)["broken_at"] == place
    finally:
        ledger.execute("INSERT INTO receipts SELECT * FROM taken")


def test_the_configuration_that_a_receipt_names_is_kept(url, ledger):
    request_id, _ = routed(url)
    receipt = receipt_of(url, request_id)["receipt"]
    query = (
        "SELECT encode(sha256(convert_to(body, 'UTF8')), 'hex') FROM config_documents WHERE kind = %s AND version = %s"
    )
    for kind in ("registry", "policy"):
        assert ledger.execute(query, (kind, receipt[kind])).fetchone() == (receipt[kind],)


def test_a_refused_request_and_a_stream_have_receipts(url):
    refused = requests.post(f"{url}/route", json={"prompt": "hello", "allow_models": ["nobody"]}, timeout=30)
    assert refused.status_code == 422
    receipt = receipt_of(url, refused.headers["x-request-id"])
    assert receipt["decision"]["chosen"] is None
    assert {r["reason"] for r in receipt["decision"]["rejections"]} <= {"not_allowed", "disabled"}
    assert receipt["digest_matches"] is True

    with requests.post(f"{url}/route", json={"prompt": "hello", "stream": True}, stream=True, timeout=30) as streamed:
        assert streamed.content
    assert receipt_of(url, streamed.headers["x-request-id"])["digest_matches"] is True


def test_a_preview_says_the_same_as_a_receipt_and_leaves_none(url):
    preview = requests.post(f"{url}/route", json={"prompt": "hello", "dry_run": True}, timeout=30)
    body = preview.json()
    assert len(body["digest"]) == 64
    assert {"quantity", "was", "becomes", "size", "winner", "deployment"} == set(body["nearest_changes"][0])
    assert requests.get(f"{url}/receipts/{preview.headers['x-request-id']}", timeout=10).status_code == 404


def test_another_tenants_receipt_is_not_there(url):
    request_id, _ = routed(url)
    receipt_of(url, request_id)
    for call in (requests.get, requests.post):
        path = f"{url}/receipts/{request_id}" + ("/verify" if call is requests.post else "")
        answer = call(path, headers={"x-router-tenant": "other"}, timeout=10)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
    assert requests.get(f"{url}/receipts/nonsense", timeout=10).status_code == 404
