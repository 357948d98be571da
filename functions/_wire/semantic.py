"""Bodies of /semantic: texts to embed and texts to compare."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from functions._wire.chat import RouterOptions
from functions._wire.embeddings import MAX_INPUTS, EmbeddingOptions, EmbeddingsBody
from functions._wire.parsing import Body
from shared.domain.errors import InvalidRequest
from shared.rag.similarity import Cluster, KeyPhrase
from shared.services.semantic import Operation, TextsFound, TextsQuestion

MAX_TEXTS = 256
MAX_CHARS = 200_000
MAX_PAIRWISE = 64
"""Texts of which the similarity of every two is told; of more only the nearest others of each."""
MAX_MOODS = 64
MAX_MOOD_CHARS = 50_000
_PLACES = 6

_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\w.:/@-]+$")]
_Similarity = Annotated[float, Field(ge=-1, le=1)]


class EmbedBody(EmbeddingsBody):
    """POST /semantic/embed: as POST /embeddings; the texts may also stand in `texts`."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)] = ""
    texts: Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "EmbedBody":
        if ("input" in self.model_fields_set) == (self.texts is not None):
            raise ValueError("give exactly one of input and texts")
        return self

    @property
    def embeddings(self) -> EmbeddingsBody:
        """The same in the words of POST /embeddings."""
        if self.texts is None:
            return self
        return self.model_copy(update={"input": self.texts})

    def param(self, param: str | None) -> str | None:
        """A field path of the domain as this body has it."""
        named = self.embeddings
        found = EmbeddingsBody.param(named, param)
        return found if found is None or self.texts is None else found.replace("input", "texts", 1)


class AnalyzeTextsBody(Body):
    """POST /semantic/analyze."""

    texts: Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]
    operations: Annotated[list[Operation], Field(min_length=1, max_length=len(Operation))]
    model: _Name = "auto"
    sentiment_model: _Name | None = None
    top_k: Annotated[int, Field(ge=1, le=MAX_TEXTS)] | None = None
    cluster_threshold: _Similarity = 0.7
    duplicate_threshold: _Similarity = 0.95
    max_phrases: Annotated[int, Field(ge=1, le=50)] = 10
    router: RouterOptions = Field(default_factory=RouterOptions)

    @field_validator("operations", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        # Strict mode takes members only.
        known = {operation.value: operation for operation in Operation}
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            unknown = [word for word in value if word not in known]
            if unknown:
                raise ValueError(f"must be of {', '.join(known)}")
            return [known[word] for word in value]
        return value

    def question(self) -> TextsQuestion:
        """What is asked.

        Raises:
            InvalidRequest: the texts are too many or too long for it; `param` names the field.
        """
        asked = frozenset(self.operations)
        for place, text in enumerate(self.texts):
            if not text.strip():
                raise InvalidRequest(f"texts[{place}]: must not be empty", param=f"texts[{place}]")
        _require(sum(map(len, self.texts)) <= MAX_CHARS, f"texts: at most {MAX_CHARS} characters together", "texts")
        if Operation.SIMILARITY in asked and self.top_k is None:
            words = f"texts: at most {MAX_PAIRWISE} for the similarity of every two; give top_k for the nearest of more"
            _require(len(self.texts) <= MAX_PAIRWISE, words, "texts")
        if Operation.SENTIMENT in asked:
            words = "sentiment_model: sentiment is told by a model; name one, or auto"
            _require(self.sentiment_model is not None, words, "sentiment_model")
            few = len(self.texts) <= MAX_MOODS and sum(map(len, self.texts)) <= MAX_MOOD_CHARS
            _require(
                few, f"texts: at most {MAX_MOODS}, of {MAX_MOOD_CHARS} characters together, for sentiment", "texts"
            )
        elif self.sentiment_model is not None:
            raise InvalidRequest("sentiment_model: without the operation sentiment", param="sentiment_model")
        return TextsQuestion(
            texts=tuple(self.texts),
            operations=asked,
            top_k=self.top_k,
            cluster_from=self.cluster_threshold,
            duplicate_from=self.duplicate_threshold,
            phrases=self.max_phrases,
        )

    def vector_options(self) -> EmbeddingOptions:
        """The options for the embedding model, which is one and never replaced by another."""
        return EmbeddingOptions.model_construct(**{**dict(self.router), "allow_fallback": False})

    def param(self, param: str | None) -> str | None:
        """A field path of the domain as this body has it."""
        if param is None or param in type(self).model_fields:
            return param
        if param in RouterOptions.model_fields:
            return f"router.{param}"
        return EmbedBody.model_construct(texts=self.texts).param(param) if param.startswith("messages") else param


def _require(holds: bool, words: str, param: str) -> None:
    if not holds:
        raise InvalidRequest(words, param=param)


def found_body(found: TextsFound) -> dict[str, Any]:
    """The answer of POST /semantic/analyze: what was asked, under its name."""
    parts: dict[Operation, Any] = {}
    if found.similarity is not None:
        parts[Operation.SIMILARITY] = {
            "matrix": [[round(value, _PLACES) for value in row] for row in found.similarity.tolist()]
        }
    if found.neighbours is not None:
        listed = [[{"text": o, "similarity": round(s, _PLACES)} for o, s in near] for near in found.neighbours]
        parts[Operation.SIMILARITY] = {"nearest": listed}
    if found.clusters is not None:
        parts[Operation.CLUSTERS] = [_cluster(cluster) for cluster in found.clusters]
    if found.clusters is not None and found.topics is not None:
        pairs = zip(found.clusters, found.topics, strict=True)
        parts[Operation.TOPICS] = [_topic(cluster, labels) for cluster, labels in pairs]
    if found.duplicates is not None:
        parts[Operation.DUPLICATES] = [_cluster(cluster) for cluster in found.duplicates]
    if found.key_phrases is not None:
        parts[Operation.KEY_PHRASES] = [[_phrase(phrase) for phrase in phrases] for phrases in found.key_phrases]
    if found.languages is not None:
        parts[Operation.LANGUAGE] = list(found.languages)
    if found.moods is not None:
        parts[Operation.SENTIMENT] = [{"label": mood.label, "score": mood.score} for mood in found.moods]
    return {operation.value: part for operation, part in parts.items()}


def calls_body(found: TextsFound) -> list[dict[str, Any]]:
    """The records of the models that were called."""
    return [
        {
            "request_id": answer.record.id,
            "model": answer.record.model_used,
            "deployment": answer.record.deployment_used,
            "tokens": answer.reply.usage.total_tokens,
            "cost_usd": float(answer.cost_usd),
        }
        for answer in found.answers
    ]


def _cluster(cluster: Cluster) -> dict[str, Any]:
    return {
        "texts": list(cluster.members),
        "centre": cluster.centre,
        "similarity": round(cluster.cohesion, _PLACES),
    }


def _topic(cluster: Cluster, labels: Sequence[KeyPhrase]) -> dict[str, Any]:
    phrases = [_phrase(phrase) for phrase in labels]
    return {"label": phrases[0]["phrase"] if phrases else "", "phrases": phrases, "texts": list(cluster.members)}


def _phrase(phrase: KeyPhrase) -> dict[str, Any]:
    return {"phrase": phrase.text, "score": phrase.score}
