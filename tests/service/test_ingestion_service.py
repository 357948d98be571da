"""Documents from the desk to the shelf: what is done, what is paid for, what is left when something fails."""

import asyncio
from dataclasses import replace

import pytest

from shared.domain.documents import Block, BlockKind, DocumentStatus, NeedsOcr, ParsedDocument
from shared.domain.errors import (
    Conflict,
    DependencyUnavailable,
    InvalidRequest,
    NotFound,
    ProviderRejected,
    ProviderUnavailable,
    RequestTooLarge,
)
from shared.domain.identity import Principal
from shared.domain.security import CustomPattern, DetectionRules, SecurityLevel
from shared.services.ingestion import Submission, task_for
from shared.services.ingestion_work import MAX_ATTEMPTS
from tests.service.ingestion_world import World, vector_of
from tests.service.routing_doubles import PRINCIPAL
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import registry

LONG = "\n\n".join(f"Paragraph {i} says that order {i} was shipped on time and nobody complained." for i in range(80))


def part(text, number):
    return text.replace(f"order {number} ", f"parcel {number} ")


async def test_a_document_becomes_chunks_with_vectors_and_its_bytes_are_deleted():
    world = World()
    taken = await world.send("# Refunds\n\nRefunds take 14 days.", "faq.md", metadata={"lang": "en"})
    assert taken.is_new
    assert taken.document.status is DocumentStatus.QUEUED
    await world.run()
    document = await world.document(taken)
    assert (document.status, document.title, document.chunks) == (DocumentStatus.READY, "Refunds", 1)
    assert (document.live_version, document.reason, document.metadata) == (1, "", {"lang": "en"})
    (chunk,) = world.chunks(taken)
    assert chunk.text == "Refunds\n\nRefunds take 14 days."
    assert world.provider.texts == [chunk.full_text]
    assert world.blobs.by_name == {}


async def test_calls_for_vectors_are_in_the_ledger_under_their_owner():
    world = World()
    taken = await world.send(LONG)
    await world.run()
    records = await world.ledger()
    assert {(r.service_name, r.tenant_id, r.endpoint, r.status.value) for r in records} == {
        (PRINCIPAL.service, PRINCIPAL.tenant_id, "rag/ingest", "success")
    }
    assert all(r.cost_usd > 0 for r in records)
    assert dict(records[0].tags) == {"collection": "docs", "document": taken.document.id}


async def test_the_same_bytes_again_cost_nothing():
    world = World()
    await world.send(LONG)
    await world.run()
    calls, parsed = len(world.provider.calls), world.parser.calls
    again = await world.send(LONG)
    assert not again.is_new
    assert world.queue.waiting == []
    assert world.blobs.by_name == {}
    assert (len(world.provider.calls), world.parser.calls) == (calls, parsed)


async def test_only_changed_chunks_are_embedded_again():
    world = World()
    first = await world.send(LONG)
    await world.run()
    before = {chunk.sha for chunk in world.chunks(first)}
    paid = len(world.provider.texts)
    second = await world.send(part(LONG, 40))
    assert second.document.version == 2
    await world.run()
    after = {chunk.sha for chunk in world.chunks(first)}
    assert 0 < len(after - before) < len(after) / 2
    assert len(world.provider.texts) - paid == len(after - before)


BOOK = "\n\n".join(f"Paragraph {i}. " + " ".join(f"word{i}x{j}" for j in range(120)) for i in range(100))


async def test_a_batch_that_is_embedded_is_not_paid_for_again():
    world = World()
    taken = await world.send(BOOK)
    # The third batch never comes back: its worker dies with it.
    dead = asyncio.Event()

    async def dies():
        dead.set()
        await asyncio.Event().wait()

    async def passes():
        return None

    world.provider.failures = [passes, passes, dies]
    task, _ = world.queue.waiting[0]
    worker = asyncio.create_task(world.work.do(task))
    await dead.wait()
    worker.cancel()
    await asyncio.wait({worker})
    before = len(world.provider.texts)
    assert before == 96
    world.clock.advance(61)
    await world.run()

    assert (await world.document(taken)).status is DocumentStatus.READY
    chunks = {chunk.full_text for chunk in world.chunks(taken)}
    assert len(chunks) > 100
    assert len(world.provider.texts) == len(chunks) + 32
    assert set(world.provider.texts) == chunks
    known = world.documents._entries[taken.document.id].embedded
    assert known == {}


