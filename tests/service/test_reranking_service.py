"""Reranking in memory: the real walk over a scripted ranking model."""

from decimal import Decimal

import pytest

from shared.domain.documents import Passage
from shared.domain.errors import BudgetExceeded, ProviderUnavailable
from shared.domain.policy import RoutingConstraints, ServicePolicy
from shared.domain.replies import Finished, FinishReason, Ranked, Usage, UsageUpdate
from shared.domain.retrieval_rules import RetrievalRules
from shared.domain.security import SecurityLevel
from shared.services.reranking import RerankingService
from shared.services.retrieval import Asker
from shared.stores.memory import (
    ManualClock,
    MemoryJournal,
    MemoryMachine,
    MemoryRecordStore,
    MemorySpill,
    SequentialIds,
)
from shared.telemetry import RecordingTelemetry
from tests.retrieval_builders import chunk
from tests.service.routing_doubles import HANG, PRINCIPAL, ScriptedProvider, service
from tests.unit.ranking_builders import ranking_deployment, ranking_model
from tests.unit.routing_builders import policy, registry

INTERNAL, CONFIDENTIAL = SecurityLevel.INTERNAL, SecurityLevel.CONFIDENTIAL
GLOBAL = ranking_deployment(residency=frozenset({"global"}), clearance=INTERNAL)
EU = ranking_deployment(region="eu", residency=frozenset({"eu"}), clearance=INTERNAL)
ON = RetrievalRules(reranker="ranker")
TEXTS = ("refunds take long", "refunds take 14 days", "shipping is dear", "blenders break")


class ByLength(ScriptedProvider):
    """The longest text answers best."""

    failure: Exception | str | None = None

    async def complete(self, call):
        self.calls.append(call)
        if isinstance(self.failure, Exception):
            raise self.failure
        if self.failure == HANG:
            return await super().complete(call)
        usage = UsageUpdate(Usage(output_tokens=1))
        scores = tuple(len(text) / 100 for text in call.request.texts)
        return [Ranked(scores), usage, Finished(FinishReason.STOP)]

    @property
    def shown(self):
        return [call.request.texts for call in self.calls]


class World:
    def __init__(self, rules=ON, deployments=(GLOBAL,), **changes):
        self.clock, self.provider, self.records = ManualClock(), ByLength(), MemoryRecordStore()
        self.telemetry = RecordingTelemetry()
        walk, self.writer = service(
            self.provider,
            registry(*((ranking_model(), deployment) for deployment in deployments)),
            policy(retrieval=rules, **changes),
            clock=self.clock,
            store=self.records,
            spill=MemorySpill(),
            journal=MemoryJournal(MemoryMachine(self.clock)),
            telemetry=self.telemetry,
        )
        self.reranking = RerankingService(walk, walk._shelf, self.clock, SequentialIds(), self.telemetry)

    async def rerank(self, passages, collection="manuals", question="how long do refunds take?", **constraints):
        asker = Asker(PRINCIPAL, endpoint="rag/query", constraints=RoutingConstraints(**constraints))
        return await self.reranking.rerank(collection, question, passages, asker)

    async def ledger(self):
        self.writer.start()
        await self.writer.aclose()
        return list(self.records.by_id.values())


def passages(*labels, texts=TEXTS):
    labels = labels or (INTERNAL,) * len(texts)
    return [
        Passage(f"d{n}", "T", "s", chunk(n, text, label=label), score=1 - n / 10)
        for n, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]


def texts_of(reranking):
    return [passage.chunk.text for passage in reranking.passages]


async def test_the_rankers_order_replaces_the_searchs_and_is_paid_for():
    world = World()
    found = await world.rerank(passages())
    assert texts_of(found) == sorted(TEXTS, key=len, reverse=True)
    assert [passage.score for passage in found.passages] == sorted((len(t) / 100 for t in TEXTS), reverse=True)
    assert (found.reason, found.left_out, found.cost_usd) == (None, 0, Decimal("0.001"))
    (record,) = await world.ledger()
    assert (record.id, record.cost_usd, record.model_used) == (found.request_id, Decimal("0.001"), "ranker")
    assert (record.endpoint, record.tenant_id, record.security_level) == ("rag/query", PRINCIPAL.tenant_id, "internal")


