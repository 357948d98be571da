"""Texts to embed, and the vectors that come back.

A request for vectors is a request for a model: it is read, sieved, called, billed and recorded as every other one. So
it is a `ChatRequest` whose only turn holds the texts, one part each.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shared.domain.chat import ChatRequest, Message, Role, TextPart

_BYTES_PER_VALUE = 4


class EmbeddingTask(StrEnum):
    """What the vectors are for; models that know the task place texts better.

    Source: https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/task-types
    """

    RETRIEVAL_QUERY = "retrieval_query"
    RETRIEVAL_DOCUMENT = "retrieval_document"
    SEMANTIC_SIMILARITY = "semantic_similarity"
    CLASSIFICATION = "classification"
    CLUSTERING = "clustering"
    QUESTION_ANSWERING = "question_answering"
    FACT_VERIFICATION = "fact_verification"
    CODE_RETRIEVAL_QUERY = "code_retrieval_query"


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector of one text, of unit length.

    Attributes:
        vector: little-endian IEEE 754 single-precision values, the content of OpenAI's base64 form.
        tokens: of the text, by the vendor's count; 0 when it gave none.
        truncated: whether the end of the text was left out because it was too long.
    """

    vector: bytes
    tokens: int
    truncated: bool = False

    @property
    def dimensions(self) -> int:
        """How long the vector is."""
        return len(self.vector) // _BYTES_PER_VALUE

    def values(self) -> tuple[float, ...]:
        """The vector as numbers."""
        return struct.unpack(f"<{self.dimensions}f", self.vector)


@dataclass(frozen=True, slots=True)
class EmbeddingRequest(ChatRequest):
    """Texts to embed; made by `embedding_request`.

    Attributes:
        dimensions: length of the vectors; None leaves the model's own.
        task: what they are for.
        truncate: whether the end of a text that is too long may be left out; otherwise such a text is refused.
        found: vectors that earlier attempts got, by the place of their text: a later one goes on from there instead of
            paying for them again. Only one model ever serves a request, so they fit together.
    """

    dimensions: int | None = None
    task: EmbeddingTask | None = None
    truncate: bool = False
    found: dict[int, Embedding] = field(default_factory=dict, compare=False, repr=False)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts in order."""
        return tuple(part.text for part in self.messages[0].parts if isinstance(part, TextPart))


def embedding_request(
    texts: Sequence[str], *, dimensions: int | None = None, task: EmbeddingTask | None = None, truncate: bool = False
) -> EmbeddingRequest:
    """A request for the vectors of some texts, at least one and none of them empty."""
    turn = Message(Role.USER, tuple(TextPart(text) for text in texts))
    return EmbeddingRequest(messages=(turn,), dimensions=dimensions, task=task, truncate=truncate)
