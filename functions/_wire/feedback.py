"""The body and the answer of POST /feedback."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from functions._wire.parsing import Body, Line
from shared.domain.feedback import (
    MAX_COMMENT_CHARS,
    MAX_TAG_CHARS,
    MAX_TAGS,
    POINTS,
    Feedback,
    FeedbackForm,
    FeedbackState,
)
from shared.domain.identity import Principal


def _request_id(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise ValueError("must be a request id: a UUID") from None


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold NUL")
    return value


class FeedbackBody(Body):
    """What is said of one answer: either a score or thumbs."""

    request_id: Annotated[str, Field(max_length=36), AfterValidator(_request_id)]
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    thumbs: Literal["up", "down"] | None = None
    tags: Annotated[
        list[Annotated[Line, Field(min_length=1, max_length=MAX_TAG_CHARS)]], Field(max_length=MAX_TAGS)
    ] = Field(default_factory=list)
    comment: Annotated[str, Field(max_length=MAX_COMMENT_CHARS), AfterValidator(_text)] = ""

    @model_validator(mode="after")
    def _one_rating(self) -> Self:
        if (self.score is None) == (self.thumbs is None):
            raise ValueError("give either score or thumbs")
        return self

    def to_domain(self, caller: Principal, now: datetime) -> Feedback:
        """What a caller says."""
        score = self.score if self.score is not None else float(self.thumbs == "up")
        return Feedback(
            tenant_id=caller.tenant_id,
            service=caller.service,
            principal_id=caller.id,
            request_id=self.request_id,
            score=score,
            form=FeedbackForm.THUMBS if self.score is None else FeedbackForm.SCORE,
            given_at=now,
            tags=tuple(self.tags),
            comment=self.comment,
        )


def feedback_body(kept: Feedback, state: FeedbackState) -> dict[str, Any]:
    """Feedback as it was kept."""
    return {
        "request_id": kept.request_id,
        "state": state.value,
        "score": kept.score,
        "points": kept.score * POINTS,
        "of_points": POINTS,
        "tags": list(kept.tags),
        "comment": kept.comment,
        "redacted": list(kept.redacted),
    }
