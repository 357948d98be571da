"""The timer that makes scores of what was found out, and what they come to by model and category."""

from collections.abc import Sequence
from datetime import datetime

from shared.domain.analytics import AnalyticsQuery, Dimension
from shared.domain.quality_signals import QualitySource
from shared.ports import AnalyticsStore, Clock, QualityMean, QualityStore

_BUDGET_S = 20.0
"""Of a run that comes every minute; what is left over is the next one's."""
_MOST_GROUPS = 10_000


class QualityScores:
    """Makes scores, and gives their means: `QualityMeans`.

    Args:
        store: has the evidence.
        analytics: has the rollups.
        clock: says when a run has had its time.
    """

    def __init__(self, store: QualityStore, analytics: AnalyticsStore, clock: Clock) -> None:
        self._store = store
        self._analytics = analytics
        self._clock = clock

    async def run(self) -> int:
        """Settle what is due; returns how many requests were looked at.

        Raises:
            DependencyUnavailable: the store is away; what was settled stays so.
        """
        began_s, looked = self._clock.monotonic(), 0
        while step := await self._store.settle(self._clock.now()):
            looked += step
            if self._clock.monotonic() - began_s > _BUDGET_S:
                break
        return looked

    async def means(self, tenant_id: str, since: datetime, until: datetime) -> Sequence[QualityMean]:
        """By model, category and source; those without scores are left out.

        Raises:
            DependencyUnavailable: the rollups are away.
        """
        query = AnalyticsQuery(
            tenant_id,
            (since, until),
            group_by=(Dimension.MODEL, Dimension.CATEGORY),
            sketches=False,
            limit=_MOST_GROUPS,
        )
        found = list[QualityMean]()
        for row in await self._analytics.rows(query):
            model_id, category = row.group
            for source, count, total, squares in (
                (QualitySource.FEEDBACK, row.ratings, row.rating_sum, row.rating_squares),
                (QualitySource.JUDGE, row.judged, row.judged_sum, row.judged_squares),
                (QualitySource.SIGNALS, row.signalled, row.signalled_sum, row.signalled_squares),
            ):
                if count:
                    found.append(QualityMean(model_id, category, source, count, total / count, squares))
        return found
