"""Documents at the door: bodies read and refused by field, answers as owners see them, jobs behind the queue."""

import base64
from dataclasses import replace
from uuid import uuid4

import azure.functions as func
import pytest

from functions import queues, timers
from functions.http import ROUTES
from shared import container
from shared.container import Ingestion
from shared.domain.errors import DependencyUnavailable
from shared.domain.identity import Permission
from shared.domain.security import SecurityLevel
from shared.stores.ingestion_queue import INGESTION_QUEUE
from tests.edge.edge_harness import PROVED, Edge
from tests.principals import principal_header
from tests.service.ingestion_world import World

TEXT = {"text": "Refunds take 14 days.", "source": "refunds"}


@pytest.fixture
def edge():
    edge = Edge(environ={"ROUTER_MAX_BODY_BYTES": "200000"})
    edge.world = World()
    edge.container = replace(edge.container, ingestion=Ingestion(edge.world.desk, edge.world.work))
    container.override(edge.container)
    yield edge
    container.override(None)


def encoded(content):
    return base64.b64encode(content).decode()


async def sent(edge, body):
    answer = await edge.post("rag/ingest", body)
    assert answer.status == 202, answer.json
    return answer.json["documents"]


async def test_a_document_is_taken_followed_and_deleted(edge):
    (document,) = await sent(edge, {**TEXT, "title": "Refunds", "metadata": {"lang": "en"}, "acl": ["finance"]})
    assert document["unchanged"] is False
    assert (document["status"], document["collection"], document["version"]) == ("queued", "default", 1)
    assert (document["metadata"], document["acl"], document["label"]) == ({"lang": "en"}, ["finance"], "internal")
    await edge.world.run()
    shown = (await edge.get(f"rag/documents/{document['id']}")).json
    assert (shown["status"], shown["chunks"], shown["live_version"], shown["title"]) == ("ready", 1, 1, "Refunds")
    assert "blob" not in shown
    gone = await edge.send("DELETE", f"rag/documents/{document['id']}", headers=PROVED)
    assert (gone.status, gone.json["status"]) == (200, "deleted")
    again = await edge.send("DELETE", f"rag/documents/{document['id']}", headers=PROVED)
    assert again.status == 404


async def test_deletions_are_in_the_audit_trail(edge):
    (document,) = await sent(edge, TEXT)
    await edge.send("DELETE", f"rag/documents/{document['id']}", headers=PROVED)
    deeds = [(row.event.action, row.event.resource) for rows in edge.trails.rows.values() for row in rows]
    assert ("rag.delete", f"document {document['id']}") in deeds


async def test_the_same_document_again_is_unchanged(edge):
    (first,) = await sent(edge, TEXT)
    await edge.world.run()
    (again,) = await sent(edge, TEXT)
    assert again["unchanged"] is True
    assert (again["id"], again["version"], again["status"]) == (first["id"], 1, "ready")


async def test_files_texts_and_blobs_in_one_batch_with_what_they_share(edge):
    edge.world.inbox.by_name[f"{(await edge.container.authenticator.authenticate(PROVED)).tenant_id}/in/c.md"] = b"# C"
    body = {
        "collection": "handbook",
        "label": "confidential",
        "metadata": {"team": "ops", "lang": "en"},
        "acl": ["ops"],
        "documents": [
            {"content": encoded(b"name,price\ntea,3"), "name": "a.csv", "media_type": "text/csv"},
            {"text": "Ein Text.", "source": "b", "metadata": {"lang": "de"}, "acl": [], "label": "public"},
            {"blob": "in/c.md", "collection": "other"},
        ],
    }
    documents = await sent(edge, body)
    assert [(d["collection"], d["source"], d["name"]) for d in documents] == [
        ("handbook", "a.csv", "a.csv"),
        ("handbook", "b", None),
        ("other", "in/c.md", "c.md"),
    ]
    assert [d["metadata"] for d in documents] == [
        {"team": "ops", "lang": "en"},
        {"team": "ops", "lang": "de"},
        {"team": "ops", "lang": "en"},
    ]
    assert [(d["acl"], d["label"]) for d in documents] == [
        (["ops"], "confidential"),
        ([], "public"),
        (["ops"], "confidential"),
    ]
    await edge.world.run()
    counts = (await edge.get("rag/collections")).json["collections"]
    assert [(c["name"], c["documents"], c["by_status"]) for c in counts] == [
        ("handbook", 2, {"ready": 2}),
        ("other", 1, {"ready": 1}),
    ]


async def test_documents_are_listed_in_pages_and_by_what_they_are(edge):
    await sent(edge, {"documents": [{"text": f"Text {i}.", "source": f"s{i}"} for i in range(5)]})
    await sent(edge, {"collection": "other", "text": " ", "source": "empty"})
    await edge.world.run()
    first = (await edge.get("rag/documents?limit=4")).json
    rest = (await edge.get(f"rag/documents?limit=4&cursor={first['next_cursor']}")).json
    assert len({d["id"] for d in first["documents"] + rest["documents"]}) == 6
    assert rest["next_cursor"] is None
    failed = (await edge.get("rag/documents?status=failed")).json["documents"]
    assert [(d["source"], d["reason"]) for d in failed] == [("empty", "It is empty.")]
    assert len((await edge.get("rag/documents?collection=default")).json["documents"]) == 5


