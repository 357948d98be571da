"""Answers from documents in memory: real services, twins of the stores, scripted models."""

from shared.domain.documents import SearchScope
from shared.domain.embeddings import Embedding
from shared.domain.policy import ServicePolicy
from shared.domain.replies import Embedded, Finished, FinishReason, TextDelta, Usage, UsageUpdate
from shared.domain.retrieval_rules import RetrievalRules
from shared.domain.security import SecurityLevel
from shared.services.grounded import GroundedService, Question
from shared.services.retrieval import RetrievalService
from shared.services.rewriting import QuestionRewriter
from shared.stores.memory import SequentialIds
from shared.stores.memory_documents import MemoryDocumentStore
from shared.stores.memory_passages import MemoryPassageIndex
from tests.retrieval_builders import MODEL, publish, vector
from tests.service.routing_doubles import PRINCIPAL, ScriptedProvider, service
from tests.service.routing_world import World
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import deployment, model, policy, registry

LOW, HIGH = (
    deployment("low", clearance=SecurityLevel.INTERNAL),
    deployment("high", clearance=SecurityLevel.CONFIDENTIAL),
)
CHAT = registry((model("low", quality=0.9), LOW), (model("high", quality=0.5), HIGH))
EMBEDDINGS = registry(
    (embedding_model(MODEL), embedding_deployment(MODEL, clearance=SecurityLevel.RESTRICTED)), aliases={"auto": MODEL}
)
REFUNDS = "Refunds for cancelled orders are paid within 14 days."
SHIPPING = "Shipping to Norway costs twelve euros."
ASKED = "When are refunds for cancelled orders paid?"
ANSWER = "Refunds for cancelled orders are paid within 14 days [1]."


def told(text):
    """A model's answer, in two pieces."""
    half = len(text) // 2
    usage = UsageUpdate(Usage(input_tokens=10, output_tokens=4))
    return [TextDelta(text[:half]), TextDelta(text[half:]), usage, Finished(FinishReason.STOP, "stop")]


class TellingProvider(ScriptedProvider):
    """Every deployment gives the same answer."""

    text = ANSWER

    async def stream(self, call):
        self.calls.append(call)
        for event in told(self.text):
            yield event

    @property
    def prompt(self):
        """What the only call showed to the model."""
        (call,) = self.calls
        return call.request.messages[-1].text()


class WordsProvider(ScriptedProvider):
    """Texts that share words lie near each other."""

    async def complete(self, call):
        self.calls.append(call)
        found = tuple(Embedding(vector(text), len(text.split())) for text in call.request.texts)
        return [Embedded(found), UsageUpdate(Usage(input_tokens=100)), Finished(FinishReason.STOP)]


class GroundedWorld(World):
    """The router in memory with documents beside it."""

    def __init__(self, *, provider=None, retrieval=None, **rules):
        retrieval = retrieval or RetrievalRules()
        given = {"default_service": ServicePolicy(**rules), "retrieval": retrieval}
        super().__init__(provider or TellingProvider(), CHAT, **given)
        ids = SequentialIds()
        self.vectors = WordsProvider()
        self.documents = MemoryDocumentStore(self.clock)
        embeddings, _ = service(
            self.vectors,
            EMBEDDINGS,
            policy(),
            clock=self.clock,
            store=self.store,
            spill=self.spill,
            journal=self.journal,
            telemetry=self.telemetry,
        )
        embeddings._writer = self.writer
        retrieval = RetrievalService(
            MemoryPassageIndex(self.documents), embeddings, lambda: MODEL, self.clock, ids, self.telemetry
        )
        shelf = self.service._shelf
        rewriter = QuestionRewriter(self.service, shelf, self.clock, ids, self.telemetry)
        self.grounded = GroundedService(retrieval, self.service, shelf, self.telemetry, None, rewriter)

    async def add(self, *texts, **fields):
        fields = {"tenant_id": PRINCIPAL.tenant_id} | fields
        return await publish(self.documents, texts, **fields)

    def question(self, text=ASKED, *, scopes=None, order=(), **changes):
        made = self.order(text, endpoint="rag/query", **dict(order))
        return Question(made, scopes or (scope(),), **changes)

    async def records(self):
        self.writer.start()
        await self.writer.aclose()
        return sorted(self.store.by_id.values(), key=lambda record: record.id)


def scope(collection="manuals", **fields):
    return SearchScope(PRINCIPAL.tenant_id, collection, **fields)
