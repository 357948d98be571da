"""Answers from documents: retrieve, keep what may be shown and what is no attack, pack, route, check what is cited.

Passages bind the choice of a model: the request's label is at least the highest of the passages that go into it, so
only deployments that are cleared for all of them are eligible. Where none is, the highest are left out before anything
is refused. Who may read a document is settled by the search (`SearchScope`); nothing here can widen it.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from itertools import zip_longest
from typing import Final, Protocol

from shared.analysis.detectors.injection import Source, signals
from shared.analysis.tokens import estimate_tokens
from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.documents import Passage, SearchScope
from shared.domain.errors import ClearanceRefused, ContentRefused, RouterError
from shared.domain.policy import RoutingConstraints
from shared.domain.security import Finding, GuardRules, SecurityLevel, SignalAction, injection_score
from shared.ports import Telemetry
from shared.rag.citing import Encode, Evidence, evidence_of
from shared.rag.packing import pack
from shared.rag.prompting import question_of, with_passages
from shared.services.guarding import Reading
from shared.services.ledger_entry import Order
from shared.services.retrieval import RERANKING_OFF, Asker, Query, Retrieved
from shared.services.rewriting import QuestionRewriter, Rewriting
from shared.services.routing import RoutingService
from shared.services.shelf import Shelf
from shared.services.walk import Answer, StreamedAnswer

DEFAULT_PASSAGES: Final = 10
DEFAULT_CONTEXT_TOKENS: Final = 3000
SUPPORTED_FROM: Final = 0.5
"""Groundedness from which an answer counts as grounded."""
_USUAL_ANSWER_TOKENS: Final = 500


class Retriever(Protocol):
    """Finds passages; `shared.services.retrieval.RetrievalService` is one."""

    async def search(self, scope: SearchScope, query: Query, asker: Asker) -> Retrieved:
        """The passages of the scope that answer the question, the best first."""
        ...


class Abstention(StrEnum):
    """Why no answer was made."""

    NOTHING_FOUND = "nothing_found"
    """Nothing that the caller may read has a word or a meaning of the question."""
    NOTHING_RELEVANT = "nothing_relevant"
    """What was found looks like what any question would find."""
    NOT_CLEARED = "not_cleared"
    """No model may see what was found."""
    SUSPICIOUS = "suspicious"
    """All that was found looks like an attack, and such passages are dropped."""
    NO_ROOM = "no_room"
    """Not one passage fits into the context that was allowed."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the documents.

    Attributes:
        order: as it would be answered without documents; its request ends in the question.
        scopes: what may be searched, one for each collection.
        k: passages wanted.
        max_context_tokens: of all passages in the prompt.
        drops_suspicious: leave passages out that look like an attack, also where the policy only flags them.
        abstains: use no passage at all when what was found looks like what any question would find.
        answers_anyway: where no passage helps, let the model answer from what it knows.
    """

    order: Order
    scopes: tuple[SearchScope, ...]
    k: int = DEFAULT_PASSAGES
    max_context_tokens: int = DEFAULT_CONTEXT_TOKENS
    drops_suspicious: bool = False
    abstains: bool = True
    answers_anyway: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Passages that were found and are not used: how many, and for what."""

    suspicious: int = 0
    no_room: int = 0
    above_clearance: int = 0


@dataclass(frozen=True, slots=True)
class Grounding:
    """What an answer is made from.

    Attributes:
        searched: the question as it was searched for.
        passages: as numbered in the prompt, the first is ``[1]``; without a prompt, the best first.
        abstained: why there is no answer from documents; None when there is one.
        order: what is routed; None when nothing is.
        suspicion: how likely each passage is an attack, in [0, 1]; of the passages above, in their order.
        flagged: from which suspicion on a passage counts as an attack.
        defused: what was taken apart in the passages of the prompt, by kind.
        confidence: of the search, that there is an answer among the passages.
        not_reranked: why some of the passages were not reranked; None when all were.
        degraded: what was left out, because it was away: those of the search, and ``not_rewritten``.
        search_ids: records of the calls that rewrote the question, made its vector and ranked what was found.
        search_cost_usd: of those calls.
    """

    searched: str
    passages: tuple[Passage, ...] = ()
    abstained: Abstention | None = None
    order: Order | None = None
    left_out: LeftOut = LeftOut()
    suspicion: tuple[float, ...] = ()
    flagged: float = 1.0
    defused: Mapping[str, int] = field(default_factory=dict)
    confidence: float = 0.0
    threshold: float = 0.0
    degraded: tuple[str, ...] = ()
    not_reranked: str | None = RERANKING_OFF
    search_ids: tuple[str, ...] = ()
    search_cost_usd: Decimal = Decimal(0)

    @property
    def level(self) -> SecurityLevel | None:
        """The highest label of the passages."""
        return max((passage.chunk.label for passage in self.passages), default=None)