@pytest.mark.parametrize("rules", [RetrievalRules(), RetrievalRules(reranker="ranker", collections=frozenset({"x"}))])
async def test_it_is_off_unless_the_policy_wants_it_for_the_collection(rules):
    world = World(rules)
    found = await world.rerank(passages())
    assert (texts_of(found), found.reason) == (list(TEXTS), "off")
    assert world.provider.calls == []
    assert (await world.rerank(passages(), collection="x")).reason == (None if rules.reranker else "off")


async def test_what_the_ranker_may_not_see_is_not_sent_and_keeps_its_place():
    world = World()
    found = await world.rerank(passages(INTERNAL, CONFIDENTIAL, INTERNAL, INTERNAL))
    assert world.provider.shown == [(TEXTS[0], TEXTS[2], TEXTS[3])]
    assert texts_of(found) == [TEXTS[0], TEXTS[1], TEXTS[2], TEXTS[3]]
    assert (found.reason, found.left_out) == (None, 1)


async def test_nothing_is_sent_when_all_is_above_the_rankers_clearance():
    world = World()
    found = await world.rerank(passages(*(CONFIDENTIAL,) * 4))
    assert (texts_of(found), found.reason, found.left_out) == (list(TEXTS), "not_cleared", 4)
    assert world.provider.calls == []


async def test_a_secret_in_the_question_keeps_it_from_the_ranker():
    world = World()
    found = await world.rerank(passages(), question="is AKIAIOSFODNN7EXAMPLQ with pass AKIAIOSFODNN7EXAMPLQ ours?")
    assert (found.reason, world.provider.calls) == ("not_cleared", [])
    found = await world.rerank(passages(), label=SecurityLevel.RESTRICTED)
    assert (texts_of(found), found.reason, world.provider.calls) == (list(TEXTS), "not_cleared", [])


async def test_regions_bind_it_too():
    world = World()
    found = await world.rerank(passages(), residency=frozenset({"eu"}))
    assert (texts_of(found), found.reason, world.provider.calls) == (list(TEXTS), "not_cleared", [])
    both = World(deployments=(GLOBAL, EU))
    await both.rerank(passages(), residency=frozenset({"eu"}))
    assert [call.deployment.id for call in both.provider.calls] == ["ranker@eu"]
    at_home = World(default_service=ServicePolicy(residency=frozenset({"eu"})), deployments=(GLOBAL, EU))
    await at_home.rerank(passages())
    assert [call.deployment.id for call in at_home.provider.calls] == ["ranker@eu"]


async def test_a_service_whose_level_is_low_sends_nothing_above_it():
    world = World(default_service=ServicePolicy(max_level=SecurityLevel.PUBLIC))
    assert (await world.rerank(passages())).reason == "not_cleared"
    assert world.provider.calls == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ProviderUnavailable("away"), "unavailable"),
        (BudgetExceeded("spent"), "budget"),
        (ValueError("a defect"), "unavailable"),
    ],
)
async def test_failures_leave_the_order_and_are_told(failure, reason):
    world = World()
    world.provider.failure = failure
    if isinstance(failure, ValueError):
        with pytest.raises(ValueError, match="a defect"):
            await world.rerank(passages())
        return
    found = await world.rerank(passages())
    assert (texts_of(found), found.reason) == (list(TEXTS), reason)
    assert [passage.score for passage in found.passages] == [1.0, 0.9, 0.8, 0.7]


async def test_only_the_first_passages_are_shown():
    world = World(RetrievalRules(reranker="ranker", reranked=2))
    found = await world.rerank(passages())
    assert world.provider.shown == [TEXTS[:2]]
    assert texts_of(found) == [TEXTS[1], TEXTS[0], *TEXTS[2:]]


async def test_one_passage_is_in_order():
    world = World()
    assert (await world.rerank(passages(texts=TEXTS[:1]))).reason is None
    assert world.provider.calls == []
