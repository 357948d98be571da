"""Retrieval in memory: real services, twins of the stores, an embedding model for which shared words are nearness."""

from decimal import Decimal

import pytest

from shared.domain.documents import Calibration, SearchScope
from shared.domain.embeddings import Embedding
from shared.domain.errors import InvalidRequest, ModelNotFound, ProviderUnavailable
from shared.domain.policy import RoutingConstraints
from shared.domain.replies import Embedded, Finished, FinishReason, Usage, UsageUpdate
from shared.domain.security import SecurityLevel
from shared.rag.abstention import USUAL_THRESHOLD
from shared.rag.fusion import Fusion
from shared.rag.off_topic import QUESTIONS
from shared.services.retrieval import Asker, Query, Reranking, RetrievalService
from shared.stores.memory import (
    ManualClock,
    MemoryJournal,
    MemoryMachine,
    MemoryRecordStore,
    MemorySpill,
    SequentialIds,
)
from shared.stores.memory_documents import MemoryDocumentStore
from shared.stores.memory_passages import MemoryPassageIndex
from shared.telemetry import RecordingTelemetry
from tests.retrieval_builders import MODEL, publish, vector
from tests.service.routing_doubles import PRINCIPAL, ScriptedProvider, service
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import policy, registry

VECTORS = registry((embedding_model(MODEL), embedding_deployment(MODEL)), aliases={"auto": MODEL})
ASKER = Asker(PRINCIPAL)
SCOPE = SearchScope(PRINCIPAL.tenant_id, "manuals")
REFUNDS = "Refunds for cancelled orders are paid within fourteen days"
SHIPPING = "Shipping to Norway costs twelve euros"
TEXTS = (REFUNDS, SHIPPING, "The warranty of the blender ends after two years")


class WordsProvider(ScriptedProvider):
    failure: Exception | None = None

    async def complete(self, call):
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        found = tuple(Embedding(vector(text), len(text.split())) for text in call.request.texts)
        return [Embedded(found), UsageUpdate(Usage(input_tokens=100)), Finished(FinishReason.STOP)]


class Reversing:
    """Holds the last passage for the best."""

    reason: str | None = None

    async def rerank(self, collection, question, passages, asker):
        if self.reason is not None:
            return Reranking(tuple(passages), self.reason)
        return Reranking(tuple(passages[::-1]), request_id="ranking", cost_usd=Decimal("0.001"))


class World:
    def __init__(self, reranker=None):
        self.clock = ManualClock()
        self.telemetry = RecordingTelemetry()
        self.records = MemoryRecordStore()
        self.provider = WordsProvider()
        self.documents = MemoryDocumentStore(self.clock)
        self.index = MemoryPassageIndex(self.documents)
        routing, self.writer = service(
            self.provider,
            VECTORS,
            policy(),
            clock=self.clock,
            store=self.records,
            spill=MemorySpill(),
            journal=MemoryJournal(MemoryMachine(self.clock)),
            telemetry=self.telemetry,
        )
        self.retrieval = RetrievalService(
            self.index, routing, lambda: MODEL, self.clock, SequentialIds(), self.telemetry, reranker
        )

    async def add(self, *texts, **fields):
        return await publish(self.documents, texts, tenant_id=PRINCIPAL.tenant_id, **fields)

    async def search(self, text, scope=SCOPE, **fields):
        return await self.retrieval.search(scope, Query(text, **fields), ASKER)


@pytest.fixture
def world():
    return World()


async def test_the_passage_that_answers_comes_first(world):
    document = await world.add(*TEXTS)

    found = await world.search("when are refunds paid for cancelled orders?", k=2)

    assert found.passages[0].chunk.text == REFUNDS
    assert found.passages[0].document_id == document.id
    assert 0 <= found.passages[-1].score <= found.passages[0].score <= 1
    assert len(found.passages) == 2
    assert found.is_answerable
    assert (found.model, found.degraded, found.calibrated) == (MODEL, (), False)


async def test_the_questions_vector_is_in_the_ledger(world):
    await world.add(*TEXTS)
    asker = Asker(PRINCIPAL, endpoint="rag/query", tags=(("collection", "manuals"),))
    found = await world.retrieval.search(SCOPE, Query("refunds for orders"), asker)
    world.writer.start()
    await world.writer.aclose()

    (record,) = world.records.by_id.values()
    assert (record.id, record.endpoint, record.tenant_id) == (found.request_ids[0], "rag/query", PRINCIPAL.tenant_id)
    assert record.cost_usd == found.cost_usd == Decimal("0.0001")
    assert record.tags == asker.tags


async def test_words_decide_alone_when_no_vector_can_be_had(world):
    await world.add(*TEXTS)
    world.provider.failure = ProviderUnavailable("away")

    found = await world.search("refunds for cancelled orders")

    assert [passage.chunk.text for passage in found.passages] == [REFUNDS]
    assert (found.degraded, found.model, found.is_answerable) == (("words_only",), None, True)
    assert not (await world.search("zebras")).is_answerable


async def test_words_decide_alone_when_no_embedding_model_may_see_the_question(world):
    await world.add(*TEXTS)
    asker = Asker(PRINCIPAL, constraints=RoutingConstraints(residency=frozenset({"mars"})))

    found = await world.retrieval.search(SCOPE, Query("refunds for cancelled orders"), asker)

    assert found.degraded == ("words_only",)
    assert [passage.chunk.text for passage in found.passages] == [REFUNDS]


async def test_a_search_by_words_asks_no_model(world):
    await world.add(*TEXTS)
    found = await world.search("refunds", fusion=Fusion.LEXICAL)
    assert world.provider.calls == []
    assert ([p.chunk.text for p in found.passages], found.degraded) == ([REFUNDS], ())