class GroundedService:
    """Answers questions from documents.

    Args:
        retrieval: finds passages.
        routing: gives answers.
        shelf: the policy in force.
        telemetry: counts abstentions and attacks.
        encode: meaning of sentences, for groundedness; None: words alone count.
        rewriter: makes questions of conversations stand for themselves; None: rules do.
    """

    def __init__(
        self,
        retrieval: Retriever,
        routing: RoutingService,
        shelf: Shelf,
        telemetry: Telemetry,
        encode: Encode | None = None,
        rewriter: QuestionRewriter | None = None,
    ) -> None:
        self._retrieval = retrieval
        self._routing = routing
        self._shelf = shelf
        self._telemetry = telemetry
        self._encode = encode
        self._rewriter = rewriter

    async def retrieve(self, question: Question) -> Grounding:
        """What would be answered from, without calling a model.

        Raises:
            InvalidRequest: the request does not end in a question.
            RouterError: as `RetrievalService.search` and `Ticket.admit`.
        """
        with await self._admitted(question, answers=False):
            return self._sifted(question, await self._found(question))

    async def answer(self, question: Question) -> tuple[Grounding, Answer | None]:
        """Answer from the documents; None where it abstains.

        Raises:
            RouterError: as `retrieve`, or as `RoutingService.answer`.
        """
        with await self._admitted(question, answers=True):
            grounding = await self._grounded(question)
            return grounding, None if grounding.order is None else await self._routing.answer(grounding.order)

    async def open_stream(self, question: Question) -> tuple[Grounding, StreamedAnswer | None]:
        """As `answer`, with the answer's first content come.

        Raises:
            RouterError: as `answer`.
        """
        with await self._admitted(question, answers=True) as admitted:
            grounding = await self._grounded(question)
            if grounding.order is None:
                return grounding, None
            streamed = await self._routing.open_stream(grounding.order)
            admitted.pop_all()  # the stream's end gives back what the limits hold
            return grounding, streamed

    def evidence(self, grounding: Grounding, text: str) -> Evidence:
        """What an answer made from this cites, and how much of it stands there."""
        return evidence_of(text, grounding.passages, self._encode)

    async def _admitted(self, question: Question, *, answers: bool) -> ExitStack:
        """Pass the limits once for search and answer together; what they hold is given back at the end of the block."""
        admitted = ExitStack()
        order = self._routing.resolved(question.order) if answers else question.order
        if order.ticket is not None:
            tokens = estimate_tokens(question_of(order.request))
            if answers:
                tokens += question.max_context_tokens + (order.request.max_output_tokens or _USUAL_ANSWER_TOKENS)
            lease_s = order.started_s + order.timeout_s - self._routing.clock.monotonic()
            await order.ticket.admit(lease_s=lease_s, tokens=tokens, tags=order.tags, priority=order.priority)
            admitted.callback(order.ticket.close, 0)
        return admitted

    async def _found(self, question: Question) -> Grounding:
        """What the search found in all collections, the best first."""
        order = question.order
        turns = order.request.messages
        asked = question_of(order.request)
        earlier = tuple(turn.text() for turn in turns[:-1] if turn.role is Role.USER and turn.text())
        rewriting = Rewriting() if self._rewriter is None else await self._rewriter.rewrite(asked, earlier, order)
        query = Query(
            text=rewriting.text or asked,
            earlier=() if rewriting.text else earlier,
            k=question.k,
            abstain=question.abstains,
        )
        asker = Asker(
            principal=order.principal,
            endpoint=order.endpoint,
            constraints=_of_search(order.constraints),
            timeout_s=max(0.1, order.started_s + order.timeout_s - self._routing.clock.monotonic()),
            tags=order.tags,
            traceparent=order.traceparent,
        )
        found = await asyncio.gather(*(self._retrieval.search(scope, query, asker) for scope in question.scopes))
        best = max(found, key=lambda one: one.confidence - one.threshold)
        passages = _merged([one.passages for one in found])[: question.k]
        return Grounding(
            searched=best.searched,
            passages=passages,
            confidence=best.confidence,
            threshold=best.threshold,
            degraded=tuple(sorted({*(word for one in found for word in one.degraded), *_not_rewritten(rewriting)})),
            search_ids=tuple(
                filter(None, (rewriting.request_id, *(call for one in found for call in one.request_ids)))
            ),
            not_reranked=next((one.not_reranked for one in found if one.not_reranked is not None), None),
            search_cost_usd=sum((one.cost_usd for one in found), rewriting.cost_usd),
            abstained=None if passages else _why(found),
        )

    def _sifted(self, question: Question, found: Grounding) -> Grounding:
        """Without the passages that look like an attack, where those are dropped."""
        rules = self._shelf.policy.for_service(question.order.principal.service).guard
        if rules.injection is SignalAction.OFF and not question.drops_suspicious:
            return replace(found, suspicion=(0.0,) * len(found.passages))
        signs = [tuple(signals(passage.chunk.full_text, "", Source.TOOL)) for passage in found.passages]
        suspicion = [injection_score(of_one) for of_one in signs]
        dropped: set[int] = set()
        if question.drops_suspicious or rules.injection is SignalAction.BLOCK:
            dropped = _too_suspicious(signs, suspicion, question, rules)
        flagged = sum(score >= rules.injection_from for score in suspicion)
        if flagged:
            self._telemetry.count("rag_suspicious_passages", flagged, dropped=str(bool(dropped)).lower())
        kept = [place for place in range(len(signs)) if place not in dropped]
        emptied = bool(dropped) and not kept and found.abstained is None
        return replace(
            found,
            passages=tuple(found.passages[place] for place in kept),
            suspicion=tuple(suspicion[place] for place in kept),
            flagged=rules.injection_from,
            left_out=replace(found.left_out, suspicious=len(dropped)),
            abstained=Abstention.SUSPICIOUS if emptied else found.abstained,
        )

    async def _grounded(self, question: Question) -> Grounding:
        """What is answered from, and the order for the answer."""
        began_s = self._routing.clock.monotonic()
        found = await self._found(question)
        question = replace(question, order=_later(question.order, self._routing.clock.monotonic() - began_s))
        grounding = self._sifted(question, found)
        if grounding.abstained is None:
            grounding = self._composed(question, grounding)
        if grounding.abstained is None:
            return grounding
        self._telemetry.count("rag_abstentions", reason=grounding.abstained.value)
        order = question.order if question.answers_anyway else None
        return replace(grounding, passages=(), suspicion=(), order=order)

    def _composed(self, question: Question, found: Grounding) -> Grounding:
        """The passages that fit and that some model may see, in a request."""
        usable: Sequence[Passage] = found.passages
        count_tokens = functools.cache(estimate_tokens)
        above = 0
        while True:
            packed = pack(usable, budget_tokens=question.max_context_tokens, count_tokens=count_tokens)
            if not packed:
                reason = Abstention.NO_ROOM if usable else Abstention.NOT_CLEARED
                return replace(found, abstained=reason, left_out=replace(found.left_out, above_clearance=above))
            prompt = with_passages(question.order.request, packed)
            order = _bound(question.order, prompt.request, packed)
            if self._may_be_seen(order):
                break
            if not above and not self._may_be_seen(question.order):
                # Not the passages stand in the way: the refusal of the question itself says what does.
                return replace(found, order=question.order, passages=(), suspicion=())
            cleared = self._without_highest(question, usable)
            above += len(usable) - len(cleared)
            usable = cleared
        used = sum(any(_holds(one, passage) for one in packed) for passage in usable)
        return replace(
            found,
            passages=prompt.passages,
            order=order,
            defused=prompt.defused,
            suspicion=tuple(_suspicion_of(one, found) for one in packed),
            left_out=replace(found.left_out, above_clearance=above, no_room=len(usable) - used),
        )

    def _may_be_seen(self, order: Order) -> bool:
        """Whether what the request holds is no reason why no model may take it."""
        try:
            self._routing.decide(order)
        except (ClearanceRefused, ContentRefused):
            return False
        except RouterError:
            return True  # whatever it is, the walk says it, and keeps the record
        return True

    def _without_highest(self, question: Question, passages: Sequence[Passage]) -> list[Passage]:
        """The passages without those that the policy in force refuses or, if there are none, of the highest level."""
        service = question.order.principal.service
        readings = [self._reading(passage, service) for passage in passages]
        refused = [reading.refusal is not None for reading in readings]
        if not any(refused):
            levels = [reading.features.security_level for reading in readings]
            refused = [level == max(levels) for level in levels]
        return [passage for passage, goes in zip(passages, refused, strict=True) if not goes]

    def _reading(self, passage: Passage, service: str) -> Reading:
        request = ChatRequest((Message(Role.USER, (TextPart(passage.chunk.full_text),)),))
        return self._routing.guard.read(request, service, passage.chunk.label)


