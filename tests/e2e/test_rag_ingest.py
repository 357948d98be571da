"""Documents over HTTP against the running stack: queue, reader processes, vectors, database, ledger."""

import base64
import time
from uuid import uuid4

import psycopg
import pytest
import requests
from azure.storage.blob import ContainerClient

from shared.stores.blobs import INBOX_CONTAINER, INGESTION_CONTAINER
from tests.unit import document_builders as build

DEADLINE_S = 60
ENDS = {"ready", "failed", "needs_ocr", "deleted"}


@pytest.fixture(scope="module")
def api(stack):
    with requests.Session() as session:
        yield lambda method, path, **more: session.request(
            method, f"{stack.base_url}/api/v1/{path}", timeout=30, **more
        )


def followed(api, document_id):
    """The document, once nothing more happens to it."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        document = api("GET", f"rag/documents/{document_id}").json()
        if document["status"] in ENDS:
            return document
        assert time.monotonic() < deadline_s, document
        time.sleep(0.1)


def named(content, name):
    return {"content": base64.b64encode(content).decode(), "name": name}


def test_a_batch_of_formats_ends_as_it_should(api, stack):
    collection = f"c-{uuid4().hex[:8]}"
    files = {
        "report.pdf": build.pdf(build.show("Annual report", size=24), build.show("Revenue grew by ten percent.")),
        "fees.docx": build.docx(
            build.paragraph(build.run("Fees"), style="Heading1"), build.paragraph(build.run("Due."))
        ),
        "deck.pptx": build.pptx(lambda presentation: build.slide(presentation, "Plan", ["one", "two"])),
        "prices.xlsx": build.xlsx({"S": [["plan", "price"], ["gold", 30]]}),
        "page.html": b"<html><body><p>Seen.</p><p style='display:none'>Unseen.</p></body></html>",
        "scan.pdf": build.pdf("", picture_pages=(1,)),
        "broken.docx": b"PK\x03\x04 broken",
        "locked.xlsx": build.ole("EncryptedPackage"),
    }
    answer = api(
        "POST",
        "rag/ingest",
        json={"collection": collection, "documents": [named(content, name) for name, content in files.items()]},
    )
    assert answer.status_code == 202
    assert {document["status"] for document in answer.json()["documents"]} == {"queued"}
    ended = {d["name"]: followed(api, d["id"]) for d in answer.json()["documents"]}
    assert {name: document["status"] for name, document in ended.items()} == {
        "report.pdf": "ready",
        "fees.docx": "ready",
        "deck.pptx": "ready",
        "prices.xlsx": "ready",
        "page.html": "ready",
        "scan.pdf": "needs_ocr",
        "broken.docx": "failed",
        "locked.xlsx": "failed",
    }
    assert all((d["reason"] is None) == (d["status"] == "ready") for d in ended.values())
    assert "password" in ended["locked.xlsx"]["reason"]
    assert ended["page.html"]["warnings"] == ["1 pieces of hidden text were left out."]
    assert ended["report.pdf"]["pages"] == 2
    (facts,) = [c for c in api("GET", "rag/collections").json()["collections"] if c["name"] == collection]
    assert facts["by_status"] == {"ready": 5, "failed": 2, "needs_ocr": 1}
    assert facts["chunks"] == sum(document["chunks"] for document in ended.values()) >= 5
    assert paid(stack, ended["fees.docx"]["id"]) == ("rag/ingest", "success", "gemini-embedding-001")
    left = [blob.name for blob in container(stack, INGESTION_CONTAINER).list_blobs()]
    assert not any(ended[name]["id"] in blob for blob in left for name in ("report.pdf", "page.html"))


def container(stack, name):
    return ContainerClient.from_connection_string(stack.azurite.connection_string, name)


def paid(stack, document_id):
    """Endpoint, status and model of the ledger's record of a document's vectors, which is written behind the work."""
    statement = "SELECT endpoint, status, model_used FROM requests WHERE tags->>'document' = %s"
    deadline_s = time.monotonic() + DEADLINE_S
    with psycopg.connect(stack.settings["POSTGRES_DSN"], autocommit=True) as connection:
        while True:
            row = connection.execute(statement, (document_id,)).fetchone()
            if row is not None:
                return row
            assert time.monotonic() < deadline_s
            time.sleep(0.1)


def test_a_blob_of_the_inbox_is_read_and_stays(api, stack):
    with container(stack, INBOX_CONTAINER) as inbox:
        if not inbox.exists():
            inbox.create_container()
        tenant = api("GET", "auth/validate").json()["principal"]["tenant_id"]
        inbox.upload_blob(f"{tenant}/reports/q1.md", b"# Q1\n\nRevenue grew.", overwrite=True)
        (document,) = api("POST", "rag/ingest", json={"blob": "reports/q1.md"}).json()["documents"]
        ended = followed(api, document["id"])
        assert (ended["status"], ended["title"], ended["source"]) == ("ready", "Q1", "reports/q1.md")
        assert inbox.get_blob_client(f"{tenant}/reports/q1.md").exists()


def test_a_key_makes_a_repetition_the_same_answer(api):
    key, body = {"idempotency-key": uuid4().hex}, {"text": "Once.", "source": uuid4().hex}
    first, second = (api("POST", "rag/ingest", json=body, headers=key) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"


def test_a_new_version_takes_over_and_deleting_leaves_a_tombstone(api):
    source = uuid4().hex
    (first,) = api("POST", "rag/ingest", json={"text": "Old text.", "source": source}).json()["documents"]
    assert followed(api, first["id"])["live_version"] == 1
    (second,) = api("POST", "rag/ingest", json={"text": "New text.", "source": source}).json()["documents"]
    assert (second["id"], second["version"]) == (first["id"], 2)
    assert followed(api, first["id"])["live_version"] == 2
    assert api("DELETE", f"rag/documents/{first['id']}").json()["status"] == "deleted"
    assert followed(api, first["id"])["chunks"] == 0
    assert api("DELETE", f"rag/documents/{first['id']}").status_code == 404