async def test_a_batch_that_cannot_be_kept_stops_nothing(monkeypatch):
    world = World()

    async def away(*_arguments, **_fields):
        raise DependencyUnavailable("away")

    monkeypatch.setattr(world.documents, "keep_vectors", away)
    taken = await world.send(BOOK)
    await world.run()
    assert (await world.document(taken)).status is DocumentStatus.READY
    assert world.telemetry.counted("embedded_batches_not_kept") > 1


async def test_work_whose_lease_was_lost_pays_for_no_further_batch():
    world = World()
    taken = await world.send(BOOK)

    async def deleted():
        await world.desk.delete(PRINCIPAL, taken.document.id)

    world.provider.failures = [deleted]
    await world.run()
    assert len(world.provider.calls) == 1
    assert (await world.document(taken)).status is DocumentStatus.DELETED


async def test_two_documents_share_the_vectors_of_equal_chunks():
    world = World()
    await world.send(LONG, "one.txt", title="Orders")
    await world.run()
    paid = len(world.provider.calls)
    taken = await world.send(LONG, "two.txt", title="Orders")
    await world.run()
    assert len(world.provider.calls) == paid
    assert (await world.document(taken)).status is DocumentStatus.READY


async def test_until_the_new_version_is_ready_the_old_one_is_found():
    world = World()
    first = await world.send("The old text.")
    await world.run()
    await world.send("The new text.")
    document = await world.document(first)
    assert (document.status, document.version, document.live_version) == (DocumentStatus.QUEUED, 2, 1)
    assert [chunk.text for chunk in world.chunks(first)] == ["The old text."]
    world.parser.failures.append(NeedsOcr("It is a picture."))
    await world.run()
    document = await world.document(first)
    assert (document.status, document.live_version) == (DocumentStatus.NEEDS_OCR, 1)
    assert [chunk.text for chunk in world.chunks(first)] == ["The old text."]


async def test_a_task_that_comes_twice_is_done_once():
    world = World()
    taken = await world.send()
    (task, _), *_ = world.queue.waiting
    world.queue.waiting.append((task, 0))
    await world.run()
    assert world.parser.calls == 1
    assert (await world.document(taken)).version == 1


async def test_a_version_that_was_replaced_is_not_worked_on_and_its_bytes_go():
    world = World()
    await world.send("One.")
    await world.send("Two.")
    assert len(world.blobs.by_name) == 2
    await world.run()
    assert world.parser.calls == 1
    assert world.blobs.by_name == {}


@pytest.mark.parametrize(
    "failure", [ProviderUnavailable("away"), DependencyUnavailable("away"), OSError("disk"), RuntimeError("defect")]
)
async def test_what_may_pass_is_tried_again_later_and_says_so(failure):
    world = World()
    world.parser.failures = [failure]
    taken = await world.send()
    (task, _) = world.queue.waiting.pop()
    await world.work.do(task)
    document = await world.document(taken)
    assert document.status is DocumentStatus.QUEUED
    assert document.reason.startswith("It is tried again.")
    assert [delay_s for _, delay_s in world.queue.waiting] == [10]
    await world.run()
    document = await world.document(taken)
    assert (document.status, document.reason, document.attempts) == (DocumentStatus.READY, "", 2)


async def test_after_five_attempts_it_fails_with_a_reason_and_can_be_tried_again():
    world = World()
    world.parser.failures = [DependencyUnavailable("the parser is away")] * MAX_ATTEMPTS
    taken = await world.send()
    await world.run()
    document = await world.document(taken)
    assert (document.status, document.attempts) == (DocumentStatus.FAILED, 5)
    assert "the parser is away" in document.reason
    await world.desk.retry(PRINCIPAL, document.id)
    await world.run()
    document = await world.document(taken)
    assert (document.status, document.attempts) == (DocumentStatus.READY, 1)
    with pytest.raises(Conflict, match="ready"):
        await world.desk.retry(PRINCIPAL, document.id)


async def test_delays_grow():
    world = World()
    world.parser.failures = [DependencyUnavailable("away")] * MAX_ATTEMPTS
    await world.send()
    delays = []
    while world.queue.waiting:
        task, delay_s = world.queue.waiting.pop()
        delays.append(delay_s)
        await world.work.do(task)
    assert delays == [0, 10, 40, 160, 640]


async def test_a_document_that_kills_its_workers_is_given_up():
    world = World()
    taken = await world.send()
    (task, _) = world.queue.waiting.pop()
    for _ in range(MAX_ATTEMPTS):
        await world.documents.claim(task.tenant_id, task.document_id, 1, worker="dies", lease_s=60)
        world.clock.advance(61)
    await world.work.do(task)
    document = await world.document(taken)
    assert document.status is DocumentStatus.FAILED
    assert document.id in document.reason
    assert world.parser.calls == 0