def _not_rewritten(rewriting: Rewriting) -> tuple[str, ...]:
    return ("not_rewritten",) if rewriting.failed else ()


def _later(order: Order, waited_s: float) -> Order:
    """The order as of the end of the search, with the same deadline: to wait for the search is no overhead."""
    return replace(order, started_s=order.started_s + waited_s, timeout_s=order.timeout_s - waited_s)


def _of_search(constraints: RoutingConstraints) -> RoutingConstraints:
    """What of the answer's constraints binds the question's vector, too: who may see it, not who answers."""
    return RoutingConstraints(residency=constraints.residency, label=constraints.label)


def _bound(order: Order, request: ChatRequest, passages: Sequence[Passage]) -> Order:
    """The order with its passages, labelled as high as the highest of them."""
    label = max((passage.chunk.label for passage in passages), default=SecurityLevel.PUBLIC)
    declared = order.constraints.label
    constraints = replace(order.constraints, label=label if declared is None else max(label, declared))
    return replace(order, request=request, constraints=constraints)


def _merged(found: Sequence[Sequence[Passage]]) -> tuple[Passage, ...]:
    """The passages of several collections: rank by rank, since scores of two collections do not compare."""
    if len(found) == 1:
        return tuple(found[0])
    ranks = zip_longest(*found)
    return tuple(
        passage for rank in ranks for passage in sorted(filter(None, rank), key=lambda passage: -passage.score)
    )


