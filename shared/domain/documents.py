"""Documents to retrieve from: how they come in, what they are cut into, and what a search gives back.

document -> (parsing) blocks -> (chunking) chunks -> (embedding) vectors; a search finds passages, an answer cites them.
A document keeps its id over all its versions; searches see exactly one of them, the live one, whatever is under way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.domain.security import SecurityLevel


class DocumentStatus(StrEnum):
    """Where a document's newest version stands. The version before it is found until the newest one is ready."""

    QUEUED = "queued"
    PARSING = "parsing"
    EMBEDDING = "embedding"
    READY = "ready"
    FAILED = "failed"
    """It cannot be taken as it is; `reason` says what a person can do about it."""
    NEEDS_OCR = "needs_ocr"
    """It holds pictures of text only."""
    DELETED = "deleted"


class BlockKind(StrEnum):
    """What a piece of a parsed document is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    CODE = "code"
    NOTE = "note"
    """What is said beside the text: speaker's notes, alternative texts, comments."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a parsed document, in reading order.

    Attributes:
        start: of the text, in characters of `ParsedDocument.text`.
        page: counted from 1; slide or sheet where the format has those; None where it has neither.
        level: of a heading, from 1.
    """

    kind: BlockKind
    text: str
    start: int
    page: int | None = None
    level: int = 0


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser found.

    Attributes:
        title: the document's own, empty where it has none.
        pages: how many, None where the format has none.
        hidden: how many pieces of text were left out because no reader would see them.
        warnings: what is missing, in words for the person who sent the document.
    """

    blocks: tuple[Block, ...]
    title: str = ""
    pages: int | None = None
    hidden: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All blocks, one blank line between them; what offsets count in."""
        return "\n\n".join(block.text for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is embedded and found.

    Attributes:
        ordinal: place in the document, from 0.
        text: as it stands in the document from `start` to `end`.
        prefix: title and headings above it; embedded and searched with it, not quoted.
        tokens: of prefix and text.
        sha: SHA-256 of prefix and text, in hex: what is unchanged keeps its vector.
        label: what the security analysis found in it, at least the document's own.
    """

    ordinal: int
    text: str
    prefix: str
    page: int | None
    start: int
    end: int
    tokens: int
    sha: str
    label: SecurityLevel = SecurityLevel.INTERNAL

    @property
    def full_text(self) -> str:
        """What is embedded and searched: prefix and text."""
        return f"{self.prefix}\n{self.text}" if self.prefix else self.text


class DocumentUnreadable(Exception):
    """A document cannot be taken as it is.

    Args:
        reason: what a person can do about it, in whole sentences; never quotes content.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NeedsOcr(DocumentUnreadable):
    """It holds pictures of text only.

    Args:
        reason: as above.
        pages: how many, where that is known.
    """

    def __init__(self, reason: str, *, pages: int | None = None) -> None:
        super().__init__(reason)
        self.pages = pages


@dataclass(frozen=True, slots=True)
class IngestionTask:
    """What the ingestion queue carries: a claim check for a version of a document, whose bytes wait under `blob`."""

    tenant_id: str
    document_id: str
    version: int
    blob: str = ""


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """What was sent, before anything is known of it.

    Attributes:
        source: names the document within its collection: sending the same source again makes a new version.
        blob: where its bytes wait, a name in the ingestion container.
        sha: SHA-256 of the bytes, in hex.
        label: declared; what is found can raise it, never lower it.
        acl: groups of which a reader must be in one; empty lets every reader of the collection in.
        principal: who sent it; kept for the person's sake (`shared.domain.privacy`) and shown to nobody.
    """

    tenant_id: str
    collection: str
    source: str
    media_type: str
    name: str
    blob: str
    sha: str
    size_bytes: int
    title: str = ""
    label: SecurityLevel = SecurityLevel.INTERNAL
    acl: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)
    service: str = ""
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as its owner sees it.

    Attributes:
        version: counts the ingestions; `live_version` is the one that is searched, None before the first is ready.
        reason: what went wrong, in words for the owner.
        chunks: of the live version.
        service: who sent the newest version.
        blob: where the newest version's bytes wait.
        name: of the file that was sent.
    """

    id: str
    tenant_id: str
    collection: str
    source: str
    title: str
    media_type: str
    sha: str
    size_bytes: int
    status: DocumentStatus
    version: int
    label: SecurityLevel
    acl: frozenset[str]
    metadata: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    live_version: int | None = None
    chunks: int = 0
    pages: int | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()
    attempts: int = 0
    service: str = ""
    blob: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class SearchScope:
    """What a search may see. Nothing outside of it is scored, counted or returned.

    Attributes:
        groups: of the reader; a document with an access list is seen by members only.
        max_level: labels above it are not seen.
        documents: restricts to these documents; empty does not restrict.
        metadata: each entry must be equal.
    """

    tenant_id: str
    collection: str
    groups: frozenset[str] = frozenset()
    max_level: SecurityLevel = SecurityLevel.RESTRICTED
    documents: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that a search found.

    Attributes:
        dense: cosine similarity, None when only the words matched.
        lexical: BM25, None when only the vector matched.
        score: what the passages are ranked by, in [0, 1].
    """

    document_id: str
    title: str
    source: str
    chunk: Chunk
    score: float
    dense: float | None = None
    lexical: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """From which confidence on a collection is taken to hold an answer.

    Attributes:
        model: the embedding model whose similarities were looked at.
        threshold: of `shared.rag.abstention.confidence`.
        chunks: that the collection held then; it is to be done again when they are many more or fewer.
    """

    model: str
    threshold: float
    chunks: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a search looked at.

    Attributes:
        passages: the best of both legs; `Passage.score` is 0.
        vectors: theirs, single precision; empty for one that this model has no vector of yet.
        most_lexical: BM25 that a chunk with nothing but the query's words would have.
        chunks: of the collection.
        calibration: of the collection, None before the first.
    """

    passages: tuple[Passage, ...] = ()
    vectors: tuple[bytes, ...] = ()
    most_lexical: float = 0.0
    chunks: int = 0
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a statement of an answer comes from: the quote stands in the document from `start` to `end`."""

    marker: str
    document_id: str
    title: str
    source: str
    page: int | None
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """What a collection holds."""

    name: str
    documents: int
    chunks: int
    bytes: int
    by_status: Mapping[DocumentStatus, int]


Vectors = Sequence[bytes]
"""Little-endian single-precision unit vectors, as `shared.domain.embeddings.Embedding.vector` holds them."""
