"""Retrieval: from a question to the passages that answer it, or to the knowledge that none does.

rewrite (conversations) -> embed the question -> candidates of both legs -> fuse and refine -> rerank, where somebody
does -> drop repetitions -> abstain, when what was found looks like what any question would find.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, Protocol

from shared.domain.chat import ChatRequest
from shared.domain.documents import Calibration, Candidates, Passage, SearchScope
from shared.domain.embeddings import EmbeddingTask, embedding_request
from shared.domain.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    ModelNotFound,
    NoEligibleModel,
    ProviderError,
)
from shared.domain.identity import Principal
from shared.domain.policy import RoutingConstraints
from shared.ports import Clock, Ids, PassageIndex, Telemetry
from shared.rag.abstention import USUAL_THRESHOLD, confidence, holds_every_word, threshold
from shared.rag.fusion import DENSE_WEIGHT, Fusion, fuse
from shared.rag.linking import with_linked
from shared.rag.off_topic import QUESTIONS
from shared.rag.packing import without_repetition
from shared.rag.refining import refine
from shared.rag.rewriting import standalone
from shared.rag.terms import query_terms
from shared.services.ledger_entry import Order
from shared.services.routing import RoutingService

ENDPOINT: Final = "rag/search"
MAX_QUERY_CHARS: Final = 8_000
MAX_PASSAGES: Final = 100
_CANDIDATES: Final = 50
"""Of each leg. More find nothing more (measured on six sets, 30 to 150), and each is read."""
_EMBED_TIMEOUT_S: Final = 20.0
_MODEL_FRESH_S: Final = 15.0
_CALIBRATION_BATCH: Final = 32
"""Texts of one request for vectors: each request is read on the event loop, which others need too."""
_CALIBRATION: Final = "rag/calibrate"
_WORDS_ONLY: Final = "words_only"
_NOT_RERANKED: Final = "not_reranked"
_MOST_CALIBRATED: Final = 20
"""Collections in one run of a timer."""
RERANKING_OFF: Final = "off"
"""`Reranking.reason` where neither policy nor query wants it."""

_NO_VECTOR: Final = (ProviderError, NoEligibleModel, ModelNotFound, DeadlineExceeded)
"""The words can do without: what is away, and that no embedding model may see the question."""


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom is searched: what the ledger needs to know of the question's own call.

    Attributes:
        constraints: of the embedding call: the question's label, residency and the like; its model is not theirs.
        endpoint: as the record names it.
        timeout_s: for the embedding call.
    """

    principal: Principal
    endpoint: str = ENDPOINT
    constraints: RoutingConstraints = field(default_factory=RoutingConstraints)
    timeout_s: float = _EMBED_TIMEOUT_S
    tags: tuple[tuple[str, str], ...] = ()
    traceparent: str | None = None

    def order(
        self, request: ChatRequest, constraints: RoutingConstraints, *, request_id: str, now_s: float, timeout_s: float
    ) -> Order:
        """A call for them to a model that the constraints name.

        Args:
            request: what the model is asked.
            constraints: of the call, with the model.
            request_id: of the call.
            now_s: on the monotonic clock.
            timeout_s: seconds from now until the answer is of no use.
        """
        return Order(
            request=request,
            constraints=constraints,
            principal=self.principal,
            request_id=request_id,
            endpoint=self.endpoint,
            requested_model=constraints.model or "",
            stream=False,
            started_s=now_s,
            timeout_s=timeout_s,
            tags=self.tags,
            traceparent=self.traceparent,
        )


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for.

    Attributes:
        text: the question.
        earlier: the asker's turns before it; a question that leans on them is completed from them.
        k: passages wanted.
        fusion: how the legs are joined.
        dense_weight: of the vectors' leg; None takes what suits the fusion.
        refine: look a second time at what was found: with its vectors (`shared.rag.refining`), and for documents that
            it or the question names (`shared.rag.linking`).
        rerank: ask the reranker, where there is one.
        abstain: give nothing when nothing looks like an answer.
    """

    text: str
    earlier: tuple[str, ...] = ()
    k: int = 10
    fusion: Fusion = Fusion.WEIGHTED
    dense_weight: float | None = None
    refine: bool = True
    rerank: bool = True
    abstain: bool = True


@dataclass(frozen=True, slots=True)
class Reranking:
    """What became of the wish to have passages reranked.

    Attributes:
        passages: the best first: as they were where `reason` is given.
        reason: why they were not reranked, in a word; None when they were.
        left_out: how many kept their places, because the reranker may not see them.
        request_id: of the call's record, where one was made.
        cost_usd: of that call.
    """

    passages: tuple[Passage, ...]
    reason: str | None = None
    left_out: int = 0
    request_id: str | None = None
    cost_usd: Decimal = Decimal(0)


class Reranker(Protocol):
    """Reads a question and passages together, which tells more than comparing their vectors, and costs more."""

    async def rerank(self, collection: str, question: str, passages: Sequence[Passage], asker: Asker) -> Reranking:
        """The passages as they answer the question. Fails never: what goes wrong leaves the order and says why."""
        ...


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What was found.

    Attributes:
        passages: the best first; none when the search abstains.
        searched: the question as it was searched for.
        confidence: that there is an answer among them, about in [0, 1].
        threshold: from which on there is held to be one.
        is_answerable: whether confidence reaches it, or one passage holds every word of the question.
        calibrated: whether the threshold is the collection's own.
        degraded: what was left out, because it was away: ``words_only``, ``not_reranked``.
        not_reranked: why the passages were not reranked (`Reranking.reason`); None when they were.
        model: that made the question's vector; None when only words were searched.
        request_ids: of the records of the embedding call and of the reranker's.
        cost_usd: of both.
    """

    passages: tuple[Passage, ...]
    searched: str
    confidence: float = 0.0
    threshold: float = USUAL_THRESHOLD
    is_answerable: bool = False
    calibrated: bool = False
    degraded: tuple[str, ...] = ()
    model: str | None = None
    request_ids: tuple[str, ...] = ()
    cost_usd: Decimal = Decimal(0)
    not_reranked: str | None = RERANKING_OFF


