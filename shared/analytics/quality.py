"""One quality score of each answer from all that is known of it, and what many of them come to. Pure.

docs/quality.md says why the order and the weights are as they are.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared.analytics.intervals import LEVEL, Interval, student_t, wilson
from shared.domain.feedback import POINTS
from shared.domain.quality_signals import SEVERITY, TARGET_POINTS, WEAK, QualityScore, QualitySource, Sign

LEAST_SCORES = 30
"""Scores below which nothing is said of a target, and an interval assumes the widest spread that there could be."""


def combined(feedback: float | None, verdict: float | None, signs: Iterable[Sign]) -> QualityScore | None:
    """The score of an answer, or None: what is known is too weak for one.

    The strongest source decides alone; nothing is mixed, so a score can be explained by one sentence.

    Args:
        feedback: mean rating by those who rated it, 0 to 1.
        verdict: the judge's, 0 to 1.
        signs: what the answer shows; the order and how often do not matter.
    """
    if feedback is not None:
        return QualityScore(_within(feedback), QualitySource.FEEDBACK)
    if verdict is not None:
        return QualityScore(_within(verdict), QualitySource.JUDGE)
    seen = frozenset(signs)
    if seen <= WEAK:
        return None
    # Two words for one refusal are not two faults.
    if Sign.REFUSED in seen:
        seen -= {Sign.REFUSAL_WORDING}
    left = math.prod(1.0 - SEVERITY.get(sign, 0.0) for sign in sorted(seen))
    return QualityScore(_within(left), QualitySource.SIGNALS)


@dataclass(frozen=True, slots=True)
class Scores:
    """Some scores, each 0 to 1, added up."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: "Scores") -> "Scores":
        return Scores(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        """None without scores."""
        return _within(self.total / self.count) if self.count else None

    def interval(self, *, level: float = LEVEL) -> Interval | None:
        """What the mean of all such answers lies in; None without scores.

        Student's t for the spread that was seen, from `LEAST_SCORES` on. Below, and where all scores are the same, a
        spread that was seen says too little: Wilson's interval, which takes the widest that the mean allows.
        """
        mean = self.mean
        if mean is None:
            return None
        spread = max(0.0, self.squares - self.total * self.total / self.count)
        if self.count < LEAST_SCORES or spread <= 1e-9 * self.count:
            return wilson(self.total, self.count, level=level)
        error = math.sqrt(spread / (self.count - 1) / self.count)
        half = student_t((1 + level) / 2, self.count - 1) * error
        return Interval(max(0.0, mean - half), min(1.0, mean + half), level)


class TargetState(StrEnum):
    """How a mean stands to its target."""

    MET = "met"
    """The whole interval is above it."""
    NOT_MET = "not_met"
    """The whole interval is below it, or ends at it."""
    NOT_ENOUGH_DATA = "not_enough_data"
    """Both could be: more scores are needed to tell."""


def target_state(scores: Scores, *, target_points: float = TARGET_POINTS) -> TargetState:
    """Whether the mean is above the target, as far as the scores can tell.

    Args:
        scores: of feedback and judge. Scores of signals do not belong: only faulty answers have one.
        target_points: of `POINTS`.
    """
    interval = scores.interval()
    if interval is None or scores.count < LEAST_SCORES:
        return TargetState.NOT_ENOUGH_DATA
    target = target_points / POINTS
    if interval.low > target:
        return TargetState.MET
    return TargetState.NOT_MET if interval.high <= target else TargetState.NOT_ENOUGH_DATA


def _within(value: float) -> float:
    return min(max(value, 0.0), 1.0)