async def test_what_the_owner_must_mend_is_not_tried_again():
    world = World()
    world.provider.failures = [ProviderRejected("the text is refused")]
    taken = await world.send()
    await world.run()
    document = await world.document(taken)
    assert document.status is DocumentStatus.FAILED
    assert "the text is refused" in document.reason
    assert document.attempts == 1


async def test_an_empty_document_fails_with_a_reason():
    world = World()
    taken = await world.send(" \n ")
    await world.run()
    document = await world.document(taken)
    assert (document.status, document.reason) == (DocumentStatus.FAILED, "It is empty.")


async def test_bytes_that_are_gone_or_changed_are_asked_for_again():
    world = World()
    lost, changed = await world.send("One.", "one.txt"), await world.send("Two.", "two.txt")
    world.blobs.by_name.pop(lost.document.blob)
    world.blobs.by_name[changed.document.blob] = b"Three."
    await world.run()
    assert "Send it again" in (await world.document(lost)).reason
    assert "changed" in (await world.document(changed)).reason


async def test_pictures_are_read_where_a_model_for_that_is_configured():
    class Ocr:
        async def parse(self, content, *, media_type, name):
            return ParsedDocument((Block(BlockKind.PARAGRAPH, "Seen in the picture.", 0),))

    picture = b"\x89PNG\r\n\x1a\n" + bytes(50)
    without, having = World(), World(ocr=Ocr())
    for world, status in ((without, DocumentStatus.NEEDS_OCR), (having, DocumentStatus.READY)):
        taken = await world.send(source="scan.png", content=picture, media_type="image/png")
        await world.run()
        assert (await world.document(taken)).status is status
    assert world.chunks(taken)[0].text == "Seen in the picture."


async def test_labels_rise_to_what_is_found_by_chunk_and_never_fall():
    world = World(shelf=registry((embedding_model(), embedding_deployment(clearance=SecurityLevel.RESTRICTED))))
    text = LONG + "\n\nPay with card 4111 1111 1111 1111 please."
    taken = await world.send(text)
    secret = await world.send("Nothing in here.", "plain.txt", label=SecurityLevel.CONFIDENTIAL)
    await world.run()
    assert (await world.document(taken)).label is SecurityLevel.RESTRICTED
    labels = [chunk.label for chunk in world.chunks(taken)]
    assert labels[-1] is SecurityLevel.RESTRICTED
    assert set(labels[:-1]) == {SecurityLevel.INTERNAL}
    assert (await world.document(secret)).label is SecurityLevel.CONFIDENTIAL


async def test_the_policys_own_patterns_label_too():
    rules = DetectionRules((CustomPattern("project", "Bluebird", SecurityLevel.CONFIDENTIAL),))
    world = World(detection=rules)
    taken = await world.send("Project Bluebird starts on Monday.")
    await world.run()
    assert (await world.document(taken)).label is SecurityLevel.CONFIDENTIAL


async def test_content_no_model_is_cleared_for_is_refused_before_anything_is_paid():
    world = World()
    taken = await world.send(LONG + "\n\nPay with card 4111 1111 1111 1111 please.")
    await world.run()
    document = await world.document(taken)
    assert document.status is DocumentStatus.FAILED
    assert "cleared" in document.reason
    assert world.provider.calls == []


async def test_deleting_takes_bytes_and_chunks_and_stops_the_work():
    world = World()
    taken = await world.send()
    gone = await world.desk.delete(PRINCIPAL, taken.document.id)
    assert gone.status is DocumentStatus.DELETED
    assert world.blobs.by_name == {}
    await world.run()
    assert world.parser.calls == 0
    assert (await world.document(taken)).status is DocumentStatus.DELETED
    with pytest.raises(NotFound):
        await world.desk.delete(PRINCIPAL, taken.document.id)


async def test_a_document_deleted_while_it_is_embedded_stays_deleted():
    world = World()
    taken = await world.send()

    async def delete():
        await world.desk.delete(PRINCIPAL, taken.document.id)

    world.provider.failures = [delete]
    await world.run()
    assert (await world.document(taken)).status is DocumentStatus.DELETED
    assert not world.chunks(taken)


async def test_a_document_replaced_while_it_is_embedded_ends_as_the_new_version():
    world = World()
    taken = await world.send("Old.")

    async def replaced():
        await world.send("New.")

    world.provider.failures = [replaced]
    await world.run()
    assert (await world.document(taken)).live_version == 2
    assert [chunk.text for chunk in world.chunks(taken)] == ["New."]
    assert world.blobs.by_name == {}