@dataclass(frozen=True, slots=True)
class _Vector:
    """The question's vector and the call that made it."""

    value: bytes | None
    model: str
    request_id: str | None = None
    cost_usd: Decimal = Decimal(0)


class RetrievalService:
    """Searches passages.

    Args:
        index: where they are.
        embeddings: makes the question's vector, each call in the ledger.
        usual_model: the embedding model that documents are ingested with before any has been.
        clock: time.
        ids: of the embedding calls.
        telemetry: metrics.
        reranker: reads question and passages together; None: nobody does.
    """

    def __init__(
        self,
        index: PassageIndex,
        embeddings: RoutingService,
        usual_model: Callable[[], str],
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
        reranker: Reranker | None = None,
    ) -> None:
        self._index = index
        self._embeddings = embeddings
        self._usual_model = usual_model
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry
        self._reranker = reranker
        self._model: tuple[float, str] = (-math.inf, "")
        self._off_topic: tuple[str, Sequence[bytes]] = ("", ())

    async def search(self, scope: SearchScope, query: Query, asker: Asker) -> Retrieved:
        """The passages of the scope that answer the question, the best first.

        Without a vector (no embedding model can be called now, or none may see the question) the words decide alone;
        `Retrieved.degraded` says so, and the search abstains only when it finds nothing.

        Raises:
            InvalidRequest: the question is empty or too long, or `k` out of range; `param` names the field.
            DependencyUnavailable: the store is away.
        """
        _check(query)
        searched = standalone(query.text, query.earlier)[-MAX_QUERY_CHARS:]
        vector = await self._vector(searched, asker) if query.fusion is not Fusion.LEXICAL else _Vector(None, "")
        terms = {} if query.fusion is Fusion.DENSE and vector.value is not None else query_terms(searched)
        found = await self._index.search(
            scope, vector=vector.value, terms=terms, model=vector.model, candidates=max(_CANDIDATES, 2 * query.k)
        )
        degraded: tuple[str, ...] = (
            (_WORDS_ONLY,) if vector.value is None and query.fusion is not Fusion.LEXICAL else ()
        )
        sure, needed, is_own = confidence(found), *_threshold(found.calibration, vector)
        is_answerable = bool(found.passages) and (
            vector.value is None or sure >= needed or holds_every_word(found, searched)
        )
        ranked = (
            without_repetition(_ranked(found, vector.value, query, searched))
            if is_answerable or not query.abstain
            else []
        )
        reranking = Reranking(tuple(ranked), RERANKING_OFF)
        if query.rerank and self._reranker is not None and ranked:
            reranking = await self._reranker.rerank(scope.collection, searched, ranked, asker)
            degraded += () if reranking.reason in {None, RERANKING_OFF} else (_NOT_RERANKED,)
        self._telemetry.count("retrievals", answerable=str(is_answerable).lower(), degraded=",".join(degraded) or "no")
        return Retrieved(
            reranking.passages[: query.k],
            searched,
            sure,
            needed,
            is_answerable,
            is_own,
            degraded,
            vector.model if vector.value is not None else None,
            tuple(call for call in (vector.request_id, reranking.request_id) if call is not None),
            vector.cost_usd + reranking.cost_usd,
            reranking.reason,
        )

    async def calibrate(self, tenant_id: str, collection: str) -> Calibration | None:
        """Measure what questions without an answer score in a collection; None when it is empty.

        Only what everybody may read is looked at. Where that is nothing, the usual threshold stays.

        Raises:
            DependencyUnavailable: the store is away.
            RouterError: the questions' vectors cannot be had.
        """
        model = await self._searched_model()
        vectors = await self._off_topic_vectors(model, tenant_id)
        scope, scores, chunks = SearchScope(tenant_id, collection), [], 0
        for question, vector in zip(QUESTIONS, vectors, strict=True):
            found = await self._index.search(
                scope, vector=vector, terms=query_terms(question), model=model, candidates=1
            )
            if found.passages:
                scores.append(confidence(found))
            chunks = found.chunks
        if not chunks:
            return None
        calibration = Calibration(model, threshold(scores) if scores else USUAL_THRESHOLD, chunks)
        await self._index.calibrate(tenant_id, collection, calibration)
        self._telemetry.observe("calibration_threshold", calibration.threshold)
        return calibration

    async def calibrate_due(self) -> int:
        """Measure collections that were not measured, or are others by now; returns how many. For a timer.

        Raises:
            DependencyUnavailable: the store is away; what was measured is kept.
            RouterError: the questions' vectors cannot be had.
        """
        try:
            model = await self._searched_model()
        except ModelNotFound:
            # A registry without embedding models: there is nothing to search, and nothing to measure.
            return 0
        due = await self._index.uncalibrated(model, limit=_MOST_CALIBRATED)
        for tenant_id, collection in due:
            await self.calibrate(tenant_id, collection)
        return len(due)

    async def _vector(self, searched: str, asker: Asker) -> _Vector:
        """The question's vector, or none when no embedding model can or may be asked now."""
        model = await self._searched_model()
        try:
            (vector,), request_id, cost_usd = await self._embedded(
                [searched], model, asker, EmbeddingTask.RETRIEVAL_QUERY
            )
        except _NO_VECTOR as error:
            self._telemetry.log(logging.WARNING, "retrieval_without_vector", code=error.code)
            return _Vector(None, model)
        return _Vector(vector, model, request_id, cost_usd)

    async def _embedded(
        self, texts: Sequence[str], model: str, asker: Asker, task: EmbeddingTask
    ) -> tuple[list[bytes], str, Decimal]:
        order = asker.order(
            embedding_request(texts, task=task, truncate=True),
            replace(asker.constraints, model=model),
            request_id=self._ids.request_id(),
            now_s=self._clock.monotonic(),
            timeout_s=asker.timeout_s,
        )
        answer = await self._embeddings.answer(order)
        vectors = [embedding.vector for embedding in answer.reply.embeddings]
        if len(vectors) != len(texts):
            raise InternalError("there are fewer vectors than texts")
        return vectors, order.request_id, answer.record.cost_usd

    async def _searched_model(self) -> str:
        """The model whose vectors are searched; asked of the store a few times a minute, as a switch takes its time."""
        checked_s, model = self._model
        if self._clock.monotonic() - checked_s > _MODEL_FRESH_S:
            model = await self._index.active_model() or self._usual_model()
            self._model = (self._clock.monotonic(), model)
        return model

    async def _off_topic_vectors(self, model: str, tenant_id: str) -> Sequence[bytes]:
        """Embedded once in the life of a process, and in the ledger of the tenant that is measured first."""
        if self._off_topic[0] != model:
            asker = Asker(Principal(_CALIBRATION, tenant_id, _CALIBRATION, frozenset()), endpoint=_CALIBRATION)
            vectors: list[bytes] = []
            for start in range(0, len(QUESTIONS), _CALIBRATION_BATCH):
                batch = QUESTIONS[start : start + _CALIBRATION_BATCH]
                vectors += (await self._embedded(batch, model, asker, EmbeddingTask.RETRIEVAL_QUERY))[0]
            self._off_topic = (model, vectors)
        return self._off_topic[1]