def _why(found: Sequence[Retrieved]) -> Abstention:
    # Of candidates, however far, the nearness is never exactly none.
    return Abstention.NOTHING_RELEVANT if any(one.confidence for one in found) else Abstention.NOTHING_FOUND


def _too_suspicious(
    signs: Sequence[Sequence[Finding]], suspicion: Sequence[float], question: Question, rules: GuardRules
) -> set[int]:
    """Places of passages to drop: those that look like an attack.

    Where requests are blocked for it, also as many of the most suspicious as would together with the question look
    like one: otherwise a document could have every question refused that finds it.
    """
    dropped = {place for place, score in enumerate(suspicion) if score >= rules.injection_from}
    if rules.injection is not SignalAction.BLOCK:
        return dropped
    asked = signals(question_of(question.order.request), "", Source.USER)
    for place in sorted(range(len(signs)), key=lambda place: -suspicion[place]):
        kept = [sign for other, of_one in enumerate(signs) if other not in dropped for sign in of_one]
        if injection_score([*asked, *kept]) < rules.injection_from or suspicion[place] == 0:
            break
        dropped.add(place)
    return dropped


def _holds(packed: Passage, passage: Passage) -> bool:
    """Whether a passage is a part of a packed one, which may have been joined."""
    return (
        packed.document_id == passage.document_id
        and packed.chunk.start <= passage.chunk.start
        and passage.chunk.end <= packed.chunk.end
    )


def _suspicion_of(packed: Passage, found: Grounding) -> float:
    """That of the most suspicious part."""
    parts = zip(found.passages, found.suspicion, strict=True)
    return max((suspicion for passage, suspicion in parts if _holds(packed, passage)), default=0.0)
