"""Embedding requests: predict instances, EmbedContent, and OpenAI-style bodies."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from google.protobuf import struct_pb2

from infra.local.simulator.ask import CHARS_PER_TOKEN, count_tokens
from infra.local.simulator.embedding import HashedVectors, Vectors
from infra.local.simulator.problems import Problem, invalid
from infra.local.simulator.profiles import Profile

_MAX_TEXTS = 250
_MAX_BATCH_TOKENS = 20_000
_ONE_TEXT_MODELS = frozenset({"gemini-embedding-001"})
"""Takes a single text a request (cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings)."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What is to be embedded, read from any of the wire forms."""

    texts: tuple[str, ...]
    dimensions: int
    auto_truncate: bool = True


@dataclass(frozen=True, slots=True)
class Embedded:
    """One embedded text."""

    vector: npt.NDArray[np.float64]
    tokens: int
    truncated: bool


def read_predict(instances: list[Any], parameters: Any, profile: Profile) -> Texts:
    """Read instances of ``{"content", "task_type", "title"}`` and ``{"autoTruncate", "outputDimensionality"}``.

    Raises:
        Problem: 400.
    """
    texts = []
    for number, instance in enumerate(instances):
        content = instance.get("content") if isinstance(instance, Mapping) else None
        if not isinstance(content, str) or not content:
            raise invalid(f"instances[{number}].content: the text content is empty.")
        texts.append(content)
    fields: Mapping[str, Any] = parameters if isinstance(parameters, Mapping) else {}
    return _checked(texts, fields.get("outputDimensionality"), fields.get("autoTruncate", True) is not False, profile)


def read_openai(body: Any, profile: Profile) -> Texts:
    """Read ``{"input": text or list of texts, "dimensions"}``.

    Raises:
        Problem: 400.
    """
    value = body.get("input") if isinstance(body, Mapping) else None
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise invalid("input must be a text or a list of texts, none of them empty")
    return _checked(texts, body.get("dimensions"), auto_truncate=True, profile=profile)


def read_content(request: Any, profile: Profile) -> Texts:
    """Read an EmbedContentRequest.

    Raises:
        Problem: 400.
    """
    text = "\n".join(part.text for part in request.content.parts)
    if not text:
        raise invalid("content: the text content is empty.")
    config = request.embed_content_config
    wanted = config.output_dimensionality or request.output_dimensionality or None
    truncate = config.auto_truncate if config.HasField("auto_truncate") else True
    return _checked([text], wanted, auto_truncate=truncate, profile=profile)


def compute(texts: Texts, profile: Profile, vectors: Vectors | None = None) -> list[Embedded]:
    """Embed.

    Args:
        texts: what is asked for.
        profile: the model that is asked.
        vectors: where vectors come from; by hashing when nothing is given.

    Raises:
        Problem: 400, a text is too long and must not be truncated.
    """
    counts = [count_tokens(text) for text in texts.texts]
    for tokens in counts:
        if tokens > profile.context_tokens and not texts.auto_truncate:
            raise invalid(f"The input token count is {tokens} but the model supports up to {profile.context_tokens}.")
    kept = [text[: profile.context_tokens * CHARS_PER_TOKEN] for text in texts.texts]
    return [
        Embedded(vector, min(tokens, profile.context_tokens), tokens > profile.context_tokens)
        for vector, tokens in zip((vectors or HashedVectors()).of(kept, texts.dimensions), counts, strict=True)
    ]


def predictions(embedded: list[Embedded]) -> list[dict[str, Any]]:
    """``predictions`` of a predict answer as JSON values."""
    return [
        {
            "embeddings": {
                "values": one.vector.tolist(),
                "statistics": {"truncated": one.truncated, "token_count": one.tokens},
            }
        }
        for one in embedded
    ]


def add_predictions(response: Any, embedded: list[Embedded]) -> None:
    """The same into a PredictResponse, without a Python call for each number."""
    for one in embedded:
        outer = response.predictions.add().struct_value.fields["embeddings"].struct_value.fields
        outer["values"].list_value.MergeFromString(_list_value_bytes(one.vector))
        statistics = outer["statistics"].struct_value.fields
        statistics["truncated"].bool_value = one.truncated
        statistics["token_count"].number_value = one.tokens


def openai_body(embedded: list[Embedded], model: str, encoding: str) -> bytes:
    """An OpenAI embeddings answer, with vectors as numbers or as base64 of little-endian floats."""
    rows = []
    for number, one in enumerate(embedded):
        vector: Any = one.vector.tolist()
        if encoding == "base64":
            vector = base64.b64encode(one.vector.astype("<f4").tobytes()).decode()
        rows.append({"object": "embedding", "index": number, "embedding": vector})
    tokens = sum(one.tokens for one in embedded)
    return orjson.dumps({
        "object": "list", "data": rows, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })  # fmt: skip


def _checked(texts: list[str], wanted: Any, auto_truncate: bool, profile: Profile) -> Texts:
    if not texts or len(texts) > _MAX_TEXTS:
        raise invalid(f"{len(texts)} instance(s) is not allowed. Min allowed instance(s) is 1 and max is {_MAX_TEXTS}.")
    if profile.id in _ONE_TEXT_MODELS and len(texts) > 1:
        raise invalid(f"{len(texts)} instance(s) is not allowed. Max allowed instances is 1 for {profile.id}.")
    total = sum(count_tokens(text) for text in texts)
    if len(texts) > 1 and total > _MAX_BATCH_TOKENS:
        raise invalid(f"The input token count is {total} but the model supports up to {_MAX_BATCH_TOKENS}.")
    dimensions = profile.dimensions if wanted is None else wanted
    if not isinstance(dimensions, int | float) or not 1 <= dimensions <= profile.dimensions:
        raise Problem(400, f"outputDimensionality must be from 1 to {profile.dimensions}.")
    return Texts(tuple(texts), int(dimensions), auto_truncate)


def _list_value_bytes(vector: npt.NDArray[np.float64]) -> bytes:
    """The wire form of a ListValue of numbers: field 1 (tag, length 9) holds a Value, whose field 2 is the double."""
    rows = np.empty((len(vector), 11), dtype=np.uint8)
    rows[:, 0], rows[:, 1], rows[:, 2] = 0x0A, 9, 0x11
    rows[:, 3:] = vector.astype("<f8").view(np.uint8).reshape(len(vector), 8)
    return rows.tobytes()


# The layout above is the protocol's; this makes a change of it fail at import and not in a vector.
if struct_pb2.ListValue.FromString(_list_value_bytes(np.array([0.5]))).values[0].number_value != 0.5:  # noqa: PLR2004
    raise ImportError("google.protobuf.ListValue has another wire form than this module writes")