async def test_a_batch_is_entered_and_each_document_has_its_own_end():
    world = World()
    taken = await world.desk.submit(
        PRINCIPAL,
        [Submission("docs", f"{i}.txt", f"{i}.txt", "text/plain", f"Text {i}.".encode()) for i in range(20)]
        + [Submission("docs", "empty.txt", "empty.txt", "text/plain", b"")],
    )
    assert len({one.document.id for one in taken}) == 21
    await world.run(rounds=30)
    ends = [(await world.document(one)).status for one in taken]
    assert ends == [DocumentStatus.READY] * 20 + [DocumentStatus.FAILED]


async def test_two_of_a_batch_cannot_be_the_same_document():
    world = World()
    twice = [Submission("docs", "a.txt", "a.txt", "text/plain", text) for text in (b"One.", b"Two.")]
    with pytest.raises(InvalidRequest) as refusal:
        await world.desk.submit(PRINCIPAL, twice)
    assert refusal.value.param == "documents[1].source"
    assert world.queue.waiting == []
    await world.desk.submit(PRINCIPAL, [twice[0], replace(twice[1], collection="other")])


async def test_blobs_are_read_from_the_callers_own_folder_only():
    world = World()
    world.inbox.by_name["tenant-1/reports/q1.txt"] = b"Revenue grew."
    world.inbox.by_name["tenant-2/reports/q1.txt"] = b"Revenue fell."
    given = Submission("docs", "q1", "q1.txt", "text/plain", blob="reports/q1.txt")
    (taken,) = await world.desk.submit(PRINCIPAL, [given])
    await world.run()
    assert world.chunks(taken)[0].text == "Revenue grew."
    assert "tenant-1/reports/q1.txt" in world.inbox.by_name  # the owner's file stays
    with pytest.raises(InvalidRequest) as refusal:
        await world.desk.submit(PRINCIPAL, [replace(given, blob="nothing.txt")])
    assert refusal.value.param == "documents[0].blob"


async def test_documents_over_the_limit_are_refused_before_anything_is_entered():
    world = World()
    world.desk.max_document_bytes = 100
    world.inbox.by_name["tenant-1/big"] = bytes(200)
    fits = Submission("docs", "a", "a.txt", "text/plain", b"Fits.")
    for large in (replace(fits, source="b", content=bytes(101)), replace(fits, source="b", content=None, blob="big")):
        with pytest.raises(RequestTooLarge) as refusal:
            await world.desk.submit(PRINCIPAL, [fits, large])
        assert refusal.value.param.startswith("documents[1]")
    assert world.queue.waiting == []
    assert world.blobs.by_name == {}


async def test_another_tenants_documents_are_not_there():
    world = World()
    taken = await world.send()
    await world.run()
    stranger = Principal("p-2", "tenant-2", "shop", frozenset())
    for call in (world.desk.get, world.desk.delete, world.desk.retry):
        with pytest.raises(NotFound):
            await call(stranger, taken.document.id)
    page = await world.desk.page(stranger, collection=None, status=None, limit=10, cursor=None)
    assert list(page.documents) == []
    assert list(await world.desk.collections(stranger)) == []


async def test_an_access_list_hides_a_document_from_all_but_its_groups_and_its_sender():
    world = World()
    taken = await world.send(acl=frozenset({"finance"}))
    await world.run()
    member = replace(PRINCIPAL, id="p-2", service="reports", groups=frozenset({"finance", "other"}))
    outsider = replace(PRINCIPAL, id="p-3", service="reports", groups=frozenset({"other"}))
    for reader, is_shown in ((PRINCIPAL, True), (member, True), (outsider, False)):
        page = await world.desk.page(reader, collection="docs", status=None, limit=10, cursor=None)
        assert [document.id for document in page.documents] == [taken.document.id] * is_shown
    assert (await world.desk.get(member, taken.document.id)).status is DocumentStatus.READY
    for call in (world.desk.get, world.desk.delete, world.desk.retry):
        with pytest.raises(NotFound):
            await call(outsider, taken.document.id)
    assert (await world.document(taken)).status is DocumentStatus.READY


async def test_while_the_queue_is_away_documents_are_taken_and_found_later():
    world = World()
    world.queue.away = True
    taken = await world.send()
    assert taken.is_new
    world.queue.away = False
    assert await world.work.requeue_stuck() == 0  # not before its time
    world.clock.advance(601)
    assert await world.work.requeue_stuck() == 1
    await world.run()
    assert (await world.document(taken)).status is DocumentStatus.READY


