"""Sums over long spans."""

from collections.abc import Sequence
from dataclasses import replace

from shared.domain.analytics import Aggregate, AnalyticsQuery
from shared.ports import AnalyticsStore

MOST_GROUPS = 20_000
"""Rows that a sum may have; the spans of administrators hold fewer."""


async def summed(store: AnalyticsStore, query: AnalyticsQuery) -> Sequence[Aggregate]:
    """One row for each group over the whole span of a query, by group.

    Raises:
        DependencyUnavailable: the rollups are away.
    """
    return await store.rows(replace(query, edges=(query.edges[0], query.edges[-1]), after=None, limit=MOST_GROUPS))