async def test_what_failed_is_tried_again_on_demand(edge):
    edge.world.parser.failures = [DependencyUnavailable("away")] * 5
    (document,) = await sent(edge, TEXT)
    await edge.world.run()
    again = await edge.post(f"rag/documents/{document['id']}/retry", b"{}")
    assert (again.status, again.json["status"], again.json["attempts"]) == (202, "queued", 0)
    await edge.world.run()
    refused = await edge.post(f"rag/documents/{document['id']}/retry", b"{}")
    assert (refused.status, refused.error["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"text": "x"}, "source"),
        ({"text": "x", "content": "eA==", "source": "s"}, None),
        ({"content": "no base64!", "name": "a.txt"}, "content"),
        ({**TEXT, "collection": "no spaces"}, "collection"),
        ({**TEXT, "collection": ""}, "collection"),
        ({**TEXT, "label": "secret"}, "label"),
        ({**TEXT, "metadata": {"a key": "x"}}, "metadata.a key"),
        ({**TEXT, "metadata": {"k": 1}}, "metadata.k"),
        ({**TEXT, "metadata": {f"k{i}": "x" for i in range(33)}}, "metadata"),
        ({**TEXT, "acl": [""]}, "acl[0]"),
        ({**TEXT, "source": "a\nb"}, "source"),
        ({**TEXT, "tenant_id": "other"}, "tenant_id"),
        ({**TEXT, "media_type": "nonsense"}, "media_type"),
        ({"blob": "../other/x"}, "blob"),
        ({"blob": "/x"}, "blob"),
        ({"blob": "nothing/here.pdf"}, "blob"),
        ({"documents": []}, "documents"),
        ({"documents": [TEXT] * 2}, "documents[1].source"),
        ({"documents": [TEXT, {"source": "x"}]}, "documents[1].text"),
        ({"documents": [TEXT], "text": "x"}, None),
        ({"documents": [{"text": f"{i}", "source": f"s{i}"} for i in range(101)]}, "documents"),
        ({"documents": [TEXT, {"blob": "nothing"}]}, "documents[1].blob"),
        ({"documents": [{**TEXT, "documents": [TEXT]}]}, "documents[0].documents"),
    ],
)
async def test_bad_bodies_are_refused_by_field_before_anything_is_entered(edge, body, param):
    answer = await edge.post("rag/ingest", body)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert edge.world.queue.waiting == []
    assert edge.world.blobs.by_name == {}


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=201", "limit"), ("status=done", "status"), ("x=1", "x"), ("cursor=%00", "cursor")],
)
async def test_bad_queries_are_refused_by_parameter(edge, query, param):
    answer = await edge.get(f"rag/documents?{query}")
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_documents_over_the_limit_are_too_large(edge):
    edge.world.desk.max_document_bytes = 10
    answer = await edge.post("rag/ingest", TEXT)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert (await edge.post("rag/ingest", {**TEXT, "text": "x" * 300_000})).status == 413


@pytest.mark.parametrize("name", ["not-a-uuid", str(uuid4())])
async def test_documents_that_are_not_there_are_not_found(edge, name):
    assert (await edge.get(f"rag/documents/{name}")).status == 404
    assert (await edge.send("DELETE", f"rag/documents/{name}", headers=PROVED)).status == 404
    assert (await edge.post(f"rag/documents/{name}/retry", b"{}")).status == 404


async def test_other_tenants_see_nothing(edge):
    (document,) = await sent(edge, TEXT)
    stranger = principal_header(tenant="4f1c0a9e-0000-4000-8000-000000000002")
    known = await edge.get(f"rag/documents/{document['id']}")
    assert known.status == 200
    other = await edge.get(f"rag/documents/{document['id']}", headers=stranger)
    assert other.status in {401, 403, 404}


async def test_reading_and_writing_are_permissions_of_their_own(edge):
    analyst = principal_header(roles=("Router.Analyst",))
    assert (await edge.post("rag/ingest", TEXT, headers=analyst)).status == 403
    assert (await edge.get("rag/documents", headers=analyst)).status == 403
    wanted = {
        r.name: r.permission for r in ROUTES if r.path in {"rag/ingest", "rag/collections"} or "rag/doc" in r.path
    }
    assert {name for name, permission in wanted.items() if permission is Permission.RAG_WRITE} == {
        "rag_ingest",
        "rag_delete",
        "rag_retry",
    }
    assert set(wanted.values()) == {Permission.RAG_WRITE, Permission.RAG_READ}


def body_of(function):
    return function._function.get_user_function()


async def test_the_queues_function_does_the_work_and_the_poisoned_are_taken_back(edge):
    (document,) = await sent(edge, {**TEXT, "label": SecurityLevel.PUBLIC.label})
    (task, _) = edge.world.queue.waiting.pop()
    message = func.QueueMessage(
        body=(
            f'{{"tenant_id": "{task.tenant_id}", "document_id": "{task.document_id}", '
            f'"version": {task.version}, "blob": "{task.blob}"}}'
        ).encode()
    )
    await body_of(queues.take_back_documents)(msg=message)
    assert len(edge.world.queue.waiting) == 1
    await body_of(queues.ingest_documents)(msg=message)
    await body_of(queues.ingest_documents)(msg=message)
    assert (await edge.get(f"rag/documents/{document['id']}")).json["status"] == "ready"
    assert edge.world.parser.calls == 1
    with pytest.raises(ValueError):
        await body_of(queues.ingest_documents)(msg=func.QueueMessage(body=b"{}"))


async def test_the_timer_finds_what_was_lost(edge):
    await sent(edge, TEXT)
    edge.world.queue.waiting.clear()
    edge.world.clock.advance(1000)
    await timers.entry(timers.requeue_documents)(timer=func.timer.TimerRequest())
    assert len(edge.world.queue.waiting) == 1


def test_the_functions_listen_where_tasks_are_put():
    bindings = {
        function._function.get_function_name(): function._function.get_trigger().queue_name
        for function in (queues.ingest_documents, queues.take_back_documents)
    }
    assert bindings == {"ingest_documents": INGESTION_QUEUE, "take_back_documents": f"{INGESTION_QUEUE}-poison"}
