"""What is known of what happened, in one place for the container."""

from dataclasses import dataclass

from shared.services.analytics import Analytics
from shared.services.feedback import FeedbackDesk
from shared.services.quality_scores import QualityScores
from shared.services.rollups import Rollups


@dataclass(frozen=True, slots=True)
class Insight:
    """Rollups, the answers from them, what callers say of answers, and the scores that come of it."""

    analytics: Analytics
    feedback: FeedbackDesk
    rollups: Rollups
    quality: QualityScores
