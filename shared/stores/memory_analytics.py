"""Twins of the analytics and feedback stores: every answer is computed from the records themselves, one by one.

Nothing is rolled up here, which is why the tests hold the rollups against this.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from statistics import fmean
from typing import Any

from shared.analytics.sketches import sketch_of
from shared.domain.analytics import (
    LATE,
    MAX_TAG_VALUE_CHARS,
    SPENT_BY,
    Aggregate,
    AnalyticsQuery,
    Dimension,
    Freshness,
    Spend,
    SpendQuery,
    Subject,
)
from shared.domain.caching import CacheOutcome
from shared.domain.errors import NotFound
from shared.domain.feedback import Feedback, FeedbackState
from shared.domain.quality_signals import QualitySource
from shared.domain.records import AttemptRecord, RequestRecord, RequestStatus
from shared.domain.replies import Usage
from shared.ports import Clock
from shared.stores.memory import MemoryRecordStore

_HITS = frozenset({CacheOutcome.HIT.value, CacheOutcome.SEMANTIC_HIT.value})
_TOKENS = tuple(field.name for field in fields(Usage) if field.name != "estimated")

_KEYS = frozenset({"start", "group"})
_NOTHING = Aggregate(datetime.min.replace(tzinfo=UTC))


class MemoryFeedback:
    """`FeedbackStore` over the records of a `MemoryRecordStore`."""

    def __init__(self, records: MemoryRecordStore) -> None:
        self.records = records
        self.given: dict[tuple[str, str, str], Feedback] = {}

    async def put(self, feedback: Feedback) -> FeedbackState:
        """Keep feedback in place of what the same principal said of the same request.

        Raises:
            NotFound: the request is another service's.
        """
        record = await self.records.get(feedback.request_id, tenant_id=feedback.tenant_id)
        if record is not None and record.service_name != feedback.service:
            raise NotFound("request_id: no request of this service", param="request_id")
        self.given[feedback.request_id, feedback.tenant_id, feedback.principal_id] = feedback
        return FeedbackState.WAITING if record is None else FeedbackState.COUNTED

    def ratings(self) -> dict[tuple[str, str, str], float]:
        """Mean rating by request, tenant and service."""
        scores = defaultdict[tuple[str, str, str], list[float]](list)
        for given in self.given.values():
            scores[given.request_id, given.tenant_id, given.service].append(given.score)
        return {request: fmean(found) for request, found in scores.items()}


@dataclass(slots=True)
class MemoryAnalytics:
    """`AnalyticsStore` over records.

    Attributes:
        records: the ledger.
        feedback: on its requests.
        clock: what is in the ledger is counted at once.
        tiers: prompt lengths, in tokens, above which prices differ.
        arrivals: when records came, by their ids; the others came in time.
    """

    records: MemoryRecordStore
    feedback: MemoryFeedback
    clock: Clock
    tiers: Sequence[int] = ()
    arrivals: dict[str, datetime] = field(default_factory=dict)

    async def rows(self, query: AnalyticsQuery) -> Sequence[Aggregate]:
        """The rows that a query takes."""
        made = self._attempts(query) if query.subject is Subject.ATTEMPTS else self._requests(query)
        unasked = [one for one in fields(Aggregate) if one.name not in _KEYS and not query.wants(one.name)]
        empty: Any = {one.name: getattr(_NOTHING, one.name) for one in unasked}
        found = [replace(one, **empty) for one in made]
        found.sort(key=lambda one: (one.start, [word.encode() for word in one.group]))
        if query.after is not None:
            start, group = query.after
            beyond = (start, [word.encode() for word in group])
            found = [one for one in found if (one.start, [word.encode() for word in one.group]) > beyond]
        return found[: query.limit + 1]

    async def spend(self, query: SpendQuery) -> Sequence[Spend]:
        """What was spent."""
        groups = defaultdict[tuple[datetime, str, str, bool, int], list[RequestRecord]](list)
        for start, record in self._within(AnalyticsQuery(query.tenant_id, query.edges)):
            service, model = record.service_name, record.model_used or ""
            is_wanted = query.services is None or service in query.services
            if is_wanted and service not in query.without_services and model not in query.without_models:
                tier = max((tier for tier in self.tiers if tier < record.usage.prompt_tokens), default=0)
                kept = [
                    name if dimension in query.group_by else ""
                    for dimension, name in zip(SPENT_BY, (service, model), strict=True)
                ]
                groups[start, kept[0], kept[1], record.cache in _HITS, tier].append(record)
        return [
            Spend(*key, len(found), _added(r.usage for r in found), sum((r.cost_usd for r in found), Decimal(0)))
            for key, found in sorted(groups.items())
        ]

    async def freshness(self) -> Freshness:
        """Always up to date."""
        return Freshness(self.clock.now(), 0)

    def _within(self, query: AnalyticsQuery) -> Iterator[tuple[datetime, RequestRecord]]:
        for record in self.records.by_id.values():
            place = bisect_right(query.edges, record.start_time)
            if record.tenant_id == query.tenant_id and 0 < place < len(query.edges):
                yield query.edges[place - 1], record

    def _requests(self, query: AnalyticsQuery) -> list[Aggregate]:
        groups = defaultdict[tuple[datetime, tuple[str, ...]], list[RequestRecord]](list)
        for start, record in self._within(query):
            values = _values(record, query.tag_key)
            if query.tag_key and Dimension.TAG not in values:
                continue
            if all(values[dimension] in wanted for dimension, wanted in query.filters.items()):
                groups[start, tuple(values[dimension] for dimension in query.group_by)].append(record)
        ratings = self.feedback.ratings()
        return [self._aggregate(start, group, found, ratings) for (start, group), found in groups.items()]

    def _aggregate(
        self,
        start: datetime,
        group: tuple[str, ...],
        found: list[RequestRecord],
        ratings: dict[tuple[str, str, str], float],
    ) -> Aggregate:
        done = [record for record in found if record.status is RequestStatus.SUCCESS]
        used = [record for record in found if record.cache not in _HITS]
        rated = [ratings.get((record.id, record.tenant_id, record.service_name)) for record in found]
        scores = [rating for rating in rated if rating is not None]
        unrated = [record for record, rating in zip(found, rated, strict=True) if rating is None]
        verdicts, signals = (_scores_of(unrated, source) for source in (QualitySource.JUDGE, QualitySource.SIGNALS))

        def ended(status: RequestStatus) -> int:
            return sum(record.status is status for record in found)

        return Aggregate(
            start=start,
            group=group,
            count=len(found),
            succeeded=len(done),
            cancelled=ended(RequestStatus.CANCELLED),
            abandoned=ended(RequestStatus.ABANDONED),
            hits=len(found) - len(used),
            late=sum(self.arrivals.get(record.id, record.end_time) > record.end_time + LATE for record in found),
            error_codes=Counter(r.error_code or "" for r in found if r.status is RequestStatus.ERROR),
            usage=_added(record.usage for record in used),
            usage_estimated=sum(record.usage.estimated for record in used),
            cost_usd=sum((record.cost_usd for record in found), Decimal(0)),
            saved_usd=sum((record.saved_usd for record in found), Decimal(0)),
            duration_ms=sum(record.duration_ms for record in done),
            latency=sketch_of(record.duration_ms for record in done),
            ttft=sketch_of(record.ttft_ms for record in done if record.ttft_ms is not None),
            overhead=sketch_of(r.overhead_ms for r in found if r.status is not RequestStatus.ABANDONED),
            ratings=len(scores),
            rating_sum=sum(scores),
            rating_squares=sum(score * score for score in scores),
            judged=len(verdicts),
            judged_sum=sum(verdicts),
            judged_squares=sum(score * score for score in verdicts),
            signalled=len(signals),
            signalled_sum=sum(signals),
            signalled_squares=sum(score * score for score in signals),
        )

    def _attempts(self, query: AnalyticsQuery) -> list[Aggregate]:
        groups = defaultdict[tuple[datetime, tuple[str, ...]], list[AttemptRecord]](list)
        for start, record in self._within(query):
            for attempt in record.attempts:
                values = {Dimension.MODEL: attempt.model_id, Dimension.DEPLOYMENT: attempt.deployment_id}
                if all(values[dimension] in wanted for dimension, wanted in query.filters.items()):
                    groups[start, tuple(values[dimension] for dimension in query.group_by)].append(attempt)
        return [_attempted(start, group, found) for (start, group), found in groups.items()]


def _scores_of(records: Iterable[RequestRecord], source: QualitySource) -> list[float]:
    return [r.quality_score for r in records if r.quality_source == source.value and r.quality_score is not None]


def _attempted(start: datetime, group: tuple[str, ...], found: list[AttemptRecord]) -> Aggregate:
    done = [attempt for attempt in found if attempt.outcome == "success"]
    streamed = [(a, a.duration_ms - a.ttft_ms) for a in done if a.ttft_ms is not None and a.duration_ms > a.ttft_ms]
    return Aggregate(
        start=start,
        group=group,
        count=len(found),
        succeeded=len(done),
        error_codes=Counter(attempt.outcome for attempt in found if attempt.outcome != "success"),
        usage=_added(attempt.usage for attempt in found),
        usage_estimated=sum(attempt.usage.estimated for attempt in found),
        cost_usd=sum((attempt.cost_usd for attempt in found), Decimal(0)),
        duration_ms=sum(attempt.duration_ms for attempt in done),
        latency=sketch_of(attempt.duration_ms for attempt in done),
        ttft=sketch_of(attempt.ttft_ms for attempt in done if attempt.ttft_ms is not None),
        generation_ms=sum(time_ms for _, time_ms in streamed),
        generated_tokens=sum(attempt.usage.completion_tokens for attempt, _ in streamed),
    )


def _values(record: RequestRecord, tag_key: str) -> dict[Dimension, str]:
    values = {
        Dimension.SERVICE: record.service_name,
        Dimension.MODEL: record.model_used or "",
        Dimension.DEPLOYMENT: record.deployment_used or "",
        Dimension.CATEGORY: record.request_type,
    }
    tags = dict(record.tags)
    return values | {Dimension.TAG: tags[tag_key][:MAX_TAG_VALUE_CHARS]} if tag_key in tags else values


def _added(usages: Iterable[Usage]) -> Usage:
    totals: Any = Counter()
    for usage in usages:
        totals.update({name: getattr(usage, name) for name in _TOKENS})
    return Usage(**totals)
