"""What callers say of answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

WAITING = timedelta(days=7)
"""How long feedback waits for the record of its request; records come within minutes, unless the ledger is away."""
MAX_COMMENT_CHARS = 4_000
MAX_TAGS = 20
MAX_TAG_CHARS = 64
POINTS = 5
"""A mean rating is also shown as so many points of this many."""


class FeedbackForm(StrEnum):
    """How it was given."""

    SCORE = "score"
    """A number from 0 to 1."""
    THUMBS = "thumbs"
    """Up is 1, down is 0."""


class FeedbackState(StrEnum):
    """What became of it."""

    COUNTED = "counted"
    """Its request is in the ledger; rollups take it in within minutes."""
    WAITING = "waiting"
    """The record of its request has not arrived; it counts as soon as it has, and is forgotten after `WAITING`."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one principal says of the answer to one request; saying it again replaces what was said.

    Attributes:
        score: 0 to 1.
        comment: without what is sensitive: findings are replaced by their kinds, which `redacted` lists.
        given_at: when it was last said.
    """

    tenant_id: str
    service: str
    principal_id: str
    request_id: str
    score: float
    form: FeedbackForm
    given_at: datetime
    tags: tuple[str, ...] = ()
    comment: str = ""
    redacted: tuple[str, ...] = ()
