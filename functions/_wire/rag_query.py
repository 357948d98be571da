"""Bodies of POST /rag/query: a question to the documents, what was found, and the answer with its citations."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from functions._wire.chat import ChatMessage, GenerationBody, RouterOptions
from functions._wire.parsing import Body
from functions._wire.replies import finish_reason, served_body, usage_body
from functions._wire.to_domain import body_param
from shared.domain.documents import Citation, Passage, SearchScope
from shared.domain.errors import InvalidRequest
from shared.domain.identity import Principal
from shared.domain.replies import ChatReply
from shared.domain.security import SecurityLevel
from shared.rag.citing import Evidence
from shared.services.grounded import (
    DEFAULT_CONTEXT_TOKENS,
    DEFAULT_PASSAGES,
    SUPPORTED_FROM,
    Abstention,
    Grounding,
    Question,
)
from shared.services.ledger_entry import Order
from shared.services.walk import Answer

MAX_COLLECTIONS = 8
MAX_PASSAGES = 50
MAX_CONTEXT_TOKENS = 100_000
_PLACES = 6
_DEFAULT_COLLECTION = "default"

_Collection = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_Word = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
_DocumentId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w-]+$")]
_Metadata = dict[
    Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")],
    Annotated[str, Field(max_length=512, pattern=r"^[^\x00]*$")],
]

_SAID = {
    Abstention.NOTHING_FOUND: "Nothing was found in the documents that answers this question.",
    Abstention.NOTHING_RELEVANT: "The documents do not seem to hold an answer to this question.",
    Abstention.NOT_CLEARED: "What was found in the documents may be shown to no model that could answer.",
    Abstention.SUSPICIOUS: "What was found in the documents looks like an attack and was left out.",
    Abstention.NO_ROOM: "No passage that was found fits into max_context_tokens.",
}


class Filters(Body):
    """Which documents are searched: those that have all of it."""

    documents: Annotated[list[_DocumentId], Field(max_length=256)] = Field(default_factory=list)
    metadata: Annotated[_Metadata, Field(max_length=16)] = Field(default_factory=dict)


class RagQueryBody(GenerationBody, RouterOptions):
    """POST /rag/query: options of the generation and of the router beside the question, as in /route."""

    messages: Annotated[list[ChatMessage], Field(max_length=4096)] = Field(default_factory=list)
    question: Annotated[str, Field(min_length=1)] | None = None
    system: str | None = None
    collection: _Collection | None = None
    collections: Annotated[list[_Collection], Field(min_length=1, max_length=MAX_COLLECTIONS)] | None = None
    filters: Filters = Field(default_factory=Filters)
    groups: Annotated[list[_Word], Field(max_length=256)] | None = None
    max_label: Literal["public", "internal", "confidential", "restricted"] | None = None
    k: Annotated[int, Field(ge=1, le=MAX_PASSAGES)] = DEFAULT_PASSAGES
    max_context_tokens: Annotated[int, Field(ge=50, le=MAX_CONTEXT_TOKENS)] = DEFAULT_CONTEXT_TOKENS
    retrieve_only: bool = False
    abstain: bool = True
    answer_without_documents: bool = False
    suspicious: Literal["flag", "drop"] = "flag"

    @model_validator(mode="after")
    def _fits(self) -> "RagQueryBody":
        if self.collection is not None and self.collections is not None:
            raise ValueError("give collection or collections, not both")
        if self.retrieve_only and self.stream:
            raise ValueError("retrieve_only has nothing to stream")
        return self

    def refuse_unfit(self) -> None:
        """Refuse what an answer with citations cannot have.

        Raises:
            InvalidRequest: naming the field.
        """
        if self.tools or self.tool_choice is not None:
            raise InvalidRequest("tools: not possible in an answer from documents", param="tools")
        if self.response_format is not None and self.response_format.type != "text":
            raise InvalidRequest("response_format: answers from documents are text", param="response_format")

    def param(self, param: str | None) -> str | None:
        """A field path of the domain as this body has it."""
        asked = "question" if self.question is not None else "messages"
        named = body_param(param, self)
        return asked if named in {"prompt", "query"} else named

    def to_question(self, order: Order, principal: Principal, most: SecurityLevel) -> Question:
        """What is asked of the documents, within what the caller may read.

        Args:
            order: as it would be answered without documents.
            principal: who asks; the body can only narrow what he may read.
            most: label above which his service sees nothing.
        """
        level = most if self.max_label is None else min(most, SecurityLevel.from_label(self.max_label))
        groups = principal.reader_groups
        scopes = tuple(
            SearchScope(
                tenant_id=principal.tenant_id,
                collection=name,
                groups=groups if self.groups is None else groups & frozenset(self.groups),
                max_level=level,
                documents=frozenset(self.filters.documents),
                metadata=dict(self.filters.metadata),
            )
            for name in dict.fromkeys(self.collections or [self.collection or _DEFAULT_COLLECTION])
        )
        return Question(
            order=order,
            scopes=scopes,
            k=self.k,
            max_context_tokens=self.max_context_tokens,
            drops_suspicious=self.suspicious == "drop",
            abstains=self.abstain,
            answers_anyway=self.answer_without_documents,
        )


def retrieval_body(grounding: Grounding) -> dict[str, Any]:
    """What was found and what became of it."""
    flags = [score >= grounding.flagged for score in grounding.suspicion]
    return {
        "query": grounding.searched,
        "confidence": round(grounding.confidence, _PLACES),
        "threshold": round(grounding.threshold, _PLACES),
        "degraded": list(grounding.degraded),
        "reranked": grounding.not_reranked is None,
        "rerank_reason": grounding.not_reranked,
        "passages": [
            _passage(number, passage) | {"suspicious": suspicious}
            for number, (passage, suspicious) in enumerate(zip(grounding.passages, flags, strict=True), 1)
        ],
        "left_out": {
            "suspicious": grounding.left_out.suspicious,
            "no_room": grounding.left_out.no_room,
            "above_clearance": grounding.left_out.above_clearance,
        },
        "neutralised": dict(grounding.defused),
        "security_level": None if grounding.level is None else grounding.level.label,
        "calls": list(grounding.search_ids),
        "cost_usd": float(grounding.search_cost_usd),
    }


def found_body(grounding: Grounding, request_id: str) -> dict[str, Any]:
    """The answer where only passages were asked for."""
    return {"request_id": request_id, "abstained": grounding.abstained, "retrieval": retrieval_body(grounding)}


def abstained_body(grounding: Grounding, request_id: str) -> dict[str, Any]:
    """The answer where there is none from documents, and no model was asked."""
    return {
        "request_id": request_id,
        "output": {"text": said(grounding), "finish_reason": "stop"},
        **evidence_body(grounding, Evidence()),
        "retrieval": retrieval_body(grounding),
    }


def said(grounding: Grounding) -> str:
    """What is told in place of an answer."""
    return "" if grounding.abstained is None else _SAID[grounding.abstained]


def answer_body(grounding: Grounding, answer: Answer, evidence: Evidence) -> dict[str, Any]:
    """The answer with its citations."""
    reply, record = answer.reply, answer.record
    return {
        **served_body(record),
        "model": record.model_used,
        "output": output_body(reply),
        **evidence_body(grounding, evidence),
        "usage": usage_body(reply.usage),
        "retrieval": retrieval_body(grounding),
    }


def output_body(reply: ChatReply) -> dict[str, Any]:
    """The answer's text and how it ended."""
    return {
        "text": reply.text(),
        "finish_reason": finish_reason(reply.finish_reason),
        "native_finish_reason": reply.native_finish_reason,
    }