async def test_a_dead_workers_document_is_queued_again_and_one_that_waits_is_not():
    world = World()
    taken = await world.send()
    (task, _) = world.queue.waiting.pop()
    await world.documents.claim(task.tenant_id, task.document_id, 1, worker="dead", lease_s=60)
    await world.documents.advance(taken.document, worker="dead", status=DocumentStatus.PARSING, lease_s=60)
    world.clock.advance(200)
    assert await world.work.requeue_stuck() == 1
    world.parser.failures = [DependencyUnavailable("away")] * 4
    (task, _) = world.queue.waiting.pop()
    for _ in range(3):
        await world.work.do(task)
        (task, delay_s) = world.queue.waiting.pop()
    assert delay_s == 640
    world.clock.advance(200)
    assert await world.work.requeue_stuck() == 0
    world.clock.advance(640)
    assert await world.work.requeue_stuck() == 1


async def test_what_was_queued_again_is_not_announced_again_and_again():
    world = World()
    await world.send()
    (task, _) = world.queue.waiting.pop()
    await world.documents.claim(task.tenant_id, task.document_id, 1, worker="dead", lease_s=60)
    world.clock.advance(200)
    assert [await world.work.requeue_stuck() for _ in range(3)] == [1, 0, 0]
    world.clock.advance(601)
    assert await world.work.requeue_stuck() == 1
    # Another worker takes it and dies: that is another loss.
    await world.documents.claim(task.tenant_id, task.document_id, 1, worker="dead too", lease_s=60)
    world.clock.advance(200)
    assert await world.work.requeue_stuck() == 1


async def test_a_long_queue_hides_no_dead_worker_and_grows_no_longer():
    world = World()
    for number in range(150):
        await world.send(f"Text {number}.", f"{number}.txt")
    task, _ = world.queue.waiting.pop()
    await world.documents.claim(task.tenant_id, task.document_id, 1, worker="dead", lease_s=60)
    world.clock.advance(300)
    before = len(world.queue.waiting)
    assert await world.work.requeue_stuck() == 1
    assert [task for task, _ in world.queue.waiting[before:]] == [task]
    # A message that was lost is made again in the end.
    world.clock.advance(400)
    assert await world.work.requeue_stuck() > 1


async def test_while_the_database_is_away_the_queue_keeps_the_task():
    world = World()
    taken = await world.send()
    (task, _) = world.queue.waiting.pop()
    world.documents.away = True
    with pytest.raises(DependencyUnavailable):
        await world.work.do(task)
    with pytest.raises(DependencyUnavailable):
        await world.work.bury(task)
    world.documents.away = False
    await world.work.bury(task)  # given up by the queue, though nothing is wrong with the document
    await world.run()
    assert (await world.document(taken)).status is DocumentStatus.READY


async def test_a_task_given_up_for_a_document_that_ended_is_forgotten():
    world = World()
    taken = await world.send()
    await world.run()
    await world.work.bury(task_for(await world.document(taken)))
    assert world.queue.waiting == []


async def test_a_lease_is_held_while_work_goes_on_and_work_stops_when_it_is_lost():
    world = World()
    world.work._lease_s = 0.06
    taken = await world.send()
    (task, _) = world.queue.waiting.pop()
    started, go = asyncio.Event(), asyncio.Event()

    async def slow():
        started.set()
        await go.wait()

    world.provider.failures = [slow]
    work = asyncio.create_task(world.work.do(task))
    await started.wait()
    entry = world.documents._entries[taken.document.id]
    held = entry.lease_until
    world.clock.advance(0.05)
    while entry.lease_until == held:  # noqa: ASYNC110 - the twin tells nobody
        await asyncio.sleep(0.005)
    assert entry.document.status is DocumentStatus.EMBEDDING
    entry.worker = "somebody else"
    await work
    assert not world.chunks(taken)
    assert not go.is_set()


async def test_vectors_belong_to_their_texts():
    world = World()
    taken = await world.send(LONG)
    await world.run()
    chunks = world.chunks(taken)
    known = await world.documents.known_vectors(PRINCIPAL.tenant_id, "e", [chunk.sha for chunk in chunks])
    assert len(known) == len(chunks) > 3
    for chunk in chunks:
        given = memoryview(vector_of(chunk.full_text)).cast("f")
        assert list(memoryview(known[chunk.sha]).cast("f")) == pytest.approx(list(given), abs=1e-3)
