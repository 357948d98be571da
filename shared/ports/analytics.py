"""Rollups of the ledger, and what people say of answers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from shared.domain.analytics import Aggregate, AnalyticsQuery, Freshness, Granularity, Spend, SpendQuery
from shared.domain.feedback import Feedback, FeedbackState


class RollupStore(Protocol):
    """Computes rollups, a bucket at a time; of all processes that try at once one does, the others find nothing."""

    async def fold(self, now: datetime, *, tiers: Sequence[int]) -> bool:
        """Compute some of the oldest minutes that are out of date from the ledger; False: there are none.

        Args:
            now: minutes long before it are not kept, and computed with all of their hour.
            tiers: prompt lengths, in tokens, above which some model's prices differ.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        ...

    async def merge(self, granularity: Granularity) -> bool:
        """Compute the oldest hour or day that is out of date from what it consists of; False: there is none.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        ...

    async def purge_minutes(self, now: datetime) -> None:
        """Let go of minutes that are not kept any more.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        ...

    async def join_feedback(self, now: datetime) -> None:
        """Count feedback whose record has arrived by now, and forget what waited in vain.

        Raises:
            DependencyUnavailable: no answer in time; doing it again is safe.
        """
        ...


class AnalyticsStore(Protocol):
    """Answers from rollups; it never reads the ledger."""

    async def rows(self, query: AnalyticsQuery) -> Sequence[Aggregate]:
        """The rows that a query takes, by start and group, and one more than its limit where there are more.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def spend(self, query: SpendQuery) -> Sequence[Spend]:
        """What was spent, by bucket and what the query groups by, with the tokens that say why.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...

    async def freshness(self) -> Freshness:
        """Up to when the rollups are complete.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...


class FeedbackStore(Protocol):
    """What callers say of answers."""

    async def put(self, feedback: Feedback) -> FeedbackState:
        """Keep feedback in place of what the same principal said of the same request.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; putting again is safe.
            NotFound: the request is another service's.
        """
        ...
