"""Bodies of POST /embeddings: OpenAI's embeddings API with the router's own options.

Source: https://platform.openai.com/docs/api-reference/embeddings/create.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import Field, field_validator

from functions._wire.chat import RouterOptions
from functions._wire.parsing import Body
from functions._wire.replies import served_body
from shared.domain.embeddings import Embedding, EmbeddingRequest, EmbeddingTask, embedding_request
from shared.domain.errors import InvalidRequest
from shared.domain.policy import RoutingConstraints
from shared.services.walk import Answer

MAX_INPUTS = 2048
_AUTO = "auto"
_TEXT_PLACE = re.compile(r"messages\[0\]\.(?:content|parts)\[(\d+)\]")


class EmbeddingOptions(RouterOptions):
    """What a request asks of the choice; `task_type` and `truncate` are the vendor's options that OpenAI has not."""

    task_type: EmbeddingTask | None = None
    truncate: bool = False

    @field_validator("task_type", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        # Google writes task types in capitals. Strict mode takes members only.
        if isinstance(value, str):
            try:
                return EmbeddingTask(value.lower())
            except ValueError:
                raise ValueError(f"must be one of {', '.join(EmbeddingTask)}") from None
        return value

    @field_validator("allow_fallback")
    @classmethod
    def _one_model(cls, value: object) -> object:
        if value:
            raise ValueError("not possible: vectors of two models cannot be compared")
        return value

    def constraints(self, model: str) -> RoutingConstraints:
        """The constraints. ``auto`` is one model too, which the registry names; the choice is among its deployments.

        Raises:
            InvalidRequest: `model` is ``auto:`` with a preset.
        """
        if model.startswith(f"{_AUTO}:"):
            raise InvalidRequest("model: use auto or a model's id; it must be the same every time", param="model")
        return replace(super().constraints(model), model=model)


class EmbeddingsBody(Body):
    """POST /embeddings."""

    model: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\w.:/@-]+$")] = _AUTO
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
    dimensions: Annotated[int, Field(ge=1, le=16_384)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    router: EmbeddingOptions = Field(default_factory=EmbeddingOptions)

    @field_validator("input", mode="before")
    @classmethod
    def _no_tokens(cls, value: object) -> object:
        if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
            raise ValueError("arrays of tokens are not taken: the models have tokenizers of their own; send texts")
        return value

    def request(self) -> EmbeddingRequest:
        """The neutral request.

        Raises:
            InvalidRequest: a text is empty.
        """
        texts = [self.input] if isinstance(self.input, str) else self.input
        for index, text in enumerate(texts):
            if not text:
                where = self._place(index)
                raise InvalidRequest(f"{where}: must not be empty", param=where)
        return embedding_request(
            texts, dimensions=self.dimensions, task=self.router.task_type, truncate=self.router.truncate
        )

    def param(self, param: str | None) -> str | None:
        """A field path of the domain as this body has it."""
        if param is None:
            return None
        found = _TEXT_PLACE.match(param)
        if found is not None:
            return self._place(int(found[1]))
        if param.startswith("messages"):
            return "input"
        return f"router.{param}" if param in EmbeddingOptions.model_fields else param

    def _place(self, index: int) -> str:
        return "input" if isinstance(self.input, str) else f"input[{index}]"


def embeddings_body(answer: Answer, encoding_format: str | None) -> dict[str, Any]:
    """OpenAI's list of embeddings."""
    reply = answer.reply
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(embedding, encoding_format)}
            for index, embedding in enumerate(reply.embeddings)
        ],
        "model": answer.record.model_used,
        "usage": {"prompt_tokens": reply.usage.prompt_tokens, "total_tokens": reply.usage.total_tokens},
        "router": served_body(answer.record) | {"truncated": _truncated(reply.embeddings)},
    }


def _vector(embedding: Embedding, encoding_format: str | None) -> object:
    if encoding_format == "base64":
        return base64.b64encode(embedding.vector).decode()
    # The shortest digits that read back as the same single-precision number: half of what a double would take.
    numbers = np.frombuffer(embedding.vector, "<f4")
    return orjson.Fragment(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY))


def _truncated(embeddings: Sequence[Embedding]) -> list[int]:
    """Places of the texts whose end was left out."""
    return [index for index, embedding in enumerate(embeddings) if embedding.truncated]
