"""Sums over long spans, asked of the coarsest rollups that have them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from shared.analytics.totals import add_up, coarse_spans
from shared.domain.analytics import Aggregate, AnalyticsQuery
from shared.ports import AnalyticsStore

MOST_GROUPS = 20_000
"""Rows that a sum may have; the spans of administrators hold fewer."""


async def summed(store: AnalyticsStore, query: AnalyticsQuery) -> Sequence[Aggregate]:
    """One row for each group over the whole span of a query, by group.

    Raises:
        DependencyUnavailable: the rollups are away.
    """
    since, until = query.edges[0], query.edges[-1]
    groups = defaultdict[tuple[str, ...], list[Aggregate]](list)
    for edges in coarse_spans(since, until):
        for row in await store.rows(replace(query, edges=edges, after=None, limit=MOST_GROUPS)):
            groups[row.group].append(row)
    return [add_up(rows, start=since, group=group) for group, rows in sorted(groups.items())]


async def summed_all(store: AnalyticsStore, query: AnalyticsQuery) -> Aggregate:
    """Everything that a query takes as one row; all zero where nothing happened.

    Raises:
        DependencyUnavailable: the rollups are away.
    """
    rows = await summed(store, replace(query, group_by=()))
    return rows[0] if rows else Aggregate(query.edges[0])