@pytest.mark.parametrize("fusion", [Fusion.WEIGHTED, Fusion.RRF, Fusion.DENSE])
async def test_every_fusion_finds_it(world, fusion):
    await world.add(*TEXTS)
    for refine in (True, False):
        found = await world.search("refunds for cancelled orders", fusion=fusion, refine=refine, dense_weight=0.5)
        assert found.passages[0].chunk.text == REFUNDS


async def test_a_question_that_leans_on_earlier_ones_is_completed(world):
    await world.add(*TEXTS)

    found = await world.search("And to Norway?", earlier=("What are the costs of shipping to Sweden?",))

    assert found.searched == "costs shipping Sweden And to Norway?"
    assert found.passages[0].chunk.text == SHIPPING


async def test_a_measured_collection_refuses_what_it_does_not_answer(world):
    for number in range(40):
        await world.add(f"Refunds for orders number{number} are paid in fourteen days to accounts{number % 7}")
    before = await world.search("Who composed the opera about the swan knight?")
    calibration = await world.retrieval.calibrate(PRINCIPAL.tenant_id, "manuals")

    off_topic = await world.search("Who composed the opera about the swan knight?")
    answered = await world.search("when are refunds for orders paid?")

    assert before.threshold == USUAL_THRESHOLD
    assert calibration is not None
    assert off_topic.threshold == answered.threshold == calibration.threshold
    assert (off_topic.passages, off_topic.is_answerable, off_topic.calibrated) == ((), False, True)
    assert answered.is_answerable
    assert answered.confidence > calibration.threshold > off_topic.confidence
    insisted = await world.search("Who composed the opera about the swan knight?", abstain=False)
    assert insisted.passages
    assert not insisted.is_answerable


async def test_keywords_that_one_passage_holds_are_answered_however_far_their_vector_is(world):
    await world.add(*TEXTS)
    await world.index.calibrate(PRINCIPAL.tenant_id, "manuals", Calibration(MODEL, 0.99, len(TEXTS)))

    found = await world.search("refunds")
    unknown = await world.search("refunds for zebras")

    assert found.confidence < found.threshold
    assert found.is_answerable
    assert found.passages[0].chunk.text == REFUNDS
    assert (unknown.passages, unknown.is_answerable) == ((), False)


async def test_collections_are_measured_when_they_are_due_and_the_questions_embedded_once(world):
    await world.add(*TEXTS)
    await world.add(*TEXTS, collection="other")

    assert await world.retrieval.calibrate_due() == 2
    assert sum(len(call.request.texts) for call in world.provider.calls) == len(QUESTIONS)
    assert await world.retrieval.calibrate_due() == 0
    assert await world.retrieval.calibrate(PRINCIPAL.tenant_id, "no such") is None


async def test_without_an_embedding_model_there_is_nothing_to_measure(world, monkeypatch):
    def missing():
        raise ModelNotFound("none", param="model")

    monkeypatch.setattr(world.retrieval, "_usual_model", missing)
    assert await world.retrieval.calibrate_due() == 0


async def test_a_collection_that_not_everybody_may_read_keeps_the_usual_threshold(world):
    await world.add(*TEXTS, acl=frozenset({"board"}))
    assert await world.retrieval.calibrate_due() == 1
    assert await world.retrieval.calibrate_due() == 0
    found = await world.search("refunds", SearchScope(PRINCIPAL.tenant_id, "manuals", frozenset({"board"})))
    assert (found.threshold, found.calibrated) == (USUAL_THRESHOLD, True)


async def test_a_reranker_has_the_last_word_while_it_answers():
    reranker = Reversing()
    world = World(reranker)
    await world.add(*TEXTS)
    asked = await world.search("refunds for cancelled orders")
    plain = await world.search("refunds for cancelled orders", rerank=False)
    reranker.reason = "unavailable"
    away = await world.search("refunds for cancelled orders")

    texts = [[passage.chunk.text for passage in found.passages] for found in (plain, asked, away)]
    assert sorted(texts[0]) == sorted(TEXTS)
    assert texts[1] == texts[0][::-1]
    assert texts[2] == texts[0]
    assert (away.degraded, away.not_reranked) == (("not_reranked",), "unavailable")
    assert (plain.degraded, plain.not_reranked) == ((), "off")
    assert (asked.degraded, asked.not_reranked) == ((), None)
    assert asked.request_ids == (asked.request_ids[0], "ranking")
    assert asked.cost_usd == plain.cost_usd + Decimal("0.001")


async def test_repetitions_are_left_out_but_not_contradictions(world):
    await world.add("Refunds are paid within 14 days of the order", "Refunds are paid within 14 days of the order!")
    await world.add("Refunds are paid within 30 days of the order")
    found = await world.search("when are refunds paid?")
    assert sorted(p.chunk.text for p in found.passages if "14" in p.chunk.text or "30" in p.chunk.text)[1:] == [
        "Refunds are paid within 30 days of the order"
    ]
    assert len(found.passages) == 2


async def test_the_scope_holds(world):
    await world.add("Refunds of directors are secret", label=SecurityLevel.RESTRICTED)
    scope = SearchScope(PRINCIPAL.tenant_id, "manuals", max_level=SecurityLevel.INTERNAL)
    assert (await world.search("refunds of directors", scope)).passages == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"text": " "}, "query"),
        ({"text": "x" * 8001}, "query"),
        ({"text": "x", "k": 0}, "k"),
        ({"text": "x", "k": 101}, "k"),
        ({"text": "x", "dense_weight": 1.5}, "dense_weight"),
    ],
)
async def test_what_cannot_be_searched_is_named(world, fields, param):
    with pytest.raises(InvalidRequest) as refusal:
        await world.retrieval.search(SCOPE, Query(**fields), ASKER)
    assert refusal.value.param == param