def _check(query: Query) -> None:
    if not query.text.strip():
        raise InvalidRequest("the question is empty", param="query")
    if len(query.text) > MAX_QUERY_CHARS:
        raise InvalidRequest(f"the question may have {MAX_QUERY_CHARS} characters at most", param="query")
    if not 1 <= query.k <= MAX_PASSAGES:
        raise InvalidRequest(f"k is a number from 1 to {MAX_PASSAGES}", param="k")
    if query.dense_weight is not None and not 0 <= query.dense_weight <= 1:
        raise InvalidRequest("dense_weight is a number from 0 to 1", param="dense_weight")


def _threshold(calibration: Calibration | None, vector: _Vector) -> tuple[float, bool]:
    """From which confidence on there is an answer, and whether that was measured in this collection."""
    if calibration is None or calibration.model != vector.model:
        return USUAL_THRESHOLD, False
    return calibration.threshold, True


def _ranked(found: Candidates, vector: bytes | None, query: Query, searched: str) -> list[Passage]:
    is_looked_at_again = query.refine and query.fusion is Fusion.WEIGHTED
    if is_looked_at_again and vector is not None and all(found.vectors):
        weight = {} if query.dense_weight is None else {"dense_weight": query.dense_weight}
        return with_linked(refine(found.passages, vector, found.vectors, **weight), searched)
    weight_of_dense = DENSE_WEIGHT if query.dense_weight is None else query.dense_weight
    fused = fuse(found.passages, method=query.fusion, dense_weight=weight_of_dense)
    return with_linked(fused, searched) if is_looked_at_again else fused