def evidence_body(grounding: Grounding, evidence: Evidence) -> dict[str, Any]:
    """What the answer cites, and how much of it stands there."""
    score = evidence.groundedness
    return {
        "grounded": grounding.abstained is None and bool(evidence.citations) and (score or 0.0) >= SUPPORTED_FROM,
        "abstained": grounding.abstained,
        "citations": [_citation(citation, _supported(evidence)) for citation in evidence.citations],
        "unknown_markers": [f"[{number}]" for number in evidence.unknown_markers],
        "groundedness": None if score is None else round(score, _PLACES),
        "statements": [
            {
                "start": sentence.start,
                "end": sentence.end,
                "markers": [f"[{number}]" for number in sentence.cited],
                "support": sentence.support,
                "supported": sentence.supported,
            }
            for sentence in evidence.sentences
        ],
    }


def _supported(evidence: Evidence) -> Mapping[str, bool]:
    """For each marker, whether a sentence stands with it."""
    found: dict[str, bool] = {}
    for sentence in evidence.sentences:
        for number in sentence.cited:
            marker = f"[{number}]"
            found[marker] = found.get(marker, False) or sentence.supported
    return found


def _citation(citation: Citation, supported: Mapping[str, bool]) -> dict[str, Any]:
    return {
        "marker": citation.marker,
        "document_id": citation.document_id,
        "title": citation.title,
        "source": citation.source,
        "page": citation.page,
        "start": citation.start,
        "end": citation.end,
        "quote": citation.quote,
        "supported": supported.get(citation.marker, False),
    }


def _passage(number: int, passage: Passage) -> dict[str, Any]:
    chunk = passage.chunk
    return {
        "marker": f"[{number}]",
        "document_id": passage.document_id,
        "title": passage.title,
        "source": passage.source,
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
        "text": chunk.text,
        "label": chunk.label.label,
        "score": round(passage.score, _PLACES),
        "dense": None if passage.dense is None else round(passage.dense, _PLACES),
        "lexical": None if passage.lexical is None else round(passage.lexical, _PLACES),
    }
