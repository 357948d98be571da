"""The words of quality: what an answer shows by itself, what a judge says of it, and the one score that comes of it.

docs/quality.md says what each of them is worth and why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

WAITING = timedelta(days=7)
"""How long evidence waits for the record of its request."""
TARGET_POINTS = 4.5
"""Of `shared.domain.feedback.POINTS`: what the mean of all rated answers is to be above."""


class QualitySource(StrEnum):
    """Who says how good an answer was; the earlier one decides."""

    FEEDBACK = "feedback"
    """Somebody who read it."""
    JUDGE = "judge"
    """Another model."""
    SIGNALS = "signals"
    """The answer itself: something is plainly wrong with it."""


class Sign(StrEnum):
    """What is seen of an answer without knowing the right one. No content."""

    EMPTY = "empty"
    SCHEMA_INVALID = "schema_invalid"
    """JSON, or JSON of a schema, was asked for, and this is none."""
    TOOL_ARGUMENTS_INVALID = "tool_arguments_invalid"
    REFUSED = "refused"
    """The vendor says so: a refusal, or a filter stopped the answer."""
    REFUSAL_WORDING = "refusal_wording"
    """A short answer that begins as refusals do."""
    TRUNCATED = "truncated"
    """Cut at a limit that the caller did not set."""
    CUT_AT_LIMIT = "cut_at_limit"
    """Cut at the caller's own limit."""
    REPETITION = "repetition"
    """It ends in a loop."""
    FAILED = "failed"
    """Models were asked, and none answered. Counted as an error elsewhere: no answer, no quality."""
    RETRIED = "retried"
    """The same principal sent nearly the same message again soon after."""


SEVERITY: Mapping[Sign, float] = MappingProxyType(
    {
        Sign.EMPTY: 1.0,
        Sign.SCHEMA_INVALID: 1.0,
        Sign.TOOL_ARGUMENTS_INVALID: 1.0,
        Sign.REFUSED: 0.8,
        Sign.REPETITION: 0.8,
        Sign.REFUSAL_WORDING: 0.7,
        Sign.TRUNCATED: 0.5,
        Sign.RETRIED: 0.4,
        Sign.CUT_AT_LIMIT: 0.2,
    }
)
"""Share of the worth of an answer that a sign takes away; signs that are not here take nothing."""
WEAK = frozenset({Sign.RETRIED, Sign.CUT_AT_LIMIT, Sign.FAILED})
"""Signs that make no score alone: each has a harmless reason as often as not."""


@dataclass(frozen=True, slots=True)
class QualityScore:
    """How good an answer was, 0 to 1, and who says so."""

    value: float
    source: QualitySource


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out about an answer after its record was written.

    Attributes:
        request_id: of the request that was answered.
        start_time: of that request.
        sign: what was seen; None: this is a verdict.
        score: a verdict's, 0 to 1.
        judge_model: who gave the verdict.
        judge_request_id: the request by which the judge was asked; it has its own record.
        rubric: SHA-256 of what the judge was told, the first 16 hex digits: verdicts of two rubrics do not compare.
    """

    tenant_id: str
    request_id: str
    start_time: datetime
    noted_at: datetime
    sign: Sign | None = None
    score: float | None = None
    judge_model: str | None = None
    judge_request_id: str | None = None
    rubric: str | None = None

    def __post_init__(self) -> None:
        if (self.sign is None) == (self.score is None):
            raise ValueError("evidence is a sign or a verdict")

    @property
    def kind(self) -> str:
        """The sign, or ``judge``; a request has each once."""
        return QualitySource.JUDGE.value if self.sign is None else self.sign.value


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was sent, as a retry is known by: nothing of its content.

    Attributes:
        whose: keyed hash of tenant and principal.
        fingerprint: keyed SimHash of the message, 64 bits (`shared.analysis.fingerprint`).
        start_time, end_time: of the request.
    """

    whose: str
    fingerprint: int
    tenant_id: str
    request_id: str
    start_time: datetime
    end_time: datetime


def written(signs: frozenset[Sign]) -> str:
    """Signs as a record keeps them: in alphabetical order, separated by commas."""
    return ",".join(sorted(signs))


def read(text: str) -> frozenset[Sign]:
    """Signs from a record; words that this version does not know are left out."""
    return frozenset(Sign(word) for word in text.split(",") if word in _KNOWN)


_KNOWN = frozenset(Sign)
