"""How good answers were, as analytics says it."""

from typing import Any

from shared.analytics.intervals import Interval
from shared.analytics.quality import Scores, target_state
from shared.domain.analytics import Aggregate
from shared.domain.feedback import POINTS
from shared.domain.quality_signals import TARGET_POINTS, QualitySource


def quality_body(row: Aggregate) -> dict[str, Any]:
    """Scores of those who read the answers or judged them, by source, and whether their mean is above its target.

    Scores of signals stand apart: only answers with a fault have one, so their mean is that of faulty answers.
    """
    by_source = {
        QualitySource.FEEDBACK: Scores(row.ratings, row.rating_sum, row.rating_squares),
        QualitySource.JUDGE: Scores(row.judged, row.judged_sum, row.judged_squares),
        QualitySource.SIGNALS: Scores(row.signalled, row.signalled_sum, row.signalled_squares),
    }
    rated = by_source[QualitySource.FEEDBACK] + by_source[QualitySource.JUDGE]
    return _scores_body(rated) | {
        "of_points": POINTS,
        "target": {"above_points": TARGET_POINTS, "state": target_state(rated).value},
        "sources": {source.value: _scores_body(scores) for source, scores in by_source.items()},
        "fault_rate": row.signalled / row.count if row.count else None,
    }


def interval_body(interval: Interval | None) -> dict[str, float] | None:
    """Where the true figure lies."""
    return None if interval is None else {"low": interval.low, "high": interval.high, "level": interval.level}


def _scores_body(scores: Scores) -> dict[str, Any]:
    mean = scores.mean
    return {
        "ratings": scores.count,
        "mean": mean,
        "interval": interval_body(scores.interval()),
        "points": None if mean is None else POINTS * mean,
    }
